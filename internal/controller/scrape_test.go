package controller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/cluster"
	"github.com/externalroute/externalroute/test/controlplane"
)

// BenchmarkScrape scrapes an operator that has 10,000 routes and 10,000 Services of them: go test ./internal/controller -run - -bench Scrape.
// It takes minutes to fill the control plane.
func BenchmarkScrape(b *testing.B) {
	const routes = 10_000
	plane, err := controlplane.Start(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = plane.Stop() }()
	plane.Config.QPS = -1
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme), networkingv1.AddToScheme(scheme)); err != nil {
		b.Fatal(err)
	}
	admin, err := client.New(plane.Config, client.Options{Scheme: scheme})
	if err != nil {
		b.Fatal(err)
	}
	fill(b, admin, routes)
	options := cluster.CacheOptions(nil, nil)
	options.Scheme = scheme
	filled, err := cache.New(plane.Config, options)
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = filled.Start(b.Context()) }()
	if _, err := filled.GetInformer(b.Context(), &v1alpha1.ExternalRoute{}); err != nil {
		b.Fatal(err)
	}
	m := newMetrics(filled, countsNothing{}, clock.RealClock{})
	registry := prometheus.NewRegistry()
	if err := registry.Register(m); err != nil {
		b.Fatal(err)
	}
	if _, err := registry.Gather(); err != nil { // fills the cache
		b.Fatal(err)
	}
	server := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	defer server.Close()
	for b.Loop() {
		began := time.Now()
		answer, err := http.Get(server.URL)
		if err != nil {
			b.Fatal(err)
		}
		size, err := io.Copy(io.Discard, answer.Body)
		if err != nil || answer.StatusCode != http.StatusOK || size < routes*3*50 {
			b.Fatalf("status %d, %d bytes: %v", answer.StatusCode, size, err)
		}
		_ = answer.Body.Close()
		b.ReportMetric(float64(size), "bytes")
		b.Logf("%d bytes in %s", size, time.Since(began))
	}
}

type countsNothing struct{}

func (countsNothing) Generated(context.Context) (map[string]int, error) { return nil, nil }

func (countsNothing) PolicyUses(context.Context) (map[string]cluster.PolicyUse, error) {
	return nil, nil
}

// fill creates routes with three conditions and a Service each.
func fill(b *testing.B, cluster client.Client, routes int) {
	b.Helper()
	work := make(chan int)
	var workers sync.WaitGroup
	for range 32 {
		workers.Go(func() {
			for i := range work {
				if err := createRoute(b.Context(), cluster, fmt.Sprintf("route-%d", i)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for i := range routes {
		work <- i
	}
	close(work)
	workers.Wait()
}

func createRoute(ctx context.Context, cluster client.Client, name string) error {
	meta := metav1.ObjectMeta{Namespace: "default", Name: name}
	route := &v1alpha1.ExternalRoute{ObjectMeta: meta, Spec: v1alpha1.ExternalRouteSpec{
		Hosts: []v1alpha1.RouteHost{v1alpha1.RouteHost(name)}, Destinations: []v1alpha1.Destination{{Name: "primary", URL: "https://api.example.com/v1"}},
	}}
	if err := cluster.Create(ctx, route); err != nil {
		return err
	}
	route.Status.Conditions = nil // those that a new route has by default
	for _, condition := range []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionProgrammed, v1alpha1.ConditionReady} {
		route.Status.Conditions = append(route.Status.Conditions, metav1.Condition{
			Type: condition, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonProgrammed, Message: "m", LastTransitionTime: metav1.Now(),
		})
	}
	service := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}}
	service.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(route, v1alpha1.SchemeGroupVersion.WithKind("ExternalRoute"))}
	return errors.Join(cluster.Status().Update(ctx, route), cluster.Create(ctx, service))
}
