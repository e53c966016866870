package controller_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/test/controlplane"
)

// A panic in one of the parallel writes is a failure of that route alone, and heals with its cause.
func TestPanicInAWriteFailsOnlyItsRoute(t *testing.T) {
	c, err := startCluster(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	var healed atomic.Bool
	panicking := func(config *rest.Config, options client.Options) (client.Client, error) {
		usual, err := client.NewWithWatch(config, options)
		if err != nil {
			return nil, err
		}
		return interceptor.NewClient(usual, interceptor.Funcs{
			Apply: func(ctx context.Context, c client.WithWatch, object runtime.ApplyConfiguration, options ...client.ApplyOption) error {
				generated, ok := object.(interface {
					GetKind() string
					GetName() string
				})
				if ok && generated.GetKind() == "DestinationRule" && strings.HasPrefix(generated.GetName(), "broken-") && !healed.Load() {
					panic("a bug")
				}
				return c.Apply(ctx, object, options...)
			},
		}), nil
	}
	if c.end, c.done, err = c.runOperator(labels.Everything(), panicking); err != nil {
		t.Fatal(err)
	}
	s := newStory(t, c)
	s.route("broken", "hosts: [broken]\ndestinations: [{url: 'https://broken.example.com'}]")
	broken := s.becomes("broken", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonApplyFailed)
	if said := message(broken, v1alpha1.ConditionProgrammed); !strings.Contains(said, "panic: a bug") || !strings.Contains(said, "DestinationRule broken-") {
		t.Errorf("the status says %q", said)
	}
	s.route("web", simple)
	s.ready("web")
	healed.Store(true)
	s.ready("broken")
}

// A host of two labels may name a Service of another namespace, which an operator of some namespaces cannot see.
func TestHostOfTwoLabelsIsExternalWhereItsNamespaceIsNotWatched(t *testing.T) {
	c, err := startCluster(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	s := newStory(t, c)
	if c.end, c.done, err = c.runOperator(labels.Everything(), nil, s.namespace); err != nil {
		t.Fatal(err)
	}
	s.route("destination", "hosts: [a]\ndestinations: [{url: 'https://example.com'}]")
	s.route("endpoint", "hosts: [b]\ndestinations: [{url: 'https://api.example.com', endpoints: [{address: example.org}]}]")
	s.ready("destination")
	s.ready("endpoint")
	s.create(service("shop", nil, 80)) // in a namespace that is watched, the Service is seen
	s.route("service", "hosts: [c]\ndestinations: [{url: 'https://shop."+s.namespace+"'}]")
	s.refused("service", v1alpha1.ReasonInvalid)
}

// An operator that may not read ConfigMaps any more repairs what it can, releases what is not its own, and does not claim that all is well.
func TestConfigMapsThatMayNotBeRead(t *testing.T) {
	c, err := startCluster(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	if err := c.startOperator(); err != nil {
		t.Fatal(err)
	}
	s := newStory(t, c)
	ca := &corev1.ConfigMap{Data: map[string]string{"ca.crt": "a certificate"}}
	ca.Name = "ca"
	s.create(ca)
	const web = "hosts: [web]\ndestinations: [{url: 'https://api.example.com/v1', tls: {caCertificateRefs: [{name: ca}]}}]"
	s.route("web", web)
	s.route("missing", "hosts: [missing]\ndestinations: [{url: 'https://m.example.com', tls: {caCertificateRefs: [{name: none}]}}]")
	s.ready("web")
	s.refused("missing", v1alpha1.ReasonCACertificateMissing)
	if err := c.stopOperator(); err != nil {
		t.Fatal(err)
	}
	c.allowReading(s, "configmaps", false)
	if err := c.startOperator(); err != nil {
		t.Fatal(err)
	}

	route := s.becomes("web", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonPending)
	if said := message(route, v1alpha1.ConditionReady); !strings.Contains(said, "cannot read ConfigMaps") || !strings.Contains(said, "is forbidden") {
		t.Errorf("the status says %q", said)
	}
	s.becomes("missing", v1alpha1.ConditionAccepted, metav1.ConditionUnknown, v1alpha1.ReasonPending)
	s.delete(s.virtualService("web"))
	s.until("the VirtualService should be created again", func() string { return cmp.Diff(4, len(s.objects())) })
	edit(s, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"}}, func(v *corev1.Service) { v.Spec.Selector = map[string]string{"app": "web"} })
	s.until("the Service should be released", func() string {
		taken := &corev1.Service{}
		s.get("web", taken)
		if len(taken.OwnerReferences) > 0 {
			return fmt.Sprint(taken.OwnerReferences)
		}
		return ""
	})
	s.route("web", strings.ReplaceAll(web, "api.example.com", "new.example.com"))
	s.becomes("web", v1alpha1.ConditionAccepted, metav1.ConditionUnknown, v1alpha1.ReasonPending)
	if got := s.serves("web"); got != "api.example.com" {
		t.Errorf("a spec that could not be judged is programmed: the VirtualService sends requests to %s", got)
	}

	c.allowReading(s, "configmaps", true)
	s.ready("web")
	s.until("the new spec should be programmed", func() string { return cmp.Diff("new.example.com", s.serves("web")) })
	s.refused("missing", v1alpha1.ReasonCACertificateMissing)
}

// allowReading gives the operator the right to read a kind or takes it away, and waits until the API server knows.
func (c *cluster) allowReading(s *story, resource string, allowed bool) {
	s.Helper()
	kind := schema.ParseGroupResource(resource)
	role := &rbacv1.ClusterRole{}
	if err := c.client.Get(s.Context(), client.ObjectKey{Name: "externalroute-manager"}, role); err != nil {
		s.Fatal(err)
	}
	for i := range role.Rules {
		role.Rules[i].Resources = slices.DeleteFunc(role.Rules[i].Resources, func(r string) bool { return r == kind.Resource })
	}
	role.Rules = slices.DeleteFunc(role.Rules, func(rule rbacv1.PolicyRule) bool { return len(rule.Resources) == 0 })
	if allowed {
		role.Rules = append(role.Rules, rbacv1.PolicyRule{APIGroups: []string{kind.Group}, Resources: []string{kind.Resource}, Verbs: []string{"list", "watch"}})
	}
	if err := c.client.Update(s.Context(), role); err != nil {
		s.Fatal(err)
	}
	operator, err := client.New(c.operator, client.Options{Scheme: scheme()})
	if err != nil {
		s.Fatal(err)
	}
	s.until("the API server should know the new rights", func() string {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "list", Group: kind.Group, Resource: kind.Resource},
		}}
		if err := operator.Create(s.Context(), review); err != nil {
			return err.Error()
		}
		return cmp.Diff(allowed, review.Status.Allowed)
	})
}

// A status that another client changes, or that a former leader writes late, does not stay.
func TestStatusThatAnotherClientWroteIsCorrected(t *testing.T) {
	s := sharedStory(t)
	s.route("web", simple)
	want := s.ready("web")
	for name, tamper := range map[string]func(*v1alpha1.ExternalRouteStatus){
		"a condition": func(status *v1alpha1.ExternalRouteStatus) {
			meta.FindStatusCondition(status.Conditions, "Ready").Status = "False"
		},
		"all of it":        func(status *v1alpha1.ExternalRouteStatus) { *status = v1alpha1.ExternalRouteStatus{} },
		"the hosts":        func(status *v1alpha1.ExternalRouteStatus) { status.Hosts = []string{"another.example.com"} },
		"the destinations": func(status *v1alpha1.ExternalRouteStatus) { status.Destinations[0].Host = "another.example.com" },
		"its generation":   func(status *v1alpha1.ExternalRouteStatus) { status.ObservedGeneration = 0 },
		"a resource more": func(status *v1alpha1.ExternalRouteStatus) {
			status.Resources = append(status.Resources, v1alpha1.GeneratedResource{APIVersion: "v1", Kind: "Secret", Name: "none"})
		},
		"a condition of another type": func(status *v1alpha1.ExternalRouteStatus) {
			status.Conditions = append(status.Conditions, metav1.Condition{
				Type: "Reconciling", Status: "True", Reason: "Never", Message: "not ours", LastTransitionTime: metav1.Now(),
			})
		},
		"a condition more": func(status *v1alpha1.ExternalRouteStatus) {
			status.Conditions = append(status.Conditions, metav1.Condition{
				Type: "Stalled", Status: "True", Reason: "Invalid", Message: "not ours", LastTransitionTime: metav1.Now(),
			})
		},
	} {
		route := s.read("web")
		tamper(&route.Status)
		if err := s.client.Status().Update(t.Context(), route, client.FieldOwner("another-client")); err != nil {
			t.Fatal(name, err)
		}
		s.until(name+" should be corrected", func() string {
			got := &v1alpha1.ExternalRoute{}
			s.get("web", got)
			return cmp.Diff(times(want.Status), times(got.Status))
		})
	}
}

// Two clients that disagree about a status do not write it at full speed.
func TestStatusCorrectionsThatAreUndoneAtOnceBackOff(t *testing.T) {
	s := sharedStory(t)
	s.route("web", simple)
	want := s.ready("web").Status
	s.clock.stop(t)
	tamper := func() {
		s.Helper()
		route := s.read("web")
		route.Status.ObservedGeneration = 0
		if err := s.client.Status().Update(t.Context(), route, client.FieldOwner("another-client")); err != nil {
			t.Fatal(err)
		}
	}
	corrected := func() {
		s.Helper()
		s.until("the status should be corrected", func() string { return cmp.Diff(want.ObservedGeneration, s.read("web").Status.ObservedGeneration) })
	}
	for range 3 {
		tamper()
		corrected()
	}
	s.requests.writes(s.namespace)
	tamper()
	s.route("marker", "hosts: [marker]\ndestinations: [{url: 'https://marker.example.com'}]")
	s.ready("marker") // its event came after that of the status
	for _, write := range s.requests.writes(s.namespace) {
		if strings.HasSuffix(write, "/externalroutes/web/status") {
			t.Errorf("the fourth correction came without a pause: %s", write)
		}
	}
	s.clock.step(time.Second)
	corrected()
}

// times leaves out when conditions changed.
func times(status v1alpha1.ExternalRouteStatus) v1alpha1.ExternalRouteStatus {
	s := *status.DeepCopy()
	for i := range s.Conditions {
		s.Conditions[i].LastTransitionTime = metav1.Time{}
	}
	return s
}

// What is refused because the namespace is being deleted is no failure, and no event is sent that would be refused as well.
func TestTerminatingNamespaceIsNoFailure(t *testing.T) {
	c, err := startCluster(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	if err := c.startOperator(); err != nil {
		t.Fatal(err)
	}
	going, other := newStory(t, c), newStory(t, c)
	for _, s := range []*story{going, other} {
		s.route("web", simple)
		s.ready("web")
	}
	if _, err := c.plane.Kill(controlplane.Controllers); err != nil { // so that the namespace stays, and its route in it
		t.Fatal(err)
	}
	namespace := &corev1.Namespace{}
	namespace.Name = going.namespace
	if err := c.client.Delete(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	c.clock.stop(t) // the pauses between the tries do not end
	going.delete(going.virtualService("web"))
	route := going.becomes("web", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonPending)
	if said := message(route, v1alpha1.ConditionProgrammed); said != "The namespace is being deleted." {
		t.Errorf("the status says %q", said)
	}
	for i := range 20 { // each of them triggers a pass
		edit(going, service("web", nil, 80), func(v *corev1.Service) { metav1.SetMetaDataAnnotation(&v.ObjectMeta, "edit", fmt.Sprint(i)) })
	}
	other.delete(other.virtualService("web"))
	other.event("Repaired", "VirtualService web") // it is sent after what the other namespace would have been sent
	if events := c.requests.events(going.namespace); len(events) > 0 {
		t.Errorf("events were sent: %v", events)
	}
	tries := slices.DeleteFunc(c.requests.writes(going.namespace), func(w string) bool { return !strings.HasSuffix(w, "/virtualservices/web") })
	if len(tries) > 5 { // one of the new route, and those without a pause
		t.Errorf("the operator tries without an end: %d times", len(tries))
	}
}

// events are the events that the operator sent to a namespace, as VERB PATH.
func (r *requests) events(namespace string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var events []string
	for _, request := range r.all {
		if strings.Contains(request.path, "/namespaces/"+namespace+"/events") {
			events = append(events, request.method+" "+request.path)
		}
	}
	return events
}
