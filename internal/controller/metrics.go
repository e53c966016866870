package controller

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/cluster"
	"github.com/externalroute/externalroute/internal/translate"
)

// These are read from the cache at every scrape, so that a series ends with its route.
var (
	conditionDesc = prometheus.NewDesc("externalroute_condition",
		"The conditions of every route. Always 1. A condition that a route does not have has no series.",
		[]string{"namespace", "name", "condition", "status", "reason"}, nil)
	managedDesc = prometheus.NewDesc("externalroute_managed_objects",
		"Generated objects, by kind.",
		[]string{"kind"}, nil)
	conflictDesc = prometheus.NewDesc("externalroute_routes_in_conflict",
		"Routes that are not accepted because of a conflicting object, by reason.",
		[]string{"reason"}, nil)
	policyNamespacesDesc = prometheus.NewDesc("externalroute_policy_namespaces",
		"Namespaces that an ExternalRoutePolicy selects. 0 is a policy without effect.",
		[]string{"policy"}, nil)
	policyRoutesDesc = prometheus.NewDesc("externalroute_policy_routes",
		"Routes in the namespaces that an ExternalRoutePolicy selects, of those that this operator serves.",
		[]string{"policy"}, nil)
)

// metrics are those of the operator, beside controller-runtime's. Only the leader exposes them, or each replica would count.
type metrics struct {
	cache cache.Cache
	clock clock.PassiveClock
	// counts are those of a cluster.
	counts counts

	applies    *prometheus.CounterVec
	programmed prometheus.Histogram

	mu sync.Mutex
	// edits are those that the operator is at. One that is done, or waits for a person, is not among them.
	edits map[types.UID]edit
}

// counts tell how many objects belong to the routes, by kind, and how much each policy concerns, by name.
type counts interface {
	Generated(ctx context.Context) (map[string]int, error)
	PolicyUses(ctx context.Context) (map[string]cluster.PolicyUse, error)
}

// edit is a generation of a route, and when it was first seen.
type edit struct {
	generation int64
	seen       time.Time
}

func newMetrics(routes cache.Cache, counted counts, c clock.PassiveClock) *metrics {
	m := &metrics{
		cache:  routes,
		counts: counted,
		clock:  c,
		applies: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "externalroute_applies_total",
			Help: "Writes of generated objects, by kind and result. An object that is in sync is not written.",
		}, []string{"kind", "result"}),
		programmed: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "externalroute_edit_to_programmed_seconds",
			Help: "Time from when the operator first saw an edit of a route to when its objects were in sync. Excludes edits that waited for a user or " +
				"for Istio.",
			Buckets:                         []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}),
		edits: map[types.UID]edit{},
	}
	for _, kind := range translate.Kinds {
		for _, result := range []string{"created", "updated", "conflict", "failed"} {
			m.applies.WithLabelValues(kind.GVK.Kind, result) // from 0, or the first one would not be an increase
		}
	}
	return m
}

// Start tells the metrics until the operator stops.
func (m *metrics) Start(ctx context.Context) error {
	err := ctrlmetrics.Registry.Register(m)
	if already := (prometheus.AlreadyRegisteredError{}); errors.As(err, &already) {
		return nil // another manager of this process, as tests have
	}
	if err != nil {
		return err
	}
	defer ctrlmetrics.Registry.Unregister(m)
	informer, err := m.cache.GetInformer(ctx, &v1alpha1.ExternalRoute{})
	if err != nil {
		return err
	}
	watch, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    m.saw,
		UpdateFunc: func(_, now any) { m.saw(now) },
		DeleteFunc: m.lost,
	})
	if err != nil {
		return err
	}
	defer func() { _ = informer.RemoveEventHandler(watch) }() // an informer that has stopped has no handlers
	<-ctx.Done()
	return nil
}

// applied counts a write.
func (m *metrics) applied(kind string, existed bool, err error) {
	var replaced *replacedMeanwhile
	result := "updated"
	switch {
	case terminating(err):
		return
	case errors.As(err, &replaced):
		result = "conflict"
	case err != nil:
		result = "failed"
	case !existed:
		result = "created"
	}
	m.applies.WithLabelValues(kind, result).Inc()
}

// saw times an edit by what the status says of it.
func (m *metrics) saw(object any) {
	route, ok := object.(*v1alpha1.ExternalRoute)
	if !ok {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	began, timed := m.edits[route.UID]
	programmed := meta.FindStatusCondition(route.Status.Conditions, v1alpha1.ConditionProgrammed)
	if programmed == nil || programmed.ObservedGeneration != route.Generation {
		if began.generation != route.Generation {
			m.edits[route.UID] = edit{generation: route.Generation, seen: m.clock.Now()}
		}
		return
	}
	switch programmed.Reason {
	case v1alpha1.ReasonSwitching, v1alpha1.ReasonApplyFailed, v1alpha1.ReasonPending:
		return // still at it
	case v1alpha1.ReasonProgrammed:
		if timed {
			m.programmed.Observe(m.clock.Since(began.seen).Seconds())
		}
	}
	delete(m.edits, route.UID)
}

// lost forgets an edit of a route that is gone.
func (m *metrics) lost(object any) {
	if unknown, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = unknown.Obj
	}
	if route, ok := object.(*v1alpha1.ExternalRoute); ok {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.edits, route.UID)
	}
}

// Describe names the metrics.
func (m *metrics) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{conditionDesc, managedDesc, conflictDesc, policyNamespacesDesc, policyRoutesDesc} {
		descs <- desc
	}
	m.applies.Describe(descs)
	m.programmed.Describe(descs)
}

// Collect reads the cache and collects all metrics.
func (m *metrics) Collect(collected chan<- prometheus.Metric) {
	m.applies.Collect(collected)
	m.programmed.Collect(collected)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) // a cache that goes as its kind does
	defer cancel()
	generated, err := m.counts.Generated(ctx)
	for kind, count := range generated {
		collected <- gauge(managedDesc, count, kind)
	}
	if err := errors.Join(err, m.collectRoutes(ctx, collected), m.collectPolicies(ctx, collected)); err != nil {
		// The other metrics are worth more than a scrape that fails as a whole.
		ctrl.Log.WithName("metrics").Error(err, "Failed to collect metrics")
	}
}

func (m *metrics) collectRoutes(ctx context.Context, collected chan<- prometheus.Metric) error {
	var routes v1alpha1.ExternalRouteList
	if err := m.cache.List(ctx, &routes, client.UnsafeDisableDeepCopy); err != nil {
		return err
	}
	conflicts := map[string]int{v1alpha1.ReasonHostConflict: 0, v1alpha1.ReasonDestinationConflict: 0, v1alpha1.ReasonNameConflict: 0}
	for i := range routes.Items {
		route := &routes.Items[i]
		for _, c := range route.Status.Conditions {
			collected <- gauge(conditionDesc, 1, route.Namespace, route.Name, c.Type, string(c.Status), c.Reason)
			if _, isConflict := conflicts[c.Reason]; isConflict && c.Type == v1alpha1.ConditionAccepted {
				conflicts[c.Reason]++
			}
		}
	}
	for reason, count := range conflicts {
		collected <- gauge(conflictDesc, count, reason)
	}
	return nil
}

func (m *metrics) collectPolicies(ctx context.Context, collected chan<- prometheus.Metric) error {
	uses, err := m.counts.PolicyUses(ctx)
	for policy, use := range uses {
		collected <- gauge(policyNamespacesDesc, use.Namespaces, policy)
		collected <- gauge(policyRoutesDesc, use.Routes, policy)
	}
	return err
}

func gauge(desc *prometheus.Desc, value int, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value), labels...)
}
