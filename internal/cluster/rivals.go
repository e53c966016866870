package cluster

import (
	"slices"
	"sync"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/internal/conflict"
)

// rivals finds objects of other people by the names that they may take from a route. A field index of a cache would keep two strings and two sets for each
// name, more than all else that is known of such an object, and a mesh may have many thousands of them.
type rivals struct {
	mu      sync.RWMutex
	records map[rivalName][]*record
}

type rivalName struct {
	kind string
	conflict.Name
}

// observe puts what an event shows in the place of what the one before has shown. Either may be nil.
func (r *rivals) observe(kind string, before, after client.Object) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range rivalNames(before) {
		key := rivalName{kind, name}
		// A deletion shows an object of its own.
		left := slices.DeleteFunc(slices.Clone(r.records[key]), func(o *record) bool {
			return o.Name == before.GetName() && o.Namespace == before.GetNamespace()
		})
		if r.records[key] = slices.Clip(left); len(left) == 0 {
			delete(r.records, key)
		}
	}
	for _, name := range rivalNames(after) {
		key := rivalName{kind, name}
		r.records[key] = slices.Concat(r.records[key], []*record{after.(cached).content()}) //nolint:forcetypeassert // it has names
	}
}

// of returns the objects of a kind that may take a name.
func (r *rivals) of(kind string, name conflict.Name) []*record {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.records[rivalName{kind, name}]
}

// rivalNames are what an object of other people may take from a route.
func rivalNames(o client.Object) []conflict.Name {
	if c, ok := o.(cached); ok {
		if facts, ok := c.content().facts.(rival); ok {
			return facts.Claims()
		}
	}
	return nil
}
