package cluster

import (
	"context"
	"fmt"
	"maps"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// Namespace is what is known of a namespace.
type Namespace struct {
	// Watched reports whether the operator knows the namespaces of the cluster, and Unreadable that it is not allowed to, or limited to some of them. Neither
	// holds while they have not been read yet.
	Watched, Unreadable bool
	// Found reports whether this one is among them. That of a route that has just been created may follow in a moment.
	Found  bool
	Labels map[string]string
}

// Namespace returns what is known of a namespace.
func (c *Cluster) Namespace(ctx context.Context, name string) (Namespace, error) {
	if c.namespaces == nil || !c.namespaces.known().Known {
		return Namespace{Unreadable: c.namespaces == nil || c.namespaces.denied.Load()}, nil
	}
	found := metadataOf("Namespace")
	err := c.cache.Get(ctx, types.NamespacedName{Name: name}, found)
	return Namespace{Watched: true, Found: err == nil, Labels: found.Labels}, client.IgnoreNotFound(err)
}

// patience is how long the controller waits for namespaces and policies.
const patience = 30 * time.Second

// metadataSource delays the controller until a kind has been read, or it is known that it cannot be: the first pass over a route then knows it, and a restart
// writes nothing.
type metadataSource struct{ *metadata }

var _ source.SyncingSource = metadataSource{}

func (s metadataSource) String() string { return s.plural }

// Start begins to read the kind.
func (s metadataSource) Start(_ context.Context, q queue) error {
	s.begin(q)
	return nil
}

// WaitForSync waits until the kind has been read or refused.
func (s metadataSource) WaitForSync(ctx context.Context) error {
	select {
	case <-s.answered:
	case <-time.After(patience):
		s.answer() // the operator goes on to read them, and then triggers a pass over every route
	case <-ctx.Done():
		return fmt.Errorf("read %s: %w", s.plural, context.Cause(ctx))
	}
	return nil
}

// onNamespace triggers passes over the routes of a namespace whose labels have changed, or that is seen after its routes.
func (c *Cluster) onNamespace() handler.EventHandler {
	wake := func(ctx context.Context, q queue, namespace client.Object) {
		c.trigger(ctx, q, func(w *wakeup) { w.add(c.routes(ctx, client.InNamespace(namespace.GetName()))) })
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			if !e.IsInInitialList { // when that is complete, there is a pass over every route
				wake(ctx, q, e.Object)
			}
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			if !maps.Equal(e.ObjectOld.GetLabels(), e.ObjectNew.GetLabels()) {
				wake(ctx, q, e.ObjectNew)
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, _ queue) { c.policies.Forget(e.Object.GetName()) },
	}
}

// stripNamespace keeps the labels of a namespace.
func stripNamespace(item any) (any, error) {
	if o, ok := item.(*metav1.PartialObjectMetadata); ok {
		o.ObjectMeta = metav1.ObjectMeta{Name: o.Name, UID: o.UID, ResourceVersion: o.ResourceVersion, Labels: o.Labels}
	}
	return item, nil // or a tombstone
}
