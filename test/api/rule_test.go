package api_test

import "fmt"

var ruleRules = map[string]rule{
	"rules may be none and at most 32": {at: "rules", good: values(nil, []any{}, rulesOf(32, `{timeout: 1s}`)), bad: values(rulesOf(33,
		`{timeout: 1s}`)), says: "must have at most 32 items"},
	"a rule's destinations are the route's": {
		with: `destinations: [{url: "https://example.com"}, {name: second, url: "https://example.com"}]`, at: "rules[0].destinations",
		good: values(parse(`[{name: primary}]`), parse(`[{name: second, weight: 0}, {name: primary}]`)),
		bad:  values(parse(`[{name: third}]`), parse(`[{name: primary}, {name: Primary}]`)), path: "rules",
		says: "a rule names a destination that spec.destinations does not have",
	},
	"a rule may be empty: it sends what is left to all destinations": {
		at: "rules", good: values(parse(`[{}]`), parse(`[{match: [{uri: {prefix: /a}}]}, {}]`), parse(`[{}, {timeout: 1s}]`)),
		bad: values(parse(`[{match: []}]`)), path: "rules[0].match", says: "should have at least 1 items",
	},
	"a rule's destinations are one to eight": {
		with: `destinations: ` + encode(destinations(8)), at: "rules[0].destinations", good: values(nameds(1), nameds(8)),
		bad: values(nameds(9)), says: "must have at most 8 items",
	},
	"a rule's destinations are not none": {
		at: "rules[0].destinations", good: values(parse(`[{name: primary}]`)), bad: values([]any{}),
		says: "should have at least 1 items",
	},
	"a rule names a destination once": {
		at: "rules[0].destinations", good: values(parse(`[{name: primary}]`)),
		bad: values(parse(`[{name: primary}, {name: primary}]`)), path: "rules[0].destinations[1]", says: "Duplicate value",
	},
	"a rule's destination has a name": {
		at: "rules[0].destinations[0].name", good: values("primary"), bad: values(""),
		says: "should be at least 1 chars long",
	},
	"a rule's destination has a bounded name": {
		with: `destinations: [{url: "https://example.com", name: ` + times(63, "a") + `}]`, at: "rules[0].destinations[0].name",
		good: values(times(63, "a")), bad: values(times(64, "a")), says: "may not be more than 63 bytes",
	},
	"a direct response stands alone": {
		at: "rules[0]", good: values(parse(`{directResponse: {status: 200}}`),
			parse(`{match: [{uri: {exact: /}}], headers: {response: {set: {a: b}}}, directResponse: {status: 503, body: later}}`)),
		bad: values(parse(`{directResponse: {status: 200}, rewrite: {uri: /}}`),
			parse(`{directResponse: {status: 200}, destinations: [{name: primary}]}`),
			parse(`{directResponse: {status: 200}, retries: {attempts: 0}}`),
			parse(`{directResponse: {status: 200}, timeout: 1s}`),
			parse(`{directResponse: {status: 200}, fault: {abort: {percentage: 1, httpStatus: 503}}}`)),
		path: "rules[0].directResponse", says: "excludes rewrite, destinations, retries, timeout and fault: remove them, or directResponse",
	},
	"all rules together have 64 matches": {
		at: "rules", good: values(rulesOf(4, `{match: [`+times(16, `{method: {exact: GET}},`)+`]}`)), bad: values(append(rulesOf(4,
			`{match: [`+times(16, `{method: {exact: GET}},`)+`]}`), parse(`{match: [{method: {exact: GET}}]}`))),
		says: "all rules together may have 64 matches",
	},
	"all rules together match on 48 headers and query parameters": {
		at: "rules", good: values(rulesOf(3, matching(8, 8)), rulesOf(32, matching(1, 0))), bad: values(rulesOf(4, matching(7, 6)),
			rulesOf(5, matching(0, 12)), append(rulesOf(4, matching(12, 0)), parse(matching(0, 1)))),
		says: "all rules together may match on 48 headers and query parameters",
	},
	"all rules together change 48 headers": {
		at: "rules", good: values(rulesOf(8, changing(1)), rulesOf(1, changing(8))), bad: values(rulesOf(9, changing(1)), rulesOf(1,
			changing(9))), says: "all rules together may set, add and remove 48 headers",
	},
	"all bodies together have 8192 characters": {
		at: "rules", good: values(rulesOf(2, `{directResponse: {status: 200, body: `+times(4096, "a")+`}}`)), bad: values(append(rulesOf(2,
			`{directResponse: {status: 200, body: `+times(4096, "a")+`}}`), parse(`{directResponse: {status: 200, body: a}}`))),
		says: "all directResponse bodies together may have 8192 characters: shorten them",
	},
	"all matches together have 16384 characters": {
		at: "rules", good: values(rulesOf(8, `{match: [{uri: {exact: /`+times(1023, "a")+`}, queryParams: {a: {prefix: `+times(1023,
			"b")+`}}}]}`)),
		bad: values(rulesOf(16, `{match: [{uri: {exact: /`+times(1023, "a")+`}, method: {exact: A}}]}`), rulesOf(16,
			`{match: [{headers: {`+times(1020, "a")+`: {regex: abcde}}}]}`),
			rulesOf(4, `{match: [`+times(4, `{uri: {regex: `+times(1024, "a")+`}},`)+`{method: {prefix: A}}]}`)),
		says: "all matches together may have 16384 characters, names included: shorten them, or use prefix in place of exact",
	},
	"all changed headers together have 8192 characters": {
		at: "rules", good: values(rulesOf(8, `{headers: {request: {set: {ab: `+times(1022, "a")+`}}}}`)),
		bad: values(rulesOf(8, `{headers: {request: {set: {a: `+times(1022, "a")+`}, remove: [bc]}}}`), rulesOf(8,
			`{headers: {response: {add: {abc: `+times(1022, "a")+`}}}}`), rulesOf(3, `{headers: {response: {remove: `+encode(names(11,
			256))+`}}}`)),
		says: "all headers that rules set, add and remove together may have 8192 characters, names included: shorten them",
	},
	"all rewrites together have 8192 characters": {
		at: "rules", good: values(rulesOf(8, `{rewrite: {uri: /`+times(1023, "a")+`}}`), rulesOf(8,
			`{rewrite: {uriRegexRewrite: {match: `+times(512, "a")+`, rewrite: `+times(512, "a")+`}}}`)),
		bad: values(append(rulesOf(8, `{rewrite: {uri: /`+times(1023, "a")+`}}`), parse(`{rewrite: {uri: /}}`)), rulesOf(9,
			`{rewrite: {uriRegexRewrite: {match: `+times(512, "a")+`, rewrite: `+times(512, "a")+`}}}`)),
		says: "all rewrites together may have 8192 characters: shorten them",
	},
	"weights of zero stand": {at: "destinations[0].weight", good: values(0), bad: values(-1), says: "greater than or equal to 0"},
}

var matchRules = map[string]rule{
	"a uri is a path": {
		at: "rules[0].match[0].uri", good: values(parse(`{exact: /}`), parse(`{prefix: /a%20b/}`), parse(`{regex: ".*"}`),
			parse(`{exact: "/a//b;c=d,e/$f/(g)/'h'/~i/@j:k&l=m+n!*"}`)),
		bad: values(parse(`{exact: a}`), parse(`{prefix: "*"}`), parse(`{exact: "/a?b=c"}`), parse(`{exact: "/a#b"}`),
			parse(`{prefix: "/a b"}`), parse(`{prefix: "/\\"}`), parse(`{exact: "/<"}`), parse(`{exact: "https://example.com/"}`)),
		says: "must begin with / and hold only characters that RFC 3986 allows",
	},
	"a header's name": {
		at: "rules[0].match[0].headers", good: values(key("x-a"), key("X-A"), key("host"), key("_"), key(times(1024, "a")),
			key("-!#$%&*+.^_|~1")), bad: values(key(""), key(":authority"), key(":path"), key("x a"), key("x:a"), key("x\r\ny"), key("ü"),
			key("x\x00"), key("x\n"), key("(x)"), key(times(1025, "a"))),
		says: "each key must be a header name",
	},
	"no header's name that Istio takes for something else": {
		at: "rules[0].match[0].headers", good: values(key("uris"), key("x-method")), bad: values(key("uri"), key("scheme"), key("method"),
			key("authority"), key("Method"), key("AUTHORITY")), says: "Istio ignores conditions on headers named",
	},
	"a parameter's name": {
		at: "rules[0].match[0].queryParams", good: values(key("a"), key("a[b]"), key("a%20b"), key(times(1024, "a")), key("$filter"),
			key("a.b/c?d")), bad: values(key(""), key("a b"), key("a=b"), key("a&b"), key("a#b"), key("ü"), key("a\n"), key("a\x00"),
			key(times(1025, "a"))),
		says: "each key must be a parameter name of at most 1024 characters that RFC 3986 allows in a query: percent-encode the others",
	},
}

func init() {
	for _, at := range []string{"uri", "method", "headers.x-key", "queryParams.x-key"} {
		at := "rules[0].match[0]." + at
		matchRules[at+": exactly one of exact, prefix and regex"] = rule{
			at: at, good: values(parse(`{exact: /a}`), parse(`{prefix: /a}`), parse(`{regex: /a}`)), bad: values(parse(`{}`),
				parse(`{exact: /a, prefix: /a}`), parse(`{exact: /a, regex: /a}`), parse(`{exact: /a, prefix: /a, regex: /a}`)),
			says: "exactly one of the fields in [exact prefix regex] must be set",
		}
		matchRules[at+".regex: printable ASCII"] = rule{at: at + ".regex", good: values(`\x{fc}`, "a b"), bad: values("ü", "a\nb", "a\r\n",
			"a\x00", "a\x7f", "a\tb", "\u2028"), says: "must be printable ASCII"}
		matchRules[at+".regex: RE2"] = rule{
			at: at + ".regex", good: goodRegexes, bad: badRegexes,
			says: "must be a regular expression in RE2 syntax",
		}
		matchRules[at+".regex: groups without names"] = rule{
			at: at + ".regex", good: goodRegexes, bad: namedGroups,
			says: "groups must not have names",
		}
		matchRules[at+".regex: classes that Envoy knows"] = rule{
			at: at + ".regex", good: goodRegexes, bad: badClasses,
			says: "must not hold a class such as",
		}
		for _, kind := range []string{"exact", "prefix"} {
			if at == "rules[0].match[0].uri" { // has a rule for the path, which says more
				matchRules[at+"."+kind+": printable ASCII"] = rule{at: at + "." + kind, good: values("/a"), bad: values("/ü", "/a\nb",
					"/a\r\n", "/a\x00", "/a\x7f", "/a\tb", "/\u2028"), says: "must be printable ASCII"}
				continue
			}
			matchRules[at+"."+kind+": printable ASCII"] = rule{at: at + "." + kind, good: values("a b", "<>'\"\\%"), bad: values("ü",
				"a\nb", "a\r\n", "a\x00", "a\x7f", "a\tb", "\u2028"), says: "must be printable ASCII"}
		}
	}
}

var (
	goodRegexes = values(".*", "/[0-9]+/?", "(?i)a", `\d{1,3}`, `^/a$`, "(a|b)*", `[[:alpha:]]`, `\pL\PN`, `\x{2028}`, "<(a)>",
		`(a{100}){10}`)
	badRegexes = values("(", ")", "[", "a{2,1}", "*", "+a", "a**", `\`, `\1`, "(?=a)", "(?!a)", "(?<=a)", "(?<!a)", "a{1001}", "(?>a)",
		"a++", `\8`, "[b-a]", `[[:nonsense:]]`, `\pX`, `\Z`, `\C`, `\h`, `\u0041`, "(?x)a", "(?i", "x{2}{3}", "(a{1000}){2}")
	namedGroups = values("(?P<n>a)", "(?<n>a)", "(?P<n>a)(?P<n>b)", "(?P<n>a)(?<n>b)")
	badClasses  = values(`\p{Greek}`, `\P{Greek}`, `\p{L}`, `\p{latin}`, `\p{LC}`, `\p{Letter}`, `[\p{Cn}]`, `\p{^Lu}`)
)

var rewriteRules = map[string]rule{
	"uri and uriRegexRewrite exclude each other": {
		at: "rules[0].rewrite", good: values(parse(`{uri: /a}`), parse(`{uriRegexRewrite: {match: a, rewrite: b}}`),
			parse(`{authority: a}`)), bad: values(parse(`{uri: /a, uriRegexRewrite: {match: a, rewrite: b}}`)),
		path: "rules[0].rewrite.uriRegexRewrite", says: "excludes uri: remove one of the two",
	},
	"rewrite.uri is a path": {
		at: "rules[0].rewrite.uri", good: values("/", "/a/b", "/a%20b", "//", times(1024, "/"),
			"/mcasperson/NodejsProxy/master/externalservice1.txt"),
		bad: values("a", "/a?b", "/a#b", "/a b", "/ü", "/a\r\nb: c", "/\n", "/\x00", "/\t", "https://evil.example/", `/\`, "/<", "/%",
			"/%2", "/%zz", "/%REQ(x)%"), says: "must be a path",
	},
	"rewrite.uri holds no dot segments": {
		at: "rules[0].rewrite.uri", good: values("/a.b/.c/d./..."), bad: values("/..", "/.", "/a/../b", "/a/./b", "/%2e%2E/", "/.%2e",
			"/a%2f..%2fb", "/a%5C..", "/a/..;/b"), says: "must not hold dot segments",
	},
	"rewrite.uri holds no encoded control characters": {at: "rules[0].rewrite.uri", good: values("/%20"), bad: values("/%0d%0a", "/%00",
		"/%7f"), says: "must not hold encoded control characters"},
	"rewrite.uri is bounded": {at: "rules[0].rewrite.uri", good: values(times(1024, "/")), bad: values(times(1025,
		"/")), says: "may not be more than 1024 bytes"},
	"rewrite.uri is not empty": {
		at: "rules[0].rewrite.uri", good: values("/"), bad: values(""),
		says: "should be at least 1 chars long",
	},
	"rewrite.authority is a host, with or without port": {
		at: "rules[0].rewrite.authority", good: values("example.com", "example.com:8443", "Example.COM", "a_b.example", "a", "10.0.0.1",
			"a:1", "a:65535"),
		bad: values("example.com:", "example.com:0", "example.com:65536", "example.com:080", "example.com.", "-a", "a/b", "https://a",
			"user@a", "a b", "a\r\nx: y", "ü", "%REQ(x)%", "*", "[::1]", ":80", "a:b", "a,b"),
		says: "must be a host name, with or without a port",
	},
	"uriRegexRewrite.match: printable ASCII": {
		with: rich, at: "rules[0].rewrite.uriRegexRewrite.match", good: values("/a b"),
		bad: values("ü", "a\r\nb", "a\x00", "\t"), says: "must be printable ASCII",
	},
	"uriRegexRewrite.match: RE2": {
		with: rich, at: "rules[0].rewrite.uriRegexRewrite.match", good: goodRegexes,
		bad: badRegexes, says: "must be a regular expression in RE2 syntax",
	},
	"uriRegexRewrite.match: groups without names": {
		with: rich, at: "rules[0].rewrite.uriRegexRewrite.match", good: goodRegexes,
		bad: namedGroups, says: "groups must not have names",
	},
	"uriRegexRewrite.match: classes that Envoy knows": {
		with: rich, at: "rules[0].rewrite.uriRegexRewrite.match", good: goodRegexes,
		bad: badClasses, says: "must not hold a class such as",
	},
	"uriRegexRewrite.rewrite: printable ASCII": {
		with: rich, at: "rules[0].rewrite.uriRegexRewrite.rewrite", good: values(`/\1/a`, `\0`, "/%20"), bad: values("a b", "/a?b", "/a#b",
			"ü", "a\r\nb", "a\x00"), says: "must be printable ASCII without spaces, query or fragment",
	},
	"uriRegexRewrite.rewrite: groups": {
		with: rich, at: "rules[0].rewrite.uriRegexRewrite.rewrite", good: values(`\1\9\0`, `\\`, `a\\1`), bad: values(`\`, `a\`, `\a`,
			`\\\`, `\g<1>`, `\x41`), says: "a backslash must be followed by a digit",
	},
}

var headerRules = map[string]rule{}

func init() {
	for _, message := range []string{"request", "response"} {
		at := "rules[0].headers." + message
		for _, verb := range []string{".set", ".add"} {
			headerRules[at+verb+": header names"] = rule{
				at: at + verb, good: values(object{"x-a": "b"}, object{"X-A_1": "b"}, object{times(256, "a"): "b"},
					object{"authorization": "Bearer a"}, object{"-!#$%&*+.^_|~1": "b"}),
				bad: values(object{"": "b"}, object{":authority": "b"}, object{":path": "b"}, object{":method": "b"}, object{"x a": "b"},
					object{"x:": "b"}, object{"x\r\ny": "b"}, object{"x\n": "b"}, object{"ü": "b"}, object{"x\x00": "b"},
					object{"x,y": "b"}, object{times(257, "a"): "b"}),
				says: "each key must be a header name",
			}
			headerRules[at+verb+": not Host"] = rule{at: at + verb, good: values(object{"x-host": "b"}), bad: values(object{"host": "b"},
				object{"Host": "b"}, object{"HOST": "b"}), says: "Host must not be a header here: use rewrite.authority"}
			headerRules[at+verb+": not what frames a message"] = rule{
				at: at + verb, good: values(object{"content-type": "b"}), bad: values(object{"content-length": "0"},
					object{"Transfer-Encoding": "chunked"}), says: "belong to the proxy, because they frame the message: remove them",
			}
			headerRules[at+verb+": values"] = rule{
				at: at + verb + ".x-key", good: values("b", "a\tb", " ", "100%", "%FOO%", "%REQ(x)%", `"<>\`), bad: values("a\r\nx: y",
					"a\n", "a\r", "a\x00b", "\x1b", "\x7f", "ü", "\u2028"), says: "must be printable ASCII, without line breaks",
			}
		}
		headerRules[at+".remove: header names"] = rule{
			at: at + ".remove[0]", good: values("x-a", "X-A", "x-envoy-attempt-count"), bad: values(":path", "x a", "x:", "x\r\n", "x\n",
				"ü", "x\x00", "(x)"), says: "must be a header name",
		}
		headerRules[at+".remove: not Host"] = rule{
			at: at + ".remove[0]", good: values("x-host"), bad: values("host", "Host"),
			says: "Host cannot be removed",
		}
		headerRules[at+".remove: once"] = rule{
			at: at + ".remove", good: values([]any{"a", "b"}), bad: values([]any{"a", "a"}),
			path: "rules[0].headers." + message + ".remove[1]", says: "Duplicate value",
		}
	}
}

var responseRules = map[string]rule{
	"a body is at most 4096 bytes long": {
		with: `rules: [{directResponse: {status: 200}}]`, at: "rules[0].directResponse.body", good: values(times(2048, "ü")),
		bad: values(times(2049, "ü"), times(1025, "😀")), says: "must be at most 4096 bytes long",
	},
	"a status without content has no body": {
		at: "rules[0]", good: values(parse(`{directResponse: {status: 204}}`), parse(`{directResponse: {status: 205, body: a}}`)),
		bad:  values(parse(`{directResponse: {status: 204, body: a}}`), parse(`{directResponse: {status: 304, body: a}}`)),
		path: "rules[0].directResponse.body", says: "excludes status 204 and 304",
	},
	"a body is text": {
		with: `rules: [{directResponse: {status: 200}}]`, at: "rules[0].directResponse.body", good: values("a\tb\r\nc\n", "{\"a\": \"ü\"}",
			"100%"), bad: values("\x00", "a\x1bb", "\x7f", "\x08", "\x0b", "\x0c", "\x1f"), says: "must be text",
	},
}

// durationRules are the same for every duration.
// retryRules are those of the route's retries and of a rule's.
func retryRules() map[string]rule {
	rules := map[string]rule{
		"a rule that sets retries says how many, if the route's are off": {
			with: `rules: [{retries: {attempts: 1, retryOn: 5xx}}, {retries: {perTryTimeout: 1s}}, {}]`, at: "retries",
			good: values(nil, parse(`{attempts: 1}`), parse(`{retryOn: 5xx}`)), bad: values(parse(`{attempts: 0}`)), path: "rules",
			says: "a rule sets retries without attempts, and spec.retries.attempts 0 turns them off: set attempts in the rule",
		},
	}
	for _, at := range []string{"retries", "rules[0].retries"} {
		for sentence, r := range map[string]rule{
			"attempts of 0 exclude the other settings": {
				at: at, good: values(parse(`{attempts: 0}`), parse(`{perTryTimeout: 1s}`), parse(`{retryOn: 5xx}`),
					parse(`{attempts: 1, perTryTimeout: 1s, retryOn: reset}`)),
				bad: values(parse(`{attempts: 0, perTryTimeout: 1s}`), parse(`{attempts: 0, retryOn: reset}`)), path: at + ".attempts",
				says: "0 turns retries off: remove perTryTimeout and retryOn, or set attempts to 1 or more",
			},
			"retryOn holds Envoy's retry conditions and status codes": {
				at: at + ".retryOn", good: values("connect-failure,refused-stream", "5xx", "503", "gateway-error,429,502",
					"reset-before-request", "retriable-status-codes,500,511,431,451,400,418"),
				bad: values("always", "5XX", "connect-failure, reset", "connect-failure,", ",reset", "reset,,5xx", "200", "600", "99", "5034",
					"4xx", "reset\n", "reset\r\nx", "reset;5xx", "*", "%20"), says: "must be retry conditions such as connect-failure",
			},
			"retryOn is bounded": {
				at: at + ".retryOn", good: values("503" + times(127, ",503")), bad: values("503" + times(128, ",503") + ",503"),
				says: "may not be more than 512 bytes",
			},
			"retryOn is not empty": {at: at + ".retryOn", good: values("503"), bad: values(""), says: "should be at least 1 chars long"},
		} {
			rules[at+": "+sentence] = r
		}
	}
	return rules
}

func durationRules() map[string]rule {
	rules := map[string]rule{}
	for _, at := range []string{
		"destinations[0].connectionPool.connectTimeout", "destinations[0].connectionPool.idleTimeout",
		"destinations[0].outlierDetection.interval", "destinations[0].outlierDetection.baseEjectionTime",
		"timeout", "retries.perTryTimeout", "rules[0].timeout", "rules[0].retries.perTryTimeout", "rules[0].fault.delay.fixedDelay",
	} {
		add := func(says string, good, bad []any) {
			rules[at+": "+says] = rule{with: rich, at: at, good: good, bad: bad, says: says}
		}
		add("must be a duration such as 1h, 1m30s or 250ms, of at least 1ms", values("1ms", "250ms", "1s", "1m30s", "1h", "1h2m3s4ms",
			"0h1s", "99999h", "00001s"),
			values("0s", "0ms", "0h0m0s", "00", "10", "1.5s", "-1s", "+1s", "1us", "1ns", "1d", "1 s", "s1", "ms", "1S", "1s ", "1s\n",
				"infinity", "100000s", "1h2m3s4ms5s", "٣s"))
		add("should be at least 2 chars long", values("1s"), values("", "1"))
		add("may not be more than 32 bytes", values("99999h99999m99999s99999ms"), values(times(8, "1111s")))
	}
	return rules
}

var unknownFields = map[string]rule{}

func init() {
	unknownFields["spec.workloadSelector.matchExpressions is an unknown field"] = rule{
		with: `workloadSelector: {matchLabels: {app: web}}`, at: "workloadSelector.matchExpressions", bad: values([]any{}),
		says: "unknown field",
	}
	for _, path := range []string{
		"host", "egressGateway.port", "waypoint.class", "destinations[0].uri", "destinations[0].tls.insecure", "destinations[0].endpoints[0].ip",
		"destinations[0].connectionPool.tcp", "rules[0].mirror", "rules[0].match[0].path",
		"rules[0].match[0].uri.suffix", "rules[0].rewrite.path", "rules[0].retries.count", "rules[0].headers.request.append",
		"rules[0].fault.abort.grpcStatus", "rules[1].directResponse.headers", "exportto",
		"destinations[0].tls.mode", "destinations[0].tls.caConfigMap", "destinations[0].tls.credentialName", // of an earlier edition
		"destinations[0].connectionPool.http2", "destinations[0].tls.caCertificateRefs[0].namespace",
		"destinations[0].tls.clientCertificateRef.namespace",
	} {
		unknownFields["spec."+path+" is an unknown field"] = rule{with: rich, at: path, bad: values("a"), says: "unknown field"}
	}
}

func key(name string) object { return object{name: object{"exact": "a"}} }

func nameds(count int) any {
	return list(func(i int) any { return object{"name": unlike(i, 1, ""), "weight": i} })(count)
}

func rulesOf(count int, text string) []any {
	return list(func(int) any { return parse(text) })(count).([]any)
}

// matching is a rule that matches on so many headers and query parameters.
func matching(headers, params int) string {
	match := object{"headers": dictionary(object{"exact": "a"})(headers), "queryParams": dictionary(object{"exact": "a"})(params)}
	for name, entries := range match {
		if len(entries.(object)) == 0 {
			delete(match, name)
		}
	}
	return fmt.Sprintf(`{match: [%s]}`, encode(match))
}

// changing is a rule that changes six times so many headers.
func changing(count int) string {
	operations := object{
		"set": dictionary("a")(count), "add": dictionary("a")(count),
		"remove": list(func(i int) any { return fmt.Sprint("y-", i) })(count),
	}
	return fmt.Sprintf(`{headers: {request: %[1]s, response: %[1]s}}`, encode(operations))
}
