//go:build linux

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/test/controlplane"

	"golang.org/x/sync/errgroup"
)

var (
	routeKind           = v1alpha1.SchemeGroupVersion.WithResource("externalroutes")
	serviceKind         = corev1.SchemeGroupVersion.WithResource("services")
	serviceEntryKind    = networkingv1.SchemeGroupVersion.WithResource("serviceentries")
	destinationRuleKind = networkingv1.SchemeGroupVersion.WithResource("destinationrules")
	virtualServiceKind  = networkingv1.SchemeGroupVersion.WithResource("virtualservices")

	generatedKinds = []schema.GroupVersionResource{serviceKind, serviceEntryKind, destinationRuleKind, virtualServiceKind}
)

// namespaces is over how many namespaces routes are spread.
const namespaces = 20

// bench is a control plane, and what looks at it.
type bench struct {
	settings *settings
	plane    *controlplane.ControlPlane
	manager  string // the binary
	account  string // the operator's kubeconfig

	own      *ownRequests
	config   *rest.Config // the admin's, counted
	rest     rest.Interface
	client   client.WithWatch
	metadata metadata.Interface
	seen     *observed
}

func newBench(ctx context.Context, s *settings, plane *controlplane.ControlPlane, manager string) (*bench, error) {
	b := &bench{settings: s, plane: plane, manager: manager, own: newOwnRequests(), config: unthrottled(plane.Config)}
	b.config.Wrap(b.own.count)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, networkingv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	var err error
	if b.client, err = client.NewWithWatch(b.config, client.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	if b.metadata, err = metadata.NewForConfig(b.config); err != nil {
		return nil, err
	}
	bare := rest.CopyConfig(b.config)
	bare.GroupVersion, bare.NegotiatedSerializer = &corev1.SchemeGroupVersion, clientgoscheme.Codecs
	if b.rest, err = rest.UnversionedRESTClientFor(bare); err != nil {
		return nil, err
	}
	if err := b.install(ctx); err != nil {
		return nil, err
	}
	if err := b.watchAll(ctx); err != nil {
		return nil, err
	}
	return b, nil
}

// install gives the operator the account and the rights that are shipped, and makes the namespaces.
func (b *bench) install(ctx context.Context) error {
	for _, name := range append(spread(), systemNamespace) {
		if err := b.client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			return err
		}
	}
	repository, err := controlplane.Repository()
	if err != nil {
		return err
	}
	if output, err := b.plane.Kubectl(ctx, "apply", "--server-side", "-k", filepath.Join(repository, "config", "rbac")).CombinedOutput(); err != nil {
		return fmt.Errorf("install the rights: %w: %s", err, output)
	}
	b.account, err = b.plane.Kubeconfig("system:serviceaccount:"+systemNamespace+":externalroute", "system:serviceaccounts", "system:serviceaccounts:"+systemNamespace)
	return err
}

func spread() []string {
	names := make([]string, namespaces)
	for i := range names {
		names[i] = fmt.Sprintf("bench-%02d", i)
	}
	return names
}

// routeFor is the i-th route of some name: an alias, and a host of its own.
func routeFor(name string, i int) *v1alpha1.ExternalRoute {
	full := fmt.Sprintf("%s-%05d", name, i)
	return &v1alpha1.ExternalRoute{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "ExternalRoute"},
		ObjectMeta: metav1.ObjectMeta{Name: full, Namespace: spread()[i%namespaces]},
		Spec: v1alpha1.ExternalRouteSpec{
			Hosts:        []v1alpha1.RouteHost{v1alpha1.RouteHost(full)},
			Destinations: []v1alpha1.Destination{{URL: v1alpha1.URL("https://" + full + ".example.com/v1")}},
		},
	}
}

func routesFor(name string, n int) []*v1alpha1.ExternalRoute {
	routes := make([]*v1alpha1.ExternalRoute, n)
	for i := range routes {
		routes[i] = routeFor(name, i)
	}
	return routes
}

// at asks for the same generation of every route.
func at(generation int64, routes []*v1alpha1.ExternalRoute) map[types.NamespacedName]int64 {
	want := make(map[types.NamespacedName]int64, len(routes))
	for _, route := range routes {
		want[client.ObjectKeyFromObject(route)] = generation
	}
	return want
}

// parallel does something for each number below n, several at a time.
func (b *bench) parallel(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(b.settings.workers)
	for i := range n {
		group.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return do(ctx, i)
		})
	}
	return group.Wait()
}

// create creates the routes and returns when each was sent.
func (b *bench) create(ctx context.Context, routes []*v1alpha1.ExternalRoute) ([]time.Time, error) {
	sent := make([]time.Time, len(routes))
	return sent, b.parallel(ctx, len(routes), func(ctx context.Context, i int) error {
		sent[i] = time.Now()
		return b.client.Create(ctx, routes[i], client.FieldOwner("bench"))
	})
}

// createServices makes the Services of routes beforehand.
func (b *bench) createServices(ctx context.Context, routes []*v1alpha1.ExternalRoute) error {
	return b.parallel(ctx, len(routes), func(ctx context.Context, i int) error {
		return b.client.Create(ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: string(routes[i].Spec.Hosts[0]), Namespace: routes[i].Namespace},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
		})
	})
}

func (b *bench) deleteServices(ctx context.Context, routes []*v1alpha1.ExternalRoute) error {
	return b.parallel(ctx, len(routes), func(ctx context.Context, i int) error {
		return client.IgnoreNotFound(b.client.Delete(ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: string(routes[i].Spec.Hosts[0]), Namespace: routes[i].Namespace},
		}))
	})
}

// deleteAll deletes all objects of a kind in all of the bench's namespaces.
func (b *bench) deleteAll(ctx context.Context, kind schema.GroupVersionResource) error {
	names := spread()
	return b.parallel(ctx, len(names), func(ctx context.Context, i int) error {
		return b.metadata.Resource(kind).Namespace(names[i]).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
	})
}

// population is how many objects of each kind there are.
func (b *bench) population(ctx context.Context, kinds ...schema.GroupVersionResource) (map[schema.GroupVersionResource]int64, error) {
	found := map[schema.GroupVersionResource]int64{}
	for _, kind := range kinds {
		list, err := b.metadata.Resource(kind).List(ctx, metav1.ListOptions{Limit: 1})
		if err != nil {
			return nil, err
		}
		found[kind] = int64(len(list.Items))
		if list.RemainingItemCount != nil {
			found[kind] += *list.RemainingItemCount
		}
	}
	return found, nil
}

// awaitPopulation waits until there are so many of each kind, and no more.
func (b *bench) awaitPopulation(ctx context.Context, want map[schema.GroupVersionResource]int64) error {
	for kind, number := range want {
		err := wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, b.settings.timeout, true, func(ctx context.Context) (bool, error) {
			found, err := b.population(ctx, kind)
			return found[kind] == number, err
		})
		if err != nil {
			return fmt.Errorf("wait for %d %s: %w", number, kind.Resource, err)
		}
	}
	return nil
}

// sweep deletes routes and what was generated for them, without the garbage collector's leisure.
func (b *bench) sweep(ctx context.Context, before map[schema.GroupVersionResource]int64, routes []*v1alpha1.ExternalRoute, servicesToo bool) error {
	for _, kind := range []schema.GroupVersionResource{routeKind, virtualServiceKind, destinationRuleKind, serviceEntryKind} {
		if err := b.deleteAll(ctx, kind); err != nil {
			return err
		}
	}
	if servicesToo {
		if err := b.deleteServices(ctx, routes); err != nil {
			return err
		}
	}
	return b.awaitPopulation(ctx, before)
}
