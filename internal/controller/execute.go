package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"reflect"
	"runtime/debug"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/plan"
	"github.com/externalroute/externalroute/internal/translate"
)

// execute gives back what belongs to others, and does what the plan says. A failure ends it: the next pass plans anew.
func (r *Reconciler) execute(ctx context.Context, p *pass) {
	p.fail(r.releaseTaken(ctx, p))
	if !p.stopped && !p.mute {
		r.carryOut(ctx, p)
	}
	switch {
	case p.stopped:
		p.state.failures.Fail(p.now)
		p.state.failed = p.route.Generation
	case p.plan.Condition.Programmed || len(p.plan.Apply)+len(p.plan.Delete) > 0: // a pass that only waits says nothing about the next write
		p.state.failures = plan.Backoff{}
	}
	if p.rests() {
		r.cluster.Release(p.key())
	}
}

// carryOut writes stage after stage, and deletes at the end.
func (r *Reconciler) carryOut(ctx context.Context, p *pass) {
	if len(p.plan.Apply)+len(p.plan.Delete) > 0 || p.plan.Condition.Programmed && !p.route.Spec.Suspend {
		p.state.moments.Start(p.plan, p.now)
	}
	steps := p.plan.Apply
	for len(steps) > 0 && !p.stopped {
		i := slices.IndexFunc(steps, func(s plan.Step) bool { return s.Stage != steps[0].Stage })
		if i < 0 {
			i = len(steps)
		}
		p.fail(r.applyStage(ctx, p, steps[:i]))
		steps = steps[i:]
	}
	for _, deletion := range p.plan.Delete {
		if !p.stopped {
			p.fail(r.delete(ctx, p, deletion))
		}
	}
}

// rests reports whether the route is not about to write: what it has stands, or the API server has refused the rest. A write that failed in another way may
// have been committed, and one that succeeded may not be in the cache yet: until then the route keeps what it reserved.
func (p *pass) rests() bool {
	if p.stopped {
		return p.refused && len(p.state.writes) == 0
	}
	return p.plan.Again == 0 && len(p.plan.Apply) == 0
}

// applyStage writes objects at the same time, since their order means nothing. It returns the failure of the first in order, so that the status does not
// depend on chance.
func (r *Reconciler) applyStage(ctx context.Context, p *pass, steps []plan.Step) error {
	answers, problems := make([]client.Object, len(steps)), make([]error, len(steps))
	var all sync.WaitGroup
	for i, step := range steps {
		r.cluster.Expect(step.Key())
		all.Go(func() {
			problems[i] = recovered(ctx, step.Key(), func() (err error) {
				answers[i], err = r.apply(ctx, p, step)
				return err
			})
		})
	}
	all.Wait()
	for i, step := range steps {
		r.metrics.applied(step.Key().Kind, step.Exists, problems[i])
		p.state.moments.Returned(p.plan, step, problems[i], r.clock.Now())
		if problems[i] != nil {
			if !p.state.awaits(step.Key()) {
				r.cluster.Forget(step.Key())
			}
			continue
		}
		p.stands[step.Key()] = answers[i].GetUID()
		p.state.wrote(step.Key(), answers[i].GetResourceVersion(), p.now)
		ctrl.LoggerFrom(ctx).Info("Applied object", "kind", step.Key().Kind, "object", step.Key().Name, "resourceVersion", answers[i].GetResourceVersion())
		if step.Repair {
			r.recordRepair(p.route, step)
		}
	}
	return slices.Concat(slices.DeleteFunc(problems, func(err error) bool { return err == nil }), []error{nil})[0]
}

// recovered makes a panic an error of the pass: in a goroutine it would end the operator, again after each restart.
func recovered(ctx context.Context, key translate.Key, apply func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("apply %s: panic: %v", key, cause)
			ctrl.LoggerFrom(ctx).Error(err, "Recovered from a panic", "stack", string(debug.Stack()))
		}
	}()
	return apply()
}

// none is the resourceVersion of no object. An apply that names it creates the object, and fails with a conflict if there is one. Without it, what does not
// contradict the object of another client would be merged into that (a Service's port and owner, for example).
const none = "1"

// apply writes an object, and returns it as the API server stores it. It forces its fields on objects that the route controls or that were handed over to it,
// and on no others of their names; others it only creates.
func (r *Reconciler) apply(ctx context.Context, p *pass, step plan.Step) (client.Object, error) {
	manifest, err := translate.Manifest(step.Object)
	if err != nil {
		return nil, err
	}
	manifest.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(p.route, v1alpha1.SchemeGroupVersion.WithKind(routeKind))})
	applied, options := manifest.DeepCopy(), []client.ApplyOption{fieldOwner}
	if step.Exists {
		options = append(options, client.ForceOwnership)
		applied.SetUID(p.uid(step.Key()))
	} else {
		applied.SetResourceVersion(none)
	}
	err = r.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(applied), options...)
	switch {
	case isAnother(err):
		return nil, &replacedMeanwhile{step.Key()}
	case err != nil:
		if !terminating(err) && (apierrors.IsNotFound(err) || meta.IsNoMatchError(err)) { // the kind is missing, not the object
			r.cluster.RecheckIstio()
		}
		return nil, fmt.Errorf("apply %s: %w", step.Key(), err)
	case stored(step.Object, manifest, applied, p.route):
		return applied, nil
	case step.Key().Kind != "Service": // another client owns a field that is not wanted at all: an apply cannot remove it
		if err := r.replaceSpec(ctx, manifest, applied); err != nil {
			return nil, fmt.Errorf("replace %s: %w", step.Key(), err)
		}
		if stored(step.Object, manifest, applied, p.route) {
			return applied, nil
		}
	}
	return nil, fmt.Errorf("apply %s: the API server stores something else than was sent: does an admission webhook change it?", step.Key())
}

// stored reports whether the API server's answer says what is wanted.
func stored(want translate.Object, manifest, answer *unstructured.Unstructured, route *v1alpha1.ExternalRoute) bool {
	if !metav1.IsControlledBy(answer, route) {
		return false
	}
	now := translate.KindOf(want).New()
	if reflect.DeepEqual(answer.Object["spec"], manifest.Object["spec"]) { // the usual case, in which there is nothing to decode
		now = want.DeepCopyObject().(translate.Object) //nolint:forcetypeassert // a generated object is one
		now.SetLabels(answer.GetLabels())
		now.SetAnnotations(answer.GetAnnotations())
		return translate.InSync(want, now)
	}
	raw, err := answer.MarshalJSON()
	return err == nil && json.Unmarshal(raw, now) == nil && translate.InSync(want, now)
}

// replaceSpec writes the whole spec of an object that the route controls, if no other client has written it since.
func (r *Reconciler) replaceSpec(ctx context.Context, manifest, live *unstructured.Unstructured) error {
	patch, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/metadata/resourceVersion", "value": live.GetResourceVersion()},
		{"op": "replace", "path": "/spec", "value": manifest.Object["spec"]},
	})
	if err != nil {
		return err
	}
	return r.client.Patch(ctx, live, client.RawPatch(types.JSONPatchType, patch), fieldOwner)
}

// uid is the object's that the pass expects under a name.
func (p *pass) uid(key translate.Key) types.UID {
	if adopted := p.verdict.Adopted[key]; p.stands[key] == "" && adopted != nil {
		return adopted.UID
	}
	return p.stands[key]
}

// delete deletes one object, and no other of its name. If another user has changed one that was handed over, perhaps to take it back, the cache shows that in
// a moment, and the next pass plans anew.
func (r *Reconciler) delete(ctx context.Context, p *pass, d plan.Deletion) error {
	object := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: d.Namespace, Name: d.Name}}
	kind, _ := translate.KindNamed(d.Kind)
	object.SetGroupVersionKind(kind.GVK)
	as := client.Preconditions{UID: &d.UID}
	if d.Version != "" {
		as.ResourceVersion = &d.Version
	}
	err := r.client.Delete(ctx, object, as, client.PropagationPolicy(metav1.DeletePropagationBackground))
	p.state.moments.Deleted(d.Key, err, r.clock.Now())
	if d.Version != "" && apierrors.IsConflict(err) {
		p.plan.Again = sooner(p.plan.Again, plan.CacheLagLimit)
		return nil
	}
	if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) { // a conflict says that it is another object by now
		return fmt.Errorf("delete %s: %w", d.Key, err)
	}
	delete(p.stands, d.Key)
	p.state.deleted(d.Key, d.UID, p.now)
	ctrl.LoggerFrom(ctx).Info("Deleted object", "kind", d.Kind, "object", d.Name)
	return nil
}

// releaseTaken gives Services that another client took over, by giving them a selector, to that client, before anything else: whatever becomes of the route,
// the garbage collector must not delete them with it. Their events trigger another pass.
func (r *Reconciler) releaseTaken(ctx context.Context, p *pass) error {
	if p.route.Spec.Suspend {
		return nil
	}
	for _, service := range taken(p.owned) {
		free := service.DeepCopy()
		free.OwnerReferences = slices.DeleteFunc(free.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == p.route.UID })
		maps.DeleteFunc(free.Labels, func(key, value string) bool {
			return key == v1alpha1.ManagedByLabel && value == v1alpha1.ManagedByValue
		})
		delete(free.Annotations, translate.ExportToAnnotation)
		delete(free.Annotations, v1alpha1.WaypointAnnotation) // the labels for the waypoint stay: the route needs them on a Service of others, too
		patch := client.MergeFromWithOptions(service, client.MergeFromWithOptimisticLock{})
		key := translate.KeyOf(service)
		r.cluster.Expect(key)
		if err := r.client.Patch(ctx, free, patch, fieldOwner); err != nil {
			r.cluster.Forget(key)
			return fmt.Errorf("release Service %s: %w", service.Name, err)
		}
		p.mute = true
		p.state.wrote(key, free.ResourceVersion, p.now)
		r.record(p.route, free, corev1.EventTypeNormal, "Released", fmt.Sprintf(
			"Another client set a selector on Service %s: the operator no longer manages it", service.Name))
	}
	return nil
}

// isAnother reports whether an object was not written because it is not the one that was expected, or there is none.
func isAnother(err error) bool {
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) || answer.Status().Details == nil {
		return false
	}
	return apierrors.IsConflict(err) && answer.Status().Details.Kind != "resourcequotas" ||
		slices.ContainsFunc(answer.Status().Details.Causes, func(c metav1.StatusCause) bool { return c.Field == "metadata.uid" })
}

// replacedMeanwhile reports that an object of a wanted name was created, deleted or replaced after the cache was read. The cache will show it in a moment.
type replacedMeanwhile struct{ key translate.Key }

func (c *replacedMeanwhile) Error() string {
	return fmt.Sprintf("%s was created or deleted by another client a moment ago.", c.key)
}

// fail makes a failure the condition of the pass, and stops it.
func (p *pass) fail(err error) {
	if err == nil {
		return
	}
	var replaced *replacedMeanwhile
	var network *net.OpError // its own words hold the port of the connection, which changes with every try
	p.err, p.stopped = err, true
	p.refused = apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsBadRequest(err) || terminating(err)
	set := func(reason, message string) {
		p.plan.Condition, p.plan.Again, p.plan.Paused = plan.Condition{Reason: reason, Message: message}, 0, false
	}
	switch {
	case errors.As(err, &replaced):
		set(v1alpha1.ReasonPending, err.Error())
		p.plan.Again, p.err = plan.CacheLagLimit, nil
	case terminating(err):
		set(v1alpha1.ReasonPending, "The namespace is being deleted.")
		p.terminating, p.err = true, nil
	case errors.As(err, &network):
		set(v1alpha1.ReasonApplyFailed, "The API server cannot be reached: "+network.Err.Error())
	case meta.IsNoMatchError(err) || apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse) && apierrors.IsNotFound(err):
		p.plan.Again, p.plan.Paused, p.plan.Condition = 0, false, istioNotInstalled
	default:
		set(v1alpha1.ReasonApplyFailed, err.Error())
	}
}

// terminating reports whether a write was refused because the namespace is being deleted, or is gone. That is no failure of the operator.
func terminating(err error) bool {
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) {
		return false
	}
	details := answer.Status().Details
	return apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) || apierrors.IsNotFound(err) && details != nil && details.Kind == "namespaces"
}
