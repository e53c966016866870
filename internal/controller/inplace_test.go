package controller_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

const (
	inPlace = "hosts: [api.example.com]\ndestinations: [{url: 'https://api.example.com'}]"
	legacy  = "hosts: [legacy]\ndestinations: [{name: other, url: 'https://other.example.com'}, {name: old, url: 'http://api.example.com'}]"
)

// ports are those of the only ServiceEntry of a host in place, as NUMBER PROTOCOL TARGET.
func (s *story) ports(host string) []string {
	s.Helper()
	var entries networkingv1.ServiceEntryList
	if err := s.client.List(s.Context(), &entries, client.InNamespace(s.namespace)); err != nil {
		s.Fatal(err)
	}
	var ports []string
	for _, e := range entries.Items {
		if e.Spec.Hosts[0] != host {
			continue
		}
		for _, p := range e.Spec.Ports {
			ports = append(ports, fmt.Sprint(p.Number, " ", p.Protocol, " ", p.TargetPort))
		}
	}
	return ports
}

func TestPlainPortInPlaceLeadsNowhere(t *testing.T) {
	s := sharedStory(t)
	s.route("api", inPlace)
	s.ready("api")
	if diff := cmp.Diff([]string{"443 TLS 0", "80 HTTP 1"}, s.ports("api.example.com")); diff != "" {
		t.Error(diff)
	}
	s.quiet()
}

func TestRouteThatDeclaresThePlainPortWaits(t *testing.T) {
	s := sharedStory(t)
	s.route("api", inPlace)
	api := s.ready("api")
	s.route("legacy", legacy)
	s.refused("legacy", v1alpha1.ReasonDestinationConflict)
	s.says("legacy", v1alpha1.ConditionAccepted,
		"spec.destinations[1]: port 80 of api.example.com belongs to ExternalRoute NAMESPACE/api, which already uses it and upgrades the host in "+
			"place: with this destination, its requests would leave in plaintext without the VirtualService. Use https on another port, or remove the "+
			"destination")
	s.route("secure", "hosts: [secure]\ndestinations: [{url: 'https://api.example.com'}]")
	s.ready("secure") // which does not touch the plain port

	s.delete(api)
	s.ready("legacy")
	s.route("api", inPlace)
	s.refused("api", v1alpha1.ReasonDestinationConflict)
	s.says("api", v1alpha1.ConditionAccepted,
		"spec.destinations[0]: port 80 of api.example.com belongs to ExternalRoute NAMESPACE/legacy, which already uses it, and this route upgrades "+
			"the host in place on that port: requests would leave in plaintext without the VirtualService. Remove the destination with port 80 from the "+
			"other route")
	s.quiet()

	s.route("legacy", "hosts: [legacy]\ndestinations: [{url: 'https://other.example.com'}]")
	s.ready("legacy")
	s.ready("api") // by itself, when the entry of the plain port is gone
}

func TestServiceEntryThatDeclaresThePlainPortConflicts(t *testing.T) {
	s := sharedStory(t)
	entry := &networkingv1.ServiceEntry{}
	entry.Name = "theirs" // as Istio's own egress task has it
	entry.Spec = istio.ServiceEntry{
		Hosts: []string{"api.example.com"}, Location: istio.ServiceEntry_MESH_EXTERNAL, Resolution: istio.ServiceEntry_DNS, ExportTo: []string{"."},
		Ports: []*istio.ServicePort{{Number: 80, Name: "http-port", Protocol: "HTTP"}, {Number: 443, Name: "https", Protocol: "HTTPS"}},
	}
	s.create(entry)
	s.notice()
	s.route("api", inPlace)
	s.refused("api", v1alpha1.ReasonDestinationConflict)
	s.says("api", v1alpha1.ConditionAccepted,
		"spec.destinations[0]: ServiceEntry NAMESPACE/theirs for host api.example.com declares port 80, on which the route upgrades the host in "+
			"place: requests would leave in plaintext without the VirtualService. Remove port 80 from it, or delete it")
	s.only("ServiceEntry/theirs")
	s.quiet()
	s.delete(entry)
	s.later(s.resources(s.ready("api"), "ServiceEntry")[0])
	younger := &networkingv1.ServiceEntry{}
	younger.Name = "younger"
	entry.Spec.DeepCopyInto(&younger.Spec)
	s.create(younger)
	s.refused("api", v1alpha1.ReasonDestinationConflict)
	s.says("api", v1alpha1.ConditionAccepted,
		"spec.destinations[0]: ServiceEntry NAMESPACE/younger for host api.example.com declares port 80, on which the route upgrades the host in "+
			"place: requests would leave in plaintext without the VirtualService. Remove port 80 from it, or delete it")
	edit(s, younger, func(e *networkingv1.ServiceEntry) { e.Spec.Ports = e.Spec.Ports[1:] })
	s.ready("api")
}
