package controller

import (
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/internal/conflict"
)

// kept is what is kept of one of Istio's kinds: what routes control, as it is, and of everything else the facts by which it may be a rival. A mesh may
// have many thousands of those, and a whole object with its place in a cache of client-go takes four times as much. What is read is not to be changed.
type kept[F rivalFacts] struct {
	kind    string
	factsOf func(client.Object) F

	mu sync.RWMutex
	// objects are those that routes control, each a client.Object, and those of others, each an *other[F].
	objects map[types.NamespacedName]any
	// owned are the former by the UID of their route, rivals the latter by what they claim. Their slices are never changed, only replaced.
	owned  map[types.UID][]client.Object
	rivals map[conflict.Name][]*other[F]
	// count is how many the former are.
	count int
}

// rivalFacts are what matters of somebody else's object.
type rivalFacts interface {
	Identify() conflict.Identity
	// Claims are the names by which it is found as a rival, and by which it finds the routes concerned.
	Claims() []conflict.Name
}

// other is an object that no route controls.
type other[F rivalFacts] struct {
	facts   F
	version string
	// owners and annotations are what says that somebody else controls it, or that it is handed to a route: nil of most.
	*bonds
}

type bonds struct {
	owners      []metav1.OwnerReference
	annotations map[string]string
}

// sighting is an object in an event, and what it claims where it is somebody else's. Where nobody knows more, it is the metadata alone.
type sighting struct {
	client.Object
	claims []conflict.Name
}

func newKept[F rivalFacts](kind string, factsOf func(client.Object) F) *kept[F] {
	k := &kept[F]{kind: kind, factsOf: factsOf}
	k.clear()
	return k
}

// clear forgets all of it, and tells nobody.
func (k *kept[F]) clear() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.objects, k.owned, k.rivals, k.count = map[types.NamespacedName]any{}, map[types.UID][]client.Object{}, map[conflict.Name][]*other[F]{}, 0
}

// at is the object of that name, nil where there is none. Of somebody else's it is the metadata that tells whose it is.
func (k *kept[F]) at(key types.NamespacedName) client.Object {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if seen := k.sighting(k.objects[key]); seen != nil {
		return seen.Object
	}
	return nil
}

// ownedBy are the objects that the route of that UID controls.
func (k *kept[F]) ownedBy(route types.UID) []client.Object {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.owned[route]
}

// claiming are the facts of other people's objects that claim it, in Istio's order.
func (k *kept[F]) claiming(claim conflict.Name) []F {
	k.mu.RLock()
	defer k.mu.RUnlock()
	var found []F
	for _, o := range k.rivals[claim] {
		found = append(found, o.facts)
	}
	slices.SortFunc(found, func(a, b F) int { return a.Identify().Compare(b.Identify()) })
	return found
}

// generated is how many objects routes control.
func (k *kept[F]) generated() int {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.count
}

// digest is what is kept of an object: itself, without what nobody reads, or an *other[F].
func (k *kept[F]) digest(object any) any {
	o, whole := object.(client.Object)
	if !whole {
		return object // digested already
	}
	o.SetManagedFields(nil)
	internMeta(o)
	if routeOwner(o) != nil {
		stripSpec(o)
		return o
	}
	theirs := &other[F]{facts: k.factsOf(o), version: o.GetResourceVersion()}
	stripMeta(o)
	if owners, annotations := o.GetOwnerReferences(), o.GetAnnotations(); len(owners)+len(annotations) > 0 {
		theirs.bonds = &bonds{owners, annotations}
	}
	return theirs
}

// stripSpec drops the status from a generated object, and keeps once what many have in common.
func stripSpec(object client.Object) {
	switch o := object.(type) {
	case *networkingv1.ServiceEntry:
		proto.Reset(&o.Status)
	case *networkingv1.DestinationRule:
		proto.Reset(&o.Status)
	case *networkingv1.VirtualService:
		proto.Reset(&o.Status)
		for _, route := range o.Spec.Http {
			for i, name := range route.GetHeaders().GetRequest().GetRemove() {
				route.Headers.Request.Remove[i] = intern(name)
			}
		}
	}
}

// GetObjectMeta is the metadata that is known of it: with it, client-go can keep it for a while.
func (o *other[F]) GetObjectMeta() metav1.Object { return o.metadata("") }

func (o *other[F]) metadata(kind string) *metav1.PartialObjectMetadata {
	identity := o.facts.Identify()
	m := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{Kind: kind}, ObjectMeta: metav1.ObjectMeta{
		Namespace: identity.Namespace, Name: identity.Name, CreationTimestamp: metav1.NewTime(identity.Created), ResourceVersion: o.version,
	}}
	if o.bonds != nil {
		m.OwnerReferences, m.Annotations = o.owners, o.annotations
	}
	return m
}

// sighting is how a digest is shown to others.
func (k *kept[F]) sighting(digest any) *sighting {
	switch d := digest.(type) {
	case client.Object:
		return &sighting{Object: d}
	case *other[F]:
		return &sighting{Object: d.metadata(k.kind), claims: d.facts.Claims()}
	}
	return nil
}

// lay puts a digest in the place of what was there before. A digest that is nil leaves nothing there.
func (k *kept[F]) lay(key types.NamespacedName, digest any) (was *sighting) {
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.objects[key]
	switch b := before.(type) {
	case client.Object:
		k.count--
		uid := routeOwner(b).UID
		drop(k.owned, uid, func(o client.Object) bool { return o == b })
	case *other[F]:
		for _, claim := range b.facts.Claims() {
			drop(k.rivals, claim, func(o *other[F]) bool { return o == b })
		}
	}
	switch d := digest.(type) {
	case nil:
		delete(k.objects, key)
	case client.Object:
		k.count++
		k.objects[key] = d
		uid := routeOwner(d).UID
		k.owned[uid] = slices.Concat(k.owned[uid], []client.Object{d})
	case *other[F]:
		k.objects[key] = d
		for _, claim := range d.facts.Claims() {
			k.rivals[claim] = slices.Concat(k.rivals[claim], []*other[F]{d})
		}
	}
	return k.sighting(before)
}

// drop takes something out of a list of a map, and the list with its last entry.
func drop[K comparable, V any](m map[K][]V, key K, is func(V) bool) {
	left := slices.DeleteFunc(slices.Clone(m[key]), is)
	if len(left) == 0 {
		delete(m, key)
		return
	}
	m[key] = slices.Clip(left)
}

// scope is what one watch shows of a kind: a namespace, or all of them where it is empty. It is what a reflector fills.
type scope[F rivalFacts] struct {
	*kept[F]
	namespace string
	// changed is told of each change, once it can be read: what there was before, and what there is now, nil where there is nothing.
	changed func(was, is *sighting, initial bool)
	// filled is called when the watch has shown everything for the first time.
	filled func()
	begun  bool
}

var _ toolscache.TransformingStore = &scope[conflict.VirtualService]{}

// Transformer lets client-go keep digests while it gathers what it hands over.
func (s *scope[F]) Transformer() toolscache.TransformFunc {
	return func(object any) (any, error) { return s.digest(object), nil }
}

// Add keeps an object.
func (s *scope[F]) Add(object any) error {
	s.keep(object, false)
	return nil
}

// Update keeps an object.
func (s *scope[F]) Update(object any) error { return s.Add(object) }

// Delete forgets an object, whose last state is told.
func (s *scope[F]) Delete(object any) error {
	key := nameOf(object)
	was := s.lay(key, nil)
	last := &sighting{Object: object.(client.Object)} //nolint:forcetypeassert // as the watch tells it
	if was != nil {
		last.claims = was.claims
	}
	s.changed(last, nil, false)
	return nil
}

// Replace keeps what is listed, and forgets what is not.
func (s *scope[F]) Replace(objects []any, _ string) error {
	listed := make(map[types.NamespacedName]bool, len(objects))
	for _, object := range objects {
		listed[nameOf(object)] = true
		s.keep(object, !s.begun)
	}
	for _, key := range s.keys() {
		if !listed[key] && (s.namespace == "" || s.namespace == key.Namespace) {
			s.changed(s.lay(key, nil), nil, false)
		}
	}
	if !s.begun {
		s.begun = true
		s.filled()
	}
	return nil
}

// Resync has nothing to do: nobody needs to be told again what has not changed.
func (s *scope[F]) Resync() error { return nil }

func (s *scope[F]) keep(object any, initial bool) {
	digest := s.digest(object)
	was, is := s.lay(nameOf(object), digest), s.sighting(digest)
	if was == nil || was.GetResourceVersion() != is.GetResourceVersion() { // a list after a watch that was cut shows most of it unchanged
		s.changed(was, is, initial)
	}
}

func (k *kept[F]) keys() []types.NamespacedName {
	k.mu.RLock()
	defer k.mu.RUnlock()
	keys := make([]types.NamespacedName, 0, len(k.objects))
	for key := range k.objects {
		keys = append(keys, key)
	}
	return keys
}

// nameOf is the name of an object, whole or digested.
func nameOf(object any) types.NamespacedName {
	meta, ok := object.(metav1.Object)
	if !ok {
		meta = object.(metav1.ObjectMetaAccessor).GetObjectMeta() //nolint:forcetypeassert // an *other
	}
	return types.NamespacedName{Namespace: meta.GetNamespace(), Name: meta.GetName()}
}
