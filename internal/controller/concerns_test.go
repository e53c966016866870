package controller

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// Whatever becomes of routes, each is found by all that concerns it, once, and by nothing else.
func TestRoutesAreFoundByWhatConcernsThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		index := newConcerned(translate.DefaultClusterDomain)
		follow, routes := index.follow(), map[client.ObjectKey]*v1alpha1.ExternalRoute{}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			route := anyRoute(t)
			key := client.ObjectKeyFromObject(route)
			var passed bool
			switch before := routes[key]; {
			case before == nil:
				routes[key] = route
				passed = follow.Create(event.CreateEvent{Object: route})
			case rapid.Bool().Draw(t, "goes"):
				delete(routes, key)
				passed = follow.Delete(event.DeleteEvent{Object: before})
			default:
				routes[key] = route
				passed = follow.Update(event.UpdateEvent{ObjectOld: before, ObjectNew: route})
			}
			if !passed {
				t.Fatal("an event was held back")
			}
			want := map[concern][]string{}
			for key, route := range routes {
				for _, what := range concernsOf(route, translate.DefaultClusterDomain) {
					want[what] = append(want[what], key.String())
				}
			}
			if len(want) != len(index.routes) {
				t.Fatalf("%d concerns are kept, not %d", len(index.routes), len(want))
			}
			for what, keys := range want {
				var found []string
				for _, request := range index.by(what) {
					found = append(found, request.String())
				}
				slices.Sort(found)
				slices.Sort(keys)
				if diff := cmp.Diff(keys, found); diff != "" {
					t.Fatalf("%v concerns others:\n%s", what, diff)
				}
			}
		}
	})
}

// anyRoute is a route of one of two namespaces, whose hosts and destinations may be those of others.
func anyRoute(t *rapid.T) *v1alpha1.ExternalRoute {
	some := func(what string, names ...string) []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, len(names), rapid.ID).Draw(t, what)
	}
	route := &v1alpha1.ExternalRoute{}
	route.Namespace, route.Name = some("namespace", "a", "b")[0], some("name", "x", "y", "z")[0]
	for _, host := range some("hosts", "web", "shop.a", "shop.b", "api.example.com") {
		route.Spec.Hosts = append(route.Spec.Hosts, v1alpha1.RouteHost(host))
	}
	for i, host := range some("destinations", "api.example.com", "db.a.svc.cluster.local", "other.example.com") {
		d := v1alpha1.Destination{Name: fmt.Sprintf("d%d", i), URL: v1alpha1.URL("https://" + host)}
		if rapid.Bool().Draw(t, "own roots") {
			d.TLS = &v1alpha1.TLS{CAConfigMap: "roots"}
		}
		route.Spec.Destinations = append(route.Spec.Destinations, d)
	}
	return route
}
