package cluster

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/internal/conflict"
	"github.com/externalroute/externalroute/internal/translate"
)

// The indexes of generated objects, and of those of other people.
const (
	ownerIndex = "owner" // by the UID of the route that controls it
	claimIndex = "claim" // by what it claims for that route
)

func ownersOf(o client.Object) []string {
	if owner := routeOwner(o); owner != nil {
		return []string{string(owner.UID)}
	}
	return nil
}

// optionalIndexes are those of the objects of optional APIs.
var optionalIndexes = map[string]client.IndexerFunc{
	ownerIndex: ownersOf,
	claimIndex: func(o client.Object) []string {
		facts, _ := o.(cached).content().facts.(claims)
		return facts.values()
	},
}

// claimsOfService are the values of claimIndex for a Service. One that no route controls claims nothing.
func (c *Cluster) claimsOfService(o client.Object) []string {
	service, ok := o.(*corev1.Service)
	if !ok || routeOwner(service) == nil {
		return nil
	}
	return claims(conflict.ClaimsOf(service, c.options.ClusterDomain)).values()
}

// values are those of claimIndex.
func (c claims) values() []string {
	var values []string
	for _, claim := range c {
		if value := claimValue(claim.Key, claim.Share); !slices.Contains(values, value) {
			values = append(values, value)
		}
	}
	return values
}

// claimValue is the value of claimIndex for claims of a key on some terms. Of the many routes that share a key on the same terms, nobody has to read any.
func claimValue(key, share string) string { return key + "|" + share }

// generated is an object that a route may control, and how to read it.
type generated struct {
	metav1.Object
	kind   string
	claims func() claims
	decode func() translate.Object
}

// generated returns objects of all kinds that routes generate, in the order of writing. While Istio is not installed, there are Services alone.
func (c *Cluster) generated(ctx context.Context, istio *store, options ...client.ListOption) ([]generated, error) {
	var services corev1.ServiceList
	if err := c.cache.List(ctx, &services, append(options, client.UnsafeDisableDeepCopy)...); err != nil {
		return nil, fmt.Errorf("list Services: %w", err)
	}
	var found []generated
	for i := range services.Items {
		service := &services.Items[i]
		found = append(found, generated{
			service, translate.ServiceKind.GVK.Kind,
			func() claims { return conflict.ClaimsOf(service, c.options.ClusterDomain) },
			func() translate.Object { return service },
		})
	}
	for _, k := range c.istio.kinds {
		records, err := k.list(ctx, istio, options...)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			found = append(found, generated{
				r, k.gvk.Kind,
				func() claims { return r.facts.(claims) }, //nolint:forcetypeassert // a route controls it
				func() translate.Object { return k.decode(r) },
			})
		}
	}
	return found, nil
}

// list returns objects of a kind; none without a store.
func (k kind) list(ctx context.Context, from *store, options ...client.ListOption) ([]*record, error) {
	if from == nil {
		return nil, nil
	}
	found := k.newList()
	if err := from.List(ctx, found, options...); err != nil {
		return nil, fmt.Errorf("list %s: %w", k.gvk.Kind, err)
	}
	return found.records(), nil
}

// Generated returns how many objects belong to the routes of this operator, by kind. Istio's kinds are missing while Istio is not installed.
func (c *Cluster) Generated(ctx context.Context) (map[string]int, error) {
	routes, err := c.routes(ctx)
	if err != nil {
		return nil, err
	}
	ours := make(map[types.UID]bool, len(routes))
	for i := range routes {
		ours[routes[i].UID] = true
	}
	istio := c.istio.filled.Load()
	counts := map[string]int{translate.ServiceKind.GVK.Kind: 0}
	for _, k := range c.istio.kinds {
		if istio != nil {
			counts[k.gvk.Kind] = 0
		}
	}
	all, err := c.generated(ctx, istio)
	for _, object := range all {
		if owner := routeOwner(object); owner != nil && ours[owner.UID] {
			counts[object.kind]++
		}
	}
	return counts, err
}

// Services returns those that exist, of all that the operator may see. They belong to the cache.
func (c *Cluster) Services(ctx context.Context, keys []types.NamespacedName) (map[types.NamespacedName]*corev1.Service, error) {
	services := map[types.NamespacedName]*corev1.Service{}
	for _, key := range keys {
		if !c.options.watches(key.Namespace) { // a name of two labels may be a Service there, which cannot be seen, or an external host
			continue
		}
		service := &corev1.Service{}
		switch err := c.cache.Get(ctx, key, service, &client.GetOptions{UnsafeDisableDeepCopy: new(true)}); {
		case err == nil:
			services[key] = service
		case client.IgnoreNotFound(err) != nil:
			return nil, fmt.Errorf("read Service %s: %w", key, err)
		}
	}
	return services, nil
}
