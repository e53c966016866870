package conflict

import (
	"cmp"
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The kinds of the Gateway API whose objects may serve HTTP of Services of the mesh: istiod makes a VirtualService of each.
const (
	HTTPRouteKind = "HTTPRoute"
	GRPCRouteKind = "GRPCRoute"
)

// HTTPRoute is an HTTPRoute of the Gateway API, or an object of another kind, that serves a Service.
type HTTPRoute struct {
	Identity
	Kind string
	// Port is the only port that it serves; 0 means all.
	Port int64
}

// Parents are the Services that a route of the Gateway API serves, each on one port or, if that is 0, on all.
type Parents []parent

type parent struct {
	service Name
	port    int64
}

// Claims are the Services.
func (p Parents) Claims() []Name {
	names := make([]Name, len(p))
	for i := range p {
		names[i] = p[i].service
	}
	return names
}

// Serving are the HTTPRoutes that an object of a kind with these parents is for a Service.
func (p Parents) Serving(service Name, kind string, object metav1.Object) (found []HTTPRoute) {
	for _, one := range p {
		if one.service == service {
			found = append(found, HTTPRoute{Identity: IdentityOf(object), Kind: kind, Port: one.port})
		}
	}
	return found
}

// Compare orders HTTPRoutes as Istio does.
func (r HTTPRoute) Compare(other HTTPRoute) int {
	return cmp.Or(r.Identity.Compare(other.Identity), cmp.Compare(r.Kind, other.Kind), cmp.Compare(r.Port, other.Port))
}

// ParentsOf reads the parents of a route of the Gateway API that are Services. A spec of another form has none.
func ParentsOf(namespace string, raw json.RawMessage) Parents {
	var spec struct {
		ParentRefs []struct {
			Group                 *string
			Kind, Namespace, Name string
			Port                  int64
		}
	}
	if json.Unmarshal(raw, &spec) != nil {
		return nil
	}
	var services Parents
	for _, ref := range spec.ParentRefs {
		if ref.Kind != "Service" || ref.Group == nil || *ref.Group != "" { // without a group, it is the group of Gateways
			continue
		}
		services = append(services, parent{Name{Namespace: cmp.Or(ref.Namespace, namespace), Host: ref.Name}, ref.Port})
	}
	return services
}
