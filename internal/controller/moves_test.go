package controller_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

const passedHost = "www.example.com"

// entries are the ServiceEntries for a host of the story, by their UIDs, and where each of them leads.
func (s *story) entries(host string) map[types.UID]string {
	s.Helper()
	var list networkingv1.ServiceEntryList
	s.list(&list)
	found := map[types.UID]string{}
	for _, e := range list.Items {
		switch {
		case e.Spec.Hosts[0] != host:
		case len(e.Spec.Endpoints) == 0:
			found[e.UID] = "outside"
		default:
			found[e.UID], _, _ = strings.Cut(e.Spec.Endpoints[0].Address, ".")
		}
	}
	return found
}

// lead waits until the ServiceEntries of a host lead somewhere, and requires that they are those that were there before.
func (s *story) lead(before map[types.UID]string, host, where string) {
	s.Helper()
	want := map[types.UID]string{}
	for uid := range before {
		want[uid] = where
	}
	s.until("the entries of "+host+" should lead to "+where, func() string { return cmp.Diff(want, s.entries(host)) })
}

// leadsThrough is a policy that sends the story's namespace through a gateway.
func (s *story) leadsThrough(g gateways, gateway string) {
	s.Helper()
	s.policyFor("road", fmt.Sprintf("namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %s}}\n"+
		"allow: [{hosts: ['*.example.com'], schemes: [https, passthrough]}]\negressGateway: {name: %s, namespace: %s}", s.namespace, gateway, g.namespace))
}

// Routes of one host follow a policy together, and no entry of the host is missing meanwhile.
func TestPassThroughRoutesOfOneHostFollowAPolicy(t *testing.T) {
	g, s := newGateways(t, "east", "west"), sharedStory(t)
	for _, name := range []string{"first", "second", "third"} {
		s.route(name, "hosts: ["+passedHost+"]")
		s.ready(name)
	}
	before := s.entries(passedHost)
	for _, gateway := range []string{"east", "west"} {
		s.leadsThrough(g, gateway)
		s.lead(before, passedHost, gateway)
	}
	s.withoutPolicy("road")
	s.lead(before, passedHost, "outside")
	for _, name := range []string{"first", "second", "third"} {
		s.ready(name)
	}
}

// The same with a policy that comes before its gateway: until then, the status of each route says that it cannot move.
func TestPassThroughRoutesOfOneHostWaitForTheGatewayOfAPolicy(t *testing.T) {
	g, s := newGateways(t), sharedStory(t)
	for _, name := range []string{"first", "second"} {
		s.route(name, "hosts: ["+passedHost+"]")
		s.ready(name)
	}
	before := s.entries(passedHost)
	s.leadsThrough(g, "east")
	s.refused("first", v1alpha1.ReasonGatewayNotUsable)
	s.refused("second", v1alpha1.ReasonGatewayNotUsable)
	g.create(g.service("east"))
	s.lead(before, passedHost, "east")
}

// A policy withdraws a route that cannot move, and not those that share a host with it.
func TestPassThroughRouteFollowsAPolicyBesideASuspendedOne(t *testing.T) {
	g, s := newGateways(t, "east"), sharedStory(t)
	s.route("pass", "hosts: ["+passedHost+"]")
	s.ready("pass")
	before := s.entries(passedHost)
	s.route("suspended", "hosts: ["+passedHost+"]")
	s.ready("suspended")
	s.route("suspended", "suspend: true\nhosts: ["+passedHost+"]")
	s.becomes("suspended", v1alpha1.ConditionProgrammed, metav1.ConditionTrue, v1alpha1.ReasonSuspended)
	s.leadsThrough(g, "east")
	s.lead(before, passedHost, "east")
}

func TestPassThroughRouteFollowsAPolicyBesideADestination(t *testing.T) {
	g, s := newGateways(t, "east"), sharedStory(t)
	s.route("pass", "hosts: ["+passedHost+"]")
	s.ready("pass")
	pass := s.entries(passedHost)
	s.route("web", "hosts: [web]\ndestinations: [{url: 'https://"+passedHost+"'}]")
	s.ready("web")
	s.leadsThrough(g, "east")
	s.lead(pass, passedHost, "east")
	s.ready("pass")
	s.ready("web")
	if host := s.serves("web"); host != g.host("east") {
		t.Errorf("requests to web go to %s", host)
	}
	both := s.entries(passedHost)
	s.withoutPolicy("road")
	s.until("requests to web should leave directly", func() string { return cmp.Diff(passedHost, s.serves("web")) })
	for uid := range both {
		if s.entries(passedHost)[uid] != "outside" {
			t.Errorf("the entries are %v", s.entries(passedHost))
		}
	}
}

// Routes of one host change together what no one of them may change alone.
func TestPassThroughRoutesOfOneHostAreEditedTogether(t *testing.T) {
	g, s := newGateways(t, "east"), sharedStory(t)
	for _, name := range []string{"first", "second"} {
		s.route(name, "hosts: ["+passedHost+"]")
		s.ready(name)
	}
	before := s.entries(passedHost)
	for _, to := range []struct{ spec, leads string }{
		{"hosts: [" + passedHost + "]\nexportTo: [., other]", "outside"},
		{"hosts: [" + passedHost + "]", "outside"},
		{g.through("east", "hosts: ["+passedHost+"]"), "east"},
		{"hosts: [" + passedHost + "]", "outside"},
	} {
		s.route("first", to.spec)
		s.refused("first", v1alpha1.ReasonHostConflict)
		s.route("second", to.spec)
		s.ready("second")
		s.ready("first")
		s.lead(before, passedHost, to.leads)
	}
}

// A host in place keeps its own entry at a gateway. So one of the two routes must go, and the policy withdraws the one that would bypass the gateway.
func TestPassThroughRouteBesideAHostInPlaceLeavesWithItsPolicy(t *testing.T) {
	g, s := newGateways(t, "east"), sharedStory(t)
	s.route("pass", "hosts: ["+passedHost+"]")
	s.ready("pass")
	s.route("web", "hosts: ["+passedHost+"]\ndestinations: [{url: 'https://"+passedHost+"'}]")
	s.ready("web")
	s.leadsThrough(g, "east")
	s.refused("pass", v1alpha1.ReasonHostConflict)
	s.says("pass", v1alpha1.ConditionAccepted, "spec.hosts[0]: www.example.com belongs to ExternalRoute NAMESPACE/web, which already uses it, in place: its ServiceEntry "+
		"never leads to an egress gateway, and Istio would merge the endpoints of both. Remove the host from one of the two routes")
	s.ready("web")
	if entries := s.entries(passedHost); len(entries) != 1 {
		t.Errorf("the pass-through route still bypasses the gateway: %v", entries)
	}
	s.withoutPolicy("road")
	s.ready("pass")
}
