package random

import (
	"maps"
	"slices"
	"testing"
)

// Every field of the API is drawn, and stands in a route that is not refused. Only such routes reach Istio.
func TestEveryFieldIsDrawn(t *testing.T) {
	generator, err := New()
	if err != nil {
		t.Fatal(err)
	}
	missing := map[string]bool{}
	generator.spec.fields("spec", missing)
	if len(missing) < 60 {
		t.Fatalf("found only %d fields: the test looks at the wrong place", len(missing))
	}
	manifests, seed := generator.Manifests(), 0
	for ; seed < 4000 && len(missing) > 0; seed++ {
		manifest := manifests.Example(seed)
		route, problems := generator.Admit(manifest)
		if len(problems) > 0 {
			continue
		}
		if _, refusal, err := Translate(route, Meshes(route).Example(seed)); err == nil && refusal == nil {
			generator.spec.forget(manifest.Object["spec"], "spec", missing)
		}
	}
	t.Logf("it took %d seeds", seed)
	for _, field := range slices.Sorted(maps.Keys(missing)) {
		t.Errorf("%s is in no accepted route", field)
	}
}

// fields notes the paths of a schema's fields.
func (n *node) fields(path string, all map[string]bool) {
	all[path] = true
	for name, property := range n.properties {
		property.fields(path+"."+name, all)
	}
	if n.items != nil {
		n.items.fields(path+"[]", all)
	}
	if n.values != nil {
		n.values.fields(path+"{}", all)
	}
}

// forget takes the fields that a value has off a list.
func (n *node) forget(value any, path string, missing map[string]bool) {
	delete(missing, path)
	switch v := value.(type) {
	case map[string]any:
		for name, below := range v {
			if n.values != nil {
				n.values.forget(below, path+"{}", missing)
				continue
			}
			n.properties[name].forget(below, path+"."+name, missing)
		}
	case []any:
		for _, item := range v {
			n.items.forget(item, path+"[]", missing)
		}
	}
}
