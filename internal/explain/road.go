package explain

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/externalroute/externalroute/internal/translate"
)

// Road is what a request leaves through.
type Road struct {
	// Kind is Sidecar, EgressGateway or Waypoint, with its name, and By says what sets it.
	Kind string `json:"kind"`
	Name string `json:"name,omitempty"`
	By   string `json:"by,omitempty"`
	// Cluster is the Envoy cluster by which a sidecar reaches an egress gateway.
	Cluster string `json:"cluster,omitempty"`
}

// Destination is where a part of the requests goes.
type Destination struct {
	Name string `json:"name,omitempty"`
	URL  string `json:"url,omitempty"`
	// Share is in percent of the requests.
	Share     string   `json:"share,omitempty"`
	Authority string   `json:"authority,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
	// SNI is the server name of the TLS connection, and Verified says how the server is verified.
	SNI               string `json:"sni,omitempty"`
	Verified          string `json:"verified"`
	ClientCertificate string `json:"clientCertificate,omitempty"`
	// Cluster is the Envoy cluster.
	Cluster string `json:"cluster"`
}

// target is a destination of a VirtualService, with what all kinds of its routes have.
type target struct {
	*istio.Destination
	weight    int32
	authority string
}

// follow says what a route that serves the request's host does with it.
func (q *question) follow(a *Answer, route Route) {
	if q.stayOutside(a, route.byWaypoint()) {
		return
	}
	service := meshService(route)
	if labels := sourceLabels(&service.Spec); len(labels) > 0 {
		for _, name := range slices.Sorted(maps.Keys(labels)) {
			if q.Labels != nil && q.Labels[name] != labels[name] {
				a.Outcome = NotSelected
				a.Why = append(a.Why, fmt.Sprintf("spec.workloadSelector wants label %s: %s, and the pod has %s: the request goes to the pods of the Service itself",
					name, labels[name], cmp.Or(q.Labels[name], "none")))
			}
		}
		if len(a.Why) > 0 {
			return
		}
		if q.Labels == nil {
			a.Notes = append(a.Notes, "the route applies to the pods of spec.workloadSelector only, and this answer is for one of them: name a pod with --from")
		}
	}
	a.Road = roadOf(route)
	if len(service.Spec.Tcp) > 0 {
		q.connect(a, route, service)
		return
	}
	q.send(a, route, service)
}

func roadOf(route Route) *Road {
	switch t := route.Translation; {
	case t.Gateway != "" && len(t.RoadPolicies) > 0:
		return &Road{Kind: "EgressGateway", Name: t.Gateway, By: "ExternalRoutePolicy " + strings.Join(t.RoadPolicies, ", ")}
	case t.Gateway != "":
		return &Road{Kind: "EgressGateway", Name: t.Gateway, By: "spec.egressGateway"}
	case t.Waypoint != "":
		return &Road{Kind: "Waypoint", Name: t.Waypoint, By: "spec.waypoint"}
	}
	return &Road{Kind: "Sidecar"}
}

// sourceLabels are what a VirtualService wants of a pod: the same in all of its matches.
func sourceLabels(spec *istio.VirtualService) map[string]string {
	switch {
	case len(spec.Tcp) > 0:
		return spec.Tcp[0].Match[0].SourceLabels
	case len(spec.Http) > 0 && len(spec.Http[0].Match) > 0:
		return spec.Http[0].Match[0].SourceLabels
	}
	return nil
}

// connect says where a TCP connection goes.
func (q *question) connect(a *Answer, route Route, service *networkingv1.VirtualService) {
	a.Outcome = Forwarded
	var targets []target
	for _, r := range service.Spec.Tcp[0].Route {
		targets = append(targets, target{Destination: r.Destination, weight: r.Weight})
	}
	q.leave(a, route, []string{a.Host}, targets)
}

// send says which rule takes an HTTP request, and where it goes.
func (q *question) send(a *Answer, route Route, service *networkingv1.VirtualService) {
	names := []string{a.Host}
	if a.Road.Kind == "EgressGateway" { // the rules are those of the second leg
		leg := service.Spec.Http[0].Route[0].Destination
		services := translate.Of[*networkingv1.VirtualService](route.Translation.Objects)
		service = services[slices.IndexFunc(services, translate.IsSecondLeg)]
		a.Road.Cluster = cluster(leg)
		names = append(names, leg.Host, service.Spec.Hosts[0])
	}
	skipped := map[int][][]string{}
	for i, http := range service.Spec.Http {
		rule := route.Translation.RuleOf[i]
		a.doubt(ruleName(route, rule), http.Match)
		met, failed := q.match(http.Match)
		if met == nil {
			skipped[rule] = append(skipped[rule], failed...)
			continue
		}
		a.Rule = ruleName(route, rule)
		delete(skipped, rule)
		a.skip(route, skipped)
		q.take(a, http, met)
		q.leave(a, route, names, targetsOf(http))
		return
	}
	a.Outcome, a.Status = NoRule, 404
	a.Why = append(a.Why, "no rule matches the request")
	a.Objects = q.objects(route, names...)
	a.skip(route, skipped)
}

// doubt notes conditions of a rule on headers that Envoy writes.
func (a *Answer) doubt(rule string, matches []*istio.HTTPMatchRequest) {
	for _, m := range matches {
		for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
			note := fmt.Sprintf("%s matches header %s, which Envoy sets or removes itself: the answer takes the header as the request has it", rule, name)
			if isEnvoys(name) && !slices.Contains(a.Notes, note) {
				a.Notes = append(a.Notes, note)
			}
		}
	}
}

// skip adds rules that do not match.
func (a *Answer) skip(route Route, skipped map[int][][]string) {
	for _, rule := range slices.Sorted(maps.Keys(skipped)) {
		a.Skipped = append(a.Skipped, Skipped{Rule: ruleName(route, rule), Why: fewest(skipped[rule])})
	}
}

// ruleName is the field of a rule. A route without rules has one that matches all.
func ruleName(route Route, rule int) string {
	if len(route.Spec.Rules) == 0 {
		return "all requests"
	}
	return fmt.Sprintf("spec.rules[%d]", rule)
}

// take says what a rule does with a request.
func (q *question) take(a *Answer, http *istio.HTTPRoute, met *istio.HTTPMatchRequest) {
	a.Outcome = Forwarded
	if d := http.DirectResponse; d != nil {
		a.Outcome, a.Status, a.Body, a.Road = Answered, d.Status, d.Body.GetString_(), nil
		return
	}
	a.Path = q.rewritten(met, http.Rewrite)
	a.Timeout, a.Retries = "none", "none"
	if http.Timeout != nil {
		a.Timeout = http.Timeout.AsDuration().String()
	}
	if r := http.Retries; r.GetAttempts() > 0 {
		a.Retries = fmt.Sprintf("%d on %s", r.Attempts, r.RetryOn)
		if r.PerTryTimeout != nil {
			a.Retries += ", each try within " + r.PerTryTimeout.AsDuration().String()
		}
	}
	var faults []string
	if d := http.Fault.GetDelay(); d != nil {
		faults = append(faults, fmt.Sprintf("delays %g%% by %s", d.Percentage.Value, d.GetFixedDelay().AsDuration()))
	}
	if f := http.Fault.GetAbort(); f != nil {
		faults = append(faults, fmt.Sprintf("aborts %g%% with %d", f.Percentage.Value, f.GetHttpStatus()))
		if f.Percentage.Value >= 100 {
			a.Outcome, a.Road, a.Status = Answered, nil, uint32(f.GetHttpStatus()) //nolint:gosec // 200..599 by schema
		}
	}
	a.Fault = strings.Join(faults, ", ")
}

func targetsOf(http *istio.HTTPRoute) (targets []target) {
	for _, r := range http.Route {
		authority := r.Headers.GetRequest().GetSet()[":authority"]
		targets = append(targets, target{Destination: r.Destination, weight: r.Weight, authority: cmp.Or(http.Rewrite.GetAuthority(), authority)})
	}
	return targets
}

// leave adds the destinations that get requests, and the objects with their names or the given ones.
func (q *question) leave(a *Answer, route Route, names []string, targets []target) {
	if a.Outcome == Forwarded {
		total := int32(0)
		for _, t := range targets {
			total += t.weight
		}
		for _, t := range targets {
			if len(targets) > 1 && t.weight == 0 {
				continue
			}
			share := "100%"
			if len(targets) > 1 {
				share = fmt.Sprintf("%.4g%%", 100*float64(t.weight)/float64(total))
			}
			d := destinationOf(route, t)
			d.Share = share
			a.Destinations = append(a.Destinations, d)
			names = append(names, t.Host)
		}
	}
	a.Objects = q.objects(route, names...)
}

// destinationOf is what the objects say about a destination.
func destinationOf(route Route, t target) Destination {
	d := Destination{Authority: t.authority, Cluster: cluster(t.Destination), Verified: "not at all: plaintext"}
	for i, s := range route.Translation.Destinations {
		if s.Host == t.Host && s.Subset == t.Subset {
			d.Name, d.URL = s.Name, string(route.Spec.Destinations[i].URL)
		}
	}
	for _, entry := range translate.Of[*networkingv1.ServiceEntry](route.Translation.Objects) {
		if slices.Contains(entry.Spec.Hosts, t.Host) {
			d.Addresses = addresses(&entry.Spec)
		}
	}
	for _, rule := range translate.Of[*networkingv1.DestinationRule](route.Translation.Objects) {
		for _, subset := range rule.Spec.Subsets {
			if rule.Spec.Host == t.Host && subset.Name == t.Subset {
				d.secure(subset.TrafficPolicy.GetTls())
			}
		}
	}
	return d
}

// addresses are what a ServiceEntry dials, empty for its host.
func addresses(entry *istio.ServiceEntry) (all []string) {
	for _, e := range entry.Endpoints {
		address := e.Address
		for _, port := range e.Ports {
			address = net.JoinHostPort(address, fmt.Sprint(port))
		}
		all = append(all, address)
	}
	return all
}

// secure says how the server is verified.
func (d *Destination) secure(tls *istio.ClientTLSSettings) {
	if tls.GetMode() == istio.ClientTLSSettings_DISABLE {
		return
	}
	d.SNI = tls.Sni
	if tls.InsecureSkipVerify.GetValue() {
		d.Verified = "not at all: insecureSkipVerify"
		return
	}
	ca := "the system's roots"
	if name, found := strings.CutPrefix(tls.CredentialName, "configmap://"); found {
		ca = "ConfigMap " + name
	}
	if tls.Mode == istio.ClientTLSSettings_MUTUAL {
		d.ClientCertificate = "Secret " + tls.CredentialName
		ca = d.ClientCertificate
	}
	d.Verified = fmt.Sprintf("certificate for %s, by %s", strings.Join(tls.SubjectAltNames, " or "), ca)
}

// cluster is the name of a destination in Envoy.
func cluster(d *istio.Destination) string {
	return fmt.Sprintf("outbound|%d|%s|%s", d.Port.GetNumber(), d.Subset, d.Host)
}
