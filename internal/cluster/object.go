package cluster

import (
	"encoding/json"
	"slices"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/conflict"
	"github.com/externalroute/externalroute/internal/translate"
)

// object is what a cache has of an object of an optional API. Its decoder knows the metadata alone, so that no spec, however new or wrong, stops a list.
// K tells the kinds apart: a scheme knows a kind by its Go type.
type object[K any] struct {
	record `json:",inline"`
}

// record is what objects of all kinds have in common. It is never changed once it is in a cache.
type record struct {
	metav1.ObjectMeta `json:"metadata"`
	// Spec is empty once the object has been read, unless a route controls it or it was handed over to one.
	Spec json.RawMessage `json:"spec,omitempty"`
	// facts are the claims of an object that a route controls, and else a rival; they are nil before it has been read.
	facts any
}

// claims are what an object claims for the route that controls it.
type claims []conflict.Claim

// rival is what matters of an object of other people.
type rival interface {
	// Claims are the names that it may take from a route.
	Claims() []conflict.Name
}

// cached is an object of any kind.
type cached interface {
	client.Object
	content() *record
}

func (r *record) content() *record { return r }

// GetObjectKind returns nothing: the cache knows the kind.
func (r *record) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject copies an object, whose parts are never changed.
func (o *object[K]) DeepCopyObject() runtime.Object {
	c := *o
	return &c
}

// list is a list of objects of any kind.
type list interface {
	client.ObjectList
	records() []*record
}

type objects[K any] struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []object[K] `json:"items"`
}

// DeepCopyObject copies a list, whose objects are never changed.
func (l *objects[K]) DeepCopyObject() runtime.Object {
	c := *l
	c.Items = slices.Clone(l.Items)
	return &c
}

func (l *objects[K]) records() []*record {
	records := make([]*record, len(l.Items))
	for i := range l.Items {
		records[i] = &l.Items[i].record
	}
	return records
}

// transform reads an object and drops what nobody reads again. A cache may pass it an object twice.
func (k kind) transform(item any) (any, error) {
	o, ok := item.(cached)
	if !ok {
		return item, nil // a tombstone
	}
	r := o.content()
	if r.facts != nil {
		return item, nil
	}
	internMeta(r)
	if k.claimsOf != nil && routeOwner(r) != nil {
		r.facts = k.claimsOf(r)
		return item, nil
	}
	r.facts = k.rivalOf(r)
	stripMeta(r)
	if len(r.Annotations) == 0 {
		r.Spec = nil
	}
	return item, nil
}

// strip drops from an object of the manager's cache what nobody reads.
func strip(item any) (any, error) {
	object, ok := item.(client.Object)
	if !ok {
		return item, nil // a tombstone
	}
	internMeta(object)
	switch o := object.(type) {
	case *v1alpha1.ExternalRoute:
		return item, nil
	case *corev1.Service:
		o.Status = corev1.ServiceStatus{}
		o.Spec = corev1.ServiceSpec{Type: o.Spec.Type, ClusterIP: o.Spec.ClusterIP, Selector: o.Spec.Selector, Ports: o.Spec.Ports}
	}
	if routeOwner(object) == nil {
		waypoint := translate.WaypointLabels(object.GetLabels())
		stripMeta(object)
		object.SetLabels(waypoint)
	}
	return item, nil
}

// intern makes equal strings one: the cache keeps once what many objects have in common.
func intern(s string) string { return unique.Make(s).Value() }

func internMeta(o metav1.Object) {
	o.SetManagedFields(nil)
	o.SetNamespace(intern(o.GetNamespace()))
	if labels := o.GetLabels(); len(labels) == 1 && labels[v1alpha1.ManagedByLabel] == v1alpha1.ManagedByValue {
		o.SetLabels(generatedLabels)
	}
	delete(o.GetAnnotations(), corev1.LastAppliedConfigAnnotation)
	owners := slices.Clone(o.GetOwnerReferences()) // the decoder leaves room for four
	for i := range owners {
		owners[i].APIVersion, owners[i].Kind = intern(owners[i].APIVersion), intern(owners[i].Kind)
	}
	o.SetOwnerReferences(owners)
}

// generatedLabels are the labels of almost all generated objects, which share the map: an object of a cache is never changed.
var generatedLabels = map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}

// stripMeta keeps the annotation that hands an object over to a route, and no other annotation or label.
func stripMeta(o metav1.Object) {
	o.SetLabels(nil)
	to, handedOver := o.GetAnnotations()[v1alpha1.AdoptAnnotation]
	o.SetAnnotations(nil)
	if handedOver {
		o.SetAnnotations(map[string]string{v1alpha1.AdoptAnnotation: to})
	}
}

// routeOwner returns the owner that controls the object if that is an ExternalRoute, else nil. It is the only sign of a generated object: users may take
// its label away.
func routeOwner(o metav1.Object) *metav1.OwnerReference {
	if owner := metav1.GetControllerOfNoCopy(o); conflict.IsRoute(owner) {
		return owner
	}
	return nil
}
