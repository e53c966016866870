package conflict

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/externalroute/externalroute/internal/translate"
)

// VirtualService is what matters of a VirtualService about who serves a host.
type VirtualService struct {
	Identity
	// Hosts are the names that it serves in the mesh, complete and without wildcards: those never win over a name (istio:
	// pilot/pkg/networking/core/route/route.go, separateVSHostsAndServices). There are none where it is not for the mesh.
	Hosts []string
	// Services are the full names of the Services that some of the hosts are shorter names of.
	Services []string
	// Wildcards are its other hosts if it has tcp routes, for which Istio does not prefer a name to a wildcard.
	Wildcards []string
	// Matches are the distinct conditions under which its http and tcp routes exist at all for a sidecar.
	Matches []Match
	// ExportTo are the namespaces that see it, its own written out; none means everybody.
	ExportTo []string
}

// Match is where a route of a VirtualService exists.
type Match struct {
	// TCP says that it is a tcp route. Istio uses http routes for a Service's HTTP ports only, and tcp routes for its TCP ports only.
	TCP bool
	// Port is the only port of the host, or 0.
	Port uint32
	// Labels are those that a pod needs.
	Labels map[string]string
	// Namespace is the only namespace of pods, or empty.
	Namespace string
}

const meshGateway = "mesh"

// VirtualServiceFacts reads them.
func VirtualServiceFacts(v *networkingv1.VirtualService, clusterDomain string) VirtualService {
	facts := VirtualService{Identity: IdentityOf(v), ExportTo: exportTo(v.Spec.ExportTo, v.Namespace)}
	if !forMesh(&v.Spec) {
		return facts
	}
	for _, host := range v.Spec.Hosts {
		if strings.HasPrefix(host, "*") {
			if len(v.Spec.Tcp) > 0 {
				facts.Wildcards = append(facts.Wildcards, strings.ToLower(host))
			}
			continue
		}
		if !strings.Contains(host, ".") {
			host = translate.ServiceHost(types.NamespacedName{Namespace: v.Namespace, Name: host}, clusterDomain)
		}
		facts.Hosts = append(facts.Hosts, strings.ToLower(host))
		if long := completed(host, clusterDomain); long != host { // sidecars know a Service by its shorter names, too: who is first has the name
			facts.Services = append(facts.Services, strings.ToLower(long))
		}
	}
	for _, route := range v.Spec.Http {
		if len(route.Match) == 0 {
			facts.add(Match{})
		}
		for _, m := range route.Match {
			switch {
			case len(m.Gateways) == 0:
				facts.add(Match{Port: m.Port, Labels: m.SourceLabels, Namespace: m.SourceNamespace})
			case slices.Contains(m.Gateways, meshGateway): // where gateways are named, Istio does not look at the source
				facts.add(Match{Port: m.Port})
			}
		}
	}
	for _, route := range v.Spec.Tcp {
		facts.addTCP(route)
	}
	return facts
}

// addTCP adds the matches of a tcp route, which Istio ignores if it has no destination. A match may be for some addresses only: whether the host's is among
// them is not known, so it counts.
func (v *VirtualService) addTCP(route *istio.TCPRoute) {
	if len(route.Route) == 0 {
		return
	}
	if len(route.Match) == 0 {
		v.add(Match{TCP: true})
	}
	for _, m := range route.Match {
		if len(m.Gateways) == 0 || slices.Contains(m.Gateways, meshGateway) {
			v.add(Match{TCP: true, Port: m.Port, Labels: m.SourceLabels, Namespace: m.SourceNamespace})
		}
	}
}

// completed is the Service's full name that NAME.NAMESPACE and NAME.NAMESPACE.svc may mean.
func completed(host, clusterDomain string) string {
	switch labels := strings.Split(host, "."); {
	case len(labels) == 2:
		return host + ".svc." + clusterDomain
	case len(labels) == 3 && labels[2] == "svc":
		return host + "." + clusterDomain
	}
	return host
}

func forMesh(spec *istio.VirtualService) bool {
	return len(spec.Gateways) == 0 || slices.Contains(spec.Gateways, meshGateway)
}

// Claims are the complete names that the VirtualService takes, or takes a part of.
func (v VirtualService) Claims() []Name {
	claims := make([]Name, 0, len(v.Hosts)+len(v.Services)+len(v.Wildcards))
	for _, host := range slices.Concat(v.Hosts, v.Services, v.Wildcards) {
		claims = append(claims, Name{Host: host})
	}
	return claims
}

func (v *VirtualService) add(m Match) {
	same := func(other Match) bool {
		return m.TCP == other.TCP && m.Port == other.Port && m.Namespace == other.Namespace && maps.Equal(m.Labels, other.Labels)
	}
	if !slices.ContainsFunc(v.Matches, same) {
		v.Matches = append(v.Matches, m)
	}
}

// serves says whether the VirtualService is one for the host: tcp routes have no shorter names.
func (v VirtualService) serves(host string, tcp bool) bool {
	if slices.Contains(v.Hosts, host) {
		return true
	}
	if !tcp {
		return slices.Contains(v.Services, host)
	}
	return slices.ContainsFunc(Wildcards(host), func(w string) bool { return slices.Contains(v.Wildcards, w) })
}

// Wildcards are those that include the host.
func Wildcards(host string) []string {
	wildcards := []string{"*"}
	for i := range host {
		if host[i] == '.' {
			wildcards = append(wildcards, "*"+host[i:])
		}
	}
	return wildcards
}

// On limits the matches that name no port to one: that of a Service that has no other for http.
func (v VirtualService) On(port uint32) VirtualService {
	v.Matches = slices.Clone(v.Matches)
	for i := range v.Matches {
		v.Matches[i].Port = cmp.Or(v.Matches[i].Port, port)
	}
	return v
}

// Beats says whether, for some of the pods that ours is for, Istio would let the other VirtualService serve one of our hosts, and which.
//
// Of all VirtualServices that have a route for a sidecar, the first serves a host and the others are dropped; first are those that only the sidecar's
// namespace sees, then those exported to it by name, then the public ones, the oldest first in each (istio: pilot/pkg/model/virtualservice.go,
// SelectVirtualServices; pilot/pkg/networking/core/httproute.go, BuildSidecarOutboundVirtualHosts). Of tcp routes, the first that matches counts
// (pilot/pkg/networking/core/tls.go, buildSidecarOutboundTCPFilterChainOpts).
func Beats(other, ours VirtualService) (host int, beats bool) {
	tcp := slices.ContainsFunc(ours.Matches, func(m Match) bool { return m.TCP })
	host = slices.IndexFunc(ours.Hosts, func(h string) bool { return other.serves(h, tcp) })
	if host < 0 {
		return 0, false
	}
	for _, client := range clients(other, ours) {
		theirs, mine := other.rank(client), ours.rank(client)
		if theirs == invisible || mine == invisible {
			continue
		}
		before := cmp.Or(cmp.Compare(theirs, mine), other.Compare(ours.Identity)) < 0
		if before && slices.ContainsFunc(other.Matches, func(m Match) bool { return m.covers(ours, client) }) {
			return host, true
		}
	}
	return 0, false
}

// covers says whether the match holds for pods that ours is for, on a port that it serves.
func (m Match) covers(ours VirtualService, client string) bool {
	if m.Namespace != "" && m.Namespace != client {
		return false
	}
	return slices.ContainsFunc(ours.Matches, func(mine Match) bool {
		for key, value := range m.Labels {
			if mine.Labels[key] != value {
				return false
			}
		}
		return m.TCP == mine.TCP && (m.Port == 0 || mine.Port == 0 || m.Port == mine.Port)
	})
}

// The ranks of VirtualServices for a sidecar.
const (
	private = iota
	exported
	public
	invisible
)

func (v VirtualService) rank(client string) int {
	switch {
	case len(v.ExportTo) == 0 || slices.Contains(v.ExportTo, "*"):
		return public
	case slices.Contains(v.ExportTo, "~") || !slices.Contains(v.ExportTo, client):
		return invisible
	case client == v.Namespace:
		return private
	}
	return exported
}

// clients are the namespaces whose sidecars can tell the two apart.
func clients(other, ours VirtualService) []string {
	names := slices.Concat([]string{ours.Namespace, other.Namespace}, ours.ExportTo, other.ExportTo)
	for _, m := range other.Matches {
		if m.Namespace != "" {
			names = append(names, m.Namespace)
		}
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(n string) bool { return n == "*" || n == "~" })
}

// exportTo writes the own namespace out.
func exportTo(list []string, namespace string) []string {
	var written []string
	for _, n := range list {
		if n == "." {
			n = namespace
		}
		written = append(written, n)
	}
	return written
}
