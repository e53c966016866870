package controller_test

import (
	"fmt"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// A route that is being deleted and held keeps the hosts that its VirtualService still serves.
func TestHeldRouteKeepsItsHosts(t *testing.T) {
	s := sharedStory(t)
	s.route("first", simple)
	first := s.ready("first")
	edit(s, first, func(r *v1alpha1.ExternalRoute) { r.Finalizers = []string{"example.com/held"} })
	s.delete(first)
	s.route("second", simple)
	s.refused("second", v1alpha1.ReasonHostConflict)
	s.says("second", v1alpha1.ConditionAccepted,
		"spec.hosts[0]: web.NAMESPACE.svc.cluster.local belongs to ExternalRoute NAMESPACE/first, which already uses it: remove the host from one of "+
			"the two routes")
	s.rest()
	s.refused("second", v1alpha1.ReasonHostConflict)

	edit(s, s.read("first"), func(r *v1alpha1.ExternalRoute) { r.Finalizers = nil })
	s.ready("second")
}

// A route that has nothing, because the name of one of its objects is taken, holds nothing back.
func TestRouteInNameConflictHoldsNoHosts(t *testing.T) {
	s := sharedStory(t)
	s.route("older", "hosts: [web, web."+s.namespace+".svc]\ndestinations: [{url: 'https://older.example.com'}]")
	s.later(s.refused("older", v1alpha1.ReasonInvalid))
	s.create(virtualService("younger", ".", "elsewhere"))
	s.notice()
	s.route("younger", simple)
	s.refused("younger", v1alpha1.ReasonNameConflict)

	s.route("older", "hosts: [web]\nexportTo: ['.']\ndestinations: [{url: 'https://older.example.com'}]")
	s.ready("older")
	s.delete(s.virtualService("younger"))
	s.refused("younger", v1alpha1.ReasonHostConflict)
}

// A route whose VirtualService the API server refuses serves nothing, and holds nothing back.
func TestRouteThatCannotWriteHoldsNoHosts(t *testing.T) {
	s := sharedStory(t)
	s.route("older", "hosts: [web, web."+s.namespace+".svc]\ndestinations: [{url: 'https://older.example.com'}]")
	s.later(s.refused("older", v1alpha1.ReasonInvalid))
	younger := virtualService("younger", ".", "elsewhere")
	s.refuse("networking.istio.io", "virtualservices", `object.metadata.name != "younger"`, younger)
	s.route("younger", simple)
	s.becomes("younger", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonApplyFailed)

	s.route("older", "hosts: [web]\nexportTo: ['.']\ndestinations: [{url: 'https://older.example.com'}]")
	s.ready("older")
	s.refused("younger", v1alpha1.ReasonHostConflict)
}

// refuse makes the API server refuse objects of a resource in the story's namespace for which a condition of CEL does not hold, such as the probe.
func (s *story) refuse(group, resource, condition string, probe client.Object) {
	s.Helper()
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: s.namespace},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionregistrationv1.MatchResources{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": s.namespace}},
				ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
					Rule:       admissionregistrationv1.Rule{APIGroups: []string{group}, APIVersions: []string{"*"}, Resources: []string{resource}},
				}}},
			},
			Validations: []admissionregistrationv1.Validation{{Expression: condition, Message: "not here"}},
		},
	}
	binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: s.namespace},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: s.namespace, ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
		},
	}
	for _, object := range []client.Object{policy, binding} {
		if err := s.client.Create(s.Context(), object); err != nil {
			s.Fatal(err)
		}
	}
	probe.SetNamespace(s.namespace)
	s.until("the API server should refuse "+resource, func() string {
		err := s.client.Create(s.Context(), probe.DeepCopyObject().(client.Object), client.DryRunAll)
		if err == nil || !strings.Contains(err.Error(), "not here") {
			return fmt.Sprint(err)
		}
		return ""
	})
}

// Of two routes of one host, which two operators serve, the one whose objects stand goes on serving, whichever operator it belongs to. Both are never Ready.
func TestOperatorsThatShareAClusterKeepHostsApart(t *testing.T) {
	s := newStory(t, shared(t))
	label := func(name, shard string) {
		s.Helper()
		edit(s, s.read(name), func(r *v1alpha1.ExternalRoute) { r.Labels = map[string]string{"shard": shard} })
	}
	s.route("serves", simple)
	label("serves", "a")
	s.ready("serves")
	s.route("waits", simple)
	for _, shards := range [][]string{{"a", "b"}, {"b", "a"}, {"b", "b"}, {"a", "b"}} {
		label("waits", shards[1])
		label("serves", shards[0])
		s.pass("serves", "waits")
		s.ready("serves")
		s.refused("waits", v1alpha1.ReasonHostConflict)
		if ready := meta.IsStatusConditionTrue(s.read("waits").Status.Conditions, v1alpha1.ConditionReady); ready {
			t.Errorf("with shards %v both are Ready", shards)
		}
	}
	s.delete(s.read("serves"))
	s.ready("waits")
}
