package controller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// The indexes by which an event finds the routes concerned.
const (
	ownerIndex     = "owner"     // generated objects by the UID of their route
	serviceIndex   = "service"   // routes by NAMESPACE/NAME of the Services that matter to them
	configMapIndex = "configmap" // routes by NAMESPACE/NAME of the ConfigMaps that they name
)

// Setup registers the reconciler, its watches and its indexes with a manager whose cache was made with CacheOptions.
func Setup(ctx context.Context, mgr manager.Manager, options Options) error {
	return setup(ctx, mgr, options, clock.RealClock{})
}

func setup(ctx context.Context, mgr manager.Manager, options Options, c clock.PassiveClock) error {
	r := &Reconciler{
		client:   mgr.GetClient(),
		recorder: mgr.GetEventRecorder("externalroute"),
		clock:    c,
		options:  options,
		memory:   newMemory(c),
		istio:    &istioCRDs{mapper: mgr.GetRESTMapper()},
	}
	if err := indexRoutes(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	woken := make(chan event.TypedGenericEvent[*v1alpha1.ExternalRoute])
	built, err := builder.ControllerManagedBy(mgr).
		Named("externalroute").
		For(&v1alpha1.ExternalRoute{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Service{}, r.onService()).
		WatchesRawSource(source.Channel(woken, &handler.TypedEnqueueRequestForObject[*v1alpha1.ExternalRoute]{})).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: options.Concurrency,
			ReconciliationTimeout:   time.Minute,
			EnableWarmup:            new(true),
			// What fails heals by itself at the latest this long after its cause is gone.
			RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](5*time.Millisecond, 30*time.Second),
		}).
		Build(r)
	if err != nil {
		return fmt.Errorf("build the controller: %w", err)
	}
	r.configMaps = &configMapWatch{client: mgr.GetClient(), watch: func() error {
		return built.Watch(source.Kind[client.Object](mgr.GetCache(), configMapMetadata(), handler.EnqueueRequestsFromMapFunc(r.byIndex(configMapIndex))))
	}}
	watchIstio := func() error {
		if err := indexByOwner(ctx, mgr.GetFieldIndexer(), istioKinds()...); err != nil {
			return err
		}
		for _, kind := range istioKinds() {
			if err := built.Watch(source.Kind(mgr.GetCache(), kind, r.onGenerated())); err != nil {
				return fmt.Errorf("watch %T: %w", kind, err)
			}
		}
		return nil
	}
	r.istio.arrive = func(ctx context.Context) error { return r.istioArrived(ctx, mgr, watchIstio, woken) }

	served, err := r.istio.served()
	if err != nil {
		return fmt.Errorf("ask for Istio's kinds: %w", err)
	}
	if !served {
		return mgr.Add(r.istio)
	}
	r.istio.ready.Store(true)
	return watchIstio()
}

// istioArrived begins to watch Istio's kinds and wakes every route once their caches are filled.
func (r *Reconciler) istioArrived(
	ctx context.Context, mgr manager.Manager, watch func() error, woken chan<- event.TypedGenericEvent[*v1alpha1.ExternalRoute],
) error {
	if err := watch(); err != nil {
		return err
	}
	for _, kind := range istioKinds() {
		if _, err := mgr.GetCache().GetInformer(ctx, kind); err != nil { // blocks until it is filled
			return fmt.Errorf("fill the cache of %T: %w", kind, err)
		}
	}
	r.istio.ready.Store(true)
	var routes v1alpha1.ExternalRouteList
	if err := r.client.List(ctx, &routes); err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for i := range routes.Items {
		select {
		case woken <- event.TypedGenericEvent[*v1alpha1.ExternalRoute]{Object: &routes.Items[i]}:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

func indexRoutes(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, &v1alpha1.ExternalRoute{}, serviceIndex, func(o client.Object) []string {
		var keys []string
		for _, key := range translate.ReferencesOf(o.(*v1alpha1.ExternalRoute)).Services { //nolint:forcetypeassert // an index of routes
			keys = append(keys, key.String())
		}
		return keys
	})
	if err != nil {
		return fmt.Errorf("index routes by Service: %w", err)
	}
	err = indexer.IndexField(ctx, &v1alpha1.ExternalRoute{}, configMapIndex, func(o client.Object) []string {
		var keys []string
		for _, name := range translate.ReferencesOf(o.(*v1alpha1.ExternalRoute)).ConfigMaps { //nolint:forcetypeassert // an index of routes
			keys = append(keys, types.NamespacedName{Namespace: o.GetNamespace(), Name: name}.String())
		}
		return keys
	})
	if err != nil {
		return fmt.Errorf("index routes by ConfigMap: %w", err)
	}
	return indexByOwner(ctx, indexer, &corev1.Service{})
}

func indexByOwner(ctx context.Context, indexer client.FieldIndexer, kinds ...client.Object) error {
	for _, kind := range kinds {
		err := indexer.IndexField(ctx, kind, ownerIndex, func(o client.Object) []string {
			if owner := routeOwner(o); owner != nil {
				return []string{string(owner.UID)}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("index %T by owner: %w", kind, err)
		}
	}
	return nil
}
