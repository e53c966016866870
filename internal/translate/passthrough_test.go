package translate_test

import (
	"testing"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// A cluster's domain may be a part of a domain outside, which wildcards must not include.
func TestWildcardsAndTheClusterDomain(t *testing.T) {
	const includes = `spec.hosts[0]: Invalid value: "*.example.com": includes the cluster's own domain, k8s.example.com: use a narrower wildcard`
	for host, want := range map[v1alpha1.RouteHost]string{
		"*.example.com":       includes,
		"*.api.example.com":   "",
		"*.8s.example.com":    "",
		"www.example.com":     "",
		"*.k8s.example.com":   `spec.hosts[0]: Invalid value: "*.k8s.example.com": is in the cluster's own domain, k8s.example.com: a route leads outside. Use an external host, or add destinations`,
		"web.k8s.example.com": `spec.hosts[0]: Invalid value: "web.k8s.example.com": is in the cluster's own domain, k8s.example.com: a route leads outside. Use an external host, or add destinations`,
	} {
		t.Run(string(host), func(t *testing.T) {
			route := &v1alpha1.ExternalRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "pass"}}
			route.Spec.Hosts, route.Spec.ExportTo = []v1alpha1.RouteHost{host}, []v1alpha1.ExportNamespace{"."}
			_, refusal := translate.Translate(route, translate.Mesh{ClusterDomain: "k8s.example.com"})
			got := ""
			if refusal != nil {
				got = refusal.Message()
			}
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// The names of its objects tell a pass-through route's entries from those of destinations.
func TestIsPassed(t *testing.T) {
	route := &v1alpha1.ExternalRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "pass"}}
	route.Spec.Hosts, route.Spec.ExportTo = []v1alpha1.RouteHost{"a.example.com", "*.example.com"}, []v1alpha1.ExportNamespace{"."}
	with := route.DeepCopy()
	with.Spec.Hosts, with.Spec.Destinations = []v1alpha1.RouteHost{"web"}, []v1alpha1.Destination{{URL: "https://a.example.com"}}
	for _, r := range []*v1alpha1.ExternalRoute{route, with} {
		translation, refusal := translate.Translate(r, translate.Mesh{ClusterDomain: translate.DefaultClusterDomain})
		if refusal != nil {
			t.Fatal(refusal.Message())
		}
		for _, entry := range translate.Of[*networkingv1.ServiceEntry](translation.Objects) {
			if got := translate.IsPassed(entry, r); got != translate.PassesThrough(r) {
				t.Errorf("%s of %v: %v", entry.Name, r.Spec.Hosts, got)
			}
		}
	}
}

// Two Services may select the pods of one gateway. The pods send what routes pass to a host to one upstream, by whichever Service it comes.
func TestPassedHostsShareAnUpstream(t *testing.T) {
	upstreams := map[string]bool{}
	for _, service := range []v1alpha1.DNSLabel{"egress", "also-egress"} {
		for _, namespace := range []string{"demo", "other"} {
			route := &v1alpha1.ExternalRoute{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "pass"}}
			route.Spec.Hosts, route.Spec.ExportTo = []v1alpha1.RouteHost{"a.example.com"}, []v1alpha1.ExportNamespace{"."}
			route.Spec.EgressGateway = &v1alpha1.GatewayReference{Name: service, Namespace: "istio-egress"}
			translation, refusal := translate.Translate(route, translate.Mesh{
				ClusterDomain: translate.DefaultClusterDomain,
				Services: map[types.NamespacedName]translate.Service{
					translate.GatewayService(route.Spec.EgressGateway): {HasSelector: true, Ports: []corev1.ServicePort{{Name: "https", Port: 443}}},
				},
			})
			if refusal != nil {
				t.Fatal(refusal.Message())
			}
			for _, leg := range translate.Of[*networkingv1.VirtualService](translation.Objects) {
				upstreams[leg.Spec.Tls[0].Route[0].Destination.Host] = true
			}
		}
	}
	if len(upstreams) != 1 {
		t.Errorf("the pods of the gateway know the host as %v", upstreams)
	}
}
