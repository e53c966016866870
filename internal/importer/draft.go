package importer

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// draft is a route in the making.
type draft struct {
	*importer
	v *networkingv1.VirtualService
	// objects are those that the route replaces: first the one that it is made from.
	objects  []translate.Object
	route    *v1alpha1.ExternalRoute
	imported *Imported
	// road is the way through an egress gateway, nil if there is none, and passed are the entries of the hosts whose TLS passes through it.
	road   *road
	passed []*networkingv1.ServiceEntry
	// admitted is the route as the API server stores it.
	admitted *v1alpha1.ExternalRoute
	// translation is that of the admitted route.
	translation *translate.Translation
	// reasons say why there is no route.
	reasons []string
	notes   []string

	port    uint32
	targets []*target
}

// target is a destination of the VirtualService, and what it is in the route.
type target struct {
	istio *istio.Destination
	*upstream
	destination v1alpha1.Destination
	// authority is that of the URL.
	authority string
}

func (d *draft) reason(format string, args ...any) {
	if reason := fmt.Sprintf(format, args...); !slices.Contains(d.reasons, reason) {
		d.reasons = append(d.reasons, reason)
	}
}

func (d *draft) lacks(reasons []string) {
	for _, reason := range reasons {
		d.reason("%s", reason)
	}
}

func (d *draft) build() {
	spec := &d.v.Spec
	d.route = &v1alpha1.ExternalRoute{}
	d.route.Namespace, d.route.Name = d.v.Namespace, d.v.Name
	if gateways := slices.DeleteFunc(slices.Clone(spec.Gateways), func(g string) bool { return g == "mesh" }); len(gateways) > 0 {
		d.reason("spec.gateways names %s: write a route with egressGateway for requests that leave through an egress gateway", strings.Join(gateways, ", "))
		return
	}
	if len(spec.Tls) > 0 {
		d.reason("spec.tls routes by SNI, which no route does")
		return
	}
	d.lacks(unknown("spec", spec, "hosts", "gateways", "http", "tcp", "exportTo"))
	switch {
	case len(spec.Http) > 0 && len(spec.Tcp) > 0:
		d.reason("spec has http and tcp routes: split it in two")
	case len(spec.Tcp) > 0:
		d.readTCP()
	default:
		d.readHTTP()
	}
	d.exportTo(spec.ExportTo)
	d.readHosts()
	d.checkPods()
	if len(d.reasons) == 0 {
		d.namePort()
	}
}

// checkPods refuses rules that are for other pods than the matches.
func (d *draft) checkPods() {
	for _, t := range d.targets {
		if t.rule == nil || t.rule.Spec.WorkloadSelector == nil {
			continue
		}
		selected := map[string]v1alpha1.LabelValue{}
		for key, value := range t.rule.Spec.WorkloadSelector.MatchLabels {
			selected[key] = v1alpha1.LabelValue(value)
		}
		if s := d.route.Spec.WorkloadSelector; s == nil || !maps.Equal(s.MatchLabels, selected) {
			d.reason("DestinationRule %s is for some pods, and the matches of the VirtualService do not have its labels as sourceLabels: a route is for one set of pods",
				t.rule.Name)
		}
	}
}

// exportTo copies whom the objects are for. Nothing means everybody to Istio, and the own namespace to a route.
func (d *draft) exportTo(namespaces []string) {
	var all []v1alpha1.ExportNamespace
	for _, n := range namespaces {
		switch n {
		case "~":
			d.reason("spec.exportTo ~ is for nobody")
		case d.route.Namespace:
			n = "."
		}
		all = append(all, v1alpha1.ExportNamespace(n))
	}
	slices.Sort(all)
	if all = slices.Compact(all); len(all) > 0 && !slices.Equal(all, []v1alpha1.ExportNamespace{"."}) {
		d.route.Spec.ExportTo = all
	}
}

// readHosts finds the aliases and the hosts in place.
func (d *draft) readHosts() {
	for _, host := range d.v.Spec.Hosts {
		alias, isAlias := d.alias(host)
		if other := d.alsoServes(host); other != nil {
			d.reason("VirtualService %s serves %s too, and Istio uses the older of the two for all ports: merge them first", other.Name, host)
		}
		switch {
		case isAlias:
			d.route.Spec.Hosts = append(d.route.Spec.Hosts, v1alpha1.RouteHost(alias))
		case slices.ContainsFunc(d.targets, func(t *target) bool { return t.istio.Host == host }):
			d.route.Spec.Hosts = append(d.route.Spec.Hosts, v1alpha1.RouteHost(host))
		default:
			d.reason("host %s is neither a Service of namespace %s nor the host of a destination", host, d.v.Namespace)
		}
	}
}

// alsoServes is another VirtualService of the namespace for a host, nil if there is none.
func (d *draft) alsoServes(host string) *networkingv1.VirtualService {
	complete := func(host string) string {
		if alias, is := d.alias(host); is {
			return alias
		}
		return host
	}
	for _, other := range d.virtualServices {
		if other.Namespace == d.v.Namespace && other.Name != d.v.Name &&
			slices.ContainsFunc(other.Spec.Hosts, func(h string) bool { return complete(h) == complete(host) }) {
			return other
		}
	}
	return nil
}

// alias is the name of the Service of the own namespace that a host means.
func (d *draft) alias(host string) (string, bool) {
	name, rest, dotted := strings.Cut(host, ".")
	switch namespace := d.v.Namespace; {
	case !dotted, rest == namespace+".svc", rest == namespace+".svc."+d.clusterDomain:
		return name, !strings.Contains(name, "*")
	case rest == namespace && d.service(namespace, name) != nil:
		return name, true
	}
	return "", false
}

// namePort writes the port that workloads call, unless it is the default.
func (d *draft) namePort() {
	if d.port == 0 {
		d.port = d.impliedPort()
	}
	usual := int32(80)
	if translate.SpeaksTCP(d.route) {
		_, _, port, _ := splitURL(string(d.targets[0].destination.URL))
		usual = int32(port) //nolint:gosec // 1..65535
	}
	d.checkInPlace()
	if int32(d.port) != usual { //nolint:gosec // 1..65535
		d.route.Spec.Port = int32(d.port) //nolint:gosec // 1..65535
	}
}

// checkInPlace refuses to take requests that the old objects do not know.
func (d *draft) checkInPlace() {
	for _, host := range d.v.Spec.Hosts {
		if _, isAlias := d.alias(host); isAlias || d.port == 0 {
			continue
		}
		if _, problem := d.resolve(d.v.Namespace, &istio.Destination{Host: host, Port: &istio.PortSelector{Number: d.port}}); problem != "" {
			d.reason("no ServiceEntry declares port %d of %s, and the route would take requests there that leave directly today: "+
				"remove the host, or write a match with port", d.port, host)
		}
	}
}

// impliedPort is the only port of the hosts that the VirtualService can be for.
func (d *draft) impliedPort() uint32 {
	var ports []uint32
	add := func(port uint32) {
		if !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	for _, host := range d.v.Spec.Hosts {
		if alias, is := d.alias(host); is {
			service := d.service(d.v.Namespace, alias)
			if service == nil {
				d.notes = append(d.notes, fmt.Sprintf(
					"the input has no Service %s: the route is for port 80 of it, and the operator creates it if it does not exist", alias))
				add(80)
				continue
			}
			for _, p := range service.Spec.Ports {
				if p.Protocol != corev1.ProtocolUDP && protocolOf(serviceProtocol(p)) != protocolTLS {
					add(uint32(p.Port)) //nolint:gosec // 1..65535
				}
			}
			continue
		}
		for _, e := range d.entries {
			if e.Namespace == d.v.Namespace && slices.Contains(e.Spec.Hosts, host) {
				for _, p := range e.Spec.Ports {
					if protocolOf(p.Protocol) == protocolHTTP {
						add(p.Number)
					}
				}
			}
		}
	}
	if len(ports) != 1 {
		d.reason("the VirtualService is for ports %v of its hosts, and a route serves one: write a match with port into each of its routes", ports)
		return 0
	}
	return ports[0]
}

func serviceProtocol(p corev1.ServicePort) string {
	if p.AppProtocol != nil {
		return *p.AppProtocol
	}
	name, _, _ := strings.Cut(p.Name, "-")
	return name
}

// target finds the destination of the route for one of the VirtualService.
func (d *draft) target(to *istio.Destination, scheme string) *target {
	i := slices.IndexFunc(d.targets, func(t *target) bool { return proto.Equal(t.istio, to) })
	if i >= 0 {
		return d.targets[i]
	}
	u, problem := d.resolve(d.v.Namespace, to)
	if problem != "" {
		d.reason("%s", problem)
		return nil
	}
	if rule := d.unreadRule(d.v.Namespace, to.Host); rule != "" {
		d.reason("DestinationRule %s cannot be read, and may decide about %s", rule, to.Host)
	}
	d.use(u)
	t := &target{istio: to, upstream: u}
	d.checkEntry(u.entry, u.port)
	d.lacks(unknown("spec", &u.entry.Spec, "hosts", "ports", "location", "resolution", "endpoints", "exportTo"))
	d.describe(t, scheme)
	d.targets = append(d.targets, t)
	return t
}

func (d *draft) use(u *upstream) {
	for _, object := range []translate.Object{u.entry, u.rule} {
		if rule, is := object.(*networkingv1.DestinationRule); is && rule == nil {
			continue
		}
		if !slices.ContainsFunc(d.objects, func(o translate.Object) bool { return translate.KeyOf(o) == translate.KeyOf(object) }) {
			d.objects = append(d.objects, object)
		}
	}
}

func (d *draft) checkEntry(e *networkingv1.ServiceEntry, port *istio.ServicePort) {
	if e.Spec.Location != istio.ServiceEntry_MESH_EXTERNAL {
		d.reason("location MESH_INTERNAL of ServiceEntry %s is for hosts inside the mesh", e.Name)
	}
	wildcard := slices.ContainsFunc(e.Spec.Hosts, func(h string) bool { return strings.HasPrefix(h, "*") })
	if e.Spec.Resolution == istio.ServiceEntry_NONE && !wildcard && d.v != nil {
		d.reason("resolution NONE of ServiceEntry %s dials the address that the workload dialled: a route needs DNS or endpoints", e.Name)
	}
	if wildcard && d.v != nil {
		d.reason("ServiceEntry %s has a wildcard host, which only a route without destinations may have", e.Name)
	}
	if port.TargetPort != 0 && d.v == nil {
		d.reason("targetPort of ServiceEntry %s has no counterpart in a route that passes TLS through", e.Name)
	}
}

// describe writes the destination of the route.
func (d *draft) describe(t *target, scheme string) {
	if t.originatesTLS() {
		scheme = map[string]string{"http": "https", "tcp": "tls"}[scheme]
	} else if protocolOf(t.port.Protocol) == protocolTLS && scheme == "http" {
		d.reason("requests leave in plaintext to port %d of %s, which speaks TLS: no DestinationRule originates it", t.port.Number, t.istio.Host)
	}
	number := t.port.Number
	if t.port.TargetPort != 0 {
		number = t.port.TargetPort
	}
	host := d.realName(t)
	raw := scheme + "://" + host
	if number != map[string]uint32{"http": 80, "https": 443}[scheme] {
		raw = fmt.Sprintf("%s:%d", raw, number)
	}
	_, _, _, t.authority = splitURL(raw)
	t.destination = v1alpha1.Destination{URL: v1alpha1.URL(raw)}
	d.readEndpoints(t)
	if objects := d.beginsBeside(t); len(objects) > 0 {
		t.destination.Endpoints = []v1alpha1.Endpoint{{Address: v1alpha1.EndpointAddress(host)}}
		d.notes = append(d.notes, fmt.Sprintf("endpoints lets the route begin beside %s: remove endpoints when that is gone", strings.Join(objects, " and ")))
	}
	if speaksHTTP2(t.port.Protocol) {
		t.destination.Protocol = v1alpha1.ProtocolHTTP2
	}
	if t.policy != nil {
		d.readPolicy(t, host)
	}
}

// beginsBeside are the objects that stay and would conflict with the route, unless it has a private upstream name.
func (d *draft) beginsBeside(t *target) (objects []string) {
	if len(t.entry.Spec.Endpoints) > 0 || d.road != nil {
		return nil
	}
	private := !slices.Contains(d.v.Spec.Hosts, t.istio.Host) && t.entry.Spec.Resolution == istio.ServiceEntry_DNS
	beside := false
	if entry := translate.KeyOf(t.entry); private && d.kept[entry] != "" {
		objects, beside = append(objects, entry.String()), true
	}
	if t.rule == nil {
		return objects
	}
	rule := translate.KeyOf(t.rule)
	switch why := d.kept[rule]; {
	case why == "" && !beside: // a rule stays with its entry
	case private:
		objects = append(objects, rule.String())
	default:
		d.reason("%s stays, and a route for %s conflicts with it: %s", rule, t.istio.Host, why)
	}
	return objects
}

// realName is the host of the URL. An entry with endpoints may have a host that no server knows; the authority then is the name that the server knows.
func (d *draft) realName(t *target) string {
	if len(t.entry.Spec.Endpoints) == 0 {
		return t.istio.Host
	}
	var names []string
	for _, http := range d.v.Spec.Http {
		for _, to := range http.Route {
			if proto.Equal(to.Destination, t.istio) {
				names = append(names, authorityFor(http, to))
			}
		}
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) != 1 || names[0] == "" || strings.Contains(names[0], ":") {
		return t.istio.Host
	}
	return names[0]
}

// authorityFor is the authority that Istio writes for a destination. The rewrite is stronger than the headers of the route, and those than the destination's.
func authorityFor(http *istio.HTTPRoute, to *istio.HTTPRouteDestination) string {
	return cmp.Or(http.GetRewrite().GetAuthority(), authorityOf(http.Headers), authorityOf(to.Headers))
}

func authorityOf(h *istio.Headers) string {
	for name, value := range h.GetRequest().GetSet() {
		if lower := strings.ToLower(name); lower == ":authority" || lower == "host" {
			return value
		}
	}
	return ""
}

func (d *draft) readEndpoints(t *target) {
	switch t.entry.Spec.Resolution {
	case istio.ServiceEntry_DNS_ROUND_ROBIN:
		t.destination.Resolution = v1alpha1.ResolutionDNSRoundRobin
	case istio.ServiceEntry_DNS, istio.ServiceEntry_STATIC, istio.ServiceEntry_NONE:
	default:
		d.reason("resolution %s of ServiceEntry %s has no counterpart in an ExternalRoute", t.entry.Spec.Resolution, t.entry.Name)
	}
	_, host, number, _ := splitURL(string(t.destination.URL))
	for i, e := range t.entry.Spec.Endpoints {
		d.lacks(unknown(fmt.Sprintf("spec.endpoints[%d]", i), e, "address", "ports"))
		endpoint := v1alpha1.Endpoint{Address: v1alpha1.EndpointAddress(e.Address)}
		p := e.Ports[t.port.Name]
		if p != 0 {
			endpoint.Port = int32(p) //nolint:gosec // 1..65535
		}
		if len(t.entry.Spec.Endpoints) == 1 && e.Address == host && (p == 0 || p == number) {
			continue // the URL's host
		}
		t.destination.Endpoints = append(t.destination.Endpoints, endpoint)
	}
}

// finish names the destinations and the shares of the rules. Each rule has the shares of one http route.
func (d *draft) finish(rules []v1alpha1.Rule, shares [][]share) {
	if len(d.targets) > 1 {
		d.nameDestinations()
	}
	for _, t := range d.targets {
		d.route.Spec.Destinations = append(d.route.Spec.Destinations, t.destination)
	}
	if common := len(shares) > 0 && !slices.ContainsFunc(shares, func(s []share) bool { return !slices.Equal(s, shares[0]) }); common &&
		len(shares[0]) == len(d.targets) {
		d.weigh(shares[0])
	} else {
		for i, s := range shares {
			rules[i].Destinations = ruleDestinations(s)
		}
	}
	if len(rules) == 1 && onlyLimits(rules[0]) {
		d.route.Spec.Timeout, d.route.Spec.Retries = rules[0].Timeout, rules[0].Retries
		return
	}
	d.route.Spec.Rules = rules
}

// weigh writes the shares that all rules have into the destinations.
func (d *draft) weigh(shares []share) {
	for _, s := range shares {
		if len(shares) > 1 && s.weight != 1 {
			d.route.Spec.Destinations[slices.Index(d.targets, s.target)].Weight = new(s.weight)
		}
	}
}

// ruleDestinations are the shares of one rule.
func ruleDestinations(shares []share) (destinations []v1alpha1.RuleDestination) {
	for _, s := range shares {
		to := v1alpha1.RuleDestination{Name: cmp.Or(s.destination.Name, "primary")}
		if len(shares) > 1 && s.weight != 1 {
			to.Weight = new(s.weight)
		}
		destinations = append(destinations, to)
	}
	return destinations
}

// onlyLimits reports whether a rule says nothing that the route itself could not say.
func onlyLimits(r v1alpha1.Rule) bool {
	return len(r.Match) == 0 && r.Rewrite == nil && len(r.Destinations) == 0 && r.Headers == nil && r.Fault == nil && r.DirectResponse == nil
}

func (d *draft) nameDestinations() {
	taken := map[string]bool{}
	for _, t := range d.targets {
		base := t.istio.Subset
		if _, host, _, _ := splitURL(string(t.destination.URL)); base == "" {
			base, _, _ = strings.Cut(host, ".")
		}
		base = strings.Trim(strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
				return r
			}
			return '-'
		}, strings.ToLower(base)), "-")
		base = strings.TrimRight(base[:min(len(base), 40)], "-")
		name := base
		for n := 2; taken[name] || name == ""; n++ {
			name = fmt.Sprintf("%s-%d", cmp.Or(base, "destination"), n)
		}
		taken[name], t.destination.Name = true, name
	}
}

// selectPods limits the route to the pods of the matches, if all of them have the same labels.
func (d *draft) selectPods(labels map[string]string) {
	if len(labels) == 0 {
		return
	}
	selected := map[string]v1alpha1.LabelValue{}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		selected[key] = v1alpha1.LabelValue(labels[key])
	}
	d.route.Spec.WorkloadSelector = &v1alpha1.WorkloadSelector{MatchLabels: selected}
}
