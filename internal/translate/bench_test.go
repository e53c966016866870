package translate_test

import (
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/admission"
	"github.com/externalroute/externalroute/internal/translate"
)

// What one pass of the operator asks of the translation, for a small route and for one with many rules: the objects and their fingerprints each time, and the
// manifests of what it writes. `make bench-compare` holds it against the main branch.
func BenchmarkTranslate(b *testing.B) {
	judge, err := admission.New()
	if err != nil {
		b.Fatal(err)
	}
	for _, folder := range []string{"smallest", "weights-by-rule"} {
		route := readRoute(b, judge, filepath.Join("testdata", folder, "route.yaml"))
		mesh := translate.Mesh{ClusterDomain: translate.DefaultClusterDomain}
		translation, refusal := translate.Translate(route, mesh)
		if refusal != nil {
			b.Fatalf("%s is refused: %s", folder, refusal.Reason)
		}
		measure(b, "references/"+folder, func() { translate.ReferencesOf(route) })
		measure(b, "objects/"+folder, func() { translate.Translate(route, mesh) })
		measure(b, "fingerprints/"+folder, func() {
			for _, object := range translation.Objects {
				translate.Fingerprint(object)
			}
		})
		measure(b, "manifests/"+folder, func() {
			for _, object := range translation.Objects {
				if _, err := translate.Manifest(object); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func measure(b *testing.B, name string, do func()) {
	b.Helper()
	b.Run(name, func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			do()
		}
	})
}

func readRoute(b *testing.B, judge *admission.Admission, file string) *v1alpha1.ExternalRoute {
	b.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	object := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(content, object); err != nil {
		b.Fatal(err)
	}
	object.SetNamespace("demo")
	route, problems := judge.Admit(b.Context(), object)
	if len(problems) > 0 {
		b.Fatal(problems.ToAggregate())
	}
	return route
}
