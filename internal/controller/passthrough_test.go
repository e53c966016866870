package controller_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

const passed = `hosts: [www.example.com, "*.example.org"]`

func TestNewPassThroughRouteTakesTwoWrites(t *testing.T) {
	s := sharedStory(t)
	s.route("pass", "hosts: [www.example.com]")
	route := s.ready("pass")
	if diff := cmp.Diff([]string{"www.example.com"}, route.Status.Hosts); diff != "" {
		t.Error(diff)
	}
	if len(route.Status.Resources) != 1 || len(route.Status.Destinations) != 0 {
		t.Errorf("the status lists %v and %v", route.Status.Resources, route.Status.Destinations)
	}
	if said := message(route, v1alpha1.ConditionProgrammed); said != "The generated object is in sync." {
		t.Errorf("Programmed says %q", said)
	}
	s.only("ServiceEntry/" + route.Status.Resources[0].Name)
	if writes := s.rest(); len(writes) != 2 {
		t.Errorf("%d writes: %v", len(writes), writes)
	}
	s.quiet()
	s.delete(route)
	s.only()
}

// A ServiceEntry is written again if it is lost, changes in place if a host comes, and goes a settle time after the last of its hosts.
func TestPassThroughRouteIsRepairedAndEdited(t *testing.T) {
	s := sharedStory(t)
	s.route("pass", passed)
	route := s.ready("pass")
	entries := []string{"ServiceEntry/" + route.Status.Resources[0].Name, "ServiceEntry/" + route.Status.Resources[1].Name}
	s.rest()
	for _, object := range s.resources(route, "ServiceEntry", "ServiceEntry") {
		s.delete(object)
	}
	s.until("both entries are repaired", func() string { return cmp.Diff(slices.Sorted(slices.Values(entries)), s.objects()) })
	s.rest()
	s.route("pass", "hosts: [www.example.com, shop.example.com]")
	s.ready("pass")
	s.rest()
	left := s.read("pass").Status.Resources
	if len(left) != 1 {
		t.Fatalf("the status lists %v", left)
	}
	s.only("ServiceEntry/" + left[0].Name)
	entry := &networkingv1.ServiceEntry{}
	s.get(left[0].Name, entry)
	if diff := cmp.Diff([]string{"www.example.com", "shop.example.com"}, entry.Spec.Hosts); diff != "" {
		t.Error(diff)
	}
}

// A route that loses its destinations deletes its VirtualService when the new entry has settled, and what that used one settle time later.
func TestRouteBecomesPassThroughAndBack(t *testing.T) {
	s := sharedStory(t)
	s.route("web", simple)
	s.ready("web")
	s.rest()
	before := s.objects()
	s.clock.stop(t)
	s.route("web", "hosts: [api.example.com]\ndestinations: []")
	route := s.ready("web")
	if diff := cmp.Diff([]string{"api.example.com"}, route.Status.Hosts); diff != "" {
		t.Error(diff)
	}
	entry := "ServiceEntry/" + route.Status.Resources[0].Name
	s.only(append(slices.Clone(before), entry)...)
	s.after(settle, "web")
	s.only(append(slices.DeleteFunc(slices.Clone(before), func(name string) bool { return name == "VirtualService/web" }), entry)...)
	s.after(settle, "web")
	s.only(entry)

	s.route("web", simple)
	s.ready("web")
	s.only(append(slices.Clone(before), entry)...)
	s.after(settle, "web")
	s.only(before...)
	s.quiet()
}

// Two routes share a host unless their exportTo differ, and the second one begins when the first one is gone.
func TestPassThroughRoutesShareHosts(t *testing.T) {
	s := sharedStory(t)
	s.route("first", passed)
	first := s.ready("first")
	s.route("second", passed)
	s.ready("second")
	s.route("web", "hosts: [web]\ndestinations: [{url: 'https://www.example.com'}]")
	s.ready("web")
	s.route("public", "hosts: [www.example.com]\nexportTo: ['*']")
	public := s.refused("public", v1alpha1.ReasonHostConflict)
	if said := message(public, v1alpha1.ConditionAccepted); !strings.Contains(said, "use the same exportTo in both routes") {
		t.Error(said)
	}
	s.delete(first)
	s.delete(s.read("web"))
	s.refused("public", v1alpha1.ReasonHostConflict)
	s.delete(s.read("second"))
	s.ready("public")
	s.route("web", "hosts: [web]\ndestinations: [{url: 'https://www.example.com'}]")
	s.refused("web", v1alpha1.ReasonDestinationConflict)
	s.delete(s.read("public"))
	s.ready("web")
}

func TestPassThroughRouteWaitsForRivals(t *testing.T) {
	s := sharedStory(t)
	entry := &networkingv1.ServiceEntry{}
	entry.Name, entry.Namespace = "theirs", s.namespace
	entry.Spec.Hosts, entry.Spec.ExportTo, entry.Spec.Resolution = []string{"*.example.org"}, []string{"."}, istio.ServiceEntry_STATIC
	entry.Spec.Ports = []*istio.ServicePort{{Number: 443, Name: "tls", Protocol: "TLS"}}
	entry.Spec.Endpoints = []*istio.WorkloadEntry{{Address: "203.0.113.1"}}
	s.create(entry)
	rule := &networkingv1.DestinationRule{}
	rule.Name, rule.Namespace = "theirs", s.namespace
	rule.Spec.Host, rule.Spec.TrafficPolicy = "www.example.com", &istio.TrafficPolicy{Tls: &istio.ClientTLSSettings{Mode: istio.ClientTLSSettings_SIMPLE}}
	s.create(rule)
	s.notice()
	s.route("pass", passed)
	said := message(s.refused("pass", v1alpha1.ReasonDestinationConflict), v1alpha1.ConditionAccepted)
	for _, want := range []string{"spec.hosts[0]: DestinationRule", "spec.hosts[1]: ServiceEntry"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in %q", want, said)
		}
	}
	s.delete(entry)
	s.delete(rule)
	s.ready("pass")
}

func TestInvalidPassThroughRouteKeepsItsHosts(t *testing.T) {
	s := sharedStory(t)
	s.create(service("db", nil, 443))
	s.notice()
	s.route("pass", passed)
	s.ready("pass")
	s.rest()
	s.route("pass", fmt.Sprintf("hosts: [www.example.com, db.%s]", s.namespace))
	route := s.refused("pass", v1alpha1.ReasonInvalid)
	hosts := slices.Sorted(slices.Values(route.Status.Hosts))
	if diff := cmp.Diff([]string{"*.example.org", "www.example.com"}, hosts); diff != "" {
		t.Error(diff)
	}
	if len(route.Status.Resources) != 2 {
		t.Errorf("the status lists %v", route.Status.Resources)
	}
}
