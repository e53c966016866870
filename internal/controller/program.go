package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

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
	// paused says that objects come and go while they are left to somebody.
	paused bool
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
	left, _ := r.memory.pause(route)
	f.paused = left > 0
	result := r.applyAll(ctx, route, f, objects)
	if result.asWanted {
		r.memory.stood(route, wanted)
	}
	if object := f.repaired.Load(); object != nil {
		r.memory.repaired(route, *object)
	}
	if left, object := r.memory.pause(route); left > 0 && f.unchanged && result.conflict == "" {
		return undone(object, left)
	}
	return result
}

// applyAll writes what differs, and removes what is not wanted any more.
func (r *Reconciler) applyAll(ctx context.Context, route *v1alpha1.ExternalRoute, f *facts, objects *translate.Objects) result {
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

// undone says that the operator leaves a route's objects for a while to somebody who undoes its repairs.
func undone(object reference, left time.Duration) result {
	return result{
		programmed: v1alpha1.ReasonPending, again: left, paused: true,
		message: fmt.Sprintf("Somebody changes or deletes %s as soon as it is brought back: the operator pauses between its repairs.", object),
	}
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

// applyUpstreams writes Services, ServiceEntries and DestinationRules, all at once, since their order means nothing: the VirtualService sends traffic to
// what is new when all of it has settled. Until traffic has moved and settled, a DestinationRule carries the subsets of before as well.
func (r *Reconciler) applyUpstreams(ctx context.Context, route *v1alpha1.ExternalRoute, f *facts, objects *translate.Objects) error {
	settled := r.settled(route, f, objects)
	carries := carriesTraffic(f, objects)
	upstreams := objects.Upstreams()
	for i, object := range upstreams {
		live, exists := f.owned[referenceTo(object)].(*networkingv1.DestinationRule)
		if exists && !settled {
			upstreams[i] = withSubsetsOf(object.(*networkingv1.DestinationRule), live) //nolint:forcetypeassert // by its kind
		}
	}
	written, problems := make([]client.Object, len(upstreams)), make([]error, len(upstreams))
	var all sync.WaitGroup
	for i, object := range upstreams {
		all.Go(func() { written[i], problems[i] = r.apply(ctx, route, f, object) })
	}
	all.Wait()
	for _, object := range written {
		if object == nil {
			continue
		}
		f.owned[referenceTo(object)] = object
		if carries && kindOf(object) != "Service" {
			r.memory.wroteUpstream(route, referenceTo(object))
		}
	}
	for _, err := range problems {
		if err != nil {
			return err // the first in order, so that what is told does not depend on the weather
		}
	}
	return nil
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
	now, err := r.apply(ctx, route, f, objects.VirtualService)
	if now == nil || err != nil {
		return err
	}
	f.owned[referenceTo(now)] = now
	// One that was missing may still be at work in sidecars, with upstreams that the route does not want any more.
	if live == nil || leaves(live, objects.VirtualService) {
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
