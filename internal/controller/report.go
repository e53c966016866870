package controller

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	v1alpha1ac "github.com/externalroute/externalroute/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// stalls are the reasons for which a person must act; the others heal by themselves or by a later object.
var stalls = map[string]bool{
	v1alpha1.ReasonInvalid:             true,
	v1alpha1.ReasonHostConflict:        true,
	v1alpha1.ReasonDestinationConflict: true,
	v1alpha1.ReasonNameConflict:        true,
	v1alpha1.ReasonNotAllowedByPolicy:  true,
	v1alpha1.ReasonServiceNotUsable:    true,
}

// report writes the whole status, computed from what this pass learned, if it differs from the stored one.
func (r *Reconciler) report(ctx context.Context, route *v1alpha1.ExternalRoute, f *facts, objects *translate.Objects, refusal *translate.Refusal,
	result result,
) error {
	before := &route.Status
	after := r.status(route, f, objects, refusal, result)
	if equality.Semantic.DeepEqual(before, after) {
		return nil
	}
	configuration := v1alpha1ac.ExternalRoute(route.Name, route.Namespace).WithUID(route.UID).WithStatus(statusConfiguration(after))
	err := r.client.Status().Apply(ctx, configuration, fieldOwner, client.ForceOwnership)
	another := err == nil && ptr.Deref(configuration.UID, route.UID) != route.UID // of the same name: what was said of the earlier one is corrected soon
	if another || apierrors.IsNotFound(err) && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse) {
		r.memory.isGone(route)
		return nil
	}
	if err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	r.memory.wroteStatus(route, after, ptr.Deref(configuration.ResourceVersion, ""))
	cached := &v1alpha1.ExternalRoute{}
	if err := r.client.Get(ctx, client.ObjectKeyFromObject(route), cached, client.UnsafeDisableDeepCopy); err == nil {
		r.memory.observedRoute(cached) // its event may have come before the answer
	}
	r.tellReady(route, before, after)
	return nil
}

// status computes the status as a value.
func (r *Reconciler) status(route *v1alpha1.ExternalRoute, f *facts, objects *translate.Objects, refusal *translate.Refusal, result result,
) *v1alpha1.ExternalRouteStatus {
	status := &v1alpha1.ExternalRouteStatus{
		Conditions:         append([]metav1.Condition(nil), route.Status.Conditions...),
		ObservedGeneration: route.Generation,
	}
	set := func(c metav1.Condition) metav1.Condition {
		c.ObservedGeneration = route.Generation
		c.LastTransitionTime = metav1.NewTime(r.clock.Now()).Rfc3339Copy()
		if len(c.Message) > maxMessage {
			c.Message = strings.ToValidUTF8(c.Message[:maxMessage-3], "") + "..."
		}
		meta.SetStatusCondition(&status.Conditions, c)
		return c
	}
	said := translate.Conditions(objects, refusal)
	if result.conflict != "" {
		said = []metav1.Condition{{
			Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonNameConflict, Message: result.conflict,
		}}
	}
	accepted := set(said[0])
	if accepted.Status == metav1.ConditionTrue || len(f.owned) == 0 { // else the last good objects go on, and what they break stays broken
		meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionDirectHTTPS)
	}
	for _, c := range said[1:] {
		if old := meta.FindStatusCondition(route.Status.Conditions, c.Type); old != nil {
			status.Conditions = append(status.Conditions, *old)
		}
		set(c)
	}
	programmed := set(metav1.Condition{
		Type: v1alpha1.ConditionProgrammed, Status: statusOf(result.asWanted), Reason: result.programmed, Message: result.message,
	})
	ready := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: programmed.Reason, Message: programmed.Message}
	if programmed.Status != metav1.ConditionTrue {
		ready.Status = metav1.ConditionFalse
	}
	if accepted.Status != metav1.ConditionTrue {
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, accepted.Reason, accepted.Message
	}
	set(ready)
	if stalls[ready.Reason] {
		set(metav1.Condition{Type: v1alpha1.ConditionStalled, Status: metav1.ConditionTrue, Reason: ready.Reason, Message: ready.Message})
	} else {
		meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionStalled)
	}
	describe(status, route, f, objects, result)
	return status
}

// maxMessage is the length of a condition's message that the API server takes.
const maxMessage = 32768

// describe lists hosts and objects: those that are wanted, or those of the last good spec.
func describe(status *v1alpha1.ExternalRouteStatus, route *v1alpha1.ExternalRoute, f *facts, objects *translate.Objects, result result) {
	if result.paused {
		status.Hosts, status.Resources = route.Status.Hosts, route.Status.Resources // or each blow would be a write
		return
	}
	if objects == nil {
		if len(f.owned) > 0 {
			status.Hosts, status.Resources = route.Status.Hosts, route.Status.Resources
		}
		return
	}
	status.Hosts = objects.Hosts
	for _, object := range objects.All() {
		key := referenceTo(object)
		if _, stands := f.owned[key]; stands {
			status.Resources = append(status.Resources, v1alpha1.GeneratedResource{
				APIVersion: object.GetObjectKind().GroupVersionKind().GroupVersion().String(), Kind: key.kind, Name: key.Name,
			})
		}
	}
}

func statusOf(b bool) metav1.ConditionStatus {
	if b {
		return metav1.ConditionTrue
	}
	return metav1.ConditionFalse
}

func statusConfiguration(status *v1alpha1.ExternalRouteStatus) *v1alpha1ac.ExternalRouteStatusApplyConfiguration {
	configuration := v1alpha1ac.ExternalRouteStatus().WithObservedGeneration(status.ObservedGeneration).WithHosts(status.Hosts...)
	for _, c := range status.Conditions {
		configuration.WithConditions(metav1ac.Condition().WithType(c.Type).WithStatus(c.Status).WithReason(c.Reason).WithMessage(c.Message).
			WithObservedGeneration(c.ObservedGeneration).WithLastTransitionTime(c.LastTransitionTime))
	}
	for _, resource := range status.Resources {
		configuration.WithResources(v1alpha1ac.GeneratedResource().WithAPIVersion(resource.APIVersion).WithKind(resource.Kind).WithName(resource.Name))
	}
	return configuration
}

// tellReady emits an event when Ready flips or has another reason, and none while it stays.
func (r *Reconciler) tellReady(route *v1alpha1.ExternalRoute, before, after *v1alpha1.ExternalRouteStatus) {
	old := meta.FindStatusCondition(before.Conditions, v1alpha1.ConditionReady)
	now := meta.FindStatusCondition(after.Conditions, v1alpha1.ConditionReady)
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
	r.tell(route, nil, kind, now.Reason, now.Message)
}

func (r *Reconciler) tellRepaired(route *v1alpha1.ExternalRoute, object client.Object, existed bool) {
	what := "differed from what the route asks for and was brought back"
	if !existed {
		what = "was missing and was created again"
	}
	r.tell(route, object, corev1.EventTypeWarning, "Repaired", fmt.Sprintf("%s %s", referenceTo(object), what))
}

// maxNote is the length of an event's note that the API server takes.
const maxNote = 1024

// tell emits an event about a route, and about one of its objects where that is what it is about.
func (r *Reconciler) tell(route *v1alpha1.ExternalRoute, related client.Object, kind, reason, note string) {
	if len(note) > maxNote {
		note = strings.ToValidUTF8(note[:maxNote-3], "") + "..."
	}
	if related == nil { // an interface that holds nothing, and not one that holds a nil
		r.recorder.Eventf(route, nil, kind, reason, "Reconcile", "%s", note)
		return
	}
	r.recorder.Eventf(route, related, kind, reason, "Reconcile", "%s", note)
}
