package translate

import (
	"slices"

	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// Reach is what a destination, or a host of a pass-through route, reaches outside the mesh.
type Reach struct {
	// Path is the field that asks for it.
	Path   *field.Path
	Scheme v1alpha1.PolicyScheme
	Host   string
	Port   uint32
	// Endpoints are the addresses to connect to in place of the host.
	Endpoints []EndpointReach
	// SkipsVerify is the field that turns off the check of the server's certificate, nil if none does.
	SkipsVerify *field.Path
	// ClientCertificates are Secrets beside an egress gateway or a waypoint that it shows as client certificates. Those of the workloads' own namespace do
	// not count.
	ClientCertificates []SecretReach
}

// SecretReach is a Secret that is not the workloads' own.
type SecretReach struct {
	Path *field.Path
	Name string
}

// EndpointReach is an address that a destination connects to.
type EndpointReach struct {
	Path    *field.Path
	Address string
	Port    uint32
}

// Standing returns what the objects of a route reach, whatever the route asks for by now, and to whom they are exported. A host that has a private name is
// known by the addresses behind it alone, and of a port the protocol is known, and not whether the mesh or the workload originates TLS.
func Standing(route *v1alpha1.ExternalRoute, objects []Object) (reaches []Reach, exportTo []string) {
	rules := map[string]*networkingv1.DestinationRule{}
	for _, object := range objects {
		if rule, is := object.(*networkingv1.DestinationRule); is {
			rules[rule.Spec.Host] = rule
		}
	}
	for _, object := range objects {
		switch o := object.(type) {
		case *networkingv1.VirtualService:
			if o.Name == route.Name {
				exportTo = o.Spec.ExportTo
			}
		case *networkingv1.ServiceEntry:
			passed := IsPassed(o, route)
			if passed {
				exportTo = o.Spec.ExportTo
			}
			for _, port := range o.Spec.Ports {
				if !LeadsNowhere(port) {
					reaches = append(reaches, standing(o, port, passed, rules[o.Spec.Hosts[0]])...)
				}
			}
		}
	}
	if w := waypointOf(route); w != nil {
		exportTo = slices.DeleteFunc(slices.Clone(exportTo), func(n string) bool { return n == w.Namespace })
	}
	return reaches, exportTo
}

func skipsVerify(s *istio.Subset) bool {
	return s.GetTrafficPolicy().GetTls().GetInsecureSkipVerify().GetValue()
}

// shown are the Secrets of an egress gateway or a waypoint that a rule shows as client certificates.
func shown(rule *networkingv1.DestinationRule) (secrets []SecretReach) {
	for _, s := range rule.Spec.Subsets {
		if tls := s.GetTrafficPolicy().GetTls(); tls.GetMode() == istio.ClientTLSSettings_MUTUAL && rule.Spec.WorkloadSelector == nil {
			secrets = append(secrets, SecretReach{Path: field.NewPath("spec"), Name: tls.CredentialName})
		}
	}
	return secrets
}

// standing are what a port of an entry reaches, with the settings of a rule, which may be nil.
func standing(entry *networkingv1.ServiceEntry, port *istio.ServicePort, passed bool, rule *networkingv1.DestinationRule) []Reach {
	scheme := v1alpha1.PolicyScheme("https")
	switch {
	case passed:
		scheme = v1alpha1.SchemePassthrough
	case port.Protocol == "HTTP":
		scheme = "http"
	case port.Protocol == "TCP":
		scheme = "tcp"
	}
	reach := Reach{Path: field.NewPath("spec"), Scheme: scheme, Port: port.Number}
	if rule != nil && slices.ContainsFunc(rule.Spec.Subsets, skipsVerify) {
		reach.SkipsVerify = reach.Path
	}
	if rule != nil {
		reach.ClientCertificates = shown(rule)
	}
	var reaches []Reach
	endpoints := entry.Spec.Endpoints
	if passed { // they are the egress gateway
		endpoints = nil
	}
	for _, e := range endpoints {
		endpoint := EndpointReach{Path: reach.Path, Address: e.Address, Port: port.Number}
		if other, set := e.Ports[port.Name]; set {
			endpoint.Port = other
		}
		one := reach
		one.Host, one.Endpoints = e.Address, []EndpointReach{endpoint}
		reaches = append(reaches, one)
	}
	for _, host := range entry.Spec.Hosts {
		if len(endpoints) == 0 {
			one := reach
			one.Host = host
			reaches = append(reaches, one)
		}
	}
	return reaches
}

// ExportTo is the route's exportTo in a canonical form, without the namespace of its waypoint.
func ExportTo(route *v1alpha1.ExternalRoute) []string {
	var namespaces []string
	for _, n := range route.Spec.ExportTo {
		namespaces = append(namespaces, string(n))
	}
	return namespacesOf(route, namespaces...)
}

// ReachesOf returns what a route reaches outside the mesh, whether the route is valid or not. A destination whose URL cannot be read reaches nothing.
func ReachesOf(route *v1alpha1.ExternalRoute) []Reach {
	var reaches []Reach
	if PassesThrough(route) {
		for i, h := range route.Spec.Hosts {
			reaches = append(reaches, Reach{
				Path: field.NewPath("spec", "hosts").Index(i), Scheme: v1alpha1.SchemePassthrough, Host: string(h),
				Port: uint32(PortOf(route)), //nolint:gosec // 1..65535 by schema
			})
		}
		return reaches
	}
	for i := range route.Spec.Destinations {
		path := field.NewPath("spec", "destinations").Index(i)
		d, problem := readDestination(route, &route.Spec.Destinations[i], path)
		if problem != nil {
			continue
		}
		reach := Reach{Path: path.Child("url"), Scheme: v1alpha1.PolicyScheme(d.scheme), Host: d.host, Port: d.port}
		for j, e := range d.Endpoints {
			endpoint := EndpointReach{Path: path.Child("endpoints").Index(j), Address: string(e.Address), Port: d.port}
			if e.Port != 0 {
				endpoint.Port = uint32(e.Port) //nolint:gosec // 1..65535 by schema
			}
			reach.Endpoints = append(reach.Endpoints, endpoint)
		}
		if d.TLS != nil && d.TLS.InsecureSkipVerify {
			reach.SkipsVerify = path.Child("tls", "insecureSkipVerify")
		}
		if showsCertificate(*d.Destination) && route.Spec.WorkloadSelector == nil {
			reach.ClientCertificates = []SecretReach{{Path: path.Child("tls", "clientCertificateRef", "name"), Name: string(d.TLS.ClientCertificateRef.Name)}}
		}
		reaches = append(reaches, reach)
	}
	return reaches
}
