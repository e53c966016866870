package controller

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/plan"
)

// recordReadyTransition emits an event when Ready flips or has another reason.
func (r *Reconciler) recordReadyTransition(route *v1alpha1.ExternalRoute, before, after *v1alpha1.ExternalRouteStatus) {
	old := conditionOf(before, v1alpha1.ConditionReady)
	now := conditionOf(after, v1alpha1.ConditionReady)
	if old != nil && old.Status == now.Status && old.Reason == now.Reason {
		return
	}
	if (old == nil || old.Status == metav1.ConditionUnknown) && now.Status == metav1.ConditionTrue {
		return // that a new route works at once is in its status, and one more write for every route is not worth the word
	}
	kind := corev1.EventTypeNormal
	if stalls[now.Reason] || now.Reason == v1alpha1.ReasonApplyFailed {
		kind = corev1.EventTypeWarning
	}
	r.record(route, nil, kind, now.Reason, now.Message)
}

func (r *Reconciler) recordRepair(route *v1alpha1.ExternalRoute, step plan.Step) {
	what := "differed from the route: the operator updated it"
	if !step.Exists {
		what = "was missing: the operator created it again"
	}
	r.record(route, step.Object, corev1.EventTypeWarning, "Repaired", fmt.Sprintf("%s %s", step.Key(), what))
}

// maxNote is the length of an event's note that the API server takes.
const maxNote = 1024

// record emits an event about a route, and about one of its objects where that is what it is about.
func (r *Reconciler) record(route *v1alpha1.ExternalRoute, related client.Object, kind, reason, note string) {
	if len(note) > maxNote {
		note = strings.ToValidUTF8(note[:maxNote-3], "") + "..."
	}
	if related == nil { // an interface that holds nothing, and not one that holds a nil
		r.recorder.Eventf(route, nil, kind, reason, "Reconcile", "%s", note)
		return
	}
	r.recorder.Eventf(route, related, kind, reason, "Reconcile", "%s", note)
}
