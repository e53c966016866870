package controller

import (
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/externalroute/externalroute/internal/conflict"
)

// claims is who of the routes has what, and who waits for it. It is judged and taken in one step, so that of two routes that are reconciled at once
// only one begins to write. After a restart it is filled from the objects that stand.
type claims struct {
	mu     sync.Mutex
	routes map[types.NamespacedName]*claimant
	// had are the routes that have claims, by their keys and terms; waited are those that wait for them, by key.
	had    map[string][]holders
	waited map[string]routeSet
}

// holders are the routes that have a claim on the same terms. Of most claims there is one route, so that slices are a tenth of maps.
type holders struct {
	share  string
	routes []*claimant
}

type routeSet map[types.NamespacedName]bool

// claimant is a route, what it has and what it waits for.
type claimant struct {
	conflict.Identity
	has, wants []conflict.Claim
}

// clash is a claim that belongs to another route.
type clash struct {
	conflict.Claim
	rival conflict.Identity
	// stands says that the rival has it, and does not only wait longer.
	stands bool
}

func newClaims() *claims {
	return &claims{routes: map[types.NamespacedName]*claimant{}, had: map[string][]holders{}, waited: map[string]routeSet{}}
}

func (i *claimant) key() types.NamespacedName {
	return types.NamespacedName{Namespace: i.Namespace, Name: i.Name}
}

// take gives a route what it wants, or says who has it. Where grant is false it only asks. A route that is refused, here or for what foreign says, waits.
func (c *claims) take(route conflict.Identity, wanted []conflict.Claim, unknown []claimant, grant, refused bool) []clash {
	c.mu.Lock()
	defer c.mu.Unlock()
	me := c.of(route)
	var clashes []clash
	for _, claim := range wanted {
		if rival := c.rivalOf(me, claim, unknown); rival != nil {
			clashes = append(clashes, *rival)
		}
	}
	switch {
	case !grant:
		c.set(me, me.has, nil)
	case refused || len(clashes) > 0:
		c.set(me, me.has, wanted)
	default:
		c.set(me, slices.Concat(me.has, without(wanted, me.has)), nil)
	}
	return clashes
}

// rivalOf is who has the claim, or waits longer for it: nobody where it is the route's own already.
func (c *claims) rivalOf(me *claimant, claim conflict.Claim, unknown []claimant) *clash {
	mine := slices.ContainsFunc(me.has, func(h conflict.Claim) bool {
		return h.Key == claim.Key && h.Share == claim.Share && (h.Port == 0 || claim.Port == 0 || h.Port == claim.Port)
	})
	if first := oldest(c.holdersOf(me, claim, mine)); first != nil || mine {
		return first.clash(claim, true)
	}
	return oldest(c.waiters(me, claim, unknown)).clash(claim, false)
}

// holdersOf are the others that have the claim. Where it is the route's own as well, the older of the two keeps it.
func (c *claims) holdersOf(me *claimant, claim conflict.Claim, mine bool) []*claimant {
	var others []*claimant
	for _, h := range c.had[claim.Key] {
		if h.share == claim.Share && h.share != "" {
			continue // however many they are, they get along
		}
		for _, rival := range h.routes {
			if rival != me && (!mine || rival.older(me)) && slices.ContainsFunc(rival.has, claim.Clashes) {
				others = append(others, rival)
			}
		}
	}
	return others
}

// waiters are the others that wait for the claim longer, those among them that were not judged yet.
func (c *claims) waiters(me *claimant, claim conflict.Claim, unknown []claimant) []*claimant {
	var waiters []*claimant
	for key := range c.waited[claim.Key] {
		if rival := c.routes[key]; rival.older(me) && slices.ContainsFunc(rival.wants, claim.Clashes) {
			waiters = append(waiters, rival)
		}
	}
	for i := range unknown {
		if rival := &unknown[i]; c.routes[rival.key()] == nil && rival.older(me) && slices.ContainsFunc(rival.wants, claim.Clashes) {
			waiters = append(waiters, rival)
		}
	}
	return waiters
}

func (i *claimant) older(than *claimant) bool { return i != than && i.Compare(than.Identity) < 0 }

func oldest(routes []*claimant) *claimant {
	if len(routes) == 0 {
		return nil
	}
	return slices.MinFunc(routes, func(a, b *claimant) int { return a.Compare(b.Identity) })
}

// clash says that the claim is the rival's, if there is one.
func (i *claimant) clash(claim conflict.Claim, stands bool) *clash {
	if i == nil {
		return nil
	}
	return &clash{Claim: claim, rival: i.Identity, stands: stands}
}

// has records what a route's objects, as they stand, claim: neither more nor less. It returns the routes that may have waited for the rest.
func (c *claims) has(route conflict.Identity, claims []conflict.Claim) []types.NamespacedName {
	c.mu.Lock()
	defer c.mu.Unlock()
	me := c.of(route)
	released := without(me.has, claims)
	c.set(me, claims, me.wants)
	return c.waitersFor(released, me)
}

// refuse records that a route waits for nothing, since it is refused for what it is. It returns the routes that may have waited for it to be judged,
// for the hosts that it asks for.
func (c *claims) refuse(route conflict.Identity, asked []conflict.Claim) []types.NamespacedName {
	c.mu.Lock()
	defer c.mu.Unlock()
	me := c.of(route)
	released := slices.Concat(me.wants, asked)
	c.set(me, me.has, nil)
	return c.waitersFor(released, me)
}

// forget drops a route that is gone. It returns the routes that may have waited for it.
func (c *claims) forget(route types.NamespacedName) []types.NamespacedName {
	c.mu.Lock()
	defer c.mu.Unlock()
	me := c.routes[route]
	if me == nil {
		return nil
	}
	released := slices.Concat(me.has, me.wants)
	c.set(me, nil, nil)
	delete(c.routes, route)
	return c.waitersFor(released, me)
}

func (c *claims) of(route conflict.Identity) *claimant {
	me := claimant{Identity: route}
	if c.routes[me.key()] == nil {
		c.routes[me.key()] = &me
	}
	c.routes[me.key()].Identity = route // one of that name may have been there before
	return c.routes[me.key()]
}

// set replaces what a route has and wants, in the indexes too.
func (c *claims) set(me *claimant, has, wants []conflict.Claim) {
	key := me.key()
	for _, old := range me.has {
		c.drop(me, old)
	}
	for _, old := range me.wants {
		delete(c.waited[old.Key], key)
		if len(c.waited[old.Key]) == 0 {
			delete(c.waited, old.Key)
		}
	}
	me.has, me.wants = has, wants
	for _, now := range has {
		c.hold(me, now)
	}
	for _, now := range wants {
		if c.waited[now.Key] == nil {
			c.waited[now.Key] = routeSet{}
		}
		c.waited[now.Key][key] = true
	}
}

func (c *claims) hold(me *claimant, claim conflict.Claim) {
	all := c.had[claim.Key]
	i := slices.IndexFunc(all, func(h holders) bool { return h.share == claim.Share })
	if i < 0 {
		c.had[claim.Key] = append(all, holders{claim.Share, []*claimant{me}})
		return
	}
	if !slices.Contains(all[i].routes, me) {
		all[i].routes = append(all[i].routes, me)
	}
}

func (c *claims) drop(me *claimant, claim conflict.Claim) {
	all := c.had[claim.Key]
	for i := range all {
		if all[i].share == claim.Share {
			all[i].routes = slices.DeleteFunc(all[i].routes, func(r *claimant) bool { return r == me })
		}
	}
	if all = slices.DeleteFunc(all, func(h holders) bool { return len(h.routes) == 0 }); len(all) > 0 {
		c.had[claim.Key] = all
		return
	}
	delete(c.had, claim.Key)
}

// waitersFor are the other routes that wait for one of the claims.
func (c *claims) waitersFor(released []conflict.Claim, me *claimant) []types.NamespacedName {
	waiters := routeSet{}
	for _, claim := range released {
		maps.Copy(waiters, c.waited[claim.Key])
	}
	delete(waiters, me.key())
	return slices.Collect(maps.Keys(waiters))
}

// without are the claims that the others do not hold already.
func without(claims, others []conflict.Claim) []conflict.Claim {
	var rest []conflict.Claim
	for _, c := range claims {
		if !slices.ContainsFunc(others, c.Same) {
			rest = append(rest, c)
		}
	}
	return rest
}
