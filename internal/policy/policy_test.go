package policy_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/policy"
	"github.com/externalroute/externalroute/internal/translate"
)

// Specs of policies.
const (
	stripe    = `{allow: [{hosts: [api.stripe.com, "*.example.com"]}]}`
	nothing   = `{}`
	plain     = `{allow: [{hosts: [old.example.org], schemes: [http, https], ports: [80, 8443]}]}`
	passed    = `{allow: [{hosts: ["*.googleapis.com", www.google.com], schemes: [passthrough]}]}`
	insecure  = `{allow: [{hosts: [dev.example.org], insecureSkipVerify: true}]}`
	dialling  = `{allow: [{hosts: [api.example.org, "*.cdn.example.org"], endpoints: Public}]}`
	anywhere  = `{allow: [{hosts: [api.example.org], endpoints: Any}]}`
	exporting = `{allow: [{hosts: [api.example.org], exportTo: [shop, "."]}]}`
	public    = `{allow: [{hosts: [api.example.org], exportTo: ["*"]}]}`
)

// What the routes of a namespace may reach, and what the message says.
func TestJudge(t *testing.T) {
	to := func(destination string) string { return `{hosts: [web], destinations: [` + destination + `]}` }
	for name, c := range map[string]struct {
		policies  []string
		otherwise policy.Default
		route     string
		want      string
	}{
		"without a policy all is allowed": {route: to(`{url: "https://a.example.org"}`)},
		"... but no unverified TLS": {
			route: to(`{url: "https://a.example.org", tls: {insecureSkipVerify: true}}`),
			want: "spec.destinations[0].tls.insecureSkipVerify: no ExternalRoutePolicy selects namespace shop, and insecureSkipVerify needs one that allows it: " +
				"remove insecureSkipVerify, or ask the platform team",
		},
		"without a policy nothing is allowed if the default is Deny": {
			otherwise: policy.Deny, route: to(`{url: "https://a.example.org"}`),
			want: "spec.destinations[0].url: no ExternalRoutePolicy selects namespace shop, and the operator runs with --default-policy=Deny: " +
				"ask the platform team for a policy that allows https://a.example.org:443",
		},
		"a host that is named":             {policies: []string{stripe}, otherwise: policy.Deny, route: to(`{url: "https://api.stripe.com/v1"}`)},
		"a host that a wildcard includes":  {policies: []string{stripe}, route: to(`{url: "https://a.b.example.com"}`)},
		"one of two policies is enough":    {policies: []string{nothing, stripe}, route: to(`{url: "https://api.stripe.com"}`)},
		"port and scheme that are allowed": {policies: []string{plain}, route: to(`{url: "http://old.example.org"}, {name: b, url: "https://old.example.org:8443"}`)},
		"a wildcard does not include its domain": {
			policies: []string{stripe}, route: to(`{url: "https://example.com"}`),
			want: "spec.destinations[0].url: https://example.com:443 is not allowed in namespace shop. " +
				"ExternalRoutePolicy p0 allows https://*.example.com:443, https://api.stripe.com:443: use one of these, or ask the platform team",
		},
		"the end of a name is no domain": {
			policies: []string{stripe}, route: to(`{url: "https://badexample.com"}`),
			want: "spec.destinations[0].url: https://badexample.com:443 is not allowed in namespace shop. " +
				"ExternalRoutePolicy p0 allows https://*.example.com:443, https://api.stripe.com:443: use one of these, or ask the platform team",
		},
		"another scheme": {
			policies: []string{stripe}, route: to(`{url: "http://api.stripe.com:443"}`),
			want: "spec.destinations[0].url: http://api.stripe.com:443 is not allowed in namespace shop. " +
				"ExternalRoutePolicy p0 allows https://*.example.com:443, https://api.stripe.com:443: use one of these, or ask the platform team",
		},
		"another port": {
			policies: []string{nothing, stripe}, route: to(`{url: "https://api.stripe.com:8443"}`),
			want: "spec.destinations[0].url: https://api.stripe.com:8443 is not allowed in namespace shop. " +
				"ExternalRoutePolicy p0, p1 allow https://*.example.com:443, https://api.stripe.com:443: use one of these, or ask the platform team",
		},
		"a policy that allows nothing": {
			policies: []string{nothing}, route: to(`{url: "https://api.stripe.com"}`),
			want: "spec.destinations[0].url: https://api.stripe.com:443 is not allowed in namespace shop. ExternalRoutePolicy p0 allows nothing: ask the platform team",
		},
		"one destination of two": {
			policies: []string{plain}, route: to(`{url: "http://old.example.org"}, {name: b, url: "http://new.example.org"}`),
			want: "spec.destinations[1].url: http://new.example.org:80 is not allowed in namespace shop. " +
				"ExternalRoutePolicy p0 allows http://old.example.org:80, http://old.example.org:8443, https://old.example.org:80, https://old.example.org:8443: " +
				"use one of these, or ask the platform team",
		},
		"hosts that pass through": {policies: []string{passed}, route: `{hosts: [www.google.com, maps.googleapis.com, "*.eu.googleapis.com", "*.googleapis.com"]}`},
		"a wildcard that is wider than the one allowed": {
			policies: []string{passed}, route: `{hosts: [www.google.com, "*.google.com"]}`,
			want: "spec.hosts[1]: passthrough://*.google.com:443 is not allowed in namespace shop. " +
				"ExternalRoutePolicy p0 allows passthrough://*.googleapis.com:443, passthrough://www.google.com:443: use one of these, or ask the platform team",
		},
		"unverified TLS that is allowed": {policies: []string{insecure}, route: to(`{url: "https://dev.example.org", tls: {insecureSkipVerify: true}}`)},
		"unverified TLS that is not": {
			policies: []string{stripe}, route: to(`{url: "https://api.stripe.com", tls: {insecureSkipVerify: true}}`),
			want: "spec.destinations[0].tls.insecureSkipVerify: insecureSkipVerify is not allowed for https://api.stripe.com:443 by ExternalRoutePolicy p0 of " +
				"namespace shop: change the route, or ask the platform team",
		},
		"public endpoints": {
			policies: []string{dialling},
			route:    to(`{url: "https://api.example.org", endpoints: [{address: 93.184.216.34}, {address: "2600::1"}, {address: a.cdn.example.org}]}`),
		},
		"private endpoints": {
			policies: []string{dialling}, route: to(`{url: "https://api.example.org", endpoints: [{address: 93.184.216.34}, {address: 10.1.2.3}]}`),
			want: "spec.destinations[0].endpoints[1]: endpoint 10.1.2.3:443 is not allowed for https://api.example.org:443 by ExternalRoutePolicy p0 of " +
				"namespace shop: change the route, or ask the platform team",
		},
		"an endpoint of another port": {
			policies: []string{dialling}, route: to(`{url: "https://api.example.org", endpoints: [{address: 93.184.216.34, port: 22}]}`),
			want: "spec.destinations[0].endpoints[0]: endpoint 93.184.216.34:22 is not allowed for https://api.example.org:443 by ExternalRoutePolicy p0 of " +
				"namespace shop: change the route, or ask the platform team",
		},
		"an endpoint whose name is not allowed": {
			policies: []string{dialling}, route: to(`{url: "https://api.example.org", endpoints: [{address: evil.example.org}]}`),
			want: "spec.destinations[0].endpoints[0]: endpoint evil.example.org:443 is not allowed for https://api.example.org:443 by ExternalRoutePolicy p0 of " +
				"namespace shop: change the route, or ask the platform team",
		},
		"any endpoint": {policies: []string{anywhere}, route: to(`{url: "https://api.example.org", endpoints: [{address: 10.1.2.3, port: 22}]}`)},
		"no endpoints": {
			policies: []string{stripe}, route: to(`{url: "https://api.stripe.com", endpoints: [{address: 93.184.216.34}]}`),
			want: "spec.destinations[0].endpoints[0]: endpoint 93.184.216.34:443 is not allowed for https://api.stripe.com:443 by ExternalRoutePolicy p0 of " +
				"namespace shop: change the route, or ask the platform team",
		},
		"two entries are not put together": {
			policies: []string{`{allow: [{hosts: [a.example.org], endpoints: Any}, {hosts: [a.example.org], insecureSkipVerify: true}]}`},
			route:    to(`{url: "https://a.example.org", endpoints: [{address: 10.1.2.3}], tls: {insecureSkipVerify: true}}`),
			want: "spec.destinations[0].endpoints[0]: endpoint 10.1.2.3:443 is not allowed for https://a.example.org:443 by ExternalRoutePolicy p0 of " +
				"namespace shop: change the route, or ask the platform team",
		},
		"a namespace to export to":        {policies: []string{exporting}, route: `{hosts: [web], exportTo: [".", shop], destinations: [{url: "https://api.example.org"}]}`},
		"the own namespace by its name":   {policies: []string{stripe}, route: `{hosts: [web], exportTo: [".", shop], destinations: [{url: "https://api.stripe.com"}]}`},
		"all namespaces, if that is said": {policies: []string{public}, route: `{hosts: [web], exportTo: ["*"], destinations: [{url: "https://api.example.org"}]}`},
		"another namespace to export to": {
			policies: []string{exporting}, route: `{hosts: [web], exportTo: [".", other], destinations: [{url: "https://api.example.org"}]}`,
			want: "spec.exportTo: ., other is not allowed for https://api.example.org:443 by ExternalRoutePolicy p0 of namespace shop: change the route, or ask the " +
				"platform team",
		},
		"a long list is cut": {
			policies: []string{`{allow: [{hosts: [a.example.org], ports: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]}]}`}, route: to(`{url: "https://b.example.org"}`),
			want: "spec.destinations[0].url: https://b.example.org:443 is not allowed in namespace shop. ExternalRoutePolicy p0 allows " +
				"https://a.example.org:1, https://a.example.org:10, https://a.example.org:11, https://a.example.org:12, https://a.example.org:2, " +
				"https://a.example.org:3, https://a.example.org:4, https://a.example.org:5, https://a.example.org:6, https://a.example.org:7 and 2 more: " +
				"use one of these, or ask the platform team",
		},
	} {
		t.Run(name, func(t *testing.T) {
			policies := &policy.Policies{}
			for i, spec := range c.policies {
				policies.Put(policyOf(t, fmt.Sprintf("p%d", i), spec))
			}
			refusal := policies.For("shop", nil).Judge(routeOf(t, c.route), c.otherwise)
			got := ""
			if refusal != nil {
				got = refusal.Message()
				if refusal.Effect != translate.Withdraw || refusal.Reason != v1alpha1.ReasonNotAllowedByPolicy {
					t.Errorf("the refusal has reason %s and effect %v", refusal.Reason, refusal.Effect)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// The objects of an earlier spec may stay as long as what they reach is allowed, with verification or without.
func TestJudgeStanding(t *testing.T) {
	for name, c := range map[string]struct {
		policies  []string
		otherwise policy.Default
		stands    string
		allowed   bool
	}{
		"without a policy":                         {stands: `{url: "https://api.example.org"}`, allowed: true},
		"... but not unverified":                   {stands: `{url: "https://dev.example.org", tls: {insecureSkipVerify: true}}`},
		"... nor if the default is Deny":           {stands: `{url: "https://api.example.org"}`, otherwise: policy.Deny},
		"unverified, by a policy":                  {policies: []string{insecure}, stands: `{url: "https://dev.example.org", tls: {insecureSkipVerify: true}}`, allowed: true},
		"unverified, not by the policy":            {policies: []string{stripe}, stands: `{url: "https://api.stripe.com", tls: {insecureSkipVerify: true}}`},
		"a host that is allowed":                   {policies: []string{stripe}, stands: `{url: "https://api.stripe.com"}`, allowed: true},
		"a host that is not":                       {policies: []string{stripe}, stands: `{url: "https://api.example.org"}`},
		"an address that is allowed":               {policies: []string{anywhere}, stands: `{url: "https://api.example.org", endpoints: [{address: 10.1.2.3}]}`, allowed: true},
		"an address that is not":                   {policies: []string{dialling}, stands: `{url: "https://api.example.org", endpoints: [{address: 10.1.2.3}]}`},
		"plain http, which an https entry forbids": {policies: []string{stripe}, stands: `{url: "http://api.stripe.com:443"}`},
	} {
		t.Run(name, func(t *testing.T) {
			policies := &policy.Policies{}
			for i, spec := range c.policies {
				policies.Put(policyOf(t, fmt.Sprintf("p%d", i), spec))
			}
			route := routeOf(t, `{hosts: [web], destinations: [`+c.stands+`]}`)
			if denied := policies.For("shop", nil).JudgeStanding(route, standing(t, route), c.otherwise); (denied == nil) != c.allowed {
				t.Errorf("the verdict is %v", denied)
			}
		})
	}
}

// A policy concerns the namespaces that it selects, before or after a change.
func TestAChangeConcernsTheNamespacesSelected(t *testing.T) {
	policies := &policy.Policies{}
	payments, shop, none := map[string]string{"team": "payments"}, map[string]string{"team": "shop"}, map[string]string(nil)
	policies.Put(policyOf(t, "all", nothing))
	selects := policies.Put(policyOf(t, "p", `{namespaceSelector: {matchLabels: {team: payments}}}`))
	if !selects(payments) || selects(shop) || selects(none) {
		t.Error("a new policy concerns other namespaces than those that it selects")
	}
	selects = policies.Put(policyOf(t, "p", `{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [payments]}]}}`))
	if !selects(payments) || !selects(shop) || !selects(none) {
		t.Error("a changed policy does not concern the namespaces that it has selected and those that it selects")
	}
	selects = policies.Delete("p")
	if selects(payments) || !selects(shop) {
		t.Error("a deleted policy concerns other namespaces than those that it has selected")
	}
	if selects := policies.Delete("q"); selects(payments) {
		t.Error("a policy that never was concerns a namespace")
	}
}

// What a namespace may reach follows its labels and every change of a policy.
func TestAScopeIsNeverStale(t *testing.T) {
	policies := &policy.Policies{}
	route := routeOf(t, `{hosts: [web], destinations: [{url: "https://api.stripe.com"}]}`)
	payments := map[string]string{"team": "payments"}
	may := func(labels map[string]string) bool {
		return policies.For("shop", labels).Judge(route, policy.Deny) == nil
	}
	if may(payments) {
		t.Error("allowed without a policy")
	}
	policies.Put(policyOf(t, "p", `{namespaceSelector: {matchLabels: {team: payments}}, allow: [{hosts: [api.stripe.com]}]}`))
	if !may(payments) || may(nil) || !may(payments) {
		t.Error("the labels of the namespace do not count")
	}
	policies.Put(policyOf(t, "p", `{namespaceSelector: {matchLabels: {team: payments}}, allow: [{hosts: [other.example.com]}]}`))
	if may(payments) {
		t.Error("allowed by what the policy said before")
	}
	policies.Put(policyOf(t, "q", stripe))
	if !may(payments) || !may(nil) {
		t.Error("a new policy does not count")
	}
	policies.Delete("q")
	if may(payments) {
		t.Error("allowed by a policy that is gone")
	}
}

// With 1,000 policies and 10,000 routes, every selector is matched once with the labels of a namespace, however many routes that has, and again only for
// the namespaces that a change concerns.
func TestHowOftenSelectorsAreMatched(t *testing.T) {
	const policies, namespaces, teams, routes = 1000, 1000, 100, 10
	all, matches := &policy.Policies{}, 0
	team := func(i int) map[string]string { return map[string]string{"team": fmt.Sprint("t", i%teams)} }
	put := func(i int, host string) {
		all.Put(policyOf(t, fmt.Sprint("p", i), fmt.Sprintf(`{namespaceSelector: {matchLabels: {team: t%d}}, allow: [{hosts: [%s]}]}`, i%teams, host)))
		all.Count(&matches)
	}
	labels := map[string]map[string]string{}
	for i := range namespaces {
		labels[fmt.Sprint("n", i)] = team(i)
	}
	for i := range policies {
		put(i, "api.stripe.com")
	}
	route := routeOf(t, `{hosts: [web], destinations: [{url: "https://api.stripe.com"}]}`)
	for _, step := range []struct {
		name               string
		change             func()
		byChange, byPasses int
	}{
		{"every route is judged for the first time", func() {}, 0, namespaces * policies},
		{"every route is judged again", func() {}, 0, 0},
		{"the labels of a namespace change", func() { labels["n7"] = team(8) }, 0, policies},
		{"a policy changes", func() { put(7, "other.example.com") }, namespaces, (namespaces/teams - 1) * policies},
		{"a policy goes", func() { all.Delete("p8") }, namespaces, (namespaces/teams + 1) * (policies - 1)},
		{"a namespace goes", func() {
			delete(labels, "n7")
			all.Forget("n7")
		}, 0, 0},
	} {
		matches = 0
		step.change()
		byChange := matches
		for name, has := range labels {
			for range routes {
				if refusal := all.For(name, has).Judge(route, policy.Deny); refusal != nil {
					t.Fatalf("%s: %v", step.name, refusal)
				}
			}
		}
		if diff := cmp.Diff([]int{step.byChange, step.byPasses}, []int{byChange, matches - byChange}); diff != "" {
			t.Errorf("%s: matches by the change and by the passes\n%s", step.name, diff)
		}
	}
}

// Matching agrees with a second implementation, which splits names into labels and tries every entry.
func FuzzHosts(f *testing.F) {
	f.Add("api.stripe.com", "*.stripe.com", "stripe.com")
	f.Add("*.a.example.com", "*.example.com", "a.example.com")
	f.Add("a.b", "*.b", "b")
	f.Add("xn--bcher-kva.example", "*.example", "*.xn--bcher-kva.example")
	f.Fuzz(func(t *testing.T, host, first, second string) {
		for _, name := range []string{host, first, second} {
			if name == "" || strings.Contains(name, "\"") || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Skip()
			}
		}
		p := &v1alpha1.ExternalRoutePolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
		p.Spec.Allow = []v1alpha1.Allowance{
			{Hosts: []v1alpha1.PolicyHost{v1alpha1.PolicyHost(first)}, Schemes: []v1alpha1.PolicyScheme{v1alpha1.SchemePassthrough}},
			{Hosts: []v1alpha1.PolicyHost{v1alpha1.PolicyHost(second)}, Schemes: []v1alpha1.PolicyScheme{v1alpha1.SchemePassthrough}},
		}
		policies := &policy.Policies{}
		policies.Put(p)
		route := &v1alpha1.ExternalRoute{Spec: v1alpha1.ExternalRouteSpec{Hosts: []v1alpha1.RouteHost{v1alpha1.RouteHost(host)}, ExportTo: []v1alpha1.ExportNamespace{"."}}}
		got := policies.For("shop", nil).Judge(route, policy.Deny) == nil
		if want := naive(host, first) || naive(host, second); got != want {
			t.Errorf("%q by %q and %q: %t, want %t", host, first, second, got, want)
		}
	})
}

// naive compares label by label from the right. A wildcard stands for one label or more, and is included in nothing but a wildcard.
func naive(host, allowed string) bool {
	hosts, alloweds := strings.Split(host, "."), strings.Split(allowed, ".")
	if len(alloweds) == 1 || alloweds[0] != "*" {
		return host == allowed && (len(hosts) == 1 || hosts[0] != "*")
	}
	rest := alloweds[1:]
	if len(hosts) <= len(rest) {
		return false
	}
	for i := range rest {
		if hosts[len(hosts)-1-i] != rest[len(rest)-1-i] {
			return false
		}
	}
	return true
}

// A label change costs what one namespace's policies cost, and asking again costs nothing more.
func BenchmarkFor(b *testing.B) {
	policies := &policy.Policies{}
	for i := range 1000 {
		policies.Put(policyOf(b, fmt.Sprintf("p%d", i), fmt.Sprintf(`{namespaceSelector: {matchLabels: {team: t%d}}, allow: [{hosts: [a%d.example.com]}]}`, i, i)))
	}
	b.Run("changed labels", func(b *testing.B) {
		for i := range b.N {
			policies.For("shop", map[string]string{"team": fmt.Sprintf("t%d", i%1000)})
		}
	})
	b.Run("the same labels", func(b *testing.B) {
		same := map[string]string{"team": "t7"}
		for range b.N {
			policies.For("shop", same)
		}
	})
}

func TestPublic(t *testing.T) {
	for address, want := range map[string]bool{
		"93.184.216.34": true, "1.1.1.1": true, "2600::1": true, "::ffff:1.1.1.1": true,
		"10.0.0.1": false, "172.16.0.1": false, "192.168.1.1": false, "100.64.0.1": false, "169.254.169.254": false, "127.0.0.1": false, "0.1.2.3": false,
		"198.18.0.1": false, "224.0.0.1": false, "240.0.0.1": false, "255.255.255.255": false, "::1": false, "fd00::1": false, "fe80::1": false,
		"::ffff:10.0.0.1": false, "64:ff9b::a00:1": false, "2002:a00:1::": false, "2001:db8::1": false,
	} {
		if got := policy.Public(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %t, want %t", address, got, want)
		}
	}
}

func policyOf(tb testing.TB, name, spec string) *v1alpha1.ExternalRoutePolicy {
	tb.Helper()
	p := &v1alpha1.ExternalRoutePolicy{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
		tb.Fatal(err)
	}
	return p
}

func routeOf(tb testing.TB, spec string) *v1alpha1.ExternalRoute {
	tb.Helper()
	route := &v1alpha1.ExternalRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
	route.Spec.ExportTo = []v1alpha1.ExportNamespace{"."}
	if err := yaml.UnmarshalStrict([]byte(spec), &route.Spec); err != nil {
		tb.Fatal(err)
	}
	return route
}
