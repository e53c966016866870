package translate

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// privateDomain ends the names of upstreams that are not known by their own. Nothing resolves below it; Istio's objects alone know these names.
const privateDomain = "externalroute.internal"

// maxName is the length of a DNS label, which subsets must be and other names are for the sake of the reader.
const maxName = 63

// hash is short enough for a name and long enough for a namespace: 40 bits. The same input gives the same hash for ever.
func hash(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(sum[:5])
}

// hashed appends a hash to a readable name, which is cut where the whole would be too long.
func hashed(name string, parts ...string) string {
	suffix := "-" + hash(parts...)
	if len(name) > maxName-len(suffix) {
		name = name[:maxName-len(suffix)]
	}
	return strings.TrimRight(name, "-.") + suffix
}

// upstreamObjectName names the ServiceEntry and the DestinationRule of an upstream. It depends on what identifies the upstream and on nothing else, so
// that an old and a new one can stand side by side while traffic moves over.
func upstreamObjectName(route, upstream string, port uint32, scheme string) string {
	return hashed(route, route, upstream, fmt.Sprint(port), scheme)
}

// subsetName names the subset that one destination of one route uses. It does not depend on settings, so that they change in place. It does depend on
// port and scheme: while traffic moves from one to the other, two DestinationRules of one host stand side by side, and Istio takes the older one's
// settings for a name that both have (istio: pilot/pkg/model/destination_rule.go, mergeDestinationRule) - plaintext, where that was http.
func subsetName(route, destination string, port uint32, scheme string) string {
	return hashed(strings.ReplaceAll(route, ".", "-")+"-"+destination, route, destination, fmt.Sprint(port), scheme)
}

// privateName names an upstream of a namespace: that of the route or, for a host that passes through a gateway, that of the gateway. The hash of what
// identifies the upstream makes the name unique.
func privateName(namespace string, parts ...string) string {
	return strings.Join([]string{hash(parts...), namespace, privateDomain}, ".")
}

func isPrivate(host string) bool { return strings.HasSuffix(host, "."+privateDomain) }

// gatewayDot stands for a dot in the name of a Gateway, which Istio takes only if it is a DNS label.
const gatewayDot = "--"

// gatewayName names the Gateway of a second leg.
func gatewayName(route, leg string) string {
	return hashed(strings.ReplaceAll(route, ".", gatewayDot), route, leg)
}

// RoutesOf returns the names of the routes that may generate an object of this kind and name, as far as the name tells: that of a long one is cut, and a
// Service has the name of a host. A VirtualService has the name of its route or, as a second leg, a hashed one.
func RoutesOf(key Key) (routes []string) {
	const suffix = 11 // of hashed
	if key.Kind == VirtualServiceKind.GVK.Kind {
		routes = append(routes, key.Name)
	}
	if cut := len(key.Name) - suffix; key.Kind != ServiceKind.GVK.Kind && cut > 0 && key.Name[cut] == '-' {
		routes = append(routes, key.Name[:cut])
	}
	if dotted := strings.ReplaceAll(key.Name, gatewayDot, "."); key.Kind == GatewayKind.GVK.Kind && dotted != key.Name {
		routes = append(routes, dotted[:max(0, len(dotted)-suffix)])
	}
	return routes
}
