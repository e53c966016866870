package cluster

import (
	"encoding/json"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/externalroute/externalroute/internal/conflict"
	"github.com/externalroute/externalroute/internal/translate"
)

// kind is one of the kinds of an optional API.
type kind struct {
	gvk       schema.GroupVersionKind
	newObject func() cached
	newList   func() list
	// rivalOf reads what matters of an object of other people, and dependency is how routes depend on the names that it claims.
	rivalOf    func(*record) rival
	dependency dependency
	// claimsOf and decode read an object that a route controls; they are nil for a kind that no route generates. A spec that cannot be read is decoded to an
	// empty one.
	claimsOf func(*record) claims
	decode   func(*record) translate.Object
}

// name tells the kind from others: one that no route generates has its group in it, since a generated one may have the same kind.
func (k kind) name() string {
	if k.decode == nil {
		return k.gvk.GroupKind().String()
	}
	return k.gvk.Kind
}

func newKind[K any](gvk schema.GroupVersionKind, dependency dependency) kind {
	return kind{gvk: gvk, newObject: func() cached { return &object[K]{} }, newList: func() list { return &objects[K]{} }, dependency: dependency}
}

// resource is what the API server serves the kind as. What the API machinery guesses is wrong for gateways.
func (k kind) resource() schema.GroupVersionResource {
	name := strings.ToLower(k.gvk.Kind) + "s"
	if stem, found := strings.CutSuffix(name, "entrys"); found {
		name = stem + "entries"
	}
	return k.gvk.GroupVersion().WithResource(name)
}

// istioKinds are those of Istio that routes generate.
func istioKinds(clusterDomain string) []kind {
	return []kind{
		istioKind(translate.ServiceEntryKind, dependsOnUpstream, clusterDomain,
			func(e *networkingv1.ServiceEntry) (*metav1.ObjectMeta, proto.Message) { return &e.ObjectMeta, &e.Spec },
			func(e *networkingv1.ServiceEntry) rival { return conflict.ServiceEntryFacts(e) }),
		istioKind(translate.DestinationRuleKind, dependsOnUpstream, clusterDomain,
			func(d *networkingv1.DestinationRule) (*metav1.ObjectMeta, proto.Message) {
				return &d.ObjectMeta, &d.Spec
			},
			func(d *networkingv1.DestinationRule) rival { return conflict.DestinationRuleFacts(d) }),
		istioKind(translate.GatewayKind, dependsOnGateways, clusterDomain,
			func(g *networkingv1.Gateway) (*metav1.ObjectMeta, proto.Message) { return &g.ObjectMeta, &g.Spec },
			func(g *networkingv1.Gateway) rival { return conflict.GatewayFacts(g) }),
		istioKind(translate.VirtualServiceKind, dependsOnHost, clusterDomain,
			func(v *networkingv1.VirtualService) (*metav1.ObjectMeta, proto.Message) {
				return &v.ObjectMeta, &v.Spec
			},
			func(v *networkingv1.VirtualService) rival { return conflict.VirtualServiceFacts(v, clusterDomain) }),
	}
}

// pointer is a pointer to a T that is a generated object.
type pointer[T any] interface {
	*T
	translate.Object
}

func istioKind[T any, P pointer[T]](generated translate.Kind, dependency dependency, clusterDomain string,
	parts func(P) (*metav1.ObjectMeta, proto.Message), rivalOf func(P) rival,
) kind {
	k := newKind[T](generated.GVK, dependency)
	read := func(r *record, repair func(json.RawMessage, proto.Message)) P {
		o := P(new(T))
		meta, spec := parts(o)
		*meta = r.ObjectMeta
		if len(r.Spec) > 0 && lenient.Unmarshal(r.Spec, spec) != nil {
			proto.Reset(spec)
			repair(r.Spec, spec)
		}
		return o
	}
	k.rivalOf = func(r *record) rival { return rivalOf(read(r, salvage)) }
	k.claimsOf = func(r *record) claims { return conflict.ClaimsOf(read(r, salvage), clusterDomain) }
	k.decode = func(r *record) translate.Object { return read(r, func(json.RawMessage, proto.Message) {}) }
	return k
}

// lenient ignores the fields and the enum values of a newer Istio.
var lenient = protojson.UnmarshalOptions{DiscardUnknown: true}

// salvage reads each field of a spec by itself. Messages that cannot be read are empty ones: an unreadable list of http routes is a route for all requests.
func salvage(raw json.RawMessage, spec proto.Message) {
	var values map[string]json.RawMessage
	if json.Unmarshal(raw, &values) != nil {
		return
	}
	message := spec.ProtoReflect()
	for name, value := range values {
		part := message.New().Interface()
		one, err := json.Marshal(map[string]json.RawMessage{name: value})
		if err == nil && lenient.Unmarshal(one, part) == nil {
			proto.Merge(spec, part)
			continue
		}
		switch field := message.Descriptor().Fields().ByJSONName(name); {
		case field == nil || field.Kind() != protoreflect.MessageKind || field.IsMap():
		case field.IsList():
			message.Mutable(field).List().AppendMutable()
		default:
			message.Mutable(field)
		}
	}
}

// The kinds of the Gateway API whose objects may serve Services of the mesh.
var (
	httpRouteKind = parentedKind[httpRoute](conflict.HTTPRouteKind)
	grpcRouteKind = parentedKind[grpcRoute](conflict.GRPCRouteKind)
)

func parentedKind[K any](name string) kind {
	k := newKind[K](schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: name}, dependsOnService)
	k.rivalOf = func(r *record) rival { return conflict.ParentsOf(r.Namespace, r.Spec) }
	return k
}

// xBackends is the version of XBackends that the operator reads.
var xBackends = schema.GroupVersionKind{Group: "gateway.networking.x-k8s.io", Version: "v1alpha1", Kind: conflict.XBackendKind}

// xBackendKind is the experimental kind of the Gateway API of whose objects istiod may make ServiceEntries.
func xBackendKind(clusterDomain string) kind {
	k := newKind[xBackend](xBackends, dependsOnUpstream)
	k.rivalOf = func(r *record) rival { return conflict.XBackendFacts(&r.ObjectMeta, r.Spec, clusterDomain) }
	return k
}

type (
	httpRoute struct{}
	grpcRoute struct{}
	xBackend  struct{}
)

// gatewayKind is the kind of the Gateway API whose objects may be waypoints.
var gatewayKind = func() kind {
	k := newKind[gatewayObject](schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "Gateway"}, dependsOnWaypoint)
	k.rivalOf = func(r *record) rival {
		return gateway{conflict.Name{Namespace: r.Namespace, Host: r.Name}, translate.WaypointFacts(r.Labels, r.Spec)}
	}
	return k
}()

type gatewayObject struct{}

// gateway is what matters of a Gateway. It takes nothing from routes: they depend on it by its name.
type gateway struct {
	name  conflict.Name
	facts translate.Waypoint
}

// Claims are its name.
func (g gateway) Claims() []conflict.Name { return []conflict.Name{g.name} }
