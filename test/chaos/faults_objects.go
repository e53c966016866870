//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
	"github.com/externalroute/externalroute/test/controlplane"
)

// fightingWriter lets another client, which owns the same fields, write other specs and labels into the generated objects, again and again.
func fightingWriter(ctx context.Context, r *run) error {
	fights := 0
	err := r.meanwhile(ctx, 10*busily, func() error {
		for end := time.Now().Add(r.either(4*time.Second, 30*time.Second)); time.Now().Before(end); {
			objects, err := r.list(ctx, client.InNamespace(r.namespace))
			if err != nil {
				return err
			}
			objects = slices.DeleteFunc(objects, func(o client.Object) bool { return !isGenerated(o) })
			if len(objects) == 0 {
				continue
			}
			object := objects[r.chance.IntN(len(objects))]
			if err := client.IgnoreNotFound(r.fight(ctx, object)); err != nil {
				return err
			}
			fights++
			if err := sleep(ctx, r.upTo(40*time.Millisecond)); err != nil {
				return err
			}
		}
		return nil
	})
	r.repairs += fights
	r.say("%d fights", fights)
	return err
}

// stubbornWriter lets another client set one object back as soon as the operator has repaired it: another controller that wants the same field.
func stubbornWriter(ctx context.Context, r *run) error {
	objects, err := r.list(ctx, client.InNamespace(r.namespace))
	if err != nil {
		return err
	}
	object := objects[slices.IndexFunc(objects, func(o client.Object) bool { return kindOf(o) == "ServiceEntry" && isGenerated(o) })]
	fights, began := 0, time.Now()
	for time.Since(began) < r.either(3*time.Second, 20*time.Second) {
		if err := r.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
			return err
		}
		if object.GetLabels()[v1alpha1.ManagedByLabel] == "fighter" {
			continue
		}
		if err := r.fight(ctx, object); err != nil {
			return err
		}
		fights++
	}
	r.repairs += fights
	r.say("%d fights in %.1f s about one object", fights, time.Since(began).Seconds())
	return nil
}

// fight writes something else into an object: by a forced apply or by a patch of whatever version there is, as the user of a text editor would.
func (r *run) fight(ctx context.Context, object client.Object) error {
	patch := map[string]any{"metadata": map[string]any{"labels": map[string]any{v1alpha1.ManagedByLabel: "fighter"}}}
	switch object.(type) {
	case *corev1.Service:
		patch["metadata"].(map[string]any)["annotations"] = map[string]any{translate.ExportToAnnotation: "*"}
	case *networkingv1.ServiceEntry:
		patch["spec"] = map[string]any{"exportTo": []any{"*"}, "subjectAltNames": []any{"fighter.example.org"}}
	case *networkingv1.DestinationRule:
		patch["spec"] = map[string]any{"host": "fighter.example.org", "exportTo": []any{"*"}}
	case *networkingv1.Gateway:
		patch["spec"] = map[string]any{"selector": map[string]any{"istio": "fighter"}}
	case *networkingv1.VirtualService:
		patch["spec"] = map[string]any{"hosts": []any{"fighter.example.org"}, "gateways": []any{"mesh", "fighter"}}
	}
	target := &metav1.PartialObjectMetadata{}
	target.SetGroupVersionKind(translate.KindOf(object).GVK)
	target.Namespace, target.Name = object.GetNamespace(), object.GetName()
	if r.chance.IntN(2) == 0 {
		raw, err := json.Marshal(patch)
		if err != nil {
			return err
		}
		return r.Patch(ctx, target, client.RawPatch(types.MergePatchType, raw), client.FieldOwner("fighter"))
	}
	patch["apiVersion"], patch["kind"] = target.APIVersion, target.Kind
	patch["metadata"].(map[string]any)["uid"] = object.GetUID() // no object of its own, where it has gone meanwhile
	raw, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	err = r.Patch(ctx, target, client.RawPatch(types.ApplyPatchType, raw), client.FieldOwner("fighter"), client.ForceOwnership)
	if apierrors.IsConflict(err) || apierrors.IsInvalid(err) {
		return nil // gone, or another one
	}
	return err
}

// quota leaves no room for another VirtualService, nor for another Service. The status of a route that asks for one says so, and the route gets it when there is room.
func quota(ctx context.Context, r *run) error {
	stop, err := r.RunQuotaController()
	if err != nil {
		return err
	}
	defer stop()
	limits := map[corev1.ResourceName]int{"count/virtualservices.networking.istio.io": 0, "services": 0}
	objects, err := r.list(ctx, client.InNamespace(r.namespace))
	if err != nil {
		return err
	}
	hard := corev1.ResourceList{}
	for _, object := range objects {
		switch kindOf(object) {
		case "VirtualService":
			limits["count/virtualservices.networking.istio.io"]++
		case "Service":
			limits["services"]++
		}
	}
	for name, n := range limits {
		hard[name] = resource.MustParse(fmt.Sprint(n))
	}
	q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: "full"}, Spec: corev1.ResourceQuotaSpec{Hard: hard}}
	if err := r.Create(ctx, q); err != nil {
		return err
	}
	if err := r.await(ctx, "the quota", func(ctx context.Context) (bool, error) {
		err := r.Get(ctx, client.ObjectKeyFromObject(q), q)
		return len(q.Status.Used) == len(hard), err
	}); err != nil {
		return err
	}
	for _, i := range []int{r.most + 1, r.most + 2} { // one in place, whose VirtualService has no room, and one whose Service has none
		if err := r.put(ctx, r.draw(i)); err != nil {
			return err
		}
		if err := r.says(ctx, nameOf(i), v1alpha1.ReasonApplyFailed, "exceeded quota"); err != nil {
			return err
		}
	}
	if err := r.Delete(ctx, q); err != nil {
		return err
	}
	r.repairs += 20 // tries with growing pauses
	return nil
}

// admissionRefusesOne lets a policy of the cluster refuse one DestinationRule by its name.
func admissionRefusesOne(ctx context.Context, r *run) error {
	route := r.draw(r.most + 2)
	stored := route.DeepCopy() // with its defaults
	if err := r.Create(ctx, stored, client.DryRunAll); err != nil {
		return err
	}
	translation, refusal := translate.Translate(stored, translate.Mesh{ClusterDomain: translate.DefaultClusterDomain})
	if refusal != nil {
		return fmt.Errorf("translate: %s", refusal.Message())
	}
	refused := translate.Of[*networkingv1.DestinationRule](translation.Objects)[0]
	policy := &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "refuses-one"},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
				Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
				Rule:       admissionv1.Rule{APIGroups: []string{"networking.istio.io"}, APIVersions: []string{"*"}, Resources: []string{"destinationrules"}},
			}}}},
			Validations: []admissionv1.Validation{{Expression: fmt.Sprintf("object.metadata.name != %q", refused.Name), Message: "not this one"}},
		},
	}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "refuses-one"},
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: "refuses-one", ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
		},
	}
	if err := r.Create(ctx, policy); err != nil {
		return err
	}
	if err := r.Create(ctx, binding); err != nil {
		return err
	}
	if err := r.await(ctx, "the policy", func(ctx context.Context) (bool, error) {
		err := r.Create(ctx, refused.DeepCopy(), client.DryRunAll)
		return err != nil && strings.Contains(err.Error(), "not this one"), nil
	}); err != nil {
		return err
	}
	if err := r.put(ctx, route); err != nil {
		return err
	}
	if err := r.says(ctx, route.Name, v1alpha1.ReasonApplyFailed, "not this one"); err != nil {
		return err
	}
	if err := r.othersGoOn(ctx, route.Name); err != nil {
		return err
	}
	if err := r.Delete(ctx, binding); err != nil {
		return err
	}
	r.repairs += 20 // tries with growing pauses
	return r.Delete(ctx, policy)
}

// othersGoOn edits another route while one is refused, and waits until that is done.
func (r *run) othersGoOn(ctx context.Context, refused string) error {
	other := r.draw(3)
	if err := r.put(ctx, other); err != nil {
		return err
	}
	return r.await(ctx, "a route that is not refused", func(ctx context.Context) (bool, error) {
		findings, err := r.audit(ctx, r.namespace, r.routes)
		findings = slices.DeleteFunc(findings, func(f finding) bool { return strings.Contains(f.what, refused) })
		return len(findings) == 0, err
	})
}

// istioRemoved deletes Istio's definitions, and with them all of its objects, and installs them again.
func istioRemoved(ctx context.Context, r *run) error {
	names := []string{"serviceentries", "destinationrules", "gateways", "virtualservices"}
	for _, name := range names {
		definition := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: name + ".networking.istio.io"}}
		if err := r.Delete(ctx, definition); err != nil {
			return err
		}
	}
	for route := range r.routes {
		if err := r.says(ctx, route, v1alpha1.ReasonIstioNotInstalled, ""); err != nil {
			return err
		}
	}
	// A route that comes meanwhile waits as well.
	if err := r.act(ctx); err != nil {
		return err
	}
	if err := sleep(ctx, r.upTo(3*time.Second)); err != nil {
		return err
	}
	for _, name := range names { // one that is being deleted would be updated, and then be gone
		definition := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: name + ".networking.istio.io"}}
		if err := r.await(ctx, "the end of "+definition.Name, func(ctx context.Context) (bool, error) {
			err := r.Get(ctx, client.ObjectKeyFromObject(definition), definition)
			return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
		}); err != nil {
			return err
		}
	}
	definitions, err := controlplane.IstioCRDs()
	if err != nil {
		return err
	}
	if err := r.InstallCRDs(definitions); err != nil {
		return err
	}
	// What other people had is gone with the definitions; they bring it again.
	if err := r.plantForeign(ctx, r.namespace, r.randomOf("foreign again"), r.most); err != nil {
		return err
	}
	r.repairs += r.most
	r.before, err = r.foreign(ctx)
	return err
}

// recreatedAtOnce deletes routes and creates others of the same name, while the objects of the earlier ones are still there.
func recreatedAtOnce(ctx context.Context, r *run) error {
	for range r.times(30, 300) {
		i := r.chance.IntN(r.most)
		route := &v1alpha1.ExternalRoute{ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: nameOf(i)}}
		how := metav1.DeletePropagationBackground
		if r.chance.IntN(4) == 0 {
			how = metav1.DeletePropagationForeground
		}
		if err := client.IgnoreNotFound(r.Delete(ctx, route, client.PropagationPolicy(how))); err != nil {
			return err
		}
		if err := r.await(ctx, "the end of "+route.Name, func(ctx context.Context) (bool, error) {
			err := r.Get(ctx, client.ObjectKeyFromObject(route), route)
			return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
		}); err != nil {
			return err
		}
		if err := r.put(ctx, r.draw(i)); err != nil {
			return err
		}
		if err := sleep(ctx, r.upTo(200*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

// namespaceDeleted deletes a namespace, with routes in it and the operator at work.
func namespaceDeleted(ctx context.Context, r *run) error {
	for n := range r.times(1, 5) {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", r.namespace, n)}}
		if err := r.Create(ctx, namespace); err != nil {
			return err
		}
		if err := r.plantForeign(ctx, namespace.Name, r.randomOf(namespace.Name), r.most); err != nil {
			return err
		}
		counter, err := r.writesFromNow()
		if err != nil {
			return err
		}
		r.atEnd(counter.close)
		other := &user{Client: r.Client, namespace: namespace.Name, random: r.randomOf(namespace.Name + " user"), routes: map[string]bool{}, most: r.most}
		if err := other.create(ctx); err != nil {
			return err
		}
		if err := sleep(ctx, r.upTo(2*time.Second)); err != nil {
			return err
		}
		if err := r.Delete(ctx, namespace); err != nil {
			return err
		}
		if err := r.await(ctx, "the end of the namespace", func(ctx context.Context) (bool, error) {
			err := r.Get(ctx, client.ObjectKeyFromObject(namespace), namespace)
			return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
		}); err != nil {
			return err
		}
		wrote, _, err := counter.next(namespace.Name)
		if err != nil {
			return err
		}
		if bound := 20 * other.acts; len(wrote) > bound {
			r.findings = append(r.findings, finding{hot, fmt.Sprintf("%d writes into a namespace that is being deleted, with %d routes", len(wrote), other.acts)})
		}
		r.say("%d writes into %s, with %d routes", len(wrote), namespace.Name, other.acts)
	}
	return nil
}

// says waits until a route says why it is not programmed.
func (r *run) says(ctx context.Context, name, reason, message string) error {
	last := "nothing"
	err := r.await(ctx, "", func(ctx context.Context) (bool, error) {
		var route v1alpha1.ExternalRoute
		if err := r.Get(ctx, client.ObjectKey{Namespace: r.namespace, Name: name}, &route); err != nil {
			return false, nil //nolint:nilerr // at the end of our patience too
		}
		programmed := meta.FindStatusCondition(route.Status.Conditions, v1alpha1.ConditionProgrammed)
		if programmed == nil {
			return false, nil
		}
		last = programmed.Reason + ": " + programmed.Message
		return programmed.Status == metav1.ConditionFalse && programmed.Reason == reason && strings.Contains(programmed.Message, message), nil
	})
	if wait.Interrupted(err) && ctx.Err() == nil {
		r.findings = append(r.findings, finding{untrue, fmt.Sprintf("ExternalRoute %s/%s does not become %s %q; it says %s", r.namespace, name, reason, message, last)})
		return nil
	}
	return err
}

// await waits for what must come.
func (r *run) await(ctx context.Context, what string, come func(context.Context) (bool, error)) error {
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, r.patience, true, come)
	if err != nil && what != "" {
		return fmt.Errorf("wait for %s: %w", what, err)
	}
	return err
}
