package controller

import (
	"context"

	"google.golang.org/protobuf/proto"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// onGenerated wakes the route that an object belongs to, or that waits for it to go.
func (r *Reconciler) onGenerated() handler.EventHandler {
	return r.on(func(_ context.Context, object client.Object) []reconcile.Request { return r.byOwner(object) })
}

// onService also wakes the routes to which the Service matters as an alias or as a name of the cluster.
func (r *Reconciler) onService() handler.EventHandler {
	concerned := r.byIndex(serviceIndex)
	return r.on(func(ctx context.Context, object client.Object) []reconcile.Request {
		return append(r.byOwner(object), concerned(ctx, object)...)
	})
}

// on tells the memory what the cache knows now, and wakes the routes concerned by an object, before the change and after it.
func (r *Reconciler) on(concerned handler.MapFunc) handler.EventHandler {
	wake := func(ctx context.Context, q queue, objects ...client.Object) {
		seen := map[reconcile.Request]bool{}
		for _, object := range objects {
			for _, request := range concerned(ctx, object) {
				if !seen[request] {
					seen[request] = true
					q.Add(request)
				}
			}
		}
	}
	return handler.WithLowPriorityWhenUnchanged(handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			r.memory.observed(e.Object)
			wake(ctx, q, e.Object)
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			r.memory.observed(e.ObjectNew)
			wake(ctx, q, e.ObjectOld, e.ObjectNew)
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			r.memory.observed(e.Object)
			r.memory.observedDeletion(e.Object)
			wake(ctx, q, e.Object)
		},
	})
}

func (r *Reconciler) byOwner(object client.Object) []reconcile.Request {
	var requests []reconcile.Request
	if owner := routeOwner(object); owner != nil {
		requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: owner.Name}})
	}
	if route, waits := r.memory.waiter(referenceTo(object)); waits {
		requests = append(requests, reconcile.Request{NamespacedName: route})
	}
	return requests
}

// byIndex finds the routes that an index holds for an object's name.
func (r *Reconciler) byIndex(name string) handler.MapFunc {
	return func(ctx context.Context, object client.Object) []reconcile.Request {
		var routes v1alpha1.ExternalRouteList
		key := client.ObjectKeyFromObject(object).String()
		if err := r.client.List(ctx, &routes, client.MatchingFields{name: key}, client.UnsafeDisableDeepCopy); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "Listed routes", "index", name, "key", key) // a cache that has begun does not fail
			return nil
		}
		var requests []reconcile.Request
		for i := range routes.Items {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&routes.Items[i])})
		}
		return requests
	}
}

// CacheOptions keep the cache as small as the routes ask for. (One function for all kinds: to name those of Istio here, they would have to be there.)
func CacheOptions() cache.Options {
	return cache.Options{DefaultTransform: stripped}
}

// stripped drops from an object what nobody reads. Of an object that no route controls, its name and its owner remain, and of a Service its ports too.
func stripped(object any) (any, error) {
	o, ok := object.(client.Object)
	if !ok {
		return object, nil // a tombstone
	}
	o.SetManagedFields(nil)
	foreign := routeOwner(o) == nil
	switch o := o.(type) {
	case *v1alpha1.ExternalRoute:
		return object, nil
	case *corev1.Service:
		o.Status = corev1.ServiceStatus{}
		o.Spec = corev1.ServiceSpec{Type: o.Spec.Type, ClusterIP: o.Spec.ClusterIP, Selector: o.Spec.Selector, Ports: o.Spec.Ports}
	case *networkingv1.ServiceEntry:
		strip(foreign, &o.Spec, &o.Status)
	case *networkingv1.DestinationRule:
		strip(foreign, &o.Spec, &o.Status)
	case *networkingv1.VirtualService:
		strip(foreign, &o.Spec, &o.Status)
	}
	if foreign {
		stripMeta(o)
	}
	return object, nil
}

func strip(foreign bool, spec, status proto.Message) {
	proto.Reset(status)
	if foreign {
		proto.Reset(spec)
	}
}

// stripMeta keeps of somebody else's labels and annotations those that hand the object over.
func stripMeta(o metav1.Object) {
	o.SetLabels(nil)
	if to, found := o.GetAnnotations()[v1alpha1.AdoptAnnotation]; found {
		o.SetAnnotations(map[string]string{v1alpha1.AdoptAnnotation: to})
		return
	}
	o.SetAnnotations(nil)
}
