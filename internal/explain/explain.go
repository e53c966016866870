// Package explain says what happens to one request, and why. It reads the objects of translations by the rules of Istio and Envoy. It must not import what
// reads manifests or a cluster, and does not interpret specs.
package explain

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// Request is what a workload sends.
type Request struct {
	Method string
	// URL is of scheme http, https (TLS of the workload's own), or tcp with a port.
	URL *url.URL
	// Headers have the values of each line, in order, by their lower-case name.
	Headers map[string][]string
	// Namespace is that of the workload, and Labels are those of its pod, nil if they are not known.
	Namespace, Pod string
	Labels         map[string]string
	// Hides says why a Sidecar resource keeps the hosts of an object of a namespace from the workload on a port, empty if it does not. It is nil if that is
	// not known.
	Hides func(owner string, hosts []string, port uint32) string
	// Outside says why routes without a waypoint do not apply to the workload's pod, empty if they do.
	Outside string
}

// Route is a route and what became of it: a translation, or a refusal.
type Route struct {
	*v1alpha1.ExternalRoute
	Translation *translate.Translation
	Refusal     *translate.Refusal
	// Standing are the objects that a refused route has in a cluster.
	Standing []translate.Object
	// Verb is what the refusal means. Defaults to "is refused".
	Verb string
	// Notes say what is not known about the route.
	Notes []string
}

// Outcome is what becomes of a request.
type Outcome string

const (
	// Forwarded requests leave for one of the destinations.
	Forwarded Outcome = "Forwarded"
	// Answered requests get a direct response or an injected abort, and leave for nowhere.
	Answered Outcome = "Answered"
	// PassedThrough connections leave over the workload's own TLS.
	PassedThrough Outcome = "PassedThrough"
	// NoRule means that a route serves the host, and none of its rules matches: the response is 404.
	NoRule Outcome = "NoRule"
	// Kept means that objects of the cluster take the request, while the route's present spec is not in effect.
	Kept Outcome = "Kept"
	// NotSelected means that the route does not apply to the pod.
	NotSelected Outcome = "NotSelected"
	// NotServed means that no route takes the request.
	NotServed Outcome = "NotServed"
)

// Answer says what happens to a request. Why has the reasons if no route takes it, or not by its present spec.
type Answer struct {
	Request      string        `json:"request"`
	From         string        `json:"from"`
	Outcome      Outcome       `json:"outcome"`
	Why          []string      `json:"why,omitempty"`
	Closest      []string      `json:"closestHosts,omitempty"`
	Route        string        `json:"route,omitempty"`
	Host         string        `json:"host,omitempty"`
	Rule         string        `json:"rule,omitempty"`
	Skipped      []Skipped     `json:"skippedRules,omitempty"`
	Status       uint32        `json:"status,omitempty"`
	Body         string        `json:"body,omitempty"`
	Path         string        `json:"path,omitempty"`
	Timeout      string        `json:"timeout,omitempty"`
	Retries      string        `json:"retries,omitempty"`
	Fault        string        `json:"fault,omitempty"`
	Road         *Road         `json:"road,omitempty"`
	Destinations []Destination `json:"destinations,omitempty"`
	Objects      []string      `json:"objects,omitempty"`
	Notes        []string      `json:"notes,omitempty"`
}

// Skipped is a rule that does not match, and the conditions of each of its matches that fail.
type Skipped struct {
	Rule string     `json:"rule"`
	Why  [][]string `json:"why"`
}

// Taken reports whether a route takes the request.
func (a *Answer) Taken() bool {
	return a.Outcome == Forwarded || a.Outcome == Answered || a.Outcome == PassedThrough || a.Outcome == Kept
}

// question is a request among routes.
type question struct {
	Request
	host, domain string
	port         uint32
	routes       []Route
}

// Explain says what happens to a request.
func Explain(request Request, routes []Route, clusterDomain string) Answer {
	q := question{Request: request, host: strings.ToLower(request.URL.Hostname()), domain: clusterDomain, port: portOf(request.URL), routes: routes}
	a := Answer{Request: strings.TrimSpace(request.Method + " " + request.URL.String()), From: "namespace " + request.Namespace}
	if request.Pod != "" {
		a.From = "pod " + request.Namespace + "/" + request.Pod
	}
	for _, route := range routes {
		if host := q.standing(route); host != "" {
			q.keep(&a, route, host)
			return a
		}
		host := q.served(route)
		if host == "" {
			continue
		}
		if why := q.kept(route, host); why != "" {
			a.Why, a.Notes = append(a.Why, why), append(a.Notes, route.Notes...)
			continue
		}
		a.Why, a.Route, a.Host, a.Notes = nil, nameOf(route), host, slices.Clone(route.Notes)
		q.follow(&a, route)
		return a
	}
	q.passThrough(&a)
	return a
}

func portOf(u *url.URL) uint32 {
	if port, err := strconv.ParseUint(u.Port(), 10, 16); err == nil {
		return uint32(port)
	}
	if u.Scheme == "https" {
		return 443
	}
	return 80
}

func nameOf(route Route) string { return route.Namespace + "/" + route.Name }

// served is the complete name of the route's host that the request calls, empty if it calls none.
func (q *question) served(route Route) string {
	hosts := translate.HostsOf(route.ExternalRoute, q.domain)
	if route.Refusal != nil && translate.PassesThrough(route.ExternalRoute) {
		hosts = translate.UpstreamsOf(route.ExternalRoute)
	}
	if i := slices.IndexFunc(hosts, q.calls); i >= 0 {
		return hosts[i]
	}
	return ""
}

// calls reports whether the request's host means a complete name or is in a wildcard, as sidecars read them.
func (q *question) calls(complete string) bool {
	absolute := strings.TrimSuffix(q.host, ".")
	if suffix, wildcard := strings.CutPrefix(complete, "*"); absolute == complete || wildcard && strings.HasSuffix(absolute, suffix) {
		return true
	}
	service, inCluster := strings.CutSuffix(complete, ".svc."+q.domain)
	name, namespace, _ := strings.Cut(service, ".")
	return inCluster && (q.host == service+".svc" || q.host == service || q.host == name && namespace == q.Namespace)
}

// kept is why the request does not get to a route that serves its host, empty if it does.
func (q *question) kept(route Route, host string) string {
	name := "ExternalRoute " + nameOf(route)
	if route.Refusal != nil {
		return fmt.Sprintf("%s serves %s and %s", name, host, refusal(route))
	}
	if exports := meshService(route).Spec.ExportTo; route.Translation.Waypoint == "" && !visible(exports, route.Namespace, q.Namespace) {
		return notExported(route, host, exports, q.Namespace)
	}
	if why := q.hidden(route, meshService(route).Spec.Hosts); why != "" && route.Translation.Waypoint == "" {
		return fmt.Sprintf("%s serves %s, and %s", name, host, why)
	}
	if port := uint32(translate.PortOf(route.ExternalRoute)); port != q.port { //nolint:gosec // 1..65535 by schema
		why := fmt.Sprintf("%s serves %s on port %d, and the request calls port %d", name, host, port, q.port)
		if strings.TrimSuffix(q.host, ".") == host && q.URL.Scheme == "http" {
			why += fmt.Sprintf(": if a Service of the mesh has HTTP on port %d, Envoy can apply the route to the complete name all the same", q.port)
		}
		return why
	}
	switch scheme := q.URL.Scheme; {
	case len(meshService(route).Spec.Tcp) > 0:
		return ""
	case scheme == "http":
		return q.malformed()
	case scheme == "https":
		return fmt.Sprintf("%s reads HTTP on port %d, and the mesh cannot read the workload's own TLS: call http://%s:%d", name, q.port, host, q.port)
	}
	return fmt.Sprintf("%s takes HTTP requests on port %d only: explain an http URL", name, q.port)
}

// visible reports whether an object of namespace owner is exported to a namespace.
func visible(exportTo []string, owner, namespace string) bool {
	return len(exportTo) == 0 || slices.ContainsFunc(exportTo, func(n string) bool { return n == "*" || n == namespace || n == "." && owner == namespace })
}

// hidden is why the workload's Sidecar resource keeps an object with these hosts from it, empty if it does not.
func (q *question) hidden(route Route, hosts []string) string {
	if q.Hides == nil {
		return ""
	}
	complete := make([]string, len(hosts))
	for i, host := range hosts {
		complete[i] = q.complete(host, route.Namespace)
	}
	return q.Hides(route.Namespace, complete, q.port)
}

func notExported(route Route, host string, exportTo []string, namespace string) string {
	return fmt.Sprintf("ExternalRoute %s serves %s, and exports it to namespace %s only: add %s to its spec.exportTo",
		nameOf(route), host, strings.ReplaceAll(strings.Join(exportTo, ", "), ".", route.Namespace), namespace)
}

// meshService is the VirtualService of sidecars and waypoints.
func meshService(route Route) *networkingv1.VirtualService {
	services := translate.Of[*networkingv1.VirtualService](route.Translation.Objects)
	return services[slices.IndexFunc(services, func(v *networkingv1.VirtualService) bool { return !translate.IsSecondLeg(v) })]
}

// closest are the hosts of routes that are written most like the request's, three at most.
func (q *question) closest() (hosts []string) {
	distances := map[string]int{}
	for _, route := range q.routes {
		for _, host := range slices.Concat(translate.HostsOf(route.ExternalRoute, q.domain), translate.UpstreamsOf(route.ExternalRoute)) {
			first, _, _ := strings.Cut(host, ".")
			called, _, _ := strings.Cut(q.host, ".")
			if d := min(distance(q.host, host), distance(called, first)); d <= max(1, len(called)/3) {
				distances[host] = d
			}
		}
	}
	hosts = slices.SortedFunc(maps.Keys(distances), func(a, b string) int { return cmp.Or(cmp.Compare(distances[a], distances[b]), cmp.Compare(a, b)) })
	return hosts[:min(3, len(hosts))]
}

// distance is the number of characters to insert, delete or replace between two texts.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0]++
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// objects are those of the translation that have one of the names.
func (q *question) objects(route Route, names ...string) (found []string) {
	for _, item := range route.Translation.Objects {
		if slices.ContainsFunc(namesIn(item.Object), func(name string) bool { return slices.Contains(names, q.complete(name, route.Namespace)) }) {
			key := translate.KeyOf(item.Object)
			found = append(found, key.Kind+" "+key.Name)
		}
	}
	return found
}

// complete is the complete name of a Service that is written short.
func (q *question) complete(name, namespace string) string {
	if strings.Contains(name, ".") {
		return name
	}
	return strings.Join([]string{name, namespace, "svc", q.domain}, ".")
}

// namesIn are the hosts of an object, as it writes them.
func namesIn(object translate.Object) (names []string) {
	switch o := object.(type) {
	case *corev1.Service:
		return []string{o.Name}
	case *networkingv1.ServiceEntry:
		return o.Spec.Hosts
	case *networkingv1.DestinationRule:
		return []string{o.Spec.Host}
	case *networkingv1.VirtualService:
		return o.Spec.Hosts
	case *networkingv1.Gateway:
		for _, server := range o.Spec.Servers {
			for _, host := range server.Hosts {
				_, name, _ := strings.Cut(host, "/")
				names = append(names, name)
			}
		}
	}
	return names
}
