package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// routeReport is a route of a cluster, and what belongs to it.
type routeReport struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// State is what kstatus makes of the route: Current if it is ready.
	State      status.Status      `json:"state"`
	Reason     string             `json:"reason,omitempty"`
	Hosts      []string           `json:"hosts,omitempty"`
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Problems are what is in the way.
	Problems []string `json:"problems,omitempty"`
	// Objects are those that the operator generates, and Uses are others that the route depends on.
	Objects []relative  `json:"objects,omitempty"`
	Uses    []relative  `json:"uses,omitempty"`
	Created metav1.Time `json:"creationTimestamp"`
}

// relative is an object that belongs to a route, and what it is for.
type relative struct {
	Kind      string      `json:"kind"`
	Namespace string      `json:"namespace,omitempty"`
	Name      string      `json:"name"`
	State     state       `json:"state"`
	For       string      `json:"for"`
	Created   metav1.Time `json:"creationTimestamp,omitzero"`
}

func (r routeReport) ready() bool { return r.State == status.CurrentStatus }

// headline says in a sentence how the route is.
func (r routeReport) headline() string {
	words := map[status.Status]string{
		status.CurrentStatus: "is ready", status.FailedStatus: "is not ready, and a person must act", status.TerminatingStatus: "is being deleted",
	}
	return fmt.Sprintf("ExternalRoute %s/%s %s (%s)", r.Namespace, r.Name, cmp.Or(words[r.State], "is not ready yet"), r.Reason)
}

// summaryOf is what the route itself says.
func summaryOf(m manifest) (routeReport, error) {
	said, err := status.Compute(m.Unstructured)
	if err != nil {
		return routeReport{}, fmt.Errorf("read the status of ExternalRoute %s/%s: %w", m.GetNamespace(), m.GetName(), err)
	}
	now := statusOf(m)
	r := routeReport{
		Namespace: m.GetNamespace(), Name: m.GetName(), State: said.Status, Conditions: now.Conditions, Hosts: now.Hosts, Created: m.GetCreationTimestamp(),
	}
	c := meta.FindStatusCondition(now.Conditions, v1alpha1.ConditionReady)
	if c == nil {
		r.State = status.InProgressStatus // kstatus takes an object without conditions for a ready one
	}
	if r.Reason = v1alpha1.ReasonPending; c != nil && !unseen(m) {
		r.Reason = c.Reason
	}
	return r, nil
}

// reporter reports on the routes of a cluster.
type reporter struct {
	*input
	world *world
}

// report is everything about a route.
func (r *reporter) report(j *judged) (routeReport, error) {
	report, err := summaryOf(j.manifest)
	if err != nil {
		return report, err
	}
	report.Problems, report.Objects = problemsOf(j), r.objectsOf(j)
	if j.route != nil {
		report.Uses, err = r.usesOf(j.route)
	}
	return report, err
}

// problemsOf are what is in the way of a route. The operator has the last word on whether there is anything, and the commands know the fields.
func problemsOf(j *judged) (problems []string) {
	now := statusOf(j.manifest)
	if unseen(j.manifest) {
		problems = append(problems, notSeen)
	}
	for _, c := range now.Conditions {
		if c.Status != metav1.ConditionFalse || c.Type == v1alpha1.ConditionReady || c.Reason == v1alpha1.ReasonNotAccepted {
			continue
		}
		if c.Type == v1alpha1.ConditionAccepted && j.refusal != nil && j.refusal.Reason == c.Reason {
			for _, problem := range j.refusal.Problems {
				problems = append(problems, translate.Text(problem))
			}
			continue
		}
		problems = append(problems, c.Message)
	}
	return problems
}

// objectsOf are the objects that the route has or wants, in the order of writing.
func (r *reporter) objectsOf(j *judged) (all []relative) {
	wanted, owned := objects{}, r.world.owned[j.GetUID()]
	kept := j.translation == nil || !accepts(j.manifest)
	if !kept {
		wanted = wantedBy(j.translation)
	}
	for _, object := range sorted(owned.and(wanted)) {
		key := translate.KeyOf(object)
		is := r.world.stateOf(key, wanted[key], owned[key])
		if kept {
			is = stateKept
		}
		one := relative{Kind: key.Kind, Namespace: key.Namespace, Name: key.Name, State: is, For: purpose(object)}
		if live := owned[key]; live != nil {
			one.Created = live.GetCreationTimestamp()
		}
		all = append(all, one)
	}
	return all
}

// purpose is what a generated object is for.
func purpose(object translate.Object) string {
	switch o := object.(type) {
	case *corev1.Service:
		return "gives the alias an address"
	case *networkingv1.ServiceEntry:
		return "makes " + strings.Join(o.Spec.Hosts, ", ") + " known to the mesh"
	case *networkingv1.DestinationRule:
		return "sets TLS and connections to " + o.Spec.Host
	case *networkingv1.Gateway:
		return "opens a port of the egress gateway"
	case *networkingv1.VirtualService:
		if translate.IsSecondLeg(o) {
			return "sends requests on from the egress gateway"
		}
		return "sends requests for " + strings.Join(o.Spec.Hosts, ", ")
	}
	return ""
}

// usesOf are objects of others that the route depends on.
func (r *reporter) usesOf(route *v1alpha1.ExternalRoute) (all []relative, err error) {
	references := translate.ReferencesOf(route)
	for _, key := range references.Aliases {
		if service := r.world.services[key]; service != nil && r.world.generated[translate.KeyOf(service)] == nil {
			one := relative{Kind: "Service", Namespace: key.Namespace, Name: key.Name, State: statePresent, For: "is an alias"}
			one.Created = service.CreationTimestamp
			all = append(all, one)
		}
	}
	if g := route.Spec.EgressGateway; g != nil {
		key := translate.GatewayService(g)
		one := relative{Kind: "Service", Namespace: key.Namespace, Name: key.Name, For: "is the egress gateway"}
		one.State = r.unlessUnread(serviceResource, key.Namespace)
		if service := r.world.services[key]; service != nil {
			one.State, one.Created = statePresent, service.CreationTimestamp
		}
		all = append(all, one)
	}
	if key := references.Waypoint; key != nil {
		one := relative{Kind: "Gateway", Namespace: key.Namespace, Name: key.Name, For: "is the waypoint", State: r.unlessUnread(waypointResource, key.Namespace)}
		if r.world.waypoints[*key] != nil {
			one.State = statePresent
		}
		all = append(all, one)
	}
	for _, name := range references.ConfigMaps {
		one, err := r.configMap(types.NamespacedName{Namespace: route.Namespace, Name: name})
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return append(all, r.policiesOf(route)...), nil
}

// unlessUnread is the state of an object that was not found.
func (r *reporter) unlessUnread(resource, namespace string) state {
	if r.world.unread(resource, namespace) {
		return stateUnread
	}
	return stateMissing
}

func (r *reporter) configMap(key types.NamespacedName) (relative, error) {
	one := relative{Kind: "ConfigMap", Namespace: key.Namespace, Name: key.Name, State: statePresent, For: "has CA certificates"}
	found, err := r.getIn(key.Namespace, configMapResource, key.Name)
	switch {
	case apierrors.IsNotFound(err):
		one.State = stateMissing
	case apierrors.IsForbidden(err):
		one.State = stateUnread
	case err != nil:
		return one, fmt.Errorf("read ConfigMap %s: %w", key, err)
	default:
		one.Created = found[0].GetCreationTimestamp()
	}
	return one, nil
}

// policiesOf are the policies that apply to the route.
func (r *reporter) policiesOf(route *v1alpha1.ExternalRoute) (all []relative) {
	scope := r.world.scope(route.Namespace)
	if scope == nil {
		return nil
	}
	roads := r.world.roads[types.NamespacedName{Namespace: route.Namespace, Name: route.Name}]
	for _, name := range scope.Policies() {
		does := "says what the namespace may reach"
		if slices.Contains(roads, name) {
			does += ", and sets the egress gateway"
		}
		all = append(all, relative{Kind: "ExternalRoutePolicy", Name: name, State: statePresent, For: does})
	}
	return all
}

// reports are those of the chosen routes. Without names, there may be none.
func (i *input) reports(ctx context.Context, names []string) ([]routeReport, error) {
	manifests, err := i.read()
	if err != nil {
		return nil, err
	}
	routes := ofKind(manifests, routeKind)
	if len(i.concerned(routes))+len(names) == 0 {
		fmt.Fprintln(i.ErrOut, i.nothing())
		return []routeReport{}, nil
	}
	chosen, err := i.chosen(routes, names)
	if err != nil {
		return nil, err
	}
	w, err := i.world(manifests)
	if err != nil {
		return nil, err
	}
	for _, m := range ofKind(manifests, policyKind) {
		w.admitPolicy(ctx, m) // one that is invalid does not apply
	}
	var reports []routeReport
	r := &reporter{input: i, world: w}
	for _, j := range w.admitRoutes(ctx, manifests) {
		if !slices.ContainsFunc(chosen, func(m manifest) bool { return m.GetUID() == j.GetUID() }) {
			continue
		}
		w.conclude(j)
		report, err := r.report(j)
		if err != nil {
			return nil, err
		}
		reports = append(reports, report)
	}
	return reports, nil
}

// age is how old an object is, as kubectl prints it. The conditions of a route that the operator has not seen have no age: the schema dates them 1970.
func age(created metav1.Time) string {
	if created.Unix() <= 0 {
		return ""
	}
	return duration.HumanDuration(time.Since(created.Time))
}
