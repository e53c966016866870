package importer_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/admission"
	"github.com/externalroute/externalroute/internal/importer"
	"github.com/externalroute/externalroute/internal/translate"
)

var update = flag.Bool("update", false, "rewrite the golden files from what the importer finds now")

// Every folder of testdata is a case that a user could read: objects.yaml are objects written by hand, routes.yaml the routes that do the same, and report.txt
// is the proof and what stays.
func TestGolden(t *testing.T) {
	judge := newJudge(t)
	files, err := filepath.Glob("testdata/*/objects.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		folder := filepath.Dir(file)
		t.Run(filepath.Base(folder), func(t *testing.T) {
			objects := readObjects(t, file)
			result := importer.Import(objects, importer.Options{ClusterDomain: "cluster.local", Admit: judge})
			var routes bytes.Buffer
			for i, imported := range result.Routes {
				if i > 0 {
					routes.WriteString("---\n")
				}
				text, err := yaml.Marshal(imported.Route)
				if err != nil {
					t.Fatal(err)
				}
				routes.Write(text)
				checkRoute(t, judge, imported.Route, objects)
			}
			compare(t, filepath.Join(folder, "routes.yaml"), routes.Bytes())
			compare(t, filepath.Join(folder, "report.txt"), []byte(result.Report()))
			checkComplete(t, objects, result)
		})
	}
}

// checkRoute checks that the API server and the operator accept a route.
func checkRoute(t *testing.T, judge admit, route *v1alpha1.ExternalRoute, objects []translate.Object) {
	t.Helper()
	admitted, problems := judge(route)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	mesh := translate.Mesh{ClusterDomain: "cluster.local", Services: map[types.NamespacedName]translate.Service{}}
	for _, object := range objects {
		if service, is := object.(*corev1.Service); is {
			mesh.Services[types.NamespacedName{Namespace: service.Namespace, Name: service.Name}] = translate.ServiceFacts(service, nil)
		}
	}
	if _, refusal := translate.Translate(admitted, mesh); refusal != nil {
		t.Error(refusal.Message())
	}
	for _, object := range objects {
		if object.GetNamespace() == "" {
			t.Errorf("%s has no namespace", translate.KeyOf(object))
		}
	}
}

// checkComplete checks that every object is replaced, noted or stays.
func checkComplete(t *testing.T, objects []translate.Object, result importer.Result) {
	t.Helper()
	for _, object := range objects {
		key := translate.KeyOf(object)
		found := key.Kind == "Service"
		for _, imported := range result.Routes {
			found = found || slices.Contains(imported.Replaces, object) ||
				slices.ContainsFunc(imported.Notes, func(note string) bool { return bytes.Contains([]byte(note), []byte(key.String())) })
		}
		found = found || slices.ContainsFunc(result.Stays, func(s importer.Stay) bool { return s.Key == key })
		if !found {
			t.Errorf("the report does not say what becomes of %s", key)
		}
	}
}

type admit = func(*v1alpha1.ExternalRoute) (*v1alpha1.ExternalRoute, field.ErrorList)

func newJudge(t *testing.T) admit {
	t.Helper()
	judge, err := admission.New()
	if err != nil {
		t.Fatal(err)
	}
	return func(route *v1alpha1.ExternalRoute) (*v1alpha1.ExternalRoute, field.ErrorList) {
		named := route.DeepCopy()
		named.APIVersion, named.Kind = v1alpha1.SchemeGroupVersion.String(), "ExternalRoute"
		object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(named)
		if err != nil {
			t.Fatal(err)
		}
		return judge.Admit(t.Context(), &unstructured.Unstructured{Object: object})
	}
}

func readObjects(t *testing.T, file string) (objects []translate.Object) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
	for {
		var manifest unstructured.Unstructured
		switch err := decoder.Decode(&manifest.Object); {
		case errors.Is(err, io.EOF):
			return objects
		case err != nil:
			t.Fatal(err)
		}
		if manifest.Object == nil {
			continue
		}
		kind, found := translate.KindNamed(manifest.GetKind())
		if !found {
			t.Fatalf("kind %s", manifest.GetKind())
		}
		object := kind.New()
		raw, err := manifest.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, object); err != nil {
			t.Fatal(err)
		}
		if object.GetNamespace() == "" {
			object.SetNamespace("default")
		}
		objects = append(objects, object)
	}
}

func compare(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s: -want +got\n%s", file, diff)
	}
}
