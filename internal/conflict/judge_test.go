package conflict_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/conflict"
	"github.com/externalroute/externalroute/internal/translate"
)

// The routes of the table, as the API server stores them.
const (
	webToA     = `{hosts: [web], port: 80, exportTo: [.], destinations: [{name: primary, url: "https://a.example.com", resolution: DNS}]}`
	webForA    = `{hosts: [web], port: 80, exportTo: [.], workloadSelector: {matchLabels: {app: a}}, destinations: [{name: primary, url: "https://a.example.com", resolution: DNS}]}`
	webForB    = `{hosts: [web], port: 80, exportTo: [.], workloadSelector: {matchLabels: {app: b}}, destinations: [{name: primary, url: "https://b.example.com", resolution: DNS}]}`
	webAndShop = `{hosts: [web, shop], port: 80, exportTo: [.], destinations: [{name: primary, url: "https://a.example.com", resolution: DNS}]}`
	shopToA    = `{hosts: [shop], port: 80, exportTo: [.], destinations: [{name: primary, url: "https://a.example.com", resolution: DNS}]}`
	hostWideA  = `{hosts: [wide], port: 80, exportTo: [.], destinations: [{name: primary, url: "https://a.example.com", resolution: DNS, tls: {scope: Host}}]}`
	inPlaceA   = `{hosts: [a.example.com], port: 80, exportTo: [.], destinations: [{name: primary, url: "https://a.example.com", resolution: DNS}]}`
	plainA     = `{hosts: [plain], port: 80, exportTo: [.], destinations: [{name: primary, url: "http://a.example.com", resolution: DNS}]}`
	passA      = `{hosts: [a.example.com, "*.example.org"], exportTo: [.]}`
	passAToAll = `{hosts: [a.example.com], exportTo: ["*"]}`
	passAPlain = `{hosts: [a.example.com], port: 80, exportTo: [.]}`
	webTCP     = `{hosts: [web], exportTo: [.], destinations: [{name: primary, url: "tcp://db.example.com:5432", resolution: DNS}]}`
	webTCP80   = `{hosts: [web], port: 80, exportTo: [.], destinations: [{name: primary, url: "tcp://db.example.com:5432", resolution: DNS}]}`
	shopTCP    = `{hosts: [shop], exportTo: [.], destinations: [{name: primary, url: "tcp://db.example.com:5432", resolution: DNS}]}`
	eastA      = `{hosts: [web], port: 80, exportTo: [.], egressGateway: {name: east, namespace: gateways}, destinations: [{name: primary, url: "https://a.example.com", resolution: DNS}]}`
	eastShop   = `{hosts: [shop], port: 80, exportTo: [.], egressGateway: {name: east, namespace: gateways}, destinations: [{name: primary, url: "https://a.example.com", resolution: DNS}]}`
	passEast   = `{hosts: [a.example.com], exportTo: [.], egressGateway: {name: east, namespace: gateways}}`
	passWest   = `{hosts: [a.example.com], exportTo: [.], egressGateway: {name: west, namespace: gateways}}`
	passDirect = `{hosts: [a.example.com], exportTo: [.]}`
	passTwo    = `{hosts: [a.example.com, b.example.com], exportTo: [.]}`
	passOther  = `{hosts: [b.example.com], exportTo: [.]}`
	placeEast  = `{hosts: [a.example.com], port: 80, exportTo: [.], egressGateway: {name: east, namespace: gateways}, destinations: [{name: primary, url: "https://a.example.com", resolution: DNS}]}`
	webTo81    = `{hosts: [web], port: 81, exportTo: [.], destinations: [{name: primary, url: "https://b.example.com", resolution: DNS}]}`
)

// Who gets what: the route that is judged is "mine", made in second 50.
func TestJudge(t *testing.T) {
	const held = ", which already uses it: remove the host from one of the two routes"
	const wildcardHidden = "DestinationConflict spec.destinations[0] DestinationRule demo/hand for host *.example.com originates TLS for a ServiceEntry of host " +
		"a.example.com, and the route's own rule would hide it: requests of others would leave in plaintext. Write a DestinationRule for host a.example.com with the " +
		"same settings and the exportTo of the route, or set endpoints"
	for name, c := range map[string]struct {
		mine  string // webToA if empty
		world func(*list)
		want  string // the refusal, empty if there is none
	}{
		"nobody else is there": {world: func(*list) {}},
		"the host is served by a younger route": {
			world: func(l *list) { l.serves("other", webToA, 90) },
			want:  "HostConflict spec.hosts[0] web.demo.svc.cluster.local belongs to ExternalRoute demo/other" + held,
		},
		"the host is served by an object of a route that is going": {
			world: func(l *list) { l.stands(l.objects("going", webToA, 90)...) },
			want:  "HostConflict spec.hosts[0] web.demo.svc.cluster.local belongs to ExternalRoute demo/going" + held,
		},
		"an older route asks for the host, and has nothing yet": {
			world: func(l *list) { l.asks("older", webToA, 10, "") },
			want:  "HostConflict spec.hosts[0] web.demo.svc.cluster.local belongs to ExternalRoute demo/older, which is older: remove the host from one of the two routes",
		},
		"a younger route asks for it":                                              {world: func(l *list) { l.asks("younger", webToA, 90, "") }},
		"an older route that asks for it is refused for a conflict":                {world: func(l *list) { l.asks("older", webToA, 10, v1alpha1.ReasonHostConflict) }, want: "HostConflict spec.hosts[0] web.demo.svc.cluster.local belongs to ExternalRoute demo/older, which is older: remove the host from one of the two routes"},
		"an older route asks for it on another port, where mine serves every port": {world: func(l *list) { l.asks("older", webTo81, 10, "") }, want: "HostConflict spec.hosts[0] web.demo.svc.cluster.local belongs to ExternalRoute demo/older, which is older: remove the host from one of the two routes"},
		"an older route that asks for it can never have another of its hosts": {
			world: func(l *list) {
				l.asks("older", webAndShop, 10, v1alpha1.ReasonHostConflict)
				l.foreign(virtualService(l.T, at("demo", "hand", 5), "{hosts: [shop], exportTo: [.], http: [{}]}"))
			},
		},
		"... also if it expects its Service to exist": {
			world: func(l *list) {
				l.asks("older", strings.Replace(webAndShop, "port: 80", "port: 80, serviceCreationPolicy: Never", 1), 10, v1alpha1.ReasonHostConflict)
				l.foreign(virtualService(l.T, at("demo", "hand", 5), "{hosts: [shop], exportTo: [.], http: [{}]}"))
			},
		},
		"... or has to wait for it until another route goes": {
			world: func(l *list) {
				l.asks("older", webAndShop, 10, v1alpha1.ReasonHostConflict)
				l.serves("shop", shopToA, 90)
			},
			want: "HostConflict spec.hosts[0] web.demo.svc.cluster.local belongs to ExternalRoute demo/older, which is older: remove the host from one of the two routes",
		},
		"another route serves another host over the same destination":    {world: func(l *list) { l.serves("shop", shopToA, 10) }},
		"another route serves the name of an alias in another namespace": {world: func(l *list) { l.namespace = "far"; l.serves("web", webToA, 10) }},
		"mine stands, and so does an older one": {
			world: func(l *list) { l.owns(webToA, 50); l.serves("older", webToA, 10) },
			want:  "HostConflict spec.hosts[0] web.demo.svc.cluster.local belongs to ExternalRoute demo/older" + held,
		},
		"mine stands, and so does a younger one": {world: func(l *list) { l.owns(webToA, 50); l.serves("younger", webToA, 90) }},
		"mine stands for some pods, another route for others, and mine asks for all": {
			world: func(l *list) { l.owns(webForA, 50); l.serves("younger", webForB, 90) },
			want:  "HostConflict spec.hosts[0] web.demo.svc.cluster.local belongs to ExternalRoute demo/younger" + held,
		},
		"mine stands, and an older one asks": {world: func(l *list) { l.owns(webToA, 50); l.asks("older", webToA, 10, "") }},
		"the destination is TLS for the whole host": {
			world: func(l *list) { l.serves("wide", hostWideA, 90) },
			want:  "DestinationConflict spec.destinations[0] a.example.com belongs to ExternalRoute demo/wide, which already uses it, and tls.scope Host cannot be shared with another ExternalRoute: use tls.scope Route in both",
		},
		"mine is for the whole host, and another route uses it": {
			mine:  hostWideA,
			world: func(l *list) { l.serves("shop", shopToA, 90) },
			want:  "DestinationConflict spec.destinations[0] a.example.com belongs to ExternalRoute demo/shop, which already uses it, and tls.scope Host cannot be shared with another ExternalRoute: use tls.scope Route in both",
		},
		"an older route waits for the whole host": {
			mine:  hostWideA,
			world: func(l *list) { l.asks("older", hostWideA, 10, v1alpha1.ReasonDestinationConflict) },
			want: "HostConflict spec.hosts[0] wide.demo.svc.cluster.local belongs to ExternalRoute demo/older, which is older: remove the host from one of the two routes; " +
				"spec.destinations[0] a.example.com belongs to ExternalRoute demo/older, which is older, and tls.scope Host cannot be shared with another " +
				"ExternalRoute: use tls.scope Route in both",
		},
		"an older route waits for the destination, with which mine gets along": {
			world: func(l *list) { l.asks("older", shopToA, 10, v1alpha1.ReasonDestinationConflict) },
		},
		"in place beside plain http": {
			mine:  inPlaceA,
			world: func(l *list) { l.serves("plain", plainA, 90) },
			want:  "DestinationConflict spec.destinations[0] port 80 of a.example.com belongs to ExternalRoute demo/plain, which already uses it, and this route upgrades the host in place on that port: requests would leave in plaintext without the VirtualService. Remove the destination with port 80 from the other route",
		},
		"plain http beside in place": {
			mine:  plainA,
			world: func(l *list) { l.serves("place", inPlaceA, 90) },
			want:  "DestinationConflict spec.destinations[0] port 80 of a.example.com belongs to ExternalRoute demo/place, which already uses it and upgrades the host in place: with this destination, its requests would leave in plaintext without the VirtualService. Use https on another port, or remove the destination",
		},
		"a host that passes through, beside routes of the same host": {
			mine: passA,
			world: func(l *list) {
				l.serves("other", passA, 10)
				l.serves("web", webToA, 20)
				l.serves("place", inPlaceA, 30)
			},
		},
		"a destination beside a host that passes through": {world: func(l *list) { l.serves("pass", passA, 10) }},
		"a host in place beside one that passes through":  {mine: inPlaceA, world: func(l *list) { l.serves("pass", passA, 10) }},
		"a host that passes through to others, beside one that does not": {
			mine:  passAToAll,
			world: func(l *list) { l.serves("pass", passA, 90) },
			want: "HostConflict spec.hosts[0] a.example.com belongs to ExternalRoute demo/pass, which already uses it, with another exportTo, and Istio does not merge " +
				"the two: use the same exportTo in both routes",
		},
		"... and beside another one that does": {mine: passAToAll, world: func(l *list) { l.serves("pass", passAToAll, 90) }},
		"... and an older one that waits": {
			mine:  passAToAll,
			world: func(l *list) { l.asks("older", passA, 10, v1alpha1.ReasonHostConflict) },
			want: "HostConflict spec.hosts[0] a.example.com belongs to ExternalRoute demo/older, which is older, with another exportTo, and Istio does not merge " +
				"the two: use the same exportTo in both routes",
		},
		"a destination beside a host that passes through to others": {
			world: func(l *list) { l.serves("pass", passAToAll, 90) },
			want: "DestinationConflict spec.destinations[0] a.example.com belongs to ExternalRoute demo/pass, which already uses it, with another exportTo, and Istio " +
				"does not merge the two: use the same exportTo in both routes",
		},
		"a host that passes through, beside TLS for the whole host": {
			mine:  passA,
			world: func(l *list) { l.serves("wide", hostWideA, 90) },
			want: "DestinationConflict spec.hosts[0] a.example.com belongs to ExternalRoute demo/wide, which already uses it, and its tls.scope Host breaks TLS that " +
				"workloads originate themselves: use tls.scope Route there",
		},
		"TLS for the whole host beside a host that passes through": {
			mine:  hostWideA,
			world: func(l *list) { l.serves("pass", passA, 90) },
			want: "DestinationConflict spec.destinations[0] a.example.com belongs to ExternalRoute demo/pass, which already uses it, and tls.scope Host cannot be shared " +
				"with another ExternalRoute: use tls.scope Route in both",
		},
		"a host that passes through on the port of one in place": {
			mine:  passAPlain,
			world: func(l *list) { l.serves("place", inPlaceA, 90) },
			want: "DestinationConflict spec.hosts[0] port 80 of a.example.com belongs to ExternalRoute demo/place, which already uses it and upgrades the host in place: " +
				"requests meant for it would leave in plaintext without the VirtualService. Use another port",
		},
		"a ServiceEntry of another user that resolves a wildcard that passes through": {
			mine: passA,
			world: func(l *list) {
				e := &networkingv1.ServiceEntry{ObjectMeta: at("demo", "hand", 10)}
				read(l.T, `{hosts: ["*.example.org"], exportTo: [.], resolution: STATIC, ports: [{number: 443, name: tls, protocol: TLS}], endpoints: [{address: 203.0.113.1}]}`, &e.Spec)
				l.foreign(e)
			},
			want: "DestinationConflict spec.hosts[1] ServiceEntry demo/hand for host *.example.org has other endpoints for the same port, and Istio merges the endpoints of " +
				"both: change it to agree with the route, or delete it",
		},
		"a ServiceEntry of another user that says the same": {
			mine: passA,
			world: func(l *list) {
				e := &networkingv1.ServiceEntry{ObjectMeta: at("demo", "hand", 10)}
				read(l.T, `{hosts: [a.example.com], exportTo: [.], resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}`, &e.Spec)
				l.foreign(e)
			},
		},
		"a DestinationRule of another user that originates TLS for a host that passes through": {
			mine: passA,
			world: func(l *list) {
				d := &networkingv1.DestinationRule{ObjectMeta: at("demo", "hand", 10)}
				read(l.T, `{host: a.example.com, exportTo: [.], trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}}`, &d.Spec)
				l.foreign(d)
			},
			want: "DestinationConflict spec.hosts[0] DestinationRule demo/hand for host a.example.com originates TLS, and TLS that workloads originate themselves would be " +
				"inside it: remove its tls settings, or delete it",
		},
		"... that limits connections": {
			mine: passA,
			world: func(l *list) {
				d := &networkingv1.DestinationRule{ObjectMeta: at("demo", "hand", 10)}
				read(l.T, `{host: a.example.com, exportTo: [.], trafficPolicy: {connectionPool: {tcp: {maxConnections: 5}}}}`, &d.Spec)
				l.foreign(d)
			},
		},
		"routes through one gateway to one host": {mine: eastA, world: func(l *list) { l.serves("shop", eastShop, 10) }},
		"a pass-through route beside one through a gateway": {
			mine:  passDirect,
			world: func(l *list) { l.serves("east", passEast, 90) },
			want: "HostConflict spec.hosts[0] a.example.com belongs to ExternalRoute demo/east, which already uses it, with another egressGateway or none, and Istio would " +
				"merge the endpoints of both: use the same egressGateway in both routes, or in none",
		},
		"... through the same one": {mine: passEast, world: func(l *list) { l.serves("east", passEast, 90) }},
		"... through another one that is older and has nothing yet": {
			mine:  passWest,
			world: func(l *list) { l.asks("east", passEast, 10, "") },
			want: "HostConflict spec.hosts[0] a.example.com belongs to ExternalRoute demo/east, which is older, with another egressGateway or none, and Istio would " +
				"merge the endpoints of both: use the same egressGateway in both routes, or in none",
		},
		"a destination beside a pass-through route through a gateway": {
			world: func(l *list) { l.serves("east", passEast, 90) },
			want: "DestinationConflict spec.destinations[0] a.example.com belongs to ExternalRoute demo/east, which already uses it, through an egress gateway, " +
				"and Istio would merge the endpoints of both: remove the host from one of the two routes",
		},
		"a pass-through route through a gateway beside a host in place": {
			mine:  passEast,
			world: func(l *list) { l.moves("place", inPlaceA, placeEast, 90) },
			want: "HostConflict spec.hosts[0] a.example.com belongs to ExternalRoute demo/place, which already uses it, in place: its ServiceEntry never leads to an " +
				"egress gateway, and Istio would merge the endpoints of both. Remove the host from one of the two routes",
		},
		"a destination behind a gateway beside a pass-through route through it": {mine: eastA, world: func(l *list) { l.serves("east", passEast, 10) }},
		"a DestinationRule of the namespace for the gateway, for the whole host": {
			mine: eastA,
			world: func(l *list) {
				l.rule("demo", `{host: east.gateways.svc.cluster.local, exportTo: [.], trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}}`)
			},
			want: "DestinationConflict spec.egressGateway DestinationRule demo/hand for host east.gateways.svc.cluster.local sets connectionPool outside " +
				"its subsets, and the route's subsets would inherit it: move it into subsets, or delete the rule",
		},
		"a DestinationRule of the gateway's namespace that the route's hides": {
			mine:  eastA,
			world: func(l *list) { l.rule("gateways", `{host: east.gateways.svc.cluster.local, exportTo: [other, demo]}`) },
			want: "DestinationConflict spec.egressGateway DestinationRule gateways/hand for host east.gateways.svc.cluster.local also applies to namespace demo, in which " +
				"the route's own would replace it: leave demo out of its exportTo, or delete it",
		},
		"... that names the host shortly": {
			mine:  eastA,
			world: func(l *list) { l.rule("gateways", `{host: east}`) },
			want: "DestinationConflict spec.egressGateway DestinationRule gateways/hand for host east.gateways.svc.cluster.local also applies to namespace demo, in which " +
				"the route's own would replace it: leave demo out of its exportTo, or delete it",
		},
		"... that is for its own namespace": {
			mine:  eastA,
			world: func(l *list) { l.rule("gateways", `{host: east.gateways.svc.cluster.local, exportTo: [.]}`) },
		},
		"an older Gateway without TLS on the gateway's port": {
			mine: eastA,
			world: func(l *list) {
				l.gateway(10, `{selector: {app: east}, servers: [{port: {number: 443, name: tcp, protocol: TCP}, hosts: ["*"]}]}`)
			},
			want: "DestinationConflict spec.egressGateway Gateway gateways/hand has a server without TLS on port 443 of the egress gateway, and Istio ignores the route's: " +
				"remove that server, or use another port",
		},
		"... of all pods": {
			mine: eastA,
			world: func(l *list) {
				l.gateway(10, `{servers: [{port: {number: 443, name: tcp, protocol: TCP}, hosts: ["*"]}]}`)
			},
			want: "DestinationConflict spec.egressGateway Gateway gateways/hand has a server without TLS on port 443 of the egress gateway, and Istio ignores the route's: " +
				"remove that server, or use another port",
		},
		"... on another port": {
			mine: eastA,
			world: func(l *list) {
				l.gateway(10, `{selector: {app: east}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}`)
			},
		},
		"... of other pods": {
			mine: eastA,
			world: func(l *list) {
				l.gateway(10, `{selector: {app: west}, servers: [{port: {number: 443, name: tcp, protocol: TCP}, hosts: ["*"]}]}`)
			},
		},
		"... that is younger": {
			mine: eastA,
			world: func(l *list) {
				l.owns(eastA, 50)
				l.gateway(90, `{selector: {app: east}, servers: [{port: {number: 443, name: tcp, protocol: TCP}, hosts: ["*"]}]}`)
			},
		},
		"a Gateway that terminates TLS of all hosts": {
			mine: passEast,
			world: func(l *list) {
				l.gateway(10, `{selector: {app: east}, servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ["*"], tls: {mode: SIMPLE, credentialName: c}}]}`)
			},
			want: "DestinationConflict spec.egressGateway Gateway gateways/hand terminates TLS of *, from which the route would take a.example.com: remove the host " +
				"from the route, or use another egress gateway",
		},
		"... of a domain": {
			mine: passEast,
			world: func(l *list) {
				l.gateway(90, `{selector: {app: east}, servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ["shop/*.example.com"], tls: {mode: SIMPLE, credentialName: c}}]}`)
			},
			want: "DestinationConflict spec.egressGateway Gateway gateways/hand terminates TLS of *.example.com, from which the route would take a.example.com: remove " +
				"the host from the route, or use another egress gateway",
		},
		"... of another domain": {
			mine: passEast,
			world: func(l *list) {
				l.gateway(10, `{selector: {app: east}, servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ["*.a.example.com"], tls: {mode: SIMPLE, credentialName: c}}]}`)
			},
		},
		"... of all hosts, beside a route whose TLS the gateway terminates": {
			mine: eastA,
			world: func(l *list) {
				l.gateway(10, `{selector: {app: east}, servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ["*"], tls: {mode: ISTIO_MUTUAL}}]}`)
			},
		},
		"a Gateway that terminates TLS of a host that passes through": {
			mine: passEast,
			world: func(l *list) {
				l.gateway(90, `{selector: {app: east}, servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [./a.example.com], tls: {mode: SIMPLE, credentialName: c}}]}`)
			},
			want: "DestinationConflict spec.egressGateway Gateway gateways/hand terminates TLS of a.example.com, which the route passes through, and Envoy refuses to do " +
				"both: remove the host from one of the two",
		},
		"... or passes it through as well": {
			mine: passEast,
			world: func(l *list) {
				l.gateway(10, `{selector: {app: east}, servers: [{port: {number: 443, name: tls, protocol: TLS}, hosts: [a.example.com], tls: {mode: PASSTHROUGH}}]}`)
			},
		},
		"a VirtualService of another user that Istio prefers": {
			world: func(l *list) {
				l.foreign(virtualService(l.T, at("demo", "hand", 10), "{hosts: [web], exportTo: [.], http: [{}]}"))
			},
			want: "HostConflict spec.hosts[0] web.demo.svc.cluster.local is served by VirtualService demo/hand, which Istio prefers: remove the host from one of the two, or delete one",
		},
		"... which is younger than mine": {
			world: func(l *list) {
				l.owns(webToA, 50)
				l.foreign(virtualService(l.T, at("demo", "hand", 90), "{hosts: [web], exportTo: [.], http: [{}]}"))
			},
		},
		"an HTTPRoute for the alias": {
			world: func(l *list) {
				l.httpRoutes = []conflict.HTTPRoute{{Identity: conflict.Identity{Namespace: "demo", Name: "gw"}, Kind: "HTTPRoute", Port: 80}}
			},
			want: "HostConflict spec.hosts[0] web.demo.svc.cluster.local is also served by HTTPRoute demo/gw, and Istio does not define which of the two applies: remove the Service from one of them",
		},
		"an HTTPRoute for another port of it": {
			world: func(l *list) { l.httpRoutes = []conflict.HTTPRoute{{Kind: "HTTPRoute", Port: 8080}} },
		},
		"a ServiceEntry of another user with other endpoints": {
			world: func(l *list) {
				e := &networkingv1.ServiceEntry{ObjectMeta: at("demo", "hand", 90)}
				read(l.T, "{hosts: [a.example.com], exportTo: [.], resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS, targetPort: 8443}]}", &e.Spec)
				l.foreign(e)
			},
			want: "DestinationConflict spec.destinations[0] ServiceEntry demo/hand for host a.example.com has other endpoints for the same port, and Istio merges the endpoints of both: change it to agree with the route, or delete it",
		},
		"a TCP route beside one with the same destination": {mine: webTCP, world: func(l *list) { l.serves("shop", shopTCP, 10) }},
		"a TCP route whose alias another one serves": {
			mine: webTCP, world: func(l *list) { l.serves("other", webTCP, 90) },
			want: "HostConflict spec.hosts[0] web.demo.svc.cluster.local belongs to ExternalRoute demo/other" + held,
		},
		"... or an older one asks for": {
			mine: webTCP, world: func(l *list) { l.asks("older", webTCP, 10, "") },
			want: "HostConflict spec.hosts[0] web.demo.svc.cluster.local belongs to ExternalRoute demo/older, which is older: remove the host from one of the two routes",
		},
		"a TCP route whose alias a route for HTTP serves on the same port": {
			mine: webTCP80, world: func(l *list) { l.serves("other", webToA, 90) },
			want: "HostConflict spec.hosts[0] web.demo.svc.cluster.local belongs to ExternalRoute demo/other" + held,
		},
		"a TCP route beside one for HTTP of an alias that exists": {
			mine: webTCP,
			world: func(l *list) {
				l.existing = []int32{80, 5432}
				l.serves("other", webToA, 10)
			},
		},
		"... and the other way round": {
			world: func(l *list) {
				l.existing = []int32{80, 5432}
				l.serves("other", webTCP, 10)
			},
		},
		"a VirtualService of another user with a tcp route for the alias": {
			mine: webTCP,
			world: func(l *list) {
				l.foreign(virtualService(l.T, at("demo", "hand", 10), "{hosts: [web], exportTo: [.], tcp: [{match: [{port: 5432}], route: [{destination: {host: db}}]}]}"))
			},
			want: "HostConflict spec.hosts[0] web.demo.svc.cluster.local is served by VirtualService demo/hand, which Istio prefers: remove the host from one of the two, or delete one",
		},
		"... for all hosts of the namespace": {
			mine: webTCP,
			world: func(l *list) {
				l.foreign(virtualService(l.T, at("demo", "hand", 10), `{hosts: ["*.demo.svc.cluster.local"], exportTo: [.], tcp: [{route: [{destination: {host: db}}]}]}`))
			},
			want: "HostConflict spec.hosts[0] web.demo.svc.cluster.local is served by VirtualService demo/hand, which Istio prefers: remove the host from one of the two, or delete one",
		},
		"... with http routes alone": {
			mine: webTCP,
			world: func(l *list) {
				l.foreign(virtualService(l.T, at("demo", "hand", 10), "{hosts: [web], exportTo: [.], http: [{}]}"))
			},
		},
		"a TCP route does not mind an HTTPRoute of its alias": {
			mine: webTCP,
			world: func(l *list) {
				l.httpRoutes = []conflict.HTTPRoute{{Identity: conflict.Identity{Namespace: "demo", Name: "gw"}, Kind: "HTTPRoute"}}
			},
		},
		"an object of another user has the name of mine": {
			world: func(l *list) {
				l.foreign(virtualService(l.T, at("demo", "mine", 90), "{hosts: [x], exportTo: [.], http: [{}]}"))
			},
			want: "NameConflict metadata.name VirtualService mine of namespace demo exists and does not belong to this route: rename or delete one of the two, or hand it over " +
				"with the annotation networking.externalroute.io/adopt: mine",
		},
		"... and is handed over": {
			world: func(l *list) {
				v := virtualService(l.T, at("demo", "mine", 10), "{hosts: [web], exportTo: [.], http: [{}]}")
				v.Annotations = map[string]string{v1alpha1.AdoptAnnotation: "mine"}
				l.foreign(v)
			},
			want: "adopted VirtualService mine",
		},
		"a ServiceEntry and a DestinationRule of other names are handed over": {
			world: func(l *list) { l.handsOver("mine", "{host: a.example.com, trafficPolicy: {tls: {mode: SIMPLE}}}") },
			want:  "replaces ServiceEntry hand, DestinationRule hand",
		},
		"... to another route": {
			world: func(l *list) { l.handsOver("other", "{host: a.example.com, trafficPolicy: {tls: {mode: SIMPLE}}}") },
			want: "DestinationConflict spec.destinations[0] DestinationRule demo/hand for host a.example.com has another exportTo, and Istio would ignore " +
				"the older of the two: change it to agree with the route, or delete it",
		},
		"... for some pods": {
			world: func(l *list) {
				l.handsOver("mine", "{host: a.example.com, workloadSelector: {matchLabels: {app: x}}, trafficPolicy: {tls: {mode: SIMPLE}}}")
			},
			want: "DestinationConflict spec.destinations[0] DestinationRule demo/hand for host a.example.com has a workloadSelector, and Istio does not merge it " +
				"with the route's: each pod would use only one of the two: change it to agree with the route, or delete it",
		},
		"... for a route with scope Host": {
			mine:  strings.Replace(webToA, "resolution: DNS", "resolution: DNS, tls: {scope: Host}", 1),
			world: func(l *list) { l.handsOver("mine", "{host: a.example.com, trafficPolicy: {tls: {mode: SIMPLE}}}") },
			want:  "replaces ServiceEntry hand, DestinationRule hand",
		},
		"... and the rule is another controller's, so that the route does not replace it": {
			world: func(l *list) {
				l.handsOver("mine", "{host: a.example.com, trafficPolicy: {tls: {mode: SIMPLE}}}")
				l.theirs[1].SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "p", UID: "p", Controller: new(true)}})
			},
			want: "DestinationConflict spec.destinations[0] DestinationRule demo/hand for host a.example.com has another exportTo, and Istio would ignore " +
				"the older of the two: change it to agree with the route, or delete it",
		},
		"... and a host in place has a plain port on which the entry, another controller's, has an open one": {
			mine: inPlaceA,
			world: func(l *list) {
				l.handsOverEntry("{hosts: [a.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}")
				l.theirs[0].SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "p", UID: "p", Controller: new(true)}})
			},
			want: "DestinationConflict spec.destinations[0] ServiceEntry demo/hand for host a.example.com declares port 80, on which the route upgrades the host in " +
				"place: requests would leave in plaintext without the VirtualService. Remove port 80 from it, or delete it",
		},
		"a rule of a wildcard originates TLS for a ServiceEntry of the host": {
			world: func(l *list) {
				l.plainEntry(".")
				l.rule("demo", `{host: "*.example.com", trafficPolicy: {tls: {mode: SIMPLE}}}`)
			},
			want: wildcardHidden,
		},
		"... more specific than another one": {
			world: func(l *list) {
				l.plainEntry(".")
				l.rule("demo", `{host: "*.com", trafficPolicy: {connectionPool: {tcp: {maxConnections: 5}}}}`)
				l.rule("demo", `{host: "*.example.com", trafficPolicy: {tls: {mode: SIMPLE}}}`)
			},
			want: wildcardHidden,
		},
		"... that one of a narrower wildcard hides already": {
			world: func(l *list) {
				l.plainEntry(".")
				l.rule("demo", `{host: "*.com", trafficPolicy: {tls: {mode: SIMPLE}}}`)
				l.rule("demo", `{host: "*.example.com", trafficPolicy: {connectionPool: {tcp: {maxConnections: 5}}}}`)
			},
		},
		"... that one of the host hides already": {
			world: func(l *list) {
				l.plainEntry(".")
				l.rule("demo", `{host: "*.example.com", trafficPolicy: {tls: {mode: SIMPLE}}}`)
				l.rule("demo", `{host: a.example.com, exportTo: [.], trafficPolicy: {tls: {mode: SIMPLE}}}`)
			},
		},
		"... for other namespaces": {
			world: func(l *list) {
				l.plainEntry(".")
				l.rule("demo", `{host: "*.example.com", exportTo: [far], trafficPolicy: {tls: {mode: SIMPLE}}}`)
			},
		},
		"... that only other namespaces see": {
			world: func(l *list) {
				l.plainEntry("far")
				l.rule("demo", `{host: "*.example.com", trafficPolicy: {tls: {mode: SIMPLE}}}`)
			},
		},
		"... beside a route with a private name": {
			mine: strings.Replace(webToA, "resolution: DNS", "resolution: DNS, endpoints: [{address: 203.0.113.1}]", 1),
			world: func(l *list) {
				l.plainEntry(".")
				l.rule("demo", `{host: "*", trafficPolicy: {tls: {mode: SIMPLE}}}`)
			},
		},
		"... beside a route that originates TLS for the whole host": {
			mine: hostWideA,
			world: func(l *list) {
				l.plainEntry(".")
				l.rule("demo", `{host: "*.example.com", trafficPolicy: {tls: {mode: SIMPLE}}}`)
			},
		},
		"a rule of a wildcard originates TLS, and nobody else has a ServiceEntry of the host": {
			world: func(l *list) { l.rule("demo", `{host: "*.example.com", trafficPolicy: {tls: {mode: SIMPLE}}}`) },
		},
		"of rules that Istio merges all are in force, the oldest first": {
			world: func(l *list) {
				l.handsOverRule("b-pool", 20, "{host: a.example.com, trafficPolicy: {connectionPool: {tcp: {maxConnections: 5}}}}")
				l.handsOverRule("a-far", 5, "{host: a.example.com, exportTo: [far], trafficPolicy: {tls: {mode: DISABLE}}}")
				l.handsOverRule("c-tls", 10, "{host: a.example.com, trafficPolicy: {tls: {mode: SIMPLE}}}")
			},
			want: "replaces DestinationRule a-far, DestinationRule c-tls, DestinationRule b-pool; in force DestinationRule c-tls, DestinationRule b-pool",
		},
		"of those that it does not merge the youngest is": {
			world: func(l *list) {
				l.handsOverRule("older", 10, "{host: a.example.com, trafficPolicy: {tls: {mode: SIMPLE}}}")
				l.handsOverRule("younger", 20, "{host: a.example.com, exportTo: [demo, far], trafficPolicy: {tls: {mode: SIMPLE, sni: b.example.com}}}")
			},
			want: "replaces DestinationRule older, DestinationRule younger; in force DestinationRule younger",
		},
		"an entry that the namespace does not see is not in force": {
			world: func(l *list) {
				l.handsOverEntry("{hosts: [a.example.com], exportTo: [far], ports: [{number: 443, name: https, protocol: TLS}], resolution: DNS}")
			},
			want: "replaces ServiceEntry hand; in force ",
		},
		"an entry of more hosts than the route's is handed over": {
			world: func(l *list) {
				l.handsOverEntry("{hosts: [a.example.com, z.example.com], ports: [{number: 443, name: https, protocol: TLS}], resolution: DNS}")
			},
			want: "DestinationConflict spec.destinations[0] ServiceEntry demo/hand for host a.example.com is handed over to the route and also declares z.example.com, " +
				"which the route does not: move z.example.com to another ServiceEntry, or remove the annotation networking.externalroute.io/adopt",
		},
		"... to a route with private names": {
			mine: strings.Replace(webToA, "resolution: DNS", "resolution: DNS, endpoints: [{address: 203.0.113.1}]", 1),
			world: func(l *list) {
				l.handsOverEntry("{hosts: [z.example.com, a.example.com], ports: [{number: 443, name: https, protocol: TLS}], resolution: DNS}")
			},
			want: "DestinationConflict spec.destinations[0] ServiceEntry demo/hand for host a.example.com is handed over to the route and also declares z.example.com, " +
				"which the route does not: move z.example.com to another ServiceEntry, or remove the annotation networking.externalroute.io/adopt",
		},
		"... to a pass-through route": {
			mine: passA,
			world: func(l *list) {
				l.handsOverEntry("{hosts: [a.example.com, z.example.com], ports: [{number: 443, name: https, protocol: TLS}], resolution: DNS}")
			},
			want: "DestinationConflict spec.hosts[0] ServiceEntry demo/hand for host a.example.com is handed over to the route and also declares z.example.com, " +
				"which the route does not: move z.example.com to another ServiceEntry, or remove the annotation networking.externalroute.io/adopt",
		},
		"an entry of two hosts is handed over to a route for both": {
			mine: strings.Replace(passA, `"*.example.org"`, "z.example.com", 1),
			world: func(l *list) {
				l.handsOverEntry("{hosts: [a.example.com, z.example.com], ports: [{number: 443, name: https, protocol: TLS}], resolution: DNS}")
			},
			want: "replaces ServiceEntry hand",
		},
		"a DestinationRule for the egress gateway is handed over, which no route replaces": {
			mine: eastA,
			world: func(l *list) {
				l.rule("demo", "{host: east.gateways.svc.cluster.local, subsets: [{name: cnn}]}")
				l.theirs[0].SetAnnotations(map[string]string{v1alpha1.AdoptAnnotation: "mine"})
			},
			want: "DestinationConflict spec.egressGateway DestinationRule demo/hand for host east.gateways.svc.cluster.local has another exportTo, and Istio would " +
				"ignore the older of the two: change it to agree with the route, or delete it",
		},
		"an object of another controller has the name of mine": {
			world: func(l *list) {
				v := virtualService(l.T, at("demo", "mine", 90), "{hosts: [x], exportTo: [.], http: [{}]}")
				v.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "p", UID: "p", Controller: new(true)}}
				l.foreign(v)
			},
			want: "NameConflict metadata.name VirtualService mine of namespace demo exists and is controlled by Pod p: rename the route",
		},
		"an earlier route of the name has left an object": {
			world: func(l *list) { l.stands(l.objects("mine", webToA, 10)...) },
			want:  "earlier Service mine-alias, ServiceEntry, DestinationRule, VirtualService",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if c.mine == "" {
				c.mine = webToA
			}
			l := &list{T: t, namespace: "demo"}
			c.world(l)
			mine := l.route("demo", "mine", c.mine, 50)
			wanted, refusal := translate.Translate(mine, l.mesh())
			if refusal != nil {
				t.Fatal(refusal.Message())
			}
			verdict := conflict.Judge(conflict.Route{ExternalRoute: mine, Wanted: wanted, Owned: l.owned, ClusterDomain: domain}, l)
			if diff := cmp.Diff(c.want, described(verdict)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func described(v conflict.Verdict) string {
	if v.Refusal != nil {
		var parts []string
		for _, p := range v.Refusal.Problems {
			parts = append(parts, p.Field+" "+p.Detail)
		}
		return v.Refusal.Reason + " " + strings.Join(parts, "; ")
	}
	for key := range v.Adopted {
		return "adopted " + key.String()
	}
	if len(v.Replaced) > 0 {
		said := "replaces " + listed(v.Replaced)
		if !slices.Equal(v.InForce, v.Replaced) {
			said += "; in force " + listed(v.InForce)
		}
		return said
	}
	if len(v.Earlier) == 4 {
		return "earlier Service mine-alias, ServiceEntry, DestinationRule, VirtualService"
	}
	return ""
}

func listed(keys []translate.Key) string {
	names := make([]string, len(keys))
	for i, key := range keys {
		names[i] = key.String()
	}
	return strings.Join(names, ", ")
}

// list is a world that is known whole.
type list struct {
	*testing.T
	namespace    string
	owned        map[translate.Key]translate.Object
	ours, theirs []translate.Object
	asking       []*v1alpha1.ExternalRoute
	httpRoutes   []conflict.HTTPRoute
	// existing are the ports of Service web if it is there: port 80 is for HTTP, others for TCP.
	existing []int32
}

func (l *list) mesh() translate.Mesh {
	mesh := translate.Mesh{ClusterDomain: domain, Services: map[types.NamespacedName]translate.Service{
		{Namespace: "gateways", Name: "east"}: egress("east"), {Namespace: "gateways", Name: "west"}: egress("west"),
	}}
	var service translate.Service
	for _, port := range l.existing {
		protocol := "tcp"
		if port == 80 {
			protocol = "http"
		}
		service.Ports = append(service.Ports, corev1.ServicePort{Name: protocol, Port: port})
		mesh.Services[types.NamespacedName{Namespace: "demo", Name: "web"}] = service
	}
	return mesh
}

func (l *list) route(namespace, name, spec string, second int64) *v1alpha1.ExternalRoute {
	l.Helper()
	r := &v1alpha1.ExternalRoute{ObjectMeta: at(namespace, name, second)}
	r.UID = types.UID(name + string(rune(second)))
	read(l.T, spec, &r.Spec)
	return r
}

// objects are what a route has written in a second.
func (l *list) objects(name, spec string, second int64) []translate.Object {
	l.Helper()
	route := l.route(l.namespace, name, spec, second)
	translation, refusal := translate.Translate(route, l.mesh())
	if refusal != nil {
		l.Fatal(refusal.Message())
	}
	var objects []translate.Object
	for _, item := range translation.Objects {
		item.SetCreationTimestamp(route.CreationTimestamp)
		item.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(route, v1alpha1.SchemeGroupVersion.WithKind("ExternalRoute"))})
		objects = append(objects, item.Object)
	}
	return objects
}

// mesh has two egress gateways.
func egress(name string) translate.Service {
	return translate.Service{HasSelector: true, Selector: map[string]string{"app": name, "istio": "egress"}, Ports: []corev1.ServicePort{{Port: 443}}}
}

// rule is a DestinationRule of another user, and gateway a Gateway beside the egress gateways.
func (l *list) rule(namespace, spec string) {
	d := &networkingv1.DestinationRule{ObjectMeta: at(namespace, "hand", 10)}
	read(l.T, spec, &d.Spec)
	l.foreign(d)
}

// handsOver are a ServiceEntry and a DestinationRule of another user that were handed over to a route.
func (l *list) handsOver(route, rule string) {
	e := &networkingv1.ServiceEntry{ObjectMeta: at("demo", "hand", 10)}
	read(l.T, "{hosts: [a.example.com], ports: [{number: 443, name: https, protocol: TLS}], resolution: DNS}", &e.Spec)
	l.foreign(e)
	l.rule("demo", rule)
	for _, object := range l.theirs {
		object.SetAnnotations(map[string]string{v1alpha1.AdoptAnnotation: route})
	}
}

// plainEntry is a ServiceEntry of another user for a host to which requests leave over TLS, which it leaves to a rule.
func (l *list) plainEntry(exportTo string) {
	e := &networkingv1.ServiceEntry{ObjectMeta: at("demo", "plain", 10)}
	read(l.T, "{hosts: [a.example.com], exportTo: ["+exportTo+"], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}, "+
		"{number: 443, name: https, protocol: TLS}]}", &e.Spec)
	l.foreign(e)
}

// handsOverEntry is a ServiceEntry of another user that was handed over to the judged route.
func (l *list) handsOverEntry(spec string) {
	e := &networkingv1.ServiceEntry{ObjectMeta: at("demo", "hand", 10)}
	e.Annotations = map[string]string{v1alpha1.AdoptAnnotation: "mine"}
	read(l.T, spec, &e.Spec)
	l.foreign(e)
}

// handsOverRule is a DestinationRule of another user that was handed over to the judged route.
func (l *list) handsOverRule(name string, second int64, spec string) {
	d := &networkingv1.DestinationRule{ObjectMeta: at("demo", name, second)}
	d.Annotations = map[string]string{v1alpha1.AdoptAnnotation: "mine"}
	read(l.T, spec, &d.Spec)
	l.foreign(d)
}

func (l *list) gateway(second int64, spec string) {
	g := &networkingv1.Gateway{ObjectMeta: at("gateways", "hand", second)}
	read(l.T, spec, &g.Spec)
	l.foreign(g)
}

func (l *list) stands(objects ...translate.Object)     { l.ours = append(l.ours, objects...) }
func (l *list) foreign(object translate.Object)        { l.theirs = append(l.theirs, object) }
func (l *list) serves(name, spec string, second int64) { l.stands(l.objects(name, spec, second)...) }

func (l *list) owns(spec string, second int64) {
	l.owned = map[translate.Key]translate.Object{}
	for _, object := range l.objects("mine", spec, second) {
		l.owned[translate.KeyOf(object)] = object
	}
}

// moves is a route that has the objects of one spec and asks for another.
func (l *list) moves(name, from, to string, second int64) {
	l.serves(name, from, second)
	l.asks(name, to, second, "")
}

func (l *list) asks(name, spec string, second int64, refused string) {
	route := l.route(l.namespace, name, spec, second)
	if refused != "" {
		route.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionFalse, Reason: refused}}
	}
	l.asking = append(l.asking, route)
}

func (l *list) Named(key translate.Key) *conflict.Named {
	for _, o := range slices.Concat(l.theirs, l.ours) {
		if translate.KeyOf(o) == key {
			return &conflict.Named{
				Identity: conflict.IdentityOf(o), UID: o.GetUID(), Controller: metav1.GetControllerOf(o), Adopt: o.GetAnnotations()[v1alpha1.AdoptAnnotation],
			}
		}
	}
	return nil
}

func (l *list) VirtualServices(host string) (found []conflict.VirtualService) {
	for _, o := range l.theirs {
		if v, ok := o.(*networkingv1.VirtualService); ok {
			if facts := conflict.VirtualServiceFacts(v, domain); slices.Contains(facts.Claims(), conflict.Name{Host: host}) {
				found = append(found, facts)
			}
		}
	}
	return found
}

func (l *list) ServiceEntries(namespace, host string) (found []conflict.ServiceEntry) {
	for _, o := range l.theirs {
		if e, ok := o.(*networkingv1.ServiceEntry); ok && e.Namespace == namespace && slices.Contains(e.Spec.Hosts, host) {
			found = append(found, conflict.ServiceEntryFacts(e))
		}
	}
	return found
}

func (l *list) DestinationRules(namespace, host string) (found []conflict.DestinationRule) {
	for _, o := range l.theirs {
		if d, ok := o.(*networkingv1.DestinationRule); ok && d.Namespace == namespace && d.Spec.Host == host {
			found = append(found, conflict.DestinationRuleFacts(d))
		}
	}
	slices.SortFunc(found, func(a, b conflict.DestinationRule) int { return a.Compare(b.Identity) })
	return found
}

func (l *list) Gateways() (found []conflict.Gateway) {
	for _, o := range l.theirs {
		if g, ok := o.(*networkingv1.Gateway); ok {
			found = append(found, conflict.GatewayFacts(g))
		}
	}
	return found
}

func (l *list) HTTPRoutes(service types.NamespacedName) []conflict.HTTPRoute {
	if service == (types.NamespacedName{Namespace: "demo", Name: "web"}) {
		return l.httpRoutes
	}
	return nil
}

func (l *list) Holders(claim conflict.Claim) (holders []conflict.Holder) {
	for _, o := range l.ours {
		owner := metav1.GetControllerOf(o)
		for _, theirs := range conflict.ClaimsOf(o, domain) {
			if claim.Clashes(theirs) {
				identity := conflict.IdentityOf(o)
				identity.Name = owner.Name
				holders = append(holders, conflict.Holder{Identity: identity, Claim: theirs})
			}
		}
	}
	return holders
}

func (l *list) Asking(string, conflict.Claim) []*v1alpha1.ExternalRoute { return l.asking }
func (l *list) Err() error                                              { return nil }

func (l *list) Route(name types.NamespacedName) *v1alpha1.ExternalRoute {
	i := slices.IndexFunc(l.asking, func(r *v1alpha1.ExternalRoute) bool { return r.Namespace == name.Namespace && r.Name == name.Name })
	if i < 0 {
		return nil
	}
	return l.asking[i]
}
