package conflict

import (
	"fmt"
	"slices"
	"strings"

	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
)

// Gateway is what matters of a Gateway beside another one of the same pods.
type Gateway struct {
	Identity
	// Selector are the labels of its pods; none means all.
	Selector map[string]string
	Servers  []Server
}

// Server is one of a Gateway's servers.
type Server struct {
	Port uint32
	// TLS says that it takes TLS, and Terminates that it does not pass it through.
	TLS, Terminates bool
	// Hosts are without their namespaces.
	Hosts []string
}

// GatewayFacts reads them. A server with an address of its own disturbs nobody.
func GatewayFacts(g *networkingv1.Gateway) Gateway {
	facts := Gateway{Identity: IdentityOf(g), Selector: g.Spec.Selector}
	for _, s := range g.Spec.Servers {
		if s.Bind != "" {
			continue
		}
		server := Server{Port: s.GetPort().GetNumber()}
		server.TLS = s.Tls != nil && slices.Contains([]string{"HTTPS", "TLS"}, strings.ToUpper(s.GetPort().GetProtocol()))
		server.Terminates = server.TLS && s.Tls.Mode != istio.ServerTLSSettings_PASSTHROUGH && s.Tls.Mode != istio.ServerTLSSettings_AUTO_PASSTHROUGH
		for _, host := range s.Hosts {
			_, name, found := strings.Cut(host, "/")
			if !found {
				name = host
			}
			server.Hosts = append(server.Hosts, name)
		}
		facts.Servers = append(facts.Servers, server)
	}
	return facts
}

// Claims are one name for all: pods belong to nobody.
func (g Gateway) Claims() []Name { return []Name{{}} }

// Disturbs says what of our Gateway would not be as it says beside another one, and what helps, or nothing.
//
// On a port of the same pods, Istio ignores a server with TLS if an older one has none. It drops a server of a host that another one has, in any namespace,
// only if both pass TLS through: a listener that passes and terminates TLS of one host is refused by Envoy, and the gateway takes no change any more (istio:
// pilot/pkg/model/gateway.go, mergeGateways).
func (g Gateway) Disturbs(ours Gateway) string {
	if !covers(g.Selector, ours.Selector) {
		return ""
	}
	for _, mine := range ours.Servers {
		for _, theirs := range g.Servers {
			if theirs.Port != mine.Port {
				continue
			}
			if !theirs.TLS && g.Compare(ours.Identity) < 0 {
				return fmt.Sprintf("has a server without TLS on port %d of the egress gateway, and Istio ignores the route's: remove that server, or use "+
					"another port", mine.Port)
			}
			i := slices.IndexFunc(mine.Hosts, func(h string) bool { return slices.Contains(theirs.Hosts, h) })
			if i >= 0 && theirs.Terminates != mine.Terminates {
				return fmt.Sprintf("terminates TLS of %s, which the route passes through, and Envoy refuses to do both: remove the host from one of the two", mine.Hosts[i])
			}
			if host, wildcard := taken(mine, theirs); host != "" {
				return fmt.Sprintf("terminates TLS of %s, from which the route would take %s: remove the host from the route, or use another egress gateway",
					wildcard, host)
			}
		}
	}
	return ""
}

// taken is a host whose TLS a server passes through and that another server terminates by a wildcard: Envoy prefers the complete name.
func taken(mine, theirs Server) (host, wildcard string) {
	if mine.Terminates || !theirs.Terminates {
		return "", ""
	}
	for _, host := range mine.Hosts {
		for _, wildcard := range Wildcards(host) {
			if slices.Contains(theirs.Hosts, wildcard) {
				return host, wildcard
			}
		}
	}
	return "", ""
}
