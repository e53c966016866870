package translate

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// Refusal is why a route is refused: a reason of the Accepted condition, the problem of each field, and what happens to objects that exist.
type Refusal struct {
	Reason   string
	Problems field.ErrorList
	Effect   Effect
}

// Effect says what becomes of the objects of a refused route.
type Effect int

const (
	// Keep leaves the objects as they are, so that they keep serving: the spec is invalid or in conflict.
	Keep Effect = iota
	// Withdraw deletes the objects: the route is not allowed any more.
	Withdraw
)

// add adds problems of one reason. The first reason that has any stays: what the user must correct first.
func (r *Refusal) add(reason string, problems field.ErrorList) {
	if len(problems) == 0 || (r.Reason != "" && r.Reason != reason) {
		return
	}
	r.Reason = reason
	r.Problems = append(r.Problems, problems...)
}

// Blocked is a problem that another object causes, and not the value of a field.
func Blocked(path *field.Path, format string, args ...any) *field.Error {
	return field.Forbidden(path, fmt.Sprintf(format, args...))
}

// Text is a problem in words: the field, its value if that is wrong, and what is wrong with it.
func Text(problem *field.Error) string {
	if problem.Type == field.ErrorTypeForbidden {
		return problem.Field + ": " + problem.Detail
	}
	return problem.Error()
}

// Message is all problems in one line.
func (r *Refusal) Message() string {
	texts := make([]string, len(r.Problems))
	for i, p := range r.Problems {
		texts[i] = Text(p)
	}
	return strings.Join(texts, "; ")
}

// Conditions are what the translation says about the route: Accepted, and DirectHTTPS where direct calls break. They carry no time and no
// generation.
func Conditions(translation *Translation, refusal *Refusal) []metav1.Condition {
	if refusal != nil {
		return []metav1.Condition{{
			Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionFalse, Reason: refusal.Reason, Message: refusal.Message(),
		}}
	}
	sentences := []string{"The route is valid."}
	for _, service := range translation.TakenOver {
		sentences = append(sentences, fmt.Sprintf("Service %s selects pods: the route takes over their traffic on its port.", service))
	}
	if len(translation.RoadPolicies) > 0 {
		sentences = append(sentences, fmt.Sprintf("Requests leave through egress gateway %s, as ExternalRoutePolicy %s asks.", translation.Gateway,
			strings.Join(translation.RoadPolicies, ", ")))
	}
	for _, secret := range translation.ClientCertificates {
		if proxy := translation.proxy(); proxy != "" {
			sentences = append(sentences, fmt.Sprintf("%s shows Secret %s of its namespace: requests get 503 unless its ServiceAccount may list Secrets there.",
				proxy, secret))
			continue
		}
		sentences = append(sentences, fmt.Sprintf("Istio sends Secret %s only to pods whose ServiceAccount may list Secrets of the namespace: other pods get 503.",
			secret))
	}
	if translation.Waypoint != "" {
		sidecars := "exportTo limits pods with sidecars only"
		if len(translation.ClientCertificates) > 0 {
			sidecars = "pods with sidecars do not use it"
		}
		sentences = append(sentences, fmt.Sprintf("Waypoint %s applies it to all pods in ambient mode that call its aliases, of every namespace: %s.",
			translation.Waypoint, sidecars))
	}
	conditions := []metav1.Condition{{
		Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAccepted, Message: strings.Join(sentences, " "),
	}}
	if len(translation.HostScoped) == 0 {
		return conditions
	}
	return append(conditions, metav1.Condition{
		Type: v1alpha1.ConditionDirectHTTPS, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonHostScopedTLS,
		Message: fmt.Sprintf("tls.scope is Host: workloads of this namespace that call https://%s directly send TLS in TLS and fail. "+
			"Use tls.scope Route to avoid it.", strings.Join(translation.HostScoped, ", https://")),
	})
}

// proxy is the egress gateway or the waypoint in words, empty if there is neither.
func (t *Translation) proxy() string {
	switch {
	case t.Gateway != "":
		return "Egress gateway " + t.Gateway
	case t.Waypoint != "":
		return "Waypoint " + t.Waypoint
	}
	return ""
}
