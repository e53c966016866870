// Package importer finds the ExternalRoutes that do what ServiceEntries, VirtualServices and DestinationRules written by hand do. It is pure: objects in,
// routes and a report out. It translates every route again and compares the meaning of both sets of objects (meaning.go). A difference that nobody has
// thought of keeps the route from being written: better no route than one that does something else.
package importer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// Options are what the objects do not say.
type Options struct {
	ClusterDomain string
	// Admit judges a route as the API server does, and returns it with its defaults.
	Admit func(*v1alpha1.ExternalRoute) (*v1alpha1.ExternalRoute, field.ErrorList)
	// Unread are objects that could not be read as a whole. They stay, and may depend on all that counts in their namespace.
	Unread []Unread
	// Working are routes that have a VirtualService already. Import writes no route of such a name.
	Working map[types.NamespacedName]bool
}

// Unread is an object that could not be read as a whole.
type Unread struct {
	Stay
	// Hosts are those of a ServiceEntry or DestinationRule, empty if they could not be read either.
	Hosts []string
}

// Result is what Import finds.
type Result struct {
	Routes []*Imported
	// Stays are the objects for which no route was written.
	Stays []Stay
}

// Imported is a route, and what it replaces.
type Imported struct {
	Route *v1alpha1.ExternalRoute
	// Replaces are the objects that the route makes superfluous, and that can be handed over to it.
	Replaces []translate.Object
	// Same counts the properties in which the generated objects mean what the old ones do.
	Same        int
	Differences []Difference
	// Notes are what a person must know beside the differences.
	Notes []string
	// targets are the hosts and ports of the old destinations.
	targets []string
	// outage are the objects that conflict with a route through a gateway, and cannot be handed over.
	outage []translate.Key
	// shared reports that some of the old objects stay, and together that other routes conflict with some, too.
	shared, together bool
	// admitted is the route as the API server stores it, objects are those that it is made from, and translation is what it generates.
	admitted    *v1alpha1.ExternalRoute
	objects     []translate.Object
	translation *translate.Translation
}

// Difference is a property in which the generated objects differ from the old ones.
type Difference struct {
	Property, Before, After string
	// Why justifies the difference.
	Why string
	// Decide reports that it changes what some requests do, so that a person must agree.
	Decide bool
}

// Stay is an object that no route replaces.
type Stay struct {
	translate.Key
	Reasons []string
}

// Import reads objects, and returns the routes that do the same. A ServiceEntry or DestinationRule that turns out to stay is known from the start of another
// attempt: the routes then begin beside it, or not at all.
func Import(objects []translate.Object, options Options) Result {
	kept, refused := map[translate.Key]string{}, map[translate.Key]string{}
	for {
		i := newImporter(objects, options)
		i.kept, i.refused = kept, refused
		i.run()
		i.keepRules()
		if !i.again {
			i.judge()
		}
		if !i.again {
			return i.result(objects)
		}
	}
}

type importer struct {
	Options
	*set
	routes []*Imported
	stays  map[translate.Key][]string
	// used are the routes that do what an object does.
	used map[translate.Key][]*Imported
	// handedOver are the objects that a route replaces, and leftOver those that a person deletes when the routes are ready.
	handedOver, leftOver map[translate.Key]bool
	// kept says why an entry or a rule is not handed over, by an earlier attempt.
	kept map[translate.Key]string
	// refused says why an object has no route, by an earlier attempt.
	refused map[translate.Key]string
	// again asks for another attempt.
	again bool
}

func newImporter(objects []translate.Object, options Options) *importer {
	return &importer{
		Options: options, set: newSet(objects, options.ClusterDomain),
		stays: map[translate.Key][]string{}, used: map[translate.Key][]*Imported{}, handedOver: map[translate.Key]bool{}, leftOver: map[translate.Key]bool{},
	}
}

func (i *importer) run() {
	for _, object := range i.all {
		if owner := metav1.GetControllerOf(object); owner != nil {
			i.stay(object, fmt.Sprintf("%s %s controls it, and would undo what the operator does", owner.Kind, owner.Name))
		}
		if why := i.refused[translate.KeyOf(object)]; why != "" {
			i.stay(object, why)
		}
	}
	for _, v := range i.virtualServices {
		switch {
		case len(i.stays[translate.KeyOf(v)]) > 0:
		case slices.ContainsFunc(v.Spec.Gateways, func(g string) bool { return g != "mesh" }):
			i.overGateway(v)
		default:
			i.route(v, v)
		}
	}
	for _, e := range i.entries {
		i.entry(e)
	}
	for i.withdraw() {
	}
	i.handOver()
}

func (i *importer) result(objects []translate.Object) Result {
	for _, r := range i.routes {
		r.Route.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "ExternalRoute"}
	}
	result := Result{Routes: i.routes}
	for _, object := range objects {
		key := translate.KeyOf(object)
		switch reasons := i.stays[key]; {
		case key.Kind == translate.ServiceKind.GVK.Kind:
		case len(reasons) > 0:
			result.Stays = append(result.Stays, Stay{key, reasons})
		case len(i.used[key]) == 0:
			result.Stays = append(result.Stays, Stay{key, []string{i.unused(object)}})
		}
	}
	for _, u := range i.Unread {
		result.Stays = append(result.Stays, u.Stay)
	}
	return result
}

func (i *importer) stay(object translate.Object, reasons ...string) {
	key := translate.KeyOf(object)
	for _, reason := range reasons {
		if !slices.Contains(i.stays[key], reason) {
			i.stays[key] = append(i.stays[key], reason)
		}
	}
}

// unused says why an object has no route although nothing is wrong with it.
func (i *importer) unused(object translate.Object) string {
	if adopt := object.GetAnnotations()[v1alpha1.AdoptAnnotation]; adopt != "" {
		return takenOver(adopt)
	}
	if rule, is := object.(*networkingv1.DestinationRule); is {
		return fmt.Sprintf("no route uses its host %s: a route replaces a DestinationRule only together with a ServiceEntry or a VirtualService", rule.Spec.Host)
	}
	return "an object that stays uses it"
}

// route imports a VirtualService. That of a ServiceEntry alone is made up, and from is then the entry.
func (i *importer) route(v *networkingv1.VirtualService, from translate.Object) {
	d := &draft{importer: i, v: v, objects: []translate.Object{from}}
	d.build()
	if len(d.reasons) == 0 {
		d.admit()
	}
	if len(d.reasons) == 0 {
		d.prove()
	}
	if len(d.reasons) > 0 {
		i.stay(from, d.reasons...)
		for _, object := range d.objects[1:] {
			i.stay(object, fmt.Sprintf("%s uses it, and stays", translate.KeyOf(from)))
		}
		return
	}
	i.add(d)
}

func (i *importer) add(d *draft) {
	for _, t := range d.targets {
		at := fmt.Sprintf("%s:%d", t.istio.Host, t.port.Number)
		d.imported.targets = append(d.imported.targets, at)
		if !isPrivate(d.route) || i.hostWide(t.entry, t.istio.Host, t.port) {
			continue
		}
		property := at + " called by workloads themselves"
		switch {
		case len(t.entry.Spec.Endpoints) > 0:
			d.imported.Differences = append(d.imported.Differences, Difference{
				Property: property, Before: "the endpoints of ServiceEntry " + t.entry.Name, After: "not known to the mesh",
				Why: "a route has its endpoints for itself, under a private upstream name", Decide: true,
			})
		case translate.SpeaksTCP(d.route):
			d.imported.Differences = append(d.imported.Differences, Difference{
				Property: property, Before: "known to the mesh by ServiceEntry " + t.entry.Name, After: "not known to the mesh",
				Why: "a route over TCP has a private upstream name: workloads that dial the host leave the mesh directly, or fail with REGISTRY_ONLY", Decide: true,
			})
		}
	}
	d.imported.admitted, d.imported.objects, d.imported.translation = d.admitted, d.objects, d.translation
	i.routes = append(i.routes, d.imported)
	for _, object := range d.objects {
		key := translate.KeyOf(object)
		if !slices.Contains(i.used[key], d.imported) {
			i.used[key] = append(i.used[key], d.imported)
		}
	}
}

// entry imports the ports of a ServiceEntry that no VirtualService serves.
func (i *importer) entry(e *networkingv1.ServiceEntry) {
	if user := i.staying(e); user != "" {
		i.stay(e, user)
	}
	for _, port := range e.Spec.Ports {
		if len(i.stays[translate.KeyOf(e)]) > 0 {
			return
		}
		if i.covered(e, port) {
			continue
		}
		switch protocolOf(port.Protocol) {
		case protocolHTTP:
			for _, host := range e.Spec.Hosts {
				i.route(inPlace(e, host, port, i.nameOf(e, host, port)), e)
			}
		case protocolTLS:
			i.pass(e, port)
		default:
			i.stay(e, fmt.Sprintf("port %d carries %s, and workloads dial the host itself: a route serves TCP under an alias only. "+
				"Let them call an alias, and write a route with hosts [ALIAS] and url tcp://%s:%[1]d", port.Number, port.Protocol, e.Spec.Hosts[0]))
		}
	}
}

// covered reports whether a route does what a port of an entry does.
func (i *importer) covered(e *networkingv1.ServiceEntry, port *istio.ServicePort) bool {
	return slices.ContainsFunc(i.used[translate.KeyOf(e)], func(r *Imported) bool { return i.covers(r, e, port) })
}

// covers reports whether a route does for the workloads that call a port of an entry themselves what the entry does. A route with a private upstream name
// does not. But if a rule originates TLS for them, calls to a TLS port fail anyway. Those to endpoints, or over TCP, are a difference to decide about,
// unless they would lose their TLS.
func (i *importer) covers(r *Imported, e *networkingv1.ServiceEntry, port *istio.ServicePort) bool {
	return !slices.ContainsFunc(e.Spec.Hosts, func(host string) bool { return !i.coversHost(r, e, host, port) })
}

func (i *importer) coversHost(r *Imported, e *networkingv1.ServiceEntry, host string, port *istio.ServicePort) bool {
	if slices.Contains(r.Route.Spec.Hosts, v1alpha1.RouteHost(host)) && uint32(translate.PortOf(r.Route)) == port.Number { //nolint:gosec // 1..65535
		return true
	}
	if i.hostWide(e, host, port) && protocolOf(port.Protocol) != protocolTLS {
		return false
	}
	private := isPrivate(r.Route)
	if slices.Contains(r.targets, fmt.Sprintf("%s:%d", host, port.Number)) &&
		(!private || i.hostWide(e, host, port) || len(e.Spec.Endpoints) > 0 || translate.SpeaksTCP(r.Route)) {
		return true
	}
	return !private && slices.ContainsFunc(r.Route.Spec.Destinations, func(d v1alpha1.Destination) bool {
		scheme, h, number, _ := splitURL(string(d.URL))
		return h == host && number == port.Number && (protocolOf(port.Protocol) != protocolHTTP || scheme == "http")
	})
}

// isPrivate reports whether the upstreams of a route do not have the names of its hosts.
func isPrivate(route *v1alpha1.ExternalRoute) bool {
	return translate.SpeaksTCP(route) || len(route.Spec.ExportTo) > 0 || route.Spec.WorkloadSelector != nil ||
		slices.ContainsFunc(route.Spec.Destinations, func(d v1alpha1.Destination) bool {
			return len(d.Endpoints) > 0 || d.Resolution == v1alpha1.ResolutionDNSRoundRobin
		})
}

// hostWide reports whether a rule originates TLS for all who call a port of a host.
func (s *set) hostWide(e *networkingv1.ServiceEntry, host string, port *istio.ServicePort) bool {
	return slices.ContainsFunc(s.rulesOf(e.Namespace, host), func(r *networkingv1.DestinationRule) bool {
		policy, _ := effective(&r.Spec, "", port.Number)
		return (&upstream{policy: policy}).originatesTLS()
	})
}

// inPlace is the VirtualService that would change nothing for those who call a port of an entry.
func inPlace(e *networkingv1.ServiceEntry, host string, port *istio.ServicePort, name string) *networkingv1.VirtualService {
	v := &networkingv1.VirtualService{ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: name}}
	v.Spec.Hosts, v.Spec.ExportTo = []string{host}, e.Spec.ExportTo
	v.Spec.Http = []*istio.HTTPRoute{{
		Match: []*istio.HTTPMatchRequest{{Port: port.Number}},
		Route: []*istio.HTTPRouteDestination{{Destination: &istio.Destination{Host: host, Port: &istio.PortSelector{Number: port.Number}}}},
	}}
	return v
}

// nameOf names a route after its entry, and after more if another route has that name.
func (i *importer) nameOf(e *networkingv1.ServiceEntry, host string, port *istio.ServicePort) string {
	taken := func(name string) bool {
		return i.writes(e.Namespace, name) || i.Working[types.NamespacedName{Namespace: e.Namespace, Name: name}] ||
			slices.ContainsFunc(i.virtualServices, func(v *networkingv1.VirtualService) bool { return v.Namespace == e.Namespace && v.Name == name })
	}
	for _, name := range []string{e.Name, e.Name + "-" + cmp.Or(port.Name, fmt.Sprint(port.Number))} {
		if !taken(name) {
			return strings.ToLower(name)
		}
	}
	return strings.ToLower(strings.TrimPrefix(e.Name+"-"+host, "*."))
}

// pass imports a port that workloads call over their own TLS.
func (i *importer) pass(e *networkingv1.ServiceEntry, port *istio.ServicePort) {
	d := &draft{importer: i, objects: []translate.Object{e}}
	route := &v1alpha1.ExternalRoute{}
	route.Namespace, route.Name = e.Namespace, i.nameOf(e, e.Spec.Hosts[0], port)
	for _, host := range e.Spec.Hosts {
		route.Spec.Hosts = append(route.Spec.Hosts, v1alpha1.RouteHost(host))
		if rules := i.rulesOf(e.Namespace, host); len(rules) > 0 {
			d.reason("DestinationRule %s decides about %s, and a route that passes TLS through has none", rules[0].Name, host)
		}
		if rule := i.unreadRule(e.Namespace, host); rule != "" {
			d.reason("DestinationRule %s cannot be read, and may decide about %s", rule, host)
		}
	}
	if port.Number != 443 {
		route.Spec.Port = int32(port.Number) //nolint:gosec // 1..65535
	}
	d.route = route
	d.exportTo(e.Spec.ExportTo)
	d.reasons = append(d.reasons, unknown("spec", &e.Spec, "hosts", "ports", "location", "resolution", "exportTo")...)
	d.checkEntry(e, port)
	if len(d.reasons) == 0 {
		d.admit()
	}
	if len(d.reasons) == 0 {
		d.provePassed(e, port)
	}
	if len(d.reasons) > 0 {
		i.stay(e, d.reasons...)
		return
	}
	i.add(d)
}

// withdraw takes back a route whose ServiceEntry would hide one that stays, with ports that others need: Istio asks the private one first, and does not merge
// the two. It reports whether it did, since what the route would have replaced stays then.
func (i *importer) withdraw() bool {
	for _, e := range i.entries {
		key := translate.KeyOf(e)
		if len(i.stays[key]) == 0 || exported(e.Spec.ExportTo, e.Namespace) == "." {
			continue
		}
		at := slices.IndexFunc(i.routes, func(r *Imported) bool {
			return r.Route.Namespace == e.Namespace && !isPrivate(r.Route) && meet(r.realHosts(), e.Spec.Hosts)
		})
		if at < 0 {
			continue
		}
		if i.kept[key] == "" {
			i.kept[key], i.again = i.stays[key][0], true
		}
		route := i.routes[at]
		i.routes = slices.Delete(i.routes, at, at+1)
		for _, object := range i.all {
			key := translate.KeyOf(object)
			if users := i.used[key]; slices.Contains(users, route) {
				i.used[key] = slices.DeleteFunc(users, func(r *Imported) bool { return r == route })
				i.stay(object, fmt.Sprintf("ServiceEntry %s stays, and that of the route would hide it", e.Name))
			}
		}
		return true
	}
	return false
}

// usesSubset reports whether a VirtualService sends requests to a subset of a rule.
func (s *set) usesSubset(rule *networkingv1.DestinationRule, subset string) bool {
	to := func(d *istio.Destination) bool { return d.GetHost() == rule.Spec.Host && d.GetSubset() == subset }
	return slices.ContainsFunc(s.virtualServices, func(v *networkingv1.VirtualService) bool {
		return slices.ContainsFunc(v.Spec.Http, func(h *istio.HTTPRoute) bool {
			return slices.ContainsFunc(h.Route, func(r *istio.HTTPRouteDestination) bool { return to(r.Destination) })
		}) || slices.ContainsFunc(v.Spec.Tcp, func(t *istio.TCPRoute) bool {
			return slices.ContainsFunc(t.Route, func(r *istio.RouteDestination) bool { return to(r.Destination) })
		})
	})
}

// mesh are the facts that a translation of a route of the namespace needs.
func (s *set) mesh() translate.Mesh {
	mesh := translate.Mesh{ClusterDomain: s.clusterDomain, Services: map[types.NamespacedName]translate.Service{}}
	for _, service := range s.services {
		mesh.Services[types.NamespacedName{Namespace: service.Namespace, Name: service.Name}] = translate.ServiceFacts(service, nil)
	}
	return mesh
}

func (s *set) service(namespace, name string) *corev1.Service {
	i := slices.IndexFunc(s.services, func(o *corev1.Service) bool { return o.Namespace == namespace && o.Name == name })
	if i < 0 {
		return nil
	}
	return s.services[i]
}
