package controller_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/plan"
	"github.com/externalroute/externalroute/test/controlplane"
)

// lostAnswers loses the next answer to a write of each resource that is named, after the API server has committed the write.
type lostAnswers struct {
	mu        sync.Mutex
	resources []string
}

func (l *lostAnswers) lose(resources ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.resources = resources
}

// left are the resources of which no answer has been lost yet.
func (l *lostAnswers) left() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.resources, " ")
}

func (l *lostAnswers) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(sent *http.Request) (*http.Response, error) {
		response, err := next.RoundTrip(sent)
		if err != nil || sent.Method == http.MethodGet {
			return response, err
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		i := slices.IndexFunc(l.resources, func(resource string) bool { return strings.Contains(sent.URL.Path, "/"+resource+"/") })
		if i < 0 {
			return response, nil
		}
		l.resources = slices.Delete(l.resources, i, i+1)
		return nil, errors.Join(errLost, response.Body.Close())
	})
}

var errLost = errors.New("the answer was lost")

// An answer that is lost after the API server has committed the write shortens no wait: traffic moves a settle time after the new upstreams were written, and the
// old ones go a settle time after that.
func TestLostAnswersShortenNoWait(t *testing.T) {
	c, err := startCluster(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	answers := &lostAnswers{}
	c.operator.Wrap(answers.wrap)
	if err := c.startOperator(); err != nil {
		t.Fatal(err)
	}
	s := newStory(t, c)
	s.route("web", "hosts: [web]\ndestinations: [{url: 'https://old.example.com'}]")
	s.ready("web")
	s.after(settle, "web")
	s.clock.stop(t)

	answers.lose("serviceentries", "destinationrules")
	s.route("web", "hosts: [web]\ndestinations: [{url: 'https://new.example.com'}]")
	s.becomes("web", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonSwitching)
	s.until("both answers should be lost", answers.left)
	s.after(settle-moment, "web")
	if got := s.serves("web"); got != "old.example.com" {
		t.Errorf("before the new upstreams have settled, requests go to %s", got)
	}

	answers.lose("virtualservices")
	s.after(moment, "web")
	s.until("the answer should be lost", answers.left)
	s.ready("web")
	s.after(settle-moment, "web")
	if got := s.serves("web"); got != "new.example.com" {
		t.Errorf("traffic has not moved: requests go to %s", got)
	}
	if got := len(s.objects()); got != 6 {
		t.Errorf("before traffic has settled, of the old and new objects stand %v", s.objects())
	}
	s.after(moment, "web")
	s.until("the old objects should be deleted", func() string { return cmpLen(4, s.objects()) })
}

// Status writes whose answers are lost, whatever they say, are not repeated at full speed.
func TestStatusWritesThatFailBackOff(t *testing.T) {
	c, err := startCluster(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	var broken atomic.Bool
	var tries atomic.Int32
	c.operator.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(sent *http.Request) (*http.Response, error) {
			if !broken.Load() || !strings.HasSuffix(sent.URL.Path, "/externalroutes/web/status") {
				return next.RoundTrip(sent)
			}
			tries.Add(1)
			return nil, errLost
		})
	})
	if err := c.startOperator(); err != nil {
		t.Fatal(err)
	}
	s := newStory(t, c)
	s.route("web", simple)
	s.ready("web")
	s.route("other", strings.Replace(simple, "[web]", "[other]", 1))
	s.ready("other")
	c.clock.stop(t) // the pauses between the tries do not end
	broken.Store(true)
	for range 10 {
		s.touchSpec("web")
		generation := s.touchSpec("other") // it is reconciled after web
		s.until("the other route should be reconciled", func() string { return cmp.Diff(generation, s.read("other").Status.ObservedGeneration) })
	}
	broken.Store(false)
	if n := tries.Load(); n == 0 || n > 3 {
		t.Errorf("the operator tries %d times", n)
	}
	c.clock.step(plan.LongestPause)
	generation := s.touchSpec("web")
	s.until("the status should be written", func() string { return cmp.Diff(generation, s.read("web").Status.ObservedGeneration) })
}

// A route does not stop being Ready because of one answer that is lost: the retry comes at once.
func TestOneLostAnswerIsNotReported(t *testing.T) {
	c, err := startCluster(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	answers := &lostAnswers{}
	c.operator.Wrap(answers.wrap)
	if err := c.startOperator(); err != nil {
		t.Fatal(err)
	}
	s := newStory(t, c)
	s.route("web", simple)
	s.ready("web")
	s.pass("web")
	c.requests.writes(s.namespace) // those until now

	answers.lose("virtualservices")
	s.route("web", simple+"\nrules: [{timeout: 5s}]")
	s.until("the answer should be lost", answers.left)
	s.ready("web")
	statuses := slices.DeleteFunc(c.requests.writes(s.namespace), func(w string) bool { return !strings.HasSuffix(w, "/externalroutes/web/status") })
	if len(statuses) != 1 {
		t.Errorf("an edit with one lost answer costs %d writes of the status", len(statuses))
	}
}

// While the cache still shows a Service of an earlier route of the same name, the operator does not delete it again with each edit.
func TestObjectsOfAnEarlierRouteAreDeletedOnce(t *testing.T) {
	c, err := startCluster(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	proxy, err := controlplane.NewProxy(c.operator, rand.New(rand.NewPCG(1, 1)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	c.operator = proxy.Config // what passes the proxy is recorded
	c.operator.QPS = -1
	if err := c.startOperator(); err != nil {
		t.Fatal(err)
	}
	s := newStory(t, c)
	s.route("web", simple)
	s.route("other", strings.Replace(simple, "[web]", "[other]", 1))
	route := s.ready("web")
	s.ready("other")
	c.clock.stop(t)
	proxy.Hide("/services")
	s.delete(route)
	s.until("the garbage collector should delete the Service and the VirtualService", func() string {
		for _, object := range []client.Object{&corev1.Service{}, &networkingv1.VirtualService{}} {
			err := c.client.Get(s.Context(), client.ObjectKey{Namespace: s.namespace, Name: "web"}, object)
			if !apierrors.IsNotFound(err) {
				return fmt.Sprintf("%T: %v", object, err)
			}
		}
		return ""
	})
	c.clock.step(2 * plan.CacheLagLimit) // a route of the same second counts as an earlier one by then
	s.route("web", simple)
	deletions := func() int {
		return len(slices.DeleteFunc(c.requests.writes(s.namespace), func(w string) bool { return !strings.HasPrefix(w, "DELETE ") || !strings.HasSuffix(w, "/services/web") }))
	}
	n := 0
	s.until("the operator should delete the Service that its cache shows", func() string {
		if n += deletions(); n == 0 {
			return "it has not"
		}
		return ""
	})
	for range 5 {
		s.touchSpec("web")
		s.pass("other") // it is reconciled after web
	}
	if n += deletions(); n > 1 {
		t.Errorf("the operator deletes the Service %d times", n)
	}
	proxy.Hide("")
	c.clock.step(plan.CacheLagLimit)
	s.ready("web")
}
