// Package controller keeps a cluster as its ExternalRoutes ask for. It is the only package that writes to a cluster, and it decides nothing about
// Istio: that is the translation's. It watches, applies, removes what is no longer needed, and reports.
package controller

import (
	"context"
	"errors"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// fieldOwner is the operator's name in managedFields.
const fieldOwner = client.FieldOwner("externalroute")

// The operator's own rights. The Services are the aliases, the ConfigMaps are looked at by name alone, and a Secret never.
//
// +kubebuilder:rbac:groups=networking.externalroute.io,resources=externalroutes,verbs=list;watch
// +kubebuilder:rbac:groups=networking.externalroute.io,resources=externalroutes/status,verbs=patch
// +kubebuilder:rbac:groups=networking.externalroute.io,resources=externalroutes/finalizers,verbs=update
// +kubebuilder:rbac:groups=networking.istio.io,resources=serviceentries;destinationrules;virtualservices,verbs=list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=services,verbs=list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Options are what an administrator may set.
type Options struct {
	// ClusterDomain is the cluster's DNS domain.
	ClusterDomain string
	// Settle is how long new upstreams stand beside the old ones before traffic moves over, and the old ones after it: istiod's debounce, Envoy's
	// warming and the upstream's DNS must fit in.
	Settle time.Duration
	// Concurrency is how many routes are reconciled at once.
	Concurrency int
	// Namespaces are those that are watched; none means all.
	Namespaces []string
}

// Reconciler reconciles ExternalRoutes.
type Reconciler struct {
	client   client.Client
	recorder events.EventRecorder
	clock    clock.PassiveClock
	options  Options

	istio      *optionalAPI
	objects    *istioObjects
	gatewayAPI *gatewayAPI
	configMaps *configMapWatch
	memory     *memory
	claims     *claims
	routes     *concerned
	metrics    *metrics
	// woken is told of a route that is to be looked at again.
	woken func(types.NamespacedName)

	starting sync.Mutex
	started  bool
}

// Reconcile brings one route and its objects together. Mistakes of the user are told in the status and are no errors: an edit wakes us.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	if err := r.start(ctx); err != nil {
		return ctrl.Result{}, err
	}
	route, err := r.route(ctx, request.NamespacedName)
	if err != nil {
		return ctrl.Result{}, err
	}
	if gone := route != nil && r.memory.wasGone(route); gone || route == nil {
		r.memory.forget(request.NamespacedName)
		r.wake(r.claims.forget(request.NamespacedName))
		if gone { // the cache will say so, or we were wrong
			return ctrl.Result{RequeueAfter: believed}, nil
		}
		return ctrl.Result{}, nil
	}
	return r.reconcile(ctx, route)
}

func (r *Reconciler) reconcile(ctx context.Context, route *v1alpha1.ExternalRoute) (ctrl.Result, error) {
	facts, err := r.gather(ctx, route)
	if err != nil || facts.unknown && route.Status.ObservedGeneration == route.Generation { // what was said last is as true as ever
		return ctrl.Result{}, err
	}
	if err := r.releaseTaken(ctx, route, facts); err != nil {
		return ctrl.Result{}, err
	}
	objects, refusal, err := r.judged(ctx, route, facts)
	if err != nil {
		return ctrl.Result{}, err
	}
	result := r.program(ctx, route, facts, objects, refusal)
	r.settleClaims(route, facts, objects, refusal)
	err = r.report(ctx, route, facts, objects, refusal, result)
	again := result.again
	if doubt := r.memory.untilDoubt(route); doubt > 0 && (again == 0 || doubt < again) {
		again = doubt
	}
	return ctrl.Result{RequeueAfter: again}, errors.Join(result.err, err)
}

// start remembers when this process began to reconcile, and what stood then.
func (r *Reconciler) start(ctx context.Context) error {
	r.starting.Lock()
	defer r.starting.Unlock()
	if r.started {
		return nil
	}
	r.memory.start()
	err := r.recallClaims(ctx)
	r.started = err == nil
	return err
}

// judged translates the route, and looks whether somebody else has what it asks for.
func (r *Reconciler) judged(ctx context.Context, route *v1alpha1.ExternalRoute, f *facts) (*translate.Objects, *translate.Refusal, error) {
	objects, refusal := translate.Translate(route, f.mesh)
	if refusal != nil {
		return nil, refusal, nil
	}
	refusal, err := r.judge(ctx, route, f, objects)
	if refusal != nil || err != nil {
		return nil, refusal, err
	}
	return objects, nil, nil
}

// route reads a route, nil when there is none or when it is going: then its objects go with it, by their owner reference.
func (r *Reconciler) route(ctx context.Context, key types.NamespacedName) (*v1alpha1.ExternalRoute, error) {
	written := r.memory.recallStatus(key)
	route := &v1alpha1.ExternalRoute{}
	err := r.client.Get(ctx, key, route)
	if apierrors.IsNotFound(err) || (err == nil && !route.DeletionTimestamp.IsZero()) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if written != nil && written.UID == route.UID && newer(written, route) {
		written.Status.DeepCopyInto(&route.Status)
	}
	return route, nil
}

var _ reconcile.Reconciler = &Reconciler{}
