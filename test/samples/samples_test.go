// Package samples_test holds config/samples to what a cluster would store.
package samples_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

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

// `kubectl apply -k config/samples` takes them all.
func TestEverySampleIsInTheKustomization(t *testing.T) {
	listed := manifests(t, filepath.Join(folder, "kustomization.yaml"))
	if len(listed) != 1 {
		t.Fatalf("got %d documents", len(listed))
	}
	names, _, err := unstructured.NestedStringSlice(listed[0].Object, "resources")
	if err != nil {
		t.Fatal(err)
	}
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
