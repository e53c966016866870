package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// Default is what routes may reach in a namespace that no policy selects.
type Default string

const (
	// Allow lets them reach every host, but not without verification of the server.
	Allow Default = "Allow"
	// Deny lets them reach nothing.
	Deny Default = "Deny"
)

// Judge returns why a route may not reach what it asks for by the road that it takes, nil if it may. Everything that it reaches must be allowed, each by one
// entry of one policy.
func (s *Scope) Judge(route *v1alpha1.ExternalRoute, otherwise Default) *translate.Refusal {
	var problems field.ErrorList
	exportTo := translate.ExportTo(route)
	for _, reach := range translate.ReachesOf(route) {
		problems = append(problems, s.problem(route.Namespace, reach, exportTo, otherwise)...)
	}
	refusal := &translate.Refusal{Reason: v1alpha1.ReasonNotAllowedByPolicy, Problems: append(problems, s.judgeRoad(route)...)}
	switch {
	case len(problems) > 0:
		refusal.Effect = translate.Withdraw
	case len(refusal.Problems) == 0:
		return nil
	}
	return refusal // what stands may serve as long as it takes the right road
}

// JudgeKept judges the objects of an earlier spec, which the operator keeps while the route is suspended, or refused for another reason. It returns why the
// route is refused then, or the refusal as it is. While an egress gateway is not usable, requests go the way that they went.
func (s *Scope) JudgeKept(refusal *translate.Refusal, route *v1alpha1.ExternalRoute, objects []translate.Object, clusterDomain string, otherwise Default,
) *translate.Refusal {
	if keeps := refusal != nil && refusal.Effect == translate.Keep; !keeps && !route.Spec.Suspend {
		return refusal
	}
	denied := s.JudgeStanding(route, objects, otherwise)
	if denied == nil && (refusal == nil || refusal.Reason != v1alpha1.ReasonGatewayNotUsable) {
		denied = s.JudgeRoad(route, objects, clusterDomain)
	}
	switch {
	case denied == nil:
		return refusal
	case refusal != nil && refusal.Reason == denied.Reason: // it says more about the spec
		withdrawn := *refusal
		withdrawn.Effect = denied.Effect
		return &withdrawn
	}
	return denied
}

// JudgeStanding returns why the objects of a route may not stay, nil if they may: they are those of an earlier spec, which the operator does not replace as
// long as the route is suspended or its spec is refused.
func (s *Scope) JudgeStanding(route *v1alpha1.ExternalRoute, objects []translate.Object, otherwise Default) *translate.Refusal {
	reaches, exportTo := translate.Standing(route, objects)
	i := slices.IndexFunc(reaches, func(r translate.Reach) bool { return !s.mayStand(r, exportTo, otherwise) })
	if i < 0 {
		return nil
	}
	what := "is not allowed any more. " + s.words()
	switch {
	case len(s.policies) > 0:
	case otherwise == Deny:
		what = "is not allowed: no ExternalRoutePolicy selects the namespace, and the operator runs with --default-policy=Deny"
	default:
		what = "is not allowed without verification or with a gateway's client certificate: no ExternalRoutePolicy that allows it selects the namespace"
	}
	return &translate.Refusal{Reason: v1alpha1.ReasonNotAllowedByPolicy, Effect: translate.Withdraw, Problems: field.ErrorList{translate.Blocked(
		reaches[i].Path, "the objects of an earlier spec reach %s, which in namespace %s %s", target(reaches[i]), route.Namespace, what)}}
}

// mayStand reports whether an entry allows what an object reaches: its host, or its address as an endpoint.
func (s *Scope) mayStand(r translate.Reach, exportTo []string, otherwise Default) bool {
	if len(s.policies) == 0 {
		return otherwise != Deny && r.SkipsVerify == nil && len(r.ClientCertificates) == 0
	}
	return slices.ContainsFunc(slices.Concat(alike[r.Scheme], []v1alpha1.PolicyScheme{r.Scheme}), func(scheme v1alpha1.PolicyScheme) bool {
		r.Scheme = scheme
		alone := r
		alone.Endpoints = nil
		return slices.ContainsFunc(s.including(r.Host), func(a *allowance) bool { return a.allows(alone, exportTo) }) ||
			len(r.Endpoints) > 0 && slices.ContainsFunc(s.all, func(a *allowance) bool { return a.allows(r, exportTo) })
	})
}

// alike are schemes that an object does not tell apart.
var alike = map[v1alpha1.PolicyScheme][]v1alpha1.PolicyScheme{"https": {v1alpha1.SchemePassthrough}, "tcp": {"tls"}}

// Unreadable is why an operator whose default is Deny allows nothing if it cannot read the policies. What it has programmed before keeps serving.
func Unreadable(why string) *translate.Refusal {
	return &translate.Refusal{Reason: v1alpha1.ReasonNotAllowedByPolicy, Problems: field.ErrorList{translate.Blocked(field.NewPath("spec"),
		"the operator runs with --default-policy=Deny and cannot read ExternalRoutePolicies and namespaces (%s): let it read them, or use "+
			"--default-policy=Allow", why)}}
}

// problem is why a reach is not allowed.
func (s *Scope) problem(namespace string, r translate.Reach, exportTo []string, otherwise Default) field.ErrorList {
	switch {
	case len(s.policies) == 0 && otherwise == Deny:
		return field.ErrorList{translate.Blocked(r.Path, "no ExternalRoutePolicy selects namespace %s, and the operator runs with --default-policy=Deny: "+
			"ask the platform team for a policy that allows %s", namespace, target(r))}
	case len(s.policies) == 0 && len(r.ClientCertificates) > 0:
		return field.ErrorList{translate.Blocked(r.ClientCertificates[0].Path, "no ExternalRoutePolicy selects namespace %s, and a client certificate of an egress "+
			"gateway or a waypoint needs one that allows it: remove clientCertificateRef, or ask the platform team", namespace)}
	case len(s.policies) == 0 && r.SkipsVerify != nil:
		return field.ErrorList{translate.Blocked(r.SkipsVerify, "no ExternalRoutePolicy selects namespace %s, and insecureSkipVerify needs one that allows it: "+
			"remove insecureSkipVerify, or ask the platform team", namespace)}
	case len(s.policies) == 0:
		return nil
	}
	candidates := s.including(r.Host)
	if slices.ContainsFunc(candidates, func(a *allowance) bool { return a.allows(r, exportTo) }) {
		return nil
	}
	return field.ErrorList{s.explain(namespace, r, exportTo, candidates)}
}

// including returns the entries one of whose hosts includes a host.
func (s *Scope) including(host string) []*allowance {
	found := slices.Clone(s.exact[host])
	domain, wildcard := cutWildcard(host)
	if wildcard {
		found = slices.Clone(s.wildcards[domain])
	}
	for {
		_, parent, more := strings.Cut(domain, ".")
		if !more {
			return found
		}
		domain = parent
		found = append(found, s.wildcards[domain]...)
	}
}

// explain says what of a reach is not allowed: the first part that no entry allows together with the parts before it.
func (s *Scope) explain(namespace string, r translate.Reach, exportTo []string, candidates []*allowance) *field.Error {
	part := r
	part.Endpoints, part.SkipsVerify, part.ClientCertificates = nil, nil, nil
	allowed := slices.DeleteFunc(slices.Clone(candidates), func(a *allowance) bool { return !a.allows(part, nil) })
	if len(allowed) == 0 {
		return translate.Blocked(r.Path, "%s is not allowed in namespace %s. %s", target(r), namespace, s.words())
	}
	ask := fmt.Sprintf("%s of namespace %s: change the route, or ask the platform team", s.names(), namespace)
	if r.SkipsVerify != nil {
		if allowed = slices.DeleteFunc(allowed, func(a *allowance) bool { return !a.skips }); len(allowed) == 0 {
			return translate.Blocked(r.SkipsVerify, "insecureSkipVerify is not allowed for %s by %s", target(r), ask)
		}
	}
	for _, secret := range r.ClientCertificates {
		if allowed = slices.DeleteFunc(allowed, func(a *allowance) bool { return !slices.Contains(a.secrets, secret.Name) }); len(allowed) == 0 {
			return translate.Blocked(secret.Path, "client certificate %s of the gateway is not allowed for %s by %s", secret.Name, target(r), ask)
		}
	}
	for _, e := range r.Endpoints {
		if allowed = slices.DeleteFunc(allowed, func(a *allowance) bool { return !a.allowsEndpoint(e, r.Port) }); len(allowed) == 0 {
			return translate.Blocked(e.Path, "endpoint %s:%d is not allowed for %s by %s", e.Address, e.Port, target(r), ask)
		}
	}
	return translate.Blocked(field.NewPath("spec", "exportTo"), "%s is not allowed for %s by %s", strings.Join(exportTo, ", "), target(r), ask)
}

// target is what a reach is called in messages.
func target(r translate.Reach) string {
	return string(r.Scheme) + "://" + r.Host + ":" + fmt.Sprint(r.Port)
}

// Policies are the names of the policies that select the namespace, sorted.
func (s *Scope) Policies() []string { return s.policies }

// names are the policies of the scope.
func (s *Scope) names() string { return "ExternalRoutePolicy " + enumerate(s.policies) }

// words say what the policies of the scope allow.
func (s *Scope) words() string {
	var allowed []string
	for _, a := range s.all {
		allowed = append(allowed, a.words()...)
	}
	if len(allowed) == 0 {
		return fmt.Sprintf("%s allows nothing: ask the platform team", s.names())
	}
	slices.Sort(allowed)
	verb := "allows"
	if len(s.policies) > 1 {
		verb = "allow"
	}
	return fmt.Sprintf("%s %s %s: use one of these, or ask the platform team", s.names(), verb, enumerate(slices.Compact(allowed)))
}

func (a *allowance) words() []string {
	var all []string
	for _, scheme := range a.schemes {
		for _, host := range a.hosts {
			for _, port := range a.ports {
				all = append(all, target(translate.Reach{Scheme: scheme, Host: host, Port: port}))
			}
		}
	}
	return all
}

// enumerated is how many names a message has.
const enumerated = 10

func enumerate(names []string) string {
	if more := len(names) - enumerated; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:enumerated], ", "), more)
	}
	return cmp.Or(strings.Join(names, ", "), "nothing")
}
