// Package cluster answers what exists: the objects of routes, those of other people, and the APIs that are served. Its answers come from caches, and it
// triggers a pass over each route for which an answer has changed. It decides nothing and writes nothing.
//
// Caches of controller-runtime hold everything. The manager's has routes, Services and the metadata of ConfigMaps and namespaces. The APIs that may be
// installed later than the operator (Istio's, Gateway API) have a cache each, which lives as long as their CustomResourceDefinitions.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/conflict"
	"github.com/externalroute/externalroute/internal/policy"
)

// The operator's rights to read. It reads ConfigMaps by name alone, the labels of namespaces, and never a Secret.
//
// +kubebuilder:rbac:groups=networking.externalroute.io,resources=externalroutes;externalroutepolicies,verbs=list;watch
// +kubebuilder:rbac:groups=networking.istio.io,resources=serviceentries;destinationrules;gateways;virtualservices,verbs=list;watch
// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=httproutes;grpcroutes;gateways,verbs=list;watch
// +kubebuilder:rbac:groups=gateway.networking.x-k8s.io,resources=xbackends,verbs=list;watch
// +kubebuilder:rbac:groups="",resources=services;configmaps;namespaces,verbs=list;watch

// Options are what an administrator may set.
type Options struct {
	// ClusterDomain is the cluster's DNS domain.
	ClusterDomain string
	// Namespaces are those that are watched; none means all.
	Namespaces []string
}

// watches reports whether the operator sees a namespace.
func (o Options) watches(namespace string) bool {
	return len(o.Namespaces) == 0 || slices.Contains(o.Namespaces, namespace)
}

// namespaces are those that are watched, or the empty one that means all.
func (o Options) namespaces() []string {
	if len(o.Namespaces) == 0 {
		return []string{metav1.NamespaceAll}
	}
	return o.Namespaces
}

// Cluster is what one operator sees of a cluster.
type Cluster struct {
	options Options
	// cache is the manager's.
	cache      cache.Cache
	istio      *api
	httpRoutes *api
	grpcRoutes *api
	gateways   *api
	xBackends  *api
	configMaps *metadata
	// namespaces are nil if the operator watches only some: namespaces are cluster-scoped, and its rights end with those that it watches.
	namespaces *metadata
	// policies are those that have been read from policyObjects, which is nil if namespaces is.
	policies      policy.Policies
	policyObjects *metadata

	expectations
	reservations reservations
	// queue is the controller's, nil until that starts; it starts with a pass over every route.
	queue atomic.Pointer[queue]
}

// CacheOptions are those of the manager's cache: the routes whose labels match the selector, and the namespaces that are named, or all. Nothing is read that is
// not watched.
func CacheOptions(routes labels.Selector, namespaces []string) cache.Options {
	return cache.Options{
		DefaultTransform:  strip,
		DefaultNamespaces: inNamespaces(namespaces),
		ByObject: map[client.Object]cache.ByObject{
			&v1alpha1.ExternalRoute{}: {Label: routes},
			metadataOf("Namespace"):   {Transform: stripNamespace},
		},
		ReaderFailOnMissingInformer: true,
	}
}

func inNamespaces(namespaces []string) map[string]cache.Config {
	configs := map[string]cache.Config{} // if it is empty, all
	for _, namespace := range namespaces {
		configs[namespace] = cache.Config{}
	}
	return configs
}

// New registers the indexes of a manager whose cache was made with CacheOptions.
func New(ctx context.Context, mgr manager.Manager, options Options) (*Cluster, error) {
	c := &Cluster{options: options, cache: mgr.GetCache()}
	var err error
	if c.istio, err = c.newAPI(mgr, time.Second, 0, istioKinds(options.ClusterDomain)...); err != nil {
		return nil, err
	}
	// Its routes may only take hosts away: an operator that is not allowed to read them, or cannot, is better than none.
	if c.httpRoutes, err = c.newAPI(mgr, 10*time.Second, 30*time.Second, httpRouteKind); err != nil {
		return nil, err
	}
	if c.grpcRoutes, err = c.newAPI(mgr, 10*time.Second, 30*time.Second, grpcRouteKind); err != nil {
		return nil, err
	}
	if c.gateways, err = c.newAPI(mgr, 10*time.Second, 30*time.Second, gatewayKind); err != nil {
		return nil, err
	}
	if c.xBackends, err = c.newAPI(mgr, 10*time.Second, 30*time.Second, xBackendKind(options.ClusterDomain)); err != nil {
		return nil, err
	}
	for _, index := range []struct {
		object client.Object
		name   string
		values client.IndexerFunc
	}{
		{&corev1.Service{}, ownerIndex, ownersOf},
		{&corev1.Service{}, claimIndex, c.claimsOfService},
		{&v1alpha1.ExternalRoute{}, routeIndex, c.dependenciesOf},
	} {
		if err := mgr.GetFieldIndexer().IndexField(ctx, index.object, index.name, index.values); err != nil {
			return nil, fmt.Errorf("index %T by %s: %w", index.object, index.name, err)
		}
	}
	return c, nil
}

// Watch lets a controller watch the cluster. The controller starts when everything that is served has been read.
func (c *Cluster) Watch(ctx context.Context, mgr manager.Manager, built controller.Controller) error {
	c.configMaps = c.readMetadata(ctx, mgr.GetAPIReader(), "ConfigMap", "ConfigMaps", c.options.namespaces(), c.onObject("ConfigMap", dependsOnConfigMap, nil))
	c.configMaps.answer() // the controller starts without them
	sources := []source.Source{
		source.Func(func(_ context.Context, q queue) error {
			c.queue.Store(&q)
			return nil
		}),
		source.Kind(c.cache, &v1alpha1.ExternalRoute{}, c.onRoute()),
		source.Kind[client.Object](c.cache, &corev1.Service{}, c.onObject("Service", dependsOnService, nil)),
		c.istio,
		c.httpRoutes,
		c.grpcRoutes,
		c.gateways,
		c.xBackends,
	}
	if len(c.options.Namespaces) == 0 {
		c.namespaces = c.readMetadata(ctx, mgr.GetAPIReader(), "Namespace", "namespaces", c.options.namespaces(), c.onNamespace())
		c.policyObjects = c.readPolicies(ctx, mgr.GetAPIReader())
		sources = append(sources, metadataSource{c.namespaces}, metadataSource{c.policyObjects})
	}
	for _, s := range sources {
		if err := built.Watch(s); err != nil {
			return fmt.Errorf("watch %v: %w", s, err)
		}
	}
	return mgr.AddReadyzCheck("istio", func(*http.Request) error {
		if !c.istio.hasLooked() {
			return errors.New("the operator has not read the objects of Istio yet")
		}
		return nil
	})
}

// Watches reports whether the operator sees a namespace.
func (c *Cluster) Watches(namespace string) bool { return c.options.watches(namespace) }

// RecheckIstio asks the API server at once whether it still serves Istio's kinds: it has refused one of them.
func (c *Cluster) RecheckIstio() { c.istio.recheck() }

// Reserve decides whether a route may begin to write, and records what it claims then, before any other route is judged. What it claimed before is released.
func (c *Cluster) Reserve(route *v1alpha1.ExternalRoute, judge func() (claims []conflict.Claim, granted bool)) {
	key := client.ObjectKeyFromObject(route)
	c.wakeCompetitors(key, c.reservations.reserve(key, judge))
}

// Release ends the reservation of a route: its objects exist, or it does not write them.
func (c *Cluster) Release(route types.NamespacedName) {
	c.wakeCompetitors(route, c.reservations.replace(route, nil))
}

// wakeCompetitors triggers passes over the other routes that may have waited for claims of a route.
func (c *Cluster) wakeCompetitors(route types.NamespacedName, released []conflict.Claim) {
	for _, claim := range released {
		others, _ := c.asking(context.Background(), route.Namespace, claim) // a cache that has been read neither blocks nor fails
		for i := range others {
			if other := client.ObjectKeyFromObject(&others[i]); other != route {
				c.wake(other)
			}
		}
	}
}

func (c *Cluster) wake(route types.NamespacedName) {
	if q := c.queue.Load(); q != nil {
		(*q).Add(reconcile.Request{NamespacedName: route})
	}
}

// wakeAll triggers a pass over every route.
func (c *Cluster) wakeAll(ctx context.Context) {
	routes, err := c.routes(ctx)
	if err != nil && ctx.Err() == nil {
		ctrl.LoggerFrom(ctx).Error(err, "Failed to trigger a pass over every route")
	}
	for i := range routes {
		c.wake(client.ObjectKeyFromObject(&routes[i]))
	}
}
