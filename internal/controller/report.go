package controller

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	v1alpha1ac "github.com/externalroute/externalroute/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/conflict"
	"github.com/externalroute/externalroute/internal/plan"
	"github.com/externalroute/externalroute/internal/translate"
)

// routeKind is the kind of a route.
const routeKind = "ExternalRoute"

// stalls are the reasons for which a person must act; the others heal by themselves or by a later object.
var stalls = map[string]bool{
	v1alpha1.ReasonInvalid:             true,
	v1alpha1.ReasonHostConflict:        true,
	v1alpha1.ReasonDestinationConflict: true,
	v1alpha1.ReasonNameConflict:        true,
	v1alpha1.ReasonNotAllowedByPolicy:  true,
	v1alpha1.ReasonServiceNotUsable:    true,
}

// report writes the whole status, computed from what this pass learned, if it differs from the stored one. While another client undoes that at once, or writes
// fail, the operator backs off; the pause is after what time to try again.
func (r *Reconciler) report(ctx context.Context, p *pass) (pause time.Duration, err error) {
	before, after := &p.route.Status, p.status(r.options.ClusterDomain)
	full := after
	if r.undeclared.Load() {
		after = withoutDestinations(full)
	}
	if equality.Semantic.DeepEqual(before, after) {
		return 0, nil
	}
	said := hashOf(after)
	if said == p.state.said && p.state.corrections.Paused(p.now) {
		return p.state.corrections.Left(p.now), nil
	}
	if p.state.unwritten.Paused(p.now) {
		return p.state.unwritten.Left(p.now), nil
	}
	written, version, err := r.writeDeclared(ctx, p.route, full)
	if errors.Is(err, errRouteGone) {
		p.state.deleted(translate.Key{Kind: routeKind, NamespacedName: p.key()}, p.route.UID, p.now)
		return plan.CacheLagLimit, nil
	}
	if err != nil {
		p.state.unwritten.Add(p.now)
		return 0, fmt.Errorf("write status: %w", err)
	}
	p.state.wrote(translate.Key{Kind: routeKind, NamespacedName: p.key()}, version, p.now)
	if said = hashOf(written); said == p.state.said {
		p.state.corrections.Add(p.now)
	}
	p.state.said = said
	if !p.terminating {
		r.recordReadyTransition(p.route, before, after)
	}
	return 0, nil
}

// writeDeclared writes the part of a status that the CRD declares, and returns it.
func (r *Reconciler) writeDeclared(ctx context.Context, route *v1alpha1.ExternalRoute, status *v1alpha1.ExternalRouteStatus,
) (written *v1alpha1.ExternalRouteStatus, version string, err error) {
	version, err = r.writeStatus(ctx, route, status)
	switch {
	case err == nil:
		r.undeclared.Store(false)
	case isUndeclared(err):
		r.undeclared.Store(true)
		status = withoutDestinations(status)
		version, err = r.writeStatus(ctx, route, status)
	}
	return status, version, err
}

// isUndeclared reports whether the API server refused a status because the CRD does not declare status.destinations. An upgrade can start the operator
// before it replaces the CRD of the previous release.
func isUndeclared(err error) bool {
	return err != nil && strings.Contains(err.Error(), ".status.destinations: field not declared in schema")
}

func withoutDestinations(status *v1alpha1.ExternalRouteStatus) *v1alpha1.ExternalRouteStatus {
	part := *status
	part.Destinations = nil
	return &part
}

// hashOf is a hash of what a status says, whenever its conditions changed.
func hashOf(status *v1alpha1.ExternalRouteStatus) uint64 {
	timeless := *status
	timeless.Conditions = slices.Clone(status.Conditions)
	for i := range timeless.Conditions {
		timeless.Conditions[i].LastTransitionTime = metav1.Time{}
	}
	h := fnv.New64a()
	_ = json.NewEncoder(h).Encode(timeless) // a hash takes all that is written to it, and a status can be encoded
	return h.Sum64()
}

// errRouteGone says that the API server does not have the route any more.
var errRouteGone = errors.New("the route is gone")

// writeStatus writes the status and returns the version of the route that it made.
func (r *Reconciler) writeStatus(ctx context.Context, route *v1alpha1.ExternalRoute, status *v1alpha1.ExternalRouteStatus) (version string, err error) {
	answer := v1alpha1ac.ExternalRoute(route.Name, route.Namespace).WithUID(route.UID).WithStatus(statusConfiguration(status))
	err = r.client.Status().Apply(ctx, answer, fieldOwner, client.ForceOwnership)
	another := err == nil && ptr.Deref(answer.UID, route.UID) != route.UID // of the same name: what was said of the earlier one is corrected soon
	if another || apierrors.IsNotFound(err) && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse) {
		return "", errRouteGone
	}
	version = ptr.Deref(answer.ResourceVersion, "")
	if err != nil || equality.Semantic.DeepEqual(statusConfiguration(status), answer.Status) {
		return version, err
	}
	// Another client owns an entry that we do not want at all: an apply cannot take it away.
	patch, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/metadata/resourceVersion", "value": version},
		{"op": "replace", "path": "/status", "value": status},
	})
	if err != nil {
		return "", err
	}
	now := &v1alpha1.ExternalRoute{ObjectMeta: metav1.ObjectMeta{Namespace: route.Namespace, Name: route.Name}}
	err = r.client.Status().Patch(ctx, now, client.RawPatch(types.JSONPatchType, patch), fieldOwner)
	switch {
	case apierrors.IsNotFound(err):
		return "", errRouteGone
	case apierrors.IsInvalid(err): // another write came in between, whose event wakes us
		return version, nil
	}
	return now.ResourceVersion, err
}

// conditionTypes are the conditions of a route. The status is the operator's alone: others do not stay in it.
var conditionTypes = []string{
	v1alpha1.ConditionAccepted, v1alpha1.ConditionProgrammed, v1alpha1.ConditionReady, v1alpha1.ConditionStalled, v1alpha1.ConditionDirectHTTPS,
	v1alpha1.ConditionMeshEnrolled,
}

// status computes the status as a value.
func (p *pass) status(clusterDomain string) *v1alpha1.ExternalRouteStatus {
	status := &v1alpha1.ExternalRouteStatus{
		Conditions: slices.DeleteFunc(slices.Clone(p.route.Status.Conditions), func(c metav1.Condition) bool {
			return !slices.Contains(conditionTypes, c.Type)
		}),
		ObservedGeneration: p.route.Generation,
	}
	said := p.acceptance()
	accepted := said[0]
	p.set(status, accepted)
	if accepted.Status == metav1.ConditionTrue || len(p.stands) == 0 { // otherwise the last good objects still break what they broke
		meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionDirectHTTPS)
	}
	for _, c := range said[1:] {
		if old := conditionOf(&p.route.Status, c.Type); old != nil {
			status.Conditions = append(status.Conditions, *old)
		}
		p.set(status, c)
	}
	now := p.plan.Condition
	p.set(status, metav1.Condition{
		Type: v1alpha1.ConditionProgrammed, Status: statusOf(now.Programmed), Reason: now.Reason, Message: now.Message,
	})
	ready := metav1.Condition{Type: v1alpha1.ConditionReady, Status: statusOf(now.Programmed), Reason: now.Reason, Message: now.Message}
	if accepted.Status != metav1.ConditionTrue {
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, accepted.Reason, accepted.Message
	}
	p.set(status, ready)
	if stalls[ready.Reason] {
		p.set(status, metav1.Condition{Type: v1alpha1.ConditionStalled, Status: metav1.ConditionTrue, Reason: ready.Reason, Message: ready.Message})
	} else {
		meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionStalled)
	}
	p.setEnrolment(status)
	p.describe(status, clusterDomain)
	return status
}

// acceptance is the Accepted condition, and what else the translation says.
func (p *pass) acceptance() []metav1.Condition {
	if pending := p.pending(); pending != "" {
		return []metav1.Condition{{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonPending, Message: pending}}
	}
	return translate.Conditions(p.translation, p.verdict.Refusal)
}

// set sets a condition of the status. Its transition time stays if its status does.
func (p *pass) set(status *v1alpha1.ExternalRouteStatus, c metav1.Condition) {
	c.ObservedGeneration = p.route.Generation
	c.LastTransitionTime = metav1.NewTime(p.now).Rfc3339Copy()
	if len(c.Message) > maxMessage {
		c.Message = strings.ToValidUTF8(c.Message[:maxMessage-3], "") + "..."
	}
	meta.SetStatusCondition(&status.Conditions, c)
}

func conditionOf(status *v1alpha1.ExternalRouteStatus, kind string) *metav1.Condition {
	return meta.FindStatusCondition(status.Conditions, kind)
}

// maxMessage is the length of a condition's message that the API server takes.
const maxMessage = 32768

// describe lists hosts and objects: those that the route asks for, or those of its last good spec.
func (p *pass) describe(status *v1alpha1.ExternalRouteStatus, clusterDomain string) {
	if p.plan.Paused { // or every change by the other client would be a write
		status.Hosts, status.Destinations, status.Resources = p.route.Status.Hosts, p.route.Status.Destinations, p.route.Status.Resources
		return
	}
	if p.verdict.Refusal != nil {
		for _, key := range slices.SortedFunc(maps.Keys(p.stands), compareKeys) {
			status.Resources = append(status.Resources, resourceOf(key))
			switch o := p.owned[key].(type) {
			case *networkingv1.VirtualService:
				status.Hosts = append(status.Hosts, conflict.VirtualServiceFacts(o, clusterDomain).Hosts...)
				status.Destinations = p.route.Status.Destinations // the objects do not tell which name a subset had in the last good spec
			case *networkingv1.ServiceEntry:
				if translate.IsPassed(o, p.route) {
					status.Hosts = append(status.Hosts, o.Spec.Hosts...)
				}
			}
		}
		return
	}
	status.Hosts, status.Destinations = p.translation.HostNames(), p.translation.Destinations
	for _, item := range p.translation.Objects {
		if key := translate.KeyOf(item.Object); p.stands[key] != "" {
			status.Resources = append(status.Resources, resourceOf(key))
		}
	}
}

func compareKeys(a, b translate.Key) int {
	return cmp.Or(translate.Rank(a.Kind)-translate.Rank(b.Kind), cmp.Compare(a.Name, b.Name))
}

func resourceOf(key translate.Key) v1alpha1.GeneratedResource {
	kind, _ := translate.KindNamed(key.Kind)
	return v1alpha1.GeneratedResource{APIVersion: kind.GVK.GroupVersion().String(), Kind: key.Kind, Name: key.Name}
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
	for _, d := range status.Destinations {
		configuration.WithDestinations(v1alpha1ac.DestinationStatus().WithName(d.Name).WithHost(d.Host).WithPort(d.Port).WithSubset(d.Subset))
	}
	for _, resource := range status.Resources {
		configuration.WithResources(v1alpha1ac.GeneratedResource().WithAPIVersion(resource.APIVersion).WithKind(resource.Kind).WithName(resource.Name))
	}
	return configuration
}
