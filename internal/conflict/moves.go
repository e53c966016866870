package conflict

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// moves finds routes that change together how a host is reached: the way through an egress gateway, or exportTo. Routes that share the host can only do so
// together, since each would wait for the others for ever. For a moment, Istio merges the old way and the new one, and both work.
//
// A route is judged by what all routes ask for, and not by the verdict on others: those of one host find the same.
type moves struct {
	*judge
	// moving are the names of routes that leave what they have, if all others that are found do.
	moving map[string]bool
	// checked are claims whose holders have been found.
	checked []Claim
}

// companions is how many routes are asked what they want. To ask one costs a translation, and a tenant with many routes for one host would keep the operator
// busy.
const companions = 100

// agrees reports whether the route that has a claim asks for nothing that clashes with that of the judged route. Whether it gets that is another question.
func (j *judge) agrees(h Holder, claim Claim) bool {
	if h.Namespace != j.Namespace || !claim.merges() || !h.Claim.merges() || j.other(h.Name) == nil && !j.withdraws() {
		return false
	}
	return !slices.ContainsFunc(j.asks(h.Name), claim.Clashes)
}

// withdraws reports whether policies set the judged route's egress gateway: they withdraw what leads elsewhere and does not move.
func (j *judge) withdraws() bool { return len(j.Wanted.RoadPolicies) > 0 }

// yields reports whether the route that has a claim leaves it for what it asks for.
func (j *judge) yields(h Holder, claim Claim) bool {
	if j.moves == nil {
		j.moves = &moves{judge: j, moving: map[string]bool{j.Name: true}}
	}
	j.stuck = j.stuck || !j.moves.leaves(h, claim) // then the judged route gets nothing
	return !j.stuck
}

// leaves reports whether the route of a holder asks for something else by now that can be shared with a claim, and gets it.
func (m *moves) leaves(holder Holder, claim Claim) bool {
	if holder.Namespace != m.Namespace || !claim.merges() || !holder.Claim.merges() {
		return false
	}
	asked := m.asks(holder.Name)
	switch {
	case slices.ContainsFunc(asked, claim.Clashes):
		return false
	case len(asked) == 0:
		return m.withdraws()
	case m.moving[holder.Name]:
		return true
	}
	m.moving[holder.Name] = true
	return !slices.ContainsFunc(asked, func(c Claim) bool { return m.withheld(holder.Name, c) })
}

// withheld reports whether a claim of a route belongs to another one that keeps what it has.
func (m *moves) withheld(route string, claim Claim) bool {
	if claim.merges() { // many routes may have the same
		if slices.ContainsFunc(m.checked, claim.Same) {
			return false
		}
		m.checked = append(m.checked, claim)
	}
	return slices.ContainsFunc(m.world.Holders(claim), func(h Holder) bool {
		own := h.Namespace == m.Namespace && h.Name == route
		return !own && !m.leaves(h, claim)
	})
}

// merges reports whether others can claim the key on other terms for a moment: one way of TLS to the host and another, or one exportTo and another.
func (c Claim) merges() bool {
	switch {
	case strings.HasPrefix(c.Key, exportKey):
		return true
	case strings.HasPrefix(c.Key, portKey):
		return c.Share == protocolTLS || c.ExportTo != ""
	}
	return false
}

// other is another route of the namespace, nil if there is none of that name.
func (j *judge) other(name string) *v1alpha1.ExternalRoute {
	return j.world.Route(types.NamespacedName{Namespace: j.Namespace, Name: name})
}

// asks returns what a route of the namespace asks for, nothing if it cannot have it even when other routes make way.
func (j *judge) asks(name string) []Claim {
	if j.asked == nil {
		j.asked = map[string][]Claim{j.Name: j.Claims()}
	}
	claims, known := j.asked[name]
	if !known && len(j.asked) <= companions {
		claims = j.likely(j.other(name))
		j.asked[name] = claims
	}
	return claims
}

// likely is what another route will claim, as far as its spec and the objects of other people tell.
func (j *judge) likely(other *v1alpha1.ExternalRoute) []Claim {
	if other == nil || j.stays(other) {
		return nil
	}
	wanted, refusal := asked(other, j.ClusterDomain)
	route := Route{ExternalRoute: other, Wanted: wanted, ClusterDomain: j.ClusterDomain}
	if refusal != nil || j.obstructed(route) {
		return nil
	}
	return route.Claims()
}

// stays reports whether a route is known to keep the objects that it has. A status that is about policies or the judged route's own gateway is behind: the
// operator withdraws what may not stay.
func (j *judge) stays(other *v1alpha1.ExternalRoute) bool {
	if other.Spec.Suspend || !other.DeletionTimestamp.IsZero() {
		return true
	}
	accepted := meta.FindStatusCondition(other.Status.Conditions, v1alpha1.ConditionAccepted)
	if accepted == nil || accepted.Status != metav1.ConditionFalse || accepted.ObservedGeneration != other.Generation {
		return false
	}
	switch accepted.Reason {
	case v1alpha1.ReasonHostConflict, v1alpha1.ReasonDestinationConflict, v1alpha1.ReasonNotAllowedByPolicy:
		return false
	case v1alpha1.ReasonGatewayNotUsable:
		mine, theirs := j.Spec.EgressGateway, other.Spec.EgressGateway
		return mine == nil || theirs == nil || *mine != *theirs
	}
	return true
}
