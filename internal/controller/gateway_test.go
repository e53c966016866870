package controller_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// gateways is the namespace of a story's egress gateways.
type gateways struct{ *story }

func newGateways(t *testing.T, names ...string) gateways {
	t.Helper()
	g := gateways{sharedStory(t)}
	for _, name := range names {
		g.create(g.service(name))
	}
	g.notice()
	return g
}

func (g gateways) service(name string) *corev1.Service {
	return service(name, map[string]string{"istio": name}, 443)
}

func (g gateways) host(name string) string { return name + "." + g.namespace + ".svc.cluster.local" }

// through is a spec that leaves through a gateway.
func (g gateways) through(name, spec string) string {
	return fmt.Sprintf("%s\negressGateway: {name: %s, namespace: %s}", spec, name, g.namespace)
}

// kinds are how many objects of each kind the namespace has.
func (s *story) kinds() map[string]int {
	s.Helper()
	kinds := map[string]int{}
	for _, object := range s.objects() {
		kind, _, _ := strings.Cut(object, "/")
		kinds[kind]++
	}
	return kinds
}

// leg is the namespace's only VirtualService for a gateway.
func (s *story) leg() *networkingv1.VirtualService {
	s.Helper()
	var all networkingv1.VirtualServiceList
	s.list(&all)
	legs := slices.DeleteFunc(all.Items, func(v *networkingv1.VirtualService) bool { return len(v.Spec.Gateways) == 0 })
	if len(legs) != 1 {
		s.Fatalf("%d VirtualServices for gateways", len(legs))
	}
	return legs[0]
}

var throughGateway = map[string]int{"Service": 1, "ServiceEntry": 1, "DestinationRule": 2, "Gateway": 1, "VirtualService": 2}

func TestGatewayRouteTakesEightWrites(t *testing.T) {
	g, s := newGateways(t, "egress"), sharedStory(t)
	s.route("web", g.through("egress", simple))
	route := s.ready("web")
	if diff := cmp.Diff(throughGateway, s.kinds()); diff != "" {
		t.Error(diff)
	}
	if len(route.Status.Resources) != 7 {
		t.Errorf("the status lists %v", route.Status.Resources)
	}
	leg := s.leg()
	if host := s.serves("web"); host != g.host("egress") {
		t.Errorf("sidecars send requests to %s", host)
	}
	if host := leg.Spec.Http[0].Route[0].Destination.Host; route.Status.Destinations[0].Host != host || leg.Spec.ExportTo[0] != g.namespace {
		t.Errorf("the status lists %v, and the gateway sends requests to %s", route.Status.Destinations, host)
	}
	if writes := s.rest(); len(writes) != 8 {
		t.Errorf("%d writes: %v", len(writes), writes)
	}
	s.quiet()
	s.delete(route)
	s.only()
}

func TestPassThroughGatewayRouteTakesSixWrites(t *testing.T) {
	g, s := newGateways(t, "egress"), sharedStory(t)
	s.clock.stop(t)
	s.route("pass", g.through("egress", "hosts: [www.example.com]"))
	s.becomes("pass", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonSwitching)
	if diff := cmp.Diff(map[string]int{"ServiceEntry": 1, "Gateway": 1, "VirtualService": 1}, s.kinds()); diff != "" {
		t.Errorf("nothing may leave before the gateway knows the host:\n%s", diff)
	}
	s.after(settle, "pass")
	s.ready("pass")
	if diff := cmp.Diff(map[string]int{"ServiceEntry": 2, "Gateway": 1, "VirtualService": 1}, s.kinds()); diff != "" {
		t.Error(diff)
	}
	// One status says that the route waits. The edit of after may take another one, unless the status that follows says all.
	if writes := s.requests.writes(s.namespace); len(writes) != 6 && len(writes) != 7 {
		t.Errorf("%d writes: %v", len(writes), writes)
	}
	s.quiet()
}

func TestGatewayThatIsMissingHealsByItsArrival(t *testing.T) {
	g, s := newGateways(t), sharedStory(t)
	s.route("web", g.through("egress", simple))
	route := s.refused("web", v1alpha1.ReasonGatewayNotUsable)
	if said := message(route, v1alpha1.ConditionAccepted); !strings.Contains(said, "Service "+g.namespace+"/egress does not exist") {
		t.Error(said)
	}
	if meta.IsStatusConditionTrue(route.Status.Conditions, v1alpha1.ConditionStalled) {
		t.Error("a route that waits for a Service is stalled")
	}
	s.only()
	without := g.service("egress")
	without.Spec.Selector = nil
	g.create(without)
	s.until("the message names the selector", func() string {
		if said := message(s.read("web"), v1alpha1.ConditionAccepted); !strings.Contains(said, "has no selector") {
			return said
		}
		return ""
	})
	edit(g.story, without, func(v *corev1.Service) { v.Spec.Selector = map[string]string{"istio": "egress"} })
	s.ready("web")
	before := s.objects()
	g.delete(without)
	s.refused("web", v1alpha1.ReasonGatewayNotUsable)
	s.only(before...)
	other := g.service("egress")
	other.Spec.Selector["istio"] = "other"
	g.create(other)
	s.ready("web")
	s.until("the Gateway selects the new pods", func() string {
		var list networkingv1.GatewayList
		s.list(&list)
		return cmp.Diff("other", list.Items[0].Spec.Selector["istio"])
	})
	s.only(before...)
}

// The VirtualService of the sidecars moves last, and what it used goes a settle time later.
func TestRouteMovesFromGatewayToGateway(t *testing.T) {
	g, s := newGateways(t, "east", "west"), sharedStory(t)
	s.route("web", simple)
	s.ready("web")
	direct := s.kinds()
	s.clock.stop(t)
	for _, step := range []struct {
		spec, before, after string
		both, left          map[string]int
	}{
		{
			g.through("east", simple), "api.example.com", g.host("east"),
			map[string]int{"Service": 1, "ServiceEntry": 2, "DestinationRule": 3, "Gateway": 1, "VirtualService": 2},
			throughGateway,
		},
		{
			g.through("west", simple), g.host("east"), g.host("west"),
			map[string]int{"Service": 1, "ServiceEntry": 2, "DestinationRule": 4, "Gateway": 2, "VirtualService": 3},
			throughGateway,
		},
		{
			simple, g.host("west"), "api.example.com",
			map[string]int{"Service": 1, "ServiceEntry": 2, "DestinationRule": 3, "Gateway": 1, "VirtualService": 2},
			direct,
		},
	} {
		s.route("web", step.spec)
		s.becomes("web", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonSwitching)
		if host := s.serves("web"); host != step.before {
			t.Errorf("traffic moved to %s at once", host)
		}
		s.after(settle, "web")
		s.ready("web")
		if host := s.serves("web"); host != step.after {
			t.Errorf("traffic did not move to %s, but to %s", step.after, host)
		}
		if diff := cmp.Diff(step.both, s.kinds()); diff != "" {
			t.Errorf("what traffic may still use should stand:\n%s", diff)
		}
		s.after(settle, "web")
		s.until("the old way should go", func() string { return cmp.Diff(step.left, s.kinds()) })
	}
}

func TestPassThroughRouteMovesToItsGatewayAndBack(t *testing.T) {
	g, s := newGateways(t, "egress"), sharedStory(t)
	leads := func() string {
		var list networkingv1.ServiceEntryList
		s.list(&list)
		for _, e := range list.Items {
			if e.Spec.Hosts[0] == "www.example.com" && len(e.Spec.Endpoints) == 1 {
				return e.Spec.Endpoints[0].Address
			}
		}
		return ""
	}
	s.route("pass", "hosts: [www.example.com]")
	s.ready("pass")
	s.rest()
	s.clock.stop(t)
	s.route("pass", g.through("egress", "hosts: [www.example.com]"))
	s.becomes("pass", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonSwitching)
	if to := leads(); to != "" {
		t.Errorf("the host is led to %s at once", to)
	}
	s.after(settle, "pass")
	s.ready("pass")
	if to := leads(); to != g.host("egress") {
		t.Errorf("the host is led to %q", to)
	}
	s.after(settle, "pass")
	s.route("pass", "hosts: [www.example.com]")
	s.ready("pass")
	if to := leads(); to != "" {
		t.Errorf("the host is still led to %s", to)
	}
	if diff := cmp.Diff(map[string]int{"ServiceEntry": 2, "Gateway": 1, "VirtualService": 1}, s.kinds()); diff != "" {
		t.Errorf("what connections may still use should stand:\n%s", diff)
	}
	s.after(settle, "pass")
	s.until("the gateway's objects should go", func() string { return cmp.Diff(map[string]int{"ServiceEntry": 1}, s.kinds()) })
}

func TestRoutesOfManyNamespacesShareAGateway(t *testing.T) {
	g := newGateways(t, "egress")
	for _, s := range []*story{sharedStory(t), sharedStory(t)} {
		s.route("web", g.through("egress", simple))
		s.route("shop", g.through("egress", strings.ReplaceAll(simple, "web", "shop")))
		s.route("pass", g.through("egress", "hosts: [api.example.com]"))
		s.route("too", g.through("egress", "hosts: [api.example.com, www.example.com]"))
		for _, name := range []string{"web", "shop", "pass", "too"} {
			s.ready(name)
		}
		s.route("direct", "hosts: [api.example.com]")
		if said := message(s.refused("direct", v1alpha1.ReasonHostConflict), v1alpha1.ConditionAccepted); !strings.Contains(said, "use the same egressGateway") {
			t.Error(said)
		}
		s.delete(s.read("pass"))
		s.delete(s.read("too"))
		s.ready("direct")
	}
}

func TestObjectsBesideTheGatewayConflict(t *testing.T) {
	g, s := newGateways(t, "egress"), sharedStory(t)
	s.route("web", g.through("egress", simple))
	s.route("pass", g.through("egress", "hosts: [www.example.com]"))
	s.ready("web")
	s.ready("pass")

	hidden := &networkingv1.DestinationRule{}
	hidden.Name, hidden.Spec.Host = "theirs", g.host("egress")
	g.create(hidden)
	if said := message(s.refused("web", v1alpha1.ReasonDestinationConflict), v1alpha1.ConditionAccepted); !strings.Contains(said, "DestinationRule "+g.namespace+"/theirs") {
		t.Error(said)
	}
	g.delete(hidden)
	s.ready("web")

	policy := &networkingv1.DestinationRule{}
	policy.Name, policy.Spec.Host, policy.Spec.ExportTo = "theirs", g.host("egress"), []string{"."}
	policy.Spec.TrafficPolicy = &istio.TrafficPolicy{ConnectionPool: &istio.ConnectionPoolSettings{Tcp: &istio.ConnectionPoolSettings_TCPSettings{MaxConnections: 1}}}
	s.create(policy)
	s.refused("web", v1alpha1.ReasonDestinationConflict)
	s.delete(policy)
	s.ready("web")

	terminates := &networkingv1.Gateway{}
	terminates.Name, terminates.Spec.Selector = "theirs", map[string]string{"istio": "egress"}
	terminates.Spec.Servers = []*istio.Server{{
		Port: &istio.Port{Number: 443, Name: "https", Protocol: "HTTPS"}, Hosts: []string{"www.example.com"},
		Tls: &istio.ServerTLSSettings{Mode: istio.ServerTLSSettings_SIMPLE, CredentialName: "certificate"},
	}}
	g.create(terminates)
	if said := message(s.refused("pass", v1alpha1.ReasonDestinationConflict), v1alpha1.ConditionAccepted); !strings.Contains(said, "terminates TLS of www.example.com") {
		t.Error(said)
	}
	g.delete(terminates)
	s.ready("pass")
	s.ready("web")
}

func TestGatewayAndSecondLegAreRepaired(t *testing.T) {
	g, s := newGateways(t, "egress"), sharedStory(t)
	s.route("web", g.through("egress", simple))
	s.ready("web")
	before := s.objects()
	s.delete(s.leg())
	s.only(before...)
	var list networkingv1.GatewayList
	s.list(&list)
	s.delete(list.Items[0])
	s.only(before...)
	s.rest()
	edit(s, &networkingv1.Gateway{ObjectMeta: metav1.ObjectMeta{Name: list.Items[0].Name}}, func(v *networkingv1.Gateway) { v.Spec.Servers[0].Hosts = []string{"*"} })
	s.event("Repaired", "Gateway "+list.Items[0].Name)
	s.until("the Gateway has its host again", func() string {
		v := &networkingv1.Gateway{}
		s.get(list.Items[0].Name, v)
		return cmp.Diff(list.Items[0].Spec.Servers[0].Hosts, v.Spec.Servers[0].Hosts)
	})
}
