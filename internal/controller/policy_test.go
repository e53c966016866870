package controller_test

import (
	"context"
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
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/config/crd"
	"github.com/externalroute/externalroute/internal/policy"
	"github.com/externalroute/externalroute/test/controlplane"
)

// policy applies a policy for the story's namespace, which goes with the story.
func (s *story) policy(name, allow string) {
	s.Helper()
	s.policyFor(name, fmt.Sprintf("namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %s}}\nallow: %s", s.namespace, allow))
}

// policyFor applies a policy whose spec is given as YAML.
func (s *story) policyFor(name, spec string) {
	s.Helper()
	p := &v1alpha1.ExternalRoutePolicy{ObjectMeta: metav1.ObjectMeta{Name: s.namespace + "-" + name}}
	var wanted v1alpha1.ExternalRoutePolicySpec
	if err := yaml.UnmarshalStrict([]byte(spec), &wanted); err != nil {
		s.Fatal(err)
	}
	err := s.client.Get(s.Context(), client.ObjectKeyFromObject(p), p)
	switch p.Spec = wanted; {
	case err == nil:
		err = s.client.Update(s.Context(), p)
	case client.IgnoreNotFound(err) == nil:
		s.Cleanup(func() { s.withoutPolicy(name) })
		err = s.client.Create(s.Context(), p)
	}
	if err != nil {
		s.Fatal(err)
	}
}

func (s *story) withoutPolicy(name string) {
	s.Helper()
	p := &v1alpha1.ExternalRoutePolicy{ObjectMeta: metav1.ObjectMeta{Name: s.namespace + "-" + name}}
	err := s.client.Delete(context.Background(), p) // the test may have ended
	if client.IgnoreNotFound(err) != nil {
		s.Error(err)
	}
}

const (
	allowsExample = `[{hosts: ["*.example.com"]}]`
	allowsOther   = `[{hosts: [other.example.org]}]`
)

// A route that no policy allows has no objects, and says which policies there are and what they allow. When one allows it, the operator programs it.
func TestAPolicyRefusesARouteAndAllowsItAgain(t *testing.T) {
	s := sharedStory(t)
	s.policy("a", allowsOther)
	s.route("web", simple)
	s.refused("web", v1alpha1.ReasonNotAllowedByPolicy)
	s.says("web", v1alpha1.ConditionAccepted, "spec.destinations[0].url: https://api.example.com:443 is not allowed in namespace NAMESPACE. ExternalRoutePolicy "+
		"NAMESPACE-a allows https://other.example.org:443: use one of these, or ask the platform team")
	s.only()
	s.quiet()
	s.policy("a", allowsExample)
	s.ready("web")
	s.quiet()

	s.policy("a", allowsOther)
	route := s.refused("web", v1alpha1.ReasonNotAllowedByPolicy)
	s.only()
	if len(route.Status.Resources)+len(route.Status.Hosts) > 0 {
		t.Errorf("the status lists %v and %v", route.Status.Resources, route.Status.Hosts)
	}
	s.says("web", v1alpha1.ConditionProgrammed, "The spec is not allowed; the operator deletes all generated objects.")
	s.quiet()
	s.withoutPolicy("a")
	s.ready("web")
}

// The objects of a route that is not allowed any more go at once, the VirtualService first, even if the route is suspended.
func TestAPolicyDeletesTheObjectsOfASuspendedRoute(t *testing.T) {
	s := sharedStory(t)
	s.route("web", simple)
	s.ready("web")
	s.rest()
	s.route("web", simple+"\nsuspend: true")
	s.becomes("web", v1alpha1.ConditionProgrammed, metav1.ConditionTrue, v1alpha1.ReasonSuspended)
	s.requests.writes(s.namespace)
	s.policy("a", allowsOther)
	s.refused("web", v1alpha1.ReasonNotAllowedByPolicy)
	s.only()
	var deleted []string
	for _, write := range s.requests.writes(s.namespace) {
		if path, is := strings.CutPrefix(write, "DELETE "); is {
			_, object, _ := strings.Cut(path, s.namespace+"/")
			deleted = append(deleted, strings.Split(object, "/")[0])
		}
	}
	if diff := cmp.Diff([]string{"virtualservices", "destinationrules", "serviceentries", "services"}, deleted); diff != "" {
		t.Errorf("deletions (-want +got)\n%s", diff)
	}
	s.withoutPolicy("a")
	s.becomes("web", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonSuspended)
	s.only()
}

// A spec that is invalid, or suspended and edited, does not keep objects that a policy no longer allows.
func TestObjectsOfAnEarlierSpecDoNotOutliveTheirPermission(t *testing.T) {
	for name, edit := range map[string]string{
		"invalid":   "hosts: [web.elsewhere.svc]\ndestinations: [{url: 'https://other.example.org'}]",
		"suspended": "suspend: true\nhosts: [web]\ndestinations: [{url: 'https://other.example.org'}]",
	} {
		t.Run(name, func(t *testing.T) {
			s := sharedStory(t)
			s.policy("a", `[{hosts: ["*.example.com", other.example.org], endpoints: Any}]`)
			s.route("web", simple)
			s.ready("web")
			s.route("dial", "hosts: [dial]\ndestinations: [{url: 'https://dial.example.com', endpoints: [{address: 10.1.2.3}]}]")
			s.ready("dial")
			s.rest()
			s.route("web", edit)
			s.route("dial", strings.ReplaceAll(edit, "web", "dial"))
			s.until("the operator should have seen the edits", func() string {
				for _, name := range []string{"web", "dial"} {
					if route := s.read(name); route.Status.ObservedGeneration != route.Generation {
						return name
					}
				}
				return ""
			})
			if len(s.objects()) != 8 {
				t.Fatalf("the objects of the last accepted spec are gone: %v", s.objects())
			}
			s.policy("a", allowsOther)
			s.until("the objects should go", func() string { return cmp.Diff([]string(nil), s.objects()) })
			for _, name := range []string{"web", "dial"} {
				route := s.read(name)
				if meta.IsStatusConditionTrue(route.Status.Conditions, v1alpha1.ConditionReady) {
					t.Errorf("%s is ready", name)
				}
			}
			s.quiet()
		})
	}
}

// A change of a policy takes one write of each status that it changes, and none of a route that it does not concern.
func TestAPolicyConcernsTheRoutesOfItsNamespaces(t *testing.T) {
	s, other := sharedStory(t), sharedStory(t)
	for _, each := range []*story{s, other} {
		each.route("web", simple)
		each.route("shop", "hosts: [shop]\ndestinations: [{url: 'https://other.example.org'}]")
		each.ready("web")
		each.ready("shop")
		each.quiet()
	}
	s.policyFor("team", "namespaceSelector: {matchLabels: {istio-team: payments}}\nallow: "+allowsExample)
	s.until("the policy should be valid", func() string {
		p := &v1alpha1.ExternalRoutePolicy{}
		if err := s.client.Get(t.Context(), client.ObjectKey{Name: s.namespace + "-team"}, p); err != nil {
			return err.Error()
		}
		ready := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionReady)
		return cmp.Diff("True Valid 1", fmt.Sprint(ready.Status, " ", ready.Reason, " ", ready.ObservedGeneration))
	})
	if writes := slices.Concat(s.rest(), other.rest()); len(writes) > 0 {
		t.Errorf("a policy that selects no namespace took %v", writes)
	}
	s.label(map[string]string{"istio-team": "payments"})
	s.refused("shop", v1alpha1.ReasonNotAllowedByPolicy)
	s.ready("web")
	writes := s.rest()
	if i := slices.Index(writes, s.statusPath("shop")); i < 0 || len(writes) != 5 { // the status, and four deletions
		t.Errorf("the label took %v", writes)
	}
	s.label(nil)
	s.ready("shop")
	s.rest()
	if writes := other.rest(); len(writes) > 0 {
		t.Errorf("the labels of another namespace took writes: %v", writes)
	}
	path := "/apis/" + v1alpha1.SchemeGroupVersion.String() + "/externalroutepolicies/" + s.namespace + "-team/status"
	if writes := s.requests.to(path); len(writes) != 1 {
		t.Errorf("the status of the policy took %v", writes)
	}
}

// Unverified TLS needs a policy that allows it, also where no policy selects the namespace.
func TestUnverifiedTLSNeedsAPolicy(t *testing.T) {
	s := sharedStory(t)
	s.route("web", "hosts: [web]\ndestinations: [{url: 'https://api.example.com', tls: {insecureSkipVerify: true}}]")
	s.refused("web", v1alpha1.ReasonNotAllowedByPolicy)
	s.policy("a", `[{hosts: [api.example.com], insecureSkipVerify: true}]`)
	route := s.ready("web")
	for _, resource := range route.Status.Resources {
		if resource.Kind == "DestinationRule" {
			rule := &networkingv1.DestinationRule{}
			s.get(resource.Name, rule)
			tls := rule.Spec.Subsets[0].TrafficPolicy.Tls
			if !tls.InsecureSkipVerify.GetValue() || tls.Sni != "api.example.com" || len(tls.SubjectAltNames) > 0 {
				t.Errorf("TLS is %v", tls)
			}
		}
	}
}

// An operator whose default is Deny allows nothing without a policy, nor if it cannot read the policies. What it has programmed stays then.
func TestDenyByDefault(t *testing.T) {
	c, err := startCluster(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	c.defaultPolicy = policy.Deny
	s := newStory(t, c)
	if err := c.startOperator(); err != nil {
		t.Fatal(err)
	}
	s.route("web", simple)
	s.refused("web", v1alpha1.ReasonNotAllowedByPolicy)
	s.says("web", v1alpha1.ConditionAccepted, "spec.destinations[0].url: no ExternalRoutePolicy selects namespace NAMESPACE, and the operator runs with "+
		"--default-policy=Deny: ask the platform team for a policy that allows https://api.example.com:443")
	s.policy("a", allowsExample)
	s.ready("web")
	for _, resource := range []string{"externalroutepolicies." + v1alpha1.GroupName, "namespaces"} {
		if err := c.stopOperator(); err != nil {
			t.Fatal(err)
		}
		c.allowReading(s, resource, false)
		if err := c.startOperator(); err != nil {
			t.Fatal(err)
		}
		s.refused("web", v1alpha1.ReasonNotAllowedByPolicy)
		if said := message(s.read("web"), v1alpha1.ConditionAccepted); !strings.HasPrefix(said, "spec: the operator runs with --default-policy=Deny and cannot read") {
			t.Errorf("without %s, the status says %q", resource, said)
		}
		if len(s.objects()) != 4 {
			t.Errorf("without %s, there are only %v", resource, s.objects())
		}
		c.allowReading(s, resource, true)
		s.ready("web")
	}
}

// An operator that starts before the CRD of policies exists works as if there were none, and obeys them when it comes.
func TestThePolicyCRDComesLater(t *testing.T) {
	c, err := startCluster(controlplane.Options{Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	if err := c.plane.InstallCRDs(crd.ExternalRoutes); err != nil {
		t.Fatal(err)
	}
	if err := c.startOperator(); err != nil {
		t.Fatal(err)
	}
	s := newStory(t, c)
	s.route("web", simple)
	s.ready("web")
	if err := c.plane.InstallCRDs(crd.ExternalRoutePolicies); err != nil {
		t.Fatal(err)
	}
	s.policy("a", allowsOther)
	s.refused("web", v1alpha1.ReasonNotAllowedByPolicy)
	s.only()
}

// A namespace is deleted with its routes, whatever policies there are.
func TestANamespaceThatAPolicySelectsGoes(t *testing.T) {
	s := sharedStory(t)
	s.policy("a", allowsExample)
	s.route("web", simple)
	s.ready("web")
	if err := s.client.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}); err != nil {
		t.Fatal(err)
	}
	s.until("the routes should go", func() string {
		var routes v1alpha1.ExternalRouteList
		if err := s.client.List(t.Context(), &routes, client.InNamespace(s.namespace)); err != nil {
			return err.Error()
		}
		return cmp.Diff(0, len(routes.Items))
	})
}

// road applies a policy that sends the story's namespace through a gateway.
func (s *story) road(name string, g gateways, gateway string) {
	s.Helper()
	s.policyFor(name, fmt.Sprintf("namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %s}}\nallow: %s\negressGateway: {name: %s, namespace: %s}",
		s.namespace, allowsExample, gateway, g.namespace))
}

// A policy moves the routes of its namespaces to its gateway, to another one, and back to where they went: what the first leg uses is there before it moves.
func TestAPolicyMovesRoutesToItsGatewayAndBack(t *testing.T) {
	g, s := newGateways(t, "east", "west"), sharedStory(t)
	s.route("web", simple)
	s.ready("web")
	direct := s.kinds()
	s.clock.stop(t)
	for _, step := range []struct {
		policy        func()
		before, after string
		left          map[string]int
	}{
		{func() { s.road("a", g, "east") }, "api.example.com", g.host("east"), throughGateway},
		{func() { s.road("a", g, "west") }, g.host("east"), g.host("west"), throughGateway},
		{func() { s.withoutPolicy("a") }, g.host("west"), "api.example.com", direct},
	} {
		step.policy()
		s.becomes("web", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonSwitching)
		if host := s.serves("web"); host != step.before {
			t.Errorf("traffic moved to %s at once", host)
		}
		s.after(settle, "web")
		s.ready("web")
		if host := s.serves("web"); host != step.after {
			t.Errorf("traffic did not move to %s, but to %s", step.after, host)
		}
		s.after(settle, "web")
		s.until("the old way should go", func() string { return cmp.Diff(step.left, s.kinds()) })
	}
	s.says("web", v1alpha1.ConditionAccepted, "The route is valid.")
	s.quiet()
}

// The status says which gateway requests take, and which policy asks for it. The gateway's Service and other Gateways matter as if the route named it.
func TestTheGatewayOfAPolicyIsTheRoutes(t *testing.T) {
	g, s := newGateways(t), sharedStory(t)
	s.road("a", g, "egress")
	s.route("web", simple)
	s.refused("web", v1alpha1.ReasonGatewayNotUsable)
	s.only()
	g.create(g.service("egress"))
	s.ready("web")
	s.says("web", v1alpha1.ConditionAccepted, fmt.Sprintf("The route is valid. Requests leave through egress gateway %s/egress, as ExternalRoutePolicy NAMESPACE-a asks.", g.namespace))
	if diff := cmp.Diff(throughGateway, s.kinds()); diff != "" {
		t.Error(diff)
	}
	s.quiet()
	rival := &networkingv1.DestinationRule{ObjectMeta: metav1.ObjectMeta{Name: "rival", Namespace: s.namespace}}
	rival.Spec.Host = g.host("egress")
	rival.Spec.TrafficPolicy = &istio.TrafficPolicy{Tls: &istio.ClientTLSSettings{Mode: istio.ClientTLSSettings_DISABLE}}
	s.create(rival)
	s.refused("web", v1alpha1.ReasonDestinationConflict)
	s.delete(rival)
	s.ready("web")
}

// What a route programmed before its namespace got a gateway keeps serving while the gateway is missing, and not while the route itself cannot take the road.
func TestWhatBypassesTheGatewayOfAPolicyGoes(t *testing.T) {
	g, s := newGateways(t), sharedStory(t)
	s.route("web", simple)
	s.ready("web")
	s.route("idle", "hosts: [idle]\ndestinations: [{url: 'https://idle.example.com'}]")
	s.ready("idle")
	s.route("idle", "suspend: true\nhosts: [idle]\ndestinations: [{url: 'https://idle.example.com'}]")
	s.becomes("idle", v1alpha1.ConditionProgrammed, metav1.ConditionTrue, v1alpha1.ReasonSuspended)
	s.route("db", "hosts: [db]\ndestinations: [{url: 'tcp://db.example.com:5432'}]")
	s.ready("db")
	s.policyFor("a", fmt.Sprintf("namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %s}}\nallow: [{hosts: ['*.example.com'], schemes: [https, tcp], ports: [443, 5432]}]\n"+
		"egressGateway: {name: egress, namespace: %s}", s.namespace, g.namespace))
	s.refused("db", v1alpha1.ReasonNotAllowedByPolicy)
	s.says("db", v1alpha1.ConditionAccepted, fmt.Sprintf("spec.destinations: an egress gateway takes http and https destinations, and no TCP, or ask the platform team: "+
		"ExternalRoutePolicy NAMESPACE-a sends the routes of namespace NAMESPACE through egress gateway %s/egress", g.namespace))
	s.refused("web", v1alpha1.ReasonGatewayNotUsable)
	s.until("the objects of the TCP route should go", func() string {
		return cmp.Diff(map[string]int{"Service": 2, "ServiceEntry": 2, "DestinationRule": 2, "VirtualService": 2}, s.kinds())
	})
	g.create(g.service("egress"))
	s.ready("web")
	s.until("the objects of the suspended route should go", func() string { return cmp.Diff(throughGateway, s.kinds()) })
	s.becomes("idle", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonSuspended)
}

// Policies that disagree about the gateway refuse the routes of the namespace. Those that lead to one of the two keep serving.
func TestPoliciesDisagreeAboutTheGateway(t *testing.T) {
	g, s := newGateways(t, "east", "west"), sharedStory(t)
	s.road("a", g, "east")
	s.route("web", simple)
	s.ready("web")
	s.rest()
	stands := s.objects()
	s.road("b", g, "west")
	s.refused("web", v1alpha1.ReasonNotAllowedByPolicy)
	s.says("web", v1alpha1.ConditionAccepted, fmt.Sprintf("spec.egressGateway: policies of namespace NAMESPACE disagree about the egress gateway: ExternalRoutePolicy "+
		"NAMESPACE-a names %[1]s/east, ExternalRoutePolicy NAMESPACE-b names %[1]s/west. Ask the platform team to name one", g.namespace))
	s.only(stands...)
	s.route("new", "hosts: [new]\ndestinations: [{url: 'https://new.example.com'}]")
	s.refused("new", v1alpha1.ReasonNotAllowedByPolicy)
	s.only(stands...)
	s.withoutPolicy("b")
	s.ready("web")
	s.ready("new")
}

// A Secret of the gateway is a client certificate only with a policy that allows it.
func TestAClientCertificateOfTheGatewayNeedsAPolicy(t *testing.T) {
	g, s := newGateways(t, "egress"), sharedStory(t)
	s.route("web", g.through("egress", "hosts: [web]\ndestinations: [{url: 'https://api.example.com', tls: {clientCertificateRef: {name: ours}}}]"))
	s.refused("web", v1alpha1.ReasonNotAllowedByPolicy)
	s.only()
	s.policy("a", `[{hosts: [api.example.com], clientCertificates: [ours]}]`)
	s.ready("web")
	s.says("web", v1alpha1.ConditionAccepted,
		fmt.Sprintf("The route is valid. Egress gateway %s/egress shows Secret ours of its namespace: requests get 503 unless its ServiceAccount may list Secrets there.", g.namespace))
	s.policy("a", `[{hosts: [api.example.com], clientCertificates: [theirs]}]`)
	s.refused("web", v1alpha1.ReasonNotAllowedByPolicy)
	s.only()
}
