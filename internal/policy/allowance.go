package policy

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// allowance is an entry of a policy with its defaults filled in.
type allowance struct {
	hosts     []string
	ports     []uint32
	schemes   []v1alpha1.PolicyScheme
	endpoints v1alpha1.EndpointsAllowed
	exportTo  []string
	secrets   []string
	skips     bool
}

func readAllowance(spec *v1alpha1.Allowance) *allowance {
	a := &allowance{schemes: spec.Schemes, endpoints: spec.Endpoints, skips: spec.InsecureSkipVerify}
	for _, host := range spec.Hosts {
		a.hosts = append(a.hosts, string(host))
	}
	for _, port := range spec.Ports {
		a.ports = append(a.ports, uint32(port)) //nolint:gosec // 1..65535 by schema
	}
	for _, namespace := range spec.ExportTo {
		a.exportTo = append(a.exportTo, string(namespace))
	}
	for _, secret := range spec.ClientCertificates {
		a.secrets = append(a.secrets, string(secret))
	}
	if len(a.ports) == 0 {
		a.ports = []uint32{443}
	}
	if len(a.schemes) == 0 {
		a.schemes = []v1alpha1.PolicyScheme{"https"}
	}
	if a.endpoints == "" {
		a.endpoints = v1alpha1.EndpointsHost
	}
	return a
}

// allows reports whether the entry, one of whose hosts includes that of the reach, allows all of it.
func (a *allowance) allows(r translate.Reach, exportTo []string) bool {
	return slices.Contains(a.schemes, r.Scheme) && slices.Contains(a.ports, r.Port) && (a.skips || r.SkipsVerify == nil) &&
		!slices.ContainsFunc(r.ClientCertificates, func(s translate.SecretReach) bool { return !slices.Contains(a.secrets, s.Name) }) &&
		!slices.ContainsFunc(r.Endpoints, func(e translate.EndpointReach) bool { return !a.allowsEndpoint(e, r.Port) }) &&
		!slices.ContainsFunc(exportTo, func(namespace string) bool { return !a.exports(namespace) })
}

// allowsEndpoint reports whether a destination may connect to an address. Its port must be that of the URL, or one of the entry.
func (a *allowance) allowsEndpoint(e translate.EndpointReach, urlPort uint32) bool {
	switch {
	case a.endpoints == v1alpha1.EndpointsAny:
		return true
	case a.endpoints != v1alpha1.EndpointsPublic, e.Port != urlPort && !slices.Contains(a.ports, e.Port):
		return false
	}
	if address, err := netip.ParseAddr(e.Address); err == nil {
		return public(address)
	}
	return slices.ContainsFunc(a.hosts, func(host string) bool { return includes(host, e.Address) })
}

// exports reports whether a route may be exported to a namespace. Its own may always see it.
func (a *allowance) exports(namespace string) bool {
	return namespace == "." || slices.Contains(a.exportTo, namespace) || slices.Contains(a.exportTo, "*")
}

// cutWildcard returns the domain of a wildcard.
func cutWildcard(host string) (domain string, is bool) { return strings.CutPrefix(host, "*.") }

// includes reports whether an allowed host, which may be a wildcard, includes a host, which may be one too. A wildcard includes the names that end with its
// domain, and not the domain itself; a wildcard is included in another one of the same domain or of a domain above it.
func includes(allowed, host string) bool {
	domain, wildcard := cutWildcard(allowed)
	if !wildcard {
		return allowed == host
	}
	return strings.HasSuffix(host, "."+domain)
}

// notPublic are the networks of the IANA special-purpose registries that are not globally reachable, besides those that netip knows.
var notPublic = func() []netip.Prefix {
	var all []netip.Prefix
	for _, network := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10",
	} {
		all = append(all, netip.MustParsePrefix(network))
	}
	return all
}()

// public reports whether an address belongs to the Internet, and not to a private network.
func public(address netip.Addr) bool {
	address = address.Unmap()
	return address.IsGlobalUnicast() && !address.IsPrivate() &&
		!slices.ContainsFunc(notPublic, func(network netip.Prefix) bool { return network.Contains(address) })
}
