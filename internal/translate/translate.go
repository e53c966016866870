// Package translate decides what an ExternalRoute means in Istio's words. It is a pure function of the route and of a few facts about the mesh: no
// client, no clock, no logger, no context. Equal input gives byte-equal output. Controller, command line, tests and docs all call it.
//
// It expects a route as the API server stores it: admitted by the CRD's rules and with its defaults filled in. It says what those rules cannot.
package translate

import (
	"fmt"
	"hash/fnv"
	"slices"

	"google.golang.org/protobuf/proto"
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
	// MissingConfigMaps are the names of ConfigMaps of the route's namespace that do not exist.
	MissingConfigMaps map[string]bool
}

// Service is what matters of a Service that exists.
type Service struct {
	Type        corev1.ServiceType
	Headless    bool
	HasSelector bool
	Ports       []corev1.ServicePort
	// Generated says that this route generated it and still owns it.
	Generated bool
}

// Objects are what a route asks for. They carry no owner reference: a cluster's is the controller's to add.
type Objects struct {
	Services         []*corev1.Service
	ServiceEntries   []*networkingv1.ServiceEntry
	DestinationRules []*networkingv1.DestinationRule
	VirtualService   *networkingv1.VirtualService

	// Hosts are the fully qualified names that the route serves, in the order in which the VirtualService has them, and HostPaths the fields that ask
	// for them.
	Hosts     []string
	HostPaths []*field.Path
	// UpstreamPaths are the destinations that ask for the ServiceEntries and DestinationRules, the first of each, in the same order.
	UpstreamPaths []*field.Path
	// TakenOver are the existing Services whose own pods get no more traffic on the route's port.
	TakenOver []string
	// HostScoped are the hosts that the whole namespace speaks TLS to.
	HostScoped []string
}

// Object is one of the generated objects.
type Object interface {
	metav1.Object
	runtime.Object
}

// All returns the objects in the order in which they are to be applied: what is referred to stands before what refers to it.
func (o *Objects) All() []Object {
	return append(o.Upstreams(), o.VirtualService)
}

// Upstreams returns what the VirtualService refers to: everything but that.
func (o *Objects) Upstreams() []Object {
	all := make([]Object, 0, len(o.Services)+len(o.ServiceEntries)+len(o.DestinationRules)+1)
	for _, s := range o.Services {
		all = append(all, s)
	}
	for _, s := range o.ServiceEntries {
		all = append(all, s)
	}
	for _, d := range o.DestinationRules {
		all = append(all, d)
	}
	return all
}

// Hash tells what the route asks for from what it asked for before. It is never 0.
func (o *Objects) Hash() uint64 {
	h := fnv.New64a()
	for _, object := range o.All() {
		h.Write([]byte(object.GetName()))
		var spec proto.Message
		switch typed := object.(type) {
		case *corev1.Service:
			fmt.Fprint(h, typed.Spec.Ports[0].Port, typed.Annotations)
			continue
		case *networkingv1.ServiceEntry:
			spec = &typed.Spec
		case *networkingv1.DestinationRule:
			spec = &typed.Spec
		case *networkingv1.VirtualService:
			spec = &typed.Spec
		}
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(spec)
		if err != nil {
			panic(err) // Istio's messages have no required fields
		}
		h.Write(raw)
	}
	return h.Sum64() | 1
}

// Translate returns the objects that the route asks for, or why there are none.
func Translate(route *v1alpha1.ExternalRoute, mesh Mesh) (*Objects, *Refusal) {
	var refusal Refusal

	aliases, inPlace, problems := readHosts(route, mesh.ClusterDomain)
	refusal.add(v1alpha1.ReasonInvalid, problems)
	destinations, problems := readDestinations(route, mesh)
	refusal.add(v1alpha1.ReasonInvalid, problems)
	refusal.add(v1alpha1.ReasonInvalid, checkInPlace(route, inPlace, destinations))
	refusal.add(v1alpha1.ReasonInvalid, checkExportTo(route))
	if refusal.Reason != "" { // the rules speak about destinations: without those there is nothing to say
		return nil, &refusal
	}
	upstreams := groupUpstreams(route, inPlace, destinations)
	virtualService, problems := virtualServiceFor(route, aliases, inPlace, destinations, otherPorts(route.Namespace, aliases, mesh, route.Spec.Port))
	refusal.add(v1alpha1.ReasonInvalid, problems)
	services, takenOver := servicesFor(route, aliases, mesh, &refusal)
	checkConfigMaps(destinations, mesh, &refusal)
	if refusal.Reason != "" {
		return nil, &refusal
	}

	objects := &Objects{
		Services:       services,
		VirtualService: virtualService,
		TakenOver:      takenOver,
	}
	for _, a := range aliases {
		objects.Hosts = append(objects.Hosts, a.fqdn)
		objects.HostPaths = append(objects.HostPaths, a.path)
	}
	for _, host := range inPlace {
		objects.Hosts = append(objects.Hosts, host)
		objects.HostPaths = append(objects.HostPaths, hostPath(route, host))
	}
	for _, u := range upstreams {
		objects.UpstreamPaths = append(objects.UpstreamPaths, u.destinations[0].path)
		objects.ServiceEntries = append(objects.ServiceEntries, serviceEntryFor(route, u))
		objects.DestinationRules = append(objects.DestinationRules, destinationRuleFor(route, u))
		if u.hostWide() != nil && !slices.Contains(objects.HostScoped, u.name) {
			objects.HostScoped = append(objects.HostScoped, u.name)
		}
	}
	return objects, nil
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

// exportTo is the route's exportTo in an order of its own, so that routes that mean the same write the same.
func exportTo(route *v1alpha1.ExternalRoute) []string {
	namespaces := make([]string, len(route.Spec.ExportTo))
	for i, n := range route.Spec.ExportTo {
		namespaces[i] = string(n)
	}
	slices.Sort(namespaces) // "." sorts before every name
	return namespaces
}

// private says whether the namespace alone sees the route's objects.
func private(route *v1alpha1.ExternalRoute) bool {
	return len(route.Spec.ExportTo) == 1 && route.Spec.ExportTo[0] == "."
}
