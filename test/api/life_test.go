package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/config/crd"
)

func TestManifests(t *testing.T) {
	for sentence, c := range map[string]struct {
		patch string // over the good route
		field string // refused for, if at all
	}{
		"a route's name may hold dots":         {patch: `{metadata: {name: web.v1}}`},
		"a route's name may have 253 letters":  {patch: `{metadata: {name: ` + times(253, "a") + `}}`},
		"a spec is demanded":                   {patch: `{spec: null}`, field: "spec"},
		"a spec of another type is refused":    {patch: `{spec: [a]}`, field: "spec"},
		"a spec in the wrong place is refused": {patch: `{hosts: [a]}`, field: "hosts"},
		"a status is left to the operator":     {patch: `{status: {hosts: [a]}}`},
		"null is as good as left out":          {patch: `{spec: {exportTo: null, port: null, rules: null, workloadSelector: null, meshHeaders: null, serviceCreationPolicy: null, suspend: null}}`},
	} {
		t.Run(sentence, func(t *testing.T) {
			manifest := merged(t, route("web", nil), c.patch)
			fields := judge(t.Context(), t, manifest).fields()
			if c.field == "" && len(fields) > 0 || c.field != "" && !cmp.Equal(fields, []string{c.field}) {
				t.Errorf("refused for %q", fields)
			}
		})
	}
}

// internal/admission checks less of a name, so that this is the API server's alone.
func TestNames(t *testing.T) {
	for _, name := range []string{times(254, "a"), "Web", "a/b", "a_b", "-a", "a.", "ü", "a\n"} {
		err := cluster.Create(t.Context(), route(name, nil), client.DryRunAll)
		if fields := byAPIServer(t, err).fields(); !cmp.Equal(fields, []string{"metadata.name"}) {
			t.Errorf("%q: refused for %q", name, fields)
		}
	}
}

// merged is an object after a JSON merge patch.
func merged(t *testing.T, into *unstructured.Unstructured, patch string) *unstructured.Unstructured {
	t.Helper()
	result := into.DeepCopy()
	var merge func(into, patch object)
	merge = func(into, patch object) {
		for name, value := range patch {
			below, isObject := value.(object)
			if have, ok := into[name].(object); ok && isObject {
				merge(have, below)
				continue
			}
			into[name] = value
		}
	}
	merge(result.Object, parse(patch).(object))
	raw, err := json.Marshal(result.Object)
	if err != nil {
		t.Fatal(err)
	}
	result = &unstructured.Unstructured{}
	if err := json.Unmarshal(raw, &result.Object); err != nil { // not UnmarshalJSON, which refuses what is to be tried
		t.Fatal(err)
	}
	return result
}

func TestNewRouteIsPendingAndNotCurrent(t *testing.T) {
	manifest := route("brand-new", nil)
	create(t, manifest)
	stored := get(t, manifest)
	for _, created := range []*unstructured.Unstructured{manifest, stored} {
		conditions, _, err := unstructured.NestedSlice(created.Object, "status", "conditions")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range conditions {
			condition := c.(object)
			got = append(got, fmt.Sprintf("%s %s %s", condition["type"], condition["status"], condition["reason"]))
			if condition["message"] == "" {
				t.Errorf("%s has no message", condition["type"])
			}
		}
		if diff := cmp.Diff([]string{"Accepted Unknown Pending", "Ready Unknown Pending"}, got); diff != "" {
			t.Error(diff)
		}
		result, err := status.Compute(created)
		if err != nil || result.Status != status.InProgressStatus {
			t.Errorf("kstatus says %v, %v", result, err)
		}
	}
}

func TestDefaults(t *testing.T) {
	manifest := route("defaults", object{"rules": []any{object{"destinations": []any{object{"name": "primary"}}}}})
	manifest.Object["spec"].(object)["destinations"].([]any)[0].(object)["tls"] = object{}
	create(t, manifest)
	want := parse(`
hosts: [webserver]
serviceCreationPolicy: IfMissing
destinations: [{url: "https://example.com", tls: {}}]
rules: [{destinations: [{name: primary}]}]
meshHeaders: Remove
exportTo: [.]
`)
	if diff := cmp.Diff(want, plain(t, get(t, manifest).Object["spec"])); diff != "" {
		t.Error(diff)
	}
}

func TestColumns(t *testing.T) {
	create(t, route("columns", nil))
	for _, arguments := range []string{"get extr columns", "get externalroutes.networking.externalroute.io columns"} {
		output, err := plane.Kubectl(t.Context(), strings.Fields(arguments)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s", output)
		}
		lines := strings.Split(strings.TrimSpace(string(output)), "\n")
		if want := "NAME HOSTS URL READY REASON AGE"; strings.Join(strings.Fields(lines[0]), " ") != want {
			t.Errorf("%s: %s", arguments, lines[0])
		}
		if want := `columns ["webserver"] https://example.com Unknown Pending`; !strings.HasPrefix(strings.Join(strings.Fields(lines[1]),
			" "), want) {
			t.Errorf("%s: %s", arguments, lines[1])
		}
	}
	output, err := plane.Kubectl(t.Context(), "get", "extr", "columns", "-o", "wide").CombinedOutput()
	if want := `columns ["webserver"] https://example.com Unknown Pending The operator has not reconciled this route yet.`; err != nil ||
		!strings.Contains(strings.Join(strings.Fields(string(output)), " "), want) {
		t.Errorf("%s\n%v", output, err)
	}
	resources, err := plane.Kubectl(t.Context(), "api-resources", "--categories=istio-io,networking-istio-io", "-o", "name").CombinedOutput()
	if err != nil || strings.Contains(string(resources), "externalroute") {
		t.Errorf("kubectl get istio-io lists Istio's own kinds, and not %s, %v", resources, err)
	}
}

// Updates have the same schema, so that a few of them show that it is asked.
func TestUpdate(t *testing.T) {
	for sentence, c := range map[string]struct {
		patch string // over the good route, which is stored
		field string // refused for, if at all
		says  string
	}{
		"a good edit is admitted": {patch: `{spec: {port: 8080, destinations: [{url: "https://example.org/base"}]}}`},
		"every field may change":  {patch: `{spec: {hosts: [other], serviceCreationPolicy: Never, meshHeaders: Keep, exportTo: ["*"], suspend: true}}`},
		"a bad host is refused": {
			patch: `{spec: {hosts: ["*"]}}`, field: "spec.hosts[0]",
			says: "a wildcard must be *. and a domain",
		},
		"a bad URL is refused": {
			patch: `{spec: {destinations: [{url: "https://127.0.0.1"}]}}`,
			field: "spec.destinations[0].url", says: "must be a lower-case DNS name",
		},
		"a contradiction with what stands is refused": {
			patch: `{spec: {destinations: [{url: "http://example.com", tls: {sni: a.example}}]}}`,
			field: "spec.destinations[0].tls", says: "TLS settings need an https:// or tls:// URL",
		},
		"an export to others alone is refused": {
			patch: `{spec: {exportTo: [other]}}`, field: "spec.exportTo",
			says: `must hold "."`,
		},
		"an export to nobody is refused": {patch: `{spec: {exportTo: []}}`, field: "spec.exportTo", says: "at least 1 items"},
		"a bad regex is refused": {
			patch: `{spec: {rules: [{match: [{uri: {regex: "("}}]}]}}`,
			field: "spec.rules[0].match[0].uri.regex", says: "missing closing )",
		},
		"a rule without its destination is refused": {
			patch: `{spec: {destinations: [{url: "https://example.com", name: other}], rules: [{destinations: [{name: primary}]}]}}`,
			field: "spec.rules", says: "that spec.destinations does not have",
		},
		"a second destination of one name is refused": {
			patch: `{spec: {destinations: [{url: "https://example.com"}, {url: "https://example.org"}]}}`,
			field: "spec.destinations", says: "destinations must have unique names",
		},
		"an unknown field is refused": {patch: `{spec: {prot: 8080}}`, field: "spec.prot", says: "unknown field"},
		"no destinations are refused to an alias": {
			patch: `{spec: {destinations: null}}`, field: "spec.hosts",
			says: "a short name needs a destination",
		},
		"a route becomes a pass-through route": {patch: `{spec: {hosts: ["www.example.com", "*.example.org"], destinations: null}}`},
	} {
		t.Run(sentence, func(t *testing.T) {
			manifest := route("update", nil)
			create(t, manifest)
			edited := merged(t, get(t, manifest), c.patch)
			err := cluster.Update(t.Context(), edited, client.FieldValidation(metav1.FieldValidationStrict))
			found := byAPIServer(t, err)
			if c.field == "" {
				if len(found) > 0 {
					t.Errorf("refused: %v", found)
				}
				return
			}
			if !cmp.Equal(found.fields(), []string{c.field}) || !strings.Contains(strings.Join(found[c.field], "\n"), c.says) {
				t.Errorf("want %q for %s, got %v", c.says, c.field, found)
			}
		})
	}
}

func TestDefaultsSurviveEdits(t *testing.T) {
	manifest := route("edits", nil)
	create(t, manifest)
	want := plain(t, get(t, manifest).Object["spec"])

	for sentence, edit := range map[string]func(context.Context) error{
		"a replacement that leaves them out": func(ctx context.Context) error {
			bare := route("edits", nil)
			bare.SetResourceVersion(get(t, manifest).GetResourceVersion())
			return cluster.Update(ctx, bare)
		},
		"a patch that takes them away": func(ctx context.Context) error {
			return cluster.Patch(ctx, route("edits", nil), client.RawPatch(types.MergePatchType,
				[]byte(`{"spec": {"port": null, "exportTo": null, "meshHeaders": null, "serviceCreationPolicy": null}}`)))
		},
		"server-side apply of the smallest manifest": func(ctx context.Context) error {
			return cluster.Apply(ctx, client.ApplyConfigurationFromUnstructured(route("edits", nil)), client.FieldOwner("a"),
				client.ForceOwnership)
		},
		"server-side apply again": func(ctx context.Context) error {
			return cluster.Apply(ctx, client.ApplyConfigurationFromUnstructured(route("edits", nil)), client.FieldOwner("a"))
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			if err := edit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, plain(t, get(t, manifest).Object["spec"])); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A route that an older version of the CRD admitted must stay editable where the edit has nothing to do with what is wrong.
func TestStoredMistakeDoesNotBlockOtherEdits(t *testing.T) {
	manifest := route("old", object{"hosts": []any{"*"}})
	install(t, encode(withoutRules(parse(string(crd.ExternalRoutes)))), manifest, true)
	t.Cleanup(func() { install(t, string(crd.ExternalRoutes), manifest, false) })
	create(t, manifest)
	install(t, string(crd.ExternalRoutes), manifest, false)

	for _, c := range []struct {
		sentence, patch string
		admitted        bool
	}{
		{"a label is added", `{metadata: {labels: {a: b}}}`, true},
		{"another field changes", `{spec: {port: 8080}}`, true},
		{"another mistake is made", `{spec: {exportTo: [other]}}`, false},
		{"the mistake is corrected", `{spec: {hosts: [webserver]}}`, true},
		{"the mistake is made again", `{spec: {hosts: ["*"]}}`, false},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			patch, err := sigsyaml.YAMLToJSON([]byte(c.patch))
			if err != nil {
				t.Fatal(err)
			}
			err = cluster.Patch(t.Context(), manifest.DeepCopy(), client.RawPatch(types.MergePatchType, patch))
			if (err == nil) != c.admitted {
				t.Error(err)
			}
		})
	}
}

// withoutRules is a CRD without its rules in CEL.
func withoutRules(definition any) any {
	switch d := definition.(type) {
	case object:
		delete(d, "x-kubernetes-validations")
		for _, part := range d {
			withoutRules(part)
		}
	case []any:
		for _, part := range d {
			withoutRules(part)
		}
	}
	return definition
}

// install puts a CRD in place of what stands, and waits until the API server judges by it: whether it admits the route shows that.
func install(t *testing.T, definition string, probe *unstructured.Unstructured, admitted bool) {
	t.Helper()
	if err := plane.InstallCRDs([]byte(definition)); err != nil {
		t.Fatal(err)
	}
	probe = probe.DeepCopy()
	probe.SetName("probe")
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 3*time.Minute, true, func(ctx context.Context) (bool, error) {
		last = cluster.Create(ctx, probe.DeepCopy(), client.DryRunAll)
		return (last == nil) == admitted, nil
	})
	if err != nil {
		t.Fatalf("the new CRD is not in force: %v", last)
	}
}

func create(t *testing.T, manifest *unstructured.Unstructured) {
	t.Helper()
	if err := cluster.Create(t.Context(), manifest); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Delete(context.Background(), manifest.DeepCopy()); err != nil {
			t.Error(err)
		}
	})
}

func get(t *testing.T, manifest *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	stored := &unstructured.Unstructured{}
	stored.SetGroupVersionKind(manifest.GroupVersionKind())
	if err := cluster.Get(t.Context(), client.ObjectKeyFromObject(manifest), stored); err != nil {
		t.Fatal(err)
	}
	return stored
}

// plain is a value as JSON reads it, for comparison.
func plain(t *testing.T, value any) any {
	t.Helper()
	return parse(encode(value))
}
