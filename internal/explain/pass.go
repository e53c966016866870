package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/externalroute/externalroute/internal/translate"
)

// known is a ServiceEntry by which the mesh knows the request's host under its real name.
type known struct {
	Route
	entry *networkingv1.ServiceEntry
	// host is how the entry writes it: it may be a wildcard.
	host string
}

// port is the entry's port of a number, or its first.
func (k known) port(number uint32) *istio.ServicePort {
	ports := k.entry.Spec.Ports
	return ports[max(0, slices.IndexFunc(ports, func(p *istio.ServicePort) bool { return p.Number == number }))]
}

// passThrough says what happens to a request for which no VirtualService is: a connection of the workload's own TLS leaves if a ServiceEntry lets it.
func (q *question) passThrough(a *Answer) {
	var found []known
	all := q.known()
	for _, k := range all {
		port, from := k.port(q.port), q.namespaceOf(k.host, all)
		switch {
		case !visible(k.entry.Spec.ExportTo, k.Namespace, q.Namespace):
			if translate.PassesThrough(k.ExternalRoute) {
				a.Why = append(a.Why, notExported(k.Route, k.host, k.entry.Spec.ExportTo, q.Namespace))
			}
		case k.Namespace != from:
			a.Why = append(a.Why, fmt.Sprintf("ExternalRoute %s makes %s known to the mesh, and that of namespace %s hides it: Istio takes a host from one namespace",
				nameOf(k.Route), k.host, from))
		case q.entryHidden(k) != "":
			a.Why = append(a.Why, fmt.Sprintf("ExternalRoute %s makes %s known to the mesh, and %s", nameOf(k.Route), k.host, q.entryHidden(k)))
		case port.Protocol != "TLS":
			if port.Number == q.port && !translate.LeadsNowhere(port) {
				a.Why = append(a.Why, fmt.Sprintf("ExternalRoute %s makes %s known to the mesh as its destination, so the request leaves as it is, in plaintext, "+
					"and no rule applies: call the route's hosts", nameOf(k.Route), k.host))
			}
		case q.URL.Scheme != "https" || q.port != port.Number:
			a.Why = append(a.Why, fmt.Sprintf("ExternalRoute %s lets workloads call %s over their own TLS on port %d only: "+
				"call https://%[2]s:%[3]d, or add a route for port %[4]d",
				nameOf(k.Route), q.host, port.Number, q.port))
		case slices.Contains(k.Translation.HostScoped, k.host):
			a.Outcome = NotServed
			a.Why = append(a.Why, fmt.Sprintf("ExternalRoute %s has tls.scope Host, so that the mesh sends TLS in TLS to %s, and that fails: use scope Route, "+
				"or call the route's host over http", nameOf(k.Route), k.host))
			return
		default:
			found = append(found, k)
		}
	}
	if len(found) == 0 {
		a.Outcome = NotServed
		if len(a.Why) == 0 {
			a.Why, a.Closest = append(a.Why, fmt.Sprintf("no ExternalRoute serves %s for namespace %s", q.host, q.Namespace)), q.closest()
		}
		return
	}
	q.pass(a, found[0])
}

// entryHidden is why the workload's Sidecar resource keeps a ServiceEntry from it, empty if it does not. Istio imports the destinations of a VirtualService
// together with it.
func (q *question) entryHidden(k known) string {
	why := q.hidden(k.Route, k.entry.Spec.Hosts)
	if why != "" && !translate.PassesThrough(k.ExternalRoute) && q.hidden(k.Route, meshService(k.Route).Spec.Hosts) == "" {
		return ""
	}
	return why
}

// known are the ServiceEntries with the request's host, those of whole names and of pass-through routes first.
func (q *question) known() (found []known) {
	for _, route := range q.routes {
		if route.Refusal != nil {
			continue
		}
		for _, entry := range translate.Of[*networkingv1.ServiceEntry](route.Translation.Objects) {
			if i := slices.IndexFunc(entry.Spec.Hosts, q.calls); i >= 0 {
				found = append(found, known{route, entry, entry.Spec.Hosts[i]})
			}
		}
	}
	rank := func(k known) (rank int) {
		if strings.HasPrefix(k.host, "*") {
			rank += 2
		}
		if !translate.PassesThrough(k.ExternalRoute) {
			rank++
		}
		return rank
	}
	slices.SortStableFunc(found, func(a, b known) int { return rank(a) - rank(b) })
	return found
}

// namespaceOf is the namespace from which Istio takes a host that several may export: the workload's own, then one that exports it there by name, then one that
// exports it to all, and that of the oldest entry among several (istio: pilot/pkg/model/sidecar.go, selectServices).
func (q *question) namespaceOf(host string, all []known) string {
	rank := func(k known) int {
		switch {
		case k.Namespace == q.Namespace:
			return 0
		case slices.Contains(k.entry.Spec.ExportTo, q.Namespace):
			return 1
		}
		return 2
	}
	var entries []known
	for _, k := range all {
		if k.host == host && visible(k.entry.Spec.ExportTo, k.Namespace, q.Namespace) {
			entries = append(entries, k)
		}
	}
	if len(entries) == 0 {
		return ""
	}
	return slices.MinFunc(entries, func(a, b known) int {
		return cmp.Or(rank(a)-rank(b), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.entry.Name, b.entry.Name),
			cmp.Compare(a.Namespace, b.Namespace))
	}).Namespace
}

// pass says where a connection of the workload's own TLS goes.
func (q *question) pass(a *Answer, k known) {
	host := strings.TrimSuffix(q.host, ".")
	a.Outcome, a.Why, a.Route, a.Host, a.Notes = PassedThrough, nil, nameOf(k.Route), host, slices.Clone(k.Notes)
	if q.stayOutside(a, false) {
		return
	}
	a.Road = &Road{Kind: "Sidecar"}
	names := []string{k.host}
	to := &istio.Destination{Host: k.host, Port: &istio.PortSelector{Number: q.port}}
	if translate.LedTo(k.entry) != "" {
		a.Road = roadOf(k.Route)
		a.Road.Cluster = cluster(to)
		for _, leg := range translate.Of[*networkingv1.VirtualService](k.Translation.Objects) {
			if slices.Contains(leg.Spec.Hosts, k.host) {
				to = leg.Spec.Tls[0].Route[0].Destination
			}
		}
		names = append(names, to.Host)
	}
	d := destinationOf(k.Route, target{Destination: to})
	d.URL, d.Verified, d.SNI = fmt.Sprintf("https://%s:%d", host, q.port), "by the workload", host
	a.Destinations, a.Objects = []Destination{d}, q.objects(k.Route, names...)
}
