package policy

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// Lead returns the route with the egress gateway that policies set for its namespace, and their names. A route that names one itself keeps it, and so does
// every route if policies name different ones.
func (s *Scope) Lead(route *v1alpha1.ExternalRoute) (led *v1alpha1.ExternalRoute, by []string) {
	if s == nil || len(s.roads) == 0 || route.Spec.EgressGateway != nil || s.fork() {
		return route, nil
	}
	copied := *route
	copied.Spec.EgressGateway = s.roads[0].gateway
	return &copied, namesOf(s.roads)
}

// fork reports whether policies name different egress gateways.
func (s *Scope) fork() bool {
	return slices.ContainsFunc(s.roads, func(p *policy) bool { return *p.gateway != *s.roads[0].gateway })
}

// judgeRoad is why a route does not take the road of its namespace.
func (s *Scope) judgeRoad(route *v1alpha1.ExternalRoute) field.ErrorList {
	if len(s.roads) == 0 {
		return nil
	}
	path := field.NewPath("spec", "egressGateway")
	if s.fork() {
		var named []string
		for _, p := range s.roads {
			named = append(named, fmt.Sprintf("ExternalRoutePolicy %s names %s", p.name, reference(p.gateway)))
		}
		return field.ErrorList{translate.Blocked(path, "policies of namespace %s disagree about the egress gateway: %s. Ask the platform team to name one",
			route.Namespace, strings.Join(named[:min(len(named), enumerated)], ", "))}
	}
	required := fmt.Sprintf("ExternalRoutePolicy %s sends the routes of namespace %s through egress gateway %s", enumerate(namesOf(s.roads)), route.Namespace,
		reference(s.roads[0].gateway))
	if g := route.Spec.EgressGateway; g != nil && *g != *s.roads[0].gateway {
		return field.ErrorList{translate.Blocked(path, "%s: remove %s, or ask the platform team", required, reference(g))}
	}
	problems := translate.GatewayExcluded(route)
	for _, p := range problems {
		p.Detail = fmt.Sprintf("%s, or ask the platform team: %s", p.Detail, required)
	}
	return problems
}

// JudgeRoad returns why the objects of a route may not stay, nil if they may: they lead outside by another road than the policies set.
func (s *Scope) JudgeRoad(route *v1alpha1.ExternalRoute, objects []translate.Object, clusterDomain string) *translate.Refusal {
	if len(s.roads) == 0 {
		return nil
	}
	var gateways, named []string
	for _, p := range s.roads {
		gateways = append(gateways, translate.ServiceHost(translate.GatewayService(p.gateway), clusterDomain))
		named = append(named, reference(p.gateway))
	}
	if !translate.Bypasses(route, objects, gateways) {
		return nil
	}
	return &translate.Refusal{Reason: v1alpha1.ReasonNotAllowedByPolicy, Effect: translate.Withdraw, Problems: field.ErrorList{translate.Blocked(
		field.NewPath("spec"), "the objects of an earlier spec bypass egress gateway %s, which ExternalRoutePolicy %s sets for namespace %s",
		strings.Join(slices.Compact(named), " or "), enumerate(namesOf(s.roads)), route.Namespace)}}
}

func reference(g *v1alpha1.GatewayReference) string {
	return string(g.Namespace) + "/" + string(g.Name)
}

func namesOf(policies []*policy) (names []string) {
	for _, p := range policies {
		names = append(names, p.name)
	}
	return names
}
