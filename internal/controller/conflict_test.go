package controller_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/conflict"
	"github.com/externalroute/externalroute/test/controlplane"
)

// says waits until a condition has a message, in which NAMESPACE stands for the story's namespace.
func (s *story) says(name, condition, want string) {
	s.Helper()
	want = strings.ReplaceAll(want, "NAMESPACE", s.namespace)
	s.until(name+" should say why", func() string { return cmp.Diff(want, message(s.read(name), condition)) })
}

func virtualService(name, exportTo string, hosts ...string) *networkingv1.VirtualService {
	v := &networkingv1.VirtualService{}
	v.Name = name
	v.Spec.Hosts = hosts
	v.Spec.ExportTo = []string{exportTo}
	v.Spec.Http = []*istio.HTTPRoute{{Route: []*istio.HTTPRouteDestination{{Destination: &istio.Destination{Host: "somewhere.example.com"}}}}}
	return v
}

func TestAHostBelongsToOneRoute(t *testing.T) {
	s := sharedStory(t)
	s.route("first", simple)
	first := s.ready("first")
	s.route("second", "hosts: [shop, web."+s.namespace+".svc]\ndestinations: [{url: 'https://second.example.com'}]")
	second := s.refused("second", v1alpha1.ReasonHostConflict)
	want := fmt.Sprintf("spec.hosts[1]: %s belongs to ExternalRoute %s/first, which already uses it: remove the host from one of the two routes",
		"web."+s.namespace+".svc.cluster.local", s.namespace)
	if said := message(second, v1alpha1.ConditionAccepted); said != want {
		t.Errorf("says\n%s\nand not\n%s", said, want)
	}
	s.until("nothing of the second one should be there", func() string { return cmpLen(4, s.objects()) })
	s.quiet()

	s.route("third", "hosts: [web]\ndestinations: [{url: 'https://third.example.com'}]")
	s.refused("third", v1alpha1.ReasonHostConflict)
	s.delete(first)
	s.ready("second")
	s.says("third", v1alpha1.ConditionAccepted,
		"spec.hosts[0]: web.NAMESPACE.svc.cluster.local belongs to ExternalRoute NAMESPACE/second, which already uses it: remove the host from one "+
			"of the two routes")
	s.route("second", "hosts: [shop]\ndestinations: [{url: 'https://second.example.com'}]")
	s.ready("third") // without anybody touching it
	s.quiet()
}

func TestInvalidRouteBlocksNoOtherRoute(t *testing.T) {
	s := sharedStory(t)
	s.create(service("web", nil, 8080))
	s.notice()
	s.route("older", simple)
	s.refused("older", v1alpha1.ReasonServiceNotUsable)
	s.route("younger", "hosts: [web]\nport: 8080\ndestinations: [{url: 'https://younger.example.com'}]")
	s.ready("younger")
	s.route("older", strings.Replace(simple, "hosts:", "port: 8080\nhosts:", 1))
	s.refused("older", v1alpha1.ReasonHostConflict) // it belongs to the one that serves it
	s.says("older", v1alpha1.ConditionAccepted,
		"spec.hosts[0]: web.NAMESPACE.svc.cluster.local belongs to ExternalRoute NAMESPACE/younger, which already uses it: remove the host from one "+
			"of the two routes")
}

func TestConcurrentRoutesShareNoHost(t *testing.T) {
	s := sharedStory(t)
	const routes = 12
	for i := range routes {
		s.route(fmt.Sprintf("route-%02d", i), fmt.Sprintf("hosts: [web, own-%d]\ndestinations: [{url: 'https://h%d.example.com'}]", i, i))
	}
	waiting := map[string]bool{}
	for i := range routes {
		waiting[fmt.Sprintf("route-%02d", i)] = true
	}
	for turn := 0; len(waiting) > 0; turn++ {
		var ready []string
		s.until("one of them should be ready, and the others wait", func() string {
			ready = nil
			for name := range waiting {
				switch route := s.read(name); {
				case conditionIs(route, v1alpha1.ConditionReady, metav1.ConditionTrue):
					ready = append(ready, name)
				case !conditionIs(route, v1alpha1.ConditionStalled, metav1.ConditionTrue):
					return name + " is not judged"
				}
			}
			return cmpLen(1, ready)
		})
		if oldest := slices.Min(slices.Collect(maps.Keys(waiting))); turn > 0 && ready[0] != oldest { // the first may be any: it serves
			t.Errorf("%s came before %s, which is older", ready[0], oldest)
		}
		if turn == 0 {
			s.quiet()
		}
		s.delete(s.read(ready[0]))
		delete(waiting, ready[0])
	}
}

func conditionIs(route *v1alpha1.ExternalRoute, condition string, value metav1.ConditionStatus) bool {
	for _, c := range route.Status.Conditions {
		if c.Type == condition {
			return c.Status == value && c.ObservedGeneration == route.Generation
		}
	}
	return false
}

func TestForeignVirtualServiceConflictsIfIstioPrefersIt(t *testing.T) {
	s := sharedStory(t)
	s.create(virtualService("theirs", ".", "web"))
	s.notice()
	s.route("web", simple)
	s.refused("web", v1alpha1.ReasonHostConflict)
	s.says("web", v1alpha1.ConditionAccepted,
		"spec.hosts[0]: web.NAMESPACE.svc.cluster.local is served by VirtualService NAMESPACE/theirs, which Istio prefers: remove the host from one "+
			"of the two, or delete one")
	s.only("VirtualService/theirs")
	s.quiet()
	edit(s, s.virtualService("theirs"), func(v *networkingv1.VirtualService) { v.Spec.Hosts = []string{"other"} })
	s.ready("web")

	edit(s, s.virtualService("theirs"), func(v *networkingv1.VirtualService) { v.Spec.Hosts = []string{"web"} }) // still older than ours
	s.refused("web", v1alpha1.ReasonHostConflict)
	s.until("what served goes on serving", func() string { return cmpLen(5, s.objects()) })
	s.delete(s.virtualService("theirs"))
	s.ready("web")

	s.create(virtualService("younger", ".", "web"))
	s.create(virtualService("public", "*", "web."+s.namespace+".svc.cluster.local"))
	s.quiet()
	s.ready("web")
}

func cmpLen(want int, list []string) string {
	if len(list) != want {
		return fmt.Sprint(list)
	}
	return ""
}

func TestForeignObjectsOfARealHostConflict(t *testing.T) {
	s := sharedStory(t)
	entry := &networkingv1.ServiceEntry{}
	entry.Name = "theirs"
	entry.Spec = istio.ServiceEntry{
		Hosts: []string{"api.example.com"}, Location: istio.ServiceEntry_MESH_EXTERNAL, Resolution: istio.ServiceEntry_DNS, ExportTo: []string{"."},
		Ports: []*istio.ServicePort{{Number: 8443, Name: "https", Protocol: "HTTPS"}},
	}
	s.create(entry)
	s.notice()
	s.route("web", "hosts: [web]\ndestinations: [{name: other, url: 'https://other.example.com'}, {url: 'https://api.example.com'}]")
	s.refused("web", v1alpha1.ReasonDestinationConflict)
	s.says("web", v1alpha1.ConditionAccepted,
		"spec.destinations[1]: ServiceEntry NAMESPACE/theirs for host api.example.com has other ports, labels or exportTo and is older, so that "+
			"Istio does not add the route's ports: change it to agree with the route, or delete it")
	s.only("ServiceEntry/theirs")
	s.quiet()
	edit(s, entry, func(e *networkingv1.ServiceEntry) { e.Spec.Ports[0].Number = 443 })
	s.ready("web")

	rule := &networkingv1.DestinationRule{}
	rule.Name = "theirs"
	rule.Spec.Host = "api.example.com"
	rule.Spec.TrafficPolicy = &istio.TrafficPolicy{Tls: &istio.ClientTLSSettings{Mode: istio.ClientTLSSettings_SIMPLE}}
	s.create(rule)
	s.refused("web", v1alpha1.ReasonDestinationConflict)
	s.says("web", v1alpha1.ConditionAccepted,
		"spec.destinations[1]: DestinationRule NAMESPACE/theirs for host api.example.com has another exportTo, and Istio would ignore the older of "+
			"the two: change it to agree with the route, or delete it")
	s.quiet()
	s.delete(rule)
	s.ready("web")
}

// Of routes of the same second, the one with the first name counts as the older.
func TestScopeHostCannotBeShared(t *testing.T) {
	s := sharedStory(t)
	s.route("first", "hosts: [one]\ndestinations: [{url: 'https://api.example.com'}]")
	s.ready("first")
	s.route("second", "hosts: [two]\ndestinations: [{url: 'https://api.example.com', tls: {scope: Host}}]")
	s.refused("second", v1alpha1.ReasonDestinationConflict)
	s.says("second", v1alpha1.ConditionAccepted,
		"spec.destinations[0]: api.example.com belongs to ExternalRoute NAMESPACE/first, which already uses it, and tls.scope Host cannot be shared "+
			"with another ExternalRoute: use tls.scope Route in both")
	s.route("third", "hosts: [three]\ndestinations: [{url: 'https://api.example.com'}]")
	s.refused("third", v1alpha1.ReasonDestinationConflict) // the second is older, and waits
	s.says("third", v1alpha1.ConditionAccepted,
		"spec.destinations[0]: api.example.com belongs to ExternalRoute NAMESPACE/second, which is older, and tls.scope Host cannot be shared with "+
			"another ExternalRoute: use tls.scope Route in both")
	s.delete(s.read("first"))
	s.ready("second")
	s.route("second", "hosts: [two]\ndestinations: [{url: 'https://api.example.com'}]")
	s.ready("second")
	s.ready("third")
}

func TestRestartKeepsServedHosts(t *testing.T) {
	s := sharedStory(t)
	s.route("web", simple)
	s.ready("web")
	s.route("aaa", "hosts: [web]\ndestinations: [{url: 'https://aaa.example.com'}]")
	s.refused("aaa", v1alpha1.ReasonHostConflict)
	for range 3 {
		if err := s.stopOperator(); err != nil {
			t.Fatal(err)
		}
		s.requests.writes(s.namespace)
		if err := s.startOperator(); err != nil {
			t.Fatal(err)
		}
		if writes := s.rest(); len(writes) > 0 {
			t.Fatalf("wrote after a restart: %v", writes)
		}
	}
	s.delete(s.read("web"))
	s.ready("aaa")
}

func TestARouteOfTheGatewayAPIForTheAliasIsARival(t *testing.T) {
	s := sharedStory(t)
	definition, err := os.ReadFile("testdata/httproutes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s.route("web", simple)
	s.ready("web")
	if err := s.plane.InstallCRDs(definition); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{conflict.HTTPRouteKind, conflict.GRPCRouteKind} {
		rival := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
			"metadata": map[string]any{"name": "theirs"},
			"spec":     map[string]any{"parentRefs": []any{map[string]any{"group": "", "kind": "Service", "name": "web", "port": int64(80)}}},
		}}
		s.create(rival)
		s.refused("web", v1alpha1.ReasonHostConflict)
		s.says("web", v1alpha1.ConditionAccepted,
			"spec.hosts[0]: web.NAMESPACE.svc.cluster.local is also served by "+kind+" NAMESPACE/theirs, and Istio does not define which of the two "+
				"applies: remove the Service from one of them")
		s.quiet()
		s.delete(rival)
		s.ready("web")
	}
}

func TestXBackendOfAHostInPlaceConflicts(t *testing.T) {
	c, err := startCluster(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.stop()
	if err := c.startOperator(); err != nil {
		t.Fatal(err)
	}
	s := newStory(t, c)
	definition, err := os.ReadFile("testdata/xbackends.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s.route("alias", simple)
	s.ready("alias")
	s.route("web", "hosts: [host.example.com]\ndestinations: [{url: 'https://host.example.com'}]")
	s.ready("web")
	if err := s.plane.InstallCRDs(definition); err != nil {
		t.Fatal(err)
	}
	rival := func(name, host string, port int64) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "gateway.networking.x-k8s.io/v1alpha1", "kind": "XBackend", "metadata": map[string]any{"name": name},
			"spec": map[string]any{
				"type": "ExternalHostname", "externalHostname": map[string]any{"hostname": host}, "port": map[string]any{"port": port}, "protocol": "HTTP2",
			},
		}}
	}
	s.create(rival("later", "api.example.com", 443)) // Istio asks the ServiceEntry of the route first
	s.create(rival("another-host", "another.example.com", 80))
	s.create(rival("another-port", "host.example.com", 8080))
	theirs := rival("theirs", "host.example.com", 80)
	s.create(theirs)
	s.refused("web", v1alpha1.ReasonDestinationConflict)
	s.says("web", v1alpha1.ConditionAccepted,
		"spec.destinations[0]: XBackend NAMESPACE/theirs for host host.example.com is a ServiceEntry to an istiod with PILOT_ENABLE_ALPHA_GATEWAY_API and "+
			"declares port 80, on which the route upgrades the host in place: requests would leave in plaintext without the VirtualService. Remove port 80 "+
			"from it, or delete it")
	s.quiet()
	s.ready("alias")
	s.delete(theirs)
	s.ready("web")

	s.create(rival("again", "host.example.com", 80))
	s.refused("web", v1alpha1.ReasonDestinationConflict)
	s.deleteDefinition("xbackends.gateway.networking.x-k8s.io")
	s.ready("web") // once nobody can have any
}

func (s *story) deleteDefinition(name string) {
	s.Helper()
	definition := &unstructured.Unstructured{}
	definition.SetAPIVersion("apiextensions.k8s.io/v1")
	definition.SetKind("CustomResourceDefinition")
	definition.SetName(name)
	if err := s.client.Delete(s.Context(), definition); err != nil {
		s.Fatal(err)
	}
}

func TestIstioGoesAndComesBack(t *testing.T) {
	c, err := startCluster(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.stop()
	if err := c.startOperator(); err != nil {
		t.Fatal(err)
	}
	s := newStory(t, c)
	s.route("web", simple)
	s.ready("web")
	definitions, err := controlplane.IstioCRDs()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, kind := range []string{"serviceentries", "destinationrules", "virtualservices"} {
			s.deleteDefinition(kind + ".networking.istio.io")
		}
		s.becomes("web", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonIstioNotInstalled)
		s.until("Istio's kinds should be gone", func() string {
			var list networkingv1.VirtualServiceList
			if err := s.client.List(t.Context(), &list); err == nil {
				return fmt.Sprint(len(list.Items))
			}
			return ""
		})
		if err := c.plane.InstallCRDs(definitions); err != nil {
			t.Fatal(err)
		}
		s.ready("web")
		s.until("all objects should stand again", func() string { return cmpLen(4, s.objects()) })
		s.quiet()
	}
}

func TestNamespaceWithRoutesCanBeDeleted(t *testing.T) {
	s := sharedStory(t)
	for i := range 5 {
		s.route(fmt.Sprintf("web-%d", i), fmt.Sprintf("hosts: [web-%d]\ndestinations: [{url: 'https://h%d.example.com'}]", i, i))
	}
	s.ready("web-4")
	namespace := &corev1.Namespace{}
	namespace.Name = s.namespace
	s.delete(namespace)
	s.until("the namespace should go", func() string {
		err := s.client.Get(t.Context(), client.ObjectKeyFromObject(namespace), namespace)
		if client.IgnoreNotFound(err) != nil || err == nil {
			return fmt.Sprint(err, namespace.Status)
		}
		return ""
	})
}

func TestKubectlWaitsForConditions(t *testing.T) {
	s := sharedStory(t)
	wait := func(name, condition, timeout string) error {
		out, err := s.plane.Kubectl(t.Context(), "wait", "-n", s.namespace, "--for=condition="+condition, "--timeout="+timeout, "externalroute/"+name).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w", out, err)
		}
		return nil
	}
	s.route("web", simple)
	if err := wait("web", "Ready", patience.String()); err != nil {
		t.Error(err)
	}
	s.route("second", simple)
	if err := wait("second", "Stalled", patience.String()); err != nil {
		t.Error(err)
	}
	const now = "0"
	if err := wait("second", "Ready", now); err == nil {
		t.Error("a stalled route is ready to kubectl")
	}
}

func TestAnotherVersionOfTheOperatorLeavesNoOrphans(t *testing.T) {
	s := sharedStory(t)
	s.route("web", simple)
	route := s.ready("web")
	if err := s.stopOperator(); err != nil {
		t.Fatal(err)
	}
	old := &networkingv1.ServiceEntry{} // as if the version before had named it otherwise
	old.Name = "web-as-it-was-named"
	old.Labels = map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}
	old.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(route, v1alpha1.SchemeGroupVersion.WithKind("ExternalRoute"))}
	old.Spec = istio.ServiceEntry{
		Hosts: []string{"raw.githubusercontent.com"}, Resolution: istio.ServiceEntry_DNS,
		Ports: []*istio.ServicePort{{Number: 443, Name: "https", Protocol: "TLS"}},
	}
	s.create(old)
	if err := s.startOperator(); err != nil {
		t.Fatal(err)
	}
	s.until("what the route does not want should go", func() string { return cmpLen(4, s.objects()) })
	s.quiet()
}
