package controller

import (
	"context"
	"slices"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// onIstio wakes the route that an object belongs to, or that waits for it to go; where it is somebody else's, those that it may be a rival of.
func (r *Reconciler) onIstio() handler.EventHandler {
	return r.on(func(_ context.Context, object client.Object) []reconcile.Request {
		requests := r.byOwner(object)
		for _, claim := range object.(*sighting).claims { //nolint:forcetypeassert // as istioObjects shows them
			kind := upstreamConcern
			if claim.Namespace == "" {
				kind = hostConcern
			}
			requests = append(requests, r.routes.by(concern{kind, claim.Namespace, claim.Host})...)
		}
		return requests
	})
}

// onHTTPRoute wakes the routes whose aliases a route of the Gateway API serves.
func (r *Reconciler) onHTTPRoute() handler.EventHandler {
	return r.on(func(_ context.Context, object client.Object) []reconcile.Request {
		var requests []reconcile.Request
		for _, p := range serviceParents(object) {
			requests = append(requests, r.routes.by(concern{serviceConcern, p.service.Namespace, p.service.Name})...)
		}
		return requests
	})
}

// onService also wakes the routes to which the Service matters as an alias or as a name of the cluster.
func (r *Reconciler) onService() handler.EventHandler {
	named := r.byName(serviceConcern)
	return r.on(func(ctx context.Context, object client.Object) []reconcile.Request {
		return append(r.byOwner(object), named(ctx, object)...)
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

// byName finds the routes that an object concerns by its name.
func (r *Reconciler) byName(kind concernKind) handler.MapFunc {
	return func(_ context.Context, object client.Object) []reconcile.Request {
		return r.routes.by(concern{kind, object.GetNamespace(), object.GetName()})
	}
}

// CacheOptions keep the cache as small as the routes ask for: those whose labels the selector takes, or all, in some namespaces, or all. Istio's objects
// are not in it: see istioObjects.
func CacheOptions(routes labels.Selector, namespaces []string) cache.Options {
	options := cache.Options{
		DefaultTransform: stripped,
		ByObject:         map[client.Object]cache.ByObject{&v1alpha1.ExternalRoute{}: {Label: routes}},
	}
	for _, namespace := range namespaces {
		if options.DefaultNamespaces == nil {
			options.DefaultNamespaces = map[string]cache.Config{}
		}
		options.DefaultNamespaces[namespace] = cache.Config{}
	}
	return options
}

// stripped drops from an object what nobody reads.
func stripped(object any) (any, error) {
	o, ok := object.(client.Object)
	if !ok {
		return object, nil // a tombstone
	}
	o.SetManagedFields(nil)
	internMeta(o)
	switch o := o.(type) {
	case *v1alpha1.ExternalRoute:
		return object, nil
	case *corev1.Service:
		o.Status = corev1.ServiceStatus{}
		o.Spec = corev1.ServiceSpec{Type: o.Spec.Type, ClusterIP: o.Spec.ClusterIP, Selector: o.Spec.Selector, Ports: o.Spec.Ports}
	case *unstructured.Unstructured:
		stripHTTPRoute(o)
	}
	if routeOwner(o) == nil {
		stripMeta(o)
	}
	return object, nil
}

// intern makes equal strings one: what all routes have in common is kept once.
func intern(s string) string { return unique.Make(s).Value() }

func internMeta(o metav1.Object) {
	o.SetNamespace(intern(o.GetNamespace()))
	if own := o.GetLabels(); len(own) == 1 && own[v1alpha1.ManagedByLabel] == v1alpha1.ManagedByValue {
		o.SetLabels(generatedLabels)
	}
	if annotations := o.GetAnnotations(); annotations[corev1.LastAppliedConfigAnnotation] != "" {
		delete(annotations, corev1.LastAppliedConfigAnnotation)
	}
	owners := slices.Clone(o.GetOwnerReferences()) // the decoder leaves room for four
	for i := range owners {
		owners[i].APIVersion, owners[i].Kind = intern(owners[i].APIVersion), intern(owners[i].Kind)
	}
	o.SetOwnerReferences(owners)
}

// generatedLabels are the labels of almost all generated objects, which share them: nothing in the cache is ever changed.
var generatedLabels = map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}

// stripMeta keeps of somebody else's labels and annotations those that hand the object over.
func stripMeta(o metav1.Object) {
	o.SetLabels(nil)
	if to, found := o.GetAnnotations()[v1alpha1.AdoptAnnotation]; found {
		o.SetAnnotations(map[string]string{v1alpha1.AdoptAnnotation: to})
		return
	}
	o.SetAnnotations(nil)
}
