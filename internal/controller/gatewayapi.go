package controller

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/conflict"
	"github.com/externalroute/externalroute/internal/translate"
)

// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=httproutes,verbs=list;watch

// gatewayAPI looks for HTTPRoutes of the mesh, where Gateway API is installed. They are read without types: three fields of theirs matter.
type gatewayAPI struct {
	*optionalAPI
	// cache is asked itself: a manager's client would read what has no types from the API server.
	cache cache.Cache
}

var gatewayVersion = schema.GroupVersion{Group: "gateway.networking.k8s.io", Version: "v1"}

// follow watches HTTPRoutes while they are there.
func (g *gatewayAPI) follow(indexer client.FieldIndexer, built controller.Controller, wake handler.EventHandler) {
	g.watch = func(ctx context.Context) error {
		if err := indexer.IndexField(ctx, newHTTPRoute(), servedIndex, servedServices); err != nil {
			return fmt.Errorf("index HTTPRoutes by what they serve: %w", err)
		}
		return built.Watch(source.Kind[client.Object](g.cache, newHTTPRoute(), wake))
	}
	g.fill = func(ctx context.Context) error {
		_, err := g.cache.GetInformer(ctx, newHTTPRoute()) // blocks until it is filled
		return err
	}
	g.leave = func(ctx context.Context) error { return g.cache.RemoveInformer(ctx, newHTTPRoute()) }
}

// httpRoute is a route of the Gateway API that serves a Service.
type httpRoute struct {
	conflict.Identity
	kind, service string
}

func newHTTPRoute() *unstructured.Unstructured {
	route := &unstructured.Unstructured{}
	route.SetGroupVersionKind(gatewayVersion.WithKind("HTTPRoute"))
	return route
}

// rivals are the HTTPRoutes whose parent is one of the route's aliases, on its port.
func (g *gatewayAPI) rivals(ctx context.Context, route *v1alpha1.ExternalRoute) ([]httpRoute, error) {
	if !g.installed() {
		return nil, nil
	}
	var rivals []httpRoute
	for _, alias := range translate.ReferencesOf(route).Aliases {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(gatewayVersion.WithKind("HTTPRouteList"))
		if err := g.cache.List(ctx, list, client.MatchingFields{servedIndex: alias.String()}, client.UnsafeDisableDeepCopy); err != nil {
			return nil, err
		}
		for i := range list.Items {
			item := &list.Items[i]
			for _, parent := range serviceParents(item) {
				if parent.service == alias && (parent.port == 0 || parent.port == int64(route.Spec.Port)) {
					rivals = append(rivals, httpRoute{Identity: conflict.IdentityOf(item), kind: item.GetKind(), service: alias.Name})
					break
				}
			}
		}
	}
	return rivals, nil
}

// servedServices are the NAMESPACE/NAME of the Services that an HTTPRoute says it serves.
func servedServices(object client.Object) []string {
	var keys []string
	for _, p := range serviceParents(object) {
		keys = append(keys, p.service.String())
	}
	return keys
}

// parent is a Service that an HTTPRoute says it serves, on one port or on all.
type parent struct {
	service types.NamespacedName
	port    int64
}

func serviceParents(object client.Object) []parent {
	route, ok := object.(*unstructured.Unstructured)
	if !ok {
		return nil
	}
	references, _, _ := unstructured.NestedSlice(route.Object, "spec", "parentRefs") // what is not of this form is not for us
	var parents []parent
	for _, raw := range references {
		ref, ok := raw.(map[string]any)
		if !ok || ref["kind"] != "Service" {
			continue
		}
		if group, named := ref["group"].(string); !named || group != "" { // left out, it is that of Gateways
			continue
		}
		p := parent{service: types.NamespacedName{Namespace: route.GetNamespace()}}
		if namespace, named := ref["namespace"].(string); named && namespace != "" {
			p.service.Namespace = namespace
		}
		p.service.Name, _ = ref["name"].(string)
		p.port, _ = ref["port"].(int64)
		parents = append(parents, p)
	}
	return parents
}

// stripHTTPRoute keeps the parents.
func stripHTTPRoute(route *unstructured.Unstructured) {
	parents, _, _ := unstructured.NestedSlice(route.Object, "spec", "parentRefs")
	delete(route.Object, "status")
	route.Object["spec"] = map[string]any{"parentRefs": parents}
}
