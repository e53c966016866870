package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// result is what one pass did.
type result struct {
	// programmed is the reason of the Programmed condition, and message its words. Programmed itself is True only where asWanted is.
	programmed string
	message    string
	asWanted   bool
	// conflict takes the place of the translation's acceptance where a name is somebody else's.
	conflict string
	// again is after what time another pass has something to do, else 0.
	again time.Duration
	// err is a failure that the next try may heal.
	err error
}

// program writes what the route asks for, in an order in which no request is lost: what is referred to first, then the VirtualService, and what
// nobody refers to any more last.
func (r *Reconciler) program(ctx context.Context, route *v1alpha1.ExternalRoute, f *facts, objects *translate.Objects, refusal *translate.Refusal) result {
	switch {
	case refusal != nil:
		return result{programmed: v1alpha1.ReasonNotAccepted, message: refusedMessage(f)}
	case !r.istio.installed():
		return result{programmed: v1alpha1.ReasonIstioNotInstalled, message: notInstalled}
	case f.unknown:
		return result{programmed: v1alpha1.ReasonPending, message: "The operator has not read the ConfigMaps of the cluster yet; if this stays, it may not."}
	case route.Spec.Suspend:
		return suspended(route, f, objects)
	}
	wanted := objects.Hash()
	f.unchanged = r.memory.asStood(route, wanted)
	if err := r.preflight(ctx, route, f, objects); err != nil {
		return failure(err)
	}
	if err := r.applyUpstreams(ctx, route, f, objects); err != nil {
		return failure(err)
	}
	if wait := r.untilSwitch(route, f, objects); wait > 0 {
		return result{
			programmed: v1alpha1.ReasonSwitching, again: wait,
			message: "New upstreams stand beside the old ones; traffic moves over when they have settled.",
		}
	}
	if err := r.applyVirtualService(ctx, route, f, objects); err != nil {
		return failure(err)
	}
	again, err := r.cleanUp(ctx, route, f, objects)
	if err != nil {
		return failure(err)
	}
	r.memory.stood(route, wanted)
	return result{programmed: v1alpha1.ReasonProgrammed, asWanted: true, again: again, message: programmedMessage(objects)}
}

const notInstalled = "The cluster does not serve Istio's networking.istio.io/v1: install Istio, and the route goes on by itself."

func refusedMessage(f *facts) string {
	if len(f.owned) == 0 {
		return "The spec is not accepted, and nothing is programmed."
	}
	return "The spec is not accepted; the objects of the last good one stay and go on serving, unrepaired."
}

func programmedMessage(objects *translate.Objects) string {
	return fmt.Sprintf("All %d objects stand as wanted.", len(objects.All()))
}

// suspended compares and writes nothing.
func suspended(route *v1alpha1.ExternalRoute, f *facts, objects *translate.Objects) result {
	for _, want := range objects.All() {
		live, exists := f.owned[referenceTo(want)]
		if !exists || !asWanted(want, live, route) {
			return result{
				programmed: v1alpha1.ReasonSuspended,
				message:    fmt.Sprintf("The route is suspended, and %s %s is not as it asks.", referenceTo(want).kind, want.GetName()),
			}
		}
	}
	return result{programmed: v1alpha1.ReasonSuspended, asWanted: true, message: "The route is suspended; its objects stand as wanted."}
}

// applyUpstreams writes Services, ServiceEntries and DestinationRules. Until traffic has moved and settled, a DestinationRule carries the subsets of
// before as well.
func (r *Reconciler) applyUpstreams(ctx context.Context, route *v1alpha1.ExternalRoute, f *facts, objects *translate.Objects) error {
	for _, service := range objects.Services {
		if _, err := r.apply(ctx, route, f, service); err != nil {
			return err
		}
	}
	settled := r.settled(route, f, objects)
	for _, entry := range objects.ServiceEntries {
		if err := r.applyUpstream(ctx, route, f, entry); err != nil {
			return err
		}
	}
	for _, rule := range objects.DestinationRules {
		if live, exists := f.owned[referenceTo(rule)]; exists && !settled {
			rule = withSubsetsOf(rule, live.(*networkingv1.DestinationRule)) //nolint:forcetypeassert // by its kind
		}
		if err := r.applyUpstream(ctx, route, f, rule); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reconciler) applyUpstream(ctx context.Context, route *v1alpha1.ExternalRoute, f *facts, object translate.Object) error {
	wrote, err := r.apply(ctx, route, f, object)
	if wrote {
		r.memory.wroteUpstream(route, referenceTo(object))
	}
	return err
}

// withSubsetsOf adds the subsets of the live rule that the wanted one has not.
func withSubsetsOf(want, live *networkingv1.DestinationRule) *networkingv1.DestinationRule {
	both := want.DeepCopy()
	for _, old := range live.Spec.Subsets {
		if !slices.ContainsFunc(both.Spec.Subsets, func(s *istio.Subset) bool { return s.Name == old.Name }) {
			both.Spec.Subsets = append(both.Spec.Subsets, old)
		}
	}
	return both
}

// applyVirtualService moves traffic over.
func (r *Reconciler) applyVirtualService(ctx context.Context, route *v1alpha1.ExternalRoute, f *facts, objects *translate.Objects) error {
	live := liveVirtualService(f, objects)
	wrote, err := r.apply(ctx, route, f, objects.VirtualService)
	if err != nil {
		return err
	}
	// One that was missing may still be at work in sidecars, with upstreams that the route does not want any more.
	if wrote && (live == nil || leaves(live, objects.VirtualService)) {
		r.memory.moved(route)
	}
	return nil
}

// cleanUp removes what the route does not want any more, once traffic has settled. It returns when there will be something left to do.
func (r *Reconciler) cleanUp(ctx context.Context, route *v1alpha1.ExternalRoute, f *facts, objects *translate.Objects) (time.Duration, error) {
	wanted := map[reference]bool{}
	for _, object := range objects.All() {
		wanted[referenceTo(object)] = true
	}
	leftovers := slices.DeleteFunc(slices.Collect(maps.Keys(f.owned)), func(key reference) bool { return wanted[key] })
	if !r.settled(route, f, objects) {
		settling := len(leftovers) > 0 || extraSubsets(f, objects)
		r.memory.settling(route, settling)
		if !settling {
			return 0, nil
		}
		return max(r.options.Settle-r.memory.sinceMoved(route), time.Millisecond), nil
	}
	r.memory.settling(route, false)
	slices.SortFunc(leftovers, compareRemoval)
	for _, key := range leftovers {
		if err := r.remove(ctx, f.owned[key]); err != nil {
			return 0, err
		}
		delete(f.owned, key)
		r.memory.forgetUpstream(route, key)
	}
	return 0, nil
}
