package controller

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	ctrl "sigs.k8s.io/controller-runtime"
)

// optionalAPI is a group whose CustomResourceDefinitions may come after the operator, and go again. Discovery is polled for them: that needs no rights
// beyond those of every account, in a cluster and in single namespaces alike.
type optionalAPI struct {
	discovery discovery.DiscoveryInterface
	version   schema.GroupVersion
	kinds     []string
	// every is the time between two looks while the kinds are missing, and later the time between two looks whether they are still there.
	every, later time.Duration
	// watch begins to watch the kinds, fill waits until their caches are filled, leave ends both; tell wakes those whom it matters to.
	watch, fill, leave, tell func(context.Context) error

	ready atomic.Bool
	// doubt makes it look at once.
	doubt chan struct{}
}

func newOptionalAPI(d discovery.DiscoveryInterface, version schema.GroupVersion, every, later time.Duration, kinds ...string) *optionalAPI {
	return &optionalAPI{discovery: d, version: version, kinds: kinds, every: every, later: later, doubt: make(chan struct{}, 1)}
}

func (a *optionalAPI) installed() bool { return a.ready.Load() }

// doubted is told when the API server did not know a kind: it is looked at once whether the group is still there.
func (a *optionalAPI) doubted() {
	select {
	case a.doubt <- struct{}{}:
	default:
	}
}

// served asks the API server whether it serves all kinds.
func (a *optionalAPI) served() (bool, error) {
	resources, err := a.discovery.ServerResourcesForGroupVersion(a.version.String())
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	served := map[string]bool{}
	for _, r := range resources.APIResources {
		served[r.Kind] = true
	}
	return !slices.ContainsFunc(a.kinds, func(kind string) bool { return !served[kind] }), nil
}

// begin watches the kinds where they are served when the operator starts, so that nothing is reconciled before their caches are filled.
func (a *optionalAPI) begin(ctx context.Context) error {
	served, err := a.served()
	if err != nil {
		return fmt.Errorf("ask for %s: %w", a.version, err)
	}
	if !served {
		return nil
	}
	a.ready.Store(true)
	return a.watch(ctx)
}

func (a *optionalAPI) arrived(ctx context.Context) error {
	for _, step := range []func(context.Context) error{a.watch, a.fill} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	a.ready.Store(true)
	return a.tell(ctx)
}

func (a *optionalAPI) left(ctx context.Context) error {
	a.ready.Store(false)
	if err := a.leave(ctx); err != nil {
		return err
	}
	return a.tell(ctx)
}

// Start looks until the operator stops.
func (a *optionalAPI) Start(ctx context.Context) error {
	log := ctrl.LoggerFrom(ctx).WithName("discovery").WithValues("group", a.version.Group)
	for failed := false; ; {
		served, err := a.served()
		if err != nil && !failed { // once, however long it lasts
			log.Info("Could not ask for CustomResourceDefinitions", "reason", err.Error())
		}
		switch failed = err != nil; {
		case failed:
		case served && !a.installed():
			log.Info("Found CustomResourceDefinitions")
			if err := a.arrived(ctx); err != nil {
				return err
			}
		case !served && a.installed():
			log.Info("Lost CustomResourceDefinitions")
			if err := a.left(ctx); err != nil {
				return err
			}
		}
		pause := a.every
		if a.installed() {
			pause = a.later
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.doubt:
		case <-time.After(pause):
		}
	}
}

// NeedLeaderElection says that a replica that waits for its turn looks as well: its caches are to be filled when the turn comes.
func (a *optionalAPI) NeedLeaderElection() bool { return false }
