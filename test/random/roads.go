package random

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// along makes a spec one that takes a road out of the mesh. A single draw of all fields hits that rarely, since each road excludes many fields.
func along(d *drawing, spec map[string]any) {
	switch d.below(8) {
	case 0:
		overTCP(d, spec)
	case 1:
		overRoad(d, spec, "egressGateway", "waypoint")
		delete(spec, "exportTo")
	case 2:
		overRoad(d, spec, "waypoint", "egressGateway")
	}
}

// overRoad names a gateway, and removes the other road and what both exclude.
func overRoad(d *drawing, spec map[string]any, road, other string) {
	delete(spec, other)
	delete(spec, "workloadSelector")
	if spec[road] == nil {
		spec[road] = map[string]any{"name": d.one("istio-egressgateway", "waypoint"), "namespace": d.one("istio-system", d.namespace)}
	}
	destinations, _ := spec["destinations"].([]any)
	for _, item := range destinations {
		destination, _ := item.(map[string]any)
		if tls, is := destination["tls"].(map[string]any); is {
			delete(tls, "scope")
			delete(tls, "clientCertificateRef")
		}
	}
}

// gatewayService draws the Service of an egress gateway: one that can carry a route, in most cases.
func gatewayService(d *drawing, route *v1alpha1.ExternalRoute) translate.Service {
	if d.chance(2) {
		return service(d, route)
	}
	selector := map[string]string{"istio": d.one("egressgateway", "other")}
	port := corev1.ServicePort{Name: d.one("https", "tls", ""), Port: 443}
	if d.chance(4) {
		port = corev1.ServicePort{Name: d.one("https", "tls"), Port: 8443}
	}
	return translate.Service{Type: corev1.ServiceTypeClusterIP, HasSelector: true, Selector: selector, Ports: []corev1.ServicePort{port}}
}

// WithGateway makes a route name the egress gateway NAMESPACE/NAME, and returns that it has a Service that can carry the route.
func WithGateway(manifest *unstructured.Unstructured, route *v1alpha1.ExternalRoute, gateway string) map[types.NamespacedName]translate.Service {
	namespace, name, _ := strings.Cut(gateway, "/")
	route.Spec.EgressGateway = &v1alpha1.GatewayReference{Name: v1alpha1.DNSLabel(name), Namespace: v1alpha1.DNSLabel(namespace)}
	if err := unstructured.SetNestedStringMap(manifest.Object, map[string]string{"name": name, "namespace": namespace}, "spec", "egressGateway"); err != nil {
		panic(err) // it was admitted
	}
	return map[types.NamespacedName]translate.Service{{Namespace: namespace, Name: name}: {
		Type: corev1.ServiceTypeClusterIP, HasSelector: true, Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Name: "https", Port: 443}},
	}}
}

// waypoints draws what is known of the Gateway that a route names: one that can apply the route, in most cases.
func waypoints(d *drawing, key types.NamespacedName) map[types.NamespacedName]*translate.Waypoint {
	switch d.below(8) {
	case 0:
		return nil
	case 1:
		return map[types.NamespacedName]*translate.Waypoint{key: nil}
	case 2:
		return map[types.NamespacedName]*translate.Waypoint{key: {
			Class: d.one("istio-waypoint", "istio-agentgateway-waypoint", "istio"), For: d.one("", "workload", "none"), From: d.one("", "Same", "Selector"),
		}}
	}
	return map[types.NamespacedName]*translate.Waypoint{key: {Class: "istio-waypoint", For: d.one("", "service", "all"), From: "All"}}
}
