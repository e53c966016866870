package explain_test

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/explain"
	"github.com/externalroute/externalroute/internal/translate"
)

// gateway is an egress gateway's Service.
var gateway = types.NamespacedName{Namespace: "istio-egress", Name: "istio-egressgateway"}

func translated(t *testing.T, spec string) explain.Route {
	t.Helper()
	return translatedIn(t, "shop", spec)
}

func translatedIn(t *testing.T, namespace, spec string) explain.Route {
	t.Helper()
	route := &v1alpha1.ExternalRoute{}
	route.Namespace, route.Name = namespace, "web"
	if err := yaml.UnmarshalStrict([]byte(spec), &route.Spec); err != nil {
		t.Fatal(err)
	}
	if len(route.Spec.ExportTo) == 0 { // as the schema does, and below
		route.Spec.ExportTo = []v1alpha1.ExportNamespace{"."}
	}
	for i := range route.Spec.Destinations {
		if d := &route.Spec.Destinations[i]; d.Name == "" {
			d.Name = "primary"
		}
	}
	translation, refusal := translate.Translate(route, translate.Mesh{ClusterDomain: "cluster.local", Services: map[types.NamespacedName]translate.Service{
		gateway: {HasSelector: true, Selector: map[string]string{"istio": "egressgateway"}, Ports: []corev1.ServicePort{{Name: "https", Port: 443}}},
	}})
	return explain.Route{ExternalRoute: route, Translation: translation, Refusal: refusal}
}

func requestFor(t *testing.T, address string) explain.Request {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return explain.Request{Method: "GET", URL: u, Namespace: "shop", Headers: map[string][]string{}}
}

const rules = `
hosts: [web]
destinations: [{url: "https://api.example.com"}]
rules:
- {match: [{uri: {exact: /exact}}], rewrite: {uri: /whole}}
- {match: [{uri: {prefix: /api}}], rewrite: {uri: /v1}}
- {match: [{uri: {regex: "/(a|ab)"}}], rewrite: {uri: /all}}
- {match: [{uri: {regex: "/item/é+"}}]}
- {match: [{uri: {regex: "/user/[0-9]+"}}], rewrite: {uriRegexRewrite: {match: "^/user/([0-9]+)$", rewrite: '/u$/\1'}}}
- {match: [{method: {exact: POST}, uri: {exact: /m}}, {uri: {exact: /n}}], timeout: 5s}
- {match: [{headers: {X-Tier: {prefix: go}}}]}
- {match: [{queryParams: {q: {exact: a%20b}}}]}
- {match: [{uri: {exact: /twice}, headers: {x-two: {regex: "gold|.*,silver"}}}]}
- {match: [{uri: {exact: /once}, headers: {referer: {exact: a}}}]}
`

func TestRules(t *testing.T) {
	type want struct{ rule, path string }
	for name, c := range map[string]struct {
		path    string
		method  string
		headers map[string][]string
		want    want
	}{
		"an exact match rewrites the whole path and keeps the query":         {path: "/exact?x=1", want: want{"spec.rules[0]", "/whole?x=1"}},
		"an exact match compares case":                                       {path: "/Exact", want: want{}},
		"a prefix is text, not a path segment":                               {path: "/apix/y", want: want{"spec.rules[1]", "/v1x/y"}},
		"dot segments are resolved before matching":                          {path: "/x/../api/y", want: want{"spec.rules[1]", "/v1/y"}},
		"encoded dot segments are, too":                                      {path: "/x/%2E%2e/api/y", want: want{"spec.rules[1]", "/v1/y"}},
		"dot segments at the end leave a slash":                              {path: "/api/x/..", want: want{"spec.rules[1]", "/v1/"}},
		"dot segments take an empty segment away":                            {path: "/api//../y", want: want{"spec.rules[1]", "/v1/y"}},
		"dot segments with parameters are resolved, if they are not encoded": {path: "/x/..;a/api/%2e%2e;b", want: want{"spec.rules[1]", "/v1/..;b"}},
		"dot segments end at the root":                                       {path: "/../../api", want: want{"spec.rules[1]", "/v1"}},
		"letters, digits and -._~ are decoded":                               {path: "/%61p%69/%7E%2d", want: want{"spec.rules[1]", "/v1/~-"}},
		"other characters stay encoded, as they are written":                 {path: "/api%2Fx%2f%20%c3", want: want{"spec.rules[1]", "/v1%2Fx%2f%20%c3"}},
		"a question mark without a query stays":                              {path: "/api?", want: want{"spec.rules[1]", "/v1?"}},
		"each value of a repeated header is compared":                        {path: "/twice", headers: map[string][]string{"x-two": {"b", "gold"}}, want: want{"spec.rules[8]", "/twice"}},
		"all values of a repeated header are compared, joined":               {path: "/twice", headers: map[string][]string{"x-two": {"b", "silver"}}, want: want{"spec.rules[8]", "/twice"}},
		"Envoy joins a repeated referer before it compares":                  {path: "/once", headers: map[string][]string{"referer": {"a", "b"}}, want: want{}},
		"Envoy leaves out empty values as it joins":                          {path: "/once", headers: map[string][]string{"referer": {"", "a"}}, want: want{"spec.rules[9]", "/once"}},
		"doubled slashes stay":                                               {path: "/api//y", want: want{"spec.rules[1]", "/v1//y"}},
		"a regex matches as a whole, by any of its alternatives":             {path: "/ab", want: want{"spec.rules[2]", "/all"}},
		"a regex does not match a part":                                      {path: "/abc", want: want{}},
		"a regex repeats the last byte of a character":                       {path: "/item/%C3%A9", want: want{}},
		"a regex rewrite has groups and literal dollars":                     {path: "/user/12?x", want: want{"spec.rules[4]", "/u$/12?x"}},
		"all conditions of a match must hold":                                {path: "/m", want: want{}},
		"one match of several is enough":                                     {path: "/n", want: want{"spec.rules[5]", "/n"}},
		"a method":                                                           {path: "/m", method: "POST", want: want{"spec.rules[5]", "/m"}},
		"header names have no case":                                          {path: "/", headers: map[string][]string{"x-tier": {"gold"}}, want: want{"spec.rules[6]", "/"}},
		"header values have case":                                            {path: "/", headers: map[string][]string{"x-tier": {"Gold"}}, want: want{}},
		"query parameters are compared as written":                           {path: "/?q=a%20b", want: want{"spec.rules[7]", "/?q=a%20b"}},
		"a query parameter that is encoded otherwise does not match":         {path: "/?q=a+b", want: want{}},
		"the first of two query parameters of one name counts":               {path: "/?q=x&q=a%20b", want: want{}},
		"a path of which nothing is written is a slash, and no rule's":       {path: "", want: want{}},
	} {
		t.Run(name, func(t *testing.T) {
			request := requestFor(t, "http://web"+c.path)
			if c.method != "" {
				request.Method = c.method
			}
			if c.headers != nil {
				request.Headers = c.headers
			}
			got := explain.Explain(request, []explain.Route{translated(t, rules)}, "cluster.local")
			if diff := cmp.Diff(c.want, want{got.Rule, got.Path}, cmp.AllowUnexported(want{})); diff != "" {
				t.Error(diff)
			}
			if noRule := got.Outcome == explain.NoRule; noRule != (c.want.rule == "") {
				t.Errorf("outcome %s", got.Outcome)
			}
		})
	}
}

func TestSkippedRulesNameTheConditionsThatFail(t *testing.T) {
	got := explain.Explain(requestFor(t, "http://web/m"), []explain.Route{translated(t, `
hosts: [web]
destinations: [{url: "https://api.example.com/base"}]
rules:
- match: [{method: {exact: POST}}]
- match: [{headers: {x-a: {exact: b}}, queryParams: {q: {prefix: b}}}, {uri: {regex: /n+}}]
- match: [{uri: {prefix: /m}}]
- match: [{method: {exact: PUT}}]
`)}, "cluster.local")
	want := []explain.Skipped{
		{Rule: "spec.rules[0]", Why: [][]string{{`method "GET" is not "POST"`}}},
		{Rule: "spec.rules[1]", Why: [][]string{
			{"header x-a is missing", "query parameter q is missing"}, {`path "/m" does not match "/n+" as a whole`},
		}},
	}
	if diff := cmp.Diff(want, got.Skipped); diff != "" {
		t.Error(diff)
	}
	if got.Rule != "spec.rules[2]" || got.Path != "/base/m" {
		t.Errorf("rule %s, path %s", got.Rule, got.Path)
	}
}

func TestOutcomes(t *testing.T) {
	const smallest = `{hosts: [web], destinations: [{url: "https://api.example.com"}]}`
	for name, c := range map[string]struct {
		spec, url, from, method string
		labels                  map[string]string
		outcome                 explain.Outcome
		why                     string
	}{
		"a short name in the route's namespace":     {spec: smallest, url: "http://web/", outcome: explain.Forwarded},
		"a complete name in any case":               {spec: smallest, url: "http://WEB.shop.svc.cluster.local/", outcome: explain.Forwarded},
		"a complete name with the root's dot":       {spec: smallest, url: "http://web.shop.svc.cluster.local./", outcome: explain.Forwarded},
		"a short name with a dot":                   {spec: smallest, url: "http://web./", outcome: explain.NotServed, why: "no ExternalRoute serves web."},
		"a method that Envoy does not know":         {spec: smallest, url: "http://web/", method: "get", outcome: explain.NotServed, why: `does not know the method "get"`},
		"a space in the query":                      {spec: smallest, url: "http://web/?a b", outcome: explain.NotServed, why: "percent-encode it"},
		"a character of a query that is encoded":    {spec: smallest, url: "http://web/?a%20b", outcome: explain.Forwarded},
		"an encoded NUL that a dot segment removes": {spec: smallest, url: "http://web/a%00/..", outcome: explain.NotServed, why: "the path holds %00"},
		"an encoded NUL in a parameter of dots":     {spec: smallest, url: "http://web/a/..;%00", outcome: explain.Forwarded},
		"an encoded NUL":                            {spec: smallest, url: "http://web/a%00", outcome: explain.NotServed, why: "the path holds %00"},
		"a short name elsewhere":                    {spec: smallest, url: "http://web/", from: "other", outcome: explain.NotServed, why: "no ExternalRoute serves web"},
		"a name that is not exported":               {spec: smallest, url: "http://web.shop/", from: "other", outcome: explain.NotServed, why: "exports it to namespace shop only"},
		"another port":                              {spec: smallest, url: "http://web:8080/", outcome: explain.NotServed, why: "on port 80, and the request calls port 8080"},
		"another port of the complete name": {
			spec: smallest, url: "http://web.shop.svc.cluster.local:8080/", outcome: explain.NotServed, why: "can apply the route to the complete name all the same",
		},
		"TLS to a port that is HTTP":          {spec: smallest, url: "https://web:80/", outcome: explain.NotServed, why: "cannot read the workload's own TLS"},
		"a connection to a port that is HTTP": {spec: smallest, url: "tcp://web:80", outcome: explain.NotServed, why: "takes HTTP requests"},
		"TLS to a destination's host":         {spec: smallest, url: "https://api.example.com/", outcome: explain.PassedThrough},
		"plaintext to a destination's host":   {spec: smallest, url: "http://api.example.com/", outcome: explain.NotServed, why: "on port 443 only"},
		"TLS of a host with TLS for the mesh too": {
			spec: `{hosts: [web], destinations: [{url: "https://api.example.com", tls: {scope: Host}}]}`,
			url:  "https://api.example.com/", outcome: explain.NotServed, why: "TLS in TLS",
		},
		"plaintext to a plaintext destination": {
			spec: `{hosts: [web], destinations: [{url: "http://api.example.com"}]}`, url: "http://api.example.com/",
			outcome: explain.NotServed, why: "leaves as it is",
		},
		"in place":                {spec: `{hosts: [api.example.com], destinations: [{url: "https://api.example.com"}]}`, url: "http://api.example.com/", outcome: explain.Forwarded},
		"TLS beside in place":     {spec: `{hosts: [api.example.com], destinations: [{url: "https://api.example.com"}]}`, url: "https://api.example.com/", outcome: explain.PassedThrough},
		"a pass-through host":     {spec: `{hosts: [www.example.com]}`, url: "https://www.example.com/", outcome: explain.PassedThrough},
		"a wildcard":              {spec: `{hosts: ["*.example.com"]}`, url: "https://a.b.example.com/", outcome: explain.PassedThrough},
		"not a wildcard's domain": {spec: `{hosts: ["*.example.com"]}`, url: "https://example.com/", outcome: explain.NotServed, why: "no ExternalRoute"},
		"a pass-through host elsewhere": {
			spec: `{hosts: [www.example.com]}`, url: "https://www.example.com/", from: "other", outcome: explain.NotServed,
			why: "exports it to namespace shop only",
		},
		"TCP":        {spec: `{hosts: [db], destinations: [{url: "tls://db.example.com:6380"}]}`, url: "tcp://db:6380", outcome: explain.Forwarded},
		"TLS in TCP": {spec: `{hosts: [db], destinations: [{url: "tcp://db.example.com:6380"}]}`, url: "https://db:6380", outcome: explain.Forwarded},
		"another port of TCP": {
			spec: `{hosts: [db], destinations: [{url: "tcp://db.example.com:6380"}]}`, url: "tcp://db:1", outcome: explain.NotServed,
			why: "on port 6380",
		},
		"a selected pod": {
			spec: `{hosts: [web], destinations: [{url: "https://api.example.com"}], workloadSelector: {matchLabels: {app: a}}}`, url: "http://web/",
			labels: map[string]string{"app": "a"}, outcome: explain.Forwarded,
		},
		"another pod": {
			spec: `{hosts: [web], destinations: [{url: "https://api.example.com"}], workloadSelector: {matchLabels: {app: a}}}`, url: "http://web/",
			labels: map[string]string{}, outcome: explain.NotSelected, why: "wants label app: a, and the pod has none",
		},
		"a refused route": {
			spec: `{hosts: [web], destinations: [{url: "https://api.example.com"}], rules: [{match: [{uri: {regex: "("}}]}]}`, url: "http://web/",
			outcome: explain.NotServed, why: "is refused (Invalid): spec.rules[0].match[0].uri.regex",
		},
		"a direct response": {
			spec: `{hosts: [web], destinations: [{url: "https://api.example.com"}], rules: [{directResponse: {status: 200}}]}`, url: "http://web/",
			outcome: explain.Answered,
		},
		"a fault for some": {
			spec: `{hosts: [web], destinations: [{url: "https://api.example.com"}], rules: [{fault: {abort: {percentage: 99, httpStatus: 500}}}]}`,
			url:  "http://web/", outcome: explain.Forwarded,
		},
		"a fault for all": {
			spec: `{hosts: [web], destinations: [{url: "https://api.example.com"}], rules: [{fault: {abort: {percentage: 100, httpStatus: 500}}}]}`,
			url:  "http://web/", outcome: explain.Answered,
		},
	} {
		t.Run(name, func(t *testing.T) {
			request := requestFor(t, c.url)
			request.Labels = c.labels
			if c.method != "" {
				request.Method = c.method
			}
			if c.from != "" {
				request.Namespace = c.from
			}
			got := explain.Explain(request, []explain.Route{translated(t, c.spec)}, "cluster.local")
			if why := strings.Join(got.Why, "\n"); got.Outcome != c.outcome || !strings.Contains(why, c.why) || (c.why == "") != (why == "") {
				t.Errorf("%s, because %s", got.Outcome, why)
			}
		})
	}
}

// Envoy's own headers make an answer uncertain, and it says so.
func TestHeadersOfEnvoy(t *testing.T) {
	route := translated(t, `
hosts: [web]
destinations: [{url: "https://api.example.com"}]
rules: [{match: [{headers: {X-Request-Id: {prefix: a}}}]}, {}]
`)
	got := explain.Explain(requestFor(t, "http://web/"), []explain.Route{route}, "cluster.local")
	if got.Rule != "spec.rules[1]" || len(got.Notes) != 1 || !strings.Contains(got.Notes[0], "spec.rules[0] matches header X-Request-Id, which Envoy sets or removes itself") {
		t.Errorf("%+v", got)
	}
}

func TestClosestHosts(t *testing.T) {
	routes := []explain.Route{translated(t, `{hosts: [webserver], destinations: [{url: "https://api.example.com"}]}`)}
	for host, want := range map[string][]string{
		"websever": {"webserver.shop.svc.cluster.local"}, "webserver.other": {"webserver.shop.svc.cluster.local"}, "apis.example.com": {"api.example.com"}, "unlike": {},
	} {
		got := explain.Explain(requestFor(t, "http://"+host), routes, "cluster.local")
		if diff := cmp.Diff(want, got.Closest, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: %s", host, diff)
		}
	}
}

// Every destination that the answer names is a cluster of the translation, with the settings of its subset; through a gateway too.
func TestGateway(t *testing.T) {
	route := translated(t, `
hosts: [web]
destinations:
- {name: a, url: "https://a.example.com/v1", weight: 3, tls: {caCertificateRefs: [{kind: ConfigMap, name: ca}]}}
- {name: b, url: "http://b.example.com/v1"}
- {name: c, url: "https://c.example.com", weight: 0}
rules: [{match: [{uri: {prefix: /x}}], destinations: [{name: c}]}, {timeout: 5s, destinations: [{name: a, weight: 3}, {name: b}]}]
egressGateway: {name: istio-egressgateway, namespace: istio-egress}
`)
	if route.Refusal != nil {
		t.Fatal(route.Refusal.Problems)
	}
	got := explain.Explain(requestFor(t, "http://web/y"), []explain.Route{route}, "cluster.local")
	at := route.Translation.Destinations
	want := explain.Answer{
		Request: "GET http://web/y", From: "namespace shop", Outcome: explain.Forwarded, Route: "shop/web", Host: "web.shop.svc.cluster.local",
		Rule: "spec.rules[1]", Skipped: []explain.Skipped{{Rule: "spec.rules[0]", Why: [][]string{{`path "/y" does not start with "/x"`}}}},
		Path: "/v1/y", Timeout: "5s", Retries: "2 on connect-failure,refused-stream",
		Road: &explain.Road{Kind: "EgressGateway", Name: gateway.String(), By: "spec.egressGateway", Cluster: got.Road.Cluster},
		Destinations: []explain.Destination{
			{
				Name: "a", URL: "https://a.example.com/v1", Share: "75%", Authority: "a.example.com", Addresses: []string{"a.example.com"}, SNI: "a.example.com",
				Verified: "certificate for a.example.com, by ConfigMap shop/ca", Cluster: "outbound|443|" + at[0].Subset + "|" + at[0].Host,
			},
			{
				Name: "b", URL: "http://b.example.com/v1", Share: "25%", Authority: "b.example.com", Addresses: []string{"b.example.com"}, Verified: "not at all: plaintext",
				Cluster: "outbound|80|" + at[1].Subset + "|" + at[1].Host,
			},
		},
		Objects: got.Objects,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !strings.HasPrefix(got.Road.Cluster, "outbound|443|web-gateway-") || !strings.HasSuffix(got.Road.Cluster, "|istio-egressgateway.istio-egress.svc.cluster.local") {
		t.Errorf("cluster %s", got.Road.Cluster)
	}
	kinds := map[string]int{}
	for _, object := range got.Objects {
		kind, _, _ := strings.Cut(object, " ")
		kinds[kind]++
	}
	if diff := cmp.Diff(map[string]int{"Service": 1, "ServiceEntry": 2, "DestinationRule": 3, "Gateway": 1, "VirtualService": 2}, kinds); diff != "" {
		t.Error(diff)
	}
}

func TestPassThroughAGateway(t *testing.T) {
	route := translated(t, `{hosts: [www.example.com, api.example.com], egressGateway: {name: istio-egressgateway, namespace: istio-egress}}`)
	got := explain.Explain(requestFor(t, "https://www.example.com/"), []explain.Route{route}, "cluster.local")
	if got.Outcome != explain.PassedThrough || got.Road.Kind != "EgressGateway" || got.Road.Cluster != "outbound|443||www.example.com" {
		t.Errorf("%+v", got)
	}
	if d := got.Destinations[0]; !strings.HasSuffix(d.Cluster, ".istio-egress.externalroute.internal") || !cmp.Equal(d.Addresses, []string{"www.example.com"}) {
		t.Errorf("%+v", d)
	}
}

// Istio takes a host from one namespace, with its ports alone.
func TestHostOfSeveralNamespaces(t *testing.T) {
	const passed, exported, forAll = "hosts: [www.example.com]", "hosts: [www.example.com]\nexportTo: [., shop]", "hosts: [www.example.com]\nexportTo: ['*']"
	const otherPort = "hosts: [search]\ndestinations: [{url: 'https://www.example.com:8443'}]"
	route := func(namespace, spec string, age time.Duration) explain.Route {
		r := translatedIn(t, namespace, spec)
		r.CreationTimestamp = metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(-age))
		return r
	}
	for name, c := range map[string]struct {
		routes []explain.Route
		want   string
	}{
		"exported":                               {[]explain.Route{route("other", exported, 0)}, "other/web"},
		"hidden by a route of the own namespace": {[]explain.Route{route("other", exported, 1), route("shop", otherPort, 0)}, ""},
		"the own namespace has it as well":       {[]explain.Route{route("other", exported, 1), route("shop", passed, 0)}, "shop/web"},
		"by name comes before to all":            {[]explain.Route{route("other", forAll, 1), route("third", exported, 0)}, "third/web"},
		"the older of two":                       {[]explain.Route{route("other", exported, 0), route("third", exported, 1)}, "third/web"},
		"a wildcard and a name are not one host": {[]explain.Route{route("other", exported, 0), route("shop", "hosts: ['*.example.com']", 1)}, "other/web"},
		"one that the namespace does not see":    {[]explain.Route{route("other", exported, 0), route("third", passed, 1)}, "other/web"},
	} {
		t.Run(name, func(t *testing.T) {
			got := explain.Explain(requestFor(t, "https://www.example.com/"), c.routes, "cluster.local")
			if got.Route != c.want || (got.Outcome == explain.PassedThrough) != (c.want != "") {
				t.Errorf("%s by %q: %v", got.Outcome, got.Route, got.Why)
			}
		})
	}
}

// golden is the route of a golden case, without the objects beside it.
func golden(t *testing.T, file string) explain.Route {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n---")
	var manifest struct{ Spec any }
	if err := yaml.Unmarshal([]byte(first), &manifest); err != nil {
		t.Fatal(err)
	}
	spec, err := yaml.Marshal(manifest.Spec)
	if err != nil {
		t.Fatal(err)
	}
	return translated(t, string(spec))
}

// TestEveryTranslation explains a request to each host of each golden case: no shape of a translation is unknown.
func TestEveryTranslation(t *testing.T) {
	files, err := filepath.Glob("../translate/testdata/*/route.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	taken := 0
	for _, file := range files {
		route := golden(t, file)
		if route.Refusal != nil {
			continue
		}
		for _, host := range route.Spec.Hosts {
			for _, scheme := range []string{"http", "https", "tcp"} {
				request := requestFor(t, scheme+"://"+strings.Replace(string(host), "*", "a", 1))
				request.URL.Host += ":" + map[string]string{"http": "80", "https": "443", "tcp": "6380"}[scheme]
				if got := explain.Explain(request, []explain.Route{route}, "cluster.local"); got.Taken() {
					taken++
					if got.Outcome != explain.Answered && len(got.Destinations) == 0 || len(got.Objects) == 0 {
						t.Errorf("%s: %+v", file, got)
					}
				}
			}
		}
	}
	if taken < 50 {
		t.Errorf("%d requests were taken, of %d files", taken, len(files))
	}
}

// TestCalls compares answers with the calls of the golden cases, which Istio's simulation answers in test/mesh.
func TestCalls(t *testing.T) {
	files, err := filepath.Glob("../translate/testdata/*/calls.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		var calls []struct {
			Path, Method, WantPath, WantAuthority, WantDestination string
			Headers                                                map[string]string
			WantStatus                                             uint32
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(text, &calls); err != nil {
			t.Fatal(err)
		}
		route := golden(t, filepath.Join(filepath.Dir(file), "route.yaml"))
		for _, call := range calls {
			request := requestFor(t, fmt.Sprintf("http://%s:%d%s", route.Spec.Hosts[0], translate.PortOf(route.ExternalRoute), call.Path))
			if call.Method != "" {
				request.Method = call.Method
			}
			for name, value := range call.Headers {
				request.Headers[strings.ToLower(name)] = []string{value}
			}
			got := explain.Explain(request, []explain.Route{route}, "cluster.local")
			some := call.WantAuthority == "" && call.WantDestination == ""
			for _, d := range got.Destinations {
				some = some || (call.WantAuthority == "" || d.Authority == call.WantAuthority) && (call.WantDestination == "" || d.Name == call.WantDestination)
			}
			if got.Status != call.WantStatus || call.WantPath != "" && got.Path != call.WantPath || !some {
				t.Errorf("%s: %+v: %+v", file, call, got)
			}
		}
	}
}
