package cli

import (
	"context"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/conflict"
	"github.com/externalroute/externalroute/internal/policy"
	"github.com/externalroute/externalroute/internal/translate"
)

// objects are generated objects, by what identifies them.
type objects map[translate.Key]translate.Object

// revision is a state of the manifests, and what becomes of each route in it when it follows on another one.
type revision struct {
	*world
	policies map[string]manifest
	routes   map[types.NamespacedName]*judgement
	// freed are the claims of what routes of before had and give up.
	freed []conflict.Holder
	// refused are the policies and routes that are not accepted.
	refused []error
}

// judgement is what the API server and the operator make of a route.
type judgement struct {
	manifest
	// rejected is what the API server refuses. The route is the one of before then, nil if there was none.
	rejected *translate.Refusal
	route    *v1alpha1.ExternalRoute

	translation *translate.Translation
	refusal     *translate.Refusal
	// waits reports that other routes must give up what this one asks for.
	waits bool
	// standing are the objects that the route has in a cluster that is not as its spec asks, nil otherwise.
	standing objects
	// unread are the resources of which such objects were not read.
	unread []string
	// said is the operator's refusal of the spec in a cluster, if what was read does not explain it.
	said *translate.Refusal
	// remarks say what the operator makes of the route in the cluster now.
	remarks []string
}

// objects are those of the route when all steps are done and nothing stood before.
func (j *judgement) objects() objects {
	all := objects{}
	if j != nil && j.standing != nil {
		return j.standing
	}
	if j == nil || j.refusal != nil || j.translation == nil {
		return all
	}
	for _, item := range j.translation.Objects {
		all[translate.KeyOf(item)] = stored(item.Object)
	}
	return all
}

// stored is an object as a cluster has it.
func stored(object translate.Object) translate.Object {
	live := object.DeepCopyObject().(translate.Object) //nolint:forcetypeassert // a generated object is one
	live.SetUID(types.UID(object.GetName()))
	return live
}

// keeps reports whether what stood before stays as it is.
func (j *judgement) keeps() bool {
	return j.refusal != nil && j.refusal.Effect == translate.Keep || j.route != nil && j.route.Spec.Suspend
}

// newRevision judges manifests that are applied after those of before.
func newRevision(ctx context.Context, manifests []manifest, before *revision, clusterDomain string, otherwise policy.Default) (*revision, error) {
	w, err := newWorld(manifests, clusterDomain)
	if err != nil {
		return nil, err
	}
	w.otherwise = otherwise
	if before.world != nil {
		w.live, w.gaps = before.live, before.gaps
	}
	r := &revision{world: w, policies: map[string]manifest{}, routes: map[types.NamespacedName]*judgement{}}
	for _, m := range ofKind(manifests, policyKind) {
		r.policies[m.GetName()] = m
		refusal := w.admitPolicy(ctx, m)
		if refusal == nil {
			continue
		}
		r.refused = append(r.refused, refused(m, refusal))
		if old, found := before.policies[m.GetName()]; found {
			w.admitPolicy(ctx, old)
		}
	}
	for _, m := range ofKind(manifests, routeKind) {
		key := types.NamespacedName{Namespace: m.GetNamespace(), Name: m.GetName()}
		r.routes[key] = r.accept(ctx, m, before.routes[key])
	}
	r.hold(before)
	for _, key := range r.keys() {
		r.conclude(key, before)
	}
	return r, nil
}

// keys are those of the routes, in order.
func (r *revision) keys() []types.NamespacedName {
	return slices.SortedFunc(maps.Keys(r.routes), compareNames)
}

func compareNames(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) }

// accept judges a route by itself.
func (r *revision) accept(ctx context.Context, m manifest, before *judgement) *judgement {
	j := &judgement{manifest: m}
	if j.route, j.rejected = r.admit(ctx, m); j.rejected != nil {
		if before == nil || before.route == nil {
			return j
		}
		j.route, _ = r.admit(ctx, before.manifest)
	}
	if j.route != nil {
		if j.translation, j.refusal = r.translate(j.route); j.refusal == nil {
			j.refusal = before.unsettled(j.route)
		}
	}
	return j
}

// hold notes what the routes compete for: what those of before have and do not give up, and what the others ask for.
func (r *revision) hold(before *revision) {
	keys := maps.Clone(r.routes)
	maps.Copy(keys, before.routes)
	for _, key := range slices.SortedFunc(maps.Keys(keys), compareNames) {
		j := r.routes[key]
		asked := map[string]bool{}
		if j != nil && j.route != nil && j.refusal == nil {
			r.ask(j.route)
			for _, claim := range (conflict.Route{ExternalRoute: j.route, Wanted: j.translation, ClusterDomain: r.clusterDomain}).Claims() {
				asked[claim.Key] = true
			}
		}
		for _, object := range before.routes[key].objects() {
			identity := conflict.IdentityOf(object)
			identity.Name = key.Name
			for _, claim := range conflict.ClaimsOf(object, r.clusterDomain) {
				holder := conflict.Holder{Identity: identity, Claim: claim}
				if asked[claim.Key] || j != nil && j.keeps() {
					r.holders = append(r.holders, holder)
				} else {
					r.freed = append(r.freed, holder)
				}
			}
		}
	}
}

// conclude judges a route among the others, and whether what it has may stay.
func (r *revision) conclude(key types.NamespacedName, from *revision) {
	j, before := r.routes[key], from.routes[key]
	owned := before.objects()
	if j.route != nil && j.refusal == nil {
		if j.refusal = r.conflicts(j.route, j.translation, owned); j.refusal == nil && !j.route.Spec.Suspend {
			held := r.holders
			r.holders = slices.Concat(held, r.freed)
			j.waits = r.conflicts(j.route, j.translation, owned) != nil
			r.holders = held
		}
	}
	if j.route != nil && j.keeps() {
		r.judgeStanding(j, owned)
	}
	if !from.hadGateway(j.route) {
		j.refusal = r.grounded(j.route, j.refusal)
	}
	if j.source == fromCluster && (before == nil || before.refusal != nil || !accepts(before.manifest)) { // it is not the change that is refused
		return
	}
	for _, refusal := range []*translate.Refusal{j.rejected, j.refusal} {
		if refusal != nil && !notJudged(refusal) {
			r.refused = append(r.refused, refused(j.manifest, refusal))
		}
	}
}

// hadGateway reports whether the Service of a route's egress gateway is known to have existed: without it now, the change deletes it.
func (r *revision) hadGateway(route *v1alpha1.ExternalRoute) bool {
	if r.world == nil || route == nil || route.Spec.EgressGateway == nil {
		return false
	}
	return r.services[translate.GatewayService(route.Spec.EgressGateway)] != nil
}

// judgeStanding decides as the operator does whether the objects of an earlier spec may stay.
func (r *revision) judgeStanding(j *judgement, owned objects) {
	if scope := r.scope(j.route.Namespace); scope != nil {
		j.refusal = scope.JudgeKept(j.refusal, j.route, sorted(owned), r.clusterDomain, r.otherwise)
	}
}

// sorted are the objects in the order of writing.
func sorted(all objects) []translate.Object {
	return slices.SortedFunc(maps.Values(all), func(a, b translate.Object) int { return compareKeys(translate.KeyOf(a), translate.KeyOf(b)) })
}

func compareKeys(a, b translate.Key) int {
	if rank := translate.Rank(a.Kind) - translate.Rank(b.Kind); rank != 0 {
		return rank
	}
	return compareNames(a.NamespacedName, b.NamespacedName)
}
