package api_test

import (
	"fmt"
	"strconv"
	"strings"
)

// In this route every field that has a bound can be set by itself.
const rich = `
destinations:
- {url: "https://example.com", endpoints: [{address: 10.0.0.1}], connectionPool: {maxConnections: 1}, outlierDetection: {interval: 1s}}
- {name: second, url: "https://example.com"}
rules:
- destinations: [{name: primary}]
  retries: {attempts: 1}
  headers: {request: {remove: [a]}, response: {remove: [a]}}
  rewrite: {uriRegexRewrite: {match: a, rewrite: b}}
  fault: {abort: {percentage: 1, httpStatus: 503}, delay: {percentage: 1, fixedDelay: 1s}}
- directResponse: {status: 200}
`

var (
	longName  = times(4, times(62, "a")+".") + "a"
	longMatch = times(1024, "A")
)

// The longest values of all strings, but for those that the other tables have.
var longest = map[string]string{
	"hosts[0]":                                      "web.default.svc" + times(4, "."+times(58, "a")) + "aa",
	"destinations[1].name":                          times(63, "a"),
	"destinations[0].url":                           "https://example.com/" + times(2048-20, "a"),
	"destinations[0].endpoints[0].address":          longName,
	"destinations[0].tls.sni":                       longName,
	"destinations[0].tls.subjectAltNames[0]":        longName,
	"destinations[0].tls.caCertificateRefs[0].name": times(253, "a"),
	"workloadSelector.matchLabels.x-key":            times(63, "a"),
	"rules[0].match[0].uri.exact":                   times(1024, "/"),
	"rules[0].match[0].uri.prefix":                  times(1024, "/"),
	"rules[0].match[0].uri.regex":                   longMatch,
	"rules[0].match[0].method.exact":                longMatch,
	"rules[0].match[0].method.prefix":               longMatch,
	"rules[0].match[0].method.regex":                longMatch,

	"rules[0].match[0].headers.x-key.exact":      longMatch,
	"rules[0].match[0].headers.x-key.prefix":     longMatch,
	"rules[0].match[0].headers.x-key.regex":      longMatch,
	"rules[0].match[0].queryParams.x-key.exact":  longMatch,
	"rules[0].match[0].queryParams.x-key.prefix": longMatch,
	"rules[0].match[0].queryParams.x-key.regex":  longMatch,

	"rules[0].rewrite.uriRegexRewrite.match":   times(512, "a"),
	"rules[0].rewrite.uriRegexRewrite.rewrite": times(512, "a"),
	"rules[0].rewrite.authority":               times(253, "a"),
	"rules[0].headers.request.set.x-key":       times(1024, "a"),
	"rules[0].headers.request.add.x-key":       times(1024, "a"),
	"rules[0].headers.request.remove[0]":       times(256, "a"),
	"rules[0].headers.response.set.x-key":      times(1024, "a"),
	"rules[0].headers.response.add.x-key":      times(1024, "a"),
	"rules[0].headers.response.remove[0]":      times(256, "a"),
	"rules[1].directResponse.body":             times(4096, "a"),
}

var fromTo = map[string][2]int{
	"port":                                                    {1, 65535},
	"destinations[0].weight":                                  {0, 1000000},
	"destinations[0].endpoints[0].port":                       {1, 65535},
	"destinations[0].endpoints[0].priority":                   {0, 3},
	"destinations[0].connectionPool.maxConnections":           {1, 1<<31 - 1},
	"destinations[0].connectionPool.maxPendingRequests":       {1, 1<<31 - 1},
	"destinations[0].connectionPool.maxRequestsPerConnection": {1, 1 << 29},
	"destinations[0].outlierDetection.consecutive5xxErrors":   {1, 1<<31 - 1},
	"destinations[0].outlierDetection.maxEjectionPercent":     {1, 100},
	"rules[0].destinations[0].weight":                         {0, 1000000},
	"rules[0].retries.attempts":                               {0, 100},
	"retries.attempts":                                        {0, 100},
	"rules[0].fault.abort.percentage":                         {0, 100},
	"rules[0].fault.abort.httpStatus":                         {200, 599},
	"rules[0].fault.delay.percentage":                         {0, 100},
	"rules[1].directResponse.status":                          {200, 599},
}

// Lists and maps of one item or more, and the most that they may have.
var most = map[string]struct {
	items int
	of    func(count int) any
}{
	"hosts":                               {16, list(func(i int) any { return fmt.Sprint("h", i) })},
	"destinations[0].endpoints":           {16, list(func(i int) any { return object{"address": fmt.Sprint("10.0.0.", i)} })},
	"destinations[0].tls.subjectAltNames": {16, list(func(i int) any { return fmt.Sprint("san", i) })},
	"exportTo":                            {16, list(func(i int) any { return []string{".", fmt.Sprint("ns", i)}[min(i, 1)] })},
	"workloadSelector.matchLabels":        {16, dictionary("v")},
	"rules[0].match":                      {16, list(func(i int) any { return object{"uri": object{"prefix": fmt.Sprint("/", i)}} })},
	"rules[0].match[0].headers":           {12, dictionary(object{"exact": "v"})},
	"rules[0].match[0].queryParams":       {12, dictionary(object{"exact": "v"})},
	"rules[0].headers.request.set":        {16, dictionary("v")},
	"rules[0].headers.request.add":        {16, dictionary("v")},
	"rules[0].headers.request.remove":     {16, list(func(i int) any { return fmt.Sprint("x-", i) })},
	"rules[0].headers.response.set":       {16, dictionary("v")},
	"rules[0].headers.response.add":       {16, dictionary("v")},
	"rules[0].headers.response.remove":    {16, list(func(i int) any { return fmt.Sprint("x-", i) })},
}

func list(item func(i int) any) func(int) any {
	return func(count int) any {
		all := make([]any, count)
		for i := range all {
			all[i] = item(i)
		}
		return all
	}
}

func dictionary(value any) func(int) any {
	return func(count int) any {
		all := object{}
		for i := range count {
			all[fmt.Sprint("x-key", i)] = value
		}
		return all
	}
}

var words = map[string][]any{
	"serviceCreationPolicy":      {"IfMissing", "Never"},
	"meshHeaders":                {"Remove", "Keep"},
	"destinations[1].resolution": {"DNS", "DNSRoundRobin"},
	"destinations[1].protocol":   {"HTTP", "HTTP2"},
	"destinations[1].tls.scope":  {"Route"}, // Host has a rule of its own
}

// Objects that must say something if they are there.
var notEmpty = map[string]string{
	"destinations[0].connectionPool":   `{maxConnections: 1}`,
	"destinations[0].outlierDetection": `{interval: 1s}`,
	"rules[0].match[0]":                `{method: {exact: GET}}`,
	"rules[0].rewrite":                 `{uri: /a}`,
	"rules[0].retries":                 `{attempts: 1}`,
	"retries":                          `{attempts: 1}`,
	"rules[0].headers":                 `{request: {remove: [a]}}`,
	"rules[0].headers.request":         `{remove: [a]}`,
	"rules[0].headers.response":        `{remove: [a]}`,
	"rules[0].fault":                   `{abort: {percentage: 1, httpStatus: 503}}`,
}

// What must be there, in what is there.
var required = map[string]string{
	"destinations[0].url":                      `{name: a}`,
	"destinations[0].endpoints[0].address":     `{port: 1}`,
	"workloadSelector.matchLabels":             `{}`,
	"rules[0].destinations[0].name":            `{weight: 1}`,
	"rules[0].rewrite.uriRegexRewrite.match":   `{rewrite: a}`,
	"rules[0].rewrite.uriRegexRewrite.rewrite": `{match: a}`,
	"rules[0].fault.abort.percentage":          `{httpStatus: 503}`,
	"rules[0].fault.abort.httpStatus":          `{percentage: 1}`,
	"rules[0].fault.delay.percentage":          `{fixedDelay: 1s}`,
	"rules[0].fault.delay.fixedDelay":          `{percentage: 1}`,
	"rules[1].directResponse.status":           `{body: a}`,
}

// boundRules are the plain bounds: how long, how many, how large, and which words.
func boundRules() map[string]rule {
	rules := map[string]rule{}
	add := func(at, says string, good, bad []any) {
		rules[at+": "+says] = rule{with: rich, at: at, good: good, bad: bad, says: says}
	}
	for at, bounds := range fromTo {
		least, most := bounds[0], bounds[1]
		add(at, fmt.Sprint("should be greater than or equal to ", least), []any{least, least + 1}, []any{least - 1, -1 << 31})
		add(at, fmt.Sprint("should be less than or equal to ", most), []any{most}, []any{most + 1, 1 << 40})
		add(at, "must be of type int", []any{most}, []any{strconv.Itoa(most), float64(least) + 0.5, true, object{}})
	}
	for at, text := range longest {
		add(at, fmt.Sprintf("may not be more than %d bytes", len(text)), []any{text}, []any{text + text[len(text)-1:], times(100000, "a")})
		add(at, "should be at least 1 chars long", []any{text}, []any{""})
		add(at, "must be of type string", []any{text}, []any{1, true, object{}, []any{}})
	}
	for at, m := range most {
		add(at, "should have at least 1 ", []any{m.of(1)}, []any{m.of(0)})
		add(at, fmt.Sprintf("must have at most %d items", m.items), []any{m.of(m.items)}, []any{m.of(m.items + 1), m.of(10 * m.items)})
	}
	for at, good := range words {
		add(at, "supported values", good, []any{"", "Nonsense", strings.ToLower(good[0].(string)), good[0].(string) + " "})
	}
	for at, good := range notEmpty {
		add(at, "should have at least 1 properties", []any{parse(good)}, []any{object{}})
	}
	for path, bad := range required {
		at := path[:strings.LastIndex(path, ".")]
		rules[path+": is required"] = rule{with: rich, at: at, bad: []any{parse(bad)}, path: path, says: "Required value"}
	}
	return rules
}
