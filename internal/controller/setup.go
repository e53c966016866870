package controller

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
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
)

// The indexes of the cache.
const (
	ownerIndex  = "owner"  // generated Services by the UID of their route
	servedIndex = "served" // HTTPRoutes by NAMESPACE/NAME of the Services that they serve
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
		claims:   newClaims(),
		routes:   newConcerned(options.ClusterDomain),
	}
	r.metrics = newMetrics(mgr.GetCache(), r.generated, c)
	if err := indexByOwner(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	woken := make(chan event.TypedGenericEvent[*v1alpha1.ExternalRoute])
	r.woken = waker(ctx, woken)
	built, err := builder.ControllerManagedBy(mgr).
		Named("externalroute").
		For(&v1alpha1.ExternalRoute{}, builder.WithPredicates(r.routes.follow(), r.onRoute())).
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
	r.configMaps = &configMapWatch{client: mgr.GetClient(), life: ctx, tell: r.wakeAll, watch: func() error {
		if _, err := mgr.GetCache().GetInformer(ctx, configMapMetadata()); err != nil { // blocks until it is filled, as Watch does not
			return err
		}
		return built.Watch(source.Kind[client.Object](mgr.GetCache(), configMapMetadata(), handler.EnqueueRequestsFromMapFunc(r.byName(configMapConcern))))
	}}
	return errors.Join(r.watchOptional(ctx, mgr, built), mgr.Add(r.metrics), mgr.AddReadyzCheck("istio", r.istioSeen))
}

// watchOptional watches the kinds that may come and go.
func (r *Reconciler) watchOptional(ctx context.Context, mgr manager.Manager, built controller.Controller) error {
	asked, err := discovery.NewDiscoveryClientForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("make a discovery client: %w", err)
	}
	cluster, err := client.NewWithWatch(mgr.GetConfig(), client.Options{Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(), HTTPClient: mgr.GetHTTPClient()})
	if err != nil {
		return fmt.Errorf("make a client that watches: %w", err)
	}
	r.objects = newIstioObjects(cluster, r.options, r.onIstio())
	r.istio = newOptionalAPI(asked, networkingv1.SchemeGroupVersion, time.Second, time.Minute, "ServiceEntry", "DestinationRule", "VirtualService")
	r.istio.watch = func(context.Context) error { return built.Watch(r.objects) }
	r.istio.fill, r.istio.leave, r.istio.tell = r.objects.WaitForSync, r.objects.leave, r.wakeAll
	r.gatewayAPI = &gatewayAPI{newOptionalAPI(asked, gatewayVersion, 10*time.Second, time.Minute, "HTTPRoute"), mgr.GetCache()}
	r.gatewayAPI.follow(mgr.GetFieldIndexer(), built, r.onHTTPRoute())
	r.gatewayAPI.tell = r.wakeAll
	for _, api := range []*optionalAPI{r.istio, r.gatewayAPI.optionalAPI} {
		if err := api.begin(ctx); err != nil {
			return err
		}
		if err := mgr.Add(api); err != nil {
			return err
		}
	}
	return nil
}

// generated is how many objects of Istio's kinds belong to routes, where these kinds are watched.
func (r *Reconciler) generated() map[string]int {
	if !r.istio.installed() {
		return nil
	}
	return r.objects.generated()
}

// istioSeen says whether the objects of Istio have been seen, where there may be any.
func (r *Reconciler) istioSeen(*http.Request) error {
	if r.istio.installed() && !r.objects.filled() {
		return errors.New("not all of Istio's objects have been seen yet")
	}
	return nil
}

// onRoute tells the memory what the cache knows of routes now, and lets pass what may change something: a status of our own does not.
func (r *Reconciler) onRoute() predicate.Predicate {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			r.memory.observedRoute(e.ObjectNew)
			another := e.ObjectOld.GetUID() != e.ObjectNew.GetUID() // of the same name, made while the watch was cut
			return another || e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration()
		},
	}
}

// waker hands routes to the queue, as long as the operator lives.
func waker(ctx context.Context, woken chan<- event.TypedGenericEvent[*v1alpha1.ExternalRoute]) func(types.NamespacedName) {
	return func(key types.NamespacedName) {
		route := &v1alpha1.ExternalRoute{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
		select {
		case woken <- event.TypedGenericEvent[*v1alpha1.ExternalRoute]{Object: route}:
		case <-ctx.Done():
		}
	}
}

// wakeAll wakes every route.
func (r *Reconciler) wakeAll(ctx context.Context) error {
	var routes v1alpha1.ExternalRouteList
	if err := r.client.List(ctx, &routes, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for i := range routes.Items {
		r.woken(client.ObjectKeyFromObject(&routes.Items[i]))
	}
	return nil
}

func indexByOwner(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, &corev1.Service{}, ownerIndex, func(o client.Object) []string {
		if owner := routeOwner(o); owner != nil {
			return []string{string(owner.UID)}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("index Services by owner: %w", err)
	}
	return nil
}
