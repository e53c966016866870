package controller

import (
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/cluster"
	"github.com/externalroute/externalroute/internal/plan"
	"github.com/externalroute/externalroute/internal/translate"
)

// states are what the operator remembers of routes. All of it may be lost with the process.
type states struct {
	mu     sync.Mutex
	routes map[types.NamespacedName]*state
}

// state is what the operator remembers of one route. Only the pass over the route uses it.
type state struct {
	uid     types.UID
	moments plan.Moments
	// writes are those of earlier passes that the cache has not shown yet.
	writes []write
	// said is a hash of the status that was written last, and corrections is how often another client has undone that. unwritten is how often writes of a
	// status have failed, without a quiet period in between.
	said                   uint64
	corrections, unwritten plan.Backoff
	// failures are how often writes for a generation have failed in a row. An event, such as that of the status that says so, is no reason to try sooner.
	failures plan.Backoff
	failed   int64
}

// write is something that the operator has written, and waits to see.
type write struct {
	translate.Key
	// version is the resourceVersion that the write made; it is empty for a deletion, which is of the object with uid.
	version string
	uid     types.UID
	// until is when the operator stops waiting: the watch has missed the event.
	until time.Time
}

// of is the state of a route. What happened before the first pass over it, another operator may know: times count from then.
func (s *states) of(route *v1alpha1.ExternalRoute, now time.Time) *state {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := types.NamespacedName{Namespace: route.Namespace, Name: route.Name}
	if known := s.routes[key]; known == nil || known.uid != route.UID {
		s.routes[key] = &state{uid: route.UID, moments: plan.Moments{Began: now}}
	}
	return s.routes[key]
}

// forget returns what was remembered of a route.
func (s *states) forget(key types.NamespacedName) *state {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.routes[key]
	delete(s.routes, key)
	return known
}

// wrote makes the next pass wait until the cache shows a write. That of an earlier write of the object follows.
func (s *state) wrote(key translate.Key, version string, now time.Time) {
	s.writes = slices.DeleteFunc(s.writes, func(w write) bool { return w.Key == key && w.version != "" })
	s.writes = append(s.writes, write{Key: key, version: version, until: now.Add(plan.CacheLagLimit)})
}

// awaits reports whether a write of an object is waited for.
func (s *state) awaits(key translate.Key) bool {
	return slices.ContainsFunc(s.writes, func(w write) bool { return w.Key == key && w.version != "" })
}

// deleted makes the next pass wait until the cache shows that an object is gone.
func (s *state) deleted(key translate.Key, uid types.UID, now time.Time) {
	s.writes = append(s.writes, write{Key: key, uid: uid, until: now.Add(plan.CacheLagLimit)})
}

// unseen is how long to wait for the cache to show the writes of earlier passes, 0 if it has shown them all. It is asked before the objects are read: in the
// other order, an event in between would make what was read look like the latest.
func (s *state) unseen(p *pass, shown *cluster.Cluster) time.Duration {
	s.writes = slices.DeleteFunc(s.writes, func(w write) bool {
		over := !p.now.Before(w.until) || w.seen(p, shown)
		if over {
			shown.Forget(w.Key)
		}
		return over
	})
	var wait time.Duration
	for _, w := range s.writes {
		wait = sooner(wait, w.until.Sub(p.now))
	}
	return wait
}

func (w write) seen(p *pass, shown *cluster.Cluster) bool {
	switch {
	case w.Kind == routeKind && w.version == "":
		return false // the route is still in the cache
	case w.Kind == routeKind:
		return cluster.Reaches(p.route.ResourceVersion, w.version)
	case w.version == "":
		return p.world != nil && p.world.Deleted(w.Key, w.uid)
	}
	return shown.HasSeen(w.Key, w.version)
}
