package policy_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/admission"
	"github.com/externalroute/externalroute/internal/policy"
	"github.com/externalroute/externalroute/internal/translate"
)

// Specs of policies that set a road.
const (
	east     = `{egressGateway: {name: east, namespace: edge}, allow: [{hosts: ["*.example.org"], schemes: [http, https, tcp, passthrough], ports: [443, 5432, 8443]}]}`
	west     = `{egressGateway: {name: west, namespace: edge}}`
	direct   = `{allow: [{hosts: ["*.example.org"]}]}`
	required = "ExternalRoutePolicy p0 sends the routes of namespace shop through egress gateway edge/east"
)

// The road that policies set for a route, and what the message says if it cannot take that.
func TestRoad(t *testing.T) {
	to := func(more string) string {
		return `{hosts: [web], destinations: [{url: "https://a.example.org"}]` + more + `}`
	}
	for name, c := range map[string]struct {
		policies []string
		route    string
		road     string
		want     string
	}{
		"no policy":                        {route: to("")},
		"no policy with a gateway":         {policies: []string{direct}, route: to("")},
		"a policy with a gateway":          {policies: []string{east}, route: to(""), road: "edge/east"},
		"beside a policy without":          {policies: []string{direct, east}, route: to(""), road: "edge/east"},
		"two policies that agree":          {policies: []string{east, east}, route: to(""), road: "edge/east"},
		"the route names the same gateway": {policies: []string{east}, route: to(`, egressGateway: {name: east, namespace: edge}`), road: "edge/east"},
		"the route names another gateway": {
			policies: []string{east}, route: to(`, egressGateway: {name: west, namespace: edge}`), road: "edge/west",
			want: "spec.egressGateway: " + required + ": remove edge/west, or ask the platform team",
		},
		"a gateway of the same name elsewhere": {
			policies: []string{east}, route: to(`, egressGateway: {name: east, namespace: shop}`), road: "shop/east",
			want: "spec.egressGateway: " + required + ": remove shop/east, or ask the platform team",
		},
		"policies that disagree": {
			policies: []string{east, direct, west}, route: to(""),
			want: "spec.egressGateway: policies of namespace shop disagree about the egress gateway: ExternalRoutePolicy p0 names edge/east, ExternalRoutePolicy p2 " +
				"names edge/west. Ask the platform team to name one",
		},
		"a waypoint": {
			policies: []string{east}, route: to(`, waypoint: {name: waypoint, namespace: edge}`), road: "edge/east",
			want: "spec.waypoint: excludes an egress gateway: remove it, or ask the platform team: " + required,
		},
		"some pods only": {
			policies: []string{east}, route: to(`, workloadSelector: {matchLabels: {app: web}}`), road: "edge/east",
			want: "spec.workloadSelector: excludes an egress gateway, which cannot tell which pod sent a request: remove it, or ask the platform team: " + required,
		},
		"exported": {
			policies: []string{`{egressGateway: {name: east, namespace: edge}, allow: [{hosts: ["*.example.org"], exportTo: ["*"]}]}`}, road: "edge/east",
			route: to(`, exportTo: ["*"]`),
			want:  `spec.exportTo: excludes an egress gateway: use ["."], and a route in each namespace, or ask the platform team: ` + required,
		},
		"TCP": {
			policies: []string{east}, route: `{hosts: [db], destinations: [{url: "tcp://db.example.org:5432"}]}`, road: "edge/east",
			want: "spec.destinations: an egress gateway takes http and https destinations, and no TCP, or ask the platform team: " + required,
		},
		"TLS for a host": {
			policies: []string{east}, route: `{hosts: [web], destinations: [{url: "https://a.example.org", tls: {scope: Host}}]}`, road: "edge/east",
			want: "spec.destinations[0].tls.scope: Host excludes an egress gateway: use Route, or ask the platform team: " + required,
		},
		"a wildcard that passes through": {
			policies: []string{east}, route: `{hosts: [a.example.org, "*.b.example.org"]}`, road: "edge/east",
			want: "spec.hosts[1]: an egress gateway cannot resolve a wildcard: list the hosts, or ask the platform team: " + required,
		},
		"TLS that passes through on another port": {
			policies: []string{east}, route: `{hosts: [a.example.org], port: 8443}`, road: "edge/east",
			want: "spec.port: a route without destinations passes TLS through an egress gateway on port 443 only: use it, or add destinations, or ask the platform " +
				"team: " + required,
		},
	} {
		t.Run(name, func(t *testing.T) {
			scope := scopeOf(t, c.policies)
			written := routeOf(t, c.route)
			before := written.DeepCopy()
			route, _ := scope.Lead(written)
			if diff := cmp.Diff(before, written); diff != "" {
				t.Errorf("the route of the cache has changed:\n%s", diff)
			}
			road, got := "", ""
			if g := route.Spec.EgressGateway; g != nil {
				road = fmt.Sprintf("%s/%s", g.Namespace, g.Name)
			}
			if refusal := scope.Judge(route, policy.Allow); refusal != nil {
				got = refusal.Message()
				if refusal.Effect != translate.Keep || refusal.Reason != v1alpha1.ReasonNotAllowedByPolicy {
					t.Errorf("the refusal has reason %s and effect %v", refusal.Reason, refusal.Effect)
				}
			}
			if diff := cmp.Diff([]string{c.road, c.want}, []string{road, got}); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// A policy refuses for a route what the API server refuses in a manifest that names a gateway.
func TestGatewayExcludedIsWhatTheAPIServerRefuses(t *testing.T) {
	judge, err := admission.New()
	if err != nil {
		t.Fatal(err)
	}
	const destination = `destinations: [{url: "https://a.example.org"}]`
	excluded := 0
	for _, spec := range []string{
		`{hosts: [web], ` + destination + `}`,
		`{hosts: [web], ` + destination + `, exportTo: ["."]}`,
		`{hosts: [web], ` + destination + `, exportTo: ["*"]}`,
		`{hosts: [web], ` + destination + `, exportTo: [".", front]}`,
		`{hosts: [web], ` + destination + `, workloadSelector: {matchLabels: {app: web}}}`,
		`{hosts: [web], ` + destination + `, waypoint: {name: waypoint, namespace: edge}}`,
		`{hosts: [web], ` + destination + `, port: 8080, meshHeaders: Keep, timeout: 3s}`,
		`{hosts: [a.example.org], ` + destination + `}`,
		`{hosts: [web], destinations: [{url: "https://a.example.org", tls: {scope: Host}}]}`,
		`{hosts: [web], destinations: [{url: "https://a.example.org", tls: {caCertificateRefs: [{name: ca}]}}]}`,
		`{hosts: [web], destinations: [{url: "http://a.example.org", endpoints: [{address: 192.0.2.1}]}]}`,
		`{hosts: [db], destinations: [{url: "tcp://a.example.org:5432"}]}`,
		`{hosts: [db], destinations: [{url: "tls://a.example.org:5432"}]}`,
		`{hosts: [a.example.org]}`,
		`{hosts: [a.example.org], port: 443}`,
		`{hosts: [a.example.org], port: 8443}`,
		`{hosts: [a.example.org, "*.example.org"]}`,
	} {
		var fields map[string]any
		if err := yaml.Unmarshal([]byte(spec), &fields); err != nil {
			t.Fatal(err)
		}
		fields["egressGateway"] = map[string]any{"name": "east", "namespace": "edge"}
		_, problems := judge.Admit(t.Context(), &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": v1alpha1.SchemeGroupVersion.String(), "kind": "ExternalRoute", "metadata": map[string]any{"namespace": "shop", "name": "web"}, "spec": fields,
		}})
		why := translate.GatewayExcluded(routeOf(t, spec))
		if len(problems) > 0 {
			excluded++
		}
		if (len(problems) > 0) != (len(why) > 0) {
			t.Errorf("%s: the API server says %v, the policy %v", spec, problems.ToAggregate(), why.ToAggregate())
		}
	}
	if excluded < 9 {
		t.Errorf("the API server refuses only %d", excluded)
	}
}

// What stands may stay if it takes the road that a policy of the namespace sets.
func TestJudgeRoad(t *testing.T) {
	const throughEast, throughWest = `, egressGateway: {name: east, namespace: edge}`, `, egressGateway: {name: west, namespace: edge}`
	http, passed := `{hosts: [web], destinations: [{url: "https://a.example.org"}]%s}`, `{hosts: [a.example.org]%s}`
	for name, c := range map[string]struct {
		policies []string
		stands   string
		want     string
	}{
		"no policy":                      {stands: fmt.Sprintf(http, "")},
		"a policy without a gateway":     {policies: []string{direct}, stands: fmt.Sprintf(http, "")},
		"through the gateway":            {policies: []string{east}, stands: fmt.Sprintf(http, throughEast)},
		"passed through the gateway":     {policies: []string{east}, stands: fmt.Sprintf(passed, throughEast)},
		"in place, through the gateway":  {policies: []string{east}, stands: `{hosts: [a.example.org], destinations: [{url: "https://a.example.org"}]` + throughEast + `}`},
		"through one of two":             {policies: []string{east, west}, stands: fmt.Sprintf(http, throughWest)},
		"an answer that goes nowhere":    {policies: []string{east}, stands: `{hosts: [web], destinations: [{url: "https://a.example.org"}], rules: [{directResponse: {status: 503}}]}`},
		"directly":                       {policies: []string{east}, stands: fmt.Sprintf(http, ""), want: "edge/east, which ExternalRoutePolicy p0"},
		"in place, directly":             {policies: []string{east}, stands: `{hosts: [a.example.org], destinations: [{url: "https://a.example.org"}]}`, want: "edge/east, which ExternalRoutePolicy p0"},
		"passed directly":                {policies: []string{east}, stands: fmt.Sprintf(passed, ""), want: "edge/east, which ExternalRoutePolicy p0"},
		"a passed wildcard":              {policies: []string{east}, stands: `{hosts: ["*.example.org"]}`, want: "edge/east, which ExternalRoutePolicy p0"},
		"directly, where two disagree":   {policies: []string{east, west}, stands: fmt.Sprintf(passed, ""), want: "edge/east or edge/west, which ExternalRoutePolicy p0, p1"},
		"through another gateway":        {policies: []string{west}, stands: fmt.Sprintf(http, throughEast), want: "edge/west, which ExternalRoutePolicy p0"},
		"passed through another gateway": {policies: []string{west}, stands: fmt.Sprintf(passed, throughEast), want: "edge/west, which ExternalRoutePolicy p0"},
		"TCP":                            {policies: []string{west}, stands: `{hosts: [db], destinations: [{url: "tcp://db.example.org:5432"}]}`, want: "edge/west, which ExternalRoutePolicy p0"},
	} {
		t.Run(name, func(t *testing.T) {
			route := routeOf(t, c.stands)
			got, want := "", ""
			if denied := scopeOf(t, c.policies).JudgeRoad(route, standing(t, route), translate.DefaultClusterDomain); denied != nil {
				got = denied.Message()
			}
			if c.want != "" {
				want = "spec: the objects of an earlier spec bypass egress gateway " + c.want + " sets for namespace shop"
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// A Secret beside an egress gateway is a client certificate only by permission; what stands needs that, too.
func TestClientCertificates(t *testing.T) {
	const (
		shows  = `{hosts: [web], egressGateway: {name: east, namespace: edge}, destinations: [{url: "https://a.example.org", tls: {clientCertificateRef: {name: ours}}}]}`
		own    = `{hosts: [web], workloadSelector: {matchLabels: {app: web}}, destinations: [{url: "https://a.example.org", tls: {clientCertificateRef: {name: ours}}}]}`
		path   = "spec.destinations[0].tls.clientCertificateRef.name: "
		allows = `{allow: [{hosts: [a.example.org], clientCertificates: [other, ours]}]}`
	)
	for name, c := range map[string]struct {
		policies []string
		route    string
		want     string
	}{
		"allowed":               {policies: []string{allows}, route: shows},
		"of the own namespace":  {policies: []string{direct}, route: own},
		"... without a policy":  {route: own},
		"by one entry of three": {policies: []string{direct, `{allow: [{hosts: ["*.org"]}]}`, allows}, route: shows},
		"without a policy": {
			route: shows, want: path + "no ExternalRoutePolicy selects namespace shop, and a client certificate of an egress gateway or a waypoint needs one that allows it: remove " +
				"clientCertificateRef, or ask the platform team",
		},
		"for another host": {
			policies: []string{direct, `{allow: [{hosts: [b.example.org], clientCertificates: [ours]}]}`}, route: shows,
			want: path + "client certificate ours of the gateway is not allowed for https://a.example.org:443 by ExternalRoutePolicy p0, p1 of namespace shop: " +
				"change the route, or ask the platform team",
		},
		"another one": {
			policies: []string{`{allow: [{hosts: [a.example.org], clientCertificates: [other]}]}`}, route: shows,
			want: path + "client certificate ours of the gateway is not allowed for https://a.example.org:443 by ExternalRoutePolicy p0 of namespace shop: " +
				"change the route, or ask the platform team",
		},
	} {
		t.Run(name, func(t *testing.T) {
			scope, route := scopeOf(t, c.policies), routeOf(t, c.route)
			got := ""
			if refusal := scope.Judge(route, policy.Allow); refusal != nil {
				got = refusal.Message()
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if denied := scope.JudgeStanding(route, standing(t, route), policy.Allow); (denied == nil) != (c.want == "") {
				t.Errorf("the verdict on what stands is %v", denied)
			}
		})
	}
}

// The namespaces of an egress gateway are those of the policies that name it.
func TestLeading(t *testing.T) {
	policies := &policy.Policies{}
	payments, shop := map[string]string{"team": "payments"}, map[string]string{"team": "shop"}
	toEast := func(g v1alpha1.GatewayReference) bool { return g.Name == "east" }
	if policies.Leading(toEast) != nil {
		t.Error("there is no policy")
	}
	policies.Put(policyOf(t, "p", `{namespaceSelector: {matchLabels: {team: payments}}, egressGateway: {name: east, namespace: edge}}`))
	policies.Put(policyOf(t, "q", `{namespaceSelector: {matchLabels: {team: shop}}, egressGateway: {name: west, namespace: edge}}`))
	if selects := policies.Leading(toEast); !selects(payments) || selects(shop) {
		t.Error("other namespaces than those of the policy")
	}
	policies.Put(policyOf(t, "p", `{namespaceSelector: {matchLabels: {team: payments}}, egressGateway: {name: west, namespace: edge}}`))
	if policies.Leading(toEast) != nil {
		t.Error("the policy names another gateway")
	}
	policies.Put(policyOf(t, "q", `{egressGateway: {name: east, namespace: edge}}`))
	policies.Delete("q")
	if policies.Leading(toEast) != nil {
		t.Error("the policy is gone")
	}
}

func scopeOf(t *testing.T, specs []string) *policy.Scope {
	t.Helper()
	policies := &policy.Policies{}
	for i, spec := range specs {
		policies.Put(policyOf(t, fmt.Sprintf("p%d", i), spec))
	}
	return policies.For("shop", nil)
}

// standing are the objects of a route.
func standing(t *testing.T, route *v1alpha1.ExternalRoute) (objects []translate.Object) {
	t.Helper()
	mesh := translate.Mesh{ClusterDomain: translate.DefaultClusterDomain, Services: map[types.NamespacedName]translate.Service{}}
	if g := route.Spec.EgressGateway; g != nil {
		mesh.Services[translate.GatewayService(g)] = translate.Service{HasSelector: true, Ports: []corev1.ServicePort{{Port: 443}}}
	}
	translation, refusal := translate.Translate(route, mesh)
	if refusal != nil {
		t.Fatal(refusal.Message())
	}
	for _, item := range translation.Objects {
		objects = append(objects, item.Object)
	}
	return objects
}
