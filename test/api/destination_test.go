package api_test

var hostRules = map[string]rule{
	"a host is a short name, a Service of the namespace in full, or the host of a destination": {
		with: `destinations: [{url: "https://example.com/base"}, {name: second, url: "http://other.example.com:8080"}]`,
		at:   "hosts[0]",
		good: values("webserver", "web-server-1", "a", times(63, "a"), "xn--bcher-kva", "web.default.svc", "web.default.svc.cluster.local",
			"web.other.svc", "web.default.svc.corp.example",
			"example.com", "other.example.com"),
		bad: values("web.default", "example.org", "www.example.com", "example.com.evil.org", "web.default.svcs",
			"web.default.pod.cluster.local", "1web.default.svc"),
		path: "hosts",
		says: "each host must be a short name (webserver), NAME.NAMESPACE.svc",
	},
	"a host is no wildcard in a route with destinations": {
		at: "hosts[0]", good: values("webserver"), bad: values("*.example.com", "*.default.svc.cluster.local"), path: "hosts",
		says: "a wildcard needs a route without destinations",
	},
	"a wildcard is *. and a domain of two labels or more": {
		with: passThrough,
		at:   "hosts[0]", good: values("*.example.com", "*.a.b.example.com"),
		bad:  values("*", "web*", "*.", "*.com", "**.example.com", "*.*.com", "a.*.com", "*example.com", "*.example.*"),
		says: "a wildcard must be *. and a domain of two labels or more",
	},
	"a wildcard's domain is a DNS name": {
		with: passThrough,
		at:   "hosts[0]", good: values("*.example.com"), bad: values("*.-a.com", "*.a..com", "*.10.0.0.1", "*.a_b.com", "*.example.com:443"),
		says: "must be a DNS name",
	},
	"a host has no trailing dot": {
		at: "hosts[0]", good: values("webserver"), bad: values("webserver.", "web.default.svc.", "."), says: "must not end with a dot",
	},
	"a host is lower case": {
		at: "hosts[0]", good: values("webserver"), bad: values("Webserver", "WEB", "web.default.Svc"), says: "must be lower case",
	},
	"a host is a name and nothing else": {
		at:   "hosts[0]",
		good: values("web-server"),
		bad: values("http://webserver", "webserver:80", "webserver/", "/", "web server", " webserver", "webserver ", "webserver\n",
			"webserver\r\nx: y", "web\x00", "web\u200bserver", "bücher",
			"web_server", "-web", "web-", "web..svc", ".web", times(64, "a"), "user@webserver", "a,b", "a;b", "${host}", "{{.}}"),
		says: "must be a DNS name",
	},
	"a host is no IP address, however it is spelled": {
		at:   "hosts[0]",
		good: values("webserver"),
		bad: values("127.0.0.1", "10.0.0.1", "169.254.169.254", "127.1", "127.0.1", "0", "0.0.0.0", "2130706433", "0x7f000001",
			"0x7f.0.0.1", "0177.0.0.1", "017700000001", "1.2.3.4.5",
			"::1", "[::1]", "fe80::1%eth0", "::ffff:127.0.0.1", "1"),
		says: "must be a DNS name",
	},
	"a host is not localhost": {
		at: "hosts[0]", good: values("localhosts", "my-localhost"), bad: values("localhost", "web.localhost"),
		says: "must not be localhost",
	},
	"hosts are not named twice": {
		at: "hosts", good: values([]any{"a", "b"}), bad: values([]any{"a", "a"}), path: "hosts[1]", says: "Duplicate value",
	},
	"hosts are demanded": {with: `hosts: null`, at: "port", bad: values(80), path: "hosts", says: "Required value"},
}

// passThrough is a route without destinations.
const passThrough = `{hosts: [www.example.com], destinations: []}`

var passThroughRules = map[string]rule{
	"the hosts of a route without destinations are external names and wildcards": {
		with: passThrough,
		at:   "hosts",
		good: values([]any{"www.google.com", "*.googleapis.com"}, []any{"example.com"}, []any{"svc.example.com"}, []any{"cluster.local.example.com"}),
		bad:  values([]any{"webserver"}, []any{"www.google.com", "web"}),
		says: "a short name needs a destination: add destinations",
	},
	"... and no names of the cluster": {
		with: passThrough,
		at:   "hosts[1]",
		good: values("svc.example.com"),
		bad: values("web.default.svc", "web.default.svc.cluster.local", "web.default.svc.corp.example", "*.default.svc.cluster.local", "*.cluster.local",
			"a.cluster.local", "kubernetes.default", "x.demo.externalroute.internal"),
		path: "hosts", says: "the name of a cluster service needs a destination: add destinations",
	},
	"... and no metadata services": {
		with: passThrough,
		at:   "hosts[0]",
		good: values("metadata.example.com", "*.tencentyun.com"),
		bad: values("metadata.google.internal", "*.google.internal", "x.metadata.google.internal", "metadata.azure.internal", "*.azure.internal",
			"instance-data.ec2.internal", "*.ec2.internal", "metadata.tencentyun.com", "metadata.goog"),
		path: "hosts", says: "a host must not be a cloud's metadata service",
	},
	"a route without destinations has a port and an exportTo": {with: passThrough, at: "port", good: values(443, 8443)},
	"... which other namespaces may be in":                    {with: passThrough, at: "exportTo", good: values([]any{"*"}, []any{".", "shop"})},
	"it may be suspended":                                     {with: passThrough, at: "suspend", good: values(true)},
	"it creates no Service": {
		with: passThrough, at: "serviceCreationPolicy", good: values("IfMissing"), bad: values("Never"), says: "has no aliases and creates no Service",
	},
	"it has no rules": {
		with: passThrough, at: "rules", good: values([]any{}), bad: values([]any{object{}}, []any{object{"timeout": "5s"}}), says: "rules need destinations",
	},
	"it has no timeout": {with: passThrough, at: "timeout", bad: values("5s"), says: "timeout needs destinations"},
	"it has no retries": {with: passThrough, at: "retries", bad: values(object{}, object{"attempts": 1}), says: "retries need destinations"},
	"it has no mesh headers": {
		with: passThrough, at: "meshHeaders", good: values("Remove"), bad: values("Keep"), says: "meshHeaders needs destinations",
	},
	"it has no workload selector": {
		with: passThrough, at: "workloadSelector", bad: values(object{"matchLabels": object{"app": "shop"}}), says: "workloadSelector needs destinations",
	},
}

var urlRules = map[string]rule{
	"a URL": {
		at: "destinations[0].url",
		good: values("https://example.com", "http://example.com", "https://example.com/", "https://example.com:443",
			"https://example.com:1", "https://example.com:65535/",
			"https://raw.githubusercontent.com/mcasperson/NodejsProxy/master/externalservice1.txt", "https://xn--bcher-kva.example",
			"https://example.xn--p1ai", "https://a--b.example",
			"https://1.example.com", "https://1password.com", "https://"+times(63, "a")+".com", "https://svc.cluster.local.example.com",
			"https://localhost.example.com",
			"https://example.com/a//b/", "https://example.com/.well-known/...", "https://example.com/..a/b..",
			"https://example.com/a%20b/%C3%BC;v=1,2/$metadata/(x)/'y'/~z/@a:b&c=d+e!*"),
		bad: values("", "example.com", "//example.com", "/path", "HTTPS://example.com", "Http://example.com", "ftp://example.com",
			"udp://example.com:1", "javascript:alert(1)", "file:///etc/passwd", " https://example.com", "\nhttps://example.com",
			"https:example.com", "https:/example.com", "httpss://example.com"),
		says: "must begin with http://, https://, tcp:// or tls://",
	},
	"a URL holds no user info": {
		at: "destinations[0].url", good: values("https://example.com/@user", "https://example.com/a:b@c"),
		bad: values("https://user@example.com", "https://user:secret@example.com/", "https://:@example.com",
			"https://example.com@evil.example", "https://example.com:80@evil.example/", `https://example.com\@evil.example`,
			"https://%75ser@example.com"),
		says: "must not hold user info",
	},
	"a URL holds no query and no fragment": {
		at: "destinations[0].url", good: values("https://example.com/a=b&c"),
		bad: values("https://example.com?a=b", "https://example.com/?", "https://example.com/#", "https://example.com#a",
			"https://example.com/a?b#c", "https://example.com:443?x", "https://example.com?@example.org/"),
		says: "must not hold a query or a fragment",
	},
	"a URL's host is a DNS name of two labels or more": {
		at: "destinations[0].url", good: values("https://a.b"),
		bad: values("https://", "https:///path", "https://example", "https://kubernetes", "https://Example.com", "https://example.COM",
			"https://example.com.", "https://.example.com", "https://example..com", "https://*.example.com", "https://*",
			"https://ex_ample.com",
			"https://-example.com", "https://example-.com", "https://bücher.example", "https://exa mple.com", "https://exa\tmple.com",
			"https://example.com\n", "https://example.com\r\nHost: evil", "https://exam\x00ple.com", "https://exam%70le.com",
			"https://example.com%00.evil.org", `https://example.com\evil`, "https://"+times(64, "a")+".com",
			"https://example.com,example.org", "https://example。com", "https://example.com\u200b", "https://${HOST}.com",
			"https://example.123"),
		says: "the host must be a lower-case DNS name",
	},
	"a URL's host is no IP address, however it is spelled": {
		at: "destinations[0].url", good: values("https://a1.b2"),
		bad: values("https://1.2.3.4", "https://127.0.0.1/", "http://127.1", "http://127.0.1:80", "http://0", "http://0.0.0.0",
			"http://2130706433", "http://017700000001", "http://0177.0.0.1", "http://0x7f.0.0.1", "http://0x7f000001",
			"http://0x7f.0x0.0x0.0x1", "http://0x7f.1",
			"http://169.254.169.254/latest/meta-data/", "http://2852039166", "http://0xa9fea9fe", "http://0251.0376.0251.0376",
			"http://169.254.43518", "http://999.999.999.999", "http://１２７.0.0.1", "http://①②⑦.0.0.1",
			"http://[::1]", "http://[::1]:80/", "http://[::ffff:127.0.0.1]", "http://[::ffff:7f00:1]", "http://[fe80::1%25eth0]",
			"http://[fd00:ec2::254]/", "http://[0:0:0:0:0:0:0:1]", "http://::1/"),
		says: "the host must be a lower-case DNS name",
	},
	"a URL's host is at most 253 characters long": {
		at: "destinations[0].url", good: values("https://" + longName + "/"), bad: values("https://a"+longName, "http://"+times(5,
			longName+".")+"com:80/"), says: "the host must be at most 253 characters long",
	},
	"a URL's port is a number from 1 to 65535": {
		at: "destinations[0].url", good: values("http://example.com:80", "http://example.com:59999/a", "http://example.com:60000",
			"http://example.com:65499", "http://example.com:65529"),
		bad: values("https://example.com:", "https://example.com:/", "https://example.com:0", "https://example.com:00",
			"https://example.com:0443", "https://example.com:65536", "https://example.com:65540", "https://example.com:70000",
			"https://example.com:100000", "https://example.com:-1", "https://example.com:+1", "https://example.com:1.5",
			"https://example.com:0x50", "https://example.com:http", "https://example.com: 80", "https://example.com:80 ",
			"https://example.com:80:80", "https://example.com:80\r\n", "https://example.com:４４３", "https://example.com:80,81"),
		says: "the port must be a number from 1 to 65535",
	},
	"a URL's port is none of Istio's own": {
		at: "destinations[0].url", good: values("https://example.com:15010", "https://example.com:15019/15001", "http://example.com:1500"),
		bad: values("https://example.com:15001", "http://example.com:15006/", "https://example.com:15009", "https://example.com:15020/a",
			"https://example.com:15021", "https://example.com:15053", "https://example.com:15090/"),
		says: "the port must not be one of Istio's own",
	},
	"an endpoint's port is none of Istio's own": {
		with: `destinations: [{url: "https://example.com", endpoints: [{address: a.example.com}]}]`, at: "destinations[0].endpoints[0].port",
		good: values(14999, 15010, 15022, 15089), bad: values(15000, 15001, 15006, 15009, 15020, 15021, 15053, 15090),
		says: "must not be one of Istio's own ports",
	},
	"the port of the hosts is none of Istio's own": {
		at: "port", good: values(14999, 15010, 15022, 15089), bad: values(15000, 15001, 15006, 15009, 15020, 15021, 15053, 15090),
		says: "must not be one of Istio's own ports",
	},
	"a URL's host is outside the cluster": {
		at: "destinations[0].url", good: values("https://svc.example.com", "https://cluster.locals", "https://mylocalhost.com",
			"https://internal.example", "https://externalroute.internal.example.com"),
		bad: values("https://a.localhost", "http://localhost.localdomain", "http://a.localhost.localdomain:80/",
			"https://kubernetes.default.svc", "https://kubernetes.default.svc/", "https://kubernetes.default.svc:443",
			"https://kubernetes.default.svc.cluster.local/api", "https://cluster.local", "https://10-0-0-1.default.pod.cluster.local",
			"https://hash.default.externalroute.internal", "https://externalroute.internal"),
		says: "the host must be outside the cluster",
	},
	"a URL's host is no metadata service": {
		at: "destinations[0].url", good: values("https://metadata.example.com", "https://google.internal"),
		bad: values("http://metadata.google.internal/computeMetadata/v1/", "http://metadata.google.internal",
			"http://a.metadata.google.internal:80", "http://metadata.goog", "http://instance-data.ec2.internal",
			"http://metadata.tencentyun.com", "http://metadata.azure.internal"),
		says: "the host must not be a cloud's metadata service",
	},
	"a URL's path is written as it goes over the wire": {
		at: "destinations[0].url", good: values("https://example.com/%2F"),
		bad: values("https://example.com/a b", "https://example.com/ü", "https://example.com/a\tb", "https://example.com/a\r\nb: c",
			"https://example.com/\n", "https://example.com/a\x00", "https://example.com/a\x7f", "https://example.com/%",
			"https://example.com/%2", "https://example.com/%zz", `https://example.com/a\b`, "https://example.com/{x}",
			"https://example.com/a|b", "https://example.com/^", "https://example.com/`", `https://example.com/"`, "https://example.com/<b>",
			"https://example.com/[x]"),
		says: "the path must hold only characters that RFC 3986 allows",
	},
	"a URL's path holds no dot segments": {
		at: "destinations[0].url", good: values("https://example.com/a.b/.c/d./...", "https://example.com/%2e%2e%2e/.%2ea"),
		bad: values("https://example.com/.", "https://example.com/..", "https://example.com/../", "https://example.com/a/../b",
			"https://example.com/a/./b", "https://example.com/a/..", "https://example.com/%2e", "https://example.com/%2E%2e/",
			"https://example.com/.%2e/", "https://example.com/%2e./a",
			"https://example.com/a%2f..%2fb", "https://example.com/a%2F%2e%2E/b", "https://example.com/a%5c..%5cb",
			"https://example.com/a/..;/b", "https://example.com/a/..;x=y"),
		says: "the path must not hold dot segments",
	},
	"a URL's path holds no encoded control characters": {
		at: "destinations[0].url", good: values("https://example.com/%20%80"), bad: values("https://example.com/%0d%0aHost:x",
			"https://example.com/%00", "https://example.com/%0A", "https://example.com/%1f", "https://example.com/%7F",
			"https://example.com/%7f"),
		says: "the path must not hold encoded control characters",
	},
}

var destinationRules = map[string]rule{
	"destinations: one to eight": {
		at: "destinations", good: values(destinations(1), destinations(8)), bad: values(destinations(9)), says: "must have at most 8 items",
	},
	"an alias demands destinations": {
		at: "destinations", good: values(destinations(1)), bad: values([]any{}, nil), path: "hosts",
		says: "a short name needs a destination: add destinations",
	},
	"destinations have unique names": {
		at: "destinations", good: values(destinations(2), destinations(8)),
		bad:  values(append(destinations(2), destinations(2)[1]), append(destinations(7), destinations(1)[0])),
		says: "destinations must have unique names, and one without a name is called primary: set name",
	},
	"one destination at most is called primary": {
		at: "destinations", good: values(parse(`[{url: "http://a.b"}, {name: second, url: "http://a.b"}]`), parse(`[{name: primary, url: "http://a.b"}]`)),
		bad:  values(parse(`[{url: "http://a.b"}, {url: "http://c.d"}]`), parse(`[{url: "http://a.b"}, {name: primary, url: "http://c.d"}]`)),
		says: "destinations must have unique names, and one without a name is called primary: set name",
	},
	"a rule finds the destination without a name as primary": {
		with: `rules: [{destinations: [{name: primary}]}]`, at: "destinations",
		good: values(parse(`[{url: "http://a.b"}]`), parse(`[{name: second, url: "http://a.b"}, {url: "http://c.d"}]`)),
		bad:  values(parse(`[{name: second, url: "http://a.b"}]`)), path: "rules",
		says: "a rule names a destination that spec.destinations does not have: add it there, or correct the name",
	},
	"a destination's name is a DNS label": {
		at: "destinations[0].name", good: values("a", "1", "a-1", "primary"), bad: values("A", "a.b", "-a", "a-", "a_b", "a b", "a\n", "ü",
			"*"), says: "must be a DNS label",
	},
	"endpoints are addresses, names, or both": {
		at: "destinations[0].endpoints", good: values(parse(`[{address: a.example.com}]`), parse(`[{address: 10.0.0.1}, {address: "2001:db8::1", port: 8443}]`),
			parse(`[{address: 10.0.0.1}, {address: a.example.com, port: 8443}]`)), bad: values([]any{}), says: "at least 1 items",
	},
	"resolution DNSRoundRobin has one endpoint at most": {
		with: `destinations: [{url: "https://example.com", resolution: DNSRoundRobin}]`, at: "destinations[0].endpoints",
		good: values(nil, parse(`[{address: a.example.com}]`), parse(`[{address: 10.0.0.1}]`)),
		bad:  values(parse(`[{address: a.example.com}, {address: b.example.com}]`), parse(`[{address: 10.0.0.1}, {address: 10.0.0.2}]`)),
		says: "resolution DNSRoundRobin takes one endpoint at most: use resolution DNS for several",
	},
	"a priority above 0 needs outlierDetection": {
		at: "destinations[0]",
		good: values(parse(`{url: "https://example.com", endpoints: [{address: 10.0.0.1}, {address: 10.0.0.2, priority: 0}]}`),
			parse(`{url: "https://example.com", endpoints: [{address: 10.0.0.1}, {address: 10.0.0.2, priority: 1}], outlierDetection: {interval: 1s}}`)),
		bad: values(parse(`{url: "https://example.com", endpoints: [{address: 10.0.0.1}, {address: 10.0.0.2, priority: 1}]}`),
			parse(`{url: "https://example.com", endpoints: [{address: 10.0.0.1, priority: 3}]}`)),
		path: "destinations[0].endpoints",
		says: "a priority above 0 needs outlierDetection, which ejects failing endpoints: set outlierDetection, such as {consecutive5xxErrors: 5}, or remove priority",
	},
	"a priority above 0 needs IP addresses": {
		with: `destinations: [{url: "https://example.com", outlierDetection: {interval: 1s}}]`, at: "destinations[0].endpoints",
		good: values(parse(`[{address: 10.0.0.1}, {address: "2001:db8::1", priority: 1}]`), parse(`[{address: a.example.com, priority: 0}, {address: b.example.com}]`)),
		bad: values(parse(`[{address: 10.0.0.1}, {address: b.example.com, priority: 1}]`), parse(`[{address: a.example.com}, {address: 10.0.0.1, priority: 1}]`),
			parse(`[{address: a.example.com, priority: 2}]`)),
		says: "because Istio ignores the priorities of DNS names: use IP addresses, or remove priority",
	},
	"the words of an earlier edition are gone: STATIC, DNS_ROUND_ROBIN": {
		at: "destinations[0].resolution", good: values("DNS", "DNSRoundRobin"), bad: values("STATIC", "DNS_ROUND_ROBIN", "Static", "dns"),
		says: `supported values: "DNS", "DNSRoundRobin"`,
	},
	"protocol is HTTP or HTTP2": {
		at: "destinations[0].protocol", good: values("HTTP", "HTTP2"), bad: values("HTTP/2", "http2", "GRPC", "H2", "TLS"),
		says: `supported values: "HTTP", "HTTP2"`,
	},
}

var endpointRules = map[string]rule{
	"an endpoint is an IP address in its usual spelling or a DNS name": {
		at: "destinations[0].endpoints[0].address",
		good: values("10.0.0.1", "93.184.216.34", "192.168.1.1", "2001:db8::1", "2001:DB8:0:0::1", "fd00::1", "64:ff9b::5db8:d822", "a.b",
			"xn--bcher-kva.example", "example.com"),
		bad: values("localhost", "example", "Example.com", "example.com.", "*.example.com", "example.com:80", "https://example.com",
			"example.com/", "user@example.com", "ex_ample.com", "bücher.example", "a b.c", "example.com\r\nx", "unix:///run/x.sock",
			"/run/x.sock", "@abstract",
			"010.0.0.1", "10.0.0.01", "10.1", "10.0.1", "167772161", "0x0a000001", "0xa.0.0.1", "012.0.0.1", "10.0.0.256", "10.0.0.0/8",
			"10.0.0.1:80", "[2001:db8::1]", "2001:db8::1%eth0", "fe80::1%1", "2001:db8:::1", "::ffff:10.0.0.1", "::ffff:a00:1",
			"::FFFF:127.0.0.1",
			"127.1", "2130706433", "0177.0.0.1", "0x7f.1", " 10.0.0.1", "10.0.0.1 ", "10.0.0.1\n", "１０.0.0.1"),
		says: "must be an IP address in its usual spelling or a lower-case DNS name",
	},
	"an endpoint is no loopback, link-local, multicast, broadcast or unspecified address": {
		at: "destinations[0].endpoints[0].address", good: values("126.255.255.255", "128.0.0.1", "169.253.0.1", "169.255.0.1", "1.0.0.0"),
		bad: values("127.0.0.1", "127.255.255.254", "169.254.169.254", "169.254.170.2", "169.254.0.1", "224.0.0.1", "239.255.255.250",
			"255.255.255.255", "0.0.0.0", "0.1.2.3", "::", "::1", "0:0:0:0:0:0:0:1", "fe80::1", "fe80::a9fe:a9fe", "febf::1", "ff02::1",
			"FF0E::1",
			"2002:a9fe:a9fe::1", "64:ff9b:1::a9fe:a9fe", "240.0.0.1",
			"::7f00:1", "::127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::169.254.169.254"),
		says: "must not be a loopback, link-local, multicast, broadcast or unspecified address",
	},
	"an endpoint is no metadata service": {
		at: "destinations[0].endpoints[0].address", good: values("100.100.100.201", "fd00:ec3::254"),
		bad: values("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "FD00:0EC2:0000::0254", "fd00:ec2::23",
			"fd20:ce::254", "fd00:c1::a9fe:a9fe", "metadata.google.internal", "a.metadata.google.internal", "metadata.goog",
			"instance-data.ec2.internal", "metadata.tencentyun.com", "metadata.azure.internal"),
		says: "must not be a cloud's metadata service",
	},
	"an endpoint is outside the cluster": {
		at: "destinations[0].endpoints[0].address", good: values("svc.example.com"),
		bad: values("a.localhost", "localhost.localdomain", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
			"hash.default.externalroute.internal"), says: "must be outside the cluster",
	},
}

var tlsRules = map[string]rule{
	"unverified TLS checks no names": {
		with: `destinations: [{url: "https://example.com", tls: {insecureSkipVerify: true}}]`, at: "destinations[0].tls.subjectAltNames", good: values(nil),
		bad: values([]any{"a.example"}), says: "excludes insecureSkipVerify",
	},
	"unverified TLS needs no CA": {
		with: `destinations: [{url: "https://example.com", tls: {insecureSkipVerify: true}}]`, at: "destinations[0].tls.caCertificateRefs", good: values(nil),
		bad: values(parse(`[{name: ca}]`)), says: "excludes insecureSkipVerify",
	},
	"unverified TLS is asked for by a boolean": {
		at: "destinations[0].tls", good: values(parse(`{insecureSkipVerify: true}`), parse(`{insecureSkipVerify: false, subjectAltNames: [a.example]}`)),
		bad: values(parse(`{insecureSkipVerify: "true"}`)), path: "destinations[0].tls.insecureSkipVerify", says: "must be of type boolean",
	},
	"TLS settings need https": {
		with: `destinations: [{url: "http://example.com"}]`, at: "destinations[0].tls", good: values(nil),
		bad: values(parse(`{}`), parse(`{sni: a.example}`), parse(`{subjectAltNames: [a.example]}`), parse(`{caCertificateRefs: [{name: a}]}`),
			parse(`{scope: Host}`), parse(`{scope: Route}`)), says: "TLS settings need an https:// or tls:// URL: use one, or remove tls",
	},
	"https takes any TLS settings, and none": {
		at: "destinations[0].tls", good: values(nil, parse(`{}`), parse(`{scope: Host}`), parse(`{caCertificateRefs: [{name: a}], sni: a.example}`)),
		bad: values(parse(`{scope: Mesh}`)), path: "destinations[0].tls.scope", says: `supported values: "Route", "Host"`,
	},
	"a client certificate excludes CA certificates": {
		with: `workloadSelector: {matchLabels: {app: web}}`, at: "destinations[0].tls",
		good: values(parse(`{caCertificateRefs: [{name: ca}]}`), parse(`{clientCertificateRef: {name: client}, sni: a.example, subjectAltNames: [a.example, b]}`)),
		bad:  values(parse(`{clientCertificateRef: {name: client}, caCertificateRefs: [{name: ca}]}`)), path: "destinations[0].tls.caCertificateRefs",
		says: "excludes clientCertificateRef: put the CA certificates into the key ca.crt of the client certificate's Secret",
	},
	"a client certificate needs a workloadSelector": {
		at: "destinations[0].tls", good: values(parse(`{}`)), bad: values(parse(`{clientCertificateRef: {name: client}}`)),
		path: "destinations", says: "tls.clientCertificateRef needs spec.workloadSelector, spec.egressGateway or spec.waypoint: without one Istio sends plaintext",
	},
	"a CA certificate is in one ConfigMap": {
		at: "destinations[0].tls.caCertificateRefs", good: values(parse(`[{name: ca}]`), parse(`[{kind: ConfigMap, name: ca}]`)),
		bad: values(parse(`[{name: a}, {name: b}]`)), says: "must have at most 1 item",
	},
	"CA certificates are not an empty list": {
		at: "destinations[0].tls.caCertificateRefs", good: values(parse(`[{name: ca}]`)), bad: values([]any{}), says: "should have at least 1 items",
	},
	"a CA certificate is of kind ConfigMap": {
		at: "destinations[0].tls.caCertificateRefs[0]", good: values(parse(`{kind: ConfigMap, name: ca}`)),
		bad: values(parse(`{kind: Secret, name: ca}`), parse(`{kind: "", name: ca}`)), path: "destinations[0].tls.caCertificateRefs[0].kind",
		says: `supported values: "ConfigMap"`,
	},
	"a client certificate is of kind Secret": {
		with: "workloadSelector: {matchLabels: {app: web}}", at: "destinations[0].tls.clientCertificateRef", good: values(parse(`{kind: Secret, name: a}`)),
		bad: values(parse(`{kind: ConfigMap, name: a}`)), path: "destinations[0].tls.clientCertificateRef.kind", says: `supported values: "Secret"`,
	},
	"a CA certificate is named": {
		at: "destinations[0].tls.caCertificateRefs[0]", good: values(parse(`{name: ca}`)), bad: values(parse(`{kind: ConfigMap}`)),
		path: "destinations[0].tls.caCertificateRefs[0].name", says: "Required value",
	},
	"a client certificate is named": {
		with: "workloadSelector: {matchLabels: {app: web}}", at: "destinations[0].tls.clientCertificateRef", good: values(parse(`{name: a}`)),
		bad: values(parse(`{kind: Secret}`)), path: "destinations[0].tls.clientCertificateRef.name", says: "Required value",
	},
	"sni is a DNS name": {at: "destinations[0].tls.sni", good: serverNames, bad: noServerNames, says: "must be a lower-case DNS name"},
	"a subjectAltName is a DNS name": {
		at: "destinations[0].tls.subjectAltNames[0]", good: serverNames, bad: append(noServerNames, "spiffe://cluster.local/ns/a/sa/b"),
		says: "must be a lower-case DNS name",
	},
	"subjectAltNames are not named twice": {
		at: "destinations[0].tls.subjectAltNames", good: values([]any{"a.b", "c.d"}), bad: values([]any{"a.b", "a.b"}),
		path: "destinations[0].tls.subjectAltNames[1]", says: "Duplicate value",
	},
	"the name of a CA certificate is the name of an object": {
		at: "destinations[0].tls.caCertificateRefs[0].name", good: values("ca", "kube-root-ca.crt", "1"),
		bad: noObjectNames, says: "must be the name of an object",
	},
	"the name of a client certificate is the name of an object": {
		with: "workloadSelector: {matchLabels: {app: web}}",
		at:   "destinations[0].tls.clientCertificateRef.name", good: values("client", "client.example-1"), bad: noObjectNames,
		says: "must be the name of an object",
	},
	"the name of a client certificate is of bounded length": {
		with: "workloadSelector: {matchLabels: {app: web}}",
		at:   "destinations[0].tls.clientCertificateRef.name", good: values(times(253, "a")), bad: values(times(254, "a")),
		says: "may not be more than 253 bytes",
	},
	"the name of a client certificate is not empty": {
		with: "workloadSelector: {matchLabels: {app: web}}",
		at:   "destinations[0].tls.clientCertificateRef.name", good: values("a"), bad: values(""),
		says: "should be at least 1 chars long",
	},
	"scope Host uses the real name: no workloadSelector": {
		with: `destinations: [{url: "https://example.com", tls: {scope: Host}}]`, at: "workloadSelector", good: values(nil),
		bad: values(parse(`{matchLabels: {app: web}}`)), path: "destinations", says: "needs exportTo [\".\"] and no workloadSelector",
	},
	"scope Host uses the real name: not exported": {
		with: `destinations: [{url: "https://example.com", tls: {scope: Host}}]`, at: "exportTo", good: values([]any{"."}),
		bad: values([]any{"*"}, []any{".", "other"}), path: "destinations", says: "needs exportTo [\".\"] and no workloadSelector",
	},
	"scope Host uses the real name: no endpoints, no other resolution": {
		at: "destinations[0]", good: values(parse(`{url: "https://example.com", tls: {scope: Host}, resolution: DNS}`)),
		bad: values(parse(`{url: "https://example.com", tls: {scope: Host}, resolution: DNSRoundRobin}`),
			parse(`{url: "https://example.com", tls: {scope: Host}, endpoints: [{address: 10.0.0.1}]}`)),
		path: "destinations", says: "needs resolution DNS and no endpoints",
	},
}

var (
	serverNames   = values("example.com", "a", "localhost", "xn--bcher-kva.example", "1.example.com")
	noServerNames = values("Example.com", "*.example.com", "*", "example.com.", ".example.com", "a..b", "1.2.3.4", "::1", "a:443",
		"https://a", "a b", "bücher.example", "a_b.example", "a\r\nb", "a\x00b", "-a.b", times(64, "a"))
	noObjectNames = values("A", "a_b", "a/b", "../a", "ns/ca", "configmap://default/ca", "kubernetes://ca", "a b", "a\n", "-a", "a-", ".a",
		"a.", "a..b", "ü", "${x}")
)

var exportRules = map[string]rule{
	"exportTo holds the own namespace, or is everybody": {
		at: "exportTo", good: values([]any{"."}, []any{"*"}, []any{".", "other"}, []any{"a", ".", "b-1"}), bad: values([]any{"other"},
			[]any{"a", "b"}), says: `must hold ".", without which the route's own namespace gets 503, or "*" alone`,
	},
	"everybody stands alone": {
		at: "exportTo", good: values([]any{"*"}), bad: values([]any{".", "*"}, []any{"*", ".", "a"}),
		says: `"*" must be alone in the list`,
	},
	"everybody and a namespace": {at: "exportTo", good: values([]any{"*"}), bad: values([]any{"*", "a"}), says: `"*" must be alone in the list`},
	"exportTo holds namespaces": {
		at: "exportTo[1]", with: `exportTo: [.]`, good: values("other", "1", "kube-system"), bad: values("A", "a.b", "-a", "a-", "~", "a*",
			"a_b", "*.*", "./", "..", "a b", "a\n", "not:a"), says: `must be ".", "*" or the name of a namespace`,
	},
	"exportTo: a namespace's name": {
		at: "exportTo[1]", with: `exportTo: [.]`, good: values(times(63, "a")), bad: values(times(64, "a")),
		says: "may not be more than 63 bytes",
	},
	"exportTo: not an empty name": {
		at: "exportTo[1]", with: `exportTo: [.]`, good: values("a"), bad: values(""),
		says: "should be at least 1 chars long",
	},
	"exportTo names nobody twice": {
		at: "exportTo", good: values([]any{".", "a"}), bad: values([]any{".", "a", "a"}), path: "exportTo[2]",
		says: "Duplicate value",
	},
	"exportTo may be left out": {at: "exportTo", good: values(nil), bad: values([]any{}), says: "should have at least 1 items"},
}

var selectorRules = map[string]rule{
	"a workloadSelector is not exported": {
		with: `workloadSelector: {matchLabels: {app: web}}`, at: "exportTo", good: values([]any{"."}), bad: values([]any{"*"}, []any{
			".",
			"other",
		}), says: "workloadSelector needs exportTo",
	},
	"a label's key": {
		at: "workloadSelector.matchLabels", good: values(object{"app": "a"}, object{"app.kubernetes.io/name": "a"}, object{"A_b-c.d": "a"},
			object{times(253, "a") + "/" + times(63, "a"): "a"}),
		bad: values(object{"": "a"}, object{"-a": "a"}, object{"a b": "a"}, object{"a/b/c": "a"}, object{"/a": "a"}, object{"a/": "a"},
			object{"A.b/c": "a"}, object{times(64, "a"): "a"}, object{times(254, "a") + "/" + times(63, "a"): "a"}, object{times(254, "a") + "/a": "a"}, object{"*": "a"},
			object{"ü": "a"}, object{"a\n": "a"}),
		says: "each key must be a label key",
	},
	"labels have 1024 characters together": {
		at: "workloadSelector.matchLabels", good: values(labels(16, 32)), bad: values(labels(16, 33)),
		says: "all labels together may have 1024 characters",
	},
	"a label's value": {
		at: "workloadSelector.matchLabels.x-key", good: values("a", "A_b-c.d", "1"), bad: values("-a", "a-", "a b", "*", "a/b", "ü", "a\n",
			"."), says: "must be a label value",
	},
}

func labels(count, length int) object {
	all := object{}
	for i := range count {
		all[unlike(i, 32, "a")] = times(length, "a")
	}
	return all
}

func destinations(count int) []any {
	return list(func(i int) any { return object{"name": unlike(i, 1, ""), "url": "https://example.com"} })(count).([]any)
}

func values(all ...any) []any { return all }
