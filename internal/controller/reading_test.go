package controller_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/externalroute/externalroute/test/controlplane"
)

// What the cache says is old when it is looked at, as on a busy machine: the events of the operator's own writes come in between. Nothing is
// taken for missing because of that, nor written twice.
func TestEventsThatComeWhileTheCacheIsReadAreNotLost(t *testing.T) {
	c, err := startCluster(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	if c.end, c.done, err = c.runOperator(labels.Everything(), slowReader); err != nil {
		t.Fatal(err)
	}
	s := tellIn(t, c)
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
	s.wrote("create", map[string]int{
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
	s.wrote("repair", map[string]int{"PATCH virtualservices": routes})
	for i := range routes {
		route(i, "after")
	}
	for i := range routes {
		s.ready(name(i))
	}
	time.Sleep(settle) // what is old goes after what is new has settled
	s.wrote("move", map[string]int{
		"PATCH externalroutes": 2 * routes, "PATCH serviceentries": routes, "PATCH destinationrules": routes,
		"PATCH virtualservices": routes, "DELETE serviceentries": routes, "DELETE destinationrules": routes,
	})
}

// slowReader is a client whose reads of the cache take as long as an event.
func slowReader(config *rest.Config, options client.Options) (client.Client, error) {
	usual, err := client.NewWithWatch(config, options)
	if err != nil {
		return nil, err
	}
	sometimes := func() {
		if rand.N(2) == 0 {
			time.Sleep(rand.N(10 * time.Millisecond))
		}
	}
	return interceptor.NewClient(usual, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
			defer sometimes()
			return c.Get(ctx, key, object, options...)
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			defer sometimes()
			return c.List(ctx, list, options...)
		},
	}), nil
}

// wrote waits for the end of all work and compares the writes since the last call, by verb and resource.
func (s *story) wrote(what string, want map[string]int) {
	s.Helper()
	time.Sleep(settle)
	got := map[string]int{}
	for _, write := range s.requests.writes(s.namespace) {
		verb, path, _ := strings.Cut(write, " ")
		parts := strings.Split(path, "/")
		got[verb+" "+parts[slices.Index(parts, s.namespace)+1]]++
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.Errorf("%s: %s", what, diff)
	}
}

// What somebody creates between the operator's look and its write is theirs.
func TestAServiceThatIsCreatedMeanwhileIsNobodysPrey(t *testing.T) {
	c, err := startCluster(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	s := tellIn(t, c)
	theirs := service("web", map[string]string{"app": "web"}, 80)
	theirs.Namespace = s.namespace
	var once sync.Once
	first := func(config *rest.Config, options client.Options) (client.Client, error) {
		usual, err := client.NewWithWatch(config, options)
		if err != nil {
			return nil, err
		}
		return interceptor.NewClient(usual, interceptor.Funcs{
			Apply: func(ctx context.Context, cl client.WithWatch, object runtime.ApplyConfiguration, options ...client.ApplyOption) error {
				once.Do(func() { err = c.client.Create(ctx, theirs) })
				return errors.Join(err, cl.Apply(ctx, object, options...))
			},
		}), nil
	}
	if c.end, c.done, err = c.runOperator(labels.Everything(), first); err != nil {
		t.Fatal(err)
	}
	s.route("web", simple)
	s.ready("web")
	s.quiet("web")
	now := service("web", nil, 80)
	s.get("web", now)
	if diff := cmp.Diff(theirs.Spec, now.Spec); diff != "" {
		t.Error(diff)
	}
	for _, entry := range now.ManagedFields {
		if entry.Manager == "externalroute" {
			t.Errorf("the operator wrote to somebody else's Service: %s", entry.FieldsV1)
		}
	}
	s.delete(s.read("web"))
	s.only("Service/web")
}
