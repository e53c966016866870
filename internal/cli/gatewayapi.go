package cli

import (
	"encoding/json"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/externalroute/externalroute/internal/conflict"
	"github.com/externalroute/externalroute/internal/translate"
)

// The kinds of the Gateway API that matter to routes.
var (
	httpRouteKind = schema.GroupKind{Group: "gateway.networking.k8s.io", Kind: conflict.HTTPRouteKind}
	grpcRouteKind = schema.GroupKind{Group: "gateway.networking.k8s.io", Kind: conflict.GRPCRouteKind}
	waypointKind  = schema.GroupKind{Group: "gateway.networking.k8s.io", Kind: "Gateway"}
	xBackendKind  = schema.GroupKind{Group: "gateway.networking.x-k8s.io", Kind: conflict.XBackendKind}
)

// httpRoute is an HTTPRoute or a GRPCRoute of the input, and the Services that it serves.
type httpRoute struct {
	manifest
	conflict.Parents
}

// addGatewayAPI adds a fact if the manifest is of one of these kinds.
func (w *world) addGatewayAPI(m manifest) error {
	spec, err := json.Marshal(m.Object["spec"])
	if err != nil {
		return err
	}
	switch m.GroupVersionKind().GroupKind() {
	case httpRouteKind, grpcRouteKind:
		w.httpRoutes = append(w.httpRoutes, httpRoute{m, conflict.ParentsOf(m.GetNamespace(), spec)})
	case waypointKind:
		facts := translate.WaypointFacts(m.GetLabels(), spec)
		w.waypoints[types.NamespacedName{Namespace: m.GetNamespace(), Name: m.GetName()}] = &facts
	case xBackendKind:
		w.xBackends = append(w.xBackends, conflict.XBackendFacts(m, spec, w.clusterDomain))
	}
	return nil
}

// HTTPRoutes returns the HTTPRoutes and GRPCRoutes whose parent is the Service.
func (w *world) HTTPRoutes(service types.NamespacedName) (found []conflict.HTTPRoute) {
	for _, r := range w.httpRoutes {
		found = append(found, r.Serving(conflict.Name{Namespace: service.Namespace, Host: service.Name}, r.GetKind(), r)...)
	}
	slices.SortFunc(found, conflict.HTTPRoute.Compare)
	return found
}

// madeEntries returns the ServiceEntries that Istio makes of XBackends for a host in a namespace.
func (w *world) madeEntries(name conflict.Name) (found []conflict.ServiceEntry) {
	for _, entry := range w.xBackends {
		if slices.Contains(entry.Claims(), name) {
			found = append(found, entry)
		}
	}
	slices.SortFunc(found, func(a, b conflict.ServiceEntry) int { return a.Compare(b.Identity) })
	return found
}
