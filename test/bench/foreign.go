//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// foreign is what objects of other people cost an operator that has one route.
type foreign struct {
	Objects int    `json:"objects"`
	Without *phase `json:"without"`
	With    *phase `json:"with"`
}

func (f *foreign) String() string { return fmt.Sprintf("%d objects of other people", f.Objects) }

// each is a difference of megabytes as bytes for each object.
func (f *foreign) each(with, without float64) float64 {
	return (with - without) * 1e6 / float64(f.Objects)
}

func (b *bench) measureForeign(ctx context.Context) (*foreign, error) {
	f := &foreign{Objects: b.settings.foreign}
	fmt.Println(f)
	kinds := []schema.GroupVersionResource{virtualServiceKind, serviceEntryKind, destinationRuleKind}
	route := routeFor("lone", 0)
	if err := b.applyRoute(ctx, route); err != nil {
		return nil, err
	}
	var err error
	if f.Without, err = b.measureOneRoute(ctx, "without", route, 1); err != nil {
		return nil, err
	}
	err = b.parallel(ctx, b.settings.foreign, func(ctx context.Context, i int) error { return b.client.Create(ctx, foreignObject(i)) })
	if err != nil {
		return nil, err
	}
	if f.With, err = b.measureOneRoute(ctx, "with", route, 2); err != nil {
		return nil, err
	}
	for _, kind := range append(kinds, routeKind) {
		if err := b.deleteAll(ctx, kind); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// measureOneRoute runs an operator for a while. When it has seen an edit of its one route, its caches are filled.
func (b *bench) measureOneRoute(ctx context.Context, name string, route *v1alpha1.ExternalRoute, generation int64) (p *phase, err error) {
	o, err := b.startOperator()
	if err != nil {
		return nil, err
	}
	defer func() {
		_, stopping := o.stop()
		err = errors.Join(err, stopping)
	}()
	return b.measure(ctx, name, 1, o, func(ctx context.Context) (time.Duration, error) {
		if generation > 1 {
			patch := fmt.Sprintf(`{"spec":{"rules":[{"timeout":"%ds"}]}}`, generation)
			if err := b.client.Patch(ctx, route, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
				return 0, err
			}
		}
		_, ready, err := b.awaitRoutes(ctx, generation, route)
		if err != nil {
			return 0, err
		}
		return ready[client.ObjectKeyFromObject(route)].Sub(o.began), pause(ctx, b.settings.idle)
	})
}

// foreignObject is one of three kinds, as people write them.
func foreignObject(i int) client.Object {
	name := fmt.Sprintf("foreign-%05d", i)
	meta := metav1.ObjectMeta{
		Name: name, Namespace: spread()[i%namespaces], Labels: map[string]string{"app": name, "team": "another"},
		Annotations: map[string]string{"example.com/description": "An object of another team, with a description of usual length."},
	}
	host := name + ".example.net"
	switch i % 3 {
	case 0:
		v := &networkingv1.VirtualService{ObjectMeta: meta, Spec: istio.VirtualService{Hosts: []string{host}, ExportTo: []string{"."}}}
		for path := range 5 {
			v.Spec.Http = append(v.Spec.Http, &istio.HTTPRoute{
				Name:    fmt.Sprintf("path-%d", path),
				Match:   []*istio.HTTPMatchRequest{{Uri: &istio.StringMatch{MatchType: &istio.StringMatch_Prefix{Prefix: fmt.Sprintf("/path-%d/", path)}}}},
				Rewrite: &istio.HTTPRewrite{Uri: "/", Authority: host},
				Retries: &istio.HTTPRetry{Attempts: 3, RetryOn: "5xx"},
				Route:   []*istio.HTTPRouteDestination{{Destination: &istio.Destination{Host: host, Port: &istio.PortSelector{Number: 443}, Subset: "tls"}}},
			})
		}
		return v
	case 1:
		return &networkingv1.ServiceEntry{ObjectMeta: meta, Spec: istio.ServiceEntry{
			Hosts: []string{host, "www." + host}, ExportTo: []string{"."}, Location: istio.ServiceEntry_MESH_EXTERNAL, Resolution: istio.ServiceEntry_DNS,
			Ports: []*istio.ServicePort{{Number: 443, Name: "https", Protocol: "TLS"}, {Number: 80, Name: "http", Protocol: "HTTP"}},
		}}
	default:
		return &networkingv1.DestinationRule{ObjectMeta: meta, Spec: istio.DestinationRule{
			Host: host, ExportTo: []string{"."},
			TrafficPolicy: &istio.TrafficPolicy{ConnectionPool: &istio.ConnectionPoolSettings{Http: &istio.ConnectionPoolSettings_HTTPSettings{Http1MaxPendingRequests: 100}}},
			Subsets: []*istio.Subset{
				{Name: "tls", TrafficPolicy: &istio.TrafficPolicy{Tls: &istio.ClientTLSSettings{Mode: istio.ClientTLSSettings_SIMPLE, Sni: host, SubjectAltNames: []string{host}}}},
				{Name: "plain", Labels: map[string]string{"version": "v1"}},
			},
		}}
	}
}
