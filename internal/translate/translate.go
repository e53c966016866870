// Package translate decides what an ExternalRoute means in Istio's words. It is a pure function of the route and of a few facts about the mesh: no
// client, no clock, no logger, no context. Equal input gives byte-equal output. Controller, command line, tests and docs all call it.
//
// It expects a route as the API server stores it: admitted by the CRD's rules and with its defaults filled in. It says what those rules cannot.
package translate

import (
	"cmp"
	"net/url"
	"slices"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// DefaultClusterDomain is the DNS domain of a cluster that nobody configured otherwise.
const DefaultClusterDomain = "cluster.local"

// Mesh is what a route cannot know by itself. References names the Services and ConfigMaps that matter for a route.
type Mesh struct {
	// ClusterDomain is the cluster's DNS domain.
	ClusterDomain string
	// Services are those that exist.
	Services map[types.NamespacedName]Service
	// GatewayUnwatched reports that the operator does not watch the namespace of the route's egress gateway.
	GatewayUnwatched bool
	// RoadPolicies are the policies that set the route's egress gateway, empty if the route names it itself.
	RoadPolicies []string
	// MissingConfigMaps are the names of ConfigMaps of the route's namespace that do not exist.
	MissingConfigMaps map[string]bool
	// Waypoints are the Gateways that a route names: nil for one that does not exist. One that is not among them is not known, and taken to be usable.
	Waypoints map[types.NamespacedName]*Waypoint
	// NamespaceLabels are those of the route's namespace, nil if they are not known.
	NamespaceLabels map[string]string
}

// Service is what matters of a Service that exists.
type Service struct {
	Type        corev1.ServiceType
	Headless    bool
	HasSelector bool
	Selector    map[string]string
	Ports       []corev1.ServicePort
	// WaypointLabels are those of its labels that name its waypoint.
	WaypointLabels map[string]string
	// Generated says that this route generated it and still owns it.
	Generated bool
	// Route is the name of another route that generated it and still owns it.
	Route string
}

// Object is one of the generated objects.
type Object interface {
	metav1.Object
	runtime.Object
}

// Item is a generated object, when it may be written, and the field of the route that asks for it. The object carries no owner reference: that of a
// cluster is the caller's to add.
type Item struct {
	Object
	Stage Stage
	Path  *field.Path
}

// Stage says when an object may be written.
type Stage int

const (
	// StageUpstream is what the VirtualService refers to: it is written at once.
	StageUpstream Stage = iota
	// StageTraffic moves traffic: it is written when the objects that it refers to have settled.
	StageTraffic
)

// Objects are what a route asks for, in the order in which they are written: an object refers only to objects before it.
type Objects []Item

// Of returns the objects of one Go type, in their order.
func Of[T Object](objects Objects) []T {
	var all []T
	for _, item := range objects {
		if object, is := item.Object.(T); is {
			all = append(all, object)
		}
	}
	return all
}

// Host is a complete name that a route serves.
type Host struct {
	Name string
	// Path is the field that asks for it.
	Path *field.Path
	// InPlace says that it is the host of one of the route's own destinations, whose requests the route upgrades to its settings, or an external host whose
	// TLS the route leads to its egress gateway.
	InPlace bool
}

// Translation is what a route means.
type Translation struct {
	Objects Objects
	// Hosts are in the order in which the VirtualService has them, or in that of a pass-through route.
	Hosts []Host
	// Destinations are the upstreams of the route's destinations, in their order.
	Destinations []v1alpha1.DestinationStatus
	// RuleOf is the index of the rule that each http route of the VirtualService comes from. A route without rules has one that matches all, of index 0.
	RuleOf []int
	// TakenOver are the existing Services whose own pods get no more traffic on the route's port.
	TakenOver []string
	// ClientCertificates are the names of the Secrets with the client certificates of destinations.
	ClientCertificates []string
	// HostScoped are the hosts to which the whole namespace speaks TLS.
	HostScoped []string
	// Gateway is the egress gateway, empty if there is none, and RoadPolicies are the policies that set it for the route.
	Gateway      string
	RoadPolicies []string
	// Waypoint applies the route to pods in ambient mode, empty if none does.
	Waypoint string
}

// OntoTraffic reports whether workloads may send requests to the route's hosts before the route exists. Its VirtualService then moves traffic from the
// first time on that it is written.
func (t *Translation) OntoTraffic() bool {
	return len(t.TakenOver) > 0 || slices.ContainsFunc(t.Hosts, func(h Host) bool { return h.InPlace })
}

// RealHosts are the hosts outside the cluster that the route sends requests to, by the names that DNS knows.
func (t *Translation) RealHosts(route *v1alpha1.ExternalRoute) []string {
	if PassesThrough(route) {
		return t.HostNames()
	}
	var hosts []string
	for _, d := range route.Spec.Destinations {
		if u, err := url.Parse(string(d.URL)); err == nil {
			hosts = appendNew(hosts, u.Hostname())
		}
	}
	return hosts
}

// HostNames are the complete names that the route serves.
func (t *Translation) HostNames() []string {
	names := make([]string, len(t.Hosts))
	for i, h := range t.Hosts {
		names[i] = h.Name
	}
	return names
}

// Translate returns what the route means, or why it is refused.
func Translate(route *v1alpha1.ExternalRoute, mesh Mesh) (*Translation, *Refusal) {
	if PassesThrough(route) {
		return passThrough(route, mesh)
	}
	var refusal Refusal

	aliases, inPlace, problems := readHosts(route, mesh.ClusterDomain)
	refusal.add(v1alpha1.ReasonInvalid, problems)
	destinations, problems := readDestinations(route, mesh)
	refusal.add(v1alpha1.ReasonInvalid, problems)
	refusal.add(v1alpha1.ReasonInvalid, checkInPlace(route, inPlace, destinations))
	if refusal.Reason != "" { // the rules speak about destinations: without those there is nothing to say
		return nil, &refusal
	}
	upstreams := groupUpstreams(route, inPlace, destinations)
	narrow := len(inPlace) > 0 || otherPorts(route.Namespace, aliases, mesh, PortOf(route))
	virtualService, ruleOf, problems := trafficFor(route, aliases, inPlace, destinations, narrow && route.Spec.EgressGateway == nil)
	refusal.add(v1alpha1.ReasonInvalid, problems)
	checkWaypoint(route, mesh, &refusal)
	services, takenOver := servicesFor(route, aliases, mesh, &refusal)
	gateway := readGateway(route, mesh, &refusal)
	checkConfigMaps(destinations, mesh, &refusal)
	if refusal.Reason != "" {
		return nil, &refusal
	}

	road := Objects{trafficItem(virtualService)}
	if gateway != nil {
		gateway.confine(route, upstreams)
		services = append(services, serviceEntries(route, gateway.inPlace(route, inPlace, destinations))...)
		road = gateway.legs(route, virtualService, destinations, narrow)
	}
	translation := &Translation{
		Objects:      slices.Concat(services, serviceEntries(route, upstreams), destinationRules(route, upstreams), road),
		Hosts:        served(route, aliases, inPlace),
		Destinations: statusOf(destinations),
		RuleOf:       ruleOf,
		TakenOver:    takenOver,
		HostScoped:   hostScoped(upstreams),

		ClientCertificates: clientCertificates(destinations),
	}
	if key := waypointOf(route); key != nil {
		translation.Waypoint = key.String()
	}
	translation.nameGateway(route, mesh)
	return translation, nil
}

func (t *Translation) nameGateway(route *v1alpha1.ExternalRoute, mesh Mesh) {
	if g := route.Spec.EgressGateway; g != nil {
		t.Gateway, t.RoadPolicies = GatewayService(g).String(), mesh.RoadPolicies
	}
}

// trafficFor is the VirtualService, and the rules of its http routes.
func trafficFor(route *v1alpha1.ExternalRoute, aliases []alias, inPlace []string, destinations []*destination, narrow bool,
) (*networkingv1.VirtualService, []int, field.ErrorList) {
	if SpeaksTCP(route) {
		virtualService, problems := tcpVirtualService(route, aliases, destinations)
		return virtualService, nil, problems
	}
	return virtualServiceFor(route, aliases, inPlace, destinations, narrow)
}

// serviceEntries are those of upstreams. The first destination of an upstream asks for its objects.
func serviceEntries(route *v1alpha1.ExternalRoute, upstreams []*upstream) (entries Objects) {
	for _, u := range upstreams {
		entries = append(entries, Item{Object: serviceEntryFor(route, u), Stage: StageUpstream, Path: u.destinations[0].path})
	}
	return entries
}

func destinationRules(route *v1alpha1.ExternalRoute, upstreams []*upstream) (rules Objects) {
	for _, u := range upstreams {
		rules = append(rules, Item{Object: destinationRuleFor(route, u), Stage: StageUpstream, Path: u.destinations[0].path})
	}
	return rules
}

// trafficItem is the VirtualService that moves traffic.
func trafficItem(virtualService *networkingv1.VirtualService) Item {
	return Item{Object: virtualService, Stage: StageTraffic, Path: field.NewPath("spec", "hosts")}
}

func statusOf(destinations []*destination) []v1alpha1.DestinationStatus {
	all := make([]v1alpha1.DestinationStatus, len(destinations))
	for i, d := range destinations {
		all[i] = v1alpha1.DestinationStatus{Name: d.name, Host: d.upstream, Port: int32(d.port), Subset: d.subset} //nolint:gosec // 1..65535
	}
	return all
}

func showsCertificate(d v1alpha1.Destination) bool {
	return d.TLS != nil && d.TLS.ClientCertificateRef != nil
}

func clientCertificates(destinations []*destination) []string {
	var secrets []string
	for _, d := range destinations {
		if showsCertificate(*d.Destination) {
			secrets = appendNew(secrets, string(d.TLS.ClientCertificateRef.Name))
		}
	}
	return secrets
}

func hostScoped(upstreams []*upstream) []string {
	var hosts []string
	for _, u := range upstreams {
		if u.hostWide() != nil {
			hosts = appendNew(hosts, u.name)
		}
	}
	return hosts
}

// meta is the metadata of a generated object. Its label is the same for every route: Istio merges ServiceEntries of one host only when their labels
// are equal (istio: pilot/pkg/model/sidecar.go, canMergeServices).
func meta(route *v1alpha1.ExternalRoute, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:      name,
		Namespace: route.Namespace,
		Labels:    map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue},
	}
}

// exportTo are the namespaces that use the route's objects: those of knownTo or, if it shows a client certificate at a waypoint, that of the waypoint alone.
// Sidecars do not have the certificate, and would send plaintext.
func exportTo(route *v1alpha1.ExternalRoute) []string {
	if key := waypointOf(route); key != nil && slices.ContainsFunc(route.Spec.Destinations, showsCertificate) {
		return []string{key.Namespace}
	}
	return knownTo(route)
}

// knownTo is the route's exportTo and the namespace of its waypoint, in a canonical form: Istio merges objects only if theirs are written alike.
func knownTo(route *v1alpha1.ExternalRoute) []string {
	namespaces := make([]string, 0, len(route.Spec.ExportTo)+1)
	for _, n := range route.Spec.ExportTo {
		namespaces = append(namespaces, string(n))
	}
	if key := waypointOf(route); key != nil && !slices.Contains(namespaces, "*") {
		namespaces = append(namespaces, key.Namespace)
	}
	return namespacesOf(route, namespaces...)
}

// namespacesOf are namespaces in the form of exportTo.
func namespacesOf(route *v1alpha1.ExternalRoute, namespaces ...string) []string {
	written := slices.Clone(namespaces)
	for i, n := range written {
		if n == route.Namespace {
			written[i] = "."
		}
	}
	slices.Sort(written) // "." sorts before every name
	return slices.Compact(written)
}

// private reports whether the route is for the workloads of its own namespace alone.
func private(route *v1alpha1.ExternalRoute) bool {
	return !slices.ContainsFunc(route.Spec.ExportTo, func(n v1alpha1.ExportNamespace) bool { return n != "." && string(n) != route.Namespace })
}

// PortOf is the port on which workloads call the route's hosts.
func PortOf(route *v1alpha1.ExternalRoute) int32 {
	switch {
	case PassesThrough(route):
		return cmp.Or(route.Spec.Port, 443)
	case SpeaksTCP(route):
		return cmp.Or(route.Spec.Port, portIn(route.Spec.Destinations[0].URL))
	}
	return cmp.Or(route.Spec.Port, 80)
}
