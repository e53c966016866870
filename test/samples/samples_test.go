// Package samples_test holds config/samples to what a cluster would store.
package samples_test

import (
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/externalroute/externalroute/internal/admission"
)

const folder = "../../config/samples"

// The samples are what people copy: each must be admitted as it stands, by the CRD that is shipped with it.
func TestEverySampleIsAdmitted(t *testing.T) {
	judge, err := admission.New()
	if err != nil {
		t.Fatal(err)
	}
	hosts := map[string]string{}
	for _, file := range sampleFiles(t) {
		t.Run(file, func(t *testing.T) {
			routes := 0
			for _, manifest := range manifests(t, filepath.Join(folder, file)) {
				if manifest.GetKind() != "ExternalRoute" {
					continue
				}
				routes++
				route, problems := judge.Admit(t.Context(), manifest)
				if len(problems) > 0 {
					t.Fatal(problems.ToAggregate())
				}
				for _, host := range route.Spec.Hosts {
					if other, taken := hosts[string(host)]; taken {
						t.Errorf("%s serves %s too: the samples stand in one namespace", other, host)
					}
					hosts[string(host)] = file
				}
			}
			if routes != 1 {
				t.Errorf("it holds %d routes: want 1", routes)
			}
		})
	}
}

// Every field of the API stands in a sample. Conditions are the same everywhere: those of a uri have all kinds.
func TestEveryFieldHasASample(t *testing.T) {
	definition, err := admission.Definition()
	if err != nil {
		t.Fatal(err)
	}
	openAPI := definition.Spec.Validation
	if openAPI == nil {
		openAPI = definition.Spec.Versions[0].Schema
	}
	missing := map[string]bool{}
	for _, field := range fieldsOf(openAPI.OpenAPIV3Schema.Properties["spec"], "spec") {
		missing[field] = true
	}
	if len(missing) < 60 {
		t.Fatalf("found only %d fields: the test looks at the wrong place", len(missing))
	}
	for _, file := range sampleFiles(t) {
		for _, manifest := range manifests(t, filepath.Join(folder, file)) {
			if manifest.GetKind() == "ExternalRoute" {
				forget(missing, openAPI.OpenAPIV3Schema.Properties["spec"], manifest.Object["spec"], "spec")
			}
		}
	}
	for _, field := range slices.Sorted(maps.Keys(missing)) {
		t.Errorf("%s is in no sample", field)
	}
}

// fieldsOf are the paths of a schema's fields, itself included.
func fieldsOf(schema apiextensions.JSONSchemaProps, path string) []string {
	fields := []string{path}
	for name, property := range schema.Properties {
		if slices.Contains([]string{"exact", "prefix", "regex"}, name) && !strings.HasSuffix(path, ".uri") {
			continue
		}
		fields = append(fields, fieldsOf(property, path+"."+name)...)
	}
	if schema.Items != nil {
		fields = append(fields, fieldsOf(*schema.Items.Schema, path+"[]")...)
	}
	if schema.AdditionalProperties != nil {
		fields = append(fields, fieldsOf(*schema.AdditionalProperties.Schema, path+"{}")...)
	}
	return fields
}

// forget takes the fields that a value has off a list.
func forget(missing map[string]bool, schema apiextensions.JSONSchemaProps, value any, path string) {
	delete(missing, path)
	switch v := value.(type) {
	case map[string]any:
		for name, below := range v {
			if schema.AdditionalProperties != nil {
				forget(missing, *schema.AdditionalProperties.Schema, below, path+"{}")
				continue
			}
			forget(missing, schema.Properties[name], below, path+"."+name)
		}
	case []any:
		for _, item := range v {
			forget(missing, *schema.Items.Schema, item, path+"[]")
		}
	}
}

// needLabels are the samples whose routes are refused in a namespace without the label that their policy selects.
var needLabels = []string{"policy.yaml", "policy-egress-gateway.yaml"}

// `kubectl apply -k config/samples` takes all but those.
func TestEverySampleIsInTheKustomization(t *testing.T) {
	listed := manifests(t, filepath.Join(folder, "kustomization.yaml"))
	if len(listed) != 1 {
		t.Fatalf("got %d documents", len(listed))
	}
	names, _, err := unstructured.NestedStringSlice(listed[0].Object, "resources")
	if err != nil {
		t.Fatal(err)
	}
	names = append(names, needLabels...)
	slices.Sort(names)
	if files := sampleFiles(t); !slices.Equal(names, files) {
		t.Errorf("the kustomization lists %q, the folder has %q", names, files)
	}
}

func sampleFiles(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, entry := range entries {
		if name := entry.Name(); filepath.Ext(name) == ".yaml" && name != "kustomization.yaml" {
			files = append(files, name)
		}
	}
	return files
}

func manifests(t *testing.T, path string) []*unstructured.Unstructured {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	decoder := yaml.NewYAMLOrJSONDecoder(file, 4096)
	var all []*unstructured.Unstructured
	for {
		manifest := &unstructured.Unstructured{}
		if err := decoder.Decode(manifest); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, manifest)
	}
}
