// Package plan decides what the operator does next for a route: what to write and delete now, in which order, when to come back, and what the Programmed
// condition says meanwhile. It is pure: it knows what a route asks for, what stands in the cluster, and when things happened, and has no client and no clock.
//
// An edit loses no request because of three rules. What a VirtualService refers to is written before it, and traffic moves to it only after a settle time.
// What traffic may still use stays for another settle time after it has moved. And a moment counts from before a request is sent, so that a lost answer can
// only lengthen a wait.
package plan

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// Wanted is what a route asks for.
type Wanted struct {
	Objects translate.Objects
	// OntoTraffic reports that workloads may already send requests to the route's hosts.
	OntoTraffic bool
	// Suspended reports that the operator writes nothing for the route.
	Suspended bool
	// Withdrawn reports that the route may not have any objects: those that stand are deleted at once.
	Withdrawn bool
	// Settle is how long istiod, Envoy and DNS need until every sidecar knows what was written.
	Settle time.Duration
}

// Standing is what a cluster has. Its objects belong to a cache and are not changed.
type Standing struct {
	// Owned are the objects that the route controls.
	Owned map[translate.Key]translate.Object
	// Adopted are wanted objects of others that were handed over to the route. Traffic may use them as it may use those that the route controls.
	Adopted map[translate.Key]translate.Object
	// Replaced are objects of other names that were handed over to the route. Traffic may use them until it has moved; then they are deleted.
	Replaced map[translate.Key]translate.Object
	// InForce are those of Replaced that decide about traffic, in Istio's order.
	InForce []translate.Object
	// Earlier are wanted objects of another route of the same name.
	Earlier map[translate.Key]Earlier
	// Created is when the route was created, in whole seconds.
	Created time.Time
}

// Earlier is an object of another route of the same name.
type Earlier struct {
	UID     types.UID
	Created time.Time
}

// isEarlier reports whether that other route is an earlier one, and not a later one, of which a cache that is behind shows the object alone.
func (e Earlier) isEarlier(route, now time.Time) bool {
	return e.Created.Before(route) || now.Sub(e.Created) > CacheLagLimit
}

// Plan is what the operator does next for a route.
type Plan struct {
	// Apply are the writes, by stage. Those of one stage may be sent at once; those of the next one only when all of them have succeeded.
	Apply []Step
	// Delete are the objects to delete after that, in this order.
	Delete []Deletion
	// Again is after what time there is more to do, 0 if only an event can change that.
	Again time.Duration
	// Condition is what the Programmed condition says when the plan has been executed.
	Condition Condition
	// Paused reports that another client undoes the operator's repairs.
	Paused bool

	moves  bool
	wanted uint64
	known  map[translate.Key]uint64
	repair *translate.Key
}

// MovesTraffic reports that the plan makes workloads send requests elsewhere.
func (p Plan) MovesTraffic() bool { return p.moves }

// Condition is the Programmed condition without its times.
type Condition struct {
	Programmed      bool
	Reason, Message string
}

// StagePorts is for the plain ports of hosts in place, after all stages of the translation: they lead nowhere without the VirtualService.
const StagePorts = translate.StageTraffic + 1

// Step is one write.
type Step struct {
	Object translate.Object
	Stage  translate.Stage
	// Exists reports that the write changes an object that the route controls, or that was handed over to it. Otherwise it creates one, and nothing else.
	Exists bool
	// Repair reports that the object stood like this before, and that another client changed or deleted it.
	Repair bool
}

// Deletion is one object that is deleted, and no other of its name.
type Deletion struct {
	translate.Key
	UID types.UID
	// Version is the resourceVersion of an object that is another user's: it is deleted as it was read. It is empty for one that the route controls.
	Version string

	// secondLeg reports that it is a VirtualService for the pods of a gateway.
	secondLeg bool
}

func deletionOf(object translate.Object) Deletion {
	v, is := object.(*networkingv1.VirtualService)
	return Deletion{Key: translate.KeyOf(object), UID: object.GetUID(), secondLeg: is && translate.IsSecondLeg(v)}
}

// Key names the object that the step writes.
func (s Step) Key() translate.Key { return translate.KeyOf(s.Object) }

// Next is what the operator does next.
func Next(wanted Wanted, standing Standing, moments *Moments, now time.Time) Plan {
	switch {
	case wanted.Withdrawn:
		return withdraw(standing)
	case len(standing.Earlier) > 0 && !wanted.Suspended:
		return collect(standing, now)
	}
	p := &planner{Wanted: wanted, Standing: standing, moments: moments, now: now}
	p.read()
	p.upstreams()
	p.traffic()
	p.leftovers()
	p.pause()
	p.conclude()
	return p.Plan
}

func withdraw(standing Standing) Plan {
	plan := Plan{Condition: Condition{Reason: v1alpha1.ReasonNotAccepted, Message: "The spec is not allowed; the operator deletes all generated objects."}}
	for _, object := range standing.Owned {
		plan.Delete = append(plan.Delete, deletionOf(object))
	}
	slices.SortFunc(plan.Delete, compareDeletion)
	return plan
}

// collect deletes what an earlier route of the same name has left. Usually the garbage collector is faster; it misses objects if it was restarted together
// with the API server.
func collect(standing Standing, now time.Time) Plan {
	var keys []translate.Key
	plan := Plan{Again: CacheLagLimit}
	for key, earlier := range standing.Earlier {
		keys = append(keys, key)
		if earlier.isEarlier(standing.Created, now) {
			plan.Delete = append(plan.Delete, Deletion{Key: key, UID: earlier.UID})
		}
	}
	slices.SortFunc(plan.Delete, compareDeletion)
	first := slices.MinFunc(keys, compareKeys)
	plan.Condition = Condition{
		Reason:  v1alpha1.ReasonPending,
		Message: fmt.Sprintf("%s belongs to an earlier route of this name and is being deleted.", first),
	}
	return plan
}

// planner is a plan in the making.
type planner struct {
	Plan
	Wanted
	Standing
	moments *Moments
	now     time.Time

	// live is the VirtualService that moves traffic and stands, next the one that is wanted: a pass-through route wants none.
	live, next *networkingv1.VirtualService
	// entry is the ServiceEntry that moves traffic instead, nil if that is not behind a gateway.
	entry *networkingv1.ServiceEntry
	// settled is when every sidecar knows that traffic has moved: nothing of before is used then. It is zero if traffic has not moved yet.
	settled time.Time
	// serving is the VirtualService, as it is or as the plan makes it, nil if there is none.
	serving *networkingv1.VirtualService
	// wait is how long traffic does not move yet.
	wait time.Duration
}

func (p *planner) read() {
	p.wanted, p.known = hash(p.Objects), map[translate.Key]uint64{}
	for _, item := range p.Objects {
		if item.Stage != translate.StageTraffic {
			continue
		}
		switch o := item.Object.(type) {
		case *networkingv1.VirtualService:
			p.next = o
			p.live, _ = p.standing(translate.KeyOf(o)).(*networkingv1.VirtualService)
		case *networkingv1.ServiceEntry:
			p.entry = o
		}
	}
	if p.next == nil {
		p.live = p.ownedVirtualService()
	}
	if p.live == nil {
		return
	}
	p.serving = p.live
	if p.next == nil {
		return
	}
	if !leaves(p.live, p.next) {
		p.settled = latest(p.moments.Began, p.moments.moved).Add(p.Settle)
	}
}

// ownedVirtualService is what stands of a route that had destinations, nil if there is none.
func (p *planner) ownedVirtualService() *networkingv1.VirtualService {
	for _, object := range p.Owned {
		if v, is := object.(*networkingv1.VirtualService); is && !translate.IsSecondLeg(v) && v.GetDeletionTimestamp().IsZero() {
			return v
		}
	}
	return nil
}

// standing is the object that the route controls or takes over, nil if there is none.
func (p *planner) standing(key translate.Key) translate.Object {
	if object := p.Owned[key]; object != nil {
		return object
	}
	return p.Adopted[key]
}

func (p *planner) isSettled() bool { return !p.settled.IsZero() && !p.now.Before(p.settled) }

// upstreams writes what traffic is sent to. Until traffic has settled they keep what it may still use, and lack what it must not yet use.
func (p *planner) upstreams() {
	for _, item := range p.Objects {
		if item.Stage == translate.StageUpstream {
			live := p.standing(translate.KeyOf(item.Object))
			p.apply(p.bridge(item.Object, live), item.Stage)
		}
	}
	p.closePorts()
}

// traffic writes what moves traffic, when what it does not use yet has settled.
func (p *planner) traffic() {
	if p.next == nil {
		p.passThrough()
		return
	}
	if p.wait = p.untilMove(); p.wait > 0 || !p.apply(p.next, translate.StageTraffic) {
		return
	}
	p.serving = p.next
	if p.moves = p.live == nil || p.moments.unsure || leaves(p.live, p.next); p.moves {
		p.settled = p.now.Add(p.Settle)
	}
	p.openPorts()
}

// passThrough finds when traffic has settled in a route that has no VirtualService: workloads use a ServiceEntry when it has settled, and what a
// VirtualService used may go when the VirtualService has been gone for as long. An entry that leads to a gateway waits for what it does there.
func (p *planner) passThrough() {
	if p.entry != nil && !p.isInSync(p.entry) {
		if p.wait = p.untilUpstreams(); p.wait <= 0 {
			p.moves = p.apply(p.entry, translate.StageTraffic)
		}
	}
	since := latest(p.moments.Began, p.moments.moved)
	for _, item := range p.Objects {
		since = latest(since, p.sent(translate.KeyOf(item.Object)))
	}
	p.settled = since.Add(p.Settle)
}

// isInSync reports whether an object of the route stands as it is wanted.
func (p *planner) isInSync(want translate.Object) bool {
	live := p.Owned[translate.KeyOf(want)]
	return live != nil && translate.InSync(want, live)
}

// leftovers deletes what the route does not ask for any more. The VirtualService of the sidecars goes before what it uses: they would answer 503 otherwise, if
// they learn of the other deletions first.
func (p *planner) leftovers() {
	var leftovers []Deletion
	lastRoute := p.next == nil && p.live != nil
	for key, object := range p.Owned {
		wanted := slices.ContainsFunc(p.Objects, func(item translate.Item) bool { return translate.KeyOf(item.Object) == key })
		if !wanted && object.GetDeletionTimestamp().IsZero() && (!lastRoute || object == translate.Object(p.live)) {
			leftovers = append(leftovers, deletionOf(object))
		}
	}
	slices.SortFunc(leftovers, compareDeletion)
	leftovers = append(leftovers, p.replacements()...)
	switch {
	case p.isSettled():
		p.Delete = leftovers
		if lastRoute {
			p.Again = p.Settle
		}
	case p.wait == 0 && (len(leftovers) > 0 || p.bridged()):
		p.Again = p.settled.Sub(p.now)
	}
}

// replacements deletes what was handed over, entries first: what others still send to an entry would leave in plaintext without its rule.
func (p *planner) replacements() []Deletion {
	var replaced []Deletion
	for _, object := range p.Replaced {
		if object.GetDeletionTimestamp().IsZero() {
			deletion := deletionOf(object)
			deletion.Version = object.GetResourceVersion()
			replaced = append(replaced, deletion)
		}
	}
	slices.SortFunc(replaced, func(a, b Deletion) int {
		return cmp.Or(translate.Rank(a.Kind)-translate.Rank(b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return replaced
}

// bridged reports whether an upstream is not yet as the route asks, since traffic has not settled.
func (p *planner) bridged() bool {
	return slices.ContainsFunc(p.Objects, func(item translate.Item) bool {
		key := translate.KeyOf(item.Object)
		now := p.planned(key)
		return now != nil && !translate.InSync(item.Object, now)
	})
}

// planned is an object as it stands after the plan so far, nil if it does not.
func (p *planner) planned(key translate.Key) translate.Object {
	for _, step := range slices.Backward(p.Apply) { // the last write of it counts
		if step.Key() == key {
			return step.Object
		}
	}
	return p.standing(key)
}

// apply adds a step if the object that stands is not as it should be, and reports whether it does.
func (p *planner) apply(want translate.Object, stage translate.Stage) bool {
	key, mark := translate.KeyOf(want), translate.Fingerprint(want)
	if p.isInSync(want) {
		p.known[key] = mark
		return false
	}
	p.known[key] = p.moments.known[key]
	p.Apply = append(p.Apply, Step{
		Object: want, Stage: stage, Exists: p.standing(key) != nil, Repair: p.moments.known[key] == mark,
	})
	return true
}

// pause leaves the objects to another client for a while if that undoes the operator's repairs.
func (p *planner) pause() {
	backoff := p.moments.repairs
	if p.moments.wanted != p.wanted {
		backoff = Backoff{}
	}
	i := slices.IndexFunc(p.Apply, func(s Step) bool { return s.Repair })
	if i >= 0 && !backoff.Paused(p.now) {
		key := p.Apply[i].Key()
		p.repair = &key
		backoff.add(p.now, key)
	}
	if !backoff.Paused(p.now) {
		return
	}
	p.Paused = true
	p.Again = backoff.Left(p.now)
	if p.repair == nil && i >= 0 { // what comes later relies on what is not repaired
		stage := p.Apply[i].Stage
		p.Apply = slices.DeleteFunc(p.Apply, func(s Step) bool { return s.Repair || s.Stage > stage })
		p.Delete, p.moves = nil, false
	}
	p.Condition = Condition{Reason: v1alpha1.ReasonPending, Message: fmt.Sprintf(
		"Another client changes or deletes %s again and again: the operator backs off between its repairs. Find the client in the object's managedFields or "+
			"in the audit log, and stop it.", backoff.object)}
}

// conclude finds the condition.
func (p *planner) conclude() {
	switch {
	case p.Suspended:
		p.suspend()
	case p.Paused:
	case p.wait > 0:
		p.Again = p.wait
		p.Condition = Condition{
			Reason: v1alpha1.ReasonSwitching, Message: "The new upstreams are in place; traffic moves to them when they have settled.",
		}
	default:
		p.Condition = Condition{
			Programmed: true, Reason: v1alpha1.ReasonProgrammed, Message: inSync(len(p.Objects)),
		}
	}
}

func inSync(objects int) string {
	if objects == 1 {
		return "The generated object is in sync."
	}
	return fmt.Sprintf("All %d generated objects are in sync.", objects)
}

// suspend keeps the plan from being executed.
func (p *planner) suspend() {
	condition := Condition{Programmed: true, Reason: v1alpha1.ReasonSuspended, Message: "The route is suspended; all generated objects are in sync."}
	if len(p.Apply) > 0 || p.wait > 0 {
		key := translate.KeyOf(p.Objects[len(p.Objects)-1].Object) // it moves traffic
		if len(p.Apply) > 0 {
			key = p.Apply[0].Key()
		}
		condition.Programmed = false
		condition.Message = fmt.Sprintf("The route is suspended, and %s is not as it asks. Set spec.suspend to false to let the operator update it.", key)
	}
	p.Plan = Plan{Condition: condition, wanted: p.moments.wanted, known: p.moments.known}
}
