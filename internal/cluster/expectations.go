package cluster

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/internal/translate"
)

// expectations tell whether the cache shows what the operator has written. They look at single objects: after a gap in a watch, a cache is filled one object
// after the other, and an event with a late version does not mean that the earlier ones are there.
type expectations struct {
	mu sync.Mutex
	// latest is the version that the last event about an expected object has carried, empty before the first.
	latest map[translate.Key]string
}

// Expect begins to note the events of an object that is about to be written. What is noted of an earlier write stays: versions only grow.
func (e *expectations) Expect(key translate.Key) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.latest == nil {
		e.latest = map[translate.Key]string{}
	}
	if _, expected := e.latest[key]; !expected {
		e.latest[key] = ""
	}
}

// Forget ends an expectation.
func (e *expectations) Forget(key translate.Key) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.latest, key)
}

// met reports whether nothing more is expected of an object than that version.
func (e *expectations) met(key translate.Key, version string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	latest, expected := e.latest[key]
	return !expected || latest != "" && Reaches(latest, version)
}

// HasSeen reports whether the cache shows that version of an expected object, or a later state. A write that changed nothing has no event.
func (c *Cluster) HasSeen(key translate.Key, version string) bool {
	if c.met(key, version) {
		return true
	}
	object, _ := c.World(context.Background()).get(key) // a cache that has been read neither blocks nor fails
	return object != nil && Reaches(object.GetResourceVersion(), version)
}

// observe notes the version that an event carries. That of a deletion is later than all of the object. A deletion that a watch has missed has none: nothing is
// expected of the object then.
func (e *expectations) observe(kind string, object client.Object, missed bool) {
	key := translate.Key{Kind: kind, NamespacedName: client.ObjectKeyFromObject(object)}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch latest, expected := e.latest[key]; {
	case !expected:
	case missed:
		delete(e.latest, key)
	case latest == "" || !Reaches(latest, object.GetResourceVersion()):
		e.latest[key] = object.GetResourceVersion()
	}
}

// Reaches reports whether a resourceVersion is another one or later. Versions that cannot be compared are not waited for.
func Reaches(version, other string) bool {
	order, err := resourceversion.CompareResourceVersion(version, other)
	return err != nil || order >= 0
}
