package translate_test

import (
	"slices"
	"testing"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/externalroute/externalroute/internal/admission"
	"github.com/externalroute/externalroute/internal/translate"
)

// While traffic moves, the DestinationRules of before and after stand side by side, and Istio gives a subset's name that both have to the older one. Under
// one name, a move from http to https would send plaintext to port 443 until the old rule goes.
func TestDestinationRulesThatMayMeetShareNoSubset(t *testing.T) {
	judge, err := admission.New()
	if err != nil {
		t.Fatal(err)
	}
	urls := []string{"http://api.example.com", "https://api.example.com", "https://api.example.com:8443", "http://api.example.com:8443"}
	owner := map[string]string{}
	for _, url := range urls {
		manifest := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "networking.externalroute.io/v1alpha1", "kind": "ExternalRoute",
			"metadata": map[string]any{"name": "web", "namespace": "demo"},
			"spec":     map[string]any{"hosts": []any{"web"}, "destinations": []any{map[string]any{"url": url}}},
		}}
		route, problems := judge.Admit(t.Context(), manifest)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		translation, refusal := translate.Translate(route, translate.Mesh{ClusterDomain: translate.DefaultClusterDomain})
		if refusal != nil {
			t.Fatal(refusal.Message())
		}
		name := translate.Of[*networkingv1.DestinationRule](translation.Objects)[0].Spec.Subsets[0].Name
		if other, taken := owner[name]; taken {
			t.Errorf("%s and %s share the subset %s", url, other, name)
		}
		owner[name] = url
	}
}

func TestObjectNameIdentifiesItsRoute(t *testing.T) {
	judge, err := admission.New()
	if err != nil {
		t.Fatal(err)
	}
	manifest := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.externalroute.io/v1alpha1", "kind": "ExternalRoute",
		"metadata": map[string]any{"name": "web.v1-0123456789", "namespace": "demo"},
		"spec": map[string]any{
			"hosts": []any{"api.example.com"}, "destinations": []any{map[string]any{"url": "https://api.example.com"}},
			"egressGateway": map[string]any{"name": "egress", "namespace": "gateways"},
		},
	}}
	route, problems := judge.Admit(t.Context(), manifest)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	translation, refusal := translate.Translate(route, translate.Mesh{
		ClusterDomain: translate.DefaultClusterDomain,
		Services: map[types.NamespacedName]translate.Service{
			{Namespace: "gateways", Name: "egress"}: {HasSelector: true, Ports: []corev1.ServicePort{{Port: 443}}},
		},
	})
	if refusal != nil {
		t.Fatal(refusal.Message())
	}
	for _, item := range translation.Objects {
		if got := translate.RoutesOf(translate.KeyOf(item)); !slices.Contains(got, route.Name) {
			t.Errorf("%s is of route %s, not of %s", translate.KeyOf(item), got, route.Name)
		}
	}
}
