package controller

import (
	"maps"
	"sync"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// reference names an object of a route's namespace.
type reference struct {
	kind string
	types.NamespacedName
}

func referenceTo(object client.Object) reference {
	return reference{kind: kindOf(object), NamespacedName: client.ObjectKeyFromObject(object)}
}

// kindOf is the kind of a generated object; what comes from the cache does not say it itself.
func kindOf(object client.Object) string {
	switch o := object.(type) {
	case *corev1.Service:
		return "Service"
	case *networkingv1.ServiceEntry:
		return "ServiceEntry"
	case *networkingv1.DestinationRule:
		return "DestinationRule"
	case *networkingv1.VirtualService:
		return "VirtualService"
	case *metav1.PartialObjectMetadata:
		return o.Kind
	case *sighting:
		return kindOf(o.Object)
	}
	return ""
}

func (k reference) String() string {
	return k.kind + " " + k.Name
}

// memory is what the operator knows and the cache does not, or not yet: what it wrote itself and has not seen come back, and when. All of it may be
// lost: after a restart, times count from there.
//
// What is forgotten when the cache shows it is recalled before the cache is read: in the other order, an event in between would leave neither.
type memory struct {
	clock clock.PassiveClock

	mu      sync.Mutex
	began   time.Time
	written map[reference]client.Object
	// underWay are the objects that are being written, with what the cache has shown of them meanwhile: that may be later than the answer.
	underWay map[reference]client.Object
	// gone are the UIDs of objects that were deleted, and when the cache showed it: zero where it has not yet.
	gone map[types.UID]time.Time
	// goneRoutes are the UIDs of routes of which the API server said that they are gone, and when.
	goneRoutes map[types.UID]time.Time
	status     map[types.NamespacedName]*v1alpha1.ExternalRoute
	routes     map[types.NamespacedName]*progress
	// waiting are the routes that wait for somebody else's object to go.
	waiting map[reference]types.NamespacedName
}

// progress is how far a route's traffic has moved.
type progress struct {
	// unseen are the objects that were written, and may not have been seen since, and when that was.
	unseen map[reference]time.Time
	// upstreams are the moments when writes of ServiceEntries and DestinationRules returned.
	upstreams map[reference]time.Time
	// moved is when the VirtualService last left an upstream or a host.
	moved time.Time
	// wanted is a hash of what the route asked for when all its objects last stood as wanted, and 0 before.
	wanted uint64
	// settling says that something is still to be cleaned up after a move.
	settling bool
	repairs  repairs
}

// saw forgets that an object has not been seen; a route at rest has none of them, and there are many at rest.
func (p *progress) saw(key reference) {
	delete(p.unseen, key)
	if len(p.unseen) == 0 {
		p.unseen = nil
	}
}

// repairs are what was done to a route's objects because somebody else had changed or deleted them.
type repairs struct {
	// times is in how many passes something was brought back, without a minute of calm in between, and object what that was first.
	times  int
	object reference
	// last is when that was, and next when it may be again.
	last, next time.Time
}

// Whoever undoes repairs at once (another controller; the garbage collector while the cache does not show yet that a route is gone) is not answered at
// full speed: from the third on there is a pause after each, and each is twice as long as the one before, up to the longest.
const (
	firstPause   = 250 * time.Millisecond
	longestPause = 30 * time.Second
	calm         = time.Minute
)

func newMemory(c clock.PassiveClock) *memory {
	return &memory{
		clock:      c,
		written:    map[reference]client.Object{},
		underWay:   map[reference]client.Object{},
		gone:       map[types.UID]time.Time{},
		goneRoutes: map[types.UID]time.Time{},
		status:     map[types.NamespacedName]*v1alpha1.ExternalRoute{},
		routes:     map[types.NamespacedName]*progress{},
		waiting:    map[reference]types.NamespacedName{},
	}
}

// start sets the moment from which unknown times count: when this process began to reconcile, not when it began to wait for its turn.
func (m *memory) start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.began = m.clock.Now()
}

// forget drops all about a route that is gone.
func (m *memory) forget(route types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.routes, route)
	delete(m.status, route)
	maps.DeleteFunc(m.waiting, func(_ reference, waiter types.NamespacedName) bool { return waiter == route })
}

// writing is told before an object is written; the function that it returns, after that.
func (m *memory) writing(key reference) (done func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.underWay[key] = nil
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.underWay, key)
	}
}

// believed is how long the cache may lag behind. An object that it has not shown by then has been deleted while the watch was cut.
const believed = 30 * time.Second

// wrote remembers an object as the API server answered it, until the cache has it. The cache may have had it, and lost it again, before the answer came.
func (m *memory) wrote(route *v1alpha1.ExternalRoute, object client.Object) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := referenceTo(object)
	if seen := m.underWay[key]; seen != nil && !newer(object, seen) {
		return
	}
	m.written[key] = object
	p := m.progressOf(route)
	if p.unseen == nil {
		p.unseen = map[reference]time.Time{}
	}
	p.unseen[key] = m.clock.Now()
}

// untilDoubt is when something that was written is no longer to be believed if the cache does not show it: 0 where it has shown everything.
func (m *memory) untilDoubt(route *v1alpha1.ExternalRoute) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	var first time.Duration
	for _, at := range m.progressOf(route).unseen {
		if left := max(believed-m.clock.Since(at), time.Millisecond); first == 0 || left < first {
			first = left
		}
	}
	return first
}

// recall is what was written of a route's objects, and not seen since.
func (m *memory) recall(route *v1alpha1.ExternalRoute) map[reference]client.Object {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.progressOf(route)
	recalled := map[reference]client.Object{}
	for key, at := range p.unseen {
		ours, waits := m.written[key]
		if waits && m.clock.Since(at) >= believed {
			delete(m.written, key)
			waits = false
		}
		if waits {
			recalled[key] = ours
		} else {
			p.saw(key)
		}
	}
	return recalled
}

// overlay puts what was recalled over what the cache says that the route owns.
func (m *memory) overlay(route *v1alpha1.ExternalRoute, recalled, owned map[reference]client.Object) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, ours := range recalled {
		cached, found := owned[key]
		switch {
		case found && !newer(ours, cached):
			delete(m.written, key)
			m.progressOf(route).saw(key)
		case ownedBy(ours, route):
			owned[key] = ours
		default: // released
			delete(owned, key)
		}
	}
	for key, object := range owned {
		if _, gone := m.gone[object.GetUID()]; gone {
			delete(owned, key)
		}
	}
}

// removing remembers that an object is being deleted; the function that it returns takes that back.
func (m *memory) removing(object client.Object) (takeBack func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock.Now()
	maps.DeleteFunc(m.gone, func(_ types.UID, seen time.Time) bool { return !seen.IsZero() && now.Sub(seen) >= believed })
	m.gone[object.GetUID()] = time.Time{}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.gone, object.GetUID())
	}
}

// isRemoved says whether this process deleted the object.
func (m *memory) isRemoved(object client.Object) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, removed := m.gone[object.GetUID()]
	return removed
}

// observedDeletion is told of every deletion. A worker may have read the cache just before.
func (m *memory) observedDeletion(object client.Object) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, removed := m.gone[object.GetUID()]; removed {
		m.gone[object.GetUID()] = m.clock.Now()
	}
}

// observed is told of every event of a generated object: from there on the cache knows better. A deletion's event carries a later version, too.
func (m *memory) observed(object client.Object) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := referenceTo(object)
	if _, writing := m.underWay[key]; writing {
		m.underWay[key] = object
	}
	if ours, waits := m.written[key]; waits && !newer(ours, object) {
		delete(m.written, key)
	}
}

// isGone is told that the API server does not have a route any more.
func (m *memory) isGone(route *v1alpha1.ExternalRoute) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock.Now()
	maps.DeleteFunc(m.goneRoutes, func(_ types.UID, at time.Time) bool { return now.Sub(at) >= believed })
	m.goneRoutes[route.UID] = now
}

// wasGone says whether the API server did not have the route a moment ago, although the cache has it.
func (m *memory) wasGone(route *v1alpha1.ExternalRoute) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, gone := m.goneRoutes[route.UID]
	if gone && m.clock.Since(at) >= believed {
		delete(m.goneRoutes, route.UID)
		return false
	}
	return gone
}

// wroteStatus remembers the status that was written, and the version that it made.
func (m *memory) wroteStatus(route *v1alpha1.ExternalRoute, status *v1alpha1.ExternalRouteStatus, resourceVersion string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status[client.ObjectKeyFromObject(route)] = &v1alpha1.ExternalRoute{
		ObjectMeta: metav1.ObjectMeta{UID: route.UID, ResourceVersion: resourceVersion}, Status: *status,
	}
}

// recallStatus is the status that was written last, nil where the cache has shown it.
func (m *memory) recallStatus(route types.NamespacedName) *v1alpha1.ExternalRoute {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status[route]
}

// observedRoute is told of every version of a route that the cache shows.
func (m *memory) observedRoute(route client.Object) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := client.ObjectKeyFromObject(route)
	if ours, known := m.status[key]; known && !newer(ours, route) {
		delete(m.status, key)
	}
}

// wroteUpstream notes when the write of a ServiceEntry or a DestinationRule returned.
func (m *memory) wroteUpstream(route *v1alpha1.ExternalRoute, object reference) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.progressOf(route)
	if p.upstreams == nil {
		p.upstreams = map[reference]time.Time{}
	}
	p.upstreams[object] = m.clock.Now()
}

// moved notes when the VirtualService left an upstream or a host.
func (m *memory) moved(route *v1alpha1.ExternalRoute) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.progressOf(route).moved = m.clock.Now()
}

// settling notes whether something is still to be cleaned up after a move.
func (m *memory) settling(route *v1alpha1.ExternalRoute, settling bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.progressOf(route).settling = settling
}

// isSettling is what settling noted last.
func (m *memory) isSettling(route *v1alpha1.ExternalRoute) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.progressOf(route).settling
}

// stood notes that all objects stood as wanted.
func (m *memory) stood(route *v1alpha1.ExternalRoute, wanted uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.progressOf(route); p.wanted != wanted {
		p.wanted, p.repairs = wanted, repairs{}
	}
}

// asStood says whether a route asks for what it asked for when all its objects last stood as wanted.
func (m *memory) asStood(route *v1alpha1.ExternalRoute, wanted uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.progressOf(route).wanted == wanted
}

// repaired notes that this pass brought something back, or tried to.
func (m *memory) repaired(route *v1alpha1.ExternalRoute, object reference) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, now := &m.progressOf(route).repairs, m.clock.Now()
	if now.Sub(r.last) > calm {
		*r = repairs{object: object}
	}
	r.times, r.last, r.next = r.times+1, now, now
	if r.times > 2 {
		r.next = now.Add(min(firstPause<<min(r.times-3, 20), longestPause))
	}
}

// pause is how long a route's objects are still left to somebody who undoes its repairs, and what that began with; 0 where nobody does.
func (m *memory) pause(route *v1alpha1.ExternalRoute) (left time.Duration, object reference) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.progressOf(route).repairs
	return max(r.next.Sub(m.clock.Now()), 0), r.object
}

// forgetUpstream drops the moment of an object that was deleted.
func (m *memory) forgetUpstream(route *v1alpha1.ExternalRoute, object reference) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.progressOf(route).upstreams, object)
}

// sinceUpstreams is how long the youngest of the objects has stood, as far as this process knows.
func (m *memory) sinceUpstreams(route *v1alpha1.ExternalRoute, objects []reference) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	youngest := m.began
	for _, object := range objects {
		if at := m.progressOf(route).upstreams[object]; at.After(youngest) {
			youngest = at
		}
	}
	return m.clock.Since(youngest)
}

// sinceMoved is how long ago the VirtualService left an upstream or a host, as far as this process knows.
func (m *memory) sinceMoved(route *v1alpha1.ExternalRoute) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.progressOf(route).moved
	if at.Before(m.began) {
		at = m.began
	}
	return m.clock.Since(at)
}

func (m *memory) progressOf(route *v1alpha1.ExternalRoute) *progress {
	key := client.ObjectKeyFromObject(route)
	if m.routes[key] == nil {
		m.routes[key] = &progress{}
	}
	return m.routes[key]
}

// waits notes that a route waits for somebody else's object to go.
func (m *memory) waits(route *v1alpha1.ExternalRoute, object reference) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting[object] = client.ObjectKeyFromObject(route)
}

// waitsNoMore forgets what a route waited for.
func (m *memory) waitsNoMore(route *v1alpha1.ExternalRoute) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.waiting, func(_ reference, waiter types.NamespacedName) bool {
		return waiter == client.ObjectKeyFromObject(route)
	})
}

// waiter is the route that waits for the object, if any.
func (m *memory) waiter(object reference) (types.NamespacedName, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	route, found := m.waiting[object]
	return route, found
}

// newer says whether a is a later version than b.
func newer(a, b client.Object) bool {
	order, err := resourceversion.CompareResourceVersion(a.GetResourceVersion(), b.GetResourceVersion())
	return err == nil && order > 0
}
