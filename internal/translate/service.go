package translate

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// ExportToAnnotation limits who sees a Service. Without it the sidecars of other namespaces get a cluster, a listener and a virtual host for it.
const ExportToAnnotation = "networking.istio.io/exportTo"

// servicesFor returns the Services of the aliases that have none, and the names of those that the route takes over. A Service that cannot carry the
// route's protocol is refused: it belongs to another client, and is never changed.
func servicesFor(route *v1alpha1.ExternalRoute, aliases []alias, mesh Mesh, refusal *Refusal) (services Objects, takenOver []string) {
	for _, a := range aliases {
		existing, exists := mesh.Services[types.NamespacedName{Namespace: route.Namespace, Name: a.service}]
		switch {
		case exists && existing.Route != "" && otherProtocol(route, existing):
			refusal.add(v1alpha1.ReasonHostConflict, field.ErrorList{Blocked(a.path,
				"%s belongs to ExternalRoute %s/%s, which serves port %d over another protocol: remove the host from one of the two routes",
				a.fqdn, route.Namespace, existing.Route, PortOf(route))})
		case exists && (!existing.Generated || existing.HasSelector):
			if problem := checkService(route, a, existing, mesh); problem != nil {
				refusal.add(v1alpha1.ReasonServiceNotUsable, field.ErrorList{problem})
			}
			if existing.HasSelector {
				takenOver = append(takenOver, a.service)
			}
		case !exists && route.Spec.ServiceCreationPolicy == v1alpha1.ServiceCreationNever:
			refusal.add(v1alpha1.ReasonServiceMissing, field.ErrorList{Blocked(a.path,
				"Service %s does not exist, and serviceCreationPolicy is Never: create the Service, or use IfMissing", a.service)})
		default:
			services = append(services, Item{Object: aliasService(route, a.service), Stage: StageUpstream, Path: a.path})
		}
	}
	return services, takenOver
}

// aliasService is a Service without a selector: it makes the name resolve and gives Istio a port to attach the routes to. Its address is never
// dialled, since the sidecar catches the call.
func aliasService(route *v1alpha1.ExternalRoute, name string) *corev1.Service {
	objectMeta := meta(route, name)
	protocol := aliasProtocol(route)
	objectMeta.Annotations = map[string]string{ExportToAnnotation: strings.Join(knownTo(route), ",")}
	attach(route, &objectMeta)
	return &corev1.Service{
		TypeMeta:   ServiceKind.typeMeta(),
		ObjectMeta: objectMeta,
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP,
			Ports: []corev1.ServicePort{{
				Name: protocol, AppProtocol: new(protocol), Protocol: corev1.ProtocolTCP, Port: PortOf(route), TargetPort: intstr.FromInt32(PortOf(route)),
			}},
		},
	}
}

// checkService says why an existing Service cannot carry the route.
func checkService(route *v1alpha1.ExternalRoute, a alias, existing Service, mesh Mesh) *field.Error {
	unusable := func(why string, args ...any) *field.Error {
		return Blocked(a.path, "Service %s %s", a.service, fmt.Sprintf(why, args...))
	}
	switch {
	case existing.Type == corev1.ServiceTypeExternalName:
		return unusable("is of type ExternalName, for which sidecars have no listener: use another host, or delete the Service and let the operator create one")
	case existing.Headless:
		return unusable("is headless, so that calls do not reach the sidecar's listener: use another host, or a Service with a cluster IP")
	case existing.HasSelector && !private(route):
		return unusable(`has a selector, and a route takes over the traffic of pods in its own namespace only: use exportTo ["."], or another host`)
	}
	port := portOf(route, existing)
	if port == nil {
		return unusable("has no TCP port %d: add it, or set spec.port to one of its ports", PortOf(route))
	}
	if otherProtocol(route, existing) {
		protocol := aliasProtocol(route)
		return unusable("does not declare port %d (name %q, appProtocol %q) as %s: use another port, or set its appProtocol to %s",
			PortOf(route), port.Name, ptr.Deref(port.AppProtocol, ""), strings.ToUpper(protocol), protocol)
	}
	if why := checkAttached(route, existing, mesh); why != "" {
		return unusable("%s", why)
	}
	return nil
}

// portOf is the Service's port on which workloads call the route, nil if there is none.
func portOf(route *v1alpha1.ExternalRoute, existing Service) *corev1.ServicePort {
	i := slices.IndexFunc(existing.Ports, func(p corev1.ServicePort) bool { return p.Port == PortOf(route) && p.Protocol != corev1.ProtocolUDP })
	if i < 0 {
		return nil
	}
	return &existing.Ports[i]
}

// otherProtocol says whether Istio does not use the route for its port of an existing Service.
func otherProtocol(route *v1alpha1.ExternalRoute, existing Service) bool {
	port := portOf(route, existing)
	if port == nil {
		return false
	}
	if SpeaksTCP(route) {
		return !carriesTCP(*port)
	}
	return !carriesHTTP(*port)
}

// aliasProtocol is the application protocol of the route's port of an alias, and the port's name.
func aliasProtocol(route *v1alpha1.ExternalRoute) string {
	if SpeaksTCP(route) {
		return tcpName
	}
	return "http"
}

// otherPorts says whether an alias has HTTP ports besides the route's: without match.port Istio would take those over too.
func otherPorts(namespace string, aliases []alias, mesh Mesh, port int32) bool {
	return slices.ContainsFunc(aliases, func(a alias) bool {
		existing := mesh.Services[types.NamespacedName{Namespace: namespace, Name: a.service}]
		if existing.Generated && !existing.HasSelector { // its port is about to become the route's
			return false
		}
		return slices.ContainsFunc(existing.Ports, func(p corev1.ServicePort) bool { return p.Port != port && carriesHTTP(p) })
	})
}

// carriesHTTP says whether Istio treats the port as HTTP or finds out by looking.
func carriesHTTP(port corev1.ServicePort) bool {
	protocol := protocolOf(port)
	return protocol == declaredHTTP || protocol == undeclared
}

// carriesTCP says whether Istio forwards connections to the port and reads nothing. If it had to find out the protocol, a server could not speak first.
func carriesTCP(port corev1.ServicePort) bool { return protocolOf(port) == declaredTCP }

// declared is what Istio takes the protocol of a Service's port for.
type declared int

const (
	undeclared declared = iota
	declaredHTTP
	declaredTCP
	declaredOther
)

// protocolOf reads a port as Istio does (istio: pkg/config/kube/conversion.go, ConvertProtocol).
func protocolOf(port corev1.ServicePort) declared {
	if port.Protocol == corev1.ProtocolUDP {
		return declaredOther
	}
	name := port.Name
	if port.AppProtocol != nil {
		name = *port.AppProtocol
		switch name {
		case "kubernetes.io/h2c", "kubernetes.io/ws":
			return declaredHTTP
		case "kubernetes.io/wss":
			return declaredOther
		}
	}
	name, _, _ = strings.Cut(strings.ToLower(name), "-")
	switch name {
	case "http", "http2", "http_proxy", "grpc": // grpc-web begins with grpc, and is HTTP too
		return declaredHTTP
	case "tcp", "mongo", "redis", "mysql":
		return declaredTCP
	case "udp", "https", "tls":
		return declaredOther
	}
	if slices.Contains([]int32{25, 53, 3306, 27017}, port.Port) { // unless told otherwise
		return declaredTCP
	}
	return undeclared
}

// carriesTLS says whether the port is declared as TLS.
func carriesTLS(port corev1.ServicePort) bool {
	name, _, _ := strings.Cut(strings.ToLower(ptr.Deref(port.AppProtocol, port.Name)), "-")
	return name == "https" || name == "tls"
}

// ServiceFacts are what matters of a Service that exists. A route of nil owns none.
func ServiceFacts(service *corev1.Service, route *v1alpha1.ExternalRoute) Service {
	facts := Service{
		Type:           service.Spec.Type,
		Headless:       service.Spec.ClusterIP == corev1.ClusterIPNone,
		HasSelector:    len(service.Spec.Selector) > 0,
		Selector:       service.Spec.Selector,
		Ports:          service.Spec.Ports,
		WaypointLabels: WaypointLabels(service.Labels),
		Generated:      route != nil && metav1.IsControlledBy(service, route),
	}
	if owner := metav1.GetControllerOfNoCopy(service); !facts.Generated && owner != nil && owner.Kind == "ExternalRoute" {
		facts.Route = owner.Name
	}
	return facts
}
