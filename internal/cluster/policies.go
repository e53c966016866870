package cluster

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/policy"
)

// Scope returns what the routes of a namespace may reach. It is only known if the policies are and, if there are any, the labels
// of the namespace.
func (c *Cluster) Scope(name string, namespace Namespace) (*policy.Scope, Knowledge) {
	if c.policyObjects == nil {
		return nil, Knowledge{Why: "it watches only some namespaces"}
	}
	known := c.policyObjects.known()
	switch {
	case !known.Known:
		return nil, known
	case c.policies.Len() == 0: // whatever the labels are
		return &policy.Scope{}, known
	case !namespace.Watched:
		return nil, c.namespaces.known()
	case !namespace.Found:
		return nil, Knowledge{}
	}
	return c.policies.For(name, namespace.Labels), known
}

// leading returns the routes of a namespace, or of all, whose policies name one of the egress gateways asked for.
func (c *Cluster) leading(ctx context.Context, namespace string, asked func(v1alpha1.GatewayReference) bool) ([]v1alpha1.ExternalRoute, error) {
	selects := c.policies.Leading(asked)
	if selects == nil {
		return nil, nil
	}
	return c.routesOf(ctx, namespace, selects)
}

// routesOf returns the routes of a namespace, or of all, if a policy selects it, as far as namespaces have been read.
func (c *Cluster) routesOf(ctx context.Context, namespace string, selects policy.Selects) ([]v1alpha1.ExternalRoute, error) {
	namespaces := metadataListOf("Namespace")
	if err := c.cache.List(ctx, namespaces, client.UnsafeDisableDeepCopy); err != nil {
		return nil, nil //nolint:nilerr // they have not been read yet: when they are, there is a pass over every route
	}
	var all []v1alpha1.ExternalRoute
	for i := range namespaces.Items {
		if n := &namespaces.Items[i]; (namespace == metav1.NamespaceAll || n.Name == namespace) && selects(n.Labels) {
			routes, err := c.routes(ctx, client.InNamespace(n.Name))
			if err != nil {
				return nil, err
			}
			all = append(all, routes...)
		}
	}
	return all, nil
}

// Policy returns a policy, nil if there is none.
func (c *Cluster) Policy(ctx context.Context, name string) (*v1alpha1.ExternalRoutePolicy, error) {
	found := &v1alpha1.ExternalRoutePolicy{}
	if err := c.cache.Get(ctx, client.ObjectKey{Name: name}, found); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return found, nil
}

// PolicyUse is how much a policy concerns.
type PolicyUse struct {
	// Namespaces are those of the cluster that it selects.
	Namespaces int
	// Routes are those of this operator in these namespaces.
	Routes int
}

// PolicyUses returns how much each policy concerns, by its name, and nothing unless policies and namespaces are known.
func (c *Cluster) PolicyUses(ctx context.Context) (map[string]PolicyUse, error) {
	if c.policyObjects == nil || !c.policyObjects.known().Known || !c.namespaces.known().Known {
		return nil, nil
	}
	namespaces := metadataListOf("Namespace")
	if err := c.cache.List(ctx, namespaces, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	routes, err := c.routes(ctx)
	if err != nil {
		return nil, err
	}
	routesIn := map[string]int{}
	for i := range routes {
		routesIn[routes[i].Namespace]++
	}
	uses := map[string]PolicyUse{}
	for name, selects := range c.policies.Selectors() {
		var use PolicyUse
		for i := range namespaces.Items {
			if n := &namespaces.Items[i]; selects(n.Labels) {
				use.Namespaces++
				use.Routes += routesIn[n.Name]
			}
		}
		uses[name] = use
	}
	return uses, nil
}

func (c *Cluster) readPolicies(life context.Context, api client.Reader) *metadata {
	return c.read(life, api, &metadata{
		kind: "ExternalRoutePolicy", plural: "ExternalRoutePolicies", object: &v1alpha1.ExternalRoutePolicy{}, list: &v1alpha1.ExternalRoutePolicyList{},
		namespaces: []string{metav1.NamespaceAll}, events: c.onPolicy(),
	})
}

// onPolicy triggers a pass over a policy that has changed, and over the routes of the namespaces that it selects, before or after the change.
func (c *Cluster) onPolicy() handler.EventHandler {
	changed := func(ctx context.Context, q queue, selects policy.Selects) {
		c.trigger(ctx, q, func(w *wakeup) { w.add(c.routesOf(ctx, metav1.NamespaceAll, selects)) })
	}
	put := func(object client.Object) policy.Selects {
		return c.policies.Put(object.(*v1alpha1.ExternalRoutePolicy)) //nolint:forcetypeassert // the kind that is watched
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(e.Object)})
			if selects := put(e.Object); !e.IsInInitialList { // when that is complete, there is a pass over every route
				changed(ctx, q, selects)
			}
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(e.ObjectNew)})
			if e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration() || e.ObjectOld.GetUID() != e.ObjectNew.GetUID() {
				changed(ctx, q, put(e.ObjectNew))
			}
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			changed(ctx, q, c.policies.Delete(e.Object.GetName()))
		},
	}
}
