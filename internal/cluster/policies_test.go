package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/conflict"
)

const (
	fleetPolicies   = 1000
	fleetNamespaces = 1000
	fleetTeams      = 100
	routesEach      = 10
)

// fleet is a cache of namespaces of teams, with routes in each, and counts the routes that are read.
type fleet struct {
	cache.Cache
	namespaces []metav1.PartialObjectMetadata
	routes     map[string][]v1alpha1.ExternalRoute
	read       int
}

func (f *fleet) List(_ context.Context, list client.ObjectList, options ...client.ListOption) error {
	switch list := list.(type) {
	case *metav1.PartialObjectMetadataList:
		list.Items = f.namespaces
	case *v1alpha1.ExternalRouteList:
		asked := (&client.ListOptions{}).ApplyOptions(options)
		for namespace, routes := range f.routes {
			if indexed := asked.FieldSelector != nil; !indexed && (asked.Namespace == "" || asked.Namespace == namespace) { // the routes themselves depend on nothing
				list.Items = append(list.Items, routes...)
			}
		}
		f.read += len(list.Items)
	default:
		return fmt.Errorf("lists %T", list)
	}
	return nil
}

func teamOf(i int) string { return fmt.Sprint("team-", i%fleetTeams) }

// newFleet is a cluster whose policies select the namespaces of one team each.
func newFleet() (*Cluster, *fleet) {
	f := &fleet{routes: map[string][]v1alpha1.ExternalRoute{}}
	for i := range fleetNamespaces {
		name := fmt.Sprint("namespace-", i)
		f.namespaces = append(f.namespaces, metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"team": teamOf(i)}}})
		for j := range routesEach {
			f.routes[name] = append(f.routes[name], v1alpha1.ExternalRoute{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: fmt.Sprint("route-", j)}})
		}
	}
	c := &Cluster{cache: f, namespaces: &metadata{}, policyObjects: &metadata{}}
	c.namespaces.filled.Store(true)
	c.policyObjects.filled.Store(true)
	for i := range fleetPolicies {
		c.policies.Put(fleetPolicy(i, teamOf(i)))
	}
	return c, f
}

func fleetPolicy(i int, team string) *v1alpha1.ExternalRoutePolicy {
	p := &v1alpha1.ExternalRoutePolicy{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("policy-", i), Generation: 1}}
	p.Spec.NamespaceSelector = &v1alpha1.NamespaceSelector{MatchLabels: map[string]v1alpha1.SelectedValue{"team": v1alpha1.SelectedValue(team)}}
	return p
}

// requests is a queue that counts what is added.
type requests struct {
	queue
	added map[reconcile.Request]int
}

func (r *requests) Add(request reconcile.Request) { r.added[request]++ }

// With 1,000 policies and 10,000 routes, a change triggers one pass over each route that it concerns, and reads no other route.
func TestHowManyPassesAChangeTriggers(t *testing.T) {
	every := func(int) bool { return true }
	of := func(teams ...string) func(int) bool {
		return func(i int) bool { return slices.Contains(teams, teamOf(i)) }
	}
	before, after := fleetPolicy(7, teamOf(7)), fleetPolicy(7, teamOf(8))
	after.Generation = 2
	all := fleetPolicy(7, "")
	all.Generation, all.Spec.NamespaceSelector = 2, nil
	status := fleetPolicy(7, teamOf(7))
	status.Status.ObservedGeneration = 1
	labelled, renamed := namespaceOf(7, "team"), namespaceOf(7, "renamed")
	for name, c := range map[string]struct {
		change func(context.Context, *Cluster, queue)
		// concerns are the namespaces, by number, and policy is the policy whose status may follow.
		concerns func(i int) bool
		policy   string
	}{
		"the labels of a namespace change": {func(ctx context.Context, c *Cluster, q queue) {
			c.onNamespace().Update(ctx, event.UpdateEvent{ObjectOld: labelled, ObjectNew: renamed}, q)
		}, func(i int) bool { return i == 7 }, ""},
		"a namespace is updated and has the same labels": {func(ctx context.Context, c *Cluster, q queue) {
			c.onNamespace().Update(ctx, event.UpdateEvent{ObjectOld: labelled, ObjectNew: labelled}, q)
		}, nil, ""},
		"a policy is created": {func(ctx context.Context, c *Cluster, q queue) {
			c.onPolicy().Create(ctx, event.CreateEvent{Object: fleetPolicy(fleetPolicies, teamOf(7))}, q)
		}, of(teamOf(7)), "policy-1000"},
		"a policy is read at the start": {func(ctx context.Context, c *Cluster, q queue) {
			c.onPolicy().Create(ctx, event.CreateEvent{Object: before, IsInInitialList: true}, q)
		}, nil, "policy-7"},
		"a policy moves to another team": {func(ctx context.Context, c *Cluster, q queue) {
			c.onPolicy().Update(ctx, event.UpdateEvent{ObjectOld: before, ObjectNew: after}, q)
		}, of(teamOf(7), teamOf(8)), "policy-7"},
		"a policy begins to select every namespace": {func(ctx context.Context, c *Cluster, q queue) {
			c.onPolicy().Update(ctx, event.UpdateEvent{ObjectOld: before, ObjectNew: all}, q)
		}, every, "policy-7"},
		"the status of a policy changes": {func(ctx context.Context, c *Cluster, q queue) {
			c.onPolicy().Update(ctx, event.UpdateEvent{ObjectOld: before, ObjectNew: status}, q)
		}, nil, "policy-7"},
		"a policy goes": {func(ctx context.Context, c *Cluster, q queue) {
			c.onPolicy().Delete(ctx, event.DeleteEvent{Object: before}, q)
		}, of(teamOf(7)), ""},
	} {
		t.Run(name, func(t *testing.T) {
			cluster, f := newFleet()
			want := map[reconcile.Request]int{}
			for i := range fleetNamespaces {
				for j := range routesEach {
					if c.concerns != nil && c.concerns(i) {
						want[reconcile.Request{NamespacedName: types.NamespacedName{Namespace: fmt.Sprint("namespace-", i), Name: fmt.Sprint("route-", j)}}] = 1
					}
				}
			}
			routes := len(want)
			if c.policy != "" {
				want[reconcile.Request{NamespacedName: types.NamespacedName{Name: c.policy}}] = 1
			}
			q := &requests{added: map[reconcile.Request]int{}}
			c.change(t.Context(), cluster, q)
			if !maps.Equal(want, q.added) {
				t.Errorf("adds %d requests, and not these %d once each\n%s", len(q.added), len(want), cmp.Diff(want, q.added))
			}
			if f.read != routes {
				t.Errorf("reads %d routes to find %d", f.read, routes)
			}
		})
	}
}

// The routes for which a policy sets a gateway depend on it, and only they do.
func TestDependentsOfTheGatewayOfAPolicy(t *testing.T) {
	c, f := newFleet()
	c.options.ClusterDomain = "cluster.local"
	through := fleetPolicy(7, teamOf(7))
	through.Spec.EgressGateway = &v1alpha1.GatewayReference{Name: "east", Namespace: "edge"}
	c.policies.Put(through)
	const host = "east.edge.svc.cluster.local"
	team := fleetNamespaces / fleetTeams * routesEach
	for name, asked := range map[string]struct {
		dependency dependency
		name       conflict.Name
		want       int
	}{
		"its Service":                 {dependsOnService, conflict.Name{Namespace: "edge", Host: "east"}, team},
		"another Service":             {dependsOnService, conflict.Name{Namespace: "edge", Host: "west"}, 0},
		"a Gateway":                   {dependsOnGateways, conflict.Name{}, team},
		"a DestinationRule beside it": {dependsOnUpstream, conflict.Name{Namespace: "edge", Host: host}, team},
		"... by its short name":       {dependsOnUpstream, conflict.Name{Namespace: "edge", Host: "east"}, team},
		"a DestinationRule in the namespace of some routes": {dependsOnUpstream, conflict.Name{Namespace: "namespace-7", Host: host}, routesEach},
		"... in another namespace":                          {dependsOnUpstream, conflict.Name{Namespace: "namespace-8", Host: host}, 0},
		"a DestinationRule for another host":                {dependsOnUpstream, conflict.Name{Namespace: "namespace-7", Host: "a.example.com"}, 0},
	} {
		f.read = 0
		found, err := c.dependents(t.Context(), metav1.NamespaceAll, asked.dependency, asked.name)
		if err != nil {
			t.Fatal(err)
		}
		names := map[types.NamespacedName]bool{}
		for i := range found {
			names[client.ObjectKeyFromObject(&found[i])] = true
		}
		if len(names) != asked.want {
			t.Errorf("%s: %d routes, want %d", name, len(names), asked.want)
		}
	}
}

func namespaceOf(i int, label string) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("namespace-", i), Labels: map[string]string{label: teamOf(i)}}}
}

func TestPolicyUses(t *testing.T) {
	c, f := newFleet()
	c.policies.Put(fleetPolicy(0, "nobody"))
	all := fleetPolicy(1, "")
	all.Spec.NamespaceSelector = nil
	c.policies.Put(all)
	f.routes["namespace-2"] = nil
	want := map[string]PolicyUse{}
	for i := range fleetPolicies {
		use := PolicyUse{Namespaces: fleetNamespaces / fleetTeams, Routes: fleetNamespaces / fleetTeams * routesEach}
		if teamOf(i) == teamOf(2) {
			use.Routes -= routesEach
		}
		want[fmt.Sprint("policy-", i)] = use
	}
	want["policy-0"] = PolicyUse{}
	want["policy-1"] = PolicyUse{Namespaces: fleetNamespaces, Routes: (fleetNamespaces - 1) * routesEach}
	uses := func() map[string]PolicyUse {
		got, err := c.PolicyUses(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if diff := cmp.Diff(want, uses()); diff != "" {
		t.Error(diff)
	}
	c.namespaces.filled.Store(false)
	if got := uses(); len(got) > 0 {
		t.Errorf("without namespaces, answers %d uses", len(got))
	}
	c.namespaces, c.policyObjects = nil, nil
	if got := uses(); len(got) > 0 {
		t.Errorf("an operator of some namespaces answers %d uses", len(got))
	}
}

// What the policies add to a scrape of the metrics.
func BenchmarkPolicyUses(b *testing.B) {
	c, _ := newFleet()
	for b.Loop() {
		if _, err := c.PolicyUses(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
