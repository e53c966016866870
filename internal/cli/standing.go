package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/conflict"
	"github.com/externalroute/externalroute/internal/policy"
	"github.com/externalroute/externalroute/internal/translate"
)

// statusOf is the status that the operator wrote, empty if there is none.
func statusOf(m manifest) (status v1alpha1.ExternalRouteStatus) {
	if raw, ok := m.Object["status"].(map[string]any); ok {
		_ = runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &status) // what it cannot read stays empty, as before the operator has written it
	}
	return status
}

// notSeen says that the status is about an earlier spec, or that there is none.
const notSeen = "the operator has not seen the present spec yet: check that it runs if this stays"

func unseen(m manifest) bool { return statusOf(m).ObservedGeneration != m.GetGeneration() }

// accepts reports whether the operator has accepted the spec as it is.
func accepts(m manifest) bool {
	return !unseen(m) && meta.IsStatusConditionTrue(statusOf(m).Conditions, v1alpha1.ConditionAccepted)
}

// refusedBy is the operator's refusal of the present spec, nil if there is none.
func refusedBy(m manifest) *translate.Refusal {
	c := meta.FindStatusCondition(statusOf(m).Conditions, v1alpha1.ConditionAccepted)
	if unseen(m) || c == nil || c.Status != metav1.ConditionFalse {
		return nil
	}
	return refusalOf(c)
}

// notAccepted is what the operator says of a spec that it does not accept.
func notAccepted(m manifest) []string {
	status := statusOf(m)
	if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionAccepted); c != nil && c.Status == metav1.ConditionFalse {
		return []string{fmt.Sprintf("the operator refuses the spec in the cluster (%s): %s", c.Reason, c.Message)}
	}
	return nil
}

// liveRevision is the state of a cluster. A route that the operator has accepted counts as settled: what it still does there, and what it is about to repair,
// it does with or without a change. Any other route has what stands.
func liveRevision(ctx context.Context, i *input, manifests []manifest, otherwise policy.Default) (*revision, error) {
	w, err := i.world(manifests)
	if err != nil {
		return nil, err
	}
	w.otherwise = otherwise
	r := &revision{world: w, policies: map[string]manifest{}, routes: map[types.NamespacedName]*judgement{}}
	for _, m := range ofKind(manifests, policyKind) {
		r.policies[m.GetName()] = m
		w.admitPolicy(ctx, m) // one that is invalid does not apply
	}
	for _, j := range w.judgeRoutes(ctx, manifests) {
		owned := w.owned[j.GetUID()]
		live := &judgement{manifest: j.manifest, route: j.route, translation: j.translation, refusal: j.refusal}
		switch {
		case j.route == nil: // by the rules of another release
			live.rejected, live.refusal = j.refusal, nil
			w.stand(live, owned)
		case j.refusal != nil || j.route.Spec.Suspend || !accepts(j.manifest):
			live.remarks = notAccepted(j.manifest)
			w.stand(live, owned)
		default:
			live.remarks = w.drift(j.translation, owned)
		}
		r.routes[types.NamespacedName{Namespace: j.GetNamespace(), Name: j.GetName()}] = live
	}
	return r, nil
}

// stand notes what stands for a route whose spec does not say it, and what is not known of that.
func (w *world) stand(j *judgement, owned objects) {
	j.standing = owned.bare()
	for _, resource := range slices.Sorted(maps.Values(generatedResources)) {
		if w.unread(resource, j.GetNamespace()) {
			j.unread = append(j.unread, resource)
		}
	}
	if j.route == nil || j.refusal != nil || len(w.gaps) == 0 {
		return
	}
	// The commands read no ConfigMaps, whatever the user may.
	if said := refusedBy(j.manifest); said != nil && said.Reason != v1alpha1.ReasonCACertificateMissing {
		j.said = said
	}
}

// unsettled is the refusal of a spec that follows on this one, as far as that is not known by the spec itself.
func (j *judgement) unsettled(after *v1alpha1.ExternalRoute) *translate.Refusal {
	switch {
	case j == nil:
		return nil
	case j.said != nil && equality.Semantic.DeepEqual(j.route.Spec, after.Spec):
		return j.said
	case j.said != nil:
		return unjudged("status.conditions[Accepted]",
			"the operator refuses the spec in the cluster for what you may not list, so the new one was not judged: get the right to list it")
	case len(j.unread) > 0 && !after.Spec.Suspend:
		return unjudged("metadata.namespace", fmt.Sprintf("you may not list %s in namespace %s, so the objects that stand are not known: get the right to list them",
			strings.Join(j.unread, ", "), j.GetNamespace()))
	}
	return nil
}

// unjudged is the refusal of a route that was not judged.
func unjudged(path, why string) *translate.Refusal {
	return &translate.Refusal{Reason: notInInput, Problems: field.ErrorList{{Type: field.ErrorTypeForbidden, Field: path, Detail: why}}}
}

// bare are the objects without what the API server adds to them.
func (o objects) bare() objects {
	all := objects{}
	for key, object := range o {
		copied := object.DeepCopyObject().(translate.Object) //nolint:forcetypeassert // a generated object is one
		copied.SetManagedFields(nil)
		copied.SetOwnerReferences(nil)
		copied.SetResourceVersion("")
		copied.SetGeneration(0)
		if service, ok := copied.(*corev1.Service); ok {
			spec := corev1.ServiceSpec{Type: service.Spec.Type, Selector: service.Spec.Selector, Ports: service.Spec.Ports}
			for n := range spec.Ports {
				spec.Ports[n].NodePort = 0
			}
			service.Spec = spec
		}
		all[key] = copied
	}
	return all
}

// and are the objects of both, each once.
func (o objects) and(others objects) objects {
	all := maps.Clone(others)
	if all == nil {
		all = objects{}
	}
	maps.Copy(all, o)
	return all
}

// drift says which objects are not as the spec asks, as far as they were read.
func (w *world) drift(translation *translate.Translation, owned objects) (all []string) {
	wanted := wantedBy(translation)
	for _, object := range sorted(wanted.and(owned)) {
		key := translate.KeyOf(object)
		if state := w.stateOf(key, wanted[key], owned[key]); state != statePresent && state != stateUnread {
			all = append(all, fmt.Sprintf("%s is %s in the cluster, and the operator repairs that, with or without this change", key, state))
		}
	}
	return all
}

// wantedBy are the objects of a translation.
func wantedBy(translation *translate.Translation) objects {
	wanted := objects{}
	for _, item := range translation.Objects {
		wanted[translate.KeyOf(item)] = item.Object
	}
	return wanted
}

// state is how an object of the cluster compares with what the spec asks for.
type state string

const (
	statePresent state = "present"
	stateMissing state = "missing"
	stateDiffers state = "different"
	stateLeft    state = "left over"
	// stateKept is that of an object of an earlier spec, while the present one is not accepted.
	stateKept   state = "kept"
	stateUnread state = "not read"
)

// stateOf compares an object with what the spec asks for.
func (w *world) stateOf(key translate.Key, want, live translate.Object) state {
	switch {
	case live == nil && w.unread(generatedResources[key.Kind], key.Namespace):
		return stateUnread
	case live == nil:
		return stateMissing
	case want == nil:
		return stateLeft
	case !translate.InSync(want, live):
		return stateDiffers
	}
	return statePresent
}

// applied are the manifests of a cluster after an apply of others: those that have the same name replace its own, and get what the API server keeps.
func applied(cluster, files []manifest) []manifest {
	at := map[string]manifest{}
	for _, m := range cluster {
		at[identityOf(m)] = m
	}
	var all []manifest
	for _, m := range files {
		if old, found := at[identityOf(m)]; found {
			m.Unstructured = m.DeepCopy()
			m.SetUID(old.GetUID())
			m.SetCreationTimestamp(old.GetCreationTimestamp())
			delete(at, identityOf(m))
		}
		all = append(all, m)
	}
	for _, m := range cluster {
		if _, stays := at[identityOf(m)]; stays {
			all = append(all, m)
		}
	}
	return all
}

// identityOf is what an API server knows an object by.
func identityOf(m manifest) string {
	return m.GroupVersionKind().GroupKind().String() + " " + m.GetNamespace() + "/" + m.GetName()
}

// pruned are the manifests of a cluster without the routes that a GitOps tool deletes: those of the files' namespaces that have the labels, and are not in
// the files.
func pruned(cluster, files []manifest, selector labels.Selector) []manifest {
	namespaces, kept := map[string]bool{}, map[string]bool{}
	for _, m := range ofKind(files, routeKind) {
		namespaces[m.GetNamespace()], kept[m.GetName()+"/"+m.GetNamespace()] = true, true
	}
	return slices.DeleteFunc(slices.Clone(cluster), func(m manifest) bool {
		return m.GroupVersionKind().GroupKind() == routeKind && namespaces[m.GetNamespace()] && !kept[m.GetName()+"/"+m.GetNamespace()] &&
			selector.Matches(labels.Set(m.GetLabels()))
	})
}

// withoutGenerated leaves out what routes control: it follows from the routes.
func withoutGenerated(manifests []manifest) []manifest {
	return slices.DeleteFunc(slices.Clone(manifests), func(m manifest) bool { return conflict.IsRoute(metav1.GetControllerOf(m)) })
}
