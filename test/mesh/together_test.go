package mesh

import (
	"slices"
	"testing"
)

// Routes of one namespace share a real host, with other ports and other TLS: each keeps what it was promised. All golden folders that can stand side by
// side are paired.
func TestTogether(t *testing.T) {
	folders := readFolders(t)
	pairs, otherTLS, otherPort, passed := 0, 0, 0, 0
	for i, a := range folders {
		for _, b := range folders[i+1:] {
			if !canShare(a, b) {
				continue
			}
			t.Run(a.name+" and "+b.name, func(t *testing.T) {
				check(t, map[string]bool{}, a, b)
			})
			pairs++
			passed += count(a.route.passesThrough() != b.route.passesThrough())
			for _, d := range a.route.Spec.Destinations {
				for _, e := range b.route.Spec.Destinations {
					if d.host == e.host && !d.private && !e.private {
						otherTLS += count(!slices.Equal(d.TLS.CACertificateRefs, e.TLS.CACertificateRefs) || d.TLS.SNI != e.TLS.SNI)
						otherPort += count(d.port != e.port)
					}
				}
			}
		}
	}
	if pairs == 0 || otherTLS == 0 || otherPort == 0 || passed == 0 {
		t.Errorf("%d pairs, %d with other TLS, %d with other ports, %d beside a pass-through route: there must be some of each",
			pairs, otherTLS, otherPort, passed)
	}
	t.Logf("%d pairs", pairs)
}

// canShare says whether two folders hold different routes for different hosts that lead to one real host. Host-wide TLS is a conflict, not a sharing.
func canShare(a, b *folder) bool {
	if !a.accepted || !b.accepted || a.route.Metadata.Name == b.route.Metadata.Name {
		return false
	}
	aliasesA, inPlaceA := a.route.hosts()
	aliasesB, inPlaceB := b.route.hosts()
	if overlap(aliasesA, aliasesB) || overlap(inPlaceA, inPlaceB) {
		return false
	}
	shared := false
	for _, d := range slices.Concat(a.route.Spec.Destinations, b.route.Spec.Destinations) {
		if d.TLS.Scope == "Host" {
			return false
		}
	}
	if a.route.passesThrough() && b.route.passesThrough() {
		return overlap(a.route.Spec.Hosts, b.route.Spec.Hosts) && slices.Equal(a.route.Spec.ExportTo, b.route.Spec.ExportTo) &&
			(a.route.Spec.EgressGateway == nil) == (b.route.Spec.EgressGateway == nil)
	}
	for _, pair := range [][2]*folder{{a, b}, {b, a}} { // hosts that pass through are shared with destinations that have the real name
		passed, other := pair[0].route, pair[1].route
		if passed.passesThrough() && passed.Spec.EgressGateway != nil && slices.ContainsFunc(other.Spec.Destinations, func(d destination) bool {
			return slices.Contains(passed.Spec.Hosts, d.host) && (!d.private || slices.Contains(other.Spec.Hosts, d.host))
		}) {
			return false // a host leads to the gateway or straight out, and not to both
		}
		shared = shared || passed.passesThrough() && slices.Equal(passed.Spec.ExportTo, []string{"."}) &&
			slices.ContainsFunc(other.Spec.Destinations, func(d destination) bool { return slices.Contains(passed.Spec.Hosts, d.host) })
	}
	for _, d := range a.route.Spec.Destinations {
		shared = shared || slices.ContainsFunc(b.route.Spec.Destinations, func(e destination) bool { return d.host == e.host })
	}
	return shared
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}
