package lint_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/lint"
)

func TestAdvise(t *testing.T) {
	const to = `destinations: [{name: primary, url: "https://a.example.com"}]`
	for sentence, c := range map[string]struct {
		spec string
		want []string // rule and field
	}{
		"a route with a timeout is fine":               {spec: `{timeout: 5s, ` + to + `}`},
		"no timeout":                                   {spec: `{` + to + `}`, want: []string{"no-timeout spec.timeout"}},
		"no timeout in one of the rules":               {spec: `{rules: [{timeout: 5s}, {}], ` + to + `}`, want: []string{"no-timeout spec.rules[1].timeout", "shadowed-rule spec.rules[1]"}},
		"an answer of the mesh needs no timeout":       {spec: `{rules: [{directResponse: {status: 404}}], ` + to + `}`},
		"a TCP route has no timeout":                   {spec: `{destinations: [{url: "tcp://db.example.com:5432"}]}`},
		"a pass-through route has no timeout":          {spec: `{hosts: [a.example.com]}`},
		"TLS for the whole host":                       {spec: `{timeout: 5s, destinations: [{url: "https://a.example.com", tls: {scope: Host}}]}`, want: []string{"host-wide-tls spec.destinations[0].tls.scope"}},
		"TLS for the route":                            {spec: `{timeout: 5s, destinations: [{url: "https://a.example.com", tls: {scope: Route}}]}`},
		"a prefix without slash":                       {spec: `{timeout: 5s, rules: [{match: [{uri: {exact: /v1}}, {uri: {prefix: /v1}}]}]}`, want: []string{"prefix-without-slash spec.rules[0].match[1].uri.prefix"}},
		"a prefix with a slash":                        {spec: `{timeout: 5s, rules: [{match: [{uri: {prefix: /v1/}}]}]}`},
		"retries that repeat a POST":                   {spec: `{timeout: 5s, retries: {retryOn: "connect-failure,5xx"}}`, want: []string{"retries-repeat-post spec.retries.retryOn"}},
		"retries of what was not sent":                 {spec: `{timeout: 5s, retries: {retryOn: "connect-failure,refused-stream"}}`},
		"retries of a rule repeat a POST":              {spec: `{timeout: 5s, rules: [{retries: {retryOn: "503"}}]}`, want: []string{"retries-repeat-post spec.rules[0].retries.retryOn"}},
		"retries of GET":                               {spec: `{timeout: 5s, rules: [{match: [{method: {exact: GET}}], retries: {retryOn: 5xx}}]}`},
		"retries of GET and of others":                 {spec: `{timeout: 5s, rules: [{match: [{method: {exact: GET}}, {uri: {prefix: /}}], retries: {retryOn: 5xx}}]}`, want: []string{"retries-repeat-post spec.rules[0].retries.retryOn"}},
		"retries of the spec that all rules replace":   {spec: `{timeout: 5s, retries: {retryOn: 5xx}, rules: [{retries: {attempts: 0}}]}`},
		"retries of the spec that a rule only counts":  {spec: `{timeout: 5s, retries: {retryOn: 5xx}, rules: [{retries: {attempts: 1}}]}`, want: []string{"retries-repeat-post spec.retries.retryOn"}},
		"a secret in a header":                         {spec: `{timeout: 5s, rules: [{headers: {request: {set: {X-Api-Key: k, accept: "*/*"}, add: {authorization: b}}}}]}`, want: []string{"secret-in-header spec.rules[0].headers.request.set[X-Api-Key]", "secret-in-header spec.rules[0].headers.request.add[authorization]"}},
		"a rule after one without a match":             {spec: `{timeout: 5s, rules: [{}, {match: [{uri: {exact: /a}}]}]}`, want: []string{"shadowed-rule spec.rules[1]"}},
		"a rule after one that matches every path":     {spec: `{timeout: 5s, rules: [{match: [{uri: {prefix: /}}]}, {match: [{method: {exact: GET}}]}]}`, want: []string{"shadowed-rule spec.rules[1]"}},
		"a rule after one with a shorter prefix":       {spec: `{timeout: 5s, rules: [{match: [{uri: {prefix: /a/}}]}, {match: [{uri: {prefix: /a/b/}}, {uri: {exact: /a/c}}]}]}`, want: []string{"shadowed-rule spec.rules[1]"}},
		"a rule of which a part still applies":         {spec: `{timeout: 5s, rules: [{match: [{uri: {prefix: /a/}}]}, {match: [{uri: {prefix: /a/b/}}, {uri: {exact: /c}}]}]}`},
		"a rule after one with more conditions":        {spec: `{timeout: 5s, rules: [{match: [{uri: {prefix: /}, headers: {x: {exact: y}}}]}, {match: [{uri: {prefix: /}}]}]}`},
		"a rule whose header is spelled differently":   {spec: `{timeout: 5s, rules: [{match: [{headers: {X-A: {exact: y}}}]}, {match: [{headers: {x-a: {exact: y}}}]}]}`, want: []string{"shadowed-rule spec.rules[1]"}},
		"a rule whose parameter is spelled like it":    {spec: `{timeout: 5s, rules: [{match: [{queryParams: {A: {exact: y}}}]}, {match: [{queryParams: {a: {exact: y}}}]}]}`},
		"regular expressions that differ":              {spec: `{timeout: 5s, rules: [{match: [{uri: {regex: "/.*"}}]}, {match: [{uri: {regex: "/a"}}]}]}`},
		"an exact condition does not cover its prefix": {spec: `{timeout: 5s, rules: [{match: [{uri: {exact: /a/}}]}, {match: [{uri: {prefix: /a/}}]}]}`},
	} {
		t.Run(sentence, func(t *testing.T) {
			route := &v1alpha1.ExternalRoute{}
			if err := yaml.UnmarshalStrict([]byte(c.spec), &route.Spec); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, advice := range lint.Advise(route) {
				got = append(got, advice.Rule+" "+advice.Path.String())
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
