package cluster

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/conflict"
	"github.com/externalroute/externalroute/internal/translate"
)

// routeIndex finds routes by what they depend on.
const routeIndex = "dependsOn"

// dependency is how a route depends on a name.
type dependency string

const (
	dependsOnHost      dependency = "host"      // it asks for the host; the name has no namespace, since VirtualServices are for all
	dependsOnUpstream  dependency = "upstream"  // it sends requests to the host
	waitsForUpstream   dependency = "waiting"   // so it does, and it is refused because of another route or user of the host
	dependsOnGateways  dependency = "gateways"  // it has an egress gateway, whose pods any Gateway may select; the name is empty
	dependsOnService   dependency = "service"   // a Service that is its alias or its egress gateway, or that one of its destinations could mean
	dependsOnConfigMap dependency = "configmap" // a ConfigMap of certificate authorities
	dependsOnWaypoint  dependency = "waypoint"  // a Gateway that is its waypoint
)

// of is the value of the index for a name.
func (c dependency) of(name conflict.Name) string { return string(c) + " " + valueOf(name) }

// valueOf is the value of an index for a name.
func valueOf(name conflict.Name) string { return name.Namespace + "/" + name.Host }

// dependenciesOf returns the values under which routeIndex finds a route.
func (c *Cluster) dependenciesOf(object client.Object) []string {
	route, ok := object.(*v1alpha1.ExternalRoute)
	if !ok {
		return nil
	}
	var values []string
	add := func(dependency dependency, namespace, name string) {
		values = append(values, dependency.of(conflict.Name{Namespace: namespace, Host: name}))
	}
	for _, host := range translate.HostsOf(route, c.options.ClusterDomain) {
		add(dependsOnHost, "", host)
		if translate.SpeaksTCP(route) {
			for _, wildcard := range conflict.Wildcards(host) {
				add(dependsOnHost, "", wildcard)
			}
		}
	}
	for _, host := range translate.UpstreamsOf(route) {
		add(dependsOnUpstream, route.Namespace, host)
		for _, wildcard := range conflict.Wildcards(host) { // of DestinationRules that the route's hides
			add(dependsOnUpstream, route.Namespace, wildcard)
		}
		if waits(route) {
			add(waitsForUpstream, route.Namespace, host)
		}
	}
	if g := route.Spec.EgressGateway; g != nil {
		values = append(values, c.gatewayDependencies(g, route.Namespace)...)
	}
	references := translate.ReferencesOf(route)
	for _, key := range references.Services {
		add(dependsOnService, key.Namespace, key.Name)
	}
	for _, name := range references.ConfigMaps {
		add(dependsOnConfigMap, route.Namespace, name)
	}
	if key := references.Waypoint; key != nil {
		add(dependsOnWaypoint, key.Namespace, key.Name)
	}
	return values
}

// gatewayDependencies are the values for the egress gateway of a route.
func (c *Cluster) gatewayDependencies(g *v1alpha1.GatewayReference, namespace string) []string {
	service := translate.GatewayService(g)
	host := translate.ServiceHost(service, c.options.ClusterDomain)
	values := []string{
		dependsOnGateways.of(conflict.Name{}),
		dependsOnService.of(conflict.Name{Namespace: service.Namespace, Host: service.Name}),
		dependsOnUpstream.of(conflict.Name{Namespace: namespace, Host: host}),
	}
	if service.Namespace != namespace {
		values = append(values, dependsOnUpstream.of(conflict.Name{Namespace: service.Namespace, Host: host}),
			dependsOnUpstream.of(conflict.Name{Namespace: service.Namespace, Host: service.Name}))
	}
	return values
}

// refusal is why a route is not accepted, nil if it is, or that is not known.
func refusal(route *v1alpha1.ExternalRoute) *metav1.Condition {
	accepted := meta.FindStatusCondition(route.Status.Conditions, v1alpha1.ConditionAccepted)
	if accepted == nil || accepted.Status != metav1.ConditionFalse {
		return nil
	}
	return accepted
}

// waits reports whether a route is refused because of what others decide about the host of a destination, or about a host that passes through.
func waits(route *v1alpha1.ExternalRoute) bool {
	why := refusal(route)
	return why != nil && (why.Reason == v1alpha1.ReasonDestinationConflict ||
		why.Reason == v1alpha1.ReasonHostConflict && translate.PassesThrough(route))
}

// competes reports whether a route would take what it asks for if no other route had it.
func competes(route *v1alpha1.ExternalRoute) bool {
	if route.Spec.Suspend || !route.DeletionTimestamp.IsZero() {
		return false
	}
	why := refusal(route)
	return why == nil || why.ObservedGeneration != route.Generation ||
		why.Reason == v1alpha1.ReasonHostConflict || why.Reason == v1alpha1.ReasonDestinationConflict
}

// holdsUp reports whether a change of a route's status may let others begin, or no longer: it competes or not, or is refused for something else.
func holdsUp(before, after *v1alpha1.ExternalRoute) bool {
	was, is := refusal(before), refusal(after)
	return competes(before) != competes(after) || is != nil && (was == nil || was.Message != is.Message)
}

// Route returns a route, nil if there is none.
func (c *Cluster) Route(ctx context.Context, key types.NamespacedName) (*v1alpha1.ExternalRoute, error) {
	route := &v1alpha1.ExternalRoute{}
	if err := c.cache.Get(ctx, key, route); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return route, nil
}

func (c *Cluster) routes(ctx context.Context, options ...client.ListOption) ([]v1alpha1.ExternalRoute, error) {
	var routes v1alpha1.ExternalRouteList
	if err := c.cache.List(ctx, &routes, append(options, client.UnsafeDisableDeepCopy)...); err != nil {
		return nil, fmt.Errorf("list ExternalRoutes: %w", err)
	}
	return routes.Items, nil
}

// routesNamed returns the routes that may generate an object of this name.
func (c *Cluster) routesNamed(ctx context.Context, object translate.Key) ([]v1alpha1.ExternalRoute, error) {
	var routes []v1alpha1.ExternalRoute
	for _, name := range translate.RoutesOf(object) {
		var route v1alpha1.ExternalRoute
		key := types.NamespacedName{Namespace: object.Namespace, Name: name}
		switch err := c.cache.Get(ctx, key, &route, &client.GetOptions{UnsafeDisableDeepCopy: new(true)}); {
		case err == nil:
			routes = append(routes, route)
		case client.IgnoreNotFound(err) != nil:
			return nil, err
		}
	}
	return routes, nil
}

// dependents returns the routes that depend on a name, those of one namespace or, if that is empty, of all and of what policies set for them.
func (c *Cluster) dependents(ctx context.Context, namespace string, dependency dependency, name conflict.Name) ([]v1alpha1.ExternalRoute, error) {
	routes, err := c.routes(ctx, client.InNamespace(namespace), client.MatchingFields{routeIndex: dependency.of(name)})
	if err != nil || namespace != metav1.NamespaceAll {
		return routes, err
	}
	// The index knows what routes say, and not the egress gateway that a policy sets.
	for _, of := range []string{metav1.NamespaceAll, name.Namespace} {
		led, err := c.leading(ctx, of, func(g v1alpha1.GatewayReference) bool {
			return slices.Contains(c.gatewayDependencies(&g, of), dependency.of(name))
		})
		if err != nil {
			return nil, err
		}
		routes = append(routes, led...)
	}
	return routes, nil
}

// asking returns the routes of a namespace to which it matters who has a claim: those that ask for the host, or wait for the destination.
func (c *Cluster) asking(ctx context.Context, namespace string, claim conflict.Claim) ([]v1alpha1.ExternalRoute, error) {
	if claim.Serves {
		return c.dependents(ctx, namespace, dependsOnHost, conflict.Name{Host: claim.Host})
	}
	return c.dependents(ctx, namespace, waitsForUpstream, conflict.Name{Namespace: namespace, Host: claim.Host})
}
