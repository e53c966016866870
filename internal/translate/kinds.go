package translate

import (
	stdjson "encoding/json"
	"fmt"
	"hash/fnv"
	"reflect"
	"slices"

	"google.golang.org/protobuf/proto"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// Kind is what differs from one generated kind to the next.
type Kind struct {
	GVK schema.GroupVersionKind
	// New returns an empty object of the kind.
	New func() Object

	// inSync reports whether the spec of live says what that of want says, and nothing about traffic beyond it.
	inSync func(want, live Object) bool
	// spell writes out the enums that Istio's JSON omits because they are zero, although people look for them. It is nil for a kind without any.
	spell func(spec map[string]any)
	// encode returns the spec of a wanted object as bytes, the same for an equal spec.
	encode func(want Object) []byte

	goType reflect.Type
}

// The generated kinds.
var (
	ServiceKind         = serviceKind()
	ServiceEntryKind    = istioKind("ServiceEntry", func(o *networkingv1.ServiceEntry) proto.Message { return &o.Spec }, spellEntry)
	DestinationRuleKind = istioKind("DestinationRule", func(o *networkingv1.DestinationRule) proto.Message { return &o.Spec }, spellTLSModes)
	GatewayKind         = istioKind("Gateway", func(o *networkingv1.Gateway) proto.Message { return &o.Spec }, spellServers)
	VirtualServiceKind  = istioKind("VirtualService", func(o *networkingv1.VirtualService) proto.Message { return &o.Spec }, spellWeights)
)

// Kinds are the generated kinds in the order of writing: a kind refers only to kinds before it. Deletion is in the reverse order.
var Kinds = []Kind{ServiceKind, ServiceEntryKind, DestinationRuleKind, GatewayKind, VirtualServiceKind}

// pointer is a pointer to a T that is an Object.
type pointer[T any] interface {
	*T
	Object
}

func serviceKind() Kind {
	k := newKind[corev1.Service](corev1.SchemeGroupVersion.WithKind("Service"))
	k.inSync = typed(func(want, live *corev1.Service) bool { return sameService(&want.Spec, &live.Spec) })
	k.encode = func(want Object) []byte {
		raw, err := stdjson.Marshal(want.(*corev1.Service).Spec) //nolint:forcetypeassert // by the kind's Go type
		if err != nil {
			panic(err) // a Service's spec has nothing that JSON cannot say
		}
		return raw
	}
	return k
}

// istioKind is a kind of Istio's, whose spec is a protobuf message.
func istioKind[T any, P pointer[T]](name string, spec func(P) proto.Message, spell func(map[string]any)) Kind {
	k := newKind[T, P](networkingv1.SchemeGroupVersion.WithKind(name))
	k.inSync = typed(func(want, live P) bool { return proto.Equal(spec(want), spec(live)) })
	k.spell = spell
	k.encode = func(want Object) []byte {
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(spec(want.(P))) //nolint:forcetypeassert // by the kind's Go type
		if err != nil {
			panic(err) // Istio's messages have no required fields
		}
		return raw
	}
	return k
}

func newKind[T any, P pointer[T]](gvk schema.GroupVersionKind) Kind {
	return Kind{GVK: gvk, New: func() Object { return P(new(T)) }, goType: reflect.TypeFor[P]()}
}

// typed compares objects of one Go type. Objects of different types are never in sync.
func typed[P Object](inSync func(want, live P) bool) func(want, live Object) bool {
	return func(want, live Object) bool {
		w, wantIs := want.(P)
		l, liveIs := live.(P)
		return wantIs && liveIs && inSync(w, l)
	}
}

// sameService leaves other users their own ports on a Service: the route needs its port alone.
func sameService(want, live *corev1.ServiceSpec) bool {
	return live.Type == want.Type && !slices.ContainsFunc(want.Ports, func(w corev1.ServicePort) bool {
		return !slices.ContainsFunc(live.Ports, func(l corev1.ServicePort) bool { return equality.Semantic.DeepEqual(l, w) })
	})
}

// typeMeta is what an object of the kind says about its kind.
func (k Kind) typeMeta() metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: k.GVK.GroupVersion().String(), Kind: k.GVK.Kind}
}

// KindNamed returns the generated kind of this name.
func KindNamed(kind string) (Kind, bool) {
	i := Rank(kind)
	if i < 0 {
		return Kind{}, false
	}
	return Kinds[i], true
}

// KindOf returns the kind of a generated object by its Go type: the type metadata of an object from a cache is empty.
func KindOf(object Object) Kind {
	goType := reflect.TypeOf(bare(object))
	i := slices.IndexFunc(Kinds, func(k Kind) bool { return k.goType == goType })
	if i < 0 {
		panic(fmt.Sprintf("%T is not a kind that a route generates", object))
	}
	return Kinds[i]
}

// Rank is the place of a kind in the order of writing, or -1 for a kind that no route generates.
func Rank(kind string) int {
	return slices.IndexFunc(Kinds, func(k Kind) bool { return k.GVK.Kind == kind })
}

// Key identifies a generated object.
type Key struct {
	Kind string
	types.NamespacedName
}

// KeyOf returns the key of an object.
func KeyOf(object Object) Key {
	return Key{Kind: KindOf(object).GVK.Kind, NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: object.GetName()}}
}

// String names the object within its namespace, as messages do.
func (k Key) String() string { return k.Kind + " " + k.Name }

// InSync reports whether live has the labels and annotations of want, and its spec. Other labels and annotations are their users' own, unless the operator
// has set them for a waypoint. Owner references are the caller's to compare.
func InSync(want, live Object) bool {
	return includes(live.GetLabels(), want.GetLabels()) && includes(live.GetAnnotations(), want.GetAnnotations()) &&
		want.GetAnnotations()[v1alpha1.WaypointAnnotation] == live.GetAnnotations()[v1alpha1.WaypointAnnotation] &&
		KindOf(want).inSync(bare(want), bare(live))
}

func includes(live, want map[string]string) bool {
	for key, value := range want {
		if found, ok := live[key]; !ok || found != value {
			return false
		}
	}
	return true
}

// Fingerprint tells what is wanted of an object from what was wanted of it before: its name, labels, annotations and spec. It is never 0.
func Fingerprint(want Object) uint64 {
	h := fnv.New64a()
	kind := KindOf(want)
	fmt.Fprintf(h, "%s %q %q %q ", kind.GVK.Kind, want.GetName(), want.GetLabels(), want.GetAnnotations()) // a map prints sorted by key
	h.Write(kind.encode(bare(want)))
	return h.Sum64() | 1
}

// bare is the object of an Item, which is an Object too.
func bare(object Object) Object {
	if item, is := object.(Item); is {
		return item.Object
	}
	return object
}
