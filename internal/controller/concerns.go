package controller

import (
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// concern is something by whose change a route may have to change.
type concern struct {
	kind            concernKind
	namespace, name string
}

type concernKind uint8

const (
	hostConcern      concernKind = iota // the complete name of a host, in no namespace: VirtualServices are for all
	upstreamConcern                     // a destination's host, in the route's namespace
	serviceConcern                      // a Service that is an alias, or a destination
	configMapConcern                    // a ConfigMap that is named
)

// concernsOf are what concerns a route.
func concernsOf(route *v1alpha1.ExternalRoute, clusterDomain string) []concern {
	var concerns []concern
	for _, host := range translate.HostsOf(route, clusterDomain) {
		concerns = append(concerns, concern{hostConcern, "", host})
	}
	for _, host := range translate.UpstreamsOf(route) {
		concerns = append(concerns, concern{upstreamConcern, route.Namespace, host})
	}
	references := translate.ReferencesOf(route)
	for _, key := range references.Services {
		concerns = append(concerns, concern{serviceConcern, key.Namespace, key.Name})
	}
	for _, name := range references.ConfigMaps {
		concerns = append(concerns, concern{configMapConcern, route.Namespace, name})
	}
	return concerns
}

// concerned finds routes by what concerns them. The cache's own indexes have two strings and two sets for each concern, which took a fifth of the memory of
// a route.
type concerned struct {
	clusterDomain string

	mu     sync.RWMutex
	routes map[concern][]types.NamespacedName
}

func newConcerned(clusterDomain string) *concerned {
	return &concerned{clusterDomain: clusterDomain, routes: map[concern][]types.NamespacedName{}}
}

// by are the routes that something concerns.
func (c *concerned) by(what concern) []reconcile.Request {
	c.mu.RLock()
	defer c.mu.RUnlock()
	requests := make([]reconcile.Request, len(c.routes[what]))
	for i, key := range c.routes[what] {
		requests[i].NamespacedName = key
	}
	return requests
}

// replace puts a route in the place of what it was before; nil where it was not, or is no more.
func (c *concerned) replace(was, is client.Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if route, ok := was.(*v1alpha1.ExternalRoute); ok {
		for _, what := range concernsOf(route, c.clusterDomain) {
			drop(c.routes, what, func(key types.NamespacedName) bool { return key == client.ObjectKeyFromObject(route) })
		}
	}
	if route, ok := is.(*v1alpha1.ExternalRoute); ok {
		for _, what := range concernsOf(route, c.clusterDomain) {
			c.routes[what] = slices.Concat(c.routes[what], []types.NamespacedName{client.ObjectKeyFromObject(route)})
		}
	}
}

// follow is told of every event of a route before anybody else, and lets it pass.
func (c *concerned) follow() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { c.replace(nil, e.Object); return true },
		UpdateFunc: func(e event.UpdateEvent) bool { c.replace(e.ObjectOld, e.ObjectNew); return true },
		DeleteFunc: func(e event.DeleteEvent) bool { c.replace(e.Object, nil); return true },
	}
}
