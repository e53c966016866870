package cluster

import (
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/externalroute/externalroute/internal/conflict"
)

// reservations are the claims of routes that are about to write. Of two routes that are reconciled at the same time, one begins.
type reservations struct {
	// turn belongs to the route that is being judged.
	turn sync.Mutex

	mu     sync.RWMutex
	claims map[types.NamespacedName][]conflict.Claim
	// holders are the same by the key of the claim. Their slices are replaced, never changed.
	holders map[string][]conflict.Holder
}

// reserve judges a route and records its claims if they are granted. It returns those that it had before and has no more.
func (r *reservations) reserve(route types.NamespacedName, judge func() ([]conflict.Claim, bool)) (released []conflict.Claim) {
	r.turn.Lock()
	defer r.turn.Unlock()
	claims, granted := judge()
	if !granted {
		claims = nil
	}
	return r.replace(route, claims)
}

// replace records the claims of a route in place of those that it had. It returns those that it has no more.
func (r *reservations) replace(route types.NamespacedName, claims []conflict.Claim) (released []conflict.Claim) {
	r.mu.Lock()
	defer r.mu.Unlock()
	identity := conflict.Identity{Namespace: route.Namespace, Name: route.Name}
	for _, claim := range r.claims[route] {
		left := slices.DeleteFunc(slices.Clone(r.holders[claim.Key]), func(h conflict.Holder) bool { return h.Identity == identity })
		if r.holders[claim.Key] = left; len(left) == 0 {
			delete(r.holders, claim.Key)
		}
		if !slices.ContainsFunc(claims, func(c conflict.Claim) bool {
			return c.Key == claim.Key && c.Share == claim.Share && c.ExportTo == claim.ExportTo && c.Port == claim.Port
		}) {
			released = append(released, claim)
		}
	}
	delete(r.claims, route)
	if len(claims) == 0 {
		return released
	}
	if r.claims == nil {
		r.claims, r.holders = map[types.NamespacedName][]conflict.Claim{}, map[string][]conflict.Holder{}
	}
	r.claims[route] = claims
	for _, claim := range claims {
		r.holders[claim.Key] = slices.Concat(r.holders[claim.Key], []conflict.Holder{{Identity: identity, Claim: claim}})
	}
	return released
}

// of returns who has reserved claims of this key.
func (r *reservations) of(key string) []conflict.Holder {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.holders[key]
}
