package controller

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/externalroute/externalroute/test/controlplane"
)

// Watches that begin anew end those before, and show everything again; those that are left show nothing any more.
func TestWatchesEndWhenOthersBegin(t *testing.T) {
	plane, err := controlplane.Start(controlplane.Options{Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plane.Stop() }()
	scheme := runtime.NewScheme()
	if err := networkingv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	cluster, err := client.NewWithWatch(plane.Config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	entry := &networkingv1.ServiceEntry{}
	entry.Namespace, entry.Name = "default", "web"
	entry.Spec.Hosts = []string{"web.example.com"}
	if err := cluster.Create(t.Context(), entry); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	created := 0
	objects := newIstioObjects(cluster, Options{}, handler.Funcs{CreateFunc: func(_ context.Context, e event.CreateEvent, _ queue) {
		mu.Lock()
		defer mu.Unlock()
		created++
		if !e.IsInInitialList {
			t.Errorf("%s was there before, and is told to be new", e.Object.GetName())
		}
	}})
	q := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	defer q.ShutDown()
	key := reference{"ServiceEntry", client.ObjectKeyFromObject(entry)}
	begin := func() *watching {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := errors.Join(objects.Start(t.Context(), q), objects.WaitForSync(ctx)); err != nil {
			t.Fatal(err)
		}
		if objects.at(key) == nil {
			t.Error("what is there is not shown")
		}
		return objects.watching
	}
	first := begin()
	second := begin()
	if err := objects.leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		first.running.Wait()
		second.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("watches go on that nobody needs")
	}
	if objects.at(key) != nil || objects.filled() {
		t.Error("what was left is still shown")
	}
	mu.Lock()
	defer mu.Unlock()
	if created != 2 {
		t.Errorf("told %d times, not once by each", created)
	}
}
