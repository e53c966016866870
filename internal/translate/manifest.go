package translate

import (
	stdjson "encoding/json"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
)

// Manifest is the object as it is applied and shown: without status, and with the enums written out that Istio's JSON leaves out because they are zero,
// although they are what a person looks for.
func Manifest(object Object) (*unstructured.Unstructured, error) {
	raw, err := stdjson.Marshal(bare(object))
	if err != nil {
		return nil, fmt.Errorf("marshal %T: %w", object, err)
	}
	manifest := &unstructured.Unstructured{}
	if err := json.Unmarshal(raw, &manifest.Object); err != nil {
		return nil, fmt.Errorf("unmarshal %T: %w", object, err)
	}
	delete(manifest.Object, "status")
	unstructured.RemoveNestedField(manifest.Object, "metadata", "creationTimestamp")
	spec, ok := manifest.Object["spec"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%T has no spec", object)
	}
	if spell := KindOf(object).spell; spell != nil {
		spell(spec)
	}
	return manifest, nil
}

func spellEntry(spec map[string]any) {
	spec["location"] = "MESH_EXTERNAL"
	if spec["resolution"] == nil {
		spec["resolution"] = "NONE"
	}
}

func spellTLSModes(spec map[string]any) {
	for _, subset := range objectsOf(spec["subsets"]) {
		policy, _ := subset["trafficPolicy"].(map[string]any)
		spellTLSMode(policy)
	}
	policy, _ := spec["trafficPolicy"].(map[string]any)
	for _, port := range objectsOf(policy["portLevelSettings"]) {
		spellTLSMode(port)
	}
}

func spellTLSMode(policy map[string]any) {
	if tls, found := policy["tls"].(map[string]any); found && tls["mode"] == nil {
		tls["mode"] = "DISABLE"
	}
}

func spellServers(spec map[string]any) {
	for _, server := range objectsOf(spec["servers"]) {
		if tls, found := server["tls"].(map[string]any); found && tls["mode"] == nil {
			tls["mode"] = "PASSTHROUGH"
		}
	}
}

func spellWeights(spec map[string]any) {
	for _, route := range slices.Concat(objectsOf(spec["http"]), objectsOf(spec["tcp"])) {
		targets := objectsOf(route["route"])
		for _, target := range targets {
			if len(targets) > 1 && target["weight"] == nil {
				target["weight"] = int64(0)
			}
		}
	}
}

// objectsOf are the objects of a list.
func objectsOf(list any) []map[string]any {
	items, _ := list.([]any)
	objects := make([]map[string]any, 0, len(items))
	for _, item := range items {
		if object, ok := item.(map[string]any); ok {
			objects = append(objects, object)
		}
	}
	return objects
}
