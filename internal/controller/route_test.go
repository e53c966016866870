package controller_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/plan"
	"github.com/externalroute/externalroute/test/controlplane"
)

const simple = `
hosts: [web]
destinations:
- url: https://api.example.com/v1`

func TestNewRouteWithAliasServiceTakesFiveWrites(t *testing.T) {
	s := sharedStory(t)
	s.route("web", simple)
	route := s.ready("web")
	s.only("Service/web", "ServiceEntry/web-76906911b2", "DestinationRule/web-76906911b2", "VirtualService/web")
	if diff := cmp.Diff([]string{"web." + s.namespace + ".svc.cluster.local"}, route.Status.Hosts); diff != "" {
		t.Error(diff)
	}
	want := []v1alpha1.GeneratedResource{
		{APIVersion: "v1", Kind: "Service", Name: "web"},
		{APIVersion: "networking.istio.io/v1", Kind: "ServiceEntry", Name: "web-76906911b2"},
		{APIVersion: "networking.istio.io/v1", Kind: "DestinationRule", Name: "web-76906911b2"},
		{APIVersion: "networking.istio.io/v1", Kind: "VirtualService", Name: "web"},
	}
	if diff := cmp.Diff(want, route.Status.Resources); diff != "" {
		t.Error(diff)
	}
	upstream := []v1alpha1.DestinationStatus{{Name: "primary", Host: "api.example.com", Port: 443, Subset: s.virtualService("web").Spec.Http[0].Route[0].Destination.Subset}}
	if diff := cmp.Diff(upstream, route.Status.Destinations); diff != "" {
		t.Error(diff)
	}
	if writes := s.rest(); len(writes) != 5 { // the events of its own writes wake the operator: they must cost nothing
		t.Errorf("%d writes: %v", len(writes), writes)
	}
	s.quiet()
	if notes := s.events("Programmed"); len(notes) > 0 {
		t.Errorf("a route that works at once needs no event: %v", notes)
	}
}

func TestExistingServiceIsNotChanged(t *testing.T) {
	for name, c := range map[string]struct {
		selector map[string]string
		accepted string
		writes   int
	}{
		"a Service that nobody serves":         {accepted: "The route is valid.", writes: 4},
		"a Service with pods, which is a move": {selector: map[string]string{"app": "web"}, accepted: "The route is valid. Service web selects pods: the route takes over their traffic on its port.", writes: 5},
	} {
		t.Run(name, func(t *testing.T) {
			s := sharedStory(t)
			s.create(service("web", c.selector, 80))
			before := &corev1.Service{}
			s.get("web", before)
			s.notice()
			s.route("web", simple)
			route := s.ready("web")
			if diff := cmp.Diff(c.accepted, message(route, v1alpha1.ConditionAccepted)); diff != "" {
				t.Error(diff)
			}
			if writes := s.rest(); len(writes) != c.writes {
				t.Errorf("%d writes: %v", len(writes), writes)
			}
			s.delete(route)
			s.only("Service/web")
			after := &corev1.Service{}
			s.get("web", after)
			if diff := cmp.Diff(before.ResourceVersion, after.ResourceVersion); diff != "" {
				t.Errorf("the Service was written: %s", diff)
			}
		})
	}
}

// Traffic that workloads already send to a host moves to the route when its upstreams have settled.
func TestNewRouteOntoTrafficIsAMove(t *testing.T) {
	for name, c := range map[string]struct {
		spec   string
		writes int
	}{
		"an alias with pods": {simple, 5},
		"a host in place":    {inPlace, 6}, // its ServiceEntry gets the plain port after the VirtualService
	} {
		t.Run(name, func(t *testing.T) {
			s := sharedStory(t)
			s.create(service("web", map[string]string{"app": "web"}, 80))
			s.notice()
			s.clock.stop(t)
			s.route("web", c.spec)
			s.becomes("web", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonSwitching)
			s.after(settle-moment, "web")
			if got := s.serves("web"); got != "" {
				t.Errorf("before the upstreams have settled, requests go to %s", got)
			}
			s.after(moment, "web")
			s.ready("web")
			if got := s.serves("web"); got != "api.example.com" {
				t.Errorf("requests go to %q", got)
			}
			writes := slices.DeleteFunc(s.rest(), func(write string) bool { return strings.HasSuffix(write, "/status") })
			if len(writes) != c.writes-2 {
				t.Errorf("%d writes besides two of the status: %v", len(writes), writes)
			}
		})
	}
}

func TestRestartWritesNothing(t *testing.T) {
	s := sharedStory(t)
	s.route("web", simple)
	s.route("other", "hosts: [other]\ndestinations: [{url: 'https://other.example.com'}]")
	s.ready("web")
	s.ready("other")
	s.rest()
	if err := s.stopOperator(); err != nil {
		t.Fatal(err)
	}
	if err := s.startOperator(); err != nil {
		t.Fatal(err)
	}
	if writes := s.rest(); len(writes) > 0 {
		t.Errorf("wrote after a restart: %v", writes)
	}
	s.quiet()
}

func TestDeletedRouteLeavesNoObjects(t *testing.T) {
	s := sharedStory(t)
	s.route("web", simple)
	s.delete(s.ready("web"))
	s.only()
}

func TestRemovedDestinationStandsUntilTrafficHasSettled(t *testing.T) {
	s := sharedStory(t)
	s.route("web", `
hosts: [web, shop]
destinations:
- {name: a, url: "https://a.example.com"}
- {name: b, url: "https://b.example.com"}`)
	s.ready("web")
	all := s.objects()
	if len(all) != 7 {
		t.Fatalf("objects: %v", all)
	}
	s.clock.stop(t)
	s.route("web", `
hosts: [web]
destinations:
- {name: a, url: "https://a.example.com"}`)
	s.ready("web") // what is still to be deleted does not hold it back
	if v := s.virtualService("web"); len(v.Spec.Http[0].Route) != 1 {
		t.Errorf("ready, and b gets traffic: %v", v.Spec.Http)
	}
	s.after(settle-moment, "web")
	if diff := cmp.Diff(all, s.objects()); diff != "" {
		t.Errorf("objects went before traffic had settled:\n%s", diff)
	}
	s.after(moment, "web")
	s.until("the objects of b and shop should go", func() string { return cmpLen(4, s.objects()) })
	s.quiet()
}

func TestDriftIsRepairedAndReported(t *testing.T) {
	s := sharedStory(t)
	s.route("web", simple)
	s.ready("web")
	s.quiet()
	wanted := s.virtualService("web")

	edit(s, s.virtualService("web"), func(v *networkingv1.VirtualService) { v.Spec.Http[0].Rewrite.Authority = "evil.example.com" })
	s.until("the authority should come back", func() string {
		return cmp.Diff(wanted.Spec.Http[0].Rewrite.Authority, s.virtualService("web").Spec.Http[0].Rewrite.Authority)
	})
	s.event("Repaired", "VirtualService web differed")

	edit(s, s.virtualService("web"), func(v *networkingv1.VirtualService) { v.Spec.Gateways = []string{"mesh", "public"} })
	s.until("a field that the route does not set should go", func() string {
		return cmp.Diff([]string(nil), s.virtualService("web").Spec.Gateways)
	})

	edit(s, s.virtualService("web"), func(v *networkingv1.VirtualService) { v.Labels, v.OwnerReferences = nil, nil })
	s.refused("web", v1alpha1.ReasonNameConflict) // without an owner reference it counts as another client's
	s.delete(s.virtualService("web"))
	s.ready("web")

	rule := &networkingv1.DestinationRule{}
	s.get("web-76906911b2", rule)
	s.delete(rule)
	s.until("the DestinationRule should be made again", func() string { return cmp.Diff(4, len(s.objects())) })
	s.event("Repaired", "DestinationRule web-76906911b2 was missing")

	edit(s, rule, func(d *networkingv1.DestinationRule) {
		d.Spec.Subsets = append(d.Spec.Subsets, &istio.Subset{Name: "stray"})
	})
	s.until("a stray subset should go", func() string {
		s.get("web-76906911b2", rule)
		return cmp.Diff(1, len(rule.Spec.Subsets))
	})
	s.quiet()
}

func TestForeignObjectIsNeverChanged(t *testing.T) {
	s := sharedStory(t)
	foreign := &networkingv1.VirtualService{}
	foreign.Name = "web"
	foreign.Spec.Hosts = []string{"elsewhere.example.com"}
	foreign.Spec.Http = []*istio.HTTPRoute{{Route: []*istio.HTTPRouteDestination{{Destination: &istio.Destination{Host: "elsewhere.example.com"}}}}}
	s.create(foreign)
	s.notice()
	s.route("web", simple)
	route := s.refused("web", v1alpha1.ReasonNameConflict)
	if !meta.IsStatusConditionTrue(route.Status.Conditions, v1alpha1.ConditionStalled) {
		t.Error("a person must act, and Stalled does not say so")
	}
	s.says("web", v1alpha1.ConditionAccepted, "metadata.name: VirtualService web of namespace NAMESPACE exists and does not belong to this route: rename or "+
		"delete one of the two, or hand it over with the annotation networking.externalroute.io/adopt: web")
	s.only("VirtualService/web") // nothing was written beside it
	s.rest()
	after := s.virtualService("web")
	if diff := cmp.Diff(foreign.ResourceVersion, after.ResourceVersion); diff != "" {
		t.Errorf("another user's object was written: %s", diff)
	}
	s.quiet()
	s.delete(foreign)
	s.ready("web")
}

func TestHandedOverObjectIsAdopted(t *testing.T) {
	s := sharedStory(t)
	foreign := &networkingv1.VirtualService{}
	foreign.Name = "web"
	foreign.Spec.Hosts = []string{"elsewhere.example.com"}
	foreign.Spec.Gateways = []string{"mesh"}
	foreign.Spec.Http = []*istio.HTTPRoute{{Route: []*istio.HTTPRouteDestination{{Destination: &istio.Destination{Host: "elsewhere.example.com"}}}}}
	s.create(foreign)
	s.notice()
	s.route("web", simple)
	s.refused("web", v1alpha1.ReasonNameConflict)
	edit(s, foreign, func(v *networkingv1.VirtualService) {
		v.Annotations = map[string]string{v1alpha1.AdoptAnnotation: "web"}
	})
	route := s.ready("web")
	adopted := s.virtualService("web")
	if !metav1.IsControlledBy(adopted, route) || adopted.Spec.Gateways != nil || adopted.Spec.Hosts[0] != "web" {
		t.Errorf("not adopted: %v", adopted)
	}
	s.quiet()
}

// A ServiceEntry and a DestinationRule of other names are replaced, as soon as they are handed over one after the other.
func TestHandedOverObjectsOfOtherNamesAreReplaced(t *testing.T) {
	s := sharedStory(t)
	entry, rule, traffic := &networkingv1.ServiceEntry{}, &networkingv1.DestinationRule{}, &networkingv1.VirtualService{}
	entry.Name, rule.Name, traffic.Name = "old", "old", "web"
	entry.Spec.Hosts, entry.Spec.Resolution = []string{"api.example.com"}, istio.ServiceEntry_DNS
	entry.Spec.Ports = []*istio.ServicePort{{Number: 443, Name: "https", Protocol: "TLS"}}
	rule.Spec.Host = "api.example.com"
	rule.Spec.TrafficPolicy = &istio.TrafficPolicy{Tls: &istio.ClientTLSSettings{Mode: istio.ClientTLSSettings_SIMPLE, Sni: "old.example.com"}}
	traffic.Spec.Hosts = []string{"web"}
	traffic.Spec.Http = []*istio.HTTPRoute{{Route: []*istio.HTTPRouteDestination{{Destination: &istio.Destination{Host: "api.example.com"}}}}}
	s.create(entry)
	s.create(rule)
	s.create(traffic)
	s.notice()
	s.clock.stop(t)
	s.route("web", simple)
	s.refused("web", v1alpha1.ReasonDestinationConflict)
	s.rest()
	adopt := map[string]string{v1alpha1.AdoptAnnotation: "web"}
	edit(s, traffic, func(v *networkingv1.VirtualService) { v.Annotations = adopt })
	edit(s, rule, func(r *networkingv1.DestinationRule) { r.Annotations = adopt })
	s.becomes("web", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonSwitching)
	policy := func() *istio.ClientTLSSettings {
		rules := &networkingv1.DestinationRuleList{}
		s.list(rules)
		for _, r := range rules.Items {
			if r.Name != "old" {
				return r.Spec.TrafficPolicy.GetTls()
			}
		}
		return nil
	}
	if got := policy().GetSni(); got != "old.example.com" {
		t.Errorf("while traffic uses the old rule, the new one decides otherwise: SNI %q", got)
	}
	edit(s, entry, func(e *networkingv1.ServiceEntry) { e.Annotations = adopt })
	s.after(settle, "web")
	s.ready("web")
	s.until("both old objects stay until traffic has settled", func() string { return cmpLen(6, s.objects()) })
	s.after(settle, "web")
	s.until("the old objects should go", func() string { return cmpLen(4, s.objects()) })
	if got := policy(); got != nil {
		t.Errorf("the settings of the old rule stay: %v", got)
	}
	writes := slices.DeleteFunc(s.rest(), func(w string) bool { return strings.HasSuffix(w, "/status") }) // the clock of the test takes some
	if len(writes) != 7 {
		t.Errorf("want 7 writes of objects (Service, ServiceEntry, DestinationRule twice, VirtualService, two deletions), got %d: %v", len(writes), writes)
	}
	s.quiet()
}

func TestMoveToAnotherHostWaitsTwice(t *testing.T) {
	s := sharedStory(t)
	s.route("web", simple)
	s.ready("web")
	old := s.objects()

	s.clock.stop(t)
	s.route("web", strings.ReplaceAll(simple, "api.example.com", "new.example.com"))
	switching := s.becomes("web", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonSwitching)
	if meta.IsStatusConditionTrue(switching.Status.Conditions, v1alpha1.ConditionStalled) {
		t.Error("a move is not stalled")
	}
	both := s.objects()
	if len(both) != len(old)+2 {
		t.Errorf("old and new should stand side by side: %v", both)
	}
	s.after(settle-moment, "web")
	if host := s.serves("web"); host != "api.example.com" {
		t.Errorf("traffic moved to %s before the new upstream had settled", host)
	}
	s.after(moment, "web")
	if host := s.serves("web"); host != "new.example.com" {
		t.Errorf("the new upstream has settled, and traffic goes to %s", host)
	}
	s.ready("web")
	s.after(settle-moment, "web")
	if diff := cmp.Diff(both, s.objects()); diff != "" {
		t.Errorf("the old upstream went before traffic had settled:\n%s", diff)
	}
	s.after(moment, "web")
	s.until("the old upstream should go", func() string { return cmpLen(len(old), s.objects()) })
	s.quiet()
}

func TestRenamedDestinationMovesToANewSubset(t *testing.T) {
	s := sharedStory(t)
	s.route("web", "hosts: [web]\ndestinations: [{name: old, url: 'https://api.example.com'}]")
	s.ready("web")
	subsets := func() int {
		rules := &networkingv1.DestinationRuleList{}
		if err := s.client.List(s.Context(), rules, client.InNamespace(s.namespace)); err != nil || len(rules.Items) != 1 {
			t.Fatalf("DestinationRules: %v %v", rules.Items, err)
		}
		return len(rules.Items[0].Spec.Subsets)
	}
	s.clock.stop(t)
	s.route("web", "hosts: [web]\ndestinations: [{name: new, url: 'https://api.example.com'}]")
	s.becomes("web", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonSwitching)
	if n := subsets(); n != 2 {
		t.Errorf("during the move the DestinationRule has %d subsets", n)
	}
	s.after(settle, "web")
	s.ready("web")
	if n := subsets(); n != 2 {
		t.Errorf("right after the move the DestinationRule has %d subsets", n)
	}
	s.after(settle, "web")
	if n := subsets(); n != 1 {
		t.Errorf("the old subset stays: there are %d", n)
	}
	s.quiet()
}

func TestSettingsChangeInPlace(t *testing.T) {
	s := sharedStory(t)
	s.route("web", simple)
	s.ready("web")
	s.quiet()
	s.route("web", simple+"\n  tls: {sni: edge.example.com}\n  connectionPool: {maxConnections: 5}\nrules: [{timeout: 3s}]")
	s.until("all should change at once", func() string {
		if t := s.virtualService("web").Spec.Http[0].Timeout; t.GetSeconds() != 3 {
			return t.String()
		}
		return ""
	})
	s.ready("web")
	s.quiet()
}

func TestInvalidEditKeepsTheLastGoodSpecServing(t *testing.T) {
	s := sharedStory(t)
	s.route("web", simple)
	s.ready("web")
	before := s.objects()
	s.rest()
	s.route("web", s.invalid())
	route := s.refused("web", v1alpha1.ReasonInvalid)
	s.says("web", v1alpha1.ConditionReady, `spec.hosts[1]: Invalid value: "web.NAMESPACE.svc": is the same name as spec.hosts[0]`)
	if len(route.Status.Resources) != 4 || len(route.Status.Hosts) != 1 || len(route.Status.Destinations) != 1 {
		t.Errorf("what still serves is not listed: %+v", route.Status)
	}
	if diff := cmp.Diff(before, s.objects()); diff != "" {
		t.Error(diff)
	}
	s.neverMore("the mistake", map[string]int{"PATCH externalroutes": 1})
	s.event("Invalid", "spec.hosts[1]")
	s.route("web", simple)
	s.ready("web")
}

func TestRouteWaitsForItsDependencies(t *testing.T) {
	s := sharedStory(t)
	s.route("web", simple+"\n  tls: {caCertificateRefs: [{name: ca}]}\nserviceCreationPolicy: Never")
	route := s.refused("web", v1alpha1.ReasonServiceMissing)
	if meta.FindStatusCondition(route.Status.Conditions, v1alpha1.ConditionStalled) != nil {
		t.Error("it heals by itself: not stalled")
	}
	s.create(service("web", nil, 80))
	s.refused("web", v1alpha1.ReasonCACertificateMissing)
	ca := &corev1.ConfigMap{Data: map[string]string{"ca.crt": "x"}}
	ca.Name = "ca"
	s.create(ca)
	s.ready("web")
	s.delete(ca)
	s.refused("web", v1alpha1.ReasonCACertificateMissing)
}

func TestUnusableServiceIsReportedAndAwaited(t *testing.T) {
	s := sharedStory(t)
	unusable := service("web", nil, 8080)
	s.create(unusable)
	s.notice()
	s.route("web", simple)
	s.refused("web", v1alpha1.ReasonServiceNotUsable)
	edit(s, unusable, func(v *corev1.Service) {
		v.Spec.Ports = append(v.Spec.Ports, corev1.ServicePort{Name: "http-web", Port: 80})
	})
	s.ready("web")
	if port := s.virtualService("web").Spec.Http[0].Match[0].Port; port != 80 {
		t.Errorf("the Service has another HTTP port, and the match is on port %d", port)
	}
}

func TestServiceTakenOverIsReleasedOnce(t *testing.T) {
	s := sharedStory(t)
	s.route("web", simple)
	s.ready("web")
	taken := service("web", nil, 80)
	edit(s, taken, func(v *corev1.Service) { v.Spec.Selector = map[string]string{"app": "web"} })
	s.until("owner, label and annotation should go", func() string {
		s.get("web", taken)
		if len(taken.OwnerReferences)+len(taken.Labels)+len(taken.Annotations) > 0 {
			return taken.ObjectMeta.String()
		}
		return ""
	})
	s.event("Released", "Service web")
	s.quiet()
	s.delete(s.ready("web"))
	s.only("Service/web")
}

// A taken Service that cannot be released is reported.
func TestServiceThatCannotBeReleasedIsReported(t *testing.T) {
	s := sharedStory(t)
	s.route("web", simple)
	s.ready("web")
	s.refuse("", "services", "has(object.metadata.ownerReferences)", service("probe", nil, 80))
	edit(s, service("web", nil, 80), func(v *corev1.Service) { v.Spec.Selector = map[string]string{"app": "web"} })
	route := s.becomes("web", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonApplyFailed)
	if said := message(route, v1alpha1.ConditionProgrammed); !strings.HasPrefix(said, "release Service web: ") {
		t.Errorf("the status says %q", said)
	}
}

func TestServiceTakenOverOutlivesItsRefusedRoute(t *testing.T) {
	s := sharedStory(t)
	s.route("web", simple+"\nexportTo: ['*']")
	s.ready("web")
	edit(s, service("web", nil, 80), func(v *corev1.Service) { v.Spec.Selector = map[string]string{"app": "web"} })
	s.delete(s.refused("web", v1alpha1.ReasonServiceNotUsable))
	s.only("Service/web")
}

func TestOwnChangeIsNoRepair(t *testing.T) {
	s := sharedStory(t)
	own := service("web", nil, 80)
	s.create(own)
	s.notice()
	s.route("web", simple)
	s.ready("web")
	s.quiet()
	edit(s, own, func(v *corev1.Service) {
		v.Spec.Ports = append(v.Spec.Ports, corev1.ServicePort{Name: "http-more", Port: 8080})
	})
	s.until("the match should be on the port", func() string {
		return cmp.Diff(uint32(80), s.virtualService("web").Spec.Http[0].Match[0].Port)
	})
	s.delete(own)
	s.until("a Service should be made", func() string { return cmp.Diff(4, len(s.objects())) })
	s.ready("web")
	s.rest() // the status lists the Service a moment later
	s.route("web", simple+"\nport: 8080")
	s.until("the port should change", func() string {
		s.get("web", own)
		return cmp.Diff(int32(8080), own.Spec.Ports[0].Port)
	})
	s.ready("web")
	s.neverMore("a new port", map[string]int{"PATCH services": 1, "PATCH externalroutes": 1})
	if seen := s.events("Repaired"); len(seen) > 0 {
		t.Errorf("nobody broke anything, and yet: %v", seen)
	}
	s.quiet()
}

func TestSuspendedRouteWritesOnlyItsStatus(t *testing.T) {
	s := sharedStory(t)
	s.route("web", simple)
	s.ready("web")
	s.route("web", simple+"\nsuspend: true")
	s.becomes("web", v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonSuspended)
	s.route("web", strings.ReplaceAll(simple, "/v1", "/v2")+"\nsuspend: true")
	s.becomes("web", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSuspended)
	s.rest()
	edit(s, s.virtualService("web"), func(v *networkingv1.VirtualService) { v.Spec.Http = v.Spec.Http[:1] })
	s.notice()
	s.route("web", strings.ReplaceAll(simple, "/v1", "/v3")+"\nsuspend: true") // a later pass
	s.becomes("web", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSuspended)
	s.neverMore("an edit while suspended", map[string]int{"PATCH externalroutes": 1})
	s.route("web", simple)
	s.ready("web")
}

func TestRoutesShareARealHost(t *testing.T) {
	s := sharedStory(t)
	s.route("one", "hosts: [one]\ndestinations: [{url: 'https://api.example.com'}]")
	s.route("two", "hosts: [two]\ndestinations: [{url: 'https://api.example.com', tls: {sni: two.example.com}}]")
	s.ready("one")
	s.ready("two")
	if n := len(s.objects()); n != 8 {
		t.Fatalf("objects: %v", s.objects())
	}
	s.quiet()
	s.delete(s.read("two"))
	s.until("the objects of two should go", func() string { return cmp.Diff(4, len(s.objects())) })
	s.quiet()
	s.ready("one")
}

func TestRouteCanBeRecreatedAtOnce(t *testing.T) {
	s := sharedStory(t)
	for range 5 {
		s.route("web", simple)
		s.delete(s.ready("web"))
	}
	s.route("web", simple)
	route := s.ready("web")
	s.until("every object should be the new route's", func() string {
		if v := s.virtualService("web"); !metav1.IsControlledBy(v, route) {
			return v.ObjectMeta.String()
		}
		return ""
	})
	s.only("Service/web", "ServiceEntry/web-76906911b2", "DestinationRule/web-76906911b2", "VirtualService/web")
	s.quiet()
}

// The collector may never learn that a route is gone, as when the API server was killed at the wrong moment.
func TestRecreatedRouteNeedsNoGarbageCollector(t *testing.T) {
	s := sharedStory(t)
	start, err := s.plane.Kill(controlplane.Controllers)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := start(); err != nil {
			t.Error(err)
		}
	}()
	s.route("web", simple)
	before := s.ready("web")
	s.delete(before)
	s.later(s.virtualService("web")) // the last one that was created
	s.route("web", simple)
	route := s.ready("web")
	for _, object := range []client.Object{&corev1.Service{}, &networkingv1.VirtualService{}} {
		s.get("web", object)
		if !metav1.IsControlledBy(object, route) {
			t.Errorf("%T web is still the earlier route's", object)
		}
	}
	s.quiet()
}

// TestPausesBetweenRepairsDouble measures the pauses.
func TestRepairsThatAreUndoneBackOff(t *testing.T) {
	s := sharedStory(t)
	s.route("web", simple)
	s.ready("web")
	s.rest()
	const evil = "evil.example.com"
	authority := func() string { return s.virtualService("web").Spec.Http[0].Rewrite.Authority }
	undo := func() {
		edit(s, s.virtualService("web"), func(v *networkingv1.VirtualService) { v.Spec.Http[0].Rewrite.Authority = evil })
	}
	pauses := func() bool {
		c := meta.FindStatusCondition(s.read("web").Status.Conditions, v1alpha1.ConditionProgrammed)
		return c.Reason == v1alpha1.ReasonPending && strings.Contains(c.Message, "VirtualService web")
	}

	s.clock.stop(t)
	for times := 1; !pauses(); times++ {
		if times > 4 {
			t.Fatal("the operator never pauses")
		}
		undo()
		s.until("a repair, or a pause", func() string {
			if now := authority(); now == evil && !pauses() {
				return now
			}
			return ""
		})
	}
	undo()
	s.notice()
	s.pass("web")
	if now := authority(); now != evil || !pauses() {
		t.Errorf("the operator should pause, and the authority is %s", now)
	}
	repairs := 0
	for _, write := range s.requests.writes(s.namespace) {
		if strings.HasSuffix(write, "/virtualservices/web") {
			repairs++
		}
	}
	if repairs > 3 {
		t.Errorf("%d repairs at one moment", repairs)
	}

	s.after(plan.LongestPause, "web")
	if now := authority(); now == evil {
		t.Error("the pause is over, and nothing is repaired")
	}
	s.notice() // what the operator wrote and has not received for so long counts as lost
	s.after(plan.LongestPause, "web")
	s.ready("web")
	s.quiet()
}

func TestOperatorStartsBeforeIstio(t *testing.T) {
	c, err := startCluster(controlplane.Options{ExternalRoute: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.stop()
	if err := c.startOperator(); err != nil {
		t.Fatal(err)
	}
	s := newStory(t, c)
	s.route("web", simple)
	s.becomes("web", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonIstioNotInstalled)
	istioCRDs, err := controlplane.IstioCRDs()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.plane.InstallCRDs(istioCRDs); err != nil {
		t.Fatal(err)
	}
	s.ready("web")
	if n := len(s.objects()); n != 4 {
		t.Errorf("objects: %v", s.objects())
	}
	s.quiet()
}

func service(name string, selector map[string]string, ports ...int32) *corev1.Service {
	v := &corev1.Service{}
	v.Name = name
	v.Spec.Selector = selector
	for i, port := range ports {
		v.Spec.Ports = append(v.Spec.Ports, corev1.ServicePort{Name: []string{"http", "more"}[i], Port: port})
	}
	slices.SortFunc(v.Spec.Ports, func(a, b corev1.ServicePort) int { return int(a.Port - b.Port) })
	return v
}
