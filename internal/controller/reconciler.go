// Package controller keeps a cluster as its ExternalRoutes ask for. It is the only package that writes to a cluster, and it decides nothing: what the objects
// are is the translation's decision, who may have a host is conflict's, and what to write when is the plan's. It gathers, judges, plans, executes and reports.
package controller

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/cluster"
	"github.com/externalroute/externalroute/internal/policy"
)

// fieldOwner is the operator's name in managedFields.
const fieldOwner = client.FieldOwner("externalroute")

// The operator's own rights, beside those to read of package cluster.
//
// +kubebuilder:rbac:groups=networking.externalroute.io,resources=externalroutes/status;externalroutepolicies/status,verbs=patch
// +kubebuilder:rbac:groups=networking.externalroute.io,resources=externalroutes/finalizers,verbs=update
// +kubebuilder:rbac:groups=networking.istio.io,resources=serviceentries;destinationrules;gateways;virtualservices,verbs=create;patch;delete
// +kubebuilder:rbac:groups="",resources=services,verbs=create;patch;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Options are what an administrator may set.
type Options struct {
	// ClusterDomain is the cluster's DNS domain.
	ClusterDomain string
	// Settle is how long new upstreams stand beside the old ones before traffic moves to them, and the old ones after that: istiod's debounce, Envoy's
	// warming and the upstream's DNS must fit in.
	Settle time.Duration
	// Concurrency is how many routes are reconciled at once.
	Concurrency int
	// Namespaces are those that are watched; none means all.
	Namespaces []string
	// DefaultPolicy is what routes may reach in a namespace that no policy selects. Defaults to policy.Allow.
	DefaultPolicy policy.Default
}

// Reconciler reconciles ExternalRoutes.
type Reconciler struct {
	client   client.Client
	cluster  *cluster.Cluster
	recorder events.EventRecorder
	clock    clock.PassiveClock
	options  Options
	states   *states
	metrics  *metrics
	// undeclared reports that the CRD did not declare status.destinations when a status was last written.
	undeclared atomic.Bool
}

var _ reconcile.Reconciler = &Reconciler{}

// Reconcile makes the cluster as one route asks for. Mistakes of users are reported in the status and are no errors: an edit triggers the next pass.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	if request.Namespace == "" { // policies share the queue of the routes
		return ctrl.Result{}, r.reconcilePolicy(ctx, request.Name)
	}
	route, err := r.cluster.Route(ctx, request.NamespacedName)
	if err != nil {
		return ctrl.Result{}, err
	}
	if route == nil {
		r.forget(request.NamespacedName)
		return ctrl.Result{}, nil
	}
	now := r.clock.Now()
	p := &pass{route: route, now: now, state: r.states.of(route, now)}
	if route.DeletionTimestamp.IsZero() {
		return r.reconcile(ctx, p)
	}
	wait := p.state.unseen(p, r.cluster)
	if wait == 0 { // its objects keep their claims until the garbage collector has deleted them
		r.cluster.Release(request.NamespacedName)
	}
	return ctrl.Result{RequeueAfter: wait}, nil
}

// reconcile is one pass over a route.
func (r *Reconciler) reconcile(ctx context.Context, p *pass) (ctrl.Result, error) {
	if err := r.gather(ctx, p); err != nil {
		return ctrl.Result{}, err
	}
	if p.wait > 0 || p.mute {
		return ctrl.Result{RequeueAfter: p.wait}, nil
	}
	if err := r.judge(p); err != nil {
		return ctrl.Result{}, err
	}
	r.next(p)
	r.execute(ctx, p)
	if p.mute {
		return ctrl.Result{}, nil
	}
	if p.err != nil && !p.refused && !p.state.failures.Paused(p.now) { // the retry comes at once, and usually succeeds
		return ctrl.Result{}, p.err
	}
	pause, err := r.report(ctx, p)
	if err := errors.Join(p.err, err); err != nil { // it is retried, sooner than anything that the plan waits for
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: sooner(p.plan.Again, pause)}, nil
}

// sooner is the shorter of two waits, of which 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return a + b
	}
	return min(a, b)
}

func (r *Reconciler) forget(key types.NamespacedName) {
	if known := r.states.forget(key); known != nil {
		for _, w := range known.writes {
			r.cluster.Forget(w.Key)
		}
	}
	r.cluster.Release(key)
}

// wasAccepted reports whether this spec of the route was accepted before: then its objects are repaired although it is not known whether it still would be.
func wasAccepted(route *v1alpha1.ExternalRoute) bool {
	accepted := conditionOf(&route.Status, v1alpha1.ConditionAccepted)
	return accepted != nil && accepted.Status == "True" && accepted.ObservedGeneration == route.Generation
}
