package translate

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// alias is a host that is a Service of the route's namespace.
type alias struct {
	service string
	fqdn    string
	// host is how the VirtualService names it: as written when short, else fully qualified.
	host string

	written string
	path    *field.Path
}

// References are the objects that the translation of a route asks about. A change of one of them may change the translation.
type References struct {
	// Aliases are the Services of the route's own hosts. Services are those, that of the egress gateway, and all whose names the route's destinations or passed
	// hosts could mean.
	Aliases, Services []types.NamespacedName
	ConfigMaps        []string
	// Waypoint is a Gateway of the Gateway API, nil if the route names none.
	Waypoint *types.NamespacedName
}

// ReferencesOf names the Services and ConfigMaps that matter for the route.
func ReferencesOf(route *v1alpha1.ExternalRoute) References {
	var r References
	if g := route.Spec.EgressGateway; g != nil {
		r.Services = append(r.Services, GatewayService(g))
	}
	if PassesThrough(route) {
		for _, h := range route.Spec.Hosts {
			r.meant(strings.TrimPrefix(string(h), "*."))
		}
		return r
	}
	for _, h := range route.Spec.Hosts {
		parts := strings.Split(string(h), ".")
		if len(parts) == 1 || (isServiceName(parts) && parts[1] == route.Namespace && !isDestinationHost(route, string(h))) {
			r.Aliases = appendNew(r.Aliases, types.NamespacedName{Namespace: route.Namespace, Name: parts[0]})
		}
	}
	for _, a := range r.Aliases {
		r.Services = appendNew(r.Services, a)
	}
	r.Waypoint = waypointOf(route)
	for _, d := range route.Spec.Destinations {
		r.meant(hostOf(d.URL))
		for _, e := range d.Endpoints {
			r.meant(string(e.Address))
		}
		for _, name := range caConfigMaps(d.TLS) {
			r.ConfigMaps = appendNew(r.ConfigMaps, name)
		}
	}
	return r
}

// meant adds the Service that a name could mean.
func (r *References) meant(name string) {
	if key, possible := serviceNamed(name); possible {
		r.Services = appendNew(r.Services, key)
	}
}

func appendNew[T comparable](list []T, item T) []T {
	if slices.Contains(list, item) {
		return list
	}
	return append(list, item)
}

// hostOf is the host of a URL, or nothing where it is none.
func hostOf(raw v1alpha1.URL) string {
	u, err := url.Parse(string(raw))
	if err != nil {
		return ""
	}
	return u.Hostname()
}

func isDestinationHost(route *v1alpha1.ExternalRoute, host string) bool {
	return slices.ContainsFunc(route.Spec.Destinations, func(d v1alpha1.Destination) bool { return hostOf(d.URL) == host })
}

// readHosts splits the route's hosts into aliases and the hosts of its own destinations, which are upgraded in place.
func readHosts(route *v1alpha1.ExternalRoute, clusterDomain string) (aliases []alias, inPlace []string, problems field.ErrorList) {
	seen := map[string]*field.Path{}
	for i, h := range route.Spec.Hosts {
		path := field.NewPath("spec", "hosts").Index(i)
		host := string(h)
		parts := strings.SplitN(host, ".", 4)
		fqdn := host
		switch {
		case isDestinationHost(route, host):
			inPlace = append(inPlace, host)
		case len(parts) == 1 || isServiceName(parts):
			if len(parts) > 1 && parts[1] != route.Namespace {
				problems = append(problems, field.Invalid(path, host, fmt.Sprintf(
					"is a name of namespace %s: an alias must be one of the route's own namespace, %s", parts[1], route.Namespace)))
				continue
			}
			if len(parts) == 4 && parts[3] != clusterDomain {
				problems = append(problems, field.Invalid(path, host, fmt.Sprintf("the cluster's domain is %s", clusterDomain)))
				continue
			}
			fqdn = fmt.Sprintf("%s.%s.svc.%s", parts[0], route.Namespace, clusterDomain)
			a := alias{service: parts[0], fqdn: fqdn, host: fqdn, written: host, path: path}
			if len(parts) == 1 {
				a.host = host
			}
			aliases = append(aliases, a)
		default:
			problems = append(problems, field.Invalid(path, host, "is neither a name of a Service nor the host of one of the route's destinations"))
		}
		if first, twice := seen[fqdn]; twice {
			problems = append(problems, field.Invalid(path, host, fmt.Sprintf("is the same name as %s", first)))
		}
		seen[fqdn] = path
	}
	return aliases, inPlace, problems
}

// isServiceName says whether the labels are those of NAME.NAMESPACE.svc or NAME.NAMESPACE.svc.DOMAIN.
func isServiceName(parts []string) bool {
	return len(parts) >= 3 && parts[2] == "svc"
}

// served are the hosts in the order in which the VirtualService has them: the aliases, then those in place.
func served(route *v1alpha1.ExternalRoute, aliases []alias, inPlace []string) []Host {
	hosts := make([]Host, 0, len(aliases)+len(inPlace))
	for _, a := range aliases {
		hosts = append(hosts, Host{Name: a.fqdn, Path: a.path})
	}
	for _, host := range inPlace {
		hosts = append(hosts, Host{Name: host, Path: hostPath(route, host), InPlace: true})
	}
	return hosts
}

// hostPath is the field of a host that is written as it is named.
func hostPath(route *v1alpha1.ExternalRoute, host string) *field.Path {
	return field.NewPath("spec", "hosts").Index(slices.Index(route.Spec.Hosts, v1alpha1.RouteHost(host)))
}

// HostsOf are the complete names of the hosts that the route asks for, whether it may have them or not. A pass-through route asks for none: others may
// serve its hosts.
func HostsOf(route *v1alpha1.ExternalRoute, clusterDomain string) []string {
	if PassesThrough(route) {
		return nil
	}
	aliases, inPlace, _ := readHosts(route, clusterDomain)
	names := make([]string, 0, len(aliases)+len(inPlace))
	for _, a := range aliases {
		names = append(names, a.fqdn)
	}
	return append(names, inPlace...)
}

// UpstreamsOf are the real hosts of the route's destinations, or the hosts of a pass-through route.
func UpstreamsOf(route *v1alpha1.ExternalRoute) []string {
	var hosts []string
	if PassesThrough(route) {
		for _, h := range route.Spec.Hosts {
			hosts = appendNew(hosts, string(h))
		}
	}
	for _, d := range route.Spec.Destinations {
		hosts = appendNew(hosts, hostOf(d.URL))
	}
	return hosts
}

// checkInPlace refuses what a host that is upgraded in place cannot have: it is used by its real name, and by all of its callers.
func checkInPlace(route *v1alpha1.ExternalRoute, inPlace []string, destinations []*destination) field.ErrorList {
	switch {
	case SpeaksTCP(route):
		return refuseInPlace(route, inPlace)
	case route.Spec.Waypoint != nil:
		return refuseAtWaypoint(route, inPlace)
	}
	var problems field.ErrorList
	port, portPath := uint32(PortOf(route)), field.NewPath("spec", "port") //nolint:gosec // 1..65535 by schema
	if len(inPlace) > 0 && port == nowhere {
		problems = append(problems, field.Invalid(portPath, port, "is the port to which requests to a host in place go to fail: use another one"))
	}
	speaksTLS := slices.ContainsFunc(destinations, func(d *destination) bool { return d.tls })
	for _, host := range inPlace {
		path := hostPath(route, host)
		for _, d := range destinations {
			if d.host != host {
				continue
			}
			problems = append(problems, d.checkInPlace(route, path, port, speaksTLS)...)
		}
	}
	return problems
}

// checkInPlace refuses what a destination whose host is upgraded in place cannot have.
func (d *destination) checkInPlace(route *v1alpha1.ExternalRoute, path *field.Path, port uint32, speaksTLS bool) (problems field.ErrorList) {
	switch {
	case d.TLS != nil && d.TLS.ClientCertificateRef != nil:
		problems = append(problems, field.Invalid(path, d.host, fmt.Sprintf(
			"is upgraded in place, for all pods of the namespace, and %s has a client certificate, which Istio uses for selected pods only: use an alias, such as a "+
				"short name", d.path)))
	case d.disturbs:
		problems = append(problems, field.Invalid(path, d.host, fmt.Sprintf(
			"is upgraded in place, under its real name: that needs exportTo [\".\"], no workloadSelector, and no endpoints and resolution DNS in %s", d.path)))
	}
	if !d.tls && route.Spec.EgressGateway != nil {
		problems = append(problems, field.Invalid(d.path.Child("url"), d.URL, fmt.Sprintf(
			"sends plain http to %s, which spec.hosts has too, and requests would bypass the egress gateway without the VirtualService: use https, or an "+
				"alias in spec.hosts", d.host)))
	}
	if d.tls && d.port == port {
		problems = append(problems, field.Invalid(field.NewPath("spec", "port"), port, fmt.Sprintf(
			"is the https port of %s, which is upgraded in place: workloads call it over http on another one", d.host)))
	}
	if !d.tls && d.port == port && speaksTLS {
		problems = append(problems, field.Invalid(d.path.Child("url"), d.URL, fmt.Sprintf(
			"opens port %d, on which %s is upgraded in place, so that requests meant for https would leave in plaintext without the "+
				"VirtualService: use https in all destinations, or an alias in spec.hosts", port, d.host)))
	}
	return problems
}

// refuseAtWaypoint refuses hosts in place: a waypoint serves Services.
func refuseAtWaypoint(route *v1alpha1.ExternalRoute, inPlace []string) (problems field.ErrorList) {
	for _, host := range inPlace {
		problems = append(problems, field.Invalid(hostPath(route, host), host,
			"is upgraded in place, which a waypoint cannot do: use an alias, such as a short name, or remove spec.waypoint"))
	}
	return problems
}
