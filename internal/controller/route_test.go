package controller_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/test/controlplane"
)

const simple = `
hosts: [web]
destinations:
- url: https://api.example.com/v1`

func TestARouteWithItsAliasServiceTakesFiveWrites(t *testing.T) {
	s := tell(t)
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
	time.Sleep(500 * time.Millisecond) // the events of its own writes wake the operator: they must cost nothing
	if writes := s.requests.writes(s.namespace); len(writes) != 5 {
		t.Errorf("%d writes: %v", len(writes), writes)
	}
	s.quiet("web")
	if notes := s.events("Programmed"); len(notes) > 0 {
		t.Errorf("a route that works at once needs no event: %v", notes)
	}
}

func TestARouteWithAnExistingServiceTakesFourWritesAndLeavesTheServiceAlone(t *testing.T) {
	s := tell(t)
	s.create(service("web", map[string]string{"app": "web"}, 80))
	before := &corev1.Service{}
	s.get("web", before)
	s.route("web", simple)
	route := s.ready("web")
	if !strings.Contains(message(route, v1alpha1.ConditionAccepted), "pods of its own") {
		t.Errorf("Accepted does not say that the Service is taken over: %s", message(route, v1alpha1.ConditionAccepted))
	}
	time.Sleep(500 * time.Millisecond)
	if writes := s.requests.writes(s.namespace); len(writes) != 4 {
		t.Errorf("%d writes: %v", len(writes), writes)
	}
	s.delete(route)
	s.only("Service/web")
	after := &corev1.Service{}
	s.get("web", after)
	if diff := cmp.Diff(before.ResourceVersion, after.ResourceVersion); diff != "" {
		t.Errorf("somebody else's Service was written: %s", diff)
	}
}

func TestARestartWritesNothing(t *testing.T) {
	s := tell(t)
	s.route("web", simple)
	s.route("other", "hosts: [other]\ndestinations: [{url: 'https://other.example.com'}]")
	s.ready("web")
	s.ready("other")
	s.quiet()
	if err := s.stopOperator(); err != nil {
		t.Fatal(err)
	}
	s.requests.writes(s.namespace)
	if err := s.startOperator(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(settle + time.Second)
	if writes := s.requests.writes(s.namespace); len(writes) > 0 {
		t.Errorf("wrote after a restart: %v", writes)
	}
	s.quiet("web", "other")
}

func TestDeletingARouteLeavesNothingBehind(t *testing.T) {
	s := tell(t)
	s.route("web", simple)
	s.delete(s.ready("web"))
	s.only()
}

func TestRemovingADestinationRemovesItsObjectsAfterTrafficHasSettled(t *testing.T) {
	s := tell(t)
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
	s.route("web", `
hosts: [web]
destinations:
- {name: a, url: "https://a.example.com"}`)
	s.until("the VirtualService should let go of b", func() string {
		if v := s.virtualService("web"); len(v.Spec.Http[0].Route) != 1 {
			return v.Spec.String()
		}
		return ""
	})
	if diff := cmp.Diff(all, s.objects()); diff != "" {
		t.Errorf("objects went before traffic had settled:\n%s", diff)
	}
	s.ready("web") // what is still to be deleted does not hold it back
	s.until("the objects of b and shop should go", func() string {
		return cmp.Diff(4, len(s.objects()))
	})
	s.quiet("web")
}

func TestDriftIsRepairedAtOnceAndTold(t *testing.T) {
	s := tell(t)
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
	s.refused("web", v1alpha1.ReasonNameConflict) // without owner it is somebody's, as far as anybody can see
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
	s.quiet("web")
}

func TestAnObjectOfSomebodyElseIsNeverTouched(t *testing.T) {
	s := tell(t)
	foreign := &networkingv1.VirtualService{}
	foreign.Name = "web"
	foreign.Spec.Hosts = []string{"elsewhere.example.com"}
	foreign.Spec.Http = []*istio.HTTPRoute{{Route: []*istio.HTTPRouteDestination{{Destination: &istio.Destination{Host: "elsewhere.example.com"}}}}}
	s.create(foreign)
	s.route("web", simple)
	route := s.refused("web", v1alpha1.ReasonNameConflict)
	if !meta.IsStatusConditionTrue(route.Status.Conditions, v1alpha1.ConditionStalled) {
		t.Error("a person must act, and Stalled does not say so")
	}
	if !strings.Contains(message(route, v1alpha1.ConditionAccepted), "VirtualService web of namespace "+s.namespace) {
		t.Errorf("the message does not name the object: %s", message(route, v1alpha1.ConditionAccepted))
	}
	s.only("VirtualService/web") // nothing was written beside it
	s.quiet("web")
	after := s.virtualService("web")
	if diff := cmp.Diff(foreign.ResourceVersion, after.ResourceVersion); diff != "" {
		t.Errorf("somebody else's object was written: %s", diff)
	}
	s.delete(foreign)
	s.ready("web")
}

func TestAnObjectThatIsHandedOverIsAdopted(t *testing.T) {
	s := tell(t)
	foreign := &networkingv1.VirtualService{}
	foreign.Name = "web"
	foreign.Spec.Hosts = []string{"elsewhere.example.com"}
	foreign.Spec.Gateways = []string{"mesh"}
	foreign.Spec.Http = []*istio.HTTPRoute{{Route: []*istio.HTTPRouteDestination{{Destination: &istio.Destination{Host: "elsewhere.example.com"}}}}}
	s.create(foreign)
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
	s.quiet("web")
}

func TestAMoveToAnotherHostLosesNothing(t *testing.T) {
	s := tell(t)
	s.route("web", simple)
	s.ready("web")
	s.quiet()
	old := s.objects()

	began := time.Now()
	s.route("web", strings.ReplaceAll(simple, "api.example.com", "new.example.com"))
	switching := s.becomes("web", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonSwitching)
	if meta.IsStatusConditionTrue(switching.Status.Conditions, v1alpha1.ConditionStalled) {
		t.Error("a move is not stalled")
	}
	if both := s.objects(); len(both) != len(old)+2 {
		t.Errorf("old and new should stand side by side: %v", both)
	}
	if host := s.serves("web"); host != "api.example.com" {
		t.Errorf("traffic moved at once to %s", host)
	}
	s.until("traffic should move", func() string { return cmp.Diff("new.example.com", s.serves("web")) })
	moved := time.Now()
	if waited := moved.Sub(began); waited < settle {
		t.Errorf("traffic moved after %s, before the new upstream had settled", waited)
	}
	if both := s.objects(); len(both) != len(old)+2 {
		t.Errorf("the old upstream went before traffic had settled: %v", both)
	}
	s.ready("web")
	s.until("the old upstream should go", func() string { return cmp.Diff(len(old), len(s.objects())) })
	if waited := time.Since(moved); waited < settle/2 { // the move was seen late, by polling
		t.Errorf("the old upstream went after %s", waited)
	}
	s.quiet("web")
}

func TestARenamedDestinationMovesToANewSubset(t *testing.T) {
	s := tell(t)
	s.route("web", "hosts: [web]\ndestinations: [{name: old, url: 'https://api.example.com'}]")
	s.ready("web")
	s.quiet()
	subsets := func() int {
		rules := &networkingv1.DestinationRuleList{}
		if err := s.client.List(s.Context(), rules, client.InNamespace(s.namespace)); err != nil || len(rules.Items) != 1 {
			t.Fatalf("DestinationRules: %v %v", rules.Items, err)
		}
		return len(rules.Items[0].Spec.Subsets)
	}
	s.route("web", "hosts: [web]\ndestinations: [{name: new, url: 'https://api.example.com'}]")
	s.becomes("web", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonSwitching)
	if n := subsets(); n != 2 {
		t.Errorf("during the move the DestinationRule has %d subsets", n)
	}
	s.ready("web")
	if n := subsets(); n != 2 {
		t.Errorf("right after the move the DestinationRule has %d subsets", n)
	}
	s.until("the old subset should go", func() string { return cmp.Diff(1, subsets()) })
	s.quiet("web")
}

func TestSettingsChangeInPlace(t *testing.T) {
	s := tell(t)
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
	s.requests.writes(s.namespace)
	s.quiet("web")
}

func TestAnInvalidEditLeavesTheLastGoodVersionServing(t *testing.T) {
	s := tell(t)
	s.route("web", simple)
	s.ready("web")
	before := s.objects()
	s.requests.writes(s.namespace)
	s.route("web", simple+"\nexportTo: ['.', "+s.namespace+"]")
	route := s.refused("web", v1alpha1.ReasonInvalid)
	if !strings.Contains(message(route, v1alpha1.ConditionReady), "spec.exportTo[1]") {
		t.Errorf("the message does not name the field: %s", message(route, v1alpha1.ConditionReady))
	}
	if len(route.Status.Resources) != 4 || len(route.Status.Hosts) != 1 {
		t.Errorf("what still serves is not listed: %+v", route.Status)
	}
	if diff := cmp.Diff(before, s.objects()); diff != "" {
		t.Error(diff)
	}
	if writes := s.requests.writes(s.namespace); len(writes) != 1 {
		t.Errorf("wrote more than the status: %v", writes)
	}
	s.event("Invalid", "spec.exportTo[1]")
	s.route("web", simple)
	s.ready("web")
}

func TestARouteWaitsForWhatItNeeds(t *testing.T) {
	s := tell(t)
	s.route("web", simple+"\n  tls: {caConfigMap: ca}\nserviceCreationPolicy: Never")
	route := s.refused("web", v1alpha1.ReasonServiceMissing)
	if meta.FindStatusCondition(route.Status.Conditions, v1alpha1.ConditionStalled) != nil {
		t.Error("it heals by itself: not stalled")
	}
	s.create(service("web", nil, 80))
	s.refused("web", v1alpha1.ReasonCAConfigMapMissing)
	ca := &corev1.ConfigMap{Data: map[string]string{"ca.crt": "x"}}
	ca.Name = "ca"
	s.create(ca)
	s.ready("web")
	s.delete(ca)
	s.refused("web", v1alpha1.ReasonCAConfigMapMissing)
}

func TestAServiceThatIsUnusableIsToldAndWaitedFor(t *testing.T) {
	s := tell(t)
	unusable := service("web", nil, 8080)
	s.create(unusable)
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

func TestAServiceThatSomebodyTakesOverIsReleasedOnce(t *testing.T) {
	s := tell(t)
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
	s.quiet("web")
	s.delete(s.ready("web"))
	s.only("Service/web")
}

func TestATakenServiceOutlivesARouteThatIsRefusedBecauseOfIt(t *testing.T) {
	s := tell(t)
	s.route("web", simple+"\nexportTo: ['*']")
	s.ready("web")
	edit(s, service("web", nil, 80), func(v *corev1.Service) { v.Spec.Selector = map[string]string{"app": "web"} })
	s.delete(s.refused("web", v1alpha1.ReasonServiceNotUsable))
	s.only("Service/web")
}

func TestAChangeOfOnesOwnIsNoRepair(t *testing.T) {
	s := tell(t)
	own := service("web", nil, 80)
	s.create(own)
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
	s.quiet() // the status lists the Service a moment later
	s.route("web", simple+"\nport: 8080")
	s.until("the port should change", func() string {
		s.get("web", own)
		return cmp.Diff(int32(8080), own.Spec.Ports[0].Port)
	})
	s.ready("web")
	time.Sleep(500 * time.Millisecond)
	if writes := s.requests.writes(s.namespace); len(writes) != 2 { // the Service and the status
		t.Errorf("a new port took %d writes: %v", len(writes), writes)
	}
	if seen := s.events("Repaired"); len(seen) > 0 {
		t.Errorf("nobody broke anything, and yet: %v", seen)
	}
	s.quiet("web")
}

func TestASuspendedRouteWritesNothingButItsStatus(t *testing.T) {
	s := tell(t)
	s.route("web", simple)
	s.ready("web")
	s.route("web", simple+"\nsuspend: true")
	s.becomes("web", v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonSuspended)
	s.route("web", strings.ReplaceAll(simple, "/v1", "/v2")+"\nsuspend: true")
	s.becomes("web", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSuspended)
	s.requests.writes(s.namespace)
	edit(s, s.virtualService("web"), func(v *networkingv1.VirtualService) { v.Spec.Http = v.Spec.Http[:1] })
	time.Sleep(500 * time.Millisecond)
	if writes := s.requests.writes(s.namespace); len(writes) > 0 {
		t.Errorf("wrote although suspended: %v", writes)
	}
	s.route("web", simple)
	s.ready("web")
}

func TestRoutesShareARealHostAndDisturbNobody(t *testing.T) {
	s := tell(t)
	s.route("one", "hosts: [one]\ndestinations: [{url: 'https://api.example.com'}]")
	s.route("two", "hosts: [two]\ndestinations: [{url: 'https://api.example.com', tls: {sni: two.example.com}}]")
	s.ready("one")
	s.ready("two")
	if n := len(s.objects()); n != 8 {
		t.Fatalf("objects: %v", s.objects())
	}
	s.quiet("one", "two")
	s.delete(s.read("two"))
	s.until("the objects of two should go", func() string { return cmp.Diff(4, len(s.objects())) })
	s.quiet("one")
	s.ready("one")
}

func TestARouteOfTheSameNameMayBeMadeAgainAtOnce(t *testing.T) {
	s := tell(t)
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
	s.quiet("web")
}

// The collector may never learn that a route is gone, as when the API server was killed at the wrong moment.
func TestARouteMadeAgainNeedsNoGarbageCollector(t *testing.T) {
	s := tell(t)
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
	s.until("a second should pass, which is as exact as times of creation are", func() string {
		if time.Since(before.CreationTimestamp.Time) < 3*time.Second {
			return "not yet"
		}
		return ""
	})
	s.route("web", simple)
	route := s.ready("web")
	for _, object := range []client.Object{&corev1.Service{}, &networkingv1.VirtualService{}} {
		s.get("web", object)
		if !metav1.IsControlledBy(object, route) {
			t.Errorf("%T web is still the earlier route's", object)
		}
	}
	s.quiet("web")
}

// An object that somebody sets back as soon as it is brought back is not written at full speed, and the status says so until that ends.
func TestRepairsThatAreUndoneAtOnceAreSlowedDown(t *testing.T) {
	s := tell(t)
	s.route("web", simple)
	s.ready("web")
	wanted := s.virtualService("web").Spec.Http[0].Rewrite.Authority
	s.requests.writes(s.namespace)

	stubborn := time.Now().Add(3 * time.Second)
	said := ""
	for time.Now().Before(stubborn) {
		if s.virtualService("web").Spec.Http[0].Rewrite.Authority == wanted {
			edit(s, s.virtualService("web"), func(v *networkingv1.VirtualService) { v.Spec.Http[0].Rewrite.Authority = "evil.example.com" })
		}
		if route := s.read("web"); !meta.IsStatusConditionTrue(route.Status.Conditions, v1alpha1.ConditionProgrammed) {
			said = message(route, v1alpha1.ConditionProgrammed)
		}
	}
	if want := "Somebody changes or deletes VirtualService web as soon as it is brought back: the operator pauses between its repairs."; said != want {
		t.Errorf("the status said %q, not %q", said, want)
	}
	repairs := 0
	for _, write := range s.requests.writes(s.namespace) {
		if strings.HasSuffix(write, "/virtualservices/web") {
			repairs++
		}
	}
	// The pauses are 0, 0, 0.25, 0.5, 1, 2 and 4 seconds long.
	if repairs < 3 || repairs > 8 {
		t.Errorf("%d repairs in 3 seconds", repairs)
	}
	s.ready("web") // when the rival has given up
	if now := s.virtualService("web").Spec.Http[0].Rewrite.Authority; now != wanted {
		t.Errorf("Ready, and the authority is %q", now)
	}
	s.quiet("web")
}

func TestTheOperatorStartsBeforeIstio(t *testing.T) {
	c, err := startCluster(controlplane.Options{ExternalRoute: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.stop()
	if err := c.startOperator(); err != nil {
		t.Fatal(err)
	}
	s := tellIn(t, c)
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
	s.quiet("web")
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
