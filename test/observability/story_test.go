package observability_test

import (
	"fmt"

	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

var teams = []string{"shop", "billing", "mail"}

// tell lets happen what happens to an operator in a year, in two minutes: each panel gets something to show.
func (b *bench) tell() {
	b.Helper()
	for _, team := range teams {
		b.apply("{apiVersion: v1, kind: Namespace, metadata: {name: " + team + "}}")
	}
	b.newRoutes()
	b.moves()
	b.mistakes()
	b.policies()
	b.refusals()
	b.succession()
	b.cleanUp()
}

func (b *bench) newRoutes() {
	b.Helper()
	b.inSteps(0, 24, func(i int) {
		b.route(teams[i%len(teams)], fmt.Sprintf("route-%02d", i), fmt.Sprintf("https://api-%02d.example.com/v1", i), "")
	})
	for i := range 24 {
		b.becomes(teams[i%len(teams)], fmt.Sprintf("route-%02d", i), v1alpha1.ReasonProgrammed)
	}
}

// moves are edits after which traffic goes elsewhere, and others that take effect at once.
func (b *bench) moves() {
	b.Helper()
	b.inSteps(0, 6, func(i int) {
		b.route(teams[i%len(teams)], fmt.Sprintf("route-%02d", i), fmt.Sprintf("https://api-%02d.example.org/v1", i), "")
	})
	b.inSteps(6, 18, func(i int) {
		b.route(teams[i%len(teams)], fmt.Sprintf("route-%02d", i), fmt.Sprintf("https://api-%02d.example.com/v2", i), "")
	})
	for i := range 18 {
		b.becomes(teams[i%len(teams)], fmt.Sprintf("route-%02d", i), v1alpha1.ReasonProgrammed)
	}
}

func (b *bench) mistakes() {
	b.Helper()
	b.route("shop", "route-00", "https://api-00.example.org/v1", "rules: [{destinations: [{name: primary, weight: 0}]}]")
	b.becomes("shop", "route-00", v1alpha1.ReasonInvalid)
	b.apply("{apiVersion: networking.externalroute.io/v1alpha1, kind: ExternalRoute, metadata: {name: rival, namespace: shop}, " +
		"spec: {hosts: [route-03], destinations: [{url: 'https://rival.example.com'}]}}")
	b.becomes("shop", "rival", v1alpha1.ReasonHostConflict)
	b.apply("{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: taken, namespace: billing}, " +
		"spec: {hosts: [elsewhere.example.com], http: [{directResponse: {status: 200}}]}}")
	b.route("billing", "taken", "https://taken.example.com", "")
	b.becomes("billing", "taken", v1alpha1.ReasonNameConflict)
	b.route("billing", "waits", "https://waits.example.com", "serviceCreationPolicy: Never")
	b.becomes("billing", "waits", v1alpha1.ReasonServiceMissing)
	b.answers(`count(externalroute_condition{condition="Ready", reason=~"Invalid|HostConflict|NameConflict|ServiceMissing"})`, 4)
}

// policies are one that does not allow a route, and one that selects no namespace.
func (b *bench) policies() {
	b.Helper()
	b.apply("{apiVersion: v1, kind: Namespace, metadata: {name: vault, labels: {team: vault}}}")
	b.apply("{apiVersion: networking.externalroute.io/v1alpha1, kind: ExternalRoutePolicy, metadata: {name: vault}, " +
		"spec: {namespaceSelector: {matchLabels: {team: vault}}, allow: [{hosts: ['*.example.com']}]}}")
	b.apply("{apiVersion: networking.externalroute.io/v1alpha1, kind: ExternalRoutePolicy, metadata: {name: misspelt}, " +
		"spec: {namespaceSelector: {matchLabels: {team: vualt}}}}")
	b.route("vault", "allowed", "https://vault.example.com", "")
	b.becomes("vault", "allowed", v1alpha1.ReasonProgrammed)
	b.route("vault", "barred", "https://vault.example.org", "")
	b.becomes("vault", "barred", v1alpha1.ReasonNotAllowedByPolicy)
	b.answers(`externalroute_policy_routes{policy="vault"}`, 2)
	b.answers(`externalroute_policy_namespaces == 0`, 0)
	b.answers(`count(externalroute_condition{condition="Accepted", status="False", reason="NotAllowedByPolicy"})`, 1)
}

// refusals are writes that a policy of the cluster forbids for a while.
func (b *bench) refusals() {
	b.Helper()
	b.kubectl(`
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-virtual-services}
spec:
  matchConstraints:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: mail}}
    resourceRules: [{apiGroups: [networking.istio.io], apiVersions: ["*"], resources: [virtualservices], operations: [CREATE, UPDATE]}]
  validations: [{expression: "false", message: not now}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: no-virtual-services}
spec: {policyName: no-virtual-services, validationActions: [Deny]}
`, "apply", "--server-side", "-f", "-")
	b.until("the policy is in force", func() string {
		attempt := &networkingv1.VirtualService{Spec: istio.VirtualService{
			Hosts: []string{"try.example.com"}, Http: []*istio.HTTPRoute{{DirectResponse: &istio.HTTPDirectResponse{Status: 200}}},
		}}
		attempt.Namespace, attempt.GenerateName = "mail", "try-"
		if err := b.client.Create(b.Context(), attempt, client.DryRunAll); err == nil {
			return "a VirtualService is admitted"
		}
		return ""
	})
	for _, name := range []string{"letters", "parcels"} {
		b.route("mail", name, "https://"+name+".example.com", "")
		b.becomes("mail", name, v1alpha1.ReasonApplyFailed)
	}
	for _, failures := range []string{`externalroute_applies_total{result="failed"}`, `controller_runtime_reconcile_errors_total{controller="externalroute"}`} {
		b.until("Prometheus sees failures", func() string {
			if rate := b.number("sum(rate(" + failures + "[10s]))"); !(rate > 0) {
				return fmt.Sprintf("the rate of %s is %g", failures, rate)
			}
			return ""
		})
	}
	b.kubectl("", "delete", "validatingadmissionpolicybinding/no-virtual-services", "validatingadmissionpolicy/no-virtual-services")
	for _, name := range []string{"letters", "parcels"} {
		b.becomes("mail", name, v1alpha1.ReasonProgrammed)
	}
}

// succession is the end of the replica that leads: the other takes over.
func (b *bench) succession() {
	b.Helper()
	leader := 0
	if b.number(fmt.Sprintf(`leader_election_master_status{instance=%q}`, b.addresses[1])) == 1 {
		leader = 1
	}
	b.replicas[leader].stop(b.T)
	b.until("the other leads", func() string {
		if b.number(fmt.Sprintf(`leader_election_master_status{instance=%q}`, b.addresses[1-leader])) != 1 {
			return "not yet"
		}
		return ""
	})
	b.route("shop", "route-00", "https://api-00.example.org/v3", "")
	b.becomes("shop", "route-00", v1alpha1.ReasonProgrammed)
}

func (b *bench) cleanUp() {
	b.Helper()
	for i := range 6 {
		b.kubectl("", "-n", teams[i%len(teams)], "delete", "externalroute", fmt.Sprintf("route-%02d", i))
	}
	b.answers(`count(externalroute_condition{condition="Ready", name=~"route-0[0-5]"}) or vector(0)`, 0)
}

// inSteps does something for each number of a range, a team at a time, and goes on when Prometheus has seen reconciliations of it: so the panels show a
// development.
func (b *bench) inSteps(first, end int, do func(i int)) {
	b.Helper()
	const reconciled = `sum(controller_runtime_reconcile_total{controller="externalroute"}) or vector(0)`
	for i := first; i < end; i += len(teams) {
		before := b.number(reconciled)
		for j := i; j < min(i+len(teams), end); j++ {
			do(j)
		}
		b.until("Prometheus sees reconciliations", func() string {
			if now := b.number(reconciled); !(now > before) {
				return fmt.Sprintf("%g, before %g", now, before)
			}
			return ""
		})
	}
}

// answers waits until Prometheus answers a query with a number.
func (b *bench) answers(query string, want float64) {
	b.Helper()
	b.until(query, func() string {
		if got := b.number(query); got != want {
			return fmt.Sprintf("%g, want %g", got, want)
		}
		return ""
	})
}

// route applies a route to a URL under its own name.
func (b *bench) route(namespace, name, url, more string) {
	b.Helper()
	b.apply(fmt.Sprintf("apiVersion: networking.externalroute.io/v1alpha1\nkind: ExternalRoute\nmetadata: {name: %s, namespace: %s}\n"+
		"spec:\n  hosts: [%s]\n  destinations: [{url: %q}]\n  %s\n", name, namespace, name, url, more))
}

// becomes waits until a route's Ready has a reason.
func (b *bench) becomes(namespace, name, reason string) {
	b.Helper()
	b.until(fmt.Sprintf("%s/%s should become %s", namespace, name, reason), func() string {
		route := &v1alpha1.ExternalRoute{}
		if err := b.client.Get(b.Context(), types.NamespacedName{Namespace: namespace, Name: name}, route); err != nil {
			return err.Error()
		}
		ready := meta.FindStatusCondition(route.Status.Conditions, v1alpha1.ConditionReady)
		if ready == nil || ready.ObservedGeneration != route.Generation || ready.Reason != reason {
			return fmt.Sprint(route.Status.Conditions)
		}
		return ""
	})
}
