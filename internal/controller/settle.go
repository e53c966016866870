package controller

import (
	"slices"
	"strings"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// target is a cluster that a VirtualService sends requests to.
type target struct {
	host   string
	port   uint32
	subset string
}

// targets are all clusters that a VirtualService sends requests to.
func targets(v *networkingv1.VirtualService) map[target]bool {
	all := map[target]bool{}
	for _, http := range v.Spec.Http {
		for _, route := range http.Route {
			d := route.GetDestination()
			all[target{d.GetHost(), d.GetPort().GetNumber(), d.GetSubset()}] = true
		}
	}
	return all
}

// leaves says whether the new VirtualService no longer uses a cluster or a host of the old one.
func leaves(before, after *networkingv1.VirtualService) bool {
	now := targets(after)
	for t := range targets(before) {
		if !now[t] {
			return true
		}
	}
	return slices.ContainsFunc(before.Spec.Hosts, func(h string) bool { return !slices.Contains(after.Spec.Hosts, h) })
}

func liveVirtualService(f *facts, objects *translate.Objects) *networkingv1.VirtualService {
	live, _ := f.owned[referenceTo(objects.VirtualService)].(*networkingv1.VirtualService)
	return live
}

// carriesTraffic says whether there is a VirtualService already, be it ours or one that is handed over.
func carriesTraffic(f *facts, objects *translate.Objects) bool {
	return liveVirtualService(f, objects) != nil || f.adopted[referenceTo(objects.VirtualService)]
}

// untilSwitch is how long the VirtualService must still wait for upstreams that it does not use yet: their clusters answer 503 until istiod has sent
// them and Envoy has resolved their names. A new VirtualService has no traffic to lose.
func (r *Reconciler) untilSwitch(route *v1alpha1.ExternalRoute, f *facts, objects *translate.Objects) time.Duration {
	if !carriesTraffic(f, objects) {
		return 0
	}
	var used map[target]bool
	if live := liveVirtualService(f, objects); live != nil {
		used = targets(live)
	}
	fresh := map[string]bool{}
	for t := range targets(objects.VirtualService) {
		if !used[t] {
			fresh[t.host] = true
		}
	}
	if len(fresh) == 0 {
		return 0
	}
	var behind []reference
	for _, e := range objects.ServiceEntries {
		if fresh[e.Spec.Hosts[0]] {
			behind = append(behind, referenceTo(e))
		}
	}
	for _, d := range objects.DestinationRules {
		if fresh[d.Spec.Host] {
			behind = append(behind, referenceTo(d))
		}
	}
	return r.options.Settle - r.memory.sinceUpstreams(route, behind)
}

// settled says whether traffic has moved to what the route wants, long enough ago for every sidecar to know.
func (r *Reconciler) settled(route *v1alpha1.ExternalRoute, f *facts, objects *translate.Objects) bool {
	live := liveVirtualService(f, objects)
	if live != nil && leaves(live, objects.VirtualService) {
		return false
	}
	return r.memory.sinceMoved(route) >= r.options.Settle
}

// extraSubsets says whether a DestinationRule carries subsets that the route does not want.
func extraSubsets(f *facts, objects *translate.Objects) bool {
	return slices.ContainsFunc(objects.DestinationRules, func(d *networkingv1.DestinationRule) bool {
		live, _ := f.owned[referenceTo(d)].(*networkingv1.DestinationRule)
		return live != nil && len(live.Spec.Subsets) > len(d.Spec.Subsets)
	})
}

// compareRemoval orders what is removed: what refers to others goes before them, and the rest by name.
func compareRemoval(a, b reference) int {
	order := []string{"VirtualService", "DestinationRule", "ServiceEntry", "Service"}
	if d := slices.Index(order, a.kind) - slices.Index(order, b.kind); d != 0 {
		return d
	}
	return strings.Compare(a.Name, b.Name)
}
