//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// few is a cluster with hardly a route, against which one with all is held.
const few = 10

// measureRun measures floor and operator with a number of routes. With an error it returns what was measured until then.
func (b *bench) measureRun(ctx context.Context, n int, existing bool) (*oneRun, error) {
	r := &oneRun{Routes: n, Services: servicesCreated}
	if existing {
		r.Services = servicesExist
	}
	fmt.Println(r)
	if existing {
		routes := append(append(routesFor("bulk", n), routesFor("few", few)...), routesFor("lone", b.settings.lone)...)
		if err := b.createServices(ctx, routes); err != nil {
			return r, err
		}
		defer func() { _ = b.deleteServices(context.WithoutCancel(ctx), routes) }()
	}
	var err error
	if r.Floor, err = b.measureFloor(ctx, "floor", n, existing); err != nil {
		return r, err
	}
	if err := b.measureOperator(ctx, r, n, existing); err != nil {
		return r, err
	}
	r.FloorAgain, err = b.measureFloor(ctx, "floor again", n, existing)
	return r, err
}

// measureOperator takes an operator through the life of some routes.
func (b *bench) measureOperator(ctx context.Context, r *oneRun, n int, existing bool) error {
	before, err := b.population(ctx, generatedKinds...)
	if err != nil {
		return err
	}
	o, err := b.startOperator()
	if err != nil {
		return err
	}
	l := &life{bench: b, oneRun: r, operator: o, existing: existing, routes: routesFor("bulk", n)}
	defer func() { _, _ = l.operator.stop() }()
	steps := []struct {
		name string
		take func(context.Context) error
	}{
		{"lone", l.lone},
		{"few", l.few},
		{"bulk", l.bulk},
		{"idle", l.idle},
		{"one", l.oneAmongAll},
		{"drift", l.drift},
		{"restart", l.restart},
		{"failover", l.failover},
		{"edit", l.edit},
	}
	if err := l.beginning(ctx); err != nil {
		return err
	}
	for _, step := range steps {
		if step.name != "bulk" && !b.settings.steps.has(step.name) {
			continue
		}
		if err := step.take(ctx); err != nil {
			return err
		}
	}
	return l.deletion(ctx, before)
}

// life is an operator with its routes.
type life struct {
	*bench
	*oneRun
	operator *operator
	existing bool
	routes   []*v1alpha1.ExternalRoute
}

func (l *life) add(p *phase, err error) error {
	if err == nil {
		l.Phases = append(l.Phases, p)
	}
	return err
}

func (l *life) phase(ctx context.Context, name string, count int, do func(context.Context) (time.Duration, error)) (*phase, error) {
	p, err := l.measure(ctx, name, count, l.operator, do)
	return p, l.add(p, err)
}

// beginning looks at the operator with nothing to do.
func (l *life) beginning(ctx context.Context) error {
	_, err := l.operator.await(ctx, 20*time.Millisecond, time.Minute, func(work) bool { return true })
	if err != nil {
		return err
	}
	l.Empty, err = l.phase(ctx, "empty", 0, func(ctx context.Context) (time.Duration, error) {
		return l.settings.idle, pause(ctx, l.settings.idle)
	})
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lone applies routes one by one on an idle machine.
func (l *life) lone(ctx context.Context) (err error) {
	routes := routesFor("lone", l.settings.lone)
	var toObjects, toReady []time.Duration
	l.Lone, err = l.phase(ctx, "one apply at a time", len(routes), func(ctx context.Context) (time.Duration, error) {
		for _, route := range routes {
			began := time.Now()
			if err := l.applyRoute(ctx, route); err != nil {
				return 0, err
			}
			objects, ready, err := l.awaitRoutes(ctx, 1, route)
			if err != nil {
				return 0, err
			}
			key := client.ObjectKeyFromObject(route)
			toObjects, toReady = append(toObjects, objects[key].Sub(began)), append(toReady, ready[key].Sub(began))
			if err := pause(ctx, 50*time.Millisecond); err != nil {
				return 0, err
			}
		}
		return sum(toReady), nil
	})
	if err != nil {
		return err
	}
	l.Lone.ToObjects, l.Lone.ToReady = spansOf(toObjects), spansOf(toReady)
	return l.forget(ctx, routes)
}

// forget deletes routes and waits until nothing is left of them.
func (l *life) forget(ctx context.Context, routes []*v1alpha1.ExternalRoute) error {
	before, err := l.population(ctx, virtualServiceKind, routeKind)
	if err != nil {
		return err
	}
	for kind := range before {
		before[kind] -= int64(len(routes))
	}
	for _, route := range routes {
		if err := l.client.Delete(ctx, route.DeepCopy()); err != nil {
			return err
		}
	}
	return l.awaitPopulation(ctx, before)
}

func sum(durations []time.Duration) time.Duration {
	var total time.Duration
	for _, d := range durations {
		total += d
	}
	return total
}

// applyRoute applies a route as kubectl apply --server-side does.
func (b *bench) applyRoute(ctx context.Context, route *v1alpha1.ExternalRoute) error {
	body, err := json.Marshal(map[string]any{
		"apiVersion": route.APIVersion, "kind": route.Kind, "spec": route.Spec,
		"metadata": map[string]any{"name": route.Name, "namespace": route.Namespace},
	})
	if err != nil {
		return err
	}
	return b.rest.Patch(types.ApplyPatchType).AbsPath(pathOf(routeKind, route)).Param("fieldManager", "bench").Body(body).Do(ctx).Error()
}

func (b *bench) awaitRoutes(ctx context.Context, generation int64, routes ...*v1alpha1.ExternalRoute) (objects, ready map[types.NamespacedName]time.Time, err error) {
	if ready, err = b.seen.await(ctx, b.settings.timeout, b.seen.ready, at(generation, routes)); err != nil {
		return nil, nil, fmt.Errorf("wait for Ready: %w", err)
	}
	objects, err = b.seen.await(ctx, b.settings.timeout, b.seen.written, at(1, routes))
	return objects, ready, err
}

// few changes one of few routes.
func (l *life) few(ctx context.Context) error {
	routes := routesFor("few", few)
	if _, err := l.create(ctx, routes); err != nil {
		return err
	}
	if _, _, err := l.awaitRoutes(ctx, 1, routes...); err != nil {
		return err
	}
	var err error
	if l.EditFew, err = l.editOne(ctx, fmt.Sprintf("one edit among %d", few), routes); err != nil {
		return err
	}
	if l.existing {
		if l.ServiceFew, err = l.changeService(ctx, fmt.Sprintf("one Service change among %d", few), routes); err != nil {
			return err
		}
	}
	return l.forget(ctx, routes)
}

// oneAmongAll changes one of all routes.
func (l *life) oneAmongAll(ctx context.Context) (err error) {
	if l.EditAll, err = l.editOne(ctx, fmt.Sprintf("one edit among %d", len(l.routes)), l.routes); err != nil {
		return err
	}
	if l.existing {
		l.ServiceAll, err = l.changeService(ctx, fmt.Sprintf("one Service change among %d", len(l.routes)), l.routes)
	}
	return err
}

// editOne edits one route at a time, in place, and waits each time until it is Ready.
func (l *life) editOne(ctx context.Context, name string, routes []*v1alpha1.ExternalRoute) (*phase, error) {
	var toReady []time.Duration
	p, err := l.phase(ctx, name, l.settings.changes, func(ctx context.Context) (time.Duration, error) {
		for i := range l.settings.changes {
			route := routes[i*7919%len(routes)]
			began := time.Now()
			patch := fmt.Sprintf(`{"spec":{"rules":[{"timeout":"%ds"}]}}`, i+1)
			if err := l.client.Patch(ctx, route, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
				return 0, err
			}
			_, ready, err := l.awaitRoutes(ctx, route.Generation, route)
			if err != nil {
				return 0, err
			}
			toReady = append(toReady, ready[client.ObjectKeyFromObject(route)].Sub(began))
		}
		return sum(toReady), nil
	})
	if err == nil {
		p.ToReady = spansOf(toReady)
	}
	return p, err
}

// changeService adds an HTTP port to a Service, or takes it away, and waits each time until its route's VirtualService says so.
func (l *life) changeService(ctx context.Context, name string, routes []*v1alpha1.ExternalRoute) (*phase, error) {
	var toObjects []time.Duration
	p, err := l.phase(ctx, name, l.settings.changes, func(ctx context.Context) (time.Duration, error) {
		for i := range l.settings.changes {
			route := routes[i/2*7919%len(routes)]
			ports := []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}, {Name: "http-other", Port: 8080, Protocol: corev1.ProtocolTCP}}
			patch, err := json.Marshal(map[string]any{"spec": map[string]any{"ports": ports[:2-i%2]}})
			if err != nil {
				return 0, err
			}
			key := client.ObjectKeyFromObject(route)
			want := map[types.NamespacedName]int64{key: l.seen.generation(key) + 1}
			service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: string(route.Spec.Hosts[0]), Namespace: route.Namespace}}
			began := time.Now()
			if err := l.client.Patch(ctx, service, client.RawPatch(types.MergePatchType, patch)); err != nil {
				return 0, err
			}
			seen, err := l.seen.await(ctx, time.Minute, l.seen.written, want)
			if err != nil {
				return 0, fmt.Errorf("change %d: %w", i, err)
			}
			toObjects = append(toObjects, seen[key].Sub(began))
		}
		return sum(toObjects), nil
	})
	if err == nil {
		p.ToObjects = spansOf(toObjects)
	}
	return p, err
}

// bulk creates all routes at once.
func (l *life) bulk(ctx context.Context) (err error) {
	var toObjects, toReady []time.Duration
	profiled := l.profileCPU(ctx, "bulk", max(10, len(l.routes)/100))
	l.Bulk, err = l.phase(ctx, "bulk", len(l.routes), func(ctx context.Context) (time.Duration, error) {
		began := time.Now()
		sent, err := l.create(ctx, l.routes)
		if err != nil {
			return 0, err
		}
		creating := time.Since(began)
		objects, ready, err := l.awaitRoutes(ctx, 1, l.routes...)
		if err != nil {
			return 0, err
		}
		keys := make([]types.NamespacedName, len(l.routes))
		last := began.Add(creating)
		for i, route := range l.routes {
			keys[i] = client.ObjectKeyFromObject(route)
			if ready[keys[i]].After(last) {
				last = ready[keys[i]]
			}
		}
		toObjects, toReady = since(sent, keys, objects), since(sent, keys, ready)
		return last.Sub(began), nil
	})
	if err != nil {
		return err
	}
	l.Bulk.ToObjects, l.Bulk.ToReady = spansOf(toObjects), spansOf(toReady)
	err = <-profiled
	if l.settings.profiles != "" && err == nil {
		err = errors.Join(l.profile(ctx, "heap", "heap?gc=1"), l.profile(ctx, "allocs", "allocs"))
	}
	return err
}

// profileCPU fetches a CPU profile of the operator from now on, if it is asked to.
func (l *life) profileCPU(ctx context.Context, name string, seconds int) <-chan error {
	done := make(chan error, 1)
	if l.settings.profiles == "" {
		done <- nil
		return done
	}
	o := l.operator
	go func() { // the operator may have begun just now
		if _, err := o.await(ctx, 5*time.Millisecond, time.Minute, func(work) bool { return true }); err != nil {
			done <- err
			return
		}
		done <- l.profile(ctx, "cpu-"+name, fmt.Sprintf("profile?seconds=%d", seconds))
	}()
	return done
}

func (l *life) profile(ctx context.Context, name, query string) error {
	content, err := fetch(ctx, l.operator.pprof+query)
	if err != nil {
		return fmt.Errorf("fetch the %s profile: %w", name, err)
	}
	return os.WriteFile(filepath.Join(l.settings.profiles, fmt.Sprintf("%s-%d.pprof", name, len(l.routes))), content, 0o600)
}

// idle counts what is written while nothing happens.
func (l *life) idle(ctx context.Context) (err error) {
	l.Idle, err = l.phase(ctx, "idle", len(l.routes), func(ctx context.Context) (time.Duration, error) {
		return l.settings.idle, pause(ctx, l.settings.idle)
	})
	return err
}

// drift edits generated objects behind the operator's back, all at once.
func (l *life) drift(ctx context.Context) error {
	routes := l.routes[:min(l.settings.drift, len(l.routes))]
	want := map[types.NamespacedName]int64{}
	for _, route := range routes {
		key := client.ObjectKeyFromObject(route)
		want[key] = l.seen.generation(key) + 2 // the edit, and the repair
	}
	sent := make([]time.Time, len(routes))
	var repaired []time.Duration
	p, err := l.phase(ctx, "drift storm", len(routes), func(ctx context.Context) (time.Duration, error) {
		began := time.Now()
		err := l.parallel(ctx, len(routes), func(ctx context.Context, i int) error {
			sent[i] = time.Now()
			return l.rest.Patch(types.MergePatchType).AbsPath(pathOf(virtualServiceKind, routes[i])).Param("fieldManager", "another-client").
				Body([]byte(`{"spec":{"hosts":["drifted"]}}`)).Do(ctx).Error()
		})
		if err != nil {
			return 0, err
		}
		seen, err := l.seen.await(ctx, l.settings.timeout, l.seen.written, want)
		if err != nil {
			return 0, err
		}
		keys, last := make([]types.NamespacedName, len(routes)), began
		for i, route := range routes {
			keys[i] = client.ObjectKeyFromObject(route)
			if seen[keys[i]].After(last) {
				last = seen[keys[i]]
			}
		}
		repaired = since(sent, keys, seen)
		return last.Sub(began), nil
	})
	if err == nil {
		p.ToObjects = spansOf(repaired)
	}
	return err
}

// restart stops the operator and starts another.
func (l *life) restart(ctx context.Context) (err error) {
	l.Restart, err = l.again(ctx, "restart")
	return err
}

// again replaces the operator by a new one, and waits until that has looked at every route.
func (l *life) again(ctx context.Context, name string, arguments ...string) (*phase, error) {
	if _, err := l.operator.stop(); err != nil {
		return nil, err
	}
	next, err := l.startOperator(arguments...)
	if err != nil {
		return nil, err
	}
	l.operator = next
	profiled := l.profileCPU(ctx, "restart", max(5, len(l.routes)/1000))
	p, err := l.phase(ctx, name, len(l.routes), func(ctx context.Context) (time.Duration, error) {
		looked := func(w work) bool { return w.reconciles >= float64(len(l.routes)) && w.waiting == 0 }
		at, err := next.awaitRest(ctx, l.settings.timeout, looked)
		return at.Sub(next.began), err
	})
	return p, errors.Join(err, <-profiled)
}

// failover stops the leader while a second replica stands by, some times, and edits a route: when that is Ready, another replica has taken over. (To ask the
// new leader for its metrics would take a part of the time that is measured.)
func (l *life) failover(ctx context.Context) error {
	var ends, reactions []time.Duration
	for i := range l.settings.failovers {
		next, err := l.startOperator()
		if err != nil {
			return err
		}
		warm := func(w work) bool { return w.waiting >= float64(len(l.routes)) }
		if _, err := next.await(ctx, 100*time.Millisecond, l.settings.timeout, warm); err != nil {
			return fmt.Errorf("warm up a second replica: %w", err)
		}
		ending, err := l.operator.stop()
		if err != nil {
			return err
		}
		ended := time.Now()
		l.operator = next
		route := l.routes[i*7919%len(l.routes)]
		patch := fmt.Sprintf(`{"spec":{"rules":[{"timeout":"%dm"}]}}`, i+1)
		if err := l.client.Patch(ctx, route, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
			return err
		}
		_, ready, err := l.awaitRoutes(ctx, route.Generation, route)
		if err != nil {
			return err
		}
		ends, reactions = append(ends, ending), append(reactions, ready[client.ObjectKeyFromObject(route)].Sub(ended))
		if _, err := next.quiet(ctx, l.settings.timeout); err != nil {
			return err
		}
	}
	l.Failover, l.Ending = spansOf(reactions), spansOf(ends)
	return nil
}

// edit moves every route to another host, with a settle time that leaves something to be seen beside it.
func (l *life) edit(ctx context.Context) error {
	if _, err := l.again(ctx, "restart with -settle "+l.settings.settle.String(), "--settle="+l.settings.settle.String()); err != nil {
		return err
	}
	before, err := l.population(ctx, serviceEntryKind, destinationRuleKind)
	if err != nil {
		return err
	}
	sent, want := make([]time.Time, len(l.routes)), map[types.NamespacedName]int64{}
	var toReady []time.Duration
	p, err := l.phase(ctx, "mass edit", len(l.routes), func(ctx context.Context) (time.Duration, error) {
		began := time.Now()
		err := l.parallel(ctx, len(l.routes), func(ctx context.Context, i int) error {
			route := l.routes[i]
			sent[i] = time.Now()
			patch := fmt.Sprintf(`{"spec":{"destinations":[{"name":"primary","url":"https://%s.example.org/v2"}]}}`, route.Name)
			return l.client.Patch(ctx, route, client.RawPatch(types.MergePatchType, []byte(patch)))
		})
		if err != nil {
			return 0, err
		}
		keys := make([]types.NamespacedName, len(l.routes))
		for i, route := range l.routes {
			keys[i] = client.ObjectKeyFromObject(route)
			want[keys[i]] = route.Generation
		}
		ready, err := l.seen.await(ctx, l.settings.timeout, l.seen.ready, want)
		if err != nil {
			return 0, err
		}
		toReady = since(sent, keys, ready)
		err = l.awaitPopulation(ctx, before) // what the old hosts had is gone
		return time.Since(began), err
	})
	if err == nil {
		p.ToReady = spansOf(toReady)
	}
	return err
}

// deletion deletes all routes and waits for the garbage collector.
func (l *life) deletion(ctx context.Context, before map[schema.GroupVersionResource]int64) error {
	_, err := l.phase(ctx, "mass delete", len(l.routes), func(ctx context.Context) (time.Duration, error) {
		began := time.Now()
		if err := l.deleteAll(ctx, routeKind); err != nil {
			return 0, err
		}
		err := l.awaitPopulation(ctx, before)
		return time.Since(began), err
	})
	return err
}
