package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// probeTimeout is shorter than that of the shipped probes, so that they get an answer with a reason in it.
const probeTimeout = 3 * time.Second

// stuckAfter is far beyond the minute of a reconciliation's timeout: one that runs for so long ignores its context.
const stuckAfter = 5 * time.Minute

// addChecks registers the probes. Healthz fails if only a restart helps, readyz also if another object or user must change.
func addChecks(mgr ctrl.Manager) error {
	client, err := kubernetes.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	return errors.Join(
		mgr.AddHealthzCheck("workers", workersMove(stuckAfter)),
		mgr.AddReadyzCheck("caches", cachesAreFilled(mgr.GetCache())),
		mgr.AddReadyzCheck("apiserver", apiServerIsHeard(client)),
	)
}

// cachesAreFilled is true of a standby too: its controller is warmed up, and takes over with what it knows.
func cachesAreFilled(c cache.Cache) healthz.Checker {
	return func(request *http.Request) error {
		ctx, cancel := context.WithTimeout(request.Context(), probeTimeout)
		defer cancel()
		if !c.WaitForCacheSync(ctx) {
			return errors.New("the caches are not filled yet")
		}
		return nil
	}
}

// apiServerIsHeard asks for what everybody with a valid identity may see.
func apiServerIsHeard(client kubernetes.Interface) healthz.Checker {
	return func(request *http.Request) error {
		ctx, cancel := context.WithTimeout(request.Context(), probeTimeout)
		defer cancel()
		return client.Discovery().RESTClient().Get().AbsPath("/version").Do(ctx).Error()
	}
}

// workersMove fails when a worker has had one item in its hands for longer than the limit. The metrics that say so are gathered with all others, some for
// each route, so not at every probe.
func workersMove(limit time.Duration) healthz.Checker {
	var mutex sync.Mutex
	var looked time.Time
	var found error
	return func(*http.Request) error {
		mutex.Lock()
		defer mutex.Unlock()
		if time.Since(looked) > limit/5 {
			looked, found = time.Now(), stuckWorker(limit)
		}
		return found
	}
}

func stuckWorker(limit time.Duration) error {
	families, err := metrics.Registry.Gather()
	if err != nil {
		return fmt.Errorf("gather metrics: %w", err)
	}
	for _, family := range families {
		if family.GetName() != "workqueue_longest_running_processor_seconds" {
			continue
		}
		for _, metric := range family.GetMetric() {
			if longest := metric.GetGauge().GetValue(); longest > limit.Seconds() {
				return fmt.Errorf("%v: an item has been in work for %.0f s", metric.GetLabel(), longest)
			}
		}
	}
	return nil
}
