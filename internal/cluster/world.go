package cluster

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/conflict"
	"github.com/externalroute/externalroute/internal/policy"
	"github.com/externalroute/externalroute/internal/translate"
)

// World answers for one pass what there is. An API that is installed or lost meanwhile makes no difference to it. While Istio is not installed, nobody has
// anything of it.
type World struct {
	cluster                                            *Cluster
	ctx                                                context.Context //nolint:containedctx // it lives as long as one pass
	istio, httpRoutes, grpcRoutes, gateways, xBackends *store
	err                                                error
}

var _ conflict.World = &World{}

// World returns what there is now.
func (c *Cluster) World(ctx context.Context) *World {
	return &World{
		cluster: c, ctx: ctx, istio: c.istio.filled.Load(), httpRoutes: c.httpRoutes.filled.Load(), grpcRoutes: c.grpcRoutes.filled.Load(),
		gateways: c.gateways.filled.Load(), xBackends: c.xBackends.filled.Load(),
	}
}

// IstioInstalled reports whether Istio's kinds are served, and all of their objects have been read.
func (w *World) IstioInstalled() bool { return w.istio != nil }

// Err returns the first failure of the answers so far.
func (w *World) Err() error { return w.err }

func (w *World) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// Owned returns the objects that a route controls. They belong to the cache. The spec of an object that cannot be read is empty.
func (w *World) Owned(route *v1alpha1.ExternalRoute) []translate.Object {
	found, err := w.cluster.generated(w.ctx, w.istio, client.InNamespace(route.Namespace), client.MatchingFields{ownerIndex: string(route.UID)})
	w.fail(err)
	owned := make([]translate.Object, len(found))
	for i := range found {
		owned[i] = found[i].decode()
	}
	return owned
}

// get reads the object of that kind and name, nil if there is none. The kind is the zero one for a Service.
func (w *World) get(key translate.Key) (object client.Object, of kind) {
	object = &corev1.Service{}
	var reader client.Reader = w.cluster.cache
	if i := slices.IndexFunc(w.cluster.istio.kinds, func(k kind) bool { return k.gvk.Kind == key.Kind }); i >= 0 {
		if w.istio == nil {
			return nil, of
		}
		of, reader = w.cluster.istio.kinds[i], w.istio
		object = of.newObject()
	}
	if err := reader.Get(w.ctx, key.NamespacedName, object, &client.GetOptions{UnsafeDisableDeepCopy: new(true)}); err != nil {
		w.fail(client.IgnoreNotFound(err))
		return nil, of
	}
	return object, of
}

// Object returns an object that belongs to a route, or was handed over to one, nil if there is none. It belongs to the cache. A spec that cannot be read is
// empty.
func (w *World) Object(key translate.Key) translate.Object {
	switch object, of := w.get(key); o := object.(type) {
	case cached:
		return of.decode(o.content())
	case translate.Object:
		return o
	}
	return nil
}

// Deleted reports whether an object is gone or being deleted. Another one of its name does not count.
func (w *World) Deleted(key translate.Key, uid types.UID) bool {
	object, _ := w.get(key)
	return object == nil || object.GetUID() != uid || !object.GetDeletionTimestamp().IsZero()
}

// Named returns the object of that kind and name, nil if there is none.
func (w *World) Named(key translate.Key) *conflict.Named {
	object, _ := w.get(key)
	if object == nil {
		return nil
	}
	return &conflict.Named{
		Identity: conflict.IdentityOf(object), UID: object.GetUID(),
		Controller: metav1.GetControllerOfNoCopy(object), Adopt: object.GetAnnotations()[v1alpha1.AdoptAnnotation],
	}
}

// VirtualServices returns those of other people that claim the host, in Istio's order.
func (w *World) VirtualServices(host string) []conflict.VirtualService {
	return others[conflict.VirtualService](w.istio, translate.VirtualServiceKind.GVK.Kind, conflict.Name{Host: host})
}

// ServiceEntries returns those of other people for a host in a namespace, in Istio's order, and those that Istio makes of XBackends.
func (w *World) ServiceEntries(namespace, host string) []conflict.ServiceEntry {
	name := conflict.Name{Namespace: namespace, Host: host}
	return slices.Concat(
		others[conflict.ServiceEntry](w.istio, translate.ServiceEntryKind.GVK.Kind, name),
		others[conflict.ServiceEntry](w.xBackends, xBackends.GroupKind().String(), name),
	)
}

// DestinationRules returns those of other people for a host in a namespace, in Istio's order.
func (w *World) DestinationRules(namespace, host string) []conflict.DestinationRule {
	return others[conflict.DestinationRule](w.istio, translate.DestinationRuleKind.GVK.Kind, conflict.Name{Namespace: namespace, Host: host})
}

// Gateways returns those of other people, in Istio's order.
func (w *World) Gateways() []conflict.Gateway {
	return others[conflict.Gateway](w.istio, translate.GatewayKind.GVK.Kind, conflict.Name{})
}

// others returns what matters of other people's objects of a kind that claim a name.
func others[R interface {
	rival
	Identify() conflict.Identity
}](from *store, kind string, name conflict.Name) []R {
	var found []R
	for _, r := range from.rivalsFor(kind, name) {
		found = append(found, r.facts.(R)) //nolint:forcetypeassert // by its kind
	}
	slices.SortFunc(found, func(a, b R) int { return a.Identify().Compare(b.Identify()) })
	return found
}

// HTTPRoutes returns the routes of the Gateway API whose parent is the Service, each for one port or for all.
func (w *World) HTTPRoutes(service types.NamespacedName) []conflict.HTTPRoute {
	name := conflict.Name{Namespace: service.Namespace, Host: service.Name}
	var found []conflict.HTTPRoute
	for _, from := range []struct {
		*store
		kind
	}{{w.httpRoutes, httpRouteKind}, {w.grpcRoutes, grpcRouteKind}} {
		for _, r := range from.rivalsFor(from.name(), name) {
			found = append(found, r.facts.(conflict.Parents).Serving(name, from.gvk.Kind, r)...) //nolint:forcetypeassert // by its kind
		}
	}
	slices.SortFunc(found, conflict.HTTPRoute.Compare)
	return found
}

// Waypoint returns what matters of a Gateway, nil if there is none, as far as that is known. In a namespace that the operator does not watch, nobody can know.
func (w *World) Waypoint(key types.NamespacedName) (waypoint *translate.Waypoint, watched bool, known Knowledge) {
	if !w.cluster.options.watches(key.Namespace) {
		return nil, false, Knowledge{Known: true}
	}
	for _, r := range w.gateways.rivalsFor(gatewayKind.name(), conflict.Name{Namespace: key.Namespace, Host: key.Name}) {
		facts := r.facts.(gateway).facts //nolint:forcetypeassert // by its kind
		waypoint = &facts
	}
	return waypoint, true, w.cluster.gateways.knowledge(w.gateways)
}

// Holders returns the claims of routes that clash with a claim: of objects that exist, and reserved.
func (w *World) Holders(claim conflict.Claim) []conflict.Holder {
	var holders []conflict.Holder
	add := func(h conflict.Holder) {
		if claim.Clashes(h.Claim) {
			holders = append(holders, h)
		}
	}
	// Reservations come first: a route releases its own when the cache has its objects.
	for _, h := range w.cluster.reservations.of(claim.Key) {
		add(h)
	}
	for _, share := range conflict.Shares {
		if share != "" && (share == claim.Share || claim.Serves) {
			continue // however many routes share it on these terms, they do not clash; and nobody shares what it serves
		}
		found, err := w.cluster.generated(w.ctx, w.istio, client.MatchingFields{claimIndex: claimValue(claim.Key, share)})
		w.fail(err)
		for _, object := range found {
			identity := conflict.IdentityOf(object)
			identity.Name = routeOwner(object).Name
			for _, c := range object.claims() {
				if c.Share == share {
					add(conflict.Holder{Identity: identity, Claim: c})
				}
			}
		}
	}
	return holders
}

// Route returns the route of a name with the egress gateway that policies set for it, nil if there is none.
func (w *World) Route(name types.NamespacedName) *v1alpha1.ExternalRoute {
	route, err := w.cluster.Route(w.ctx, name)
	w.fail(err)
	if route == nil {
		return nil
	}
	led, _ := w.scope(name.Namespace).Lead(route)
	return led
}

// scope is what the policies say about a namespace.
func (w *World) scope(namespace string) *policy.Scope {
	known, err := w.cluster.Namespace(w.ctx, namespace)
	w.fail(err)
	scope, _ := w.cluster.Scope(namespace, known)
	return scope
}

// Asking returns the routes of a namespace that compete for what is claimed, with the egress gateway that policies set for them.
func (w *World) Asking(namespace string, claim conflict.Claim) []*v1alpha1.ExternalRoute {
	routes, err := w.cluster.asking(w.ctx, namespace, claim)
	w.fail(err)
	scope := w.scope(namespace)
	var competitors []*v1alpha1.ExternalRoute
	for i := range routes {
		if competes(&routes[i]) {
			route, _ := scope.Lead(&routes[i])
			competitors = append(competitors, route)
		}
	}
	return competitors
}
