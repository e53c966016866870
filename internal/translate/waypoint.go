package translate

import (
	"encoding/json"
	"fmt"
	"maps"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// The labels by which Istio finds the waypoint of a Service or a ServiceEntry, and decides whether a ServiceEntry gets an address.
const (
	useWaypointLabel          = "istio.io/use-waypoint"
	useWaypointNamespaceLabel = "istio.io/use-waypoint-namespace"
	allocateAddressLabel      = "networking.istio.io/enable-autoallocate-ip"
	noWaypoint                = "none"
)

// The classes of Gateways that are waypoints, and the label of a Gateway that says what it is a waypoint for.
const (
	waypointClass             = "istio-waypoint"
	agentgatewayWaypointClass = "istio-agentgateway-waypoint"
	waypointForLabel          = "istio.io/waypoint-for"
)

// Waypoint is what matters of a Gateway of the Gateway API that exists.
type Waypoint struct {
	Class string
	// For is the traffic that the waypoint serves: service, workload, all, none, or nothing for service.
	For string
	// From and Selector are the namespaces whose Services may use the waypoint: All, Selector, or its own.
	From     string
	Selector *metav1.LabelSelector
}

// WaypointFacts reads the labels and the spec of a Gateway. Its listener for HBONE says who may use it (istio: pilot/pkg/serviceregistry/ambient/waypoints.go,
// makeAllowedRoutes).
func WaypointFacts(labelled map[string]string, spec []byte) Waypoint {
	var read struct {
		GatewayClassName string
		Listeners        []struct {
			Protocol      string
			Port          int64
			AllowedRoutes struct {
				Namespaces struct {
					From     string
					Selector *metav1.LabelSelector
				}
			}
		}
	}
	facts := Waypoint{For: labelled[waypointForLabel]}
	if json.Unmarshal(spec, &read) != nil {
		return facts
	}
	facts.Class = read.GatewayClassName
	for _, l := range read.Listeners {
		if l.Protocol == "HBONE" && l.Port == 15008 {
			facts.From, facts.Selector = l.AllowedRoutes.Namespaces.From, l.AllowedRoutes.Namespaces.Selector
			break
		}
	}
	return facts
}

// waypointOf is the waypoint of the route, nil if it has none.
func waypointOf(route *v1alpha1.ExternalRoute) *types.NamespacedName {
	if w := route.Spec.Waypoint; w != nil {
		return &types.NamespacedName{Namespace: string(w.Namespace), Name: string(w.Name)}
	}
	return nil
}

// checkWaypoint reports a waypoint that does not exist or cannot apply the route. One that nothing is known of is taken to be usable.
func checkWaypoint(route *v1alpha1.ExternalRoute, mesh Mesh, refusal *Refusal) {
	key := waypointOf(route)
	if key == nil {
		return
	}
	if key.Namespace == route.Namespace {
		for i, d := range route.Spec.Destinations {
			if showsCertificate(d) {
				refusal.add(v1alpha1.ReasonInvalid, field.ErrorList{field.Invalid(
					field.NewPath("spec", "destinations").Index(i).Child("tls", "clientCertificateRef", "name"), d.TLS.ClientCertificateRef.Name,
					"needs a waypoint of another namespace: pods with sidecars of this one would send plaintext")})
			}
		}
	}
	waypoint, known := mesh.Waypoints[*key]
	if !known {
		return
	}
	if why := unusable(route, *key, waypoint, mesh); why != "" {
		refusal.add(v1alpha1.ReasonGatewayNotUsable, field.ErrorList{Blocked(field.NewPath("spec", "waypoint"), "Gateway %s %s", key, why)})
	}
}

// unusable says why a Gateway cannot apply the route and what to do, or nothing.
func unusable(route *v1alpha1.ExternalRoute, key types.NamespacedName, waypoint *Waypoint, mesh Mesh) string {
	switch {
	case waypoint == nil:
		return fmt.Sprintf("does not exist: create it with `istioctl waypoint apply --namespace %s --name %s`, or name another one", key.Namespace, key.Name)
	case waypoint.Class == agentgatewayWaypointClass:
		return fmt.Sprintf("is of class %s, which ignores VirtualServices and DestinationRules: name a Gateway of class %s", waypoint.Class, waypointClass)
	case waypoint.Class != waypointClass:
		return fmt.Sprintf("is of class %s, which is no waypoint: name a Gateway of class %s", waypoint.Class, waypointClass)
	case waypoint.For != "" && waypoint.For != "service" && waypoint.For != "all":
		return fmt.Sprintf("serves no Services (label %s=%s): set the label to service or all", waypointForLabel, waypoint.For)
	case !waypoint.admits(key.Namespace, route.Namespace, mesh.NamespaceLabels):
		return fmt.Sprintf("does not allow Services of namespace %s: set allowedRoutes.namespaces.from of its HBONE listener to All", route.Namespace)
	}
	return ""
}

// admits reports whether Services of a namespace with these labels may use the waypoint. A selector counts only if the labels are known.
func (w *Waypoint) admits(own, namespace string, namespaceLabels map[string]string) bool {
	switch w.From {
	case "All":
		return true
	case "Selector":
		selector, err := metav1.LabelSelectorAsSelector(w.Selector)
		return namespaceLabels == nil || err == nil && selector.Matches(labels.Set(namespaceLabels))
	}
	return own == namespace
}

// ServiceLabels are those by which ztunnel sends calls of an alias to the route's waypoint, none if the route has none. They name the namespace even if that is
// the Service's own: no label has to go when the route gets another waypoint.
func ServiceLabels(route *v1alpha1.ExternalRoute) map[string]string {
	key := waypointOf(route)
	if key == nil {
		return nil
	}
	return map[string]string{useWaypointLabel: key.Name, useWaypointNamespaceLabel: key.Namespace}
}

// attach lets the waypoint serve the Service of an alias.
func attach(route *v1alpha1.ExternalRoute, meta *metav1.ObjectMeta) {
	if key := waypointOf(route); key != nil {
		mark(*key, meta, ServiceLabels(route))
	}
}

// detach labels the ServiceEntry of an upstream, so that ambient pods do not know it: they would send calls of its host to an address of Istio's.
func detach(route *v1alpha1.ExternalRoute, meta *metav1.ObjectMeta) {
	if key := waypointOf(route); key != nil {
		mark(*key, meta, map[string]string{useWaypointLabel: noWaypoint, allocateAddressLabel: "false"})
	}
}

func mark(waypoint types.NamespacedName, meta *metav1.ObjectMeta, with map[string]string) {
	maps.Copy(meta.Labels, with)
	if meta.Annotations == nil {
		meta.Annotations = map[string]string{}
	}
	meta.Annotations[v1alpha1.WaypointAnnotation] = waypoint.String()
}

// WaypointLabels are those of an object's labels that name its waypoint.
func WaypointLabels(all map[string]string) map[string]string {
	var found map[string]string
	for _, name := range []string{useWaypointLabel, useWaypointNamespaceLabel} {
		if value, has := all[name]; has {
			if found == nil {
				found = map[string]string{}
			}
			found[name] = value
		}
	}
	return found
}

// attached is the waypoint of a Service with these labels, in a namespace with those: the empty one if it has none (istio:
// pilot/pkg/serviceregistry/ambient/waypoints.go, fetchWaypointForTarget).
func attached(namespace string, service, namespaceLabels map[string]string) types.NamespacedName {
	for _, of := range []map[string]string{service, namespaceLabels} {
		name, says := of[useWaypointLabel]
		if !says {
			continue
		}
		if name == noWaypoint {
			return types.NamespacedName{}
		}
		if other, says := of[useWaypointNamespaceLabel]; says {
			namespace = other
		}
		return types.NamespacedName{Namespace: namespace, Name: name}
	}
	return types.NamespacedName{}
}

// checkAttached says why calls of an existing Service do not reach the route's waypoint, or nothing.
func checkAttached(route *v1alpha1.ExternalRoute, existing Service, mesh Mesh) string {
	want := waypointOf(route)
	if want == nil {
		return ""
	}
	is := attached(route.Namespace, existing.WaypointLabels, mesh.NamespaceLabels)
	if is == *want {
		return ""
	}
	why := "has no waypoint"
	if is.Name != "" {
		why = "uses the waypoint " + is.String()
	}
	return fmt.Sprintf("%s: label it with %s=%s and %s=%s", why, useWaypointLabel, want.Name, useWaypointNamespaceLabel, want.Namespace)
}
