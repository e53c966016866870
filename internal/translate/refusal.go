package translate

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// Refusal says why a route is refused: a reason of the Accepted condition, what is wrong with which field, and what becomes of objects that exist.
type Refusal struct {
	Reason   string
	Problems field.ErrorList
	Effect   Effect
}

// Effect says what becomes of the objects of a refused route.
type Effect int

const (
	// Keep leaves the objects as they are, so that they go on serving: the user made a mistake, or there is a conflict.
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

// Message puts the problems into one line. What is forbidden is not the value of a field, and its detail says why.
func (r *Refusal) Message() string {
	texts := make([]string, len(r.Problems))
	for i, p := range r.Problems {
		texts[i] = p.Error()
		if p.Type == field.ErrorTypeForbidden {
			texts[i] = p.Field + ": " + p.Detail
		}
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
		sentences = append(sentences, fmt.Sprintf("Service %s has pods of its own: the route takes their traffic on its port.", service))
	}
	conditions := []metav1.Condition{{
		Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAccepted, Message: strings.Join(sentences, " "),
	}}
	if len(translation.HostScoped) == 0 {
		return conditions
	}
	return append(conditions, metav1.Condition{
		Type: v1alpha1.ConditionDirectHTTPS, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonHostScopedTLS,
		Message: fmt.Sprintf("tls.scope Host: workloads of this namespace that call https://%s themselves get TLS in TLS and fail; use scope Route to avoid it.",
			strings.Join(translation.HostScoped, ", https://")),
	})
}
