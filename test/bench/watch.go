//go:build linux

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	toolswatch "k8s.io/client-go/tools/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// moment is a generation of an object, and when it was first seen.
type moment struct {
	generation int64
	at         time.Time
}

// observed are what the bench's own watches have seen.
type observed struct {
	mu sync.Mutex
	// ready are the generations for which routes were Ready.
	ready map[types.NamespacedName]moment
	// written are the generations of VirtualServices, which are the last objects that a route writes.
	written map[types.NamespacedName]moment
}

// watchAll begins to watch routes and VirtualServices.
func (b *bench) watchAll(ctx context.Context) error {
	b.seen = &observed{ready: map[types.NamespacedName]moment{}, written: map[types.NamespacedName]moment{}}
	routes := &cache.ListWatch{WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		return b.client.Watch(ctx, &v1alpha1.ExternalRouteList{}, &client.ListOptions{Raw: &options})
	}}
	if err := b.follow(ctx, routeKind, routes, b.seen.route); err != nil {
		return fmt.Errorf("watch routes: %w", err)
	}
	virtualServices := &cache.ListWatch{WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		return b.metadata.Resource(virtualServiceKind).Watch(ctx, options)
	}}
	if err := b.follow(ctx, virtualServiceKind, virtualServices, b.seen.virtualService); err != nil {
		return fmt.Errorf("watch VirtualServices: %w", err)
	}
	return nil
}

func (b *bench) follow(ctx context.Context, kind schema.GroupVersionResource, watcher cache.WatcherWithContext, see func(watch.Event)) error {
	now, err := b.metadata.Resource(kind).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return err
	}
	events, err := toolswatch.NewRetryWatcherWithContext(ctx, now.ResourceVersion, watcher)
	if err != nil {
		return err
	}
	go func() {
		for event := range events.ResultChan() {
			see(event)
		}
	}()
	return nil
}

func (s *observed) route(event watch.Event) {
	route, ok := event.Object.(*v1alpha1.ExternalRoute)
	if !ok {
		return
	}
	ready := meta.IsStatusConditionTrue(route.Status.Conditions, v1alpha1.ConditionReady) && route.Status.ObservedGeneration == route.Generation
	s.note(s.ready, event.Type, route, ready)
}

func (s *observed) virtualService(event watch.Event) {
	if object, ok := event.Object.(*metav1.PartialObjectMetadata); ok {
		s.note(s.written, event.Type, object, true)
	}
}

func (s *observed) note(in map[types.NamespacedName]moment, kind watch.EventType, object client.Object, counts bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := client.ObjectKeyFromObject(object)
	switch {
	case kind == watch.Deleted:
		delete(in, key)
	case kind != watch.Added && kind != watch.Modified:
	case counts && in[key].generation < object.GetGeneration():
		in[key] = moment{generation: object.GetGeneration(), at: time.Now()}
	}
}

// await waits until all keys were seen at a generation or a later one, and returns when each of them was.
func (s *observed) await(
	ctx context.Context, timeout time.Duration, in map[types.NamespacedName]moment, want map[types.NamespacedName]int64,
) (map[types.NamespacedName]time.Time, error) {
	at := map[types.NamespacedName]time.Time{}
	poll := min(100*time.Millisecond, time.Duration(len(want))*time.Millisecond) // the moments are exact, whenever we look
	err := wait.PollUntilContextTimeout(ctx, poll, timeout, true, func(context.Context) (bool, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for key, generation := range want {
			if m, found := in[key]; found && m.generation >= generation && at[key].IsZero() {
				at[key] = m.at
			}
		}
		return len(at) == len(want), nil
	})
	if err != nil {
		return nil, fmt.Errorf("%d of %d were seen: %w", len(at), len(want), err)
	}
	return at, nil
}

// generation is the one at which a VirtualService was seen last.
func (s *observed) generation(key types.NamespacedName) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written[key].generation
}
