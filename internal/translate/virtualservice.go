package translate

import (
	"cmp"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// maxVirtualService bounds the generated VirtualService, in bytes of its protobuf form, well below what etcd takes (1.5 MiB of JSON).
const maxVirtualService = 768 << 10

// virtualServiceFor sends what workloads call on the hosts to the destinations, by the route's rules, and returns the index of the rule of each of its http
// routes. If it is narrow, its matches name the route's port.
func virtualServiceFor(route *v1alpha1.ExternalRoute, aliases []alias, inPlace []string, destinations []*destination, narrow bool,
) (*networkingv1.VirtualService, []int, field.ErrorList) {
	virtualService := emptyVirtualService(route, aliases)
	virtualService.Spec.Hosts = append(virtualService.Spec.Hosts, inPlace...)

	t := ruleTranslation{route: route, destinations: destinations}
	if narrow {
		t.matchPort = uint32(PortOf(route)) //nolint:gosec // 1..65535 by schema
	}
	if s := route.Spec.WorkloadSelector; s != nil {
		t.sourceLabels = selectorLabels(s)
	}
	var problems field.ErrorList
	var ruleOf []int
	rules, path := route.Spec.Rules, field.NewPath("spec", "rules")
	if len(rules) == 0 {
		rules, path = []v1alpha1.Rule{{}}, field.NewPath("spec", "destinations")
		routes, mistakes := t.routes(&rules[0], path)
		virtualService.Spec.Http, ruleOf, problems = routes, slices.Repeat([]int{0}, len(routes)), mistakes
	} else {
		for i := range rules {
			routes, mistakes := t.routes(&rules[i], path.Index(i))
			virtualService.Spec.Http = append(virtualService.Spec.Http, routes...)
			ruleOf = append(ruleOf, slices.Repeat([]int{i}, len(routes))...)
			problems = append(problems, mistakes...)
		}
	}
	if size := proto.Size(&virtualService.Spec); len(problems) == 0 && size > maxVirtualService {
		problems = append(problems, field.Invalid(path, fmt.Sprintf("%d rules", len(rules)), fmt.Sprintf(
			"generate a VirtualService of %d bytes, and at most %d fit: shorten matches, headers and base paths, or remove rules", size, maxVirtualService)))
	}
	return virtualService, ruleOf, problems
}

// emptyVirtualService has the aliases, and no routes yet.
func emptyVirtualService(route *v1alpha1.ExternalRoute, aliases []alias) *networkingv1.VirtualService {
	virtualService := &networkingv1.VirtualService{
		TypeMeta:   VirtualServiceKind.typeMeta(),
		ObjectMeta: meta(route, route.Name),
		Spec:       istio.VirtualService{ExportTo: exportTo(route)},
	}
	for _, a := range aliases {
		virtualService.Spec.Hosts = append(virtualService.Spec.Hosts, a.host)
	}
	return virtualService
}

// ruleTranslation is what all rules of a route share.
type ruleTranslation struct {
	route        *v1alpha1.ExternalRoute
	destinations []*destination
	// matchPort stands in every match where the hosts have other ports that are not the route's, else 0.
	matchPort    uint32
	sourceLabels map[string]string
}

// share is a destination's part of a rule's requests.
type share struct {
	*destination
	weight int32
}

// routes are the http routes of one rule: one, or several where its matches need different rewrites.
func (t *ruleTranslation) routes(rule *v1alpha1.Rule, path *field.Path) ([]*istio.HTTPRoute, field.ErrorList) {
	problems := checkRule(rule, path)
	headers := t.headers(rule)
	if rule.DirectResponse != nil {
		route := &istio.HTTPRoute{
			Match:          t.narrow(plainMatches(rule.Match)),
			DirectResponse: &istio.HTTPDirectResponse{Status: uint32(rule.DirectResponse.Status)}, //nolint:gosec // 200..599 by schema
			Headers:        headers,
		}
		if body := rule.DirectResponse.Body; body != "" {
			route.DirectResponse.Body = &istio.HTTPBody{Specifier: &istio.HTTPBody_String_{String_: body}}
		}
		return []*istio.HTTPRoute{route}, problems
	}

	shares, mistakes := t.shares(rule, path)
	problems = append(problems, mistakes...)
	base, problem := sharedBase(rule, shares)
	if problem != nil {
		problems = append(problems, problem)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	authority, targets := routeDestinations(rule, shares)
	var routes []*istio.HTTPRoute
	for _, v := range pathVariants(rule, base) {
		v.rewrite.Authority = authority
		routes = append(routes, &istio.HTTPRoute{
			Match:   t.narrow(v.matches),
			Rewrite: orNil(v.rewrite),
			Route:   targets,
			Timeout: duration(cmp.Or(rule.Timeout, t.route.Spec.Timeout)),
			Retries: retries(rule.Retries, t.route.Spec.Retries),
			Fault:   fault(rule.Fault),
			Headers: headers,
		})
	}
	return routes, nil
}

// shares finds the rule's destinations, or all of the route's.
func (t *ruleTranslation) shares(rule *v1alpha1.Rule, path *field.Path) (shares []share, problems field.ErrorList) {
	total := int32(0)
	if len(rule.Destinations) == 0 {
		path = field.NewPath("spec")
		for _, d := range t.destinations {
			shares = append(shares, share{destination: d, weight: ptr.Deref(d.Weight, 1)})
			total += ptr.Deref(d.Weight, 1)
		}
	}
	for i, rd := range rule.Destinations {
		j := slices.IndexFunc(t.destinations, func(d *destination) bool { return d.name == rd.Name })
		if j < 0 {
			problems = append(problems, field.NotFound(path.Child("destinations").Index(i).Child("name"), rd.Name))
			continue
		}
		shares = append(shares, share{destination: t.destinations[j], weight: ptr.Deref(rd.Weight, 1)})
		total += ptr.Deref(rd.Weight, 1)
	}
	if total == 0 && len(problems) == 0 {
		problems = append(problems, field.Invalid(path.Child("destinations"), "all weights 0", "at least one destination needs a weight above 0"))
	}
	return shares, problems
}

// routeDestinations are the targets of a rule, and the authority that they share. Where they do not share one, each sets its own: a rewrite is the
// rule's, and most servers answer 404 to another's name.
func routeDestinations(rule *v1alpha1.Rule, shares []share) (authority string, targets []*istio.HTTPRouteDestination) {
	authority = shares[0].authority
	for _, s := range shares {
		if s.authority != authority {
			authority = ""
			break
		}
	}
	if rule.Rewrite != nil && rule.Rewrite.Authority != "" {
		authority = rule.Rewrite.Authority
	}
	for _, s := range shares {
		target := &istio.HTTPRouteDestination{Destination: s.target()}
		if len(shares) > 1 {
			target.Weight = s.weight
		}
		if authority == "" {
			target.Headers = &istio.Headers{Request: &istio.Headers_HeaderOperations{Set: map[string]string{":authority": s.authority}}}
		}
		targets = append(targets, target)
	}
	return authority, targets
}

// target is the destination as a VirtualService names it.
func (d *destination) target() *istio.Destination {
	return &istio.Destination{Host: d.upstream, Subset: d.subset, Port: &istio.PortSelector{Number: d.port}}
}

// narrow adds to every match what all of the route's matches need.
func (t *ruleTranslation) narrow(matches []*istio.HTTPMatchRequest) []*istio.HTTPMatchRequest {
	if t.matchPort == 0 && len(t.sourceLabels) == 0 {
		return matches
	}
	if len(matches) == 0 {
		matches = []*istio.HTTPMatchRequest{{}}
	}
	for _, m := range matches {
		m.Port = t.matchPort
		m.SourceLabels = t.sourceLabels
	}
	return matches
}

// retries are those of the rule, field by field those of the route, and safe ones. They are explicit, so that no default of the mesh applies.
func retries(rule, route *v1alpha1.Retries) *istio.HTTPRetry {
	own, shared := ptr.Deref(rule, v1alpha1.Retries{}), ptr.Deref(route, v1alpha1.Retries{})
	attempts := ptr.Deref(cmp.Or(own.Attempts, shared.Attempts), 2)
	if attempts == 0 {
		return &istio.HTTPRetry{}
	}
	return &istio.HTTPRetry{
		Attempts:      attempts,
		PerTryTimeout: duration(cmp.Or(own.PerTryTimeout, shared.PerTryTimeout)),
		RetryOn:       cmp.Or(own.RetryOn, shared.RetryOn, "connect-failure,refused-stream"),
	}
}

func fault(f *v1alpha1.Fault) *istio.HTTPFaultInjection {
	if f == nil {
		return nil
	}
	injection := &istio.HTTPFaultInjection{}
	if f.Abort != nil {
		injection.Abort = &istio.HTTPFaultInjection_Abort{
			Percentage: percent(f.Abort.Percentage),
			ErrorType:  &istio.HTTPFaultInjection_Abort_HttpStatus{HttpStatus: f.Abort.HTTPStatus},
		}
	}
	if f.Delay != nil {
		injection.Delay = &istio.HTTPFaultInjection_Delay{
			Percentage:    percent(f.Delay.Percentage),
			HttpDelayType: &istio.HTTPFaultInjection_Delay_FixedDelay{FixedDelay: duration(f.Delay.FixedDelay)},
		}
	}
	return injection
}

func percent(p *int32) *istio.Percent {
	return &istio.Percent{Value: float64(ptr.Deref(p, 0))}
}

// orNil leaves out a rewrite that rewrites nothing: Istio refuses it.
func orNil(r *istio.HTTPRewrite) *istio.HTTPRewrite {
	if proto.Size(r) == 0 {
		return nil
	}
	return r
}
