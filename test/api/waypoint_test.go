package api_test

// waypointRules are those of spec.waypoint.
var waypointRules = map[string]rule{
	"a waypoint has a name": {
		at: "waypoint", good: values(parse(`{name: waypoint, namespace: infra}`)), bad: values(parse(`{namespace: infra}`)),
		path: "waypoint.name", says: "Required value",
	},
	"a waypoint has a namespace": {
		at: "waypoint", good: values(parse(`{name: waypoint, namespace: infra}`)), bad: values(parse(`{name: waypoint}`)),
		path: "waypoint.namespace", says: "Required value",
	},
	"the name of a waypoint is a DNS label": {
		with: `waypoint: {namespace: infra}`, at: "waypoint.name", good: values("a", "way-point-1", "1"),
		bad: values("A", "a.b", "-a", "a-", "a_b", "a b", "ü", "*", "."), says: "must be a DNS label",
	},
	"the name of a waypoint is not that of none": {
		with: `waypoint: {namespace: infra}`, at: "waypoint.name", good: values("none-1"), bad: values("none"), says: "must not be none",
	},
	"the namespace of a waypoint is a DNS label": {
		with: `waypoint: {name: waypoint}`, at: "waypoint.namespace", good: values("infra", "kube-system", "none", "1"),
		bad: values("A", "a.b", "-a", "a-", "a_b", "a b", "ü", "*", "."), says: "must be a DNS label",
	},
	"the name of a waypoint is of bounded length": {
		with: `waypoint: {namespace: infra}`, at: "waypoint.name", good: values(times(63, "a")), bad: values(times(64, "a")), says: "may not be more than 63 bytes",
	},
	"the namespace of a waypoint is of bounded length": {
		with: `waypoint: {name: waypoint}`, at: "waypoint.namespace", good: values(times(63, "a")), bad: values(times(64, "a")), says: "may not be more than 63 bytes",
	},
	"the name of a waypoint is not empty": {
		with: `waypoint: {namespace: infra}`, at: "waypoint.name", good: values("a"), bad: values(""), says: "should be at least 1 chars long",
	},
	"the namespace of a waypoint is not empty": {
		with: `waypoint: {name: waypoint}`, at: "waypoint.namespace", good: values("a"), bad: values(""), says: "should be at least 1 chars long",
	},
	"a waypoint excludes a workloadSelector": {
		with: `workloadSelector: {matchLabels: {app: web}}`, at: "waypoint", good: values(nil), bad: values(parse(`{name: waypoint, namespace: infra}`)),
		says: "waypoint excludes workloadSelector",
	},
	"a waypoint excludes scope Host": {
		with: `waypoint: {name: waypoint, namespace: infra}`, at: "destinations[0].tls", good: values(parse(`{}`), parse(`{scope: Route}`)),
		bad: values(parse(`{scope: Host}`)), path: "destinations", says: "tls.scope Host uses the host by its real name, which a waypoint does not",
	},
	"a waypoint may show a client certificate": {
		with: `waypoint: {name: waypoint, namespace: infra}`, at: "destinations[0].tls",
		good: values(parse(`{caCertificateRefs: [{name: ca}]}`), parse(`{clientCertificateRef: {name: client}}`)),
	},
	"... to the route's own namespace": {
		with: `{waypoint: {name: waypoint, namespace: infra}, destinations: [{url: "https://a.example.com", tls: {clientCertificateRef: {name: client}}}]}`, at: "exportTo",
		good: values([]any{"."}), bad: values([]any{"*"}, []any{".", "shop"}), says: "tls.clientCertificateRef at a waypoint needs exportTo",
	},
	"a waypoint needs destinations": {
		with: "hosts: [www.example.com]\ndestinations: []", at: "waypoint", good: values(nil), bad: values(parse(`{name: waypoint, namespace: infra}`)),
		says: "waypoint needs destinations",
	},
	"a waypoint excludes an egress gateway": {
		with: withGateway, at: "waypoint", good: values(nil), bad: values(parse(`{name: waypoint, namespace: infra}`)), says: "waypoint excludes egressGateway",
	},
	"a waypoint needs HTTP destinations": {
		with: toTCP, at: "waypoint", good: values(nil), bad: values(parse(`{name: waypoint, namespace: infra}`)), says: "waypoint needs http or https destinations",
	},
	"a waypoint goes with other namespaces, endpoints and resolutions": {
		with: `waypoint: {name: waypoint, namespace: infra}`, at: "exportTo", good: values([]any{"*"}, []any{".", "infra"}, []any{".", "other"}),
		bad: values([]any{"infra"}), says: `must hold "."`,
	},
}
