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

// namespacesPatience is how long the controller waits for the namespaces: they decide about one condition.
const namespacesPatience = 30 * time.Second

// namespaceSource delays the controller until the namespaces have been read, or it is known that they cannot be: the first pass over a route then knows its
// namespace, and a restart writes nothing.
type namespaceSource struct{ *metadata }

var _ source.SyncingSource = namespaceSource{}

func (s namespaceSource) String() string { return "namespaces" }

// Start begins to read the namespaces.
func (s namespaceSource) Start(_ context.Context, q queue) error {
	s.begin(q)
	return nil
}

// WaitForSync waits until they have been read or refused.
func (s namespaceSource) WaitForSync(ctx context.Context) error {
	select {
	case <-s.answered:
	case <-time.After(namespacesPatience):
		s.answer() // the operator goes on to read them, and then triggers a pass over every route
	case <-ctx.Done():
		return fmt.Errorf("read namespaces: %w", context.Cause(ctx))
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
	}
}

// stripNamespace keeps the labels of a namespace.
func stripNamespace(item any) (any, error) {
	if o, ok := item.(*metav1.PartialObjectMetadata); ok {
		o.ObjectMeta = metav1.ObjectMeta{Name: o.Name, UID: o.UID, ResourceVersion: o.ResourceVersion, Labels: o.Labels}
	}
	return item, nil // or a tombstone
}
