// Package conflict decides who else has what a route asks for, and what Istio would do with both. It is pure: it asks a World about other objects, and knows
// of translate only the objects that a route generates.
//
// Claims distinguish routes, which their objects make. Objects of other people are judged by Istio's own rules, each with its source; test/mesh compares
// these verdicts with istiod's simulation.
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
	"k8s.io/apimachinery/pkg/types"

	"github.com/externalroute/externalroute/internal/translate"
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

// InPlace are the terms of a plain port on which a host is upgraded in place. It leads nowhere by itself, and an endpoint of another route would open it.
const InPlace = "in place"

// Alone are the terms of a host that only its own namespace sees.
const Alone = "exported to ."

// Shares are the terms on which claims of one key can be shared, the empty one included: a claim on the empty terms is shared with nobody.
var Shares = []string{"", Subsets, InPlace, Alone, protocolHTTP, protocolTLS}

const (
	protocolHTTP = "HTTP"
	protocolTLS  = "TLS"
)

// Claim is what an object of a route takes for itself in a namespace: a host, the name of a Service, or a decision about a destination's host.
type Claim struct {
	// Key names what is claimed. Claims of different keys never clash.
	Key string
	// Share is the terms on which other routes may claim the key too: on the same terms, or not at all if it is empty.
	Share string
	// ExportTo is on what a claim on the empty terms can be shared all the same: on an equal one. It is the gateway in a claim for a host that is led to one.
	ExportTo string
	// Port limits a claim to one port of the host; 0 means every port.
	Port uint32
	// Labels limit a claim to pods with these labels.
	Labels map[string]string
	// Host is the host that is claimed: one that the route serves, or that of a destination.
	Host string
	// Serves reports that the route serves the host, or generates its Service, and does not only send requests there.
	Serves bool
}

// HostClaim claims a host, by its complete name, for the workloads of a namespace.
func HostClaim(namespace, host string, port uint32, labels map[string]string) Claim {
	return Claim{Key: "host " + namespace + "/" + host, Port: port, Labels: labels, Host: host, Serves: true}
}

// claim claims a host for the workloads that the match is for. Those of http and of tcp routes never clash: a port of a Service has one protocol.
func (m Match) claim(namespace, host string) Claim {
	claim := HostClaim(namespace, host, m.Port, m.Labels)
	if m.TCP {
		claim.Key = "tcp " + claim.Key
	}
	return claim
}

// Clashes reports whether two routes cannot both have what they claim.
func (c Claim) Clashes(other Claim) bool {
	switch {
	case c.Key != other.Key, c.Share == other.Share && c.ExportTo == other.ExportTo && (c.Share != "" || c.ExportTo != ""):
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

// ClaimsOf returns what one object of a route claims, whether the object stands or is only wanted.
func ClaimsOf(object translate.Object, clusterDomain string) []Claim {
	var claims []Claim
	switch o := object.(type) {
	case *corev1.Service:
		host := translate.ServiceHost(types.NamespacedName{Namespace: o.Namespace, Name: o.Name}, clusterDomain)
		claims = append(claims, Claim{Key: "service " + o.Namespace + "/" + o.Name, Host: host, Serves: true})
	case *networkingv1.VirtualService:
		facts := VirtualServiceFacts(o, clusterDomain)
		for _, host := range facts.Hosts {
			for _, m := range facts.Matches {
				claims = append(claims, m.claim(o.Namespace, host))
			}
		}
	case *networkingv1.ServiceEntry:
		facts := ServiceEntryFacts(o)
		for _, host := range facts.Hosts {
			for _, port := range facts.Ports {
				claim := Claim{Key: portKey + o.Namespace + "/" + host, Port: port.Number, Share: port.terms(), Host: host}
				if to := translate.LedTo(o); to != "" { // Istio merges the endpoints of all entries of the host
					claim.Share, claim.ExportTo = "", to
				}
				claims = append(claims, claim)
			}
			claims = append(claims, facts.exportClaim(host), ruleClaim(o.Namespace, host))
		}
	case *networkingv1.DestinationRule:
		claim := ruleClaim(o.Namespace, o.Spec.Host)
		if o.Spec.TrafficPolicy != nil {
			claim.Share = ""
		}
		claims = append(claims, claim)
	}
	return claims
}

// ruleClaim claims that nobody has settings for the whole of a host. A ServiceEntry needs that too: TLS that workloads originate themselves would be in TLS.
func ruleClaim(namespace, host string) Claim {
	return Claim{Key: "rule " + namespace + "/" + host, Share: Subsets, Host: host}
}

// exportClaim claims who sees a host: Istio merges the entries of a host only if their exportTo is equal.
func (e ServiceEntry) exportClaim(host string) Claim {
	claim := Claim{Key: exportKey + e.Namespace + "/" + host, Host: host, Share: Alone}
	if !slices.Equal(e.ExportTo, []string{"."}) {
		claim.Share, claim.ExportTo = "", cmp.Or(strings.Join(e.ExportTo, " "), "*")
	}
	return claim
}

const (
	exportKey = "export "
	portKey   = "port "
)

// Same reports whether two claims are for the same.
func (c Claim) Same(other Claim) bool {
	return c.Key == other.Key && c.Share == other.Share && c.ExportTo == other.ExportTo && c.Port == other.Port && maps.Equal(c.Labels, other.Labels)
}
