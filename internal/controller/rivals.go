package controller

import (
	"context"
	"fmt"
	"slices"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/conflict"
	"github.com/externalroute/externalroute/internal/translate"
)

// judge looks, before anything is written, whether somebody else has what the route claims. All hosts of a route are its own, or none.
func (r *Reconciler) judge(ctx context.Context, route *v1alpha1.ExternalRoute, f *facts, objects *translate.Objects) (*translate.Refusal, error) {
	if !r.istio.installed() {
		return nil, nil //nolint:nilnil // nothing can be written, and nobody else's objects be seen
	}
	hosts, err := r.foreignHosts(ctx, route, f, objects)
	if err != nil {
		return nil, err
	}
	destinations := r.foreignDestinations(route, f, objects)
	unknown, err := r.unknownClaimants(ctx, route, objects)
	if err != nil {
		return nil, err
	}
	refused := len(hosts)+len(destinations) > 0
	for _, c := range r.claims.take(conflict.IdentityOf(route), claimsOf(objects, r.options.ClusterDomain), unknown, !route.Spec.Suspend, refused) {
		if c.Hosts {
			hosts = appendOnce(hosts, field.Invalid(objects.HostPaths[c.Index], objects.Hosts[c.Index], c.words()))
		} else {
			destinations = appendOnce(destinations, field.Invalid(objects.UpstreamPaths[c.Index], objects.ServiceEntries[c.Index].Spec.Hosts[0], c.words()))
		}
	}
	switch {
	case len(hosts) > 0:
		return &translate.Refusal{Reason: v1alpha1.ReasonHostConflict, Problems: hosts}, nil
	case len(destinations) > 0:
		return &translate.Refusal{Reason: v1alpha1.ReasonDestinationConflict, Problems: destinations}, nil
	}
	return nil, nil //nolint:nilnil // nobody else has it
}

// words say who has a claim.
func (c clash) words() string {
	rival := fmt.Sprintf("ExternalRoute %s/%s", c.rival.Namespace, c.rival.Name)
	waits := ", which serves already"
	if !c.stands {
		waits = ", which is older"
	}
	switch {
	case c.Hosts:
		return fmt.Sprintf("belongs to %s%s: take the host out of one of the two routes", rival, waits)
	case c.Share == "" || c.Share == conflict.Subsets:
		return fmt.Sprintf("%s%s, uses the same host, and tls.scope Host suffers no other route beside it: use scope Route in both", rival, waits)
	}
	return fmt.Sprintf("%s%s, declares another protocol for a port of the same host: make the two agree", rival, waits)
}

func appendOnce(problems field.ErrorList, problem *field.Error) field.ErrorList {
	if slices.ContainsFunc(problems, func(p *field.Error) bool { return p.Field == problem.Field && p.Detail == problem.Detail }) {
		return problems
	}
	return append(problems, problem)
}

func claimsOf(objects *translate.Objects, clusterDomain string) []conflict.Claim {
	return conflict.ClaimsOf(objects.VirtualService, objects.Services, objects.ServiceEntries, objects.DestinationRules, clusterDomain)
}

// foreignHosts tells of VirtualServices and HTTPRoutes of other people that serve one of the hosts.
func (r *Reconciler) foreignHosts(ctx context.Context, route *v1alpha1.ExternalRoute, f *facts, objects *translate.Objects) (field.ErrorList, error) {
	var problems field.ErrorList
	ours := conflict.VirtualServiceFacts(objects.VirtualService, r.options.ClusterDomain).On(uint32(route.Spec.Port)) //nolint:gosec // 1..65535 by schema
	if live := liveVirtualService(f, objects); live != nil {
		ours.Created = live.CreationTimestamp.Time
	}
	for i, host := range objects.Hosts {
		for _, v := range r.objects.virtualServices.claiming(conflict.Name{Host: host}) {
			if isNamed(objects.VirtualService, v.Identity) {
				continue // its name is the conflict, or it is handed over
			}
			if served, beats := conflict.Beats(v, ours); beats && served == i {
				problems = append(problems, field.Invalid(objects.HostPaths[i], host, fmt.Sprintf(
					"is served by VirtualService %s/%s, which Istio prefers: take the host out of one of the two, or delete one", v.Namespace, v.Name)))
			}
		}
	}
	routes, err := r.gatewayAPI.rivals(ctx, route)
	if err != nil {
		return nil, err
	}
	for _, rival := range routes {
		name := fmt.Sprintf("%s.%s.svc.%s", rival.service, route.Namespace, r.options.ClusterDomain)
		i := slices.Index(objects.Hosts, name)
		if i < 0 || !visibleIn(route, rival.Namespace) {
			continue
		}
		problems = append(problems, field.Invalid(objects.HostPaths[i], name, fmt.Sprintf(
			"is served by %s %s/%s too, and Istio leaves open which of the two it follows: take the Service out of one of them",
			rival.kind, rival.Namespace, rival.Name)))
	}
	return problems, nil
}

func isNamed(object client.Object, identity conflict.Identity) bool {
	return object.GetName() == identity.Name && object.GetNamespace() == identity.Namespace
}

func visibleIn(route *v1alpha1.ExternalRoute, namespace string) bool {
	return namespace == route.Namespace || slices.ContainsFunc(route.Spec.ExportTo, func(n v1alpha1.ExportNamespace) bool {
		return n == "*" || string(n) == namespace
	})
}

// foreignDestinations tells of ServiceEntries and DestinationRules of other people that would decide about a host which the route uses by its real name.
func (r *Reconciler) foreignDestinations(route *v1alpha1.ExternalRoute, f *facts, objects *translate.Objects) field.ErrorList {
	var problems field.ErrorList
	disturbed := func(i int, kind string, rival conflict.Identity, how string) {
		if how != "" {
			problems = appendOnce(problems, field.Invalid(objects.UpstreamPaths[i], objects.ServiceEntries[i].Spec.Hosts[0], fmt.Sprintf(
				"%s %s/%s is for the same host and %s: make the two agree, or delete it", kind, rival.Namespace, rival.Name, how)))
		}
	}
	for i, want := range objects.ServiceEntries {
		ours := conflict.ServiceEntryFacts(want)
		if live, stands := f.owned[referenceTo(want)]; stands {
			ours.Created = live.GetCreationTimestamp().Time
		}
		claim := conflict.Name{Namespace: route.Namespace, Host: want.Spec.Hosts[0]}
		for _, e := range r.objects.serviceEntries.claiming(claim) {
			if !isNamed(want, e.Identity) {
				disturbed(i, "ServiceEntry", e.Identity, e.Disturbs(ours))
			}
		}
		rule := conflict.DestinationRuleFacts(objects.DestinationRules[i])
		if live, stands := f.owned[referenceTo(objects.DestinationRules[i])]; stands {
			rule.Created = live.GetCreationTimestamp().Time
		}
		for _, d := range r.objects.destinationRules.claiming(claim) {
			if !isNamed(objects.DestinationRules[i], d.Identity) {
				disturbed(i, "DestinationRule", d.Identity, d.Disturbs(rule))
			}
		}
	}
	return problems
}

// unknownClaimants are the routes that ask for one of the hosts, as far as their specs can say.
func (r *Reconciler) unknownClaimants(ctx context.Context, route *v1alpha1.ExternalRoute, objects *translate.Objects) ([]claimant, error) {
	var claimants []claimant
	for _, host := range objects.Hosts {
		for _, request := range r.routes.by(concern{hostConcern, "", host}) {
			if request.Namespace != route.Namespace || request.Name == route.Name {
				continue
			}
			other := &v1alpha1.ExternalRoute{}
			if err := r.client.Get(ctx, request.NamespacedName, other, &client.GetOptions{UnsafeDisableDeepCopy: new(true)}); err != nil {
				if apierrors.IsNotFound(err) {
					continue
				}
				return nil, err
			}
			if !other.Spec.Suspend && other.DeletionTimestamp.IsZero() {
				claimants = append(claimants, claimant{Identity: conflict.IdentityOf(other), wants: r.asks(other)})
			}
		}
	}
	return claimants, nil
}

// asks are the claims of a route on hosts, as far as its spec can say.
func (r *Reconciler) asks(route *v1alpha1.ExternalRoute) []conflict.Claim {
	var labels map[string]string
	if s := route.Spec.WorkloadSelector; s != nil {
		labels = map[string]string{}
		for key, value := range s.MatchLabels {
			labels[key] = string(value)
		}
	}
	var asked []conflict.Claim
	for i, host := range translate.HostsOf(route, r.options.ClusterDomain) {
		asked = append(asked, conflict.HostClaim(route.Namespace, host, uint32(route.Spec.Port), labels, i)) //nolint:gosec // 1..65535 by schema
	}
	return asked
}

// settleClaims records what the route has after a pass: what stands, and what it was given and has not written yet.
func (r *Reconciler) settleClaims(route *v1alpha1.ExternalRoute, f *facts, objects *translate.Objects, refusal *translate.Refusal) {
	identity := conflict.IdentityOf(route)
	has := claimsOf(standing(f.owned), r.options.ClusterDomain)
	if objects != nil && !route.Spec.Suspend {
		has = slices.Concat(has, without(claimsOf(objects, r.options.ClusterDomain), has))
	}
	r.wake(r.claims.has(identity, has))
	waits := refusal != nil && (refusal.Reason == v1alpha1.ReasonHostConflict || refusal.Reason == v1alpha1.ReasonDestinationConflict)
	if (refusal != nil && !waits) || route.Spec.Suspend {
		r.wake(r.claims.refuse(identity, r.asks(route)))
	}
}

// recallClaims fills the claims from the objects that stand: what a route serves is its own, whoever is reconciled first after a restart.
func (r *Reconciler) recallClaims(ctx context.Context) error {
	var routes v1alpha1.ExternalRouteList
	if err := r.client.List(ctx, &routes, client.UnsafeDisableDeepCopy); err != nil {
		return err
	}
	for i := range routes.Items {
		route := &routes.Items[i]
		owned, err := r.ownedObjects(ctx, route)
		if err != nil {
			return err
		}
		if len(owned) > 0 {
			r.claims.has(conflict.IdentityOf(route), claimsOf(standing(owned), r.options.ClusterDomain))
		}
	}
	return nil
}

// standing sorts objects by their kind.
func standing(owned map[reference]client.Object) *translate.Objects {
	objects := &translate.Objects{}
	for _, object := range owned {
		switch o := object.(type) {
		case *corev1.Service:
			objects.Services = append(objects.Services, o)
		case *networkingv1.ServiceEntry:
			objects.ServiceEntries = append(objects.ServiceEntries, o)
		case *networkingv1.DestinationRule:
			objects.DestinationRules = append(objects.DestinationRules, o)
		case *networkingv1.VirtualService:
			objects.VirtualService = o
		}
	}
	return objects
}

// wake wakes routes that waited for another one.
func (r *Reconciler) wake(routes []types.NamespacedName) {
	for _, key := range routes {
		r.woken(key)
	}
}
