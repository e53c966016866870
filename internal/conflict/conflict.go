// Package conflict says who else wants what a route wants, and what Istio would make of both. It is pure, over small facts about objects: no client, no
// clock, and nothing about how a route is translated.
//
// Routes among themselves are told apart by claims. What other people wrote is judged by Istio's own rules, which are named where they are used; the
// tests in test/mesh hold these verdicts against istiod's simulation.
package conflict

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Identity is an object's name and age, by which Istio orders.
type Identity struct {
	Namespace, Name string
	// Created is when it was created, in whole seconds. One that does not exist yet has none and is younger than all that do.
	Created time.Time
}

// IdentityOf reads it from an object.
func IdentityOf(object metav1.Object) Identity {
	return Identity{Namespace: object.GetNamespace(), Name: object.GetName(), Created: object.GetCreationTimestamp().Time}
}

// Name is what something is a rival for: a host, in a namespace or, where that is empty, for everybody.
type Name struct{ Namespace, Host string }

// Identify is the identity itself, for whoever has facts of some kind.
func (a Identity) Identify() Identity { return a }

// Compare orders as Istio does: by age, then by name, then by namespace (istio: pilot/pkg/model/config.go, configCompareByCreationTime).
func (a Identity) Compare(b Identity) int {
	switch {
	case a.Created.IsZero() && !b.Created.IsZero():
		return 1
	case b.Created.IsZero() && !a.Created.IsZero():
		return -1
	}
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Namespace, b.Namespace))
}

// Subsets are the terms on which routes share a DestinationRule's host: each has its subsets, and nothing for the whole host.
const Subsets = "subsets"

// Claim is what a route wants of a namespace: a host that it serves, a Service that it generates, or something that its objects decide about a
// destination's host.
type Claim struct {
	// Key names what is claimed. Claims of different keys never clash.
	Key string
	// Share says on what terms others may claim it as well: on the same terms, or not at all where it is empty.
	Share string
	// Port limits a claim to a port of the host; 0 is every port.
	Port uint32
	// Labels limit a claim to pods with these labels.
	Labels map[string]string
	// Hosts says that it is about one of the route's hosts, and not about a destination. Index is the place among hosts, or among upstreams.
	Hosts bool
	Index int
}

// HostClaim claims a host, by its complete name, for the workloads of a namespace.
func HostClaim(namespace, host string, port uint32, labels map[string]string, index int) Claim {
	return Claim{Key: "host " + namespace + "/" + host, Port: port, Labels: labels, Hosts: true, Index: index}
}

// Clashes says whether two routes cannot both have what they claim.
func (c Claim) Clashes(other Claim) bool {
	switch {
	case c.Key != other.Key, c.Share == other.Share && c.Share != "":
		return false
	case c.Port != 0 && other.Port != 0 && c.Port != other.Port:
		return false
	}
	for key, value := range c.Labels {
		if theirs, both := other.Labels[key]; both && theirs != value {
			return false // no pod has both
		}
	}
	return true
}

// ClaimsOf reads from the objects of one route, wanted or standing, what the route claims. Upstreams are counted by the ServiceEntries and the
// DestinationRules alike, which come in pairs.
func ClaimsOf(virtualService *networkingv1.VirtualService, services []*corev1.Service,
	entries []*networkingv1.ServiceEntry, rules []*networkingv1.DestinationRule, clusterDomain string,
) []Claim {
	var claims []Claim
	var hosts []string
	if virtualService != nil {
		facts := VirtualServiceFacts(virtualService, clusterDomain)
		hosts = facts.Hosts
		for i, host := range hosts {
			for _, m := range facts.Matches {
				claims = append(claims, HostClaim(virtualService.Namespace, host, m.Port, m.Labels, i))
			}
		}
	}
	for _, s := range services {
		alias := strings.Join([]string{s.Name, s.Namespace, "svc", clusterDomain}, ".")
		claims = append(claims, Claim{Key: "service " + s.Namespace + "/" + s.Name, Hosts: true, Index: max(0, slices.Index(hosts, alias))})
	}
	for i, e := range entries {
		facts := ServiceEntryFacts(e)
		for _, host := range facts.Hosts {
			for _, port := range facts.Ports {
				claims = append(claims, Claim{Key: "port " + e.Namespace + "/" + host, Port: port.Number, Share: port.Protocol, Index: i})
			}
		}
	}
	for i, d := range rules {
		claim := Claim{Key: "rule " + d.Namespace + "/" + d.Spec.Host, Share: Subsets, Index: i}
		if d.Spec.TrafficPolicy != nil {
			claim.Share = ""
		}
		claims = append(claims, claim)
	}
	return claims
}

// Same says whether two claims are for the same, whatever asks for it.
func (c Claim) Same(other Claim) bool {
	return c.Key == other.Key && c.Share == other.Share && c.Port == other.Port && maps.Equal(c.Labels, other.Labels)
}
