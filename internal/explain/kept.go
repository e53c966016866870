package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// standing is the host by which objects take the request that a route has in place of its translation, empty if they do not.
func (q *question) standing(route Route) string {
	for _, object := range route.Standing {
		exportTo, takes := q.takenBy(object)
		if _, traffic := object.(*networkingv1.VirtualService); traffic && route.byWaypoint() {
			exportTo = nil
		}
		if !takes || !visible(exportTo, route.Namespace, q.Namespace) || q.hidden(route, namesIn(object)) != "" {
			continue
		}
		for _, name := range namesIn(object) {
			if host := q.complete(name, route.Namespace); q.calls(host) && q.listens(route, host) {
				return host
			}
		}
	}
	return ""
}

// takenBy reports whether an object takes requests like this one, whatever their host, and to which namespaces it is exported.
func (q *question) takenBy(object translate.Object) (exportTo []string, takes bool) {
	switch o := object.(type) {
	case *networkingv1.VirtualService:
		return o.Spec.ExportTo, !translate.IsSecondLeg(o) && (len(o.Spec.Tcp) > 0 || len(o.Spec.Http) > 0 && q.URL.Scheme == "http")
	case *networkingv1.ServiceEntry:
		port := (known{entry: o}).port(q.port)
		return o.Spec.ExportTo, q.URL.Scheme == "https" && port.Number == q.port && port.Protocol == "TLS"
	}
	return nil, false
}

// byWaypoint reports whether a waypoint applies the route, as far as its objects are known.
func (r Route) byWaypoint() bool {
	if r.Refusal == nil {
		return r.Translation.Waypoint != ""
	}
	return slices.ContainsFunc(r.Standing, func(o translate.Object) bool { return o.GetAnnotations()[v1alpha1.WaypointAnnotation] != "" })
}

// stayOutside makes the answer that a route does not apply to the pod, if that is so.
func (q *question) stayOutside(a *Answer, waypoint bool) bool {
	if q.Outside == "" || waypoint {
		return false
	}
	a.Outcome, a.Why = NotSelected, append(a.Why, q.Outside)
	return true
}

// listens reports whether a host has the request's port. That of a user's own Service is not known.
func (q *question) listens(route Route, host string) bool {
	for _, object := range route.Standing {
		switch o := object.(type) {
		case *corev1.Service:
			if q.complete(o.Name, o.Namespace) == host {
				return slices.ContainsFunc(o.Spec.Ports, func(p corev1.ServicePort) bool { return uint32(p.Port) == q.port }) //nolint:gosec // 1..65535
			}
		case *networkingv1.ServiceEntry:
			if slices.Contains(o.Spec.Hosts, host) {
				return (known{entry: o}).port(q.port).Number == q.port
			}
		}
	}
	return true
}

// keep says that what stands takes the request. What it does there is not known: the spec of which it is has been overwritten.
func (q *question) keep(a *Answer, route Route, host string) {
	a.Outcome, a.Route, a.Host, a.Notes = Kept, nameOf(route), host, slices.Clone(route.Notes)
	a.Why = []string{fmt.Sprintf("ExternalRoute %s %s", a.Route, refusal(route))}
	q.stayOutside(a, route.byWaypoint())
	for _, object := range route.Standing {
		if slices.ContainsFunc(namesIn(object), func(name string) bool { return q.complete(name, route.Namespace) == host }) {
			a.Objects = append(a.Objects, translate.KeyOf(object).String())
		}
	}
}

// refusal says why a route has no effect.
func refusal(route Route) string {
	problems := make([]string, len(route.Refusal.Problems))
	for i, problem := range route.Refusal.Problems {
		problems[i] = translate.Text(problem)
	}
	return fmt.Sprintf("%s (%s): %s", cmp.Or(route.Verb, "is refused"), route.Refusal.Reason, strings.Join(problems, "; "))
}
