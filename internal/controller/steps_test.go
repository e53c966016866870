package controller_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/test/argocd"
)

// patience is how long a step may take before the story fails. Nothing is measured by it, and it costs nothing when all is well.
const patience = 3 * time.Minute

// route applies a route whose spec is given as YAML, as kubectl would.
func (s *story) route(name, spec string) {
	s.Helper()
	manifest := &unstructured.Unstructured{Object: map[string]any{}}
	if err := yaml.Unmarshal([]byte("spec:\n"+indent(spec)), &manifest.Object); err != nil {
		s.Fatal(err)
	}
	manifest.SetAPIVersion(v1alpha1.SchemeGroupVersion.String())
	manifest.SetKind("ExternalRoute")
	manifest.SetName(name)
	manifest.SetNamespace(s.namespace)
	if err := s.client.Apply(s.Context(), client.ApplyConfigurationFromUnstructured(manifest), client.FieldOwner("user"), client.ForceOwnership); err != nil {
		s.Fatal(err)
	}
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ")
}

// until waits until check finds nothing to complain about.
func (s *story) until(what string, check func() string) {
	s.Helper()
	var complaint string
	err := wait.PollUntilContextTimeout(s.Context(), 20*time.Millisecond, patience, true, func(context.Context) (bool, error) {
		complaint = check()
		return complaint == "", nil
	})
	if err != nil {
		s.Fatalf("%s: %s", what, complaint)
	}
}

// read reads a route as it is now and holds its status against the law.
func (s *story) read(name string) *v1alpha1.ExternalRoute {
	s.Helper()
	route := &v1alpha1.ExternalRoute{}
	if err := s.client.Get(s.Context(), types.NamespacedName{Namespace: s.namespace, Name: name}, route); err != nil {
		s.Fatal(err)
	}
	s.law(route)
	return route
}

// law is what must hold of a status at every moment.
func (s *story) law(route *v1alpha1.ExternalRoute) {
	s.Helper()
	ready := meta.FindStatusCondition(route.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil {
		s.Fatalf("no Ready in %v", route.Status.Conditions)
	}
	stalled := meta.IsStatusConditionTrue(route.Status.Conditions, v1alpha1.ConditionStalled)
	if stalled && ready.Status != metav1.ConditionFalse {
		s.Errorf("stalled, and Ready is %s", ready.Status)
	}
	if route.Status.ObservedGeneration > route.Generation {
		s.Errorf("observedGeneration %d is ahead of %d", route.Status.ObservedGeneration, route.Generation)
	}
	for _, c := range route.Status.Conditions {
		if c.Message == "" {
			s.Errorf("%s has no message", c.Type)
		}
		if c.Type == v1alpha1.ConditionStalled && c.Status != metav1.ConditionTrue {
			s.Errorf("Stalled is %s, and should be absent", c.Status)
		}
	}
	want := status.InProgressStatus
	switch {
	case !route.DeletionTimestamp.IsZero():
		want = status.TerminatingStatus
	case route.Status.ObservedGeneration != 0 && route.Status.ObservedGeneration != route.Generation:
	case stalled:
		want = status.FailedStatus
	case ready.Status == metav1.ConditionTrue:
		want = status.CurrentStatus
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(route)
	if err != nil {
		s.Fatal(err)
	}
	object := &unstructured.Unstructured{Object: content}
	got, err := status.Compute(object)
	if err != nil {
		s.Fatal(err)
	}
	if got.Status != want {
		s.Errorf("kstatus says %s, the conditions say %s: %v", got.Status, want, route.Status.Conditions)
	}
	health, _, err := argocd.Health(object)
	if err != nil {
		s.Fatal(err)
	}
	if !slices.Contains(healths[want], health) {
		s.Errorf("Argo CD says %s, kstatus %s: %v", health, want, route.Status.Conditions)
	}
}

// healths are Argo CD's words for those of kstatus. A suspended route is neither here nor there to kstatus.
var healths = map[status.Status][]string{
	status.CurrentStatus:     {argocd.Healthy, argocd.Suspended},
	status.InProgressStatus:  {argocd.Progressing, argocd.Suspended},
	status.FailedStatus:      {argocd.Degraded},
	status.TerminatingStatus: {argocd.Progressing},
}

// invalid is the simple spec with a mistake that the API server cannot see: a host twice.
func (s *story) invalid() string {
	return strings.Replace(simple, "[web]", "[web, web."+s.namespace+".svc]", 1)
}

// becomes waits until the route has been looked at and a condition has a reason; it returns the route.
func (s *story) becomes(name, condition string, value metav1.ConditionStatus, reason string) *v1alpha1.ExternalRoute {
	s.Helper()
	var route *v1alpha1.ExternalRoute
	s.until(fmt.Sprintf("%s should become %s=%s (%s)", name, condition, value, reason), func() string {
		route = s.read(name)
		c := meta.FindStatusCondition(route.Status.Conditions, condition)
		if c == nil || c.ObservedGeneration != route.Generation || c.Status != value || c.Reason != reason {
			return fmt.Sprintf("generation %d, conditions %+v", route.Generation, route.Status.Conditions)
		}
		return ""
	})
	return route
}

func (s *story) ready(name string) *v1alpha1.ExternalRoute {
	s.Helper()
	return s.becomes(name, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonProgrammed)
}

func (s *story) refused(name, reason string) *v1alpha1.ExternalRoute {
	s.Helper()
	return s.becomes(name, v1alpha1.ConditionAccepted, metav1.ConditionFalse, reason)
}

func message(route *v1alpha1.ExternalRoute, condition string) string {
	if c := meta.FindStatusCondition(route.Status.Conditions, condition); c != nil {
		return c.Message
	}
	return ""
}

// objects are the namespace's generated and other objects as KIND/NAME, sorted.
func (s *story) objects() []string {
	s.Helper()
	var names []string
	for _, list := range generatedLists() {
		if err := s.client.List(s.Context(), list, client.InNamespace(s.namespace)); err != nil {
			s.Fatal(err)
		}
		kind := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%T", list), "*v1."), "List")
		eachObject(list, func(o client.Object) { names = append(names, kind+"/"+o.GetName()) })
	}
	slices.Sort(names)
	return names
}

func generatedLists() []client.ObjectList {
	return []client.ObjectList{
		&corev1.ServiceList{}, &networkingv1.ServiceEntryList{}, &networkingv1.DestinationRuleList{}, &networkingv1.GatewayList{},
		&networkingv1.VirtualServiceList{},
	}
}

func eachObject(list client.ObjectList, do func(client.Object)) {
	_ = meta.EachListItem(list, func(o runtime.Object) error {
		do(o.(client.Object))
		return nil
	})
}

func (s *story) only(want ...string) {
	s.Helper()
	slices.Sort(want)
	s.until("the namespace's objects", func() string { return cmp.Diff(want, s.objects()) })
}

func (s *story) get(name string, object client.Object) {
	s.Helper()
	if err := s.client.Get(s.Context(), types.NamespacedName{Namespace: s.namespace, Name: name}, object); err != nil {
		s.Fatal(err)
	}
}

func (s *story) list(list client.ObjectList) {
	s.Helper()
	if err := s.client.List(s.Context(), list, client.InNamespace(s.namespace)); err != nil {
		s.Fatal(err)
	}
}

func (s *story) virtualService(name string) *networkingv1.VirtualService {
	s.Helper()
	v := &networkingv1.VirtualService{}
	s.get(name, v)
	return v
}

// serves is the host that the first rule of the VirtualService sends requests to, or "".
func (s *story) serves(name string) string {
	s.Helper()
	v := &networkingv1.VirtualService{}
	err := s.client.Get(s.Context(), types.NamespacedName{Namespace: s.namespace, Name: name}, v)
	if apierrors.IsNotFound(err) {
		return ""
	}
	if err != nil {
		s.Fatal(err)
	}
	return v.Spec.Http[0].Route[0].Destination.Host
}

func (s *story) create(object client.Object) {
	s.Helper()
	object.SetNamespace(s.namespace)
	if err := s.client.Create(s.Context(), object); err != nil {
		s.Fatal(err)
	}
}

func (s *story) delete(object client.Object) {
	s.Helper()
	if err := s.client.Delete(s.Context(), object); err != nil {
		s.Fatal(err)
	}
}

// edit changes an object as another client.
func edit[T client.Object](s *story, object T, change func(T)) {
	s.Helper()
	for range 10 {
		s.get(object.GetName(), object)
		change(object)
		err := s.client.Update(s.Context(), object, client.FieldOwner("another-client"))
		if err == nil {
			return
		}
		if !apierrors.IsConflict(err) {
			s.Fatal(err)
		}
	}
	s.Fatal("the object never stood still")
}

// events are the notes of the namespace's events of that reason.
func (s *story) events(reason string) []string {
	s.Helper()
	var events eventsv1.EventList
	if err := s.client.List(s.Context(), &events, client.InNamespace(s.namespace)); err != nil {
		s.Fatal(err)
	}
	var notes []string
	for _, e := range events.Items {
		if e.Reason == reason {
			notes = append(notes, e.Note)
		}
	}
	return notes
}

// event waits for an event of that reason whose note holds a text.
func (s *story) event(reason, text string) {
	s.Helper()
	s.until(fmt.Sprintf("an event %s with %q", reason, text), func() string {
		notes := s.events(reason)
		if slices.ContainsFunc(notes, func(note string) bool { return strings.Contains(note, text) }) {
			return ""
		}
		return fmt.Sprint(notes)
	})
}
