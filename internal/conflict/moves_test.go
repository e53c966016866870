package conflict_test

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/conflict"
	"github.com/externalroute/externalroute/internal/translate"
)

// Routes that share a host change together how it is reached, and only together. The route that is judged is "mine", made in second 50.
func TestJudgeMoves(t *testing.T) {
	const other = "HostConflict spec.hosts[0] a.example.com belongs to ExternalRoute demo/other, which already uses it, with another egressGateway or none, and Istio " +
		"would merge the endpoints of both: use the same egressGateway in both routes, or in none"
	const cannot = "HostConflict spec.hosts[0] a.example.com belongs to ExternalRoute demo/other, which has to change together with this route and cannot: see the " +
		"status of that route"
	foreign := func(l *list, spec string) {
		e := &networkingv1.ServiceEntry{ObjectMeta: at("demo", "hand", 5)}
		read(l.T, spec, &e.Spec)
		l.foreign(e)
	}
	twoToEast := through("east", passTwo)
	for name, c := range map[string]struct {
		from, to string // passDirect and passEast if empty
		policy   bool   // sets the gateway
		world    func(*list)
		want     string
	}{
		"an older one moves to the same gateway":   {world: func(l *list) { l.moves("other", passDirect, passEast, 10) }},
		"a younger one moves to the same gateway":  {world: func(l *list) { l.moves("other", passDirect, passEast, 90) }},
		"both leave the gateway":                   {from: passEast, to: passDirect, world: func(l *list) { l.moves("other", passEast, passDirect, 10) }},
		"both move to another gateway":             {from: passEast, to: passWest, world: func(l *list) { l.moves("other", passEast, passWest, 10) }},
		"the other one has moved":                  {world: func(l *list) { l.moves("other", passEast, passEast, 10) }},
		"many move":                                {world: func(l *list) { l.movers(100) }},
		"too many":                                 {world: func(l *list) { l.movers(101) }, want: strings.Replace(cannot, "other", "mover-0", 1)},
		"... but one":                              {world: func(l *list) { l.movers(99); l.moves("other", passDirect, passDirect, 95) }, want: other},
		"the other one has no such plan":           {world: func(l *list) { l.moves("other", passDirect, passDirect, 90) }, want: other},
		"the other one moves to another gateway":   {world: func(l *list) { l.moves("other", passDirect, passWest, 90) }, want: other},
		"the other one is gone, but its objects":   {world: func(l *list) { l.serves("other", passDirect, 90) }, want: other},
		"the other one drops the host":             {world: func(l *list) { l.moves("other", passDirect, passOther, 90) }},
		"the other one is suspended":               {world: func(l *list) { l.moves("other", passDirect, strings.Replace(passEast, "{", "{suspend: true, ", 1), 90) }, want: cannot},
		"... and a policy withdraws it":            {policy: true, world: func(l *list) { l.moves("other", passDirect, strings.Replace(passEast, "{", "{suspend: true, ", 1), 90) }},
		"a policy withdraws what a route has left": {policy: true, world: func(l *list) { l.serves("other", passDirect, 90) }},
		"a policy withdraws no host in place": {
			policy: true, world: func(l *list) { l.moves("other", inPlaceA, placeEast, 90) },
			want: "HostConflict spec.hosts[0] a.example.com belongs to ExternalRoute demo/other, which already uses it, in place: its ServiceEntry never leads to an " +
				"egress gateway, and Istio would merge the endpoints of both. Remove the host from one of the two routes",
		},
		"the other one is invalid": {world: func(l *list) {
			l.moves("other", passDirect, strings.Replace(passEast, "a.", "a.svc.cluster.local, a.", 1), 90)
		}, want: cannot},
		"the other one was refused for a conflict": {world: func(l *list) {
			l.serves("other", passDirect, 90)
			l.asks("other", passEast, 90, v1alpha1.ReasonHostConflict)
		}},
		"... for the gateway, which is usable now": {world: func(l *list) {
			l.serves("other", passDirect, 90)
			l.asks("other", passEast, 90, v1alpha1.ReasonGatewayNotUsable)
		}},
		"... for another gateway": {
			world: func(l *list) {
				l.serves("other", webToA, 90)
				l.asks("other", through("west", webToA), 90, v1alpha1.ReasonGatewayNotUsable)
			},
			want: cannot,
		},
		"... for a name": {
			world: func(l *list) {
				l.serves("other", passDirect, 90)
				l.asks("other", passEast, 90, v1alpha1.ReasonNameConflict)
			},
			want: cannot,
		},
		"an object of another user keeps the other one from moving": {
			world: func(l *list) {
				l.moves("other", passTwo, twoToEast, 90)
				foreign(l, "{hosts: [b.example.com], exportTo: [.], resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}")
			},
			want: cannot,
		},
		"a third one keeps the other one from moving": {
			world: func(l *list) {
				l.moves("other", passTwo, twoToEast, 90)
				l.moves("third", passOther, passOther, 95)
			},
			want: cannot,
		},
		"a third one moves as well": {
			world: func(l *list) {
				l.moves("other", passTwo, twoToEast, 90)
				l.moves("third", passOther, through("east", passOther), 95)
			},
		},
		"a destination moves to the gateway":            {world: func(l *list) { l.moves("other", webToA, eastA, 90) }},
		"a destination leaves the gateway":              {from: passEast, to: passDirect, world: func(l *list) { l.moves("other", eastA, webToA, 90) }},
		"mine has the destination, and passes move":     {from: eastA, to: webToA, world: func(l *list) { l.moves("other", passEast, passDirect, 10) }},
		"exportTo of both changes":                      {from: passDirect, to: passAToAll, world: func(l *list) { l.moves("other", passDirect, passAToAll, 10) }},
		"exportTo of both changes, and then the scopes": {from: passAToAll, to: passDirect, world: func(l *list) { l.moves("other", passAToAll, passDirect, 90) }},
		"a plain port is used until it is gone": {
			from: webToA, to: inPlaceA, world: func(l *list) { l.moves("other", plainA, webToA, 90) },
			want: "DestinationConflict spec.destinations[0] port 80 of a.example.com belongs to ExternalRoute demo/other, which already uses it, and this route upgrades the " +
				"host in place on that port: requests would leave in plaintext without the VirtualService. Remove the destination with port 80 from the other route",
		},
		"TLS for the whole host is used until it is gone": {
			from: shopTCP, to: shopToA, world: func(l *list) { l.moves("other", hostWideA, webTo81, 90) },
			want: "DestinationConflict spec.destinations[0] a.example.com belongs to ExternalRoute demo/other, which already uses it, and tls.scope Host cannot be shared with " +
				"another ExternalRoute: use tls.scope Route in both",
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := &list{T: t, namespace: "demo"}
			l.owns(cmp.Or(c.from, passDirect), 50)
			c.world(l)
			mine := l.route("demo", "mine", cmp.Or(c.to, passEast), 50)
			wanted, refusal := translate.Translate(mine, l.mesh())
			if refusal != nil {
				t.Fatal(refusal.Message())
			}
			if c.policy {
				wanted.RoadPolicies = []string{"p"}
			}
			verdict := conflict.Judge(conflict.Route{ExternalRoute: mine, Wanted: wanted, Owned: l.owned, ClusterDomain: domain}, l)
			if got := described(verdict); got != c.want {
				t.Errorf("got %q", got)
			}
		})
	}
}

// through is the spec of a route that leaves through a gateway.
func through(gateway, spec string) string {
	return strings.TrimSuffix(spec, "}") + ", egressGateway: {name: " + gateway + ", namespace: gateways}}"
}

// movers are many routes of one host that move to a gateway.
func (l *list) movers(many int) {
	for i := range many {
		l.moves(fmt.Sprintf("mover-%d", i), passDirect, passEast, 60)
	}
}
