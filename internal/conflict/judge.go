package conflict

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// Route is a route that is judged: what it asks for, and what it has.
type Route struct {
	*v1alpha1.ExternalRoute
	Wanted *translate.Translation
	// Owned are the objects that the route controls.
	Owned         map[translate.Key]translate.Object
	ClusterDomain string
}

// Verdict is what Judge finds.
type Verdict struct {
	// Refusal is why the route may not write its objects, nil if it may.
	Refusal *translate.Refusal
	// Adopted are the wanted objects of others that were handed over to the route.
	Adopted map[translate.Key]*Named
	// Replaced are ServiceEntries and DestinationRules of other names for the route's destinations that were handed over to it.
	Replaced []translate.Key
	// InForce are those of Replaced that decide about workloads of the namespace, in Istio's order. It ignores the others, or they are for other namespaces.
	InForce []translate.Key
	// Earlier are wanted objects of an earlier route of the same name, which are on their way out.
	Earlier map[translate.Key]*Named
}

// Judge decides whether another route or another user has what a route asks for. A route gets all of its hosts or none, and nothing of it is
// written before it has them.
func Judge(route Route, world World) Verdict {
	j := &judge{Route: route, world: world, has: route.has()}
	j.handedOver()
	j.foreignHosts()
	j.httpRoutes()
	j.foreignDestinations()
	j.routes()
	verdict := Verdict{Adopted: map[translate.Key]*Named{}, Earlier: map[translate.Key]*Named{}}
	switch {
	case len(j.hosts) > 0:
		verdict.Refusal = &translate.Refusal{Reason: v1alpha1.ReasonHostConflict, Problems: slices.Concat(j.hosts, j.destinations)}
	case len(j.destinations) > 0:
		verdict.Refusal = &translate.Refusal{Reason: v1alpha1.ReasonDestinationConflict, Problems: j.destinations}
	default:
		verdict.Replaced, verdict.InForce = j.replaced, j.inForce
		j.names(&verdict)
	}
	return verdict
}

// Claims returns what the route's wanted objects claim.
func (r Route) Claims() []Claim {
	var claims []Claim
	for _, item := range r.Wanted.Objects {
		claims = append(claims, ClaimsOf(item.Object, r.ClusterDomain)...)
	}
	return claims
}

// Missing returns what the route's wanted objects claim and those that stand do not.
func (r Route) Missing() []Claim {
	has := r.has()
	return slices.DeleteFunc(r.Claims(), func(c Claim) bool {
		return slices.ContainsFunc(has, func(h Holder) bool { return c.Same(h.Claim) })
	})
}

// has returns the claims of the objects that stand, each with the age of its object.
func (r Route) has() []Holder {
	var claims []Holder
	for _, object := range r.Owned {
		identity := Identity{Namespace: r.Namespace, Name: r.Name, Created: object.GetCreationTimestamp().Time}
		for _, claim := range ClaimsOf(object, r.ClusterDomain) {
			claims = append(claims, Holder{identity, claim})
		}
	}
	return claims
}

type judge struct {
	Route
	world World
	// has are the claims of the objects that stand.
	has                 []Holder
	replaced, inForce   []translate.Key
	hosts, destinations field.ErrorList
	// asked is what routes ask for, by their names, and moves finds those that leave what they have. Stuck reports that one of them does not.
	asked map[string][]Claim
	moves *moves
	stuck bool
}

func (j *judge) hostConflict(host translate.Host, format string, args ...any) {
	j.hosts = appendOnce(j.hosts, translate.Blocked(host.Path, "%s %s", host.Name, fmt.Sprintf(format, args...)))
}

func (j *judge) destinationConflict(path *field.Path, format string, args ...any) {
	j.destinations = appendOnce(j.destinations, translate.Blocked(path, format, args...))
}

func appendOnce(problems field.ErrorList, problem *field.Error) field.ErrorList {
	if slices.ContainsFunc(problems, func(p *field.Error) bool { return p.Field == problem.Field && p.Detail == problem.Detail }) {
		return problems
	}
	return append(problems, problem)
}

// created is when an object was created, zero if it does not stand.
func (j *judge) created(object translate.Object) (at metav1.Time) {
	if live := j.Owned[translate.KeyOf(object)]; live != nil {
		at = live.GetCreationTimestamp()
	}
	return at
}

// foreignHosts finds VirtualServices of other people that Istio prefers.
func (j *judge) foreignHosts() {
	for _, item := range j.Wanted.Objects {
		v, ok := item.Object.(*networkingv1.VirtualService)
		if !ok {
			continue
		}
		ours := VirtualServiceFacts(v, j.ClusterDomain).On(uint32(translate.PortOf(j.ExternalRoute))) //nolint:gosec // 1..65535 by schema
		ours.Created = j.created(v).Time
		for i, host := range j.Wanted.Hosts {
			for _, rival := range j.virtualServices(host.Name) {
				if named(v, rival.Identity) { // its name is the conflict, or it is handed over
					continue
				}
				if served, beats := Beats(rival, ours); beats && served == i {
					j.hostConflict(host, "is served by VirtualService %s/%s, which Istio prefers: remove the host from one of the two, or delete one",
						rival.Namespace, rival.Name)
				}
			}
		}
	}
}

// virtualServices are those of other people that may serve a host.
func (j *judge) virtualServices(host string) []VirtualService {
	found := j.world.VirtualServices(host)
	if translate.SpeaksTCP(j.ExternalRoute) {
		for _, wildcard := range Wildcards(host) {
			found = append(found, j.world.VirtualServices(wildcard)...)
		}
	}
	return found
}

// httpRoutes finds routes of the Gateway API for one of the aliases, on the route's port. They are not for TCP.
func (j *judge) httpRoutes() {
	if translate.SpeaksTCP(j.ExternalRoute) {
		return
	}
	for _, alias := range translate.ReferencesOf(j.ExternalRoute).Aliases {
		name := fmt.Sprintf("%s.%s.svc.%s", alias.Name, j.Namespace, j.ClusterDomain)
		i := slices.IndexFunc(j.Wanted.Hosts, func(h translate.Host) bool { return h.Name == name })
		if i < 0 {
			continue
		}
		for _, rival := range j.world.HTTPRoutes(alias) {
			if (rival.Port == 0 || rival.Port == int64(translate.PortOf(j.ExternalRoute))) && j.visibleIn(rival.Namespace) {
				j.hostConflict(j.Wanted.Hosts[i], "is also served by %s %s/%s, and Istio does not define which of the two applies: remove the Service from one of them",
					rival.Kind, rival.Namespace, rival.Name)
			}
		}
	}
}

func (j *judge) visibleIn(namespace string) bool {
	return namespace == j.Namespace || slices.ContainsFunc(j.Spec.ExportTo, func(n v1alpha1.ExportNamespace) bool {
		return n == "*" || string(n) == namespace
	})
}

// foreignDestinations finds objects of other people that decide about a host that the route uses by its real name, or about its egress gateway.
func (j *judge) foreignDestinations() {
	for _, item := range j.Wanted.Objects {
		switch o := item.Object.(type) {
		case *networkingv1.ServiceEntry:
			j.foreignEntries(item, o)
		case *networkingv1.DestinationRule:
			j.foreignRules(item, o)
		case *networkingv1.Gateway:
			j.foreignGateways(item, o)
		}
	}
}

// disturbed adds a conflict about a host with an object of other people, if that disturbs one of the route.
func (j *judge) disturbed(item translate.Item, host, kind string, rival Identity, how string) {
	if key := translate.KeyOf(item.Object); how != "" && (key.Kind != kind || !named(item.Object, rival)) {
		j.destinationConflict(j.path(item, host), "%s %s/%s for host %s %s", kind, rival.Namespace, rival.Name, host, how)
	}
}

func (j *judge) foreignEntries(item translate.Item, entry *networkingv1.ServiceEntry) {
	ours := ServiceEntryFacts(entry)
	ours.Created = j.created(entry).Time
	for _, host := range entry.Spec.Hosts {
		for _, rival := range j.world.ServiceEntries(j.Namespace, host) {
			how := rival.Disturbs(ours)
			if rival.Kind == "" && j.replaces(translate.ServiceEntryKind, rival.Identity) {
				how = rival.Disturbs(ours.withoutPlainPorts())
			}
			j.disturbed(item, host, cmp.Or(rival.Kind, "ServiceEntry"), rival.Identity, how)
		}
		if !j.passes() {
			continue
		}
		for _, rival := range j.world.DestinationRules(j.Namespace, host) {
			j.disturbed(item, host, "DestinationRule", rival.Identity, rival.DisturbsPassed())
		}
	}
}

func (j *judge) foreignRules(item translate.Item, rule *networkingv1.DestinationRule) {
	ours, host := DestinationRuleFacts(rule), rule.Spec.Host
	ours.Created = j.created(rule).Time
	for _, entry := range translate.Of[*networkingv1.ServiceEntry](j.Wanted.Objects) {
		if slices.Contains(entry.Spec.Hosts, host) {
			ours = ours.Beside(ServiceEntryFacts(entry))
		}
	}
	for _, rival := range j.world.DestinationRules(j.Namespace, host) {
		how := rival.Disturbs(ours)
		if j.replaces(translate.DestinationRuleKind, rival.Identity) {
			how = rival.disturbsMove(ours)
		}
		j.disturbed(item, host, "DestinationRule", rival.Identity, how)
	}
	j.wildcardRules(item, ours)
	g := j.Spec.EgressGateway
	if g == nil || host != translate.GatewayHost(j.ExternalRoute, j.ClusterDomain) {
		return
	}
	for _, name := range []string{host, string(g.Name)} { // in its own namespace, a short name will do
		for _, rival := range j.world.DestinationRules(string(g.Namespace), name) {
			j.disturbed(item, host, "DestinationRule", rival.Identity, rival.hiddenBy(ours))
		}
	}
}

// wildcardRules finds TLS that others rely on for their own entry of the host, and that our rule hides: Istio asks the rules of the most specific host alone
// (istio: pilot/pkg/model/push_context.go, destinationRule).
func (j *judge) wildcardRules(item translate.Item, ours DestinationRule) {
	relied := slices.ContainsFunc(j.world.ServiceEntries(j.Namespace, ours.Host), func(e ServiceEntry) bool { return e.rank() != invisible })
	if !relied || ours.TLS || len(inForce(j.world.DestinationRules(j.Namespace, ours.Host))) > 0 {
		return
	}
	wildcards := Wildcards(ours.Host)
	for _, wildcard := range append(wildcards[1:], wildcards[0]) { // the most specific first
		rules := inForce(j.world.DestinationRules(j.Namespace, wildcard))
		if len(rules) == 0 {
			continue
		}
		if i := slices.IndexFunc(rules, func(r DestinationRule) bool { return r.Policy }); i >= 0 && rules[i].TLS {
			j.destinationConflict(item.Path, "DestinationRule %s/%s for host %s originates TLS for a ServiceEntry of host %s, and the route's own rule would "+
				"hide it: requests of others would leave in plaintext. Write a DestinationRule for host %[4]s with the same settings and the exportTo of the route, or "+
				"set endpoints", rules[i].Namespace, rules[i].Name, wildcard, ours.Host)
		}
		return
	}
}

func (j *judge) foreignGateways(item translate.Item, gateway *networkingv1.Gateway) {
	ours := GatewayFacts(gateway)
	ours.Created = j.created(gateway).Time
	for _, rival := range j.world.Gateways() {
		if how := rival.Disturbs(ours); how != "" && !named(gateway, rival.Identity) {
			j.destinationConflict(item.Path, "Gateway %s/%s %s", rival.Namespace, rival.Name, how)
		}
	}
}

// passes reports whether the route is a pass-through route.
func (j *judge) passes() bool { return translate.PassesThrough(j.ExternalRoute) }

// path is the field that asks for a host of an object.
func (j *judge) path(item translate.Item, host string) *field.Path {
	if i := slices.IndexFunc(j.Wanted.Hosts, func(h translate.Host) bool { return h.Name == host }); i >= 0 && j.passes() {
		return j.Wanted.Hosts[i].Path
	}
	return item.Path
}

// realPath is the field that asks for the real name of an external host.
func (j *judge) realPath(host string) *field.Path {
	for i, d := range j.Spec.Destinations {
		if u, err := url.Parse(string(d.URL)); err == nil && u.Hostname() == host {
			return field.NewPath("spec", "destinations").Index(i)
		}
	}
	return j.path(j.Wanted.Objects[0], host)
}

func named(object translate.Object, identity Identity) bool {
	return object.GetName() == identity.Name && object.GetNamespace() == identity.Namespace
}

// routes finds other routes that have what this one asks for, or else ask for it and are older. To read those that wait costs a translation each: a tenant that
// has many routes for one host would keep the operator busy, if a route that is refused anyway read them.
func (j *judge) routes() {
	j.lose(j.holder)
	if len(j.hosts)+len(j.destinations) == 0 {
		j.lose(j.waiting)
	}
}

// lose adds a conflict about each claim that belongs to another route.
func (j *judge) lose(to func(Claim) *winner) {
	for _, item := range j.Wanted.Objects {
		for _, claim := range ClaimsOf(item.Object, j.ClusterDomain) {
			winner := to(claim)
			if winner == nil {
				continue
			}
			winner.inPlace = j.inPlace(winner.Name, claim.Host)
			entire := (strings.HasPrefix(claim.Key, exportKey) || winner.leads(claim)) && j.passes()
			if !claim.Serves && !entire {
				j.destinationConflict(j.path(item, claim.Host), "%s", winner.words(claim, j.passes()))
				continue
			}
			if i := slices.IndexFunc(j.Wanted.Hosts, func(h translate.Host) bool { return h.Name == claim.Host }); i >= 0 {
				j.hostConflict(j.Wanted.Hosts[i], "%s", winner.words(claim, j.passes()))
			}
		}
	}
}

// winner is another route to which a claim belongs.
type winner struct {
	Holder
	// waits reports that it has nothing yet, and is older.
	waits bool
	// inPlace reports that it upgrades the host in place, and agrees that it asks for the same as the other route, and cannot have it.
	inPlace, agrees bool
}

// inPlace reports whether another route upgrades a host in place.
func (j *judge) inPlace(route, host string) bool {
	other := j.other(route)
	return other != nil && !translate.PassesThrough(other) && slices.Contains(other.Spec.Hosts, v1alpha1.RouteHost(host))
}

// leads reports whether the two lead a host to different gateways, or only one of them to any.
func (r *winner) leads(claim Claim) bool {
	return strings.HasPrefix(claim.Key, portKey) && claim.ExportTo != r.Claim.ExportTo
}

// holder is the route whose objects make a claim already, or that is about to write them; of several the oldest. It is nil if the judged route has the claim
// and is older, or if the others leave it.
func (j *judge) holder(claim Claim) *winner {
	mine := j.mine(claim)
	holders := slices.DeleteFunc(j.world.Holders(claim), func(h Holder) bool { return j.is(h.Identity) || mine != nil && h.Compare(*mine) > 0 })
	slices.SortFunc(holders, func(a, b Holder) int { return a.Compare(b.Identity) })
	if i := slices.IndexFunc(holders[:min(len(holders), companions)], func(h Holder) bool { return !j.agrees(h, claim) }); i >= 0 {
		return &winner{Holder: holders[i]}
	}
	if i := slices.IndexFunc(holders, func(h Holder) bool { return !j.yields(h, claim) }); i >= 0 {
		return &winner{Holder: holders[i], agrees: true}
	}
	return nil
}

// waiting is the oldest route that is older and asks for what this one has not yet. One that objects of other people keep from its hosts holds up nobody.
func (j *judge) waiting(claim Claim) *winner {
	if j.mine(claim) != nil {
		return nil
	}
	older := slices.DeleteFunc(slices.Clone(j.world.Asking(j.Namespace, claim)), func(other *v1alpha1.ExternalRoute) bool {
		identity := IdentityOf(other)
		return j.is(identity) || identity.Compare(IdentityOf(j.ExternalRoute)) > 0
	})
	slices.SortFunc(older, func(a, b *v1alpha1.ExternalRoute) int { return IdentityOf(a).Compare(IdentityOf(b)) })
	for _, other := range older {
		asked := Asked(other, claim, j.ClusterDomain)
		if i := slices.IndexFunc(asked, claim.Clashes); i >= 0 && !j.blocked(other) {
			return &winner{Holder: Holder{IdentityOf(other), asked[i]}, waits: true}
		}
	}
	return nil
}

// is reports whether an identity is that of the route itself.
func (j *judge) is(identity Identity) bool {
	return identity.Namespace == j.Namespace && identity.Name == j.Name
}

// blocked reports whether objects of other people have what another route asks for: nobody knows whether it will ever have it.
func (j *judge) blocked(route *v1alpha1.ExternalRoute) bool {
	wanted, refusal := asked(route, j.ClusterDomain)
	return refusal == nil && j.obstructed(Route{ExternalRoute: route, Wanted: wanted, ClusterDomain: j.ClusterDomain})
}

// obstructed reports whether objects of other people keep a route from what it wants.
func (j *judge) obstructed(route Route) bool {
	other := &judge{Route: route, world: j.world}
	other.handedOver()
	other.foreignHosts()
	other.httpRoutes()
	other.foreignDestinations()
	return len(other.hosts)+len(other.destinations) > 0
}

// mine is the route with the age of its object that makes the claim, or a wider one; nil if none does.
func (j *judge) mine(claim Claim) *Identity {
	i := slices.IndexFunc(j.has, func(h Holder) bool {
		c := h.Claim
		return c.Key == claim.Key && c.Share == claim.Share && c.ExportTo == claim.ExportTo && (c.Port == 0 || c.Port == claim.Port) && covers(c.Labels, claim.Labels)
	})
	if i < 0 {
		return nil
	}
	return &j.has[i].Identity
}

// covers reports whether pods with all the labels of the narrower claim have those of the wider one.
func covers(wider, narrower map[string]string) bool {
	for key, value := range wider {
		if narrower[key] != value {
			return false
		}
	}
	return true
}

// Asked returns what a route that has nothing yet would claim of what another one claims, as far as its spec tells.
func Asked(route *v1alpha1.ExternalRoute, claim Claim, clusterDomain string) []Claim {
	if !claim.Serves {
		wanted, refusal := asked(route, clusterDomain)
		if refusal != nil {
			return nil
		}
		return Route{ExternalRoute: route, Wanted: wanted, ClusterDomain: clusterDomain}.Claims()
	}
	labels := map[string]string{}
	if s := route.Spec.WorkloadSelector; s != nil {
		for key, value := range s.MatchLabels {
			labels[key] = string(value)
		}
	}
	match := Match{TCP: translate.SpeaksTCP(route), Port: uint32(translate.PortOf(route)), Labels: labels} //nolint:gosec // 1..65535 by schema
	var asked []Claim
	for _, host := range translate.HostsOf(route, clusterDomain) {
		asked = append(asked, match.claim(route.Namespace, host))
	}
	return asked
}

// asked is what a route asks for, as far as its spec tells. Its aliases may have Services, and its egress gateway a usable one.
func asked(route *v1alpha1.ExternalRoute, clusterDomain string) (*translate.Translation, *translate.Refusal) {
	likely := *route
	likely.Spec.ServiceCreationPolicy = v1alpha1.ServiceCreationIfMissing
	mesh := translate.Mesh{ClusterDomain: clusterDomain}
	if g := route.Spec.EgressGateway; g != nil {
		usable := translate.Service{HasSelector: true, Ports: []corev1.ServicePort{{Port: 443}}}
		mesh.Services = map[types.NamespacedName]translate.Service{translate.GatewayService(g): usable}
	}
	return translate.Translate(&likely, mesh)
}

// words say to whom a claim of a route, which may be a pass-through route, belongs, and what to do.
func (r *winner) words(claim Claim, passed bool) string {
	route := fmt.Sprintf("ExternalRoute %s/%s, which already uses it", r.Namespace, r.Name)
	if r.waits {
		route = fmt.Sprintf("ExternalRoute %s/%s, which is older", r.Namespace, r.Name)
	}
	if passed {
		if said := r.passedWords(claim, route); said != "" {
			return said
		}
	}
	switch {
	case r.agrees:
		return fmt.Sprintf("%s belongs to %s", claim.Host, r.together())
	case claim.Serves:
		return fmt.Sprintf("belongs to %s: remove the host from one of the two routes", route)
	case r.leads(claim):
		return fmt.Sprintf("%s belongs to %s, through an egress gateway, and Istio would merge the endpoints of both: remove the host from one of the "+
			"two routes", claim.Host, route)
	case strings.HasPrefix(claim.Key, exportKey):
		return fmt.Sprintf("%s belongs to %s, with another exportTo, and Istio does not merge the two: use the same exportTo in both routes", claim.Host, route)
	case claim.Share == "" || claim.Share == Subsets:
		return fmt.Sprintf("%s belongs to %s, and tls.scope Host cannot be shared with another ExternalRoute: use tls.scope Route in both", claim.Host, route)
	case claim.Share == InPlace:
		return fmt.Sprintf("port %d of %s belongs to %s, and this route upgrades the host in place on that port: requests would leave in plaintext "+
			"without the VirtualService. Remove the destination with port %[1]d from the other route", claim.Port, claim.Host, route)
	case r.Claim.Share == InPlace:
		return fmt.Sprintf("port %d of %s belongs to %s and upgrades the host in place: with this destination, its requests would leave in plaintext "+
			"without the VirtualService. Use https on another port, or remove the destination", claim.Port, claim.Host, route)
	}
	return fmt.Sprintf("port %d of %s belongs to %s, with another protocol: use the same scheme in both routes", claim.Port, claim.Host, route)
}

// together says which other route has to change first.
func (r *winner) together() string {
	return fmt.Sprintf("ExternalRoute %s/%s, which has to change together with this route and cannot: see the status of that route", r.Namespace, r.Name)
}

// passedWords are those for a pass-through route, if they differ.
func (r *winner) passedWords(claim Claim, route string) string {
	switch {
	case claim.Serves:
	case r.agrees:
		return "belongs to " + r.together()
	case r.leads(claim) && r.inPlace:
		return fmt.Sprintf("belongs to %s, in place: its ServiceEntry never leads to an egress gateway, and Istio would merge the endpoints of both. Remove the "+
			"host from one of the two routes", route)
	case r.leads(claim):
		return fmt.Sprintf("belongs to %s, with another egressGateway or none, and Istio would merge the endpoints of both: use the same egressGateway in both "+
			"routes, or in none", route)
	case strings.HasPrefix(claim.Key, exportKey):
		return fmt.Sprintf("belongs to %s, with another exportTo, and Istio does not merge the two: use the same exportTo in both routes", route)
	case claim.Share == Subsets:
		return fmt.Sprintf("%s belongs to %s, and its tls.scope Host breaks TLS that workloads originate themselves: use tls.scope Route there", claim.Host, route)
	case claim.Share != InPlace && r.Claim.Share == InPlace:
		return fmt.Sprintf("port %d of %s belongs to %s and upgrades the host in place: requests meant for it would leave in plaintext without the "+
			"VirtualService. Use another port", claim.Port, claim.Host, route)
	}
	return ""
}

// names looks whether the name of every object is free, the route's, or handed over to it.
func (j *judge) names(verdict *Verdict) {
	for _, item := range j.Wanted.Objects {
		key := translate.KeyOf(item.Object)
		object := j.world.Named(key)
		if j.Owned[key] != nil || object == nil {
			continue
		}
		owner := object.Controller
		switch {
		case owner != nil && owner.UID == j.UID: // another replica has just written it
		case owner != nil && IsRoute(owner) && owner.Name == j.Name:
			verdict.Earlier[key] = object
		case owner == nil && object.Adopt == j.Name:
			verdict.Adopted[key] = object
		default:
			verdict.Refusal = &translate.Refusal{Reason: v1alpha1.ReasonNameConflict, Problems: field.ErrorList{
				translate.Blocked(field.NewPath("metadata", "name"), "%s", j.nameConflict(key, owner)),
			}}
			return
		}
	}
}

// handedOver finds what was handed over to the route, and has another name than what the route wants.
func (j *judge) handedOver() {
	hosts := j.Wanted.RealHosts(j.ExternalRoute)
	for _, host := range hosts {
		for _, entry := range j.world.ServiceEntries(j.Namespace, host) {
			if entry.Kind != "" || !j.mayReplace(translate.ServiceEntryKind, entry.Identity, entry.Adopt) {
				continue
			}
			if i := slices.IndexFunc(entry.Hosts, func(h string) bool { return !slices.Contains(hosts, h) }); i >= 0 {
				j.destinationConflict(j.realPath(host), "ServiceEntry %s/%s for host %s is handed over to the route and also declares %s, which the route does "+
					"not: move %[4]s to another ServiceEntry, or remove the annotation %s", entry.Namespace, entry.Name, host, entry.Hosts[i], v1alpha1.AdoptAnnotation)
				continue
			}
			j.replace(translate.ServiceEntryKind, entry.Identity, entry.rank() != invisible)
		}
		rules := j.world.DestinationRules(j.Namespace, host)
		asked := inForce(rules)
		for _, rule := range rules {
			if j.mayReplace(translate.DestinationRuleKind, rule.Identity, rule.Adopt) {
				decides := slices.ContainsFunc(asked, func(a DestinationRule) bool { return a.Name == rule.Name })
				j.replace(translate.DestinationRuleKind, rule.Identity, decides)
			}
		}
	}
}

// mayReplace reports whether an object was handed over to the route, is nobody's, and is none that the route wants.
func (j *judge) mayReplace(kind translate.Kind, rival Identity, adopt string) bool {
	key := keyOf(kind, rival)
	wanted := slices.ContainsFunc(j.Wanted.Objects, func(item translate.Item) bool { return translate.KeyOf(item.Object) == key })
	if adopt != j.Name || wanted {
		return false
	}
	object := j.world.Named(key)
	return object != nil && object.Controller == nil
}

func (j *judge) replace(kind translate.Kind, rival Identity, decides bool) {
	if j.replaces(kind, rival) {
		return
	}
	j.replaced = append(j.replaced, keyOf(kind, rival))
	if decides {
		j.inForce = append(j.inForce, keyOf(kind, rival))
	}
}

// replaces reports whether the plan replaces an object of other people.
func (j *judge) replaces(kind translate.Kind, rival Identity) bool {
	return slices.Contains(j.replaced, keyOf(kind, rival))
}

func keyOf(kind translate.Kind, rival Identity) translate.Key {
	return translate.Key{Kind: kind.GVK.Kind, NamespacedName: types.NamespacedName{Namespace: rival.Namespace, Name: rival.Name}}
}

func (j *judge) nameConflict(key translate.Key, owner *metav1.OwnerReference) string {
	if owner != nil {
		return fmt.Sprintf("%s of namespace %s exists and is controlled by %s %s: rename the route", key, key.Namespace, owner.Kind, owner.Name)
	}
	return fmt.Sprintf("%s of namespace %s exists and does not belong to this route: rename or delete one of the two, or hand it over with the annotation %s: %s",
		key, key.Namespace, v1alpha1.AdoptAnnotation, j.Name)
}

// IsRoute reports whether an owner is an ExternalRoute.
func IsRoute(owner *metav1.OwnerReference) bool {
	return owner != nil && owner.Kind == "ExternalRoute" && owner.APIVersion == v1alpha1.SchemeGroupVersion.String()
}
