package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/cluster"
	"github.com/externalroute/externalroute/internal/conflict"
	"github.com/externalroute/externalroute/internal/plan"
	"github.com/externalroute/externalroute/internal/policy"
	"github.com/externalroute/externalroute/internal/translate"
)

// pass is what one pass over a route learns and does. All of it is judged by one moment.
type pass struct {
	// route is what the cache has, once the policies are known with the egress gateway that they set.
	route *v1alpha1.ExternalRoute
	now   time.Time
	state *state

	// wait is how long the pass waits for the cache to show what an earlier one wrote, and mute reports that an event will come in a moment.
	wait time.Duration
	mute bool

	world *cluster.World
	mesh  translate.Mesh
	// owned are the objects that the route controls; they belong to the cache. stands are those and the ones that the pass has written.
	owned  map[translate.Key]translate.Object
	stands map[translate.Key]types.UID
	// configMaps is whether it is known which ConfigMaps there are.
	configMaps cluster.Knowledge
	// unread is what the operator has not read yet of what the route refers to, as a sentence. It is empty if it has read all.
	unread    string
	namespace cluster.Namespace
	// scope is what the route may reach, as far as policies is known.
	scope    *policy.Scope
	policies cluster.Knowledge

	translation *translate.Translation
	verdict     conflict.Verdict
	plan        plan.Plan
	// terminating reports that the namespace is being deleted, and accepts no events any more.
	terminating bool
	// stopped reports that a write failed, refused that the API server said why, and err is a failure that a retry may heal.
	stopped, refused bool
	err              error
}

func (p *pass) key() types.NamespacedName {
	return types.NamespacedName{Namespace: p.route.Namespace, Name: p.route.Name}
}

// gather reads, from the caches alone, what matters for the route.
func (r *Reconciler) gather(ctx context.Context, p *pass) error {
	p.world = r.cluster.World(ctx)
	if p.wait = p.state.unseen(p, r.cluster); p.wait > 0 {
		return nil
	}
	p.owned, p.stands = map[translate.Key]translate.Object{}, map[translate.Key]types.UID{}
	for _, object := range p.world.Owned(p.route) {
		p.owned[translate.KeyOf(object)], p.stands[translate.KeyOf(object)] = object, object.GetUID()
	}
	if err := p.world.Err(); err != nil {
		return err
	}
	if p.wait = p.state.failures.Left(p.now); p.wait > 0 && p.state.failed == p.route.Generation {
		return nil
	}
	var err error
	if p.wait, err = r.readNamespace(ctx, p); p.wait > 0 || err != nil {
		return err
	}
	p.scope, p.policies = r.cluster.Scope(p.route.Namespace, p.namespace)
	var by []string
	p.route, by = p.scope.Lead(p.route)
	if err := r.readMesh(ctx, p); err != nil {
		return err
	}
	p.mesh.RoadPolicies = by
	// Policies and ConfigMaps will be known in a moment, and trigger another pass.
	unknown := p.policies == (cluster.Knowledge{}) || p.configMaps == (cluster.Knowledge{})
	p.mute = unknown && p.route.Status.ObservedGeneration == p.route.Generation
	return nil
}

// readMesh reads the facts that the translation needs.
func (r *Reconciler) readMesh(ctx context.Context, p *pass) error {
	p.mesh = translate.Mesh{
		ClusterDomain: r.options.ClusterDomain, Services: map[types.NamespacedName]translate.Service{}, MissingConfigMaps: map[string]bool{},
		Waypoints: map[types.NamespacedName]*translate.Waypoint{}, NamespaceLabels: p.namespace.Labels,
	}
	if g := p.route.Spec.EgressGateway; g != nil {
		p.mesh.GatewayUnwatched = !r.cluster.Watches(string(g.Namespace))
	}
	references := translate.ReferencesOf(p.route)
	services, err := r.cluster.Services(ctx, references.Services)
	if err != nil {
		return err
	}
	for key, service := range services {
		if !ofEarlier(service, p.route) { // it is as good as gone, and no alias
			p.mesh.Services[key] = translate.ServiceFacts(service, p.route)
		}
	}
	p.configMaps = cluster.Knowledge{Known: true}
	for _, name := range references.ConfigMaps {
		exists, knowledge, err := r.cluster.ConfigMap(ctx, types.NamespacedName{Namespace: p.route.Namespace, Name: name})
		if err != nil {
			return err
		}
		p.mesh.MissingConfigMaps[name], p.configMaps = knowledge.Known && !exists, knowledge
	}
	if !p.configMaps.Known {
		p.unread = unreadConfigMaps(p.configMaps)
	}
	p.readWaypoint(references.Waypoint)
	return nil
}

// readWaypoint reads the Gateway that the route names.
func (p *pass) readWaypoint(key *types.NamespacedName) {
	if key == nil {
		return
	}
	waypoint, watched, knowledge := p.world.Waypoint(*key)
	switch {
	case !knowledge.Known && knowledge.Why == "":
		p.unread = "The operator has not read the Gateways of the cluster yet."
	case !knowledge.Known:
		p.unread = fmt.Sprintf("The operator cannot read Gateways to check the waypoint of the route: %s.", knowledge.Why)
	case watched:
		p.mesh.Waypoints[*key] = waypoint
	}
}

// ofEarlier reports whether an object belongs to an earlier route of this name.
func ofEarlier(object metav1.Object, route *v1alpha1.ExternalRoute) bool {
	owner := metav1.GetControllerOfNoCopy(object)
	return conflict.IsRoute(owner) && owner.Name == route.Name && owner.UID != route.UID && object.GetNamespace() == route.Namespace
}

// judge translates the route, and decides whether it may have what it asks for. What it may have and has not yet is reserved in the same moment.
func (r *Reconciler) judge(p *pass) error {
	p.translation, p.verdict.Refusal = translate.Translate(p.route, p.mesh)
	if denied := r.denied(p); denied != nil {
		p.verdict.Refusal = denied
	}
	if p.verdict.Refusal != nil || !p.world.IstioInstalled() || p.pending() != "" {
		r.cluster.Release(p.key())
		r.judgeStanding(p)
		return nil
	}
	route := conflict.Route{ExternalRoute: p.route, Wanted: p.translation, Owned: p.owned, ClusterDomain: r.options.ClusterDomain}
	r.cluster.Reserve(p.route, func() (claims []conflict.Claim, granted bool) {
		p.verdict = conflict.Judge(route, p.world)
		return route.Missing(), p.verdict.Refusal == nil && !p.route.Spec.Suspend && p.world.Err() == nil
	})
	r.judgeStanding(p)
	return p.world.Err()
}

// judgeStanding decides whether the objects of an earlier spec may stay. A refused spec keeps them otherwise, and so does a suspended route.
func (r *Reconciler) judgeStanding(p *pass) {
	if !p.policies.Known {
		return
	}
	objects := slices.SortedFunc(maps.Values(p.owned), func(a, b translate.Object) int { return compareKeys(translate.KeyOf(a), translate.KeyOf(b)) })
	p.verdict.Refusal = p.scope.JudgeKept(p.verdict.Refusal, p.route, objects, r.options.ClusterDomain, r.options.DefaultPolicy)
}

// denied is why no policy allows the route, nil if one does, or that is not known. An operator that cannot read policies allows what it allows without any.
func (r *Reconciler) denied(p *pass) *translate.Refusal {
	scope := p.scope
	switch {
	case p.policies.Known:
	case p.policies.Why == "":
		return nil
	case r.options.DefaultPolicy == policy.Deny:
		return policy.Unreadable(p.policies.Why)
	default:
		scope = &policy.Scope{}
	}
	return scope.Judge(p.route, r.options.DefaultPolicy)
}

// next plans what to do.
func (r *Reconciler) next(p *pass) {
	refusal := p.verdict.Refusal
	switch {
	case refusal != nil && refusal.Effect == translate.Keep:
		p.plan.Condition = notAccepted(len(p.owned) > 0)
		if refusal.Reason == v1alpha1.ReasonNameConflict { // the event of an object with a long name does not tell which route it is for
			p.plan.Again = plan.CacheLagLimit
		}
		return
	case !p.world.IstioInstalled():
		p.plan.Condition = istioNotInstalled
		return
	case p.pending() != "":
		p.plan.Condition = plan.Condition{Reason: v1alpha1.ReasonPending, Message: p.pending()}
		return
	}
	wanted := plan.Wanted{Suspended: p.route.Spec.Suspend, Withdrawn: refusal != nil, Settle: r.options.Settle}
	if p.translation != nil {
		wanted.Objects, wanted.OntoTraffic = p.translation.Objects, p.translation.OntoTraffic()
	}
	standing := plan.Standing{
		Owned: p.owned, Adopted: map[translate.Key]translate.Object{}, Replaced: map[translate.Key]translate.Object{},
		Earlier: map[translate.Key]plan.Earlier{}, Created: p.route.CreationTimestamp.Time,
	}
	for key := range p.verdict.Adopted {
		standing.Adopted[key] = p.world.Object(key)
	}
	for _, key := range p.verdict.Replaced {
		if object := p.world.Object(key); object != nil {
			standing.Replaced[key] = object
			if slices.Contains(p.verdict.InForce, key) {
				standing.InForce = append(standing.InForce, object)
			}
		}
	}
	for key, object := range p.verdict.Earlier {
		standing.Earlier[key] = plan.Earlier{UID: object.UID, Created: object.Created}
	}
	p.plan = plan.Next(wanted, standing, &p.state.moments, p.now)
	if c := &p.plan.Condition; c.Programmed && p.unread != "" {
		*c = plan.Condition{Reason: v1alpha1.ReasonPending, Message: p.unread + " The generated objects are in sync."}
	}
}

var istioNotInstalled = plan.Condition{
	Reason:  v1alpha1.ReasonIstioNotInstalled,
	Message: "The cluster does not serve Istio's networking.istio.io/v1: install Istio, and the operator programs the route without further action.",
}

func notAccepted(stands bool) plan.Condition {
	message := "The spec is not accepted, and nothing is programmed."
	if stands {
		message = "The spec is not accepted. The objects of the last accepted spec keep serving, and the operator does not repair them."
	}
	return plan.Condition{Reason: v1alpha1.ReasonNotAccepted, Message: message}
}

// pending is what the operator must know of the cluster before it accepts the route, empty if it knows enough.
func (p *pass) pending() string {
	switch {
	case p.verdict.Refusal != nil:
		return ""
	case p.policies == (cluster.Knowledge{}):
		return "The operator has not read the policies of the cluster yet."
	case p.unread != "" && !wasAccepted(p.route):
		return p.unread
	}
	return ""
}

func unreadConfigMaps(k cluster.Knowledge) string {
	if k.Why == "" {
		return "The operator has not read the ConfigMaps of the cluster yet."
	}
	return fmt.Sprintf("The operator cannot read ConfigMaps to check that the CA certificates of the route exist: %s.", k.Why)
}

// taken are generated Services that another client has given a selector.
func taken(owned map[translate.Key]translate.Object) []*corev1.Service {
	var services []*corev1.Service
	for _, object := range owned {
		if service, ok := object.(*corev1.Service); ok && len(service.Spec.Selector) > 0 {
			services = append(services, service)
		}
	}
	return services
}
