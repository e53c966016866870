package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/externalroute/externalroute/internal/conflict"
)

// api is a group whose CustomResourceDefinitions may be installed after the operator, and deleted again. Discovery is polled for them: that needs no rights
// beyond those of every account. As a source of events, it delays the controller until it has read all objects that are served.
type api struct {
	cluster *Cluster
	mgr     manager.Manager
	version schema.GroupVersion
	kinds   []kind
	// missing is the time from one check to the next while the kinds are missing.
	missing time.Duration
	// patience is how long the controller waits for the first check, 0 if for ever.
	patience time.Duration

	discovery *discovery.DiscoveryClient
	// filled is the cache, nil while the kinds are not served or not read yet; end ends it.
	filled atomic.Pointer[store]
	end    context.CancelFunc
	// absent reports that the API server serves no objects of the kinds, and problem is why that is not known, nil if it is.
	absent  atomic.Bool
	problem atomic.Pointer[string]
	// known is closed when it is first known whether the kinds are served, and what they have, or nobody waits for that any more.
	known    chan struct{}
	once     sync.Once
	rechecks chan struct{}
}

var _ source.SyncingSource = &api{}

func (c *Cluster) newAPI(mgr manager.Manager, missing, patience time.Duration, kinds ...kind) (*api, error) {
	client, err := discovery.NewDiscoveryClientForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return nil, fmt.Errorf("make a discovery client: %w", err)
	}
	return &api{
		cluster: c, mgr: mgr, version: kinds[0].gvk.GroupVersion(), kinds: kinds, missing: missing, patience: patience, discovery: client,
		known: make(chan struct{}), rechecks: make(chan struct{}, 1),
	}, nil
}

// newCache makes a cache of the kinds alone. It asks nobody about them: what discovery says at the moment does not matter.
func (a *api) newCache(ctx context.Context) (cache.Cache, error) {
	scheme, mapper, byObject := runtime.NewScheme(), meta.NewDefaultRESTMapper(nil), map[client.Object]cache.ByObject{}
	metav1.AddToGroupVersion(scheme, a.version)
	for _, k := range a.kinds {
		scheme.AddKnownTypeWithName(k.gvk, k.newObject())
		scheme.AddKnownTypeWithName(a.version.WithKind(k.gvk.Kind+"List"), k.newList())
		mapper.AddSpecific(k.gvk, k.resource(), k.resource(), meta.RESTScopeNamespace)
		mapper.Add(a.version.WithKind(k.gvk.Kind+"List"), meta.RESTScopeNamespace) // a cache of several namespaces asks for the scope of lists
		byObject[k.newObject()] = cache.ByObject{Transform: k.transform}
	}
	c, err := cache.New(a.mgr.GetConfig(), cache.Options{
		HTTPClient: a.mgr.GetHTTPClient(), Scheme: scheme, Mapper: mapper, ByObject: byObject,
		DefaultNamespaces: inNamespaces(a.cluster.options.Namespaces), DefaultUnsafeDisableDeepCopy: new(true), ReaderFailOnMissingInformer: true,
	})
	if err != nil {
		return nil, fmt.Errorf("make a cache of %s: %w", a.version, err)
	}
	for _, k := range a.kinds {
		for name, values := range optionalIndexes {
			if err := c.IndexField(ctx, k.newObject(), name, values); err != nil {
				return nil, fmt.Errorf("index %s by %s: %w", k.gvk.Kind, name, err)
			}
		}
	}
	return c, nil
}

// store is what has been read of the kinds.
type store struct {
	cache.Cache
	rivals *rivals
}

// rivalsFor returns the objects of other people of a kind that may take a name; none without a store.
func (s *store) rivalsFor(kind string, name conflict.Name) []*record {
	if s == nil {
		return nil
	}
	return s.rivals.of(kind, name)
}

// hasLooked reports whether it is known what the API server serves.
func (a *api) hasLooked() bool {
	select {
	case <-a.known:
		return true
	default:
		return false
	}
}

// begin lets the controller start, with a pass over every route, and reports whether nothing did before.
func (a *api) begin() (first bool) {
	a.once.Do(func() {
		close(a.known)
		first = true
	})
	return first
}

// recheck lets it check at once.
func (a *api) recheck() {
	select {
	case a.rechecks <- struct{}{}:
	default:
	}
}

// Start checks until the operator stops.
func (a *api) Start(ctx context.Context, q queue) error {
	ctx = ctrl.LoggerInto(ctx, ctrl.LoggerFrom(ctx).WithName("discovery").WithValues("group", a.version.Group))
	go func() {
		for failed := false; ctx.Err() == nil; {
			err := a.check(ctx, q)
			if err != nil && !failed && ctx.Err() == nil { // once, however long it lasts
				ctrl.LoggerFrom(ctx).Error(err, "Failed to find out whether CustomResourceDefinitions are installed")
			}
			failed = err != nil
			pause := a.missing
			if a.filled.Load() != nil {
				pause = time.Minute
			}
			select {
			case <-ctx.Done():
			case <-a.rechecks:
			case <-time.After(pause):
			}
		}
	}()
	return nil
}

// WaitForSync waits for the first check.
func (a *api) WaitForSync(ctx context.Context) error {
	var enough <-chan time.Time
	if a.patience > 0 {
		enough = time.After(a.patience)
	}
	select {
	case <-a.known:
		return nil
	case <-enough: // the check goes on, and triggers a pass over every route
		a.begin()
		return nil
	case <-ctx.Done():
		return fmt.Errorf("read %s: %w", a.version, context.Cause(ctx))
	}
}

func (a *api) String() string { return a.version.String() }

// check opens a cache when the kinds have arrived, and drops it when they have left.
func (a *api) check(ctx context.Context, q queue) error {
	served, err := a.isServed(ctx)
	if err != nil {
		return a.failed(err)
	}
	a.absent.Store(!served)
	changed := served != (a.filled.Load() != nil)
	switch {
	case changed && served:
		if err := a.failed(a.open(ctx, q)); err != nil {
			if a.patience > 0 && apierrors.IsForbidden(err) {
				a.begin() // no wait helps
			}
			return err
		}
		ctrl.LoggerFrom(ctx).Info("Found CustomResourceDefinitions")
	case changed:
		ctrl.LoggerFrom(ctx).Info("Lost CustomResourceDefinitions")
		a.filled.Store(nil)
		a.end()
	}
	if began := a.begin(); changed && !began {
		a.cluster.wakeAll(ctx)
	}
	return nil
}

// failed remembers why it is not known what there is.
func (a *api) failed(err error) error {
	a.problem.Store(nil)
	if err != nil {
		a.problem.Store(new(err.Error()))
	}
	return err
}

// knowledge reports whether it is known which objects of the kinds there are: those that were read, or none.
func (a *api) knowledge(read *store) Knowledge {
	if read != nil || a.absent.Load() {
		return Knowledge{Known: true}
	}
	if problem := a.problem.Load(); problem != nil {
		return Knowledge{Why: *problem}
	}
	return Knowledge{}
}

// open reads all objects of the kinds, and watches them until end is called. A cache would wait for ever for a kind that cannot be listed: that is tried first.
func (a *api) open(ctx context.Context, q queue) (err error) {
	for _, k := range a.kinds {
		if err := a.list(ctx, k); err != nil {
			return fmt.Errorf("list %s: %w", k.gvk.Kind, err)
		}
	}
	ctx, a.end = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			a.end()
		}
	}()
	c, err := a.newCache(ctx)
	if err != nil {
		return err
	}
	go func() { _ = c.Start(ctx) }() // it fails only if it has been started before
	found := &rivals{records: map[rivalName][]*record{}}
	var sources []source.SyncingSource
	for _, k := range a.kinds {
		sources = append(sources, source.Kind[client.Object](c, k.newObject(), a.cluster.onObject(k.name(), k.dependency, found)))
	}
	for _, s := range sources {
		if err := s.Start(ctx, q); err != nil {
			return fmt.Errorf("watch %v: %w", s, err)
		}
	}
	for _, s := range sources {
		if err := s.WaitForSync(ctx); err != nil {
			return fmt.Errorf("read %v: %w", s, err)
		}
	}
	if ctx.Err() == nil {
		a.filled.Store(&store{c, found})
	}
	return ctx.Err()
}

// isServed reports whether the API server serves all kinds. A kind is missing only if discovery and a list say so: an answer of discovery alone may be wrong
// for a moment, and what follows from it is hard to undo. An error means that it is not known.
func (a *api) isServed(ctx context.Context) (bool, error) {
	resources, err := a.discovery.ServerResourcesForGroupVersionWithContext(ctx, a.version.String())
	if err != nil && !apierrors.IsNotFound(err) {
		return false, fmt.Errorf("discover %s: %w", a.version, err)
	}
	served := true
	for _, k := range a.kinds {
		if err == nil && slices.ContainsFunc(resources.APIResources, func(r metav1.APIResource) bool { return r.Kind == k.gvk.Kind }) {
			continue
		}
		err := a.list(ctx, k)
		if !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) { // what the operator may not list, discovery alone can tell
			return false, fmt.Errorf("list %s, which discovery does not show: %w", k.gvk.Kind, cmp.Or(err, errServed))
		}
		served = false
	}
	return served, nil
}

// list asks the API server for an object of a kind, of each namespace that is watched.
func (a *api) list(ctx context.Context, k kind) error {
	for _, namespace := range a.cluster.options.namespaces() {
		err := a.discovery.RESTClient().Get().AbsPath("apis", a.version.Group, a.version.Version).Resource(k.resource().Resource).
			NamespaceIfScoped(namespace, namespace != metav1.NamespaceAll).Param("limit", "1").Do(ctx).Error()
		if err != nil {
			return err
		}
	}
	return nil
}

var errServed = errors.New("the API server serves it")
