package plan

import (
	"cmp"
	"slices"
	"time"

	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/externalroute/externalroute/internal/translate"
)

// target is an Envoy cluster that a VirtualService sends requests to.
type target struct {
	host   string
	port   uint32
	subset string
}

func targets(v *networkingv1.VirtualService) map[target]bool {
	all := map[target]bool{}
	add := func(d *istio.Destination) { all[target{d.GetHost(), d.GetPort().GetNumber(), d.GetSubset()}] = true }
	for _, http := range v.Spec.Http {
		for _, route := range http.Route {
			add(route.GetDestination())
		}
	}
	for _, tcp := range v.Spec.Tcp {
		for _, route := range tcp.Route {
			add(route.GetDestination())
		}
	}
	for _, tls := range v.Spec.Tls {
		for _, route := range tls.Route {
			add(route.GetDestination())
		}
	}
	return all
}

// leaves reports whether the new VirtualService no longer uses a cluster, a host or a port of the old one. One that does not say where it sends requests, or
// cannot be read, may send them anywhere.
func leaves(before, after *networkingv1.VirtualService) bool {
	if len(before.Spec.Http)+len(before.Spec.Tcp)+len(before.Spec.Tls) == 0 {
		return true
	}
	now := targets(after)
	for t := range targets(before) {
		if !now[t] {
			return true
		}
	}
	return slices.ContainsFunc(before.Spec.Hosts, func(h string) bool { return !slices.Contains(after.Spec.Hosts, h) }) ||
		slices.ContainsFunc(matchPorts(before), func(port uint32) bool { return !serves(after, port) })
}

// matchPorts are the ports to which the matches of a VirtualService are limited, with 0 for every port.
func matchPorts(v *networkingv1.VirtualService) []uint32 {
	var ports []uint32
	for _, http := range v.Spec.Http {
		if len(http.Match) == 0 {
			ports = append(ports, 0)
		}
		for _, m := range http.Match {
			ports = append(ports, m.Port)
		}
	}
	for _, tcp := range v.Spec.Tcp {
		if len(tcp.Match) == 0 {
			ports = append(ports, 0)
		}
		for _, m := range tcp.Match {
			ports = append(ports, m.Port)
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// serves reports whether a VirtualService has a route for a port, or for every port.
func serves(v *networkingv1.VirtualService, port uint32) bool {
	ports := matchPorts(v)
	return slices.Contains(ports, 0) || slices.Contains(ports, port)
}

// untilMove is how long the VirtualService still waits for upstreams that it does not use yet: their clusters answer 503 until istiod has sent them and Envoy
// has resolved their names. A host that nobody serves yet has no traffic to lose.
func (p *planner) untilMove() time.Duration {
	if p.live == nil && !p.OntoTraffic {
		return 0
	}
	fresh := targets(p.next)
	if p.live != nil {
		for used := range targets(p.live) {
			delete(fresh, used)
		}
	}
	if len(fresh) > 0 && p.behindGateway() {
		return p.untilUpstreams()
	}
	var wait time.Duration
	for t := range fresh {
		for _, item := range p.Objects {
			if upstreamHost(item.Object) == t.host {
				wait = max(wait, p.untilSettled(item))
			}
		}
	}
	return wait
}

// behindGateway reports whether requests take a second leg, whose upstreams the VirtualService does not name.
func (p *planner) behindGateway() bool {
	return slices.ContainsFunc(p.Objects, func(item translate.Item) bool { return isKind(item.Object, translate.GatewayKind) })
}

// untilUpstreams is how long it takes until everything that traffic may be sent to has settled.
func (p *planner) untilUpstreams() time.Duration {
	var wait time.Duration
	for _, item := range p.Objects {
		if item.Stage == translate.StageUpstream && !isKind(item.Object, translate.ServiceKind) {
			wait = max(wait, p.untilSettled(item))
		}
	}
	return wait
}

func (p *planner) untilSettled(item translate.Item) time.Duration {
	return p.sent(translate.KeyOf(item.Object)).Add(p.Settle).Sub(p.now)
}

func isKind(object translate.Object, kind translate.Kind) bool {
	return translate.KindOf(object).GVK == kind.GVK
}

// sent is when an upstream was last written, at the latest by this plan.
func (p *planner) sent(key translate.Key) time.Time {
	if slices.ContainsFunc(p.Apply, func(s Step) bool { return s.Key() == key }) {
		return p.now
	}
	return latest(p.moments.Began, p.moments.sent[key])
}

// upstreamHost is the host that a ServiceEntry or DestinationRule is for.
func upstreamHost(object translate.Object) string {
	switch o := object.(type) {
	case *networkingv1.ServiceEntry:
		return o.Spec.Hosts[0]
	case *networkingv1.DestinationRule:
		return o.Spec.Host
	}
	return ""
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// compareDeletion orders what is deleted: an object goes before what it refers to, but a second leg after its Gateway. Of two Gateways of a namespace that pass
// one host, Istio uses the older one alone: while it stands without its VirtualService, the other route's connections fail.
func compareDeletion(a, b Deletion) int {
	return cmp.Or(b.rank()-a.rank(), cmp.Compare(a.Name, b.Name))
}

// rank is the place of an object in the order of deletion, the highest first.
func (d Deletion) rank() int {
	if d.secondLeg {
		return 2*translate.Rank(translate.GatewayKind.GVK.Kind) - 1
	}
	return 2 * translate.Rank(d.Kind)
}

func compareKeys(a, b translate.Key) int {
	return cmp.Or(translate.Rank(b.Kind)-translate.Rank(a.Kind), cmp.Compare(a.Name, b.Name))
}
