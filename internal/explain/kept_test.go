package explain_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/explain"
	"github.com/externalroute/externalroute/internal/translate"
)

// kept is a refused route of one spec with the objects of another.
func kept(t *testing.T, was, is string) explain.Route {
	t.Helper()
	route := translated(t, is)
	route.Refusal = &translate.Refusal{Reason: v1alpha1.ReasonHostConflict, Problems: field.ErrorList{translate.Blocked(field.NewPath("spec", "hosts"), "is taken")}}
	for _, item := range translated(t, was).Translation.Objects {
		route.Standing = append(route.Standing, item.Object)
	}
	return route
}

// What stands in a cluster answers for a route that is refused.
func TestKept(t *testing.T) {
	const (
		web     = `{hosts: [web], destinations: [{url: "https://api.example.com"}]}`
		on8080  = `{hosts: [web], port: 8080, destinations: [{url: "https://api.example.com"}]}`
		other   = `{hosts: [other], destinations: [{url: "https://other.example.com"}]}`
		gated   = `{hosts: [web], egressGateway: {name: istio-egressgateway, namespace: istio-egress}, destinations: [{url: "https://api.example.com"}]}`
		inPlace = `{hosts: [api.example.com], destinations: [{url: "https://api.example.com"}]}`
		passed  = `{hosts: ["*.example.com"]}`
		tcp     = `{hosts: [db], destinations: [{url: "tcp://db.example.com:6380"}]}`
		refused = "is refused (HostConflict): spec.hosts: is taken"
		outside = "the pod has no sidecar"
	)
	for name, c := range map[string]struct {
		was, is, url, from, outside string
		outcome                     explain.Outcome
		why                         string
	}{
		"a host of both":                 {was: web, is: web, url: "http://web/", outcome: explain.Kept, why: refused},
		"a host that the spec gives up":  {was: web, is: other, url: "http://web/", outcome: explain.Kept, why: refused},
		"a host that the spec adds":      {was: web, is: other, url: "http://other/", outcome: explain.NotServed, why: "and " + refused},
		"a port that the spec gives up":  {was: on8080, is: web, url: "http://web:8080/", outcome: explain.Kept, why: refused},
		"a port that the spec adds":      {was: on8080, is: web, url: "http://web/", outcome: explain.NotServed, why: "and " + refused},
		"a namespace without the export": {was: web, is: web, url: "http://web.shop/", from: "other", outcome: explain.NotServed, why: refused},
		"a pod without a sidecar":        {was: web, is: web, url: "http://web/", outside: outside, outcome: explain.NotSelected, why: outside},
		"TLS to an HTTP port":            {was: web, is: web, url: "https://web:80/", outcome: explain.NotServed, why: refused},
		"TLS to a destination's host":    {was: web, is: web, url: "https://api.example.com/", outcome: explain.Kept, why: refused},
		"through a gateway":              {was: gated, is: web, url: "http://web/", outcome: explain.Kept, why: refused},
		"in place":                       {was: inPlace, is: inPlace, url: "http://api.example.com/", outcome: explain.Kept, why: refused},
		"another port in place":          {was: inPlace, is: inPlace, url: "http://api.example.com:81/", outcome: explain.NotServed, why: refused},
		"a pass-through host":            {was: passed, is: web, url: "https://a.example.com/", outcome: explain.Kept, why: refused},
		"plaintext to one":               {was: passed, is: web, url: "http://a.example.com/", outcome: explain.NotServed, why: "no ExternalRoute serves"},
		"TCP":                            {was: tcp, is: tcp, url: "tcp://db:6380", outcome: explain.Kept, why: refused},
	} {
		t.Run(name, func(t *testing.T) {
			request := requestFor(t, c.url)
			request.Outside = c.outside
			if c.from != "" {
				request.Namespace = c.from
			}
			got := explain.Explain(request, []explain.Route{kept(t, c.was, c.is)}, "cluster.local")
			if why := strings.Join(got.Why, "\n"); got.Outcome != c.outcome || !strings.Contains(why, c.why) {
				t.Errorf("%s, because %s", got.Outcome, why)
			}
			if got.Outcome == explain.Kept && (!got.Taken() || len(got.Objects) == 0) {
				t.Errorf("%+v", got)
			}
		})
	}
}

// A refusal can be about something else than the spec.
func TestVerb(t *testing.T) {
	route := kept(t, `{hosts: [web], destinations: [{url: "https://api.example.com"}]}`, `{hosts: [other], destinations: [{url: "https://api.example.com"}]}`)
	route.Verb = "is not in effect"
	got := explain.Explain(requestFor(t, "http://other/"), []explain.Route{route}, "cluster.local")
	if why := strings.Join(got.Why, "\n"); got.Outcome != explain.NotServed || !strings.Contains(why, "and is not in effect (HostConflict)") {
		t.Errorf("%s, because %s", got.Outcome, why)
	}
}

// A pod without a sidecar uses routes by a waypoint only.
func TestOutside(t *testing.T) {
	for name, c := range map[string]struct{ spec, url string }{
		"HTTP":         {`{hosts: [web], destinations: [{url: "https://api.example.com"}]}`, "http://web/"},
		"TCP":          {`{hosts: [db], destinations: [{url: "tcp://db.example.com:6380"}]}`, "tcp://db:6380"},
		"pass-through": {`{hosts: [www.example.com]}`, "https://www.example.com/"},
	} {
		t.Run(name, func(t *testing.T) {
			request := requestFor(t, c.url)
			request.Outside = "the pod has no sidecar"
			route := translated(t, c.spec)
			got := explain.Explain(request, []explain.Route{route}, "cluster.local")
			if got.Outcome != explain.NotSelected || len(got.Why) != 1 || got.Why[0] != request.Outside || len(got.Destinations) > 0 {
				t.Errorf("%+v", got)
			}
			if len(translate.HostsOf(route.ExternalRoute, "cluster.local")) == 0 {
				return
			}
			route.Translation.Waypoint = "shop/waypoint"
			if got := explain.Explain(request, []explain.Route{route}, "cluster.local"); got.Outcome != explain.Forwarded {
				t.Errorf("by a waypoint: %+v", got)
			}
		})
	}
}
