package controller_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/test/controlplane"
)

// The cache lags behind the operator's own writes, as on a busy machine. The operator takes nothing for missing because of that, and writes nothing twice.
func TestLaggingCacheCausesNoWrites(t *testing.T) {
	c, err := startCluster(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	c.operator.Wrap(slowWatches)
	if err := c.startOperator(); err != nil {
		t.Fatal(err)
	}
	s := newStory(t, c)
	const routes = 20
	name := func(i int) string { return fmt.Sprintf("web-%02d", i) }
	route := func(i int, host string) {
		s.route(name(i), fmt.Sprintf("hosts: [web-%d]\ndestinations: [{url: 'https://%s-%d.example.com'}]", i, host, i))
	}
	for i := range routes {
		route(i, "before")
	}
	for i := range routes {
		s.ready(name(i))
	}
	s.neverMore("create", map[string]int{
		"PATCH services": routes, "PATCH externalroutes": routes, "PATCH serviceentries": routes,
		"PATCH destinationrules": routes, "PATCH virtualservices": routes,
	})
	for i := range routes {
		s.delete(s.virtualService(name(i)))
	}
	s.until("all should be made again", func() string {
		if stand := len(s.objects()); stand < 4*routes {
			return fmt.Sprint(stand)
		}
		return ""
	})
	s.neverMore("repair", map[string]int{"PATCH virtualservices": routes})
	for i := range routes {
		route(i, "after")
	}
	for i := range routes {
		s.ready(name(i))
	}
	s.neverMore("move", map[string]int{
		"PATCH externalroutes": 2 * routes, "PATCH serviceentries": routes, "PATCH destinationrules": routes,
		"PATCH virtualservices": routes, "DELETE serviceentries": routes, "DELETE destinationrules": routes,
	})
}

// slowWatches delays events.
func slowWatches(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(sent *http.Request) (*http.Response, error) {
		response, err := next.RoundTrip(sent)
		if err == nil && sent.URL.Query().Get("watch") == "true" {
			response.Body = slowBody{response.Body}
		}
		return response, err
	})
}

type slowBody struct{ io.ReadCloser }

func (b slowBody) Read(into []byte) (int, error) {
	time.Sleep(rand.N(20 * time.Millisecond))
	return b.ReadCloser.Read(into)
}

// What another user creates between the operator's read and its write is theirs, also in the place of an object of the route.
func TestConcurrentlyCreatedObjectsAreNotAdopted(t *testing.T) {
	c, err := startCluster(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	s := newStory(t, c)
	theirs := service("web", map[string]string{"app": "web"}, 80)
	theirs.Namespace = s.namespace
	var race atomic.Value // what the other user does before the operator's next write
	none := func() error { return nil }
	race.Store(func() error { return c.client.Create(t.Context(), theirs) })
	first := func(config *rest.Config, options client.Options) (client.Client, error) {
		usual, err := client.NewWithWatch(config, options)
		if err != nil {
			return nil, err
		}
		return interceptor.NewClient(usual, interceptor.Funcs{
			Apply: func(ctx context.Context, cl client.WithWatch, object runtime.ApplyConfiguration, options ...client.ApplyOption) error {
				other, _ := race.Swap(none).(func() error)
				return errors.Join(other(), cl.Apply(ctx, object, options...))
			},
		}), nil
	}
	if c.end, c.done, err = c.runOperator(labels.Everything(), first); err != nil {
		t.Fatal(err)
	}
	s.route("web", simple)
	s.ready("web")
	s.quiet()
	now := service("web", nil, 80)
	s.get("web", now)
	if diff := cmp.Diff(theirs.Spec, now.Spec); diff != "" {
		t.Error(diff)
	}
	for _, entry := range now.ManagedFields {
		if entry.Manager == "externalroute" {
			t.Errorf("the operator wrote to another client's Service: %s", entry.FieldsV1)
		}
	}

	foreign := virtualService("web", ".", "elsewhere.example.com")
	foreign.Namespace = s.namespace
	race.Store(func() error {
		return errors.Join(c.client.Delete(t.Context(), foreign.DeepCopy()), c.client.Create(t.Context(), foreign))
	})
	edit(s, s.read("web"), func(r *v1alpha1.ExternalRoute) { r.Spec.Rules = []v1alpha1.Rule{{Timeout: "5s"}} })
	s.refused("web", v1alpha1.ReasonNameConflict)
	s.quiet()
	got := s.virtualService("web")
	written := slices.ContainsFunc(got.ManagedFields, func(m metav1.ManagedFieldsEntry) bool { return m.Manager == "externalroute" })
	if got.UID != foreign.UID || written {
		t.Errorf("the operator wrote to another user's VirtualService: %v", got)
	}
	s.delete(s.read("web"))
	s.only("Service/web", "VirtualService/web")
}

// An object that its user takes back while the operator is about to delete it stays.
func TestHandedOverObjectThatIsTakenBackStays(t *testing.T) {
	c, err := startCluster(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	s := newStory(t, c)
	entry := &networkingv1.ServiceEntry{}
	entry.Name, entry.Annotations = "old", map[string]string{v1alpha1.AdoptAnnotation: "web"}
	entry.Spec.Hosts, entry.Spec.Resolution = []string{"api.example.com"}, istio.ServiceEntry_DNS
	entry.Spec.Ports = []*istio.ServicePort{{Number: 443, Name: "https", Protocol: "TLS"}}
	s.create(entry)
	taken := entry.DeepCopy()
	taken.Annotations = nil
	var deletions atomic.Int32
	late := func(config *rest.Config, options client.Options) (client.Client, error) {
		usual, err := client.NewWithWatch(config, options)
		if err != nil {
			return nil, err
		}
		return interceptor.NewClient(usual, interceptor.Funcs{
			Delete: func(ctx context.Context, cl client.WithWatch, object client.Object, options ...client.DeleteOption) error {
				if object.GetName() == "old" && deletions.Add(1) == 1 {
					if err := c.client.Update(ctx, taken); err != nil {
						return err
					}
				}
				return cl.Delete(ctx, object, options...)
			},
		}), nil
	}
	if c.end, c.done, err = c.runOperator(labels.Everything(), late); err != nil {
		t.Fatal(err)
	}
	s.route("web", simple)
	s.ready("web")
	s.quiet()
	s.get("old", entry)
	if got := deletions.Load(); got != 1 {
		t.Errorf("want one attempt to delete the object, got %d", got)
	}
}
