package controller

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/externalroute/externalroute/internal/conflict"
)

// istioObjects are Istio's objects as watches show them. They are a source of events, from when a controller begins to watch them until they are left.
type istioObjects struct {
	cluster client.WithWatch
	// namespaces are those that are watched, or one that is empty for all.
	namespaces []string
	handler    handler.EventHandler

	serviceEntries   *kept[conflict.ServiceEntry]
	destinationRules *kept[conflict.DestinationRule]
	virtualServices  *kept[conflict.VirtualService]

	mu sync.Mutex
	// watching are the watches that there are now, nil where there are none.
	watching *watching
}

// watching is what goes on between the arrival of Istio's kinds and their end.
type watching struct {
	end      context.CancelFunc
	running  sync.WaitGroup
	unfilled atomic.Int32
}

var _ source.SyncingSource = &istioObjects{}

func newIstioObjects(cluster client.WithWatch, options Options, h handler.EventHandler) *istioObjects {
	i := &istioObjects{
		cluster: cluster, namespaces: options.Namespaces, handler: h,
		serviceEntries: keptServiceEntries(), destinationRules: keptDestinationRules(), virtualServices: keptVirtualServices(options.ClusterDomain),
	}
	if len(i.namespaces) == 0 {
		i.namespaces = []string{metav1.NamespaceAll}
	}
	return i
}

func keptServiceEntries() *kept[conflict.ServiceEntry] {
	return newKept("ServiceEntry", func(o client.Object) conflict.ServiceEntry {
		return conflict.ServiceEntryFacts(o.(*networkingv1.ServiceEntry)) //nolint:forcetypeassert // by its kind
	})
}

func keptDestinationRules() *kept[conflict.DestinationRule] {
	return newKept("DestinationRule", func(o client.Object) conflict.DestinationRule {
		return conflict.DestinationRuleFacts(o.(*networkingv1.DestinationRule)) //nolint:forcetypeassert // by its kind
	})
}

func keptVirtualServices(clusterDomain string) *kept[conflict.VirtualService] {
	return newKept("VirtualService", func(o client.Object) conflict.VirtualService {
		return conflict.VirtualServiceFacts(o.(*networkingv1.VirtualService), clusterDomain) //nolint:forcetypeassert // by its kind
	})
}

// at is the object of that name, nil where there is none.
func (i *istioObjects) at(key reference) client.Object {
	switch key.kind {
	case "ServiceEntry":
		return i.serviceEntries.at(key.NamespacedName)
	case "DestinationRule":
		return i.destinationRules.at(key.NamespacedName)
	case "VirtualService":
		return i.virtualServices.at(key.NamespacedName)
	}
	return nil
}

// ownedBy are the objects that the route of that UID controls.
func (i *istioObjects) ownedBy(route types.UID) [][]client.Object {
	return [][]client.Object{i.serviceEntries.ownedBy(route), i.destinationRules.ownedBy(route), i.virtualServices.ownedBy(route)}
}

// generated is how many objects of each kind routes control.
func (i *istioObjects) generated() map[string]int {
	return map[string]int{
		"ServiceEntry":    i.serviceEntries.generated(),
		"DestinationRule": i.destinationRules.generated(),
		"VirtualService":  i.virtualServices.generated(),
	}
}

// Start begins to watch, anew where it had begun: Istio's kinds may have come, gone and come again before the controller was ready for the first.
func (i *istioObjects) Start(ctx context.Context, q queue) error {
	if err := i.leave(ctx); err != nil {
		return err
	}
	ctx, end := context.WithCancel(ctx)
	w := &watching{end: end}
	for _, namespace := range i.namespaces {
		follow(ctx, i, w, q, i.serviceEntries, namespace, &networkingv1.ServiceEntry{}, func() client.ObjectList { return &networkingv1.ServiceEntryList{} })
		follow(ctx, i, w, q, i.destinationRules, namespace, &networkingv1.DestinationRule{},
			func() client.ObjectList { return &networkingv1.DestinationRuleList{} })
		follow(ctx, i, w, q, i.virtualServices, namespace, &networkingv1.VirtualService{},
			func() client.ObjectList { return &networkingv1.VirtualServiceList{} })
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.watching = w
	return nil
}

// follow watches a kind in a namespace.
func follow[F rivalFacts](
	ctx context.Context, i *istioObjects, w *watching, q queue, k *kept[F], namespace string, kind client.Object, list func() client.ObjectList,
) {
	changed := func(was, is *sighting, initial bool) {
		switch {
		case was == nil:
			i.handler.Create(ctx, event.CreateEvent{Object: is, IsInInitialList: initial}, q)
		case is == nil:
			i.handler.Delete(ctx, event.DeleteEvent{Object: was}, q)
		default:
			i.handler.Update(ctx, event.UpdateEvent{ObjectOld: was, ObjectNew: is}, q)
		}
	}
	w.unfilled.Add(1)
	store := &scope[F]{kept: k, namespace: namespace, changed: changed, filled: func() { w.unfilled.Add(-1) }}
	options := func(raw metav1.ListOptions) *client.ListOptions {
		return &client.ListOptions{Namespace: namespace, Limit: raw.Limit, Continue: raw.Continue, Raw: &raw}
	}
	reflector := toolscache.NewReflectorWithOptions(&toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, raw metav1.ListOptions) (runtime.Object, error) {
			l := list()
			return l, i.cluster.List(ctx, l, options(raw))
		},
		WatchFuncWithContext: func(ctx context.Context, raw metav1.ListOptions) (watch.Interface, error) {
			return i.cluster.Watch(ctx, list(), options(raw))
		},
	}, kind, store, toolscache.ReflectorOptions{Name: "externalroute"})
	w.running.Go(func() { reflector.RunWithContext(ctx) })
}

// WaitForSync waits until the watches have shown everything.
func (i *istioObjects) WaitForSync(ctx context.Context) error {
	err := wait.PollUntilContextCancel(ctx, 5*time.Millisecond, true, func(context.Context) (bool, error) { return i.filled(), nil })
	if err != nil {
		return fmt.Errorf("wait for Istio's objects: %w", err)
	}
	return nil
}

func (i *istioObjects) filled() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.watching != nil && i.watching.unfilled.Load() == 0
}

// leave ends the watches and forgets what they showed.
func (i *istioObjects) leave(context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.watching != nil {
		i.watching.end()
		i.watching.running.Wait()
		i.watching = nil
	}
	i.serviceEntries.clear()
	i.destinationRules.clear()
	i.virtualServices.clear()
	return nil
}

func (i *istioObjects) String() string { return "Istio's objects" }
