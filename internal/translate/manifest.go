package translate

import (
	stdjson "encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
)

// Manifest is the object as it is applied and shown: without status, and with the enums written out that Istio's JSON leaves out because they are zero,
// although they are what a person looks for.
func Manifest(object Object) (*unstructured.Unstructured, error) {
	raw, err := stdjson.Marshal(object)
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
	switch manifest.GetKind() {
	case "ServiceEntry":
		spec["location"] = "MESH_EXTERNAL"
	case "DestinationRule":
		writeDisabledTLS(spec)
	case "VirtualService":
		writeZeroWeights(spec)
	}
	return manifest, nil
}

func writeDisabledTLS(spec map[string]any) {
	subsets, _ := spec["subsets"].([]any)
	for _, subset := range subsets {
		policy, _ := subset.(map[string]any)["trafficPolicy"].(map[string]any)
		writeMode(policy)
	}
	ports, _, _ := unstructured.NestedFieldNoCopy(spec, "trafficPolicy", "portLevelSettings")
	settings, _ := ports.([]any)
	for _, port := range settings {
		writeMode(port.(map[string]any))
	}
}

func writeMode(policy map[string]any) {
	if tls, found := policy["tls"].(map[string]any); found && tls["mode"] == nil {
		tls["mode"] = "DISABLE"
	}
}

func writeZeroWeights(spec map[string]any) {
	routes, _ := spec["http"].([]any)
	for _, route := range routes {
		targets, _ := route.(map[string]any)["route"].([]any)
		for _, target := range targets {
			if t := target.(map[string]any); len(targets) > 1 && t["weight"] == nil {
				t["weight"] = int64(0)
			}
		}
	}
}
