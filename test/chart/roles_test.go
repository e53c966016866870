package chart_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"

	"github.com/externalroute/externalroute/test/controlplane"
)

const (
	routes   = "externalroutes.networking.externalroute.io"
	policies = "externalroutepolicies.networking.externalroute.io"
	reading  = "get list watch"
	operator = "system:serviceaccount:externalroute-system:externalroute"
	writing  = "create delete deletecollection get list patch update watch"
)

// Roles are tried on a real API server by users that have nothing else: what they may do in the namespace of their binding, and elsewhere.
func TestRoles(t *testing.T) {
	c := startCluster(t, controlplane.Options{Istio: true})
	c.kubectl(t, "apply", "--server-side", "--kustomize="+root+"/config/default")
	c.namespace(t, "shop", "elsewhere")
	for _, role := range []string{"view", "edit", "admin", "externalroute-viewer", "externalroute-editor"} {
		c.kubectl(t, "create", "rolebinding", role, "--clusterrole="+role, "--user="+role, "--namespace=shop")
	}
	for _, role := range []string{"externalroute-policy-admin", "externalroute-metrics-reader"} {
		c.kubectl(t, "create", "clusterrolebinding", role, "--clusterrole="+role, "--user="+role)
	}
	c.rolesOfOurs(t)
	c.rolesOfTheCluster(t)
	c.callsOfPeople(t)
}

// rolesOfOurs holds what the API server allows to what the roles say, for every resource that any of them names, and some that none may.
func (c *cluster) rolesOfOurs(t *testing.T) {
	t.Helper()
	const system = "externalroute-system"
	leader := rights{}
	for _, role := range []string{"manager", "leader-election", "metrics-auth"} {
		for target, verbs := range shipped[role] {
			leader.add(target, verbs)
		}
	}
	everywhere := rights{}
	for _, role := range []string{"manager", "metrics-auth"} {
		for target, verbs := range shipped[role] {
			everywhere.add(target, verbs)
		}
	}
	none := rights{}
	for name, row := range map[string]struct {
		user, namespace string
		want            rights
	}{
		"the operator anywhere":                   {operator, "elsewhere", everywhere},
		"the operator in its own namespace":       {operator, system, leader},
		"another account beside the operator":     {"system:serviceaccount:externalroute-system:default", system, none},
		"a viewer in the namespace":               {"externalroute-viewer", "shop", shipped["viewer"]},
		"a viewer elsewhere":                      {"externalroute-viewer", "elsewhere", none},
		"an editor in the namespace":              {"externalroute-editor", "shop", shipped["editor"]},
		"an editor elsewhere":                     {"externalroute-editor", "elsewhere", none},
		"a policy admin":                          {"externalroute-policy-admin", "shop", shipped["policy-admin"]},
		"a reader of metrics":                     {"externalroute-metrics-reader", "shop", shipped["metrics-reader"]},
		"a user without a binding":                {"stranger", "shop", none},
		"a user of the namespace without a route": {"system:serviceaccount:shop:default", "shop", none},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, c.allowed(t, row.user, row.namespace, targetsOfAll())); diff != "" {
				t.Errorf("wanted (-) and allowed (+):\n%s", diff)
			}
		})
	}
}

// rolesOfTheCluster tries what the cluster's own roles get of ours: as config has it, with each of the chart's values, and without them again. They include
// NetworkPolicies, which docs/guides/network-enforcement.md warns of.
func (c *cluster) rolesOfTheCluster(t *testing.T) {
	t.Helper()
	const networkPolicies = "networkpolicies.networking.k8s.io"
	about := []string{routes, "externalroutes/status.networking.externalroute.io", policies, "externalroutepolicies/status.networking.externalroute.io", networkPolicies}
	may := func(verbs, onNetworkPolicies string) rights {
		allowed := rights{networkPolicies: onNetworkPolicies}
		if verbs != "" {
			allowed[routes], allowed["externalroutes/status.networking.externalroute.io"] = verbs, "get"
		}
		return allowed
	}
	for _, step := range []struct {
		name       string
		values     string // of the chart; empty for config
		view, edit string
	}{
		{"config/default", "", reading, reading},
		{"the chart, aggregation into edit", "rbac.aggregateToEdit=true", reading, writing},
		{"the chart, aggregation into edit alone", "rbac.aggregateToEdit=true,rbac.aggregateToView=false", "", writing},
		{"the chart, no aggregation", "rbac.aggregateToView=false", "", ""},
		{"the chart by default", "rbac.aggregateToView=true", reading, reading},
	} {
		t.Run(step.name, func(t *testing.T) {
			if step.values != "" {
				c.apply(t, c.KubeconfigFile, render(t, "--show-only=templates/user-roles.yaml", "--set="+step.values))
			}
			for user, want := range map[string]rights{
				"view":  may(step.view, reading),
				"edit":  may(step.edit, writing),
				"admin": may(step.edit, writing),
			} {
				eventually(t, fmt.Sprintf("%s may do %v", user, want), func() bool { return cmp.Equal(want, c.allowed(t, user, "shop", about)) })
				if got := c.allowed(t, user, "elsewhere", about); len(got) > 0 {
					t.Errorf("%s may elsewhere: %v", user, got)
				}
			}
		})
	}
}

// callsOfPeople are real calls of real users: each is done, or forbidden with the words.
func (c *cluster) callsOfPeople(t *testing.T) {
	t.Helper()
	route := read(t, "config/samples/smallest.yaml")
	policy := []byte("apiVersion: networking.externalroute.io/v1alpha1\nkind: ExternalRoutePolicy\nmetadata: {name: roles}\nspec: {namespaceSelector: {}}\n")
	entry := []byte("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: roles}\nspec: {hosts: [www.example.com]}\n")
	for _, call := range []struct {
		user  string
		input []byte
		args  string
		words string // of the refusal; empty if it is done
	}{
		{"externalroute-viewer", route, "create --namespace=shop -f -", "cannot create resource"},
		{"externalroute-editor", route, "create --namespace=elsewhere -f -", "cannot create resource"},
		{"externalroute-editor", route, "create --namespace=shop -f -", ""},
		{"externalroute-viewer", nil, "get --namespace=shop externalroute/webserver", ""},
		{"externalroute-viewer", nil, "delete --namespace=shop externalroute/webserver", "cannot delete resource"},
		{"externalroute-editor", nil, `patch --namespace=shop externalroute/webserver --subresource=status --type=merge --patch={"status":{"observedGeneration":9}}`, "cannot patch resource"},
		{"externalroute-editor", policy, "create -f -", "cannot create resource"},
		{"externalroute-editor", entry, "create --namespace=shop -f -", "cannot create resource"},
		{"edit", nil, "delete --namespace=shop externalroute/webserver", "cannot delete resource"},
		{"admin", policy, "create -f -", "cannot create resource"},
		// Kubernetes lets nobody give away what he does not have.
		{"admin", nil, "create rolebinding --namespace=shop self --clusterrole=externalroute-editor --user=admin", "attempting to grant RBAC permissions not currently held"},
		{"externalroute-editor", nil, "create rolebinding --namespace=shop self --clusterrole=externalroute-policy-admin --user=externalroute-editor", "cannot create resource"},
		{operator, nil, "get --namespace=shop externalroutes", ""},
		{operator, nil, "get --namespace=shop secrets", "cannot list resource"},
		{operator, nil, "delete --namespace=shop externalroute/webserver", "cannot delete resource"},
		{operator, policy, "create -f -", "cannot create resource"},
		{operator, entry, "create --namespace=shop -f -", ""},
		{operator, nil, "create clusterrolebinding self --clusterrole=cluster-admin --user=" + operator, "cannot create resource"},
		{"externalroute-policy-admin", policy, "create -f -", ""},
		{"externalroute-policy-admin", nil, "get --namespace=shop externalroutes", "cannot list resource"},
		{"externalroute-policy-admin", nil, `patch externalroutepolicy/roles --subresource=status --type=merge --patch={"status":{"observedGeneration":9}}`, "cannot patch resource"},
		{"externalroute-policy-admin", nil, "delete externalroutepolicy/roles", ""},
		{"externalroute-editor", nil, "delete --namespace=shop externalroute/webserver", ""},
	} {
		t.Run(call.user+" "+call.args, func(t *testing.T) {
			kubeconfig, err := c.Kubeconfig(call.user)
			if err != nil {
				t.Fatal(err)
			}
			said, err := c.kubectlAs(t, kubeconfig, call.input, strings.Fields(call.args)...)
			switch {
			case call.words == "" && err != nil:
				t.Errorf("%v: %s", err, said)
			case call.words != "" && (err == nil || !strings.Contains(said, call.words)):
				t.Errorf("want a refusal with %q: %v: %s", call.words, err, said)
			}
		})
	}
}

// kubectlAs runs kubectl as the user of a kubeconfig, and returns all that it says.
func (c *cluster) kubectlAs(t *testing.T, kubeconfig string, input []byte, args ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), filepath.Join(c.Assets, "kubectl"), append([]string{"--kubeconfig=" + kubeconfig}, args...)...)
	command.Stdin = bytes.NewReader(input)
	said, err := command.CombinedOutput()
	return string(said), err
}

func (c *cluster) apply(t *testing.T, kubeconfig string, manifests []byte) {
	t.Helper()
	if said, err := c.kubectlAs(t, kubeconfig, manifests, "apply", "--server-side", "--force-conflicts", "-f", "-"); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
}

// allowed asks the API server for each target and verb whether a user may.
func (c *cluster) allowed(t *testing.T, user, namespace string, targets []string) rights {
	t.Helper()
	allowed := rights{}
	for _, target := range targets {
		for verb := range strings.FieldsSeq(writing) {
			spec := authorizationv1.SubjectAccessReviewSpec{User: user}
			if strings.HasPrefix(target, "/") {
				spec.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Path: target, Verb: verb}
			} else {
				name, group, _ := strings.Cut(target, ".")
				resource, subresource, _ := strings.Cut(name, "/")
				spec.ResourceAttributes = &authorizationv1.ResourceAttributes{Namespace: namespace, Verb: verb, Group: group, Resource: resource, Subresource: subresource}
			}
			review := &authorizationv1.SubjectAccessReview{Spec: spec}
			c.create(t, review)
			if review.Status.Allowed {
				allowed.add(target, verb)
			}
		}
	}
	return allowed
}

// add gives verbs on a target, each once and in order.
func (r rights) add(target, verbs string) {
	all := append(strings.Fields(r[target]), strings.Fields(verbs)...)
	slices.Sort(all)
	r[target] = strings.Join(slices.Compact(all), " ")
}

// targetsOfAll are the resources and paths that any role of ours names, and some that none of them may.
func targetsOfAll() []string {
	targets := []string{
		"secrets.", "pods.", "serviceaccounts.", "nodes.", "deployments.apps", "networkpolicies.networking.k8s.io", "authorizationpolicies.security.istio.io",
		"roles.rbac.authorization.k8s.io", "clusterrolebindings.rbac.authorization.k8s.io", "customresourcedefinitions.apiextensions.k8s.io", "/logs",
	}
	for _, role := range shipped {
		for target := range role {
			targets = append(targets, target)
		}
	}
	slices.Sort(targets)
	return slices.Compact(targets)
}
