package cluster

import (
	"context"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/conflict"
	"github.com/externalroute/externalroute/internal/translate"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// wakeup gathers the routes over which a change triggers a pass.
type wakeup struct {
	*Cluster
	ctx    context.Context //nolint:containedctx // it lives as long as one event
	routes map[types.NamespacedName]bool
}

// add adds routes that were looked up. If that failed, the slow resync will reach them.
func (w *wakeup) add(routes []v1alpha1.ExternalRoute, err error) {
	if err != nil && w.ctx.Err() == nil {
		ctrl.LoggerFrom(w.ctx).Error(err, "Failed to find the routes that depend on an object")
	}
	for i := range routes {
		w.routes[client.ObjectKeyFromObject(&routes[i])] = true
	}
}

// onObject handles objects of a kind, for whose names dependency is how routes depend on them. Those of optional APIs are kept as rivals.
func (c *Cluster) onObject(kind string, dependency dependency, rivals *rivals) handler.EventHandler {
	addDependents := func(w *wakeup, object client.Object) {
		key := client.ObjectKeyFromObject(object)
		if owner := routeOwner(object); owner != nil {
			w.routes[types.NamespacedName{Namespace: key.Namespace, Name: owner.Name}] = true
		}
		if route := object.GetAnnotations()[v1alpha1.AdoptAnnotation]; route != "" {
			w.routes[types.NamespacedName{Namespace: key.Namespace, Name: route}] = true
		}
		w.add(c.routesNamed(w.ctx, translate.Key{Kind: kind, NamespacedName: key}))
		names := []conflict.Name{{Namespace: key.Namespace, Host: key.Name}}
		if o, optional := object.(cached); optional {
			names = rivalNames(object)
			claimed, _ := o.content().facts.(claims)
			for _, claim := range claimed {
				w.add(c.asking(w.ctx, key.Namespace, claim))
			}
		}
		for _, name := range names {
			w.add(c.dependents(w.ctx, metav1.NamespaceAll, dependency, name))
		}
	}
	changed := func(ctx context.Context, q queue, before, after client.Object, missed bool) {
		if rivals != nil {
			rivals.observe(kind, before, after)
		}
		if unchanged(before, after) {
			return
		}
		last := after
		if last == nil {
			last = before
		}
		c.observe(kind, last, missed) // before any pass
		c.trigger(ctx, q, func(w *wakeup) {
			for _, object := range []client.Object{before, after} {
				if object != nil {
					addDependents(w, object)
				}
			}
		})
	}
	return handler.WithLowPriorityWhenUnchanged(handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { changed(ctx, q, nil, e.Object, false) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			changed(ctx, q, e.ObjectOld, e.ObjectNew, false)
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			changed(ctx, q, e.Object, nil, e.DeleteStateUnknown)
		},
	})
}

// unchanged reports whether an event says nothing new about a Gateway, whose status changes all the time.
func unchanged(before, after client.Object) bool {
	was, isCached := before.(cached)
	is, isStill := after.(cached)
	if !isCached || !isStill {
		return false
	}
	_, isGateway := is.content().facts.(gateway)
	return isGateway && reflect.DeepEqual(was.content().facts, is.content().facts)
}

func (c *Cluster) trigger(ctx context.Context, q queue, gather func(*wakeup)) {
	w := &wakeup{Cluster: c, ctx: ctx, routes: map[types.NamespacedName]bool{}}
	gather(w)
	for route := range w.routes {
		q.Add(reconcile.Request{NamespacedName: route})
	}
}

// onRoute triggers passes over other routes when one asks for something else, or no longer competes for it. The pass over the route itself is the controller's.
func (c *Cluster) onRoute() handler.TypedEventHandler[*v1alpha1.ExternalRoute, reconcile.Request] {
	return handler.TypedFuncs[*v1alpha1.ExternalRoute, reconcile.Request]{
		UpdateFunc: func(ctx context.Context, e event.TypedUpdateEvent[*v1alpha1.ExternalRoute], q queue) {
			before, after := e.ObjectOld, e.ObjectNew
			c.trigger(ctx, q, func(w *wakeup) {
				if before.UID != after.UID || before.Generation != after.Generation || holdsUp(before, after) {
					w.competitors(before)
					w.competitors(after)
				}
				if waits(after) && !waits(before) { // what it waits for may have gone before the index knew that it waits
					w.routes[client.ObjectKeyFromObject(after)] = true
				}
			})
		},
		DeleteFunc: func(ctx context.Context, e event.TypedDeleteEvent[*v1alpha1.ExternalRoute], q queue) {
			c.trigger(ctx, q, func(w *wakeup) { w.competitors(e.Object) })
		},
	}
}

// competitors adds the other routes that ask for a host of the route, or wait for a destination.
func (w *wakeup) competitors(route *v1alpha1.ExternalRoute) {
	for _, host := range translate.HostsOf(route, w.options.ClusterDomain) {
		w.add(w.asking(w.ctx, route.Namespace, conflict.Claim{Host: host, Serves: true}))
	}
	for _, host := range translate.UpstreamsOf(route) {
		w.add(w.asking(w.ctx, route.Namespace, conflict.Claim{Host: host}))
	}
	delete(w.routes, client.ObjectKeyFromObject(route))
}
