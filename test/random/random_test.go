package random_test

import (
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/test/random"
)

// Whatever the API server admits becomes objects, or is refused with the fields to correct. -rapid.checks=N tries more.
func TestWhatIsAdmittedIsTranslatedOrRefusedByField(t *testing.T) {
	generator, err := random.New()
	if err != nil {
		t.Fatal(err)
	}
	manifests := generator.Manifests()
	drawn, admitted, accepted := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		drawn++
		manifest := manifests.Draw(t, "manifest")
		route, problems := generator.Admit(manifest)
		if len(problems) > 0 {
			t.SkipNow()
		}
		admitted++
		mesh := random.Meshes(route).Draw(t, "mesh")
		_, refusal, err := random.Translate(route, mesh)
		if err != nil {
			text, _ := yaml.Marshal(manifest.Object)
			t.Fatalf("%v\n%s\n%+v", err, text, mesh)
		}
		if refusal == nil {
			accepted++
		}
	})
	t.Logf("%d drawn, %d admitted, %d of them accepted", drawn, admitted, accepted)
	if admitted < drawn/2 || accepted < admitted/4 {
		t.Errorf("%d drawn, %d admitted, %d of them accepted: the generator draws too much that says nothing", drawn, admitted, accepted)
	}
}

// The same seed is the same route on every machine: a finding can be told by its seed.
func TestTheSameSeedIsTheSameRoute(t *testing.T) {
	var texts [2]string
	for i := range texts {
		generator, err := random.New()
		if err != nil {
			t.Fatal(err)
		}
		for seed := range 20 {
			text, err := yaml.Marshal(generator.Manifests().Example(seed).Object)
			if err != nil {
				t.Fatal(err)
			}
			texts[i] += string(text)
		}
	}
	if texts[0] != texts[1] {
		t.Error("two generators draw different routes")
	}
}

// Most callable routes are admitted, and calls of them are the same for the same seed.
func TestCallables(t *testing.T) {
	generator, err := random.New()
	if err != nil {
		t.Fatal(err)
	}
	var routes []*v1alpha1.ExternalRoute
	for seed := range 40 {
		if route, problems := generator.Admit(generator.Callables().Example(seed)); len(problems) == 0 {
			routes = append(routes, route)
		}
	}
	if len(routes) < 20 {
		t.Fatalf("%d of 40 callable routes are admitted", len(routes))
	}
	for seed := range 200 {
		first, second := random.Calls(routes, "other").Example(seed), random.Calls(routes, "other").Example(seed)
		if diff := cmp.Diff(first, second); diff != "" {
			t.Fatal(diff)
		}
		if _, err := url.Parse(first.URL); err != nil {
			t.Error(err)
		}
	}
}
