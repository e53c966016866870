package controller_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/test/controlplane"
)

// label sets the labels of the story's namespace whose names begin with `istio`.
func (s *story) label(labels map[string]string) {
	s.Helper()
	namespace := &corev1.Namespace{}
	if err := s.client.Get(s.Context(), client.ObjectKey{Name: s.namespace}, namespace); err != nil {
		s.Fatal(err)
	}
	before := namespace.DeepCopy()
	maps.DeleteFunc(namespace.Labels, func(name, _ string) bool { return strings.HasPrefix(name, "istio") })
	maps.Copy(namespace.Labels, labels)
	if err := s.client.Patch(s.Context(), namespace, client.MergeFrom(before)); err != nil {
		s.Fatal(err)
	}
}

// A route works, whatever the labels of its namespace are, and says what they mean for the pods.
func TestRouteSaysWhetherItsNamespaceIsInTheMesh(t *testing.T) {
	s, other := sharedStory(t), sharedStory(t)
	for _, each := range []*story{s, other} {
		each.route("web", simple)
		each.becomes("web", v1alpha1.ConditionMeshEnrolled, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotEnrolled)
		each.ready("web")
	}
	s.route("mistaken", strings.ReplaceAll(simple, "hosts: [web]", "hosts: [web.elsewhere.svc]"))
	s.refused("mistaken", v1alpha1.ReasonInvalid)
	s.quiet()
	other.quiet()
	for _, step := range []struct {
		labels map[string]string
		value  metav1.ConditionStatus
		reason string
	}{
		{map[string]string{"istio-injection": "enabled"}, metav1.ConditionTrue, v1alpha1.ReasonNamespaceEnrolled},
		{map[string]string{"istio.io/dataplane-mode": "ambient"}, metav1.ConditionFalse, v1alpha1.ReasonWaypointNeeded},
		{map[string]string{"istio.io/rev": "canary"}, metav1.ConditionTrue, v1alpha1.ReasonNamespaceEnrolled},
		{map[string]string{"istio.io/rev": "stable"}, metav1.ConditionTrue, ""}, // nothing new
		{nil, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotEnrolled},
	} {
		s.label(step.labels)
		if step.reason == "" { // the next step takes one write of each status, and this one none
			continue
		}
		for _, name := range []string{"web", "mistaken"} {
			route := s.becomes(name, v1alpha1.ConditionMeshEnrolled, step.value, step.reason)
			if is := meta.IsStatusConditionTrue(route.Status.Conditions, v1alpha1.ConditionReady); is != (name == "web") {
				t.Errorf("%v changed Ready of %s to %t", step.labels, name, is)
			}
		}
		want := []string{s.statusPath("mistaken"), s.statusPath("web")}
		got := s.rest()
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%v took other writes than one of each status:\n%s", step.labels, diff)
		}
	}
	if writes := other.rest(); len(writes) > 0 {
		t.Errorf("the labels of another namespace took writes: %v", writes)
	}
}

func (s *story) statusPath(route string) string {
	return fmt.Sprintf("%s /apis/networking.externalroute.io/v1alpha1/namespaces/%s/externalroutes/%s/status", http.MethodPatch, s.namespace, route)
}

// An operator that may not read namespaces does everything else, and says nothing about them.
func TestNamespacesThatMayNotBeRead(t *testing.T) {
	c, err := startCluster(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	s := newStory(t, c)
	if err := c.startOperator(); err != nil {
		t.Fatal(err)
	}
	s.route("web", simple)
	s.becomes("web", v1alpha1.ConditionMeshEnrolled, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotEnrolled)
	if err := c.stopOperator(); err != nil {
		t.Fatal(err)
	}
	c.allowReading(s, "namespaces", false)
	if err := c.startOperator(); err != nil {
		t.Fatal(err)
	}
	s.until("the condition should go", func() string { return message(s.ready("web"), v1alpha1.ConditionMeshEnrolled) })
	s.route("other", "hosts: [other]\ndestinations: [{url: 'https://other.example.com'}]")
	if said := message(s.ready("other"), v1alpha1.ConditionMeshEnrolled); said != "" {
		t.Errorf("the status says %q", said)
	}
	c.allowReading(s, "namespaces", true)
	for _, name := range []string{"web", "other"} {
		s.becomes(name, v1alpha1.ConditionMeshEnrolled, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotEnrolled)
		s.ready(name)
	}
}

// Namespaces are cluster-scoped: an operator of some has no right to read them.
func TestOperatorOfSomeNamespacesDoesNotReadThem(t *testing.T) {
	c, err := startCluster(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	s := newStory(t, c)
	if c.end, c.done, err = c.runOperator(labels.Everything(), nil, s.namespace); err != nil {
		t.Fatal(err)
	}
	s.route("web", simple)
	if said := message(s.ready("web"), v1alpha1.ConditionMeshEnrolled); said != "" {
		t.Errorf("the status says %q", said)
	}
	if asked := c.requests.to("/api/v1/namespaces"); len(asked) > 0 {
		t.Errorf("it asked for %v", asked)
	}
}

// gate holds back what a watch of namespaces says.
type gate struct {
	mu   sync.Mutex
	open *sync.Cond
	held bool
}

func newGate() *gate {
	g := &gate{}
	g.open = sync.NewCond(&g.mu)
	return g
}

func (g *gate) hold(held bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = held
	g.open.Broadcast()
}

func (g *gate) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(sent *http.Request) (*http.Response, error) {
		response, err := next.RoundTrip(sent)
		if err == nil && sent.URL.Path == "/api/v1/namespaces" && sent.URL.Query().Has("watch") {
			response.Body = &heldBody{response.Body, g}
		}
		return response, err
	})
}

type heldBody struct {
	io.ReadCloser
	gate *gate
}

func (b *heldBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.gate.mu.Lock()
	defer b.gate.mu.Unlock()
	for b.gate.held {
		b.gate.open.Wait()
	}
	return n, err
}

// A route that is created right after its namespace may be seen before it. Its one status knows of the namespace all the same, unless that stays unseen.
func TestNamespaceThatIsSeenAfterItsRoute(t *testing.T) {
	c, err := startCluster(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	watch := newGate()
	c.operator.Wrap(watch.wrap)
	if err := c.startOperator(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { watch.hold(false) }) // before the operator stops
	first := newStory(t, c)
	first.route("web", simple)
	first.becomes("web", v1alpha1.ConditionMeshEnrolled, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotEnrolled) // the namespaces have been read
	c.clock.stop(t)
	for name, seen := range map[string]bool{"in time": true, "too late": false} {
		t.Run(name, func(t *testing.T) {
			watch.hold(true)
			s := newStory(t, c)
			s.route("web", simple)
			s.notice() // and has tried to reconcile the route
			s.only()
			if !seen {
				s.clock.step(time.Hour)
				if said := message(s.ready("web"), v1alpha1.ConditionMeshEnrolled); said != "" {
					t.Errorf("the status says %q", said)
				}
			}
			watch.hold(false)
			s.becomes("web", v1alpha1.ConditionMeshEnrolled, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotEnrolled)
			s.ready("web")
			statuses := slices.DeleteFunc(s.requests.writes(s.namespace), func(write string) bool { return write != s.statusPath("web") })
			if want := map[bool]int{true: 1, false: 2}[seen]; len(statuses) != want {
				t.Errorf("wrote the status %d times, want %d", len(statuses), want)
			}
		})
	}
}
