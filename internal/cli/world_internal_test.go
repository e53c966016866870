package cli

import (
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/conflict"
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

// The judgement translates each route that competes for a claim. One that asks for something else must not be among them: the time of all commands would grow with
// the square of the routes of a namespace.
func TestAskingRoutesClash(t *testing.T) {
	routes := []manifest{
		asks("shop", "web", map[string]any{"hosts": []any{"web"}}), asks("shop", "rival", map[string]any{"hosts": []any{"other", "web"}}),
		asks("shop", "pay", map[string]any{"hosts": []any{"pay"}}), asks("shop", "late", map[string]any{"hosts": []any{"web"}, "port": int64(81)}),
		asks("other", "web", map[string]any{"hosts": []any{"web"}}),
	}
	w, err := newWorld(routes, translate.DefaultClusterDomain)
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range w.admitRoutes(t.Context(), routes) {
		if j.refusal != nil {
			t.Fatal(refused(j.manifest, j.refusal))
		}
	}
	for name, test := range map[string]struct {
		claim conflict.Claim
		want  []string
	}{
		"a host on a port":                             {conflict.HostClaim("shop", "web.shop.svc.cluster.local", 80, nil), []string{"web", "rival"}},
		"settings for a destination that all use":      {conflict.Claim{Key: "rule shop/www.example.com"}, []string{"web", "rival", "pay", "late"}},
		"a destination on the terms of all the others": {conflict.Claim{Key: "rule shop/www.example.com", Share: conflict.Subsets}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, route := range w.Asking("shop", test.claim) {
				got = append(got, route.Name)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// asks is the manifest of a route to www.example.com.
func asks(namespace, name string, spec map[string]any) manifest {
	spec["destinations"] = []any{map[string]any{"url": "https://www.example.com"}}
	return manifest{Unstructured: &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1alpha1.SchemeGroupVersion.String(), "kind": routeKind.Kind,
		"metadata": map[string]any{"namespace": namespace, "name": name}, "spec": spec,
	}}}
}
