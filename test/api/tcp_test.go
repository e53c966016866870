package api_test

const (
	// toTCP is a route with a TCP destination, and toTLS is one that originates TLS.
	toTCP = `{hosts: [db], destinations: [{url: "tcp://db.example.com:5432"}]}`
	toTLS = `{hosts: [cache], destinations: [{url: "tls://cache.example.com:6380"}]}`
)

var tcpRules = map[string]rule{
	"a TCP URL": {
		at:   "destinations[0].url",
		good: values("tcp://db.example.com:5432", "tls://cache.example.com:6380", "tcp://a.b:1", "tls://a.b:65535"),
		bad:  values("TCP://example.com:1", "tcps://example.com:1", "udp://example.com:1", "tcp:example.com:1", "tls:/example.com:1"),
		says: "must begin with http://, https://, tcp:// or tls:// (lower case)",
	},
	"a TCP URL needs a port": {
		at:   "destinations[0].url",
		good: values("https://example.com", "https://example.com/"),
		bad:  values("tcp://example.com", "tls://example.com"),
		says: "a tcp:// or tls:// URL needs a port: append one, such as :5432",
	},
	"... a number": {
		at: "destinations[0].url", good: values("tcp://example.com:1"), bad: values("tcp://example.com:", "tls://example.com:0", "tcp://example.com:65536"),
		says: "the port must be a number from 1 to 65535",
	},
	"... none of Istio's own": {
		at: "destinations[0].url", good: values("tcp://example.com:15010"), bad: values("tcp://example.com:15001", "tls://example.com:15090"),
		says: "the port must not be one of Istio's own",
	},
	"a TCP URL takes no path": {
		at: "destinations[0].url", good: values("tcp://example.com:5432"),
		bad:  values("tcp://example.com:5432/", "tcp://example.com:5432/orders", "tls://example.com:6380/0"),
		says: "a tcp:// or tls:// URL takes no path: end it with the port",
	},
	"a TCP URL's host is one outside": {
		at: "destinations[0].url", good: values("tcp://example.com:1"), bad: values("tcp://kubernetes.default.svc:443", "tls://a.localhost:1"),
		says: "the host must be outside the cluster",
	},
	"... and has a name": {
		at: "destinations[0].url", good: values("tcp://example.com:1"), bad: values("tcp://10.0.0.1:5432", "tls://[::1]:6380", "tcp://db:5432"),
		says: "the host must be a lower-case DNS name",
	},
	"... of at most 253 characters": {
		at: "destinations[0].url", good: values("tcp://" + longName + ":1"), bad: values("tls://a" + longName + ":1"),
		says: "the host must be at most 253 characters long",
	},
	"... that is no metadata service": {
		at: "destinations[0].url", good: values("tcp://metadata.example.com:80"), bad: values("tcp://metadata.google.internal:80"),
		says: "the host must not be a cloud's metadata service",
	},
	"... without user info": {
		at: "destinations[0].url", good: values("tcp://example.com:1"), bad: values("tcp://user:secret@example.com:5432"),
		says: "must not hold user info",
	},
	"all destinations are HTTP, or all are TCP": {
		at:   "destinations",
		good: values(parse(`[{url: "tcp://a.b:1"}, {name: two, url: "tls://a.b:2"}]`), parse(`[{url: "http://a.b"}, {name: two, url: "https://a.b"}]`)),
		bad:  values(parse(`[{url: "tcp://a.b:1"}, {name: two, url: "https://a.b"}]`), parse(`[{url: "http://a.b"}, {name: two, url: "tls://a.b:1"}]`)),
		says: "destinations must be all HTTP (http://, https://) or all TCP (tcp://, tls://): use one route for each",
	},
	"a host of TCP destinations is an alias": {
		with: toTCP, at: "hosts[0]",
		good: values("orders", "db.default.svc", "db.default.svc.cluster.local"), bad: values("db.example.com", "www.example.org", "db.default"),
		path: "hosts", says: "a host of TCP destinations must be an alias, because TCP carries no host name: use a short name (db)",
	},
	"TCP has no rules": {
		with: toTCP, at: "rules", good: values([]any{}), bad: values([]any{object{}}), says: "rules need HTTP destinations, because TCP has no requests",
	},
	"TCP has no timeout": {with: toTCP, at: "timeout", bad: values("5s"), says: "timeout needs HTTP destinations, because TCP has no requests"},
	"TCP has no retries": {
		with: toTCP, at: "retries", bad: values(object{}, object{"attempts": 1}), says: "retries need HTTP destinations, because TCP has no requests",
	},
	"TCP has no mesh headers": {
		with: toTLS, at: "meshHeaders", good: values("Remove"), bad: values("Keep"), says: "meshHeaders needs HTTP destinations, because TCP has no headers",
	},
	"TCP has no HTTP version": {
		with: toTLS, at: "destinations[0].protocol", bad: values("HTTP", "HTTP2"), says: "protocol is an HTTP version",
	},
	"tcp:// has no TLS settings": {
		with: toTCP, at: "destinations[0].tls", bad: values(object{}, object{"sni": "a.example"}),
		says: "TLS settings need an https:// or tls:// URL: use one, or remove tls",
	},
	"tls:// has TLS settings": {
		with: toTLS, at: "destinations[0].tls",
		good: values(object{}, parse(`{sni: a.example, subjectAltNames: [b.example]}`), parse(`{caCertificateRefs: [{name: ca}]}`)),
	},
	"... but no scope": {
		with: toTLS, at: "destinations[0].tls.scope", bad: values("Host", "Route"), says: "scope needs an https:// URL",
	},
	"... and a client certificate with a workload selector": {
		with: `{hosts: [bank], workloadSelector: {matchLabels: {app: bank}}, destinations: [{url: "tls://bank.example.com:9443"}]}`,
		at:   "destinations[0].tls", good: values(parse(`{clientCertificateRef: {name: client}}`)),
	},
	"TCP has a connection pool without requests": {
		with: toTCP, at: "destinations[0].connectionPool",
		good: values(parse(`{maxConnections: 5, connectTimeout: 2s, idleTimeout: 8h}`)),
		bad:  values(parse(`{maxPendingRequests: 5}`), parse(`{maxConnections: 5, maxRequestsPerConnection: 1}`)),
		says: "maxPendingRequests and maxRequestsPerConnection need an http:// or https:// URL",
	},
	"TCP destinations have one idle timeout": {
		at: "destinations",
		good: values(parse(`[{url: "tcp://a.b:1", connectionPool: {idleTimeout: 8h}}, {name: two, url: "tls://a.b:2", connectionPool: {idleTimeout: 8h}}]`),
			parse(`[{url: "tcp://a.b:1", connectionPool: {maxConnections: 1}}, {name: two, url: "tls://a.b:2"}]`),
			parse(`[{url: "http://a.b", connectionPool: {idleTimeout: 8h}}, {name: two, url: "https://a.b"}]`)),
		bad: values(parse(`[{url: "tcp://a.b:1", connectionPool: {idleTimeout: 8h}}, {name: two, url: "tls://a.b:2"}]`),
			parse(`[{url: "tcp://a.b:1"}, {name: two, url: "tls://a.b:2", connectionPool: {idleTimeout: 8h}}]`),
			parse(`[{url: "tcp://a.b:1", connectionPool: {idleTimeout: 1h}}, {name: two, url: "tls://a.b:2", connectionPool: {idleTimeout: 8h}}]`)),
		says: "TCP destinations must have the same connectionPool.idleTimeout",
	},
	"TCP has endpoints, outlier detection and weights": {
		with: toTLS, at: "destinations[0]",
		good: values(parse(`{url: "tls://a.b:1", weight: 0, resolution: DNSRoundRobin, endpoints: [{address: 192.0.2.1, port: 2}], outlierDetection: {consecutive5xxErrors: 1}}`)),
	},
}
