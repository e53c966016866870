package controller_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/test/controlplane"
)

// shared starts a cluster that two operators share by labels of routes.
func shared(t *testing.T) *cluster {
	t.Helper()
	c, err := startCluster(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	for _, shard := range []string{"a", "b"} {
		end, done, err := c.runOperator(labels.SelectorFromSet(labels.Set{"shard": shard}), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			end()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	return c
}

// A route that changes hands is neither lost nor written twice.
func TestTwoOperatorsShareACluster(t *testing.T) {
	c := shared(t)
	s := newStory(t, c)
	const routes = 20
	name := func(i int) string { return fmt.Sprintf("web-%02d", i) }
	label := func(i int, shard string) {
		edit(s, s.read(name(i)), func(r *v1alpha1.ExternalRoute) { r.Labels = map[string]string{"shard": shard} })
	}
	for i := range routes {
		s.route(name(i), fmt.Sprintf("hosts: [web-%d]\ndestinations: [{url: 'https://h%d.example.com'}]", i, i))
		label(i, []string{"a", "b"}[i%2])
	}
	for i := range routes {
		s.ready(name(i))
	}
	writes := s.requests.writes(s.namespace)
	slices.Sort(writes)
	for i := 1; i < len(writes); i++ {
		if writes[i] == writes[i-1] {
			t.Errorf("twice: %s", writes[i])
		}
	}
	before := s.versions()
	for i := range routes { // every route changes hands
		label(i, []string{"b", "a"}[i%2])
	}
	s.pass(s.working()...)
	if diff := cmp.Diff(before, s.versions()); diff != "" {
		t.Errorf("objects were written when their routes changed hands:\n%s", diff)
	}
	s.route(name(0), "hosts: [web-0]\ndestinations: [{url: 'https://elsewhere.example.com'}]") // the new hands work
	label(0, "b")
	s.until("the move should be made", func() string { return cmp.Diff("elsewhere.example.com", s.serves(name(0))) })
	s.delete(s.virtualService(name(1)))
	s.until("it should be made again", func() string {
		if len(s.objects()) < 4*routes {
			return fmt.Sprint(len(s.objects()))
		}
		return ""
	})
}

// An operator of some namespaces serves those, sees rivals there, and neither sees nor touches any other.
func TestOperatorReconcilesOnlyItsNamespaces(t *testing.T) {
	c, err := startCluster(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	first, second, other := newStory(t, c), newStory(t, c), newStory(t, c)
	if c.end, c.done, err = c.runOperator(labels.Everything(), nil, first.namespace, second.namespace); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*story{first, second, other} {
		s.route("web", simple)
	}
	first.ready("web")
	for _, s := range []*story{first, second} {
		s.ready("web")
		rival := virtualService("rival", ".", "shop")
		s.create(rival)
		s.route("shop", "hosts: [shop]\ndestinations: [{url: 'https://shop.example.com'}]")
		s.refused("shop", v1alpha1.ReasonHostConflict)
		s.delete(rival)
		s.ready("shop")
		s.delete(s.virtualService("web"))
		s.until("it should be made again", func() string { return cmpLen(8, s.objects()) })
	}
	far := virtualService("far", "*", "web."+first.namespace+".svc.cluster.local") // Istio lets those of the namespace win
	far.Namespace = other.namespace
	if err := c.client.Create(t.Context(), far); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*story{first, second} {
		s.pass("web", "shop")
		s.ready("web")
		s.ready("shop")
	}
	if left := other.objects(); len(left) != 1 {
		t.Errorf("in a namespace that is not watched are %v", left)
	}
	if said := other.read("web").Status.Conditions; meta.IsStatusConditionTrue(said, v1alpha1.ConditionReady) {
		t.Errorf("a route that is not watched has the status %v", said)
	}
}

// versions are the resource versions of the namespace's generated objects.
func (s *story) versions() map[string]string {
	s.Helper()
	versions := map[string]string{}
	for _, list := range generatedLists() {
		if err := s.client.List(s.Context(), list, client.InNamespace(s.namespace)); err != nil {
			s.Fatal(err)
		}
		eachObject(list, func(o client.Object) { versions[fmt.Sprintf("%T/%s", o, o.GetName())] = o.GetResourceVersion() })
	}
	return versions
}
