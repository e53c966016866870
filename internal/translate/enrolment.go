package translate

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// The labels by which Istio decides which pods of a namespace are in the mesh.
const (
	injectionLabel     = "istio-injection"
	revisionLabel      = "istio.io/rev"
	dataplaneModeLabel = "istio.io/dataplane-mode"
)

// Enrolment is the MeshEnrolled condition of a route in a namespace with these labels. It decides as Istio's webhooks do: `istio-injection` overrides
// `istio.io/rev`, whatever its value. A pod that gets a sidecar is not in ambient mode.
func Enrolment(route *v1alpha1.ExternalRoute, labels map[string]string) metav1.Condition {
	injection, overrides := labels[injectionLabel]
	revision, revised := labels[revisionLabel]
	ambient, waypoint := labels[dataplaneModeLabel] == "ambient", route.Spec.Waypoint != nil
	switch {
	case injection == "enabled" || !overrides && revision != "":
		return enrolled("The namespace's labels inject sidecars into its pods.")
	case ambient && waypoint:
		return enrolled("The namespace is in ambient mode (istio.io/dataplane-mode=ambient), and the waypoint of the route serves its pods.")
	}
	reason := v1alpha1.ReasonNamespaceNotEnrolled
	var problem, fix string
	switch {
	case ambient:
		reason = v1alpha1.ReasonWaypointNeeded
		problem = "The namespace is in ambient mode (istio.io/dataplane-mode=ambient), in which only a waypoint applies a route, and the route names none"
		fix = "Label the namespace with istio-injection=enabled"
		if takesWaypoint(route) {
			fix = "Set spec.waypoint. Or label the namespace with istio-injection=enabled"
		}
	case waypoint:
		return notEnrolled(reason, "The namespace has no label that puts its pods into ambient mode: they do not use this route. "+
			"Label it with istio.io/dataplane-mode=ambient.")
	case overrides && revision != "":
		problem = fmt.Sprintf("The namespace's label istio-injection=%s overrides its label istio.io/rev and injects no sidecars", injection)
		fix = "Remove the label istio-injection"
	case overrides:
		problem = fmt.Sprintf("The namespace's label istio-injection=%s injects no sidecars", injection)
		fix = "Set it to enabled"
	case revised:
		problem = "The namespace's label istio.io/rev is empty and injects no sidecars"
		fix = "Set it to a revision of Istio"
	default:
		problem = "The namespace has no label that injects sidecars (istio-injection=enabled or istio.io/rev)"
		fix = "Add one"
	}
	return notEnrolled(reason, fmt.Sprintf("%s: pods without a sidecar do not use this route. %s, and restart the pods.", problem, fix))
}

// takesWaypoint reports whether a waypoint could apply the route.
func takesWaypoint(route *v1alpha1.ExternalRoute) bool {
	byName := slices.ContainsFunc(route.Spec.Destinations, func(d v1alpha1.Destination) bool { return d.TLS != nil && d.TLS.Scope == v1alpha1.TLSScopeHost })
	return !PassesThrough(route) && !SpeaksTCP(route) && !byName && route.Spec.WorkloadSelector == nil && route.Spec.EgressGateway == nil &&
		len(ReferencesOf(route).Aliases) == len(route.Spec.Hosts)
}

func notEnrolled(reason, message string) metav1.Condition {
	return metav1.Condition{Type: v1alpha1.ConditionMeshEnrolled, Status: metav1.ConditionFalse, Reason: reason, Message: message}
}

func enrolled(message string) metav1.Condition {
	return metav1.Condition{
		Type: v1alpha1.ConditionMeshEnrolled, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonNamespaceEnrolled, Message: message,
	}
}
