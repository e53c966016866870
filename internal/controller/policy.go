package controller

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1ac "github.com/externalroute/externalroute/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/policy"
)

// reconcilePolicy writes the status of a policy if it differs. It is the same whichever operator writes it.
func (r *Reconciler) reconcilePolicy(ctx context.Context, name string) error {
	p, err := r.cluster.Policy(ctx, name)
	if err != nil || p == nil {
		return err
	}
	ready := policy.Condition(p)
	stored := meta.FindStatusCondition(p.Status.Conditions, ready.Type)
	if stored != nil && stored.Status == ready.Status && stored.Reason == ready.Reason && stored.Message == ready.Message &&
		stored.ObservedGeneration == p.Generation && p.Status.ObservedGeneration == p.Generation {
		return nil
	}
	since := metav1.NewTime(r.clock.Now()).Rfc3339Copy()
	if stored != nil && stored.Status == ready.Status {
		since = stored.LastTransitionTime
	}
	status := v1alpha1ac.ExternalRoutePolicyStatus().WithObservedGeneration(p.Generation).WithConditions(metav1ac.Condition().
		WithType(ready.Type).WithStatus(ready.Status).WithReason(ready.Reason).WithMessage(ready.Message).
		WithObservedGeneration(p.Generation).WithLastTransitionTime(since))
	answer := v1alpha1ac.ExternalRoutePolicy(name).WithUID(p.UID).WithStatus(status)
	err = r.client.Status().Apply(ctx, answer, fieldOwner, client.ForceOwnership)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("write the status of ExternalRoutePolicy %s: %w", name, err)
	}
	return nil
}
