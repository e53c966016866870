package cluster

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// metadata is a kind that the operator reads in the background, most of them only by their metadata. An operator that is not allowed to read it, or cannot, is
// better than none.
type metadata struct {
	kind, plural string // ConfigMap, ConfigMaps
	object       client.Object
	list         client.ObjectList
	namespaces   []string
	events       handler.EventHandler

	// begin lets the operator read it.
	begin  func(queue)
	filled atomic.Bool
	// refused is why the operator cannot read it, empty as long as that may pass in a moment.
	refused atomic.Value
	// denied reports that the operator is not allowed to read it.
	denied atomic.Bool
	// answered is closed when it is filled or refused, or nobody waits for that.
	answered chan struct{}
	once     sync.Once
}

// answer ends the wait for the kind, and reports whether nothing did before.
func (m *metadata) answer() (first bool) {
	m.once.Do(func() {
		close(m.answered)
		first = true
	})
	return first
}

// Knowledge is whether something is known of the cluster, or what keeps the operator from knowing it.
type Knowledge struct {
	Known bool
	// Why is empty if it may become known at any moment.
	Why string
}

// known reports whether all objects of the kind have been read.
func (m *metadata) known() (known Knowledge) {
	if known.Known = m.filled.Load(); !known.Known {
		known.Why, _ = m.refused.Load().(string)
	}
	return known
}

// readMetadata returns what knows the metadata of a kind as long as the operator lives. It reads nothing before it begins.
func (c *Cluster) readMetadata(life context.Context, api client.Reader, kind, plural string, namespaces []string, events handler.EventHandler) *metadata {
	return c.read(life, api, &metadata{
		kind: kind, plural: plural, object: metadataOf(kind), list: metadataListOf(kind), namespaces: namespaces, events: events,
	})
}

func (c *Cluster) read(life context.Context, api client.Reader, m *metadata) *metadata {
	m.answered = make(chan struct{})
	log, failures := ctrl.Log.WithName("metadata").WithValues("kind", m.kind), 0
	retry := wait.Backoff{Duration: time.Second, Factor: 2, Steps: 6, Cap: 30 * time.Second}
	fill := func(q queue) {
		_ = retry.DelayFunc().Until(life, true, true, func(context.Context) (done bool, _ error) { // it fails when the operator ends
			err := c.watchMetadata(life, api, m, q)
			failures++
			denied := apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err)
			m.denied.Store(denied)
			switch lasts := denied || failures > 2; {
			case err == nil:
				m.filled.Store(true)
			case !lasts, m.refused.Swap(err.Error()) == any(err.Error()):
				return false, nil // it may pass in a moment, or is known
			default:
				log.Error(err, "Failed to watch "+m.plural)
			}
			if first := m.answer(); !first {
				c.wakeAll(life)
			}
			return err == nil, nil
		})
	}
	var once sync.Once
	m.begin = func(q queue) { once.Do(func() { go fill(q) }) }
	return m
}

// watchMetadata returns when the cache is filled. The lists fail at once without the right to list the kind; the cache would wait for it for ever.
func (c *Cluster) watchMetadata(ctx context.Context, api client.Reader, m *metadata, q queue) error {
	for _, namespace := range m.namespaces {
		if err := api.List(ctx, m.list, client.InNamespace(namespace), client.Limit(1)); err != nil {
			return err
		}
	}
	watch := source.Kind(c.cache, m.object, m.events)
	if err := watch.Start(ctx, q); err != nil {
		return err
	}
	return watch.WaitForSync(ctx)
}

// ConfigMap reports whether a ConfigMap exists, as far as that is known. The first route that refers to one lets the operator read them, and waits alone.
func (c *Cluster) ConfigMap(ctx context.Context, key types.NamespacedName) (exists bool, known Knowledge, err error) {
	if q := c.queue.Load(); q != nil {
		c.configMaps.begin(*q)
	}
	if known = c.configMaps.known(); !known.Known {
		return false, known, nil
	}
	err = c.cache.Get(ctx, key, metadataOf("ConfigMap"))
	return err == nil, known, client.IgnoreNotFound(err)
}

func metadataOf(kind string) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: corev1.SchemeGroupVersion.String(), Kind: kind}}
}

func metadataListOf(kind string) *metav1.PartialObjectMetadataList {
	return &metav1.PartialObjectMetadataList{TypeMeta: metav1.TypeMeta{APIVersion: corev1.SchemeGroupVersion.String(), Kind: kind + "List"}}
}
