package translate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// gateway is the egress gateway of a route. Requests take two legs: the object that moves traffic sends them from the sidecars to the gateway, and a
// VirtualService that the gateway alone sees sends them on.
type gateway struct {
	namespace string
	// host is the complete name of its Service, and port the Service's port that takes TLS.
	host string
	port uint32
	// selector are the labels of its pods.
	selector map[string]string
}

// gatewayPath is the field that asks for the objects of a gateway.
var gatewayPath = field.NewPath("spec", "egressGateway")

// GatewayService is the Service of a gateway.
func GatewayService(g *v1alpha1.GatewayReference) types.NamespacedName {
	return types.NamespacedName{Namespace: string(g.Namespace), Name: string(g.Name)}
}

// GatewayHost is the complete name of the Service of a route's egress gateway, empty if it has none.
func GatewayHost(route *v1alpha1.ExternalRoute, clusterDomain string) string {
	g := route.Spec.EgressGateway
	if g == nil {
		return ""
	}
	return ServiceHost(GatewayService(g), clusterDomain)
}

// ServiceHost is the complete name of a Service.
func ServiceHost(service types.NamespacedName, clusterDomain string) string {
	return strings.Join([]string{service.Name, service.Namespace, "svc", clusterDomain}, ".")
}

// GatewayExcluded is why a route cannot take an egress gateway, nil if it can. The API server refuses such a route if it names a gateway itself: a policy may
// name one for it.
func GatewayExcluded(route *v1alpha1.ExternalRoute) (problems field.ErrorList) {
	spec := field.NewPath("spec")
	exclude := func(path *field.Path, format string, args ...any) {
		problems = append(problems, Blocked(path, format, args...))
	}
	if route.Spec.Waypoint != nil {
		exclude(spec.Child("waypoint"), "excludes an egress gateway: remove it")
	}
	if route.Spec.WorkloadSelector != nil {
		exclude(spec.Child("workloadSelector"), "excludes an egress gateway, which cannot tell which pod sent a request: remove it")
	}
	if !private(route) {
		exclude(spec.Child("exportTo"), "excludes an egress gateway: use [\".\"], and a route in each namespace")
	}
	if SpeaksTCP(route) {
		exclude(spec.Child("destinations"), "an egress gateway takes http and https destinations, and no TCP")
	}
	for i, d := range route.Spec.Destinations {
		if d.TLS != nil && d.TLS.Scope == v1alpha1.TLSScopeHost {
			exclude(spec.Child("destinations").Index(i).Child("tls", "scope"), "Host excludes an egress gateway: use Route")
		}
	}
	if !PassesThrough(route) {
		return problems
	}
	for i, host := range route.Spec.Hosts {
		if strings.HasPrefix(string(host), "*.") {
			exclude(spec.Child("hosts").Index(i), "an egress gateway cannot resolve a wildcard: list the hosts")
		}
	}
	if PortOf(route) != 443 {
		exclude(spec.Child("port"), "a route without destinations passes TLS through an egress gateway on port 443 only: use it, or add destinations")
	}
	return problems
}

// Bypasses reports whether the objects of a route send its workloads' requests elsewhere than to the gateways, whose complete Service names these are.
func Bypasses(route *v1alpha1.ExternalRoute, objects []Object, gateways []string) bool {
	return slices.ContainsFunc(objects, func(object Object) bool {
		switch o := object.(type) {
		case *networkingv1.VirtualService:
			return !IsSecondLeg(o) && slices.ContainsFunc(hostsOf(o), func(host string) bool { return !slices.Contains(gateways, host) })
		case *networkingv1.ServiceEntry:
			return IsPassed(o, route) && !slices.Contains(gateways, LedTo(o))
		}
		return false
	})
}

// hostsOf are the hosts to which a VirtualService sends requests.
func hostsOf(v *networkingv1.VirtualService) (hosts []string) {
	for _, http := range v.Spec.Http {
		for _, r := range http.Route {
			hosts = append(hosts, r.Destination.Host)
		}
	}
	for _, tcp := range v.Spec.Tcp {
		for _, r := range tcp.Route {
			hosts = append(hosts, r.Destination.Host)
		}
	}
	return hosts
}

// readGateway returns the route's egress gateway, nil if it has none or a Service that cannot carry the route.
func readGateway(route *v1alpha1.ExternalRoute, mesh Mesh, refusal *Refusal) *gateway {
	if route.Spec.EgressGateway == nil {
		return nil
	}
	key := GatewayService(route.Spec.EgressGateway)
	service, exists := mesh.Services[key]
	port, declared := gatewayPort(service.Ports)
	var why string
	switch {
	case mesh.GatewayUnwatched:
		why = fmt.Sprintf("is in a namespace that the operator does not watch: add %s to its flag --watch-namespaces, or use another gateway", key.Namespace)
	case !exists:
		why = "does not exist: create it, or use another gateway"
	case service.Type == corev1.ServiceTypeExternalName:
		why = "is of type ExternalName and has no pods: use the Service of a gateway"
	case service.Type == corev1.ServiceTypeLoadBalancer, service.Type == corev1.ServiceTypeNodePort:
		why = fmt.Sprintf("is of type %s, so that clients outside the cluster could use the route: use the Service of an egress gateway, of type ClusterIP",
			service.Type)
	case service.Headless:
		why = "is headless, so that sidecars would not balance their requests: use a Service with a cluster IP"
	case !service.HasSelector:
		why = "has no selector, by which Istio finds the gateway's pods: add one, or use another gateway"
	case !declared:
		why = "has neither port 443 nor a port that is declared as TLS or HTTPS: add one, or use another gateway"
	default:
		return &gateway{
			namespace: key.Namespace, host: GatewayHost(route, mesh.ClusterDomain), port: uint32(port), selector: service.Selector, //nolint:gosec // 1..65535 by schema
		}
	}
	refusal.add(v1alpha1.ReasonGatewayNotUsable, field.ErrorList{Blocked(gatewayPath, "Service %s/%s %s", key.Namespace, key.Name, why)})
	return nil
}

// gatewayPort is the port of a gateway's Service to which sidecars speak TLS: 443, or the first one that is declared so.
func gatewayPort(ports []corev1.ServicePort) (number int32, found bool) {
	for _, usable := range []func(corev1.ServicePort) bool{func(p corev1.ServicePort) bool { return p.Port == 443 }, carriesTLS} {
		if i := slices.IndexFunc(ports, func(p corev1.ServicePort) bool { return p.Protocol != corev1.ProtocolUDP && usable(p) }); i >= 0 {
			return ports[i].Port, true
		}
	}
	return 0, false
}

// confine lets nobody but the gateway know the upstreams.
func (g *gateway) confine(route *v1alpha1.ExternalRoute, upstreams []*upstream) {
	for _, u := range upstreams {
		u.exportTo = namespacesOf(route, g.namespace)
	}
}

// inPlace are the upstreams by the real names of hosts that are upgraded in place. Sidecars need them to serve the hosts, and send nothing there.
func (g *gateway) inPlace(route *v1alpha1.ExternalRoute, hosts []string, destinations []*destination) []*upstream {
	var directly []*destination
	for _, d := range destinations {
		if slices.Contains(hosts, d.host) {
			direct := *d
			direct.private, direct.upstream = false, d.host
			directly = append(directly, &direct)
		}
	}
	return groupUpstreams(route, hosts, directly)
}

// legs are the objects of the way through the gateway, in the order of writing. The rules of the VirtualService become those of the second leg.
//
// A name stands for the second leg and for what it sends requests to. Whatever changes those makes another second leg beside the old one, and the first leg
// alone moves traffic.
func (g *gateway) legs(route *v1alpha1.ExternalRoute, rules *networkingv1.VirtualService, destinations []*destination, narrow bool) Objects {
	name := privateName(route.Namespace, append([]string{route.Name, "gateway", g.host, fmt.Sprint(g.port)}, targetsOf(rules)...)...)
	object, server := hashed(route.Name, route.Name, name), gatewayName(route.Name, name)
	first, second := rules.DeepCopy(), rules
	second.Name = object
	second.Spec.Hosts, second.Spec.Gateways = []string{name}, []string{route.Namespace + "/" + server}
	second.Spec.ExportTo = namespacesOf(route, g.namespace)

	subset := g.subset(route, name, destinations)
	leg := &istio.HTTPRoute{
		Rewrite: &istio.HTTPRewrite{Authority: name},
		Route: []*istio.HTTPRouteDestination{{Destination: &istio.Destination{
			Host: g.host, Subset: subset.Name, Port: &istio.PortSelector{Number: g.port},
		}}},
		Retries: retries(nil, nil),
	}
	if narrow {
		leg.Match = []*istio.HTTPMatchRequest{{Port: uint32(PortOf(route))}} //nolint:gosec // 1..65535 by schema
	}
	first.Spec.Http = []*istio.HTTPRoute{leg}
	rule := &networkingv1.DestinationRule{
		TypeMeta:   DestinationRuleKind.typeMeta(),
		ObjectMeta: meta(route, hashed(route.Name, route.Name, g.host, "gateway")),
		Spec:       istio.DestinationRule{Host: g.host, Subsets: []*istio.Subset{subset}, ExportTo: exportTo(route)},
	}
	return Objects{
		{Object: rule, Stage: StageUpstream, Path: gatewayPath},
		{Object: g.server(route, server, &istio.Server{
			Port:  &istio.Port{Number: g.port, Name: "https", Protocol: "HTTPS"},
			Hosts: []string{route.Namespace + "/" + name},
			Tls:   &istio.ServerTLSSettings{Mode: istio.ServerTLSSettings_ISTIO_MUTUAL},
		}), Stage: StageUpstream, Path: gatewayPath},
		{Object: second, Stage: StageUpstream, Path: gatewayPath},
		trafficItem(first),
	}
}

// subset is the route's part of what sidecars know of the gateway. Its TLS settings keep the namespace's own settings for the gateway's ports.
func (g *gateway) subset(route *v1alpha1.ExternalRoute, leg string, destinations []*destination) *istio.Subset {
	policy := &istio.TrafficPolicy{Tls: &istio.ClientTLSSettings{Mode: istio.ClientTLSSettings_ISTIO_MUTUAL, Sni: leg}}
	if slices.ContainsFunc(destinations, func(d *destination) bool { return d.Protocol == v1alpha1.ProtocolHTTP2 }) {
		policy.ConnectionPool = &istio.ConnectionPoolSettings{Http: &istio.ConnectionPoolSettings_HTTPSettings{
			H2UpgradePolicy: istio.ConnectionPoolSettings_HTTPSettings_UPGRADE,
		}}
	}
	return &istio.Subset{Name: hashed(strings.ReplaceAll(route.Name, ".", "-")+"-gateway", route.Name, leg), TrafficPolicy: policy}
}

// targetsOf are the clusters that a VirtualService sends requests to, each once, in an order of their own.
func targetsOf(v *networkingv1.VirtualService) []string {
	targets := map[string]bool{}
	for _, http := range v.Spec.Http {
		for _, r := range http.Route {
			targets[fmt.Sprintf("%s:%d %s", r.Destination.Host, r.Destination.Port.Number, r.Destination.Subset)] = true
		}
	}
	return slices.Sorted(maps.Keys(targets))
}

// pass leads a pass-through route's host to the gateway, which tells connections apart by the server name of their TLS. The entry by which sidecars know the
// host, the last object, moves traffic: its endpoint is the gateway, so that nothing leaves around it.
//
// Each host has objects of its own: hosts come and go without a change of those that stay, and Istio drops a Gateway's server as a whole if another one of the
// gateway has one of its hosts. All routes that pass a host through gateways of a namespace have one name for where it goes from there: the pods take
// the second leg of the oldest route, whichever Service selects them, and its cluster must still be there when that route, or its ServiceEntry alone, has
// gone.
func (g *gateway) pass(route *v1alpha1.ExternalRoute, host Host) Objects {
	port := servicePort(uint32(PortOf(route)), true) //nolint:gosec // 1..65535 by schema
	name := privateName(g.namespace, host.Name, passScheme)
	way := fmt.Sprintf("%s by %s:%d", name, g.host, g.port)
	server := gatewayName(route.Name, way)
	entry := &networkingv1.ServiceEntry{
		TypeMeta:   ServiceEntryKind.typeMeta(),
		ObjectMeta: meta(route, hashed(route.Name, route.Name, name)),
		Spec: istio.ServiceEntry{
			Hosts:      []string{name},
			Location:   istio.ServiceEntry_MESH_EXTERNAL,
			Ports:      []*istio.ServicePort{port},
			Resolution: istio.ServiceEntry_DNS,
			Endpoints:  []*istio.WorkloadEntry{{Address: host.Name}},
			ExportTo:   namespacesOf(route, g.namespace),
		},
	}
	leg := &networkingv1.VirtualService{
		TypeMeta:   VirtualServiceKind.typeMeta(),
		ObjectMeta: meta(route, hashed(route.Name, route.Name, way)),
		Spec: istio.VirtualService{
			Hosts:    []string{host.Name},
			Gateways: []string{route.Namespace + "/" + server},
			ExportTo: namespacesOf(route, g.namespace),
			Tls: []*istio.TLSRoute{{
				Match: []*istio.TLSMatchAttributes{{SniHosts: []string{host.Name}}},
				Route: []*istio.RouteDestination{{Destination: &istio.Destination{Host: name, Port: &istio.PortSelector{Number: port.Number}}}},
			}},
		},
	}
	return Objects{
		{Object: entry, Stage: StageUpstream, Path: host.Path},
		{Object: g.server(route, server, &istio.Server{
			Port:  &istio.Port{Number: g.port, Name: "tls", Protocol: "TLS"},
			Hosts: []string{route.Namespace + "/" + host.Name},
			Tls:   &istio.ServerTLSSettings{Mode: istio.ServerTLSSettings_PASSTHROUGH},
		}), Stage: StageUpstream, Path: gatewayPath},
		{Object: leg, Stage: StageUpstream, Path: gatewayPath},
	}
}

// server is a Gateway with one server on the gateway's pods.
func (g *gateway) server(route *v1alpha1.ExternalRoute, name string, server *istio.Server) *networkingv1.Gateway {
	return &networkingv1.Gateway{
		TypeMeta:   GatewayKind.typeMeta(),
		ObjectMeta: meta(route, name),
		Spec:       istio.Gateway{Selector: g.selector, Servers: []*istio.Server{server}},
	}
}

// LedTo is the gateway to which a ServiceEntry leads the hosts of a pass-through route, empty if it leads outside.
func LedTo(entry *networkingv1.ServiceEntry) string {
	if len(entry.Spec.Endpoints) == 0 || slices.ContainsFunc(entry.Spec.Hosts, isPrivate) {
		return ""
	}
	return entry.Spec.Endpoints[0].Address
}

// IsSecondLeg reports whether a VirtualService is for the pods of a gateway, and not for sidecars.
func IsSecondLeg(v *networkingv1.VirtualService) bool { return len(v.Spec.Gateways) > 0 }
