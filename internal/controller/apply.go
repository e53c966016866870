package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"reflect"
	"slices"

	"google.golang.org/protobuf/proto"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// apply brings one object to what is wanted, and returns it as it stands then if it wrote. It writes nothing where the cluster agrees already, nor while
// the route's objects are left to somebody who undoes its repairs.
//
// Force is used on what the route controls, or was handed. What the cache does not know is created and nothing else, so that an object that somebody
// created in the meantime is a conflict and not a victim.
func (r *Reconciler) apply(ctx context.Context, route *v1alpha1.ExternalRoute, f *facts, want translate.Object) (client.Object, error) {
	key := referenceTo(want)
	live, exists := f.owned[key]
	if exists && asWanted(want, live, route) {
		return nil, nil
	}
	repair := f.unchanged && !r.memory.isSettling(route)
	if repair && f.paused {
		return nil, nil
	}
	if repair {
		f.repaired.CompareAndSwap(nil, &key)
	}
	defer r.memory.writing(key)()
	now, err := r.write(ctx, route, want, exists || f.adopted[key])
	r.metrics.applied(key.kind, exists || f.adopted[key], err)
	if err != nil {
		return nil, err
	}
	r.memory.wrote(route, now)
	ctrl.LoggerFrom(ctx).Info("Applied object", "kind", key.kind, "object", key.Name, "resourceVersion", now.GetResourceVersion())
	if repair {
		r.tellRepaired(route, want, exists)
	}
	return now, nil
}

// none is the version of no object. An apply that names it creates the object, and is a conflict where there is one: without it, what does not
// contradict somebody else's object would be merged into that (a Service's port and owner, say).
const none = "1"

// write applies an object and returns what the API server stores.
func (r *Reconciler) write(ctx context.Context, route *v1alpha1.ExternalRoute, want translate.Object, force bool) (client.Object, error) {
	key := referenceTo(want)
	manifest, err := translate.Manifest(want)
	if err != nil {
		return nil, err
	}
	manifest.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(route, v1alpha1.SchemeGroupVersion.WithKind("ExternalRoute"))})
	applied, err := r.send(ctx, route, key, manifest, force)
	if err != nil {
		return nil, err
	}
	if reflect.DeepEqual(applied.Object["spec"], manifest.Object["spec"]) { // the usual case, in which there is nothing to parse
		if now := withMetadata(want, applied); asWanted(want, now, route) {
			return now, nil
		}
	}
	now, err := typed(applied, want)
	if err != nil || asWanted(want, now, route) {
		return now, err
	}
	if _, isService := want.(*corev1.Service); !isService {
		// Somebody else owns a field that we do not want at all: an apply cannot take it away.
		if now, err = r.replaceSpec(ctx, manifest, applied, want); err != nil {
			return nil, fmt.Errorf("replace %s: %w", key, err)
		}
	}
	if !asWanted(want, now, route) {
		return nil, fmt.Errorf("apply %s: the API server stores something else than was sent: does an admission webhook change it?", key)
	}
	return now, nil
}

// send applies a manifest and returns the API server's answer.
func (r *Reconciler) send(ctx context.Context, route *v1alpha1.ExternalRoute, key reference, manifest *unstructured.Unstructured, force bool,
) (*unstructured.Unstructured, error) {
	options := []client.ApplyOption{fieldOwner}
	applied := manifest.DeepCopy()
	if force {
		options = append(options, client.ForceOwnership)
	} else {
		applied.SetResourceVersion(none)
	}
	err := r.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(applied), options...)
	switch {
	case err == nil:
		return applied, nil
	case apierrors.IsConflict(err) && !force:
		r.memory.waits(route, key)
		return nil, &nameConflict{passing: true, message: fmt.Sprintf("%s was created by somebody a moment ago.", key)}
	case apierrors.IsNotFound(err) || meta.IsNoMatchError(err): // what is missing is not the object, but its kind, or the namespace
		r.istio.doubted()
	}
	return nil, fmt.Errorf("apply %s: %w", key, err)
}

// withMetadata is the wanted object with the metadata of the API server's answer.
func withMetadata(want translate.Object, answer *unstructured.Unstructured) client.Object {
	now := want.DeepCopyObject().(client.Object) //nolint:forcetypeassert // a generated object is one
	now.SetUID(answer.GetUID())
	now.SetResourceVersion(answer.GetResourceVersion())
	now.SetGeneration(answer.GetGeneration())
	now.SetCreationTimestamp(answer.GetCreationTimestamp())
	now.SetDeletionTimestamp(answer.GetDeletionTimestamp())
	now.SetLabels(answer.GetLabels())
	now.SetAnnotations(answer.GetAnnotations())
	now.SetOwnerReferences(answer.GetOwnerReferences())
	return now
}

// replaceSpec writes the whole spec of an object that we control, if nobody wrote it in between.
func (r *Reconciler) replaceSpec(ctx context.Context, manifest, live *unstructured.Unstructured, want translate.Object) (client.Object, error) {
	patch, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/metadata/resourceVersion", "value": live.GetResourceVersion()},
		{"op": "replace", "path": "/spec", "value": manifest.Object["spec"]},
	})
	if err != nil {
		return nil, err
	}
	if err := r.client.Patch(ctx, live, client.RawPatch(types.JSONPatchType, patch), fieldOwner); err != nil {
		return nil, err
	}
	return typed(live, want)
}

// typed reads the API server's answer into an object of the wanted one's type.
func typed(answer *unstructured.Unstructured, want translate.Object) (client.Object, error) {
	raw, err := answer.MarshalJSON()
	if err != nil {
		return nil, err
	}
	var object client.Object
	switch want.(type) {
	case *corev1.Service:
		object = &corev1.Service{}
	case *networkingv1.ServiceEntry:
		object = &networkingv1.ServiceEntry{}
	case *networkingv1.DestinationRule:
		object = &networkingv1.DestinationRule{}
	case *networkingv1.VirtualService:
		object = &networkingv1.VirtualService{}
	default:
		return nil, fmt.Errorf("%T is none of the kinds that a route has", want)
	}
	if err := json.Unmarshal(raw, object); err != nil {
		return nil, fmt.Errorf("read the answer for %s: %w", referenceTo(want), err)
	}
	return object, nil
}

// asWanted says whether a live object says all that the wanted one says, and nothing about traffic beyond it.
func asWanted(want translate.Object, live client.Object, route *v1alpha1.ExternalRoute) bool {
	if !ownedBy(live, route) || !contains(live.GetLabels(), want.GetLabels()) || !contains(live.GetAnnotations(), want.GetAnnotations()) {
		return false
	}
	switch w := want.(type) {
	case *corev1.Service:
		l, ok := live.(*corev1.Service)
		return ok && l.Spec.Type == w.Spec.Type && slices.ContainsFunc(l.Spec.Ports, func(p corev1.ServicePort) bool { return samePort(p, w.Spec.Ports[0]) })
	case *networkingv1.ServiceEntry:
		l, ok := live.(*networkingv1.ServiceEntry)
		return ok && proto.Equal(&l.Spec, &w.Spec)
	case *networkingv1.DestinationRule:
		l, ok := live.(*networkingv1.DestinationRule)
		return ok && proto.Equal(&l.Spec, &w.Spec)
	case *networkingv1.VirtualService:
		l, ok := live.(*networkingv1.VirtualService)
		return ok && proto.Equal(&l.Spec, &w.Spec)
	}
	return false
}

func samePort(live, want corev1.ServicePort) bool {
	live.NodePort = 0
	return equality.Semantic.DeepEqual(live, want)
}

func contains(live, want map[string]string) bool {
	for key, value := range want {
		if live[key] != value {
			return false
		}
	}
	return true
}

// remove deletes an object that the route controls, and no other of its name.
func (r *Reconciler) remove(ctx context.Context, object client.Object) error {
	if !object.GetDeletionTimestamp().IsZero() {
		return nil
	}
	takeBack := r.memory.removing(object)
	err := r.client.Delete(ctx, object, client.Preconditions{UID: new(object.GetUID())}, client.PropagationPolicy(metav1.DeletePropagationBackground))
	if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) { // a conflict says that it is another object by now
		takeBack()
		return fmt.Errorf("delete %s: %w", referenceTo(object), err)
	}
	ctrl.LoggerFrom(ctx).Info("Deleted object", "kind", kindOf(object), "object", object.GetName())
	return nil
}

// releaseTaken gives Services that somebody took over, by giving them a selector, to them, before anything else is judged: whatever becomes of the route,
// they are not to be collected with it.
func (r *Reconciler) releaseTaken(ctx context.Context, route *v1alpha1.ExternalRoute, f *facts) error {
	if route.Spec.Suspend {
		return nil
	}
	for key, live := range f.owned {
		service, ok := live.(*corev1.Service)
		if !ok || len(service.Spec.Selector) == 0 {
			continue
		}
		if err := r.release(ctx, route, service); err != nil {
			return err
		}
		delete(f.owned, key)
		if fact, known := f.mesh.Services[key.NamespacedName]; known {
			fact.Generated = false
			f.mesh.Services[key.NamespacedName] = fact
		}
	}
	return nil
}

// release takes owner reference, label and annotation off a Service, once.
func (r *Reconciler) release(ctx context.Context, route *v1alpha1.ExternalRoute, service *corev1.Service) error {
	released := service.DeepCopy()
	released.OwnerReferences = slices.DeleteFunc(released.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == route.UID })
	maps.DeleteFunc(released.Labels, func(key, value string) bool {
		return key == v1alpha1.ManagedByLabel && value == v1alpha1.ManagedByValue
	})
	delete(released.Annotations, translate.ExportToAnnotation)
	patch := client.MergeFromWithOptions(service, client.MergeFromWithOptimisticLock{})
	if err := r.client.Patch(ctx, released, patch, fieldOwner); err != nil {
		return fmt.Errorf("release Service %s: %w", service.Name, err)
	}
	r.memory.wrote(route, released)
	r.tell(route, released, corev1.EventTypeNormal, "Released", fmt.Sprintf("Service %s has a selector now: it belongs to whoever set it", service.Name))
	return nil
}

// nameConflict is an object of somebody else's that has the name of a generated one. It is data, and an error only on its way to the report.
type nameConflict struct {
	message string
	// passing says that it will be judged again soon: it is of an earlier route of this name and being collected, or the cache does not show it yet.
	passing bool
}

func (c *nameConflict) Error() string { return c.message }

// preflight looks, before anything is written, whether every name is free, ours, or handed to us.
func (r *Reconciler) preflight(ctx context.Context, route *v1alpha1.ExternalRoute, f *facts, objects *translate.Objects) error {
	for _, want := range objects.All() {
		key := referenceTo(want)
		if _, ours := f.owned[key]; ours {
			continue
		}
		r.memory.waits(route, key) // before the look, so that no change after it goes unnoticed
		live, err := r.lookUp(ctx, want)
		if err != nil {
			return err
		}
		if live == nil {
			continue
		}
		conflict := judgeName(route, key, live)
		if conflict == nil {
			f.adopted[key] = true
			continue
		}
		if conflict.passing && live.GetCreationTimestamp().Time.Before(route.CreationTimestamp.Time) {
			// The collector would remove it, unless it never learned that the earlier route is gone, as when the API server was killed. What is
			// younger than the route is left to it: where the cache lags behind, the owner may be a later route, which lives.
			if err := r.remove(ctx, live); err != nil {
				return err
			}
		}
		return conflict
	}
	r.memory.waitsNoMore(route)
	return nil
}

// lookUp is the object of the wanted one's kind and name, or nil.
func (r *Reconciler) lookUp(ctx context.Context, want translate.Object) (client.Object, error) {
	live := r.objects.at(referenceTo(want))
	if _, isService := want.(*corev1.Service); isService {
		live = &corev1.Service{}
		if err := r.client.Get(ctx, client.ObjectKeyFromObject(want), live); err != nil {
			return nil, client.IgnoreNotFound(err)
		}
	}
	if live == nil || r.memory.isRemoved(live) {
		return nil, nil
	}
	return live, nil
}

// judgeName says whether an object that the route does not control may become its own.
func judgeName(route *v1alpha1.ExternalRoute, key reference, live client.Object) *nameConflict {
	controller := metav1.GetControllerOfNoCopy(live)
	switch {
	case ownedBy(live, route): // written by another process, just now
		return nil
	case ofEarlier(live, route):
		return &nameConflict{passing: true, message: fmt.Sprintf("%s belongs to an earlier route of this name and is being collected.", key)}
	case controller == nil && live.GetAnnotations()[v1alpha1.AdoptAnnotation] == route.Name:
		return nil
	case controller != nil:
		return &nameConflict{message: fmt.Sprintf(
			"metadata.name: %s of namespace %s exists and is controlled by %s %s: rename the route", key, key.Namespace, controller.Kind, controller.Name)}
	default:
		return &nameConflict{message: notOurs(route, key)}
	}
}

func notOurs(route *v1alpha1.ExternalRoute, key reference) string {
	return fmt.Sprintf(
		"metadata.name: %s of namespace %s exists and is not this route's: rename or remove one of them, or hand it over with the annotation %s: %s",
		key, key.Namespace, v1alpha1.AdoptAnnotation, route.Name)
}

// failure reports what the API server said.
func failure(err error) result {
	var conflict *nameConflict
	var network *net.OpError // its own words hold the port of the connection, which changes with every try
	switch {
	case errors.As(err, &conflict):
		return conflicting(conflict)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return result{programmed: v1alpha1.ReasonPending, message: "The namespace is being deleted."}
	case errors.As(err, &network):
		return result{programmed: v1alpha1.ReasonApplyFailed, message: "The API server cannot be reached: " + network.Err.Error(), err: err}
	case meta.IsNoMatchError(err) || apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse) && apierrors.IsNotFound(err):
		return result{programmed: v1alpha1.ReasonIstioNotInstalled, message: notInstalled, err: err}
	default:
		return result{programmed: v1alpha1.ReasonApplyFailed, message: err.Error(), err: err}
	}
}

// conflicting reports an object of somebody else's.
func conflicting(conflict *nameConflict) result {
	if conflict.passing {
		return result{programmed: v1alpha1.ReasonPending, message: conflict.message, again: believed}
	}
	return result{programmed: v1alpha1.ReasonNotAccepted, conflict: conflict.message, message: "The spec is not accepted: a name is somebody else's."}
}
