package cli

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/externalroute/externalroute/internal/translate"
)

// One object of a cluster that nobody can read must not keep the commands from all others. In a file, it is a mistake.
func TestUnreadableObject(t *testing.T) {
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
		"metadata": map[string]any{"namespace": "shop", "name": "strange"}, "spec": map[string]any{"hosts": int64(5)},
	}}
	w, err := newWorld([]manifest{{Unstructured: object, position: position{source: fromCluster}}}, translate.DefaultClusterDomain)
	if err != nil {
		t.Fatal(err)
	}
	key := translate.Key{Kind: "VirtualService", NamespacedName: types.NamespacedName{Namespace: "shop", Name: "strange"}}
	if w.Named(key) == nil {
		t.Errorf("%s is not known", key)
	}
	if _, err := newWorld([]manifest{{Unstructured: object, position: position{source: "file.yaml"}}}, translate.DefaultClusterDomain); err == nil {
		t.Error("a file with it is read")
	}
}
