package translate

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	istio "istio.io/api/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// destination is one of the route's destinations, read.
type destination struct {
	*v1alpha1.Destination
	path *field.Path
	name string

	scheme string
	tls    bool
	// tcp says that the mesh forwards connections, and does not read what they carry.
	tcp  bool
	host string
	port uint32
	// base is the URL's path as written, empty if there is none.
	base string
	// authority is what the server expects as Host: the port is part of it if it is not the scheme's own.
	authority  string
	resolution istio.ServiceEntry_Resolution

	// disturbs says that the destination would disturb others under the real host.
	disturbs bool
	// private says that upstream, the name that Istio's objects use, is not the real host.
	private  bool
	upstream string
	subset   string
}

// defaultName is the name of a destination that has none of its own.
const defaultName = "primary"

// readDestinations reads the URLs and says which of the destinations cannot be reached by a route.
func readDestinations(route *v1alpha1.ExternalRoute, mesh Mesh) ([]*destination, field.ErrorList) {
	var destinations []*destination
	var problems field.ErrorList
	for i := range route.Spec.Destinations {
		path := field.NewPath("spec", "destinations").Index(i)
		d, problem := readDestination(route, &route.Spec.Destinations[i], path)
		if problem != nil {
			problems = append(problems, problem)
			continue
		}
		problems = append(problems, checkOutside(d, mesh)...)
		problems = append(problems, checkPriorities(d)...)
		for _, other := range destinations {
			problems = append(problems, checkAgree(other, d)...)
		}
		destinations = append(destinations, d)
	}
	return destinations, problems
}

func readDestination(route *v1alpha1.ExternalRoute, spec *v1alpha1.Destination, path *field.Path) (*destination, *field.Error) {
	u, err := url.Parse(string(spec.URL))
	if err != nil || u.Hostname() == "" {
		return nil, field.Invalid(path.Child("url"), spec.URL, "is not a URL")
	}
	d := &destination{
		Destination: spec, path: path, name: cmp.Or(spec.Name, defaultName), scheme: u.Scheme, tls: u.Scheme == "https" || u.Scheme == "tls",
		tcp: isTCP(spec.URL), host: u.Hostname(), port: 80, authority: u.Host, resolution: resolutionOf(spec),
	}
	if d.tls {
		d.port = 443
	}
	switch {
	case u.Port() != "":
		number, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil {
			return nil, field.Invalid(path.Child("url"), spec.URL, "the port is not a number from 1 to 65535")
		}
		port := uint32(number)
		if port == d.port {
			d.authority = d.host
		}
		d.port = port
	case d.tcp:
		return nil, field.Invalid(path.Child("url"), spec.URL, "needs a port: append one, such as :5432")
	}
	if _, rest, found := strings.Cut(strings.TrimPrefix(string(spec.URL), u.Scheme+"://"), "/"); found && rest != "" {
		d.base = "/" + rest
	}
	d.nameUpstream(route)
	d.subset = subsetName(route.Name, d.name, d.port, d.scheme)
	return d, nil
}

// nameUpstream finds whether the destination would disturb others under the real host, and the name that Istio's objects use.
func (d *destination) nameUpstream(route *v1alpha1.ExternalRoute) {
	d.disturbs = d.tcp || len(d.Endpoints) > 0 || d.resolution != istio.ServiceEntry_DNS || route.Spec.WorkloadSelector != nil || !private(route) ||
		route.Spec.Waypoint != nil // its ServiceEntry has other labels than those of other routes
	d.private = d.disturbs || route.Spec.EgressGateway != nil
	d.upstream = d.host
	if !d.private {
		return
	}
	identity := []string{route.Name, d.host, fmt.Sprint(d.port), d.scheme}
	if g := route.Spec.EgressGateway; g != nil { // direct, or behind another gateway, it is another upstream
		identity = append(identity, string(g.Name), string(g.Namespace))
	}
	d.upstream = privateName(route.Namespace, identity...)
}

// resolutionOf is Istio's word: addresses that are all IP addresses need no DNS.
func resolutionOf(spec *v1alpha1.Destination) istio.ServiceEntry_Resolution {
	isName := func(e v1alpha1.Endpoint) bool {
		_, err := netip.ParseAddr(string(e.Address))
		return err != nil
	}
	switch {
	case len(spec.Endpoints) > 0 && !slices.ContainsFunc(spec.Endpoints, isName):
		return istio.ServiceEntry_STATIC
	case spec.Resolution == v1alpha1.ResolutionDNSRoundRobin:
		return istio.ServiceEntry_DNS_ROUND_ROBIN
	}
	return istio.ServiceEntry_DNS
}

// checkOutside refuses names that the cluster itself resolves, as far as the API server cannot know them.
func checkOutside(d *destination, mesh Mesh) field.ErrorList {
	var problems field.ErrorList
	if why := inside(d.host, mesh); why != "" {
		problems = append(problems, field.Invalid(d.path.Child("url"), d.URL, "the host is "+why))
	}
	for i, e := range d.Endpoints {
		if why := inside(string(e.Address), mesh); why != "" {
			problems = append(problems, field.Invalid(d.path.Child("endpoints").Index(i).Child("address"), e.Address, "is "+why))
		}
	}
	return problems
}

// inside says where in the cluster a name leads, or nothing.
func inside(host string, mesh Mesh) string {
	if host == mesh.ClusterDomain || strings.HasSuffix(host, "."+mesh.ClusterDomain) {
		return fmt.Sprintf("in the cluster's own domain, %s: a route leads outside", mesh.ClusterDomain)
	}
	if strings.HasSuffix(host, ".pod") {
		return "the address of a pod to the cluster's DNS: a route leads outside"
	}
	key, possible := serviceNamed(host)
	if _, exists := mesh.Services[key]; possible && exists {
		return fmt.Sprintf("Service %s of namespace %s: a route leads outside", key.Name, key.Namespace)
	}
	return ""
}

// serviceNamed is the Service that a name of two labels, NAME.NAMESPACE, leads to if it exists, or whose pod a name of three, POD.NAME.NAMESPACE, is: a pod's
// resolver tries the cluster's domain before the world outside.
func serviceNamed(host string) (types.NamespacedName, bool) {
	labels := strings.Split(host, ".")
	n := len(labels)
	if n != 2 && n != 3 {
		return types.NamespacedName{}, false
	}
	return types.NamespacedName{Namespace: labels[n-1], Name: labels[n-2]}, true
}

// checkAgree refuses two destinations that Istio could not tell apart: those of one host and port are one upstream.
func checkAgree(a, b *destination) field.ErrorList {
	var problems field.ErrorList
	disagree := func(what string) {
		problems = append(problems, field.Invalid(b.path, b.name, fmt.Sprintf("has the host and port of %s, and must have the same %s", a.path, what)))
	}
	if a.host != b.host {
		return nil
	}
	if a.hostScoped() && b.hostScoped() && !equality.Semantic.DeepEqual(hostWideSettings(a), hostWideSettings(b)) {
		problems = append(problems, field.Invalid(b.path.Child("tls"), b.name, fmt.Sprintf(
			"has scope Host and the host of %s, and must have the same TLS settings", a.path)))
	}
	if a.port != b.port {
		return problems
	}
	if a.tls != b.tls {
		disagree("scheme")
	}
	if a.resolution != b.resolution && cmp.Or(a.Resolution, v1alpha1.ResolutionDNS) != cmp.Or(b.Resolution, v1alpha1.ResolutionDNS) {
		disagree("resolution")
	}
	if !a.sameEndpoints(b) {
		disagree("endpoints")
	}
	return problems
}

func (d *destination) hostScoped() bool {
	return d.TLS != nil && d.TLS.Scope == v1alpha1.TLSScopeHost
}

// hostWideSettings are the TLS settings of a destination with defaults filled in, for comparison.
func hostWideSettings(d *destination) [3]string {
	tls := tlsFor("", d)
	slices.Sort(tls.SubjectAltNames)
	return [3]string{tls.Sni, strings.Join(tls.SubjectAltNames, ","), tls.CredentialName}
}

// upstream is a host, a port and a scheme that Istio's objects speak of: a ServiceEntry and a DestinationRule.
type upstream struct {
	name   string
	object string
	// destinations agree on everything that the ServiceEntry says.
	destinations []*destination
	// plainPort is the port on which the host is upgraded in place, else 0.
	plainPort uint32
	// plainPorts are the host's ports to which the route's destinations speak plain http.
	plainPorts []uint32
	exportTo   []string
}

// groupUpstreams returns the distinct upstreams in the order of the destinations.
func groupUpstreams(route *v1alpha1.ExternalRoute, inPlace []string, destinations []*destination) []*upstream {
	var upstreams []*upstream
	for _, d := range destinations {
		object := upstreamObjectName(route.Name, d.upstream, d.port, d.scheme)
		i := slices.IndexFunc(upstreams, func(u *upstream) bool { return u.object == object })
		if i < 0 {
			i = len(upstreams)
			upstreams = append(upstreams, &upstream{name: d.upstream, object: object, exportTo: exportTo(route)})
		}
		upstreams[i].destinations = append(upstreams[i].destinations, d)
	}
	plainPort := uint32(PortOf(route)) //nolint:gosec // 1..65535 by schema
	for _, host := range inPlace {
		hasPort := func(u *upstream) bool { return u.name == host && u.destinations[0].port == plainPort }
		first := slices.IndexFunc(upstreams, func(u *upstream) bool { return u.name == host })
		if first >= 0 && !slices.ContainsFunc(upstreams, hasPort) {
			upstreams[first].plainPort = plainPort
		}
	}
	for _, u := range upstreams {
		u.plainPorts = plainPorts(upstreams, u.name)
	}
	return upstreams
}

func plainPorts(upstreams []*upstream, name string) []uint32 {
	var ports []uint32
	for _, u := range upstreams {
		if d := u.destinations[0]; u.name == name && !d.tls {
			ports = append(ports, d.port)
		}
	}
	slices.Sort(ports)
	return ports
}

// hostWide is the destination whose TLS settings the whole namespace uses for the host, or nil.
func (u *upstream) hostWide() *destination {
	if i := slices.IndexFunc(u.destinations, (*destination).hostScoped); i >= 0 {
		return u.destinations[i]
	}
	return nil
}

// checkConfigMaps reports CA certificates that do not exist.
func checkConfigMaps(destinations []*destination, mesh Mesh, refusal *Refusal) {
	for _, d := range destinations {
		for i, name := range caConfigMaps(d.TLS) {
			if mesh.MissingConfigMaps[name] {
				refusal.add(v1alpha1.ReasonCACertificateMissing, field.ErrorList{Blocked(d.path.Child("tls", "caCertificateRefs").Index(i).Child("name"),
					"ConfigMap %s does not exist: create it with the CA certificates in its key ca.crt", name)})
			}
		}
	}
}

// caConfigMaps are the names of the ConfigMaps with CA certificates.
func caConfigMaps(tls *v1alpha1.TLS) []string {
	if tls == nil {
		return nil
	}
	names := make([]string, len(tls.CACertificateRefs))
	for i, ref := range tls.CACertificateRefs {
		names[i] = string(ref.Name)
	}
	return names
}
