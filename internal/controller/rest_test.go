package controller_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// How a story learns, without waiting for a time, that the operator has nothing left to do:
//
//   - notice: the operator has received every change of a Service or of an object of Istio that was made before. It is shown that later changes, to
//     sentinels in another namespace, have been repaired: a watch keeps the order.
//   - pass: the operator has reconciled a route after the call began. An edit that means nothing raises the generation, and the status follows.
//   - rest: both, and twice the settle time has passed between.

const sentinels = "sentinels" // a namespace

var sentinelsMade atomic.Int64

// notice waits until the operator has received all changes so far of the kinds that it generates, and has put the routes that they concern into its queue.
func (s *story) notice() {
	s.Helper()
	there := &story{T: s.T, cluster: s.cluster, namespace: sentinels}
	// Two routes with two repairs each: a third one in a row may be delayed.
	for _, kinds := range [][]string{{"Service", "VirtualService"}, {"ServiceEntry", "DestinationRule"}} {
		name := fmt.Sprintf("sentinel-%d", sentinelsMade.Add(1))
		there.route(name, fmt.Sprintf("hosts: [%s]\ndestinations: [{url: 'https://%[1]s.example.com'}]", name))
		route := there.ready(name)
		deleted := there.resources(route, kinds...)
		for _, object := range deleted {
			there.delete(object)
		}
		there.until("the operator should repair its sentinel", func() string {
			for _, object := range deleted {
				now := object.DeepCopy()
				err := s.client.Get(s.Context(), client.ObjectKeyFromObject(object), now)
				if client.IgnoreNotFound(err) != nil {
					s.Fatal(err)
				}
				if err != nil || now.GetUID() == object.GetUID() {
					return object.GetKind() + " " + object.GetName() + " is missing"
				}
			}
			return ""
		})
		there.delete(route)
	}
}

// resources are the objects of some kinds that a route's status lists.
func (s *story) resources(route *v1alpha1.ExternalRoute, kinds ...string) []*unstructured.Unstructured {
	s.Helper()
	var objects []*unstructured.Unstructured
	for _, resource := range route.Status.Resources {
		if !slices.Contains(kinds, resource.Kind) {
			continue
		}
		object := &unstructured.Unstructured{}
		object.SetAPIVersion(resource.APIVersion)
		object.SetKind(resource.Kind)
		s.get(resource.Name, object)
		objects = append(objects, object)
	}
	if len(objects) != len(kinds) {
		s.Fatalf("%s lists %v, and not one of each %v", route.Name, route.Status.Resources, kinds)
	}
	return objects
}

// pass waits until the operator has reconciled routes that are not suspended, each after this call began.
func (s *story) pass(routes ...string) {
	s.Helper()
	generations := map[string]int64{}
	for _, name := range routes {
		generations[name] = s.touchSpec(name)
	}
	for name, generation := range generations {
		s.until("the operator should reconcile "+name, func() string {
			if observed := s.read(name).Status.ObservedGeneration; observed < generation {
				return fmt.Sprintf("the status is of generation %d, and not yet of %d", observed, generation)
			}
			return ""
		})
	}
}

// moment is less than any time that matters.
const moment = time.Millisecond

// after moves the clock and waits until the operator has reconciled routes at that time.
func (s *story) after(d time.Duration, routes ...string) {
	s.Helper()
	s.clock.step(d)
	s.pass(routes...)
}

// touchSpec edits a route so that it means the same, and returns its new generation: `suspend: false` comes or goes.
func (s *story) touchSpec(name string) int64 {
	s.Helper()
	route := &unstructured.Unstructured{}
	route.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind("ExternalRoute"))
	s.get(name, route)
	suspended, explicit, err := unstructured.NestedBool(route.Object, "spec", "suspend")
	if err != nil || suspended {
		s.Fatalf("%s is suspended, and any edit may matter to it: %v", name, err)
	}
	value := "false"
	if explicit {
		value = "null"
	}
	before := route.GetGeneration()
	patch := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"suspend":`+value+`}}`))
	if err := s.client.Patch(s.Context(), route, patch, client.FieldOwner("another-user")); err != nil {
		s.Fatal(err)
	}
	if route.GetGeneration() <= before {
		s.Fatalf("suspend: %s is no edit of %s any more", value, name)
	}
	return route.GetGeneration()
}

// rest waits until the operator has handled all that happened in the namespace, clean-up after moves included. It returns the operator's writes since the
// last call, without the statuses that the waiting itself takes.
func (s *story) rest() []string {
	s.Helper()
	s.notice()
	routes := s.working()
	const moves = 2 // traffic moves to what is new, then what is old goes
	for range moves {
		s.after(settle, routes...)
	}
	writes := s.requests.writes(s.namespace)
	for _, name := range routes {
		status := fmt.Sprintf("PATCH /apis/%s/namespaces/%s/externalroutes/%s/status", v1alpha1.SchemeGroupVersion, s.namespace, name)
		for range moves {
			if i := slices.Index(writes, status); i >= 0 {
				writes = slices.Delete(writes, i, i+1)
			}
		}
	}
	return writes
}

// working are the names of the namespace's routes that are not suspended.
func (s *story) working() []string {
	s.Helper()
	var names []string
	for _, route := range s.routes() {
		if !route.Spec.Suspend && route.DeletionTimestamp.IsZero() {
			names = append(names, route.Name)
		}
	}
	return names
}

func (s *story) routes() []v1alpha1.ExternalRoute {
	s.Helper()
	var routes v1alpha1.ExternalRouteList
	if err := s.client.List(s.Context(), &routes, client.InNamespace(s.namespace)); err != nil {
		s.Fatal(err)
	}
	return routes.Items
}

// quiet says that an operator at rest writes nothing, although each of the namespace's objects wakes it.
func (s *story) quiet() {
	s.Helper()
	s.rest()
	before := s.statuses()
	s.touchObjects()
	if writes := s.rest(); len(writes) > 0 {
		s.Errorf("wrote although nothing changed: %v", writes)
	}
	if diff := cmp.Diff(before, s.statuses()); diff != "" {
		s.Errorf("a status changed although nothing did:\n%s", diff)
	}
}

// statuses are those of the namespace's routes, without the generations that they are of.
func (s *story) statuses() map[string]v1alpha1.ExternalRouteStatus {
	s.Helper()
	all := map[string]v1alpha1.ExternalRouteStatus{}
	for _, route := range s.routes() {
		status := route.Status
		status.ObservedGeneration = 0
		for i := range status.Conditions {
			status.Conditions[i].ObservedGeneration = 0
		}
		all[route.Name] = status
	}
	return all
}

// touchObjects gives every Service and every object of Istio in the namespace a label that means nothing to the operator.
func (s *story) touchObjects() {
	s.Helper()
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"touched":"`+strconv.FormatInt(time.Now().UnixNano(), 10)+`"}}}`))
	for _, list := range generatedLists() {
		if err := s.client.List(s.Context(), list, client.InNamespace(s.namespace)); err != nil {
			s.Fatal(err)
		}
		eachObject(list, func(object client.Object) {
			if err := s.client.Patch(s.Context(), object, patch, client.FieldOwner("another-user")); err != nil && !apierrors.IsNotFound(err) {
				s.Fatal(err)
			}
		})
	}
}

// neverMore says that the operator wrote each resource at most as often as said since the last call, by VERB RESOURCE.
func (s *story) neverMore(what string, limits map[string]int) {
	s.Helper()
	got := map[string]int{}
	for _, write := range s.rest() {
		verb, path, _ := strings.Cut(write, " ")
		parts := strings.Split(path, "/")
		got[verb+" "+parts[slices.Index(parts, s.namespace)+1]]++
	}
	for key, times := range got {
		if times > limits[key] {
			s.Errorf("%s: %s %d times, and it should take %d", what, key, times, limits[key])
		}
	}
}

// later waits until what is created now is younger than an object: times of creation have whole seconds.
func (s *story) later(than client.Object) {
	s.Helper()
	s.until("the next second should begin", func() string {
		if now := time.Now().Truncate(time.Second); !now.After(than.GetCreationTimestamp().Time) {
			return now.String()
		}
		return ""
	})
}
