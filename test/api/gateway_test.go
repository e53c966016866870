package api_test

const (
	withGateway      = `{egressGateway: {name: egress, namespace: gateways}}`
	passesToGateway  = `{hosts: [www.example.com], destinations: [], egressGateway: {name: egress, namespace: gateways}}`
	gatewayReference = `{name: egress, namespace: gateways}`
)

var gatewayRules = map[string]rule{
	"an egress gateway has a name": {
		at: "egressGateway", good: values(parse(gatewayReference)), bad: values(parse(`{namespace: gateways}`)), path: "egressGateway.name", says: "Required value",
	},
	"... and a namespace": {
		at: "egressGateway", bad: values(parse(`{name: egress}`)), path: "egressGateway.namespace", says: "Required value",
	},
	"the name of an egress gateway is a label": {
		with: withGateway, at: "egressGateway.name", good: values("a", "1", "a-b"), bad: values("-a", "a-", "A", "a.b", "a b", "ü", "a\n"), says: "must be a DNS label",
	},
	"... and its namespace is": {
		with: withGateway, at: "egressGateway.namespace", good: values("a", "1", "a-b"), bad: values("-a", "a-", "A", "a.b", "*", "."), says: "must be a DNS label",
	},
	"the name of an egress gateway has 63 characters at most": {
		with: withGateway, at: "egressGateway.name", good: values(times(63, "a")), bad: values(times(64, "a")), says: "Too long",
	},
	"... and its namespace has": {
		with: withGateway, at: "egressGateway.namespace", good: values(times(63, "a")), bad: values(times(64, "a")), says: "Too long",
	},
	"the name of an egress gateway is not empty": {
		with: withGateway, at: "egressGateway.name", bad: values(""), says: "should be at least 1 chars long",
	},
	"... and its namespace is not": {
		with: withGateway, at: "egressGateway.namespace", bad: values(""), says: "should be at least 1 chars long",
	},
	"an egress gateway excludes a workloadSelector": {
		at: "egressGateway", with: `workloadSelector: {matchLabels: {app: web}}`, bad: values(parse(gatewayReference)), says: "egressGateway excludes workloadSelector",
	},
	"an egress gateway needs exportTo .": {
		with: withGateway, at: "exportTo", good: values([]any{"."}), bad: values([]any{"*"}, []any{".", "shop"}), path: "egressGateway",
		says: "egressGateway needs exportTo",
	},
	"an egress gateway excludes TLS for the whole host": {
		with: withGateway, at: "destinations[0].tls.scope", good: values("Route"), bad: values("Host"), path: "egressGateway",
		says: "egressGateway excludes tls.scope Host",
	},
	"an egress gateway may show a client certificate": {
		with: withGateway, at: "destinations[0].tls.clientCertificateRef", good: values(parse(`{kind: Secret, name: client}`)),
	},
	"an egress gateway needs HTTP destinations": {
		with: toTLS, at: "egressGateway", good: values(nil), bad: values(parse(gatewayReference)), says: "egressGateway needs http or https destinations",
	},
	"a route through an egress gateway passes no wildcards": {
		with: passesToGateway, at: "hosts", good: values([]any{"www.example.com", "api.example.com"}), bad: values([]any{"*.example.com"}, []any{"www.example.com", "*.example.com"}),
		says: "egressGateway needs host names without wildcards",
	},
	"... and passes port 443 only": {
		with: passesToGateway, at: "port", good: values(443), bad: values(80, 8443), says: "on port 443 only",
	},
	"a route with destinations has any port beside an egress gateway": {with: withGateway, at: "port", good: values(80, 8080)},
}
