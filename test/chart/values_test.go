package chart_test

import (
	"encoding/json"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// A key that the schema lacks could not be set, and one that the values lack is in no document.
func TestValuesAndTheirSchemaHaveTheSameLeaves(t *testing.T) {
	var values map[string]any
	if err := yaml.UnmarshalStrict(read(t, "charts/externalroute/values.yaml"), &values); err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(read(t, "charts/externalroute/values.schema.json"), &schema); err != nil {
		t.Fatal(err)
	}
	declared := leavesOfSchema(t, "", schema)
	if !declared["enabled"] {
		t.Error(`the schema lacks "enabled", without which the chart cannot be a part of another`)
	}
	delete(declared, "enabled")
	got, want := slices.Sorted(maps.Keys(leavesOfValues("", values, declared))), slices.Sorted(maps.Keys(declared))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("values.schema.json (-) and values.yaml (+):\n%s", diff)
	}
	if len(got) < 50 {
		t.Errorf("found %d leaves: the test looks at the wrong place", len(got))
	}
}

// leavesOfSchema are the paths of all properties without properties of their own. Every object on the way refuses what it does not know.
func leavesOfSchema(t *testing.T, path string, schema map[string]any) map[string]bool {
	t.Helper()
	leaves := map[string]bool{}
	if open := path == "global."; open == (schema["additionalProperties"] == false) { // a chart around this one hands down what it likes
		t.Errorf("%q lets pass what it does not know: %t", path, !open)
	}
	for name, property := range schema["properties"].(map[string]any) {
		property := property.(map[string]any)
		if _, inner := property["properties"]; inner {
			maps.Copy(leaves, leavesOfSchema(t, path+name+".", property))
			continue
		}
		leaves[path+name] = true
	}
	return leaves
}

// leavesOfValues are the paths of all values. A map is one where the schema says so: labels, and parts of Kubernetes objects.
func leavesOfValues(path string, values map[string]any, declared map[string]bool) map[string]bool {
	leaves := map[string]bool{}
	for name, value := range values {
		if inner, ok := value.(map[string]any); ok && !declared[path+name] {
			maps.Copy(leaves, leavesOfValues(path+name+".", inner, declared))
			continue
		}
		leaves[path+name] = true
	}
	return leaves
}

// The values file that sets everything does set everything, so that every template is tried.
func TestEverythingIsSetOnce(t *testing.T) {
	var defaults, everything map[string]any
	if err := yaml.Unmarshal(read(t, "charts/externalroute/values.yaml"), &defaults); err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(read(t, "charts/externalroute/ci/everything-values.yaml"), &everything); err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(read(t, "charts/externalroute/values.schema.json"), &schema); err != nil {
		t.Fatal(err)
	}
	declared := leavesOfSchema(t, "", schema)
	want := slices.Sorted(maps.Keys(leavesOfValues("", defaults, declared)))
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(leavesOfValues("", everything, declared)))); diff != "" {
		t.Errorf("values.yaml (-) and ci/everything-values.yaml (+):\n%s", diff)
	}
}

// What Helm 4 renders, Helm 3 renders too.
func TestHelm3RendersTheSame(t *testing.T) {
	for _, values := range valuesFiles(t) {
		args := []string{"template", "externalroute", chart, "--namespace=operators", "--kube-version=1.31.0", "--values=" + values}
		four := objects(t, output(t, exec.CommandContext(t.Context(), filepath.Join(tools, "helm"), args...)))
		three := objects(t, output(t, exec.CommandContext(t.Context(), filepath.Join(tools, "helm3"), args...)))
		if diff := cmp.Diff(four, three); diff != "" {
			t.Errorf("%s: Helm 4 (-) and Helm 3 (+):\n%s", values, diff)
		}
	}
}
