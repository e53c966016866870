//go:build linux

package e2e

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/externalroute/externalroute/test/e2e/bench"
)

const recipes = "../../config/recipes/"

// An egress gateway tells callers apart by their ServiceAccounts. The recipes are those of the guide, in the namespaces that they name.
func TestCallersOfAnEgressGateway(t *testing.T) {
	const namespace, out = "shop", "istio-egress"
	ledger, orders := mesh.Serve(t, &bench.Upstream{Host: "ledger.callers.example.com"}), mesh.Serve(t, &bench.Upstream{Host: "orders.callers.example.com"})
	passed := mesh.Serve(t, &bench.Upstream{Host: "passed.callers.example.com"})
	g := egress(t, out, "callers")
	checkout, reports, other := mesh.AppAs(t, namespace, "checkout"), mesh.AppAs(t, namespace, "reports"), mesh.AppAs(t, namespace, "other")
	t.Cleanup(func() { forget(t, namespace) })
	intruder := begin(t, "intruder")
	apply(t, namespace, "egress-who.yaml", "GATEWAY", reference(g), "LEDGER", ledger.Host, "ORDERS", orders.Host)
	apply(t, namespace, "egress-pass.yaml", "GATEWAY", reference(g), "HOST", passed.Host)
	ready(t, namespace)
	apply(t, intruder.Namespace, "egress-intruder.yaml", "GATEWAY", g.Host(), "SNI", leg(t, namespace, "orders"), "AUTHORITY", leg(t, namespace, "orders"))

	t.Run("without a policy, a gateway serves every workload of the mesh", func(t *testing.T) {
		for _, app := range []*bench.App{checkout, reports, other} {
			answers(t, app, "http://ledger/", ledger.Host+" GET /")
			answers(t, app, "http://orders/", orders.Host+" GET /")
			answers(t, app, "https://"+passed.Host+"/", passed.Host+" GET /")
		}
		answers(t, intruder, "http://"+g.Host()+"/", orders.Host+" GET /")
	})
	t.Run("the ServiceAccounts of a namespace that may use its routes", func(t *testing.T) {
		recipe(t, g, "authorization-policy.yaml")
		refuses(t, other, "http://ledger/", http.StatusForbidden)
		refuses(t, other, "http://orders/", http.StatusForbidden)
		refuses(t, intruder, "http://"+g.Host()+"/", http.StatusForbidden)
		for _, app := range []*bench.App{checkout, reports} {
			answers(t, app, "http://ledger/", ledger.Host+" GET /")
			answers(t, app, "http://orders/", orders.Host+" GET /")
		}
		answers(t, other, "https://"+passed.Host+"/", passed.Host+" GET /")
	})
	t.Run("the one route that a ServiceAccount may use", func(t *testing.T) {
		recipe(t, g, "authorization-policy-route.yaml", "bc787d323b.shop.externalroute.internal", leg(t, namespace, "ledger"))
		refuses(t, reports, "http://orders/", http.StatusForbidden)
		answers(t, reports, "http://ledger/", ledger.Host+" GET /")
		answers(t, checkout, "http://orders/", orders.Host+" GET /")
		before := leg(t, namespace, "ledger")
		apply(t, namespace, "egress-intruder.yaml", "GATEWAY", g.Host(), "SNI", before, "AUTHORITY", before)
		answers(t, reports, "http://"+g.Host()+"/", ledger.Host+" GET /")
		apply(t, namespace, "egress-intruder.yaml", "GATEWAY", g.Host(), "SNI", before, "AUTHORITY", leg(t, namespace, "orders"))
		refuses(t, reports, "http://"+g.Host()+"/", http.StatusNotFound)
		apply(t, namespace, "egress-who.yaml", "GATEWAY", reference(g), "LEDGER", orders.Host, "ORDERS", orders.Host)
		answers(t, checkout, "http://ledger/", orders.Host+" GET /")
		if after := leg(t, namespace, "ledger"); after == before {
			t.Errorf("the server name is still %s", after)
		}
		refuses(t, reports, "http://ledger/", http.StatusForbidden)
	})
	t.Run("a connection that passes through proves no caller", func(t *testing.T) {
		url := "https://" + passed.Host + "/"
		enforce(t, g, manifest(t, "egress-by-account.yaml", "HOST", passed.Host))
		closes(t, checkout, url)
		kubectl(t, "", "delete", "authorizationpolicy", "by-account", "--namespace", out)
		answers(t, checkout, url, passed.Host+" GET /")
	})
	t.Run("a rule by hosts closes the gateway to all connections that pass through", func(t *testing.T) {
		enforce(t, g, manifest(t, "egress-by-hosts.yaml"))
		closes(t, checkout, "https://"+passed.Host+"/")
		answers(t, checkout, "http://orders/", orders.Host+" GET /")
	})
	encrypted(t, ledger, orders, passed)
}

// closes waits until a new connection to a host gets no answer.
func closes(t *testing.T, app *bench.App, url string) {
	t.Helper()
	if last, ok := app.Until(t.Context(), url, func(r bench.Response) bool { return r.Err != nil }); !ok {
		t.Fatalf("%s: want no answer, got %s", url, last)
	}
}

// recipe applies a recipe, and waits until the gateway has it.
func recipe(t *testing.T, g *bench.Gateway, file string, replacements ...string) {
	t.Helper()
	content, err := os.ReadFile(recipes + file)
	if err != nil {
		t.Fatal(err)
	}
	enforce(t, g, strings.NewReplacer(replacements...).Replace(string(content)))
}

var policyName = regexp.MustCompile(`(?m)^ {2}name: (\S+)$`)

// enforce applies an AuthorizationPolicy, and waits until the gateway has it.
func enforce(t *testing.T, g *bench.Gateway, policy string) {
	t.Helper()
	applyText(t, g.Namespace, policy)
	name := "policy[" + policyName.FindStringSubmatch(policy)[1] + "]"
	await(t, name+" at the gateway", func() (string, bool) {
		return "missing", strings.Contains(g.Admin(t, "config_dump?resource=dynamic_listeners"), name)
	})
}

// leg is the server name of a route's connections to its gateway.
func leg(t *testing.T, namespace, route string) string {
	t.Helper()
	gateway := kubectl(t, "", "get", "externalroute", route, "--namespace", namespace, "-o", `jsonpath={.status.resources[?(@.kind=="Gateway")].name}`)
	host := kubectl(t, "", "get", "gateways.networking.istio.io", gateway, "--namespace", namespace, "-o", "jsonpath={.spec.servers[0].hosts[0]}")
	_, name, _ := strings.Cut(host, "/")
	return name
}
