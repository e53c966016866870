package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/cluster"
)

// Setup registers the reconciler with a manager whose cache was made with cluster.CacheOptions.
func Setup(ctx context.Context, mgr manager.Manager, options Options) error {
	return setup(ctx, mgr, options, clock.RealClock{})
}

func setup(ctx context.Context, mgr manager.Manager, options Options, c clock.PassiveClock) error {
	watched, err := cluster.New(ctx, mgr, cluster.Options{ClusterDomain: options.ClusterDomain, Namespaces: options.Namespaces})
	if err != nil {
		return err
	}
	r := &Reconciler{
		client:   mgr.GetClient(),
		cluster:  watched,
		recorder: mgr.GetEventRecorder("externalroute"),
		clock:    c,
		options:  options,
		states:   &states{routes: map[types.NamespacedName]*state{}},
		metrics:  newMetrics(mgr.GetCache(), watched, c),
	}
	built, err := builder.ControllerManagedBy(mgr).
		Named("externalroute").
		For(&v1alpha1.ExternalRoute{}). // the cache repeats each of them every ten hours, more or less, in case that an event was lost
		WithOptions(controller.Options{
			MaxConcurrentReconciles: options.Concurrency,
			ReconciliationTimeout:   time.Minute,
			EnableWarmup:            new(true),
			// A failure is retried at the latest this long after its cause is gone.
			RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](5*time.Millisecond, 30*time.Second),
		}).
		Build(r)
	if err != nil {
		return fmt.Errorf("build the controller: %w", err)
	}
	return errors.Join(watched.Watch(ctx, mgr, built), mgr.Add(r.metrics))
}
