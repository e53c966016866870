//go:build linux

package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// user creates, edits and deletes the routes of a namespace, as its random source says.
type user struct {
	client.Client
	namespace string
	random    *rand.Rand
	routes    map[string]bool // that exist
	most      int             // how many may exist
	acts      int             // how often a route was created, edited or deleted
}

// nameOf numbers routes. What a route is like, but not what it asks for, follows from its number: see draw.
func nameOf(i int) string { return fmt.Sprintf("route-%02d", i) }

// The hosts of a route follow from its number, so that no two routes want the same.
const kinds = 8

// draw draws a route. Of eight, one serves a Service of another client, one upgrades a host in place, one passes TLS through, one is over TCP, and one takes an
// egress gateway. Some others take one from time to time. Upstreams are shared with other routes.
func (u *user) draw(i int) *v1alpha1.ExternalRoute {
	route := &v1alpha1.ExternalRoute{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "ExternalRoute"},
		ObjectMeta: metav1.ObjectMeta{Namespace: u.namespace, Name: nameOf(i)},
	}
	switch i % kinds {
	case 4:
		route.Spec.Hosts = []v1alpha1.RouteHost{v1alpha1.RouteHost(route.Name + ".example.net")}
		route.Spec.EgressGateway = u.gateway(2)
		return route
	case 5:
		route.Spec.Hosts = []v1alpha1.RouteHost{v1alpha1.RouteHost(route.Name)}
		route.Spec.Destinations = u.overTCP()
		return route
	case 6:
		route.Spec.EgressGateway = u.gateway(1)
	case 7:
		route.Spec.EgressGateway = u.gateway(2)
	}
	path := []string{"", "/base"}[u.random.IntN(2)]
	for n, upstream := range u.random.Perm(6)[:1+u.random.IntN(2)] {
		scheme := []string{"https", "https", "https", "http"}[u.random.IntN(4)]
		d := v1alpha1.Destination{
			Name: fmt.Sprintf("to-%d", n),
			URL:  v1alpha1.URL(fmt.Sprintf("%s://upstream-%d.example.com%s", scheme, upstream, path)),
		}
		switch {
		case u.random.IntN(6) == 0:
			d.Endpoints = []v1alpha1.Endpoint{{Address: "192.0.2.7"}}
		case scheme == "https" && u.random.IntN(4) == 0:
			d.TLS = &v1alpha1.TLS{CACertificateRefs: []v1alpha1.CACertificateRef{{Name: "ca"}}}
		}
		route.Spec.Destinations = append(route.Spec.Destinations, d)
	}
	switch i % kinds {
	case 0:
		route.Spec.Hosts = []v1alpha1.RouteHost{v1alpha1.RouteHost(takenService(i))}
	case 1:
		host := nameOf(i) + ".example.net"
		route.Spec.Hosts = []v1alpha1.RouteHost{v1alpha1.RouteHost(host)}
		route.Spec.Destinations[0] = v1alpha1.Destination{Name: "in-place", URL: v1alpha1.URL("https://" + host + path)}
	default:
		route.Spec.Hosts = []v1alpha1.RouteHost{v1alpha1.RouteHost(route.Name)}
		if u.random.IntN(3) == 0 {
			route.Spec.Hosts = append(route.Spec.Hosts, v1alpha1.RouteHost(route.Name+"-too"))
		}
	}
	if u.random.IntN(2) == 0 {
		route.Spec.Rules = []v1alpha1.Rule{{Timeout: v1alpha1.Duration(fmt.Sprintf("%ds", 1+u.random.IntN(20)))}}
	}
	return route
}

// gateway draws one of the egress gateways, or none in all but one of so many cases.
func (u *user) gateway(of int) *v1alpha1.GatewayReference {
	if u.random.IntN(of) > 0 {
		return nil
	}
	return &v1alpha1.GatewayReference{Namespace: gatewayNamespace, Name: v1alpha1.DNSLabel(gateways[u.random.IntN(len(gateways))])}
}

// overTCP draws the destinations of a TCP route.
func (u *user) overTCP() []v1alpha1.Destination {
	var destinations []v1alpha1.Destination
	for n, upstream := range u.random.Perm(6)[:1+u.random.IntN(2)] {
		scheme := []string{"tcp", "tls"}[u.random.IntN(2)]
		destinations = append(destinations, v1alpha1.Destination{
			Name: fmt.Sprintf("to-%d", n), URL: v1alpha1.URL(fmt.Sprintf("%s://upstream-%d.example.com:5432", scheme, upstream)),
		})
	}
	return destinations
}

// act does one random thing to one random route.
func (u *user) act(ctx context.Context) error {
	i := u.random.IntN(u.most)
	if u.routes[nameOf(i)] && u.random.IntN(4) == 0 {
		return u.remove(ctx, nameOf(i))
	}
	return u.put(ctx, u.draw(i))
}

// put creates a route or edits it. It insists: whatever befalls the API server, in the end the route is as it should be.
func (u *user) put(ctx context.Context, route *v1alpha1.ExternalRoute) error {
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(route)
	if err != nil {
		return err
	}
	delete(object, "status")
	u.acts++
	u.routes[route.Name] = true
	return insist(ctx, func() error {
		manifest := &unstructured.Unstructured{Object: runtime.DeepCopyJSON(object)}
		return u.Apply(ctx, client.ApplyConfigurationFromUnstructured(manifest), client.FieldOwner("user"), client.ForceOwnership)
	})
}

func (u *user) remove(ctx context.Context, name string) error {
	u.acts++
	delete(u.routes, name)
	route := &v1alpha1.ExternalRoute{ObjectMeta: metav1.ObjectMeta{Namespace: u.namespace, Name: name}}
	return insist(ctx, func() error { return client.IgnoreNotFound(u.Delete(ctx, route)) })
}

// create fills the namespace with routes.
func (u *user) create(ctx context.Context) error {
	for i := range u.most {
		if err := u.put(ctx, u.draw(i)); err != nil {
			return err
		}
	}
	return nil
}

// clear deletes all routes.
func (u *user) clear(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(u.routes)) {
		if err := u.remove(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// busy acts again and again, with a pause of its own choice in between, until stop is closed.
func (u *user) busy(ctx context.Context, stop <-chan struct{}, pause time.Duration) error {
	for {
		if err := u.act(ctx); err != nil {
			return err
		}
		select {
		case <-stop:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(u.random.Int64N(int64(2 * pause)))):
		}
	}
}

// insist tries until it works, for minutes, unless what is asked for is wrong.
func insist(ctx context.Context, try func() error) error {
	again := wait.Backoff{Duration: 100 * time.Millisecond, Steps: 3000}
	return retry.OnError(again, func(err error) bool {
		return ctx.Err() == nil && !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err)
	}, try)
}
