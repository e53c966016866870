package translate_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

func TestEnrolment(t *testing.T) {
	const (
		injection, revision, mode = "istio-injection", "istio.io/rev", "istio.io/dataplane-mode"

		enrolled = "The namespace's labels inject sidecars into its pods."
		without  = "The namespace has no label that injects sidecars (istio-injection=enabled or istio.io/rev): pods without a sidecar do not use this " +
			"route. Add one, and restart the pods."
		disabled = "The namespace's label istio-injection=disabled injects no sidecars: pods without a sidecar do not use this route. Set it to enabled, " +
			"and restart the pods."
		misspelt = "The namespace's label istio-injection=true injects no sidecars: pods without a sidecar do not use this route. Set it to enabled, and " +
			"restart the pods."
		overridden = "The namespace's label istio-injection=disabled overrides its label istio.io/rev and injects no sidecars: pods without a sidecar do " +
			"not use this route. Remove the label istio-injection, and restart the pods."
		noRevision = "The namespace's label istio.io/rev is empty and injects no sidecars: pods without a sidecar do not use this route. Set it to a " +
			"revision of Istio, and restart the pods."
		ambient = "The namespace is in ambient mode (istio.io/dataplane-mode=ambient), in which only a waypoint applies a route, and the route names none: " +
			"pods without a sidecar do not use this route. Set spec.waypoint. Or label the namespace with istio-injection=enabled, and restart the pods."
	)
	alias := &v1alpha1.ExternalRoute{}
	alias.Spec.Hosts, alias.Spec.Destinations = []v1alpha1.RouteHost{"web"}, []v1alpha1.Destination{{URL: "https://api.example.com"}}
	for name, c := range map[string]struct {
		labels  map[string]string
		reason  string
		message string
	}{
		"a namespace without labels":                {nil, "NamespaceNotEnrolled", without},
		"labels of other people":                    {map[string]string{"team": "shop"}, "NamespaceNotEnrolled", without},
		"injection is enabled":                      {map[string]string{injection: "enabled"}, "NamespaceEnrolled", enrolled},
		"injection is disabled":                     {map[string]string{injection: "disabled"}, "NamespaceNotEnrolled", disabled},
		"injection has a value that Istio ignores":  {map[string]string{injection: "true"}, "NamespaceNotEnrolled", misspelt},
		"a revision":                                {map[string]string{revision: "canary"}, "NamespaceEnrolled", enrolled},
		"an empty revision":                         {map[string]string{revision: ""}, "NamespaceNotEnrolled", noRevision},
		"enabled injection wins over a revision":    {map[string]string{injection: "enabled", revision: "canary"}, "NamespaceEnrolled", enrolled},
		"enabled injection wins over no revision":   {map[string]string{injection: "enabled", revision: ""}, "NamespaceEnrolled", enrolled},
		"disabled injection wins over a revision":   {map[string]string{injection: "disabled", revision: "canary"}, "NamespaceNotEnrolled", overridden},
		"disabled injection beside no revision":     {map[string]string{injection: "disabled", revision: ""}, "NamespaceNotEnrolled", disabled},
		"ambient mode":                              {map[string]string{mode: "ambient"}, "WaypointNeeded", ambient},
		"ambient mode with a waypoint of its own":   {map[string]string{mode: "ambient", "istio.io/use-waypoint": "waypoint"}, "WaypointNeeded", ambient},
		"ambient mode that was switched off":        {map[string]string{mode: "none"}, "NamespaceNotEnrolled", without},
		"injection wins over ambient mode":          {map[string]string{mode: "ambient", injection: "enabled"}, "NamespaceEnrolled", enrolled},
		"a revision wins over ambient mode":         {map[string]string{mode: "ambient", revision: "canary"}, "NamespaceEnrolled", enrolled},
		"disabled injection leaves ambient mode on": {map[string]string{mode: "ambient", injection: "disabled", revision: "canary"}, "WaypointNeeded", ambient},
	} {
		t.Run(name, func(t *testing.T) {
			want := metav1.Condition{Type: "MeshEnrolled", Status: metav1.ConditionFalse, Reason: c.reason, Message: c.message}
			if c.reason == "NamespaceEnrolled" {
				want.Status = metav1.ConditionTrue
			}
			if diff := cmp.Diff(want, translate.Enrolment(alias, c.labels)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The condition does not advise what the API server or the operator would refuse.
func TestWaypointNeededByARouteThatExcludesIt(t *testing.T) {
	const want = "The namespace is in ambient mode (istio.io/dataplane-mode=ambient), in which only a waypoint applies a route, and the route names none: " +
		"pods without a sidecar do not use this route. Label the namespace with istio-injection=enabled, and restart the pods."
	https := []v1alpha1.Destination{{URL: "https://api.example.com"}}
	for name, spec := range map[string]v1alpha1.ExternalRouteSpec{
		"it passes TLS through":      {Hosts: []v1alpha1.RouteHost{"api.example.com"}},
		"it is for TCP":              {Hosts: []v1alpha1.RouteHost{"db"}, Destinations: []v1alpha1.Destination{{URL: "tcp://db.example.com:5432"}}},
		"it has a host in place":     {Hosts: []v1alpha1.RouteHost{"web", "api.example.com"}, Destinations: https},
		"it is for some pods":        {Hosts: []v1alpha1.RouteHost{"web"}, Destinations: https, WorkloadSelector: &v1alpha1.WorkloadSelector{}},
		"it takes an egress gateway": {Hosts: []v1alpha1.RouteHost{"web"}, Destinations: https, EgressGateway: &v1alpha1.GatewayReference{}},
		"its TLS is for the host": {Hosts: []v1alpha1.RouteHost{"web"}, Destinations: []v1alpha1.Destination{{
			URL: "https://api.example.com", TLS: &v1alpha1.TLS{Scope: v1alpha1.TLSScopeHost},
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			route := &v1alpha1.ExternalRoute{Spec: spec}
			if got := translate.Enrolment(route, map[string]string{"istio.io/dataplane-mode": "ambient"}); got.Message != want {
				t.Errorf("got %q, want %q", got.Message, want)
			}
		})
	}
}

func TestEnrolmentOfARouteWithAWaypoint(t *testing.T) {
	const (
		mode = "istio.io/dataplane-mode"

		sidecars = "The namespace's labels inject sidecars into its pods."
		served   = "The namespace is in ambient mode (istio.io/dataplane-mode=ambient), and the waypoint of the route serves its pods."
		without  = "The namespace has no label that puts its pods into ambient mode: they do not use this route. Label it with istio.io/dataplane-mode=ambient."
	)
	route := &v1alpha1.ExternalRoute{}
	route.Spec.Waypoint = &v1alpha1.GatewayReference{Name: "waypoint", Namespace: "demo"}
	for name, c := range map[string]struct {
		labels  map[string]string
		status  metav1.ConditionStatus
		reason  string
		message string
	}{
		"ambient mode":                   {map[string]string{mode: "ambient"}, metav1.ConditionTrue, "NamespaceEnrolled", served},
		"sidecars use the route as ever": {map[string]string{"istio-injection": "enabled"}, metav1.ConditionTrue, "NamespaceEnrolled", sidecars},
		"no labels":                      {nil, metav1.ConditionFalse, "NamespaceNotEnrolled", without},
		"ambient mode switched off":      {map[string]string{mode: "none"}, metav1.ConditionFalse, "NamespaceNotEnrolled", without},
		"disabled injection":             {map[string]string{"istio-injection": "disabled"}, metav1.ConditionFalse, "NamespaceNotEnrolled", without},
	} {
		t.Run(name, func(t *testing.T) {
			want := metav1.Condition{Type: "MeshEnrolled", Status: c.status, Reason: c.reason, Message: c.message}
			if diff := cmp.Diff(want, translate.Enrolment(route, c.labels)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
