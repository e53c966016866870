package translate

import (
	"encoding/hex"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// tcpName names the ports of aliases and upstreams of TCP routes, and the aliases' application protocol.
const tcpName = "tcp"

// SpeaksTCP reports whether a route forwards connections, and does not read what they carry (docs/design/0016-tcp-routes.md). The API server lets a route
// have destinations of one kind only.
func SpeaksTCP(route *v1alpha1.ExternalRoute) bool {
	return slices.ContainsFunc(route.Spec.Destinations, func(d v1alpha1.Destination) bool { return isTCP(d.URL) })
}

func isTCP(url v1alpha1.URL) bool {
	return strings.HasPrefix(string(url), "tcp://") || strings.HasPrefix(string(url), "tls://")
}

// portIn is the port that a URL names, or 0.
func portIn(raw v1alpha1.URL) int32 {
	u, err := url.Parse(string(raw))
	if err != nil {
		return 0
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		return 0
	}
	return int32(port) //nolint:gosec // 16 bits
}

// tcpVirtualService sends the connections to the aliases' port to the destinations. It says nothing about their other ports.
func tcpVirtualService(route *v1alpha1.ExternalRoute, aliases []alias, destinations []*destination) (*networkingv1.VirtualService, field.ErrorList) {
	t := ruleTranslation{route: route, destinations: destinations}
	shares, problems := t.shares(&v1alpha1.Rule{}, field.NewPath("spec"))
	match := &istio.L4MatchAttributes{Port: uint32(PortOf(route))} //nolint:gosec // 1..65535 by schema
	if s := route.Spec.WorkloadSelector; s != nil {
		match.SourceLabels = selectorLabels(s)
	}
	tcp := &istio.TCPRoute{Match: []*istio.L4MatchAttributes{match}}
	for _, s := range shares {
		target := &istio.RouteDestination{Destination: s.target()}
		if len(shares) > 1 {
			target.Weight = s.weight
		}
		tcp.Route = append(tcp.Route, target)
	}
	virtualService := emptyVirtualService(route, aliases)
	virtualService.Spec.Tcp = []*istio.TCPRoute{tcp}
	return virtualService, problems
}

// addresses move the listener that Istio makes for a TCP upstream away from 0.0.0.0, where it would take every connection on its port: to a multicast
// address, to which nothing can connect. Those of two upstreams may be the same.
func (d *destination) addresses() []string {
	if !d.tcp {
		return nil
	}
	address := [4]byte{239}
	if _, err := hex.Decode(address[1:], []byte(d.upstream[:6])); err != nil {
		panic(err) // a private name begins with a hash
	}
	return []string{netip.AddrFrom4(address).String()}
}

// idlePolicy is for the whole host: Istio reads a TCP connection's idle timeout from nowhere else.
func idlePolicy(d *destination) *istio.TrafficPolicy {
	if d.ConnectionPool == nil || d.ConnectionPool.IdleTimeout == "" {
		return nil
	}
	return &istio.TrafficPolicy{ConnectionPool: &istio.ConnectionPoolSettings{
		Tcp: &istio.ConnectionPoolSettings_TCPSettings{IdleTimeout: duration(d.ConnectionPool.IdleTimeout)},
	}}
}

// refuseInPlace refuses hosts that are not aliases: the mesh cannot tell the connections to a real host from others on their port.
func refuseInPlace(route *v1alpha1.ExternalRoute, inPlace []string) field.ErrorList {
	var problems field.ErrorList
	for _, host := range inPlace {
		problems = append(problems, field.Invalid(hostPath(route, host), host,
			"is the host of a destination, and TCP carries no host name by which the mesh could tell its connections from others: use an alias, such as db"))
	}
	return problems
}
