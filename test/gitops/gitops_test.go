package gitops_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/externalroute/externalroute/test/argocd"
)

// change is a pull request, which is merged whatever its check says, and what comes of it.
type change struct {
	name  string
	files map[string]string // that it creates or replaces in the folder routes; without content, it deletes them

	refused string   // what the check says, and fails; empty if it passes
	plan    []string // what the check prints besides

	failed string // what the condition Ready of the Kustomization says, which is False; empty if it is True
	// late says that the operator judges routes again that the commit does not touch, so that Flux may read their status before: it sees the change when
	// it reconciles again.
	late bool

	health    map[string]string // what Argo CD says of the routes in the cluster
	outOfSync []string          // the routes and policies of which Argo CD says so
	hosts     []string          // to which the generated objects send traffic
}

func manifest(name, url string, more ...string) string {
	return fmt.Sprintf(`apiVersion: networking.externalroute.io/v1alpha1
kind: ExternalRoute
metadata:
  name: %s
  namespace: shop
spec:
  hosts: [%[1]s]
  destinations:
  - name: primary
    url: %s
%s`, name, url, strings.Join(append(more, "  timeout: 15s\n"), "\n"))
}

func policyFor(host string) string {
	return fmt.Sprintf(`apiVersion: networking.externalroute.io/v1alpha1
kind: ExternalRoutePolicy
metadata:
  name: shop
spec:
  namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: shop
  allow:
  - hosts: [%q]
`, host)
}

const (
	otherPath = "  - name: other\n    url: https://orders.example.org/v2" // one rule sends requests to both, and Istio rewrites the path by rule
	noPort    = "  port: 70000"
)

func changes(t *testing.T) []change {
	t.Helper()
	payments, orders := manifest("payments", "https://payments.example.com"), manifest("orders", "https://orders.example.com/v1")
	live := manifest("payments", "https://live.example.com")
	return []change{
		{
			name:   "creates two routes",
			files:  map[string]string{"namespace.yaml": block(t, "docs/flux.md", "kind: Namespace"), "payments.yaml": payments, "orders.yaml": orders},
			plan:   []string{"ExternalRoute shop/orders is created", "ExternalRoute shop/payments is created"},
			health: map[string]string{"orders": argocd.Healthy, "payments": argocd.Healthy},
			hosts:  []string{"orders.example.com", "payments.example.com"},
		},
		{
			name:   "moves a route to another host",
			files:  map[string]string{"payments.yaml": live},
			plan:   []string{"ExternalRoute shop/payments is updated", "after 3s: moves traffic: updates VirtualService payments", "after 6s: deletes"},
			health: map[string]string{"orders": argocd.Healthy, "payments": argocd.Healthy},
			hosts:  []string{"live.example.com", "orders.example.com"},
		},
		{
			name:    "breaks a route in a way that the operator finds",
			files:   map[string]string{"orders.yaml": manifest("orders", "https://orders.example.com/v1", otherPath)},
			refused: "has another base path than",
			failed:  "ExternalRoute/shop/orders",
			health:  map[string]string{"orders": argocd.Degraded, "payments": argocd.Healthy},
			hosts:   []string{"live.example.com", "orders.example.com"},
		},
		{
			name:   "fixes it",
			files:  map[string]string{"orders.yaml": orders},
			health: map[string]string{"orders": argocd.Healthy, "payments": argocd.Healthy},
			hosts:  []string{"live.example.com", "orders.example.com"},
		},
		{
			name: "breaks a route in a way that the API server refuses, and edits another one",
			files: map[string]string{
				"orders.yaml":   manifest("orders", "https://orders.example.com/v1", noPort),
				"payments.yaml": strings.Replace(live, "timeout: 15s", "timeout: 20s", 1),
			},
			refused:   "spec.port",
			failed:    "ExternalRoute/shop/orders",
			outOfSync: []string{"orders", "payments"}, // Flux applies nothing
			health:    map[string]string{"orders": argocd.Healthy, "payments": argocd.Healthy},
			hosts:     []string{"live.example.com", "orders.example.com"},
		},
		{
			name:    "creates a policy that allows one of the routes, and fixes the other",
			files:   map[string]string{"orders.yaml": orders, "policy.yaml": policyFor("live.example.com")},
			refused: "https://orders.example.com:443 is not allowed in namespace shop",
			failed:  "ExternalRoute/shop/orders",
			late:    true,
			health:  map[string]string{"orders": argocd.Degraded, "payments": argocd.Healthy},
			hosts:   []string{"live.example.com"},
		},
		{
			name:   "edits the policy, so that it allows both",
			files:  map[string]string{"policy.yaml": policyFor("*.example.com")},
			plan:   []string{"ExternalRoute shop/orders"},
			late:   true,
			health: map[string]string{"orders": argocd.Healthy, "payments": argocd.Healthy},
			hosts:  []string{"live.example.com", "orders.example.com"},
		},
		{
			name:   "removes a route and the policy",
			files:  map[string]string{"orders.yaml": "", "policy.yaml": ""},
			plan:   []string{"ExternalRoute shop/orders is deleted"},
			health: map[string]string{"payments": argocd.Healthy},
			hosts:  []string{"live.example.com"},
		},
	}
}

// Commits create, edit, break and remove routes and a policy. Pull request, Flux and Argo CD say the truth at each step, and then nobody fights.
func TestGitOps(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.repository.write(t, "check-routes.sh", block(t, "docs/gitops.md", "check-routes.sh BASE"))
	s.repository.commit(t)
	s.repository.merge(t)
	s.apply(block(t, "docs/flux.md", "path: ./routes"))
	for _, c := range changes(t) {
		s.run("a commit "+c.name, func() { s.merge(c) })
	}
	s.run("every sample is healthy, and nobody writes at rest", s.applySamples)
	s.run("the operator repairs generated objects", s.driftOfGeneratedObjects)
	s.run("Flux repairs a route that a user edits", s.driftOfARoute)
	s.run("Flux creates a route again that a user deletes", s.deletionOfARoute)
}

// applySamples lets Flux apply all samples that fit into one namespace. It waits until all are Ready.
func (s *story) applySamples() {
	if err := os.CopyFS(filepath.Join(s.repository.folder, "samples"), os.DirFS(filepath.Join(root, "config", "samples"))); err != nil {
		s.Fatal(err)
	}
	s.repository.commit(s.T)
	s.apply(gateways + block(s.T, "docs/guides/ambient.md", "kind: Gateway\n") + "---" + samplesKustomization)
	if ready := s.sync(s.repository.merge(s.T), "operator", "routes", "samples"); ready.status != "True" {
		s.Fatalf("Flux does not get the samples Ready: %+v", ready)
	}
	s.atRest("samples", "operator", "routes", "samples")
}

// driftOfGeneratedObjects is for the operator alone: Flux has not applied them, and does not know them.
func (s *story) driftOfGeneratedObjects() {
	before, writes := s.specs(), s.writes()
	s.kubectl("patch", "--namespace=shop", "virtualservices.networking.istio.io", "payments", "--type=merge", `--patch={"spec":{"hosts":["other"]}}`)
	s.kubectl("delete", "--namespace=shop", "destinationrules.networking.istio.io", "--all")
	s.eventually("the operator should repair the objects", func() string { return cmp.Diff(before, s.specs()) })
	s.atRest("shop", "routes")
	s.wrote(writes, map[string]int{
		"PATCH virtualservices.networking.istio.io":   1, // the user's
		"DELETE destinationrules.networking.istio.io": 1,
		"APPLY virtualservices.networking.istio.io":   1, // the operator's
		"APPLY destinationrules.networking.istio.io":  1,
	})
	for _, kind := range generated {
		for _, object := range s.list(kind, "shop") {
			if flux := object.GetLabels()["kustomize.toolkit.fluxcd.io/name"]; flux != "" {
				s.Errorf("Flux would take %s %s for its own: it has the label of Kustomization %s", object.GetKind(), object.GetName(), flux)
			}
		}
	}
}

// driftOfARoute is for Flux: it undoes the edit of a field that Git sets, and that of a field that Git does not set, which Argo CD does not see.
func (s *story) driftOfARoute() {
	before := s.specs()
	for _, edit := range []struct {
		patch     string
		outOfSync []string
	}{
		{`{"spec":{"retries":{"attempts":5}}}`, nil},
		{`{"spec":{"timeout":"3s"}}`, []string{"payments"}},
	} {
		edited := s.specs()
		s.kubectl("patch", "--namespace=shop", "externalroutes", "payments", "--type=merge", "--patch="+edit.patch)
		s.eventually("the operator should follow the edit", func() string {
			if cmp.Equal(edited, s.specs()) {
				return "no generated object has changed"
			}
			return ""
		})
		if difference := cmp.Diff(edit.outOfSync, s.outOfSync()); difference != "" {
			s.Errorf("what is out of sync for Argo CD after %s, want (-) and got (+):\n%s", edit.patch, difference)
		}
	}
	writes := s.writes()
	if ready := s.reconcile(kustomizations, "routes", ""); ready.status != "True" {
		s.Errorf("Ready of the Kustomization is %+v", ready)
	}
	if difference := cmp.Diff(before, s.specs()); difference != "" {
		s.Errorf("the Kustomization is Ready, and the generated objects are not as before (-):\n%s", difference)
	}
	s.atRest("shop", "routes")
	s.wrote(writes, map[string]int{
		"PATCH externalroutes.networking.externalroute.io":        1, // Flux takes the fields from kubectl
		"APPLY externalroutes.networking.externalroute.io":        1,
		"APPLY externalroutes.networking.externalroute.io/status": 1, // the operator's
		"APPLY virtualservices.networking.istio.io":               1,
	})
}

func (s *story) deletionOfARoute() {
	hosts := s.hosts()
	s.kubectl("delete", "--namespace=shop", "externalroutes", "payments")
	s.eventually("its objects should go with it", func() string { return cmp.Diff([]string(nil), s.hosts()) })
	if ready := s.reconcile(kustomizations, "routes", ""); ready.status != "True" {
		s.Errorf("Ready of the Kustomization is %+v", ready)
	}
	if difference := cmp.Diff(hosts, s.hosts()); difference != "" {
		s.Errorf("the Kustomization is Ready, and the hosts are not as before (-):\n%s", difference)
	}
	s.atRest("shop", "routes")
}

func (s *story) merge(c change) {
	for name, content := range c.files {
		s.repository.write(s.T, "routes/"+name, content)
	}
	s.repository.commit(s.T)
	s.checked(c)
	ready := s.sync(s.repository.merge(s.T), "operator", "routes")
	s.Logf("Ready of the Kustomization is %+v", ready)
	if c.late {
		s.eventually("the operator should judge the routes again", func() string { return cmp.Diff(c.health, s.health()) })
		ready = s.reconcile(kustomizations, "routes", "")
	}
	if want := c.failed == ""; want != (ready.status == "True") || !strings.Contains(ready.message, c.failed) {
		s.Errorf("Ready of the Kustomization is %+v: want %t, with %q", ready, want, c.failed)
	}
	if difference := cmp.Diff(c.health, s.health()); difference != "" {
		s.Errorf("Argo CD's health, want (-) and got (+):\n%s", difference)
	}
	if difference := cmp.Diff(c.outOfSync, s.outOfSync()); difference != "" {
		s.Errorf("what is out of sync for Argo CD, want (-) and got (+):\n%s", difference)
	}
	if !slices.Contains(slices.Collect(maps.Values(c.files)), "") { // Kubernetes deletes what belongs to a deleted route later
		if difference := cmp.Diff(c.hosts, s.destinations()); difference != "" {
			s.Errorf("the hosts to which traffic goes, want (-) and got (+):\n%s", difference)
		}
	}
	s.eventually("the hosts should be those of the routes", func() string { return cmp.Diff(c.hosts, s.destinations()) + cmp.Diff(c.hosts, s.hosts()) })
	s.explained(c, ready)
}

// explained checks that users read the same message for a mistake in the pull request and in what Flux or Argo CD says of it.
func (s *story) explained(c change, ready condition) {
	s.Helper()
	messages := []string{ready.message}
	for _, route := range s.list(routes, "shop") {
		messages = append(messages, s.argo.health(s.T, &route).Message)
	}
	if !slices.ContainsFunc(messages, func(message string) bool { return strings.Contains(message, c.refused) }) {
		s.Errorf("none of these says %q:\n%s", c.refused, strings.Join(messages, "\n"))
	}
}

// checked runs the check of the pull request, on a user's machine and in a pipeline of GitHub, which shows annotations at the lines.
func (s *story) checked(c change) {
	s.Helper()
	for environment, prefix := range map[string]string{"GITHUB_ACTIONS=": "routes/", "GITHUB_ACTIONS=true": "::error file=routes/"} {
		code, output := s.repository.check(s.T, environment)
		want := 0
		if c.refused != "" {
			want = 1
		}
		if code != want || !strings.Contains(output, c.refused) || want == 1 && !strings.Contains(output, prefix) {
			s.Errorf("the check of the pull request exits with %d: want %d, with %q:\n%s", code, want, c.refused, output)
		}
		for _, line := range c.plan {
			if !strings.Contains(output, line) {
				s.Errorf("the check does not print %q:\n%s", line, output)
			}
		}
	}
}

// What the samples need: the egress gateway and the waypoint that some of them name.
const gateways = `
apiVersion: v1
kind: Namespace
metadata: {name: istio-egress}
---
apiVersion: v1
kind: Service
metadata: {name: istio-egressgateway, namespace: istio-egress}
spec: {selector: {istio: egressgateway}, ports: [{name: https, port: 443}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: mesh-gateways}
---
`

const samplesKustomization = `
apiVersion: v1
kind: Namespace
metadata: {name: samples}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: samples, namespace: flux-system}
spec:
  interval: 10m
  timeout: 2m
  sourceRef: {kind: GitRepository, name: deploy}
  path: ./samples
  targetNamespace: samples
  prune: true
  wait: true
`
