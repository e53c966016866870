package mesh

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"regexp/syntax"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// manifest is an ExternalRoute as a user writes it. What it promises is written here from the API's documentation, not from the operator's code.
type manifest struct {
	Metadata struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
	Spec struct {
		Hosts            []string      `json:"hosts"`
		Port             int           `json:"port"`
		Destinations     []destination `json:"destinations"`
		Rules            []rule        `json:"rules"`
		Timeout          duration      `json:"timeout"`
		Retries          retrySettings `json:"retries"`
		MeshHeaders      string        `json:"meshHeaders"`
		ExportTo         []string      `json:"exportTo"`
		EgressGateway    *egressRef    `json:"egressGateway"`
		WorkloadSelector *struct {
			MatchLabels map[string]string `json:"matchLabels"`
		} `json:"workloadSelector"`
		Waypoint *waypointName `json:"waypoint"`
	} `json:"spec"`
}

type waypointName struct{ Name, Namespace string }

type destination struct {
	Name       string     `json:"name"`
	URL        string     `json:"url"`
	Weight     *int       `json:"weight"`
	Protocol   string     `json:"protocol"`
	Resolution string     `json:"resolution"`
	Endpoints  []endpoint `json:"endpoints"`
	TLS        struct {
		Scope                string      `json:"scope"`
		SNI                  string      `json:"sni"`
		SubjectAltNames      []string    `json:"subjectAltNames"`
		CACertificateRefs    []reference `json:"caCertificateRefs"`
		ClientCertificateRef reference   `json:"clientCertificateRef"`
	} `json:"tls"`
	ConnectionPool struct {
		MaxConnections           *uint32  `json:"maxConnections"`
		MaxPendingRequests       *uint32  `json:"maxPendingRequests"`
		ConnectTimeout           duration `json:"connectTimeout"`
		MaxRequestsPerConnection uint32   `json:"maxRequestsPerConnection"`
		IdleTimeout              duration `json:"idleTimeout"`
	} `json:"connectionPool"`
	OutlierDetection *struct {
		Consecutive5xxErrors uint32   `json:"consecutive5xxErrors"`
		Interval             duration `json:"interval"`
		BaseEjectionTime     duration `json:"baseEjectionTime"`
		MaxEjectionPercent   *uint32  `json:"maxEjectionPercent"`
	} `json:"outlierDetection"`

	scheme, host, base, authority string
	port                          int
	private                       bool
}

type rule struct {
	Match   []match `json:"match"`
	Rewrite struct {
		URI             string `json:"uri"`
		URIRegexRewrite *struct {
			Match   string `json:"match"`
			Rewrite string `json:"rewrite"`
		} `json:"uriRegexRewrite"`
		Authority string `json:"authority"`
	} `json:"rewrite"`
	Destinations []struct {
		Name   string `json:"name"`
		Weight *int   `json:"weight"`
	} `json:"destinations"`
	Timeout duration                                     `json:"timeout"`
	Retries retrySettings                                `json:"retries"`
	Headers struct{ Request, Response headerOperations } `json:"headers"`
	Fault   struct {
		Abort *struct{ Percentage, HTTPStatus int }
		Delay *struct {
			Percentage int
			FixedDelay duration
		}
	} `json:"fault"`
	DirectResponse *struct {
		Status int
		Body   string
	} `json:"directResponse"`
}

type endpoint struct {
	Address  string `json:"address"`
	Port     int    `json:"port"`
	Priority int    `json:"priority"`
}

type reference struct{ Name string }

type egressRef struct{ Name, Namespace string }

type retrySettings struct {
	Attempts      *int     `json:"attempts"`
	PerTryTimeout duration `json:"perTryTimeout"`
	RetryOn       string   `json:"retryOn"`
}

type match struct {
	URI         *stringMatch           `json:"uri"`
	Method      *stringMatch           `json:"method"`
	Headers     map[string]stringMatch `json:"headers"`
	QueryParams map[string]stringMatch `json:"queryParams"`
}

type stringMatch struct{ Exact, Prefix, Regex string }

type headerOperations struct {
	Set, Add map[string]string
	Remove   []string
}

// duration is a time.Duration as manifests write it.
type duration time.Duration

func (d *duration) UnmarshalJSON(raw []byte) error {
	parsed, err := time.ParseDuration(strings.Trim(string(raw), `"`))
	*d = duration(parsed)
	return err
}

// request is what an application sends to one of the hosts. Its path may have a query.
type request struct {
	method, path string
	headers      map[string]string
}

// outcome is what becomes of a request: an answer on the spot, or what leaves for whom.
type outcome struct {
	Status                          int
	Body                            string
	Targets                         []target
	Path                            string
	Timeout, Retries, Fault         string
	RequestHeaders, ResponseHeaders []string
}

type target struct {
	Cluster, Authority string
	Weight             int
}

// meshHeaders must not reach a third party.
var meshHeaders = []string{
	"x-envoy-attempt-count", "x-envoy-decorator-operation", "x-envoy-expected-rq-timeout-ms", "x-envoy-internal", "x-envoy-external-address",
	"x-envoy-peer-metadata", "x-envoy-peer-metadata-id", "x-forwarded-client-cert", "x-forwarded-proto",
}

// fillIn writes the defaults that the API server would write, and reads the URLs.
func (m *manifest) fillIn() {
	m.Metadata.Namespace = cmp.Or(m.Metadata.Namespace, namespace)
	if len(m.Spec.ExportTo) == 0 {
		m.Spec.ExportTo = []string{"."}
	}
	if len(m.Spec.Rules) == 0 {
		m.Spec.Rules = []rule{{}}
	}
	for i := range m.Spec.Rules {
		r, of := &m.Spec.Rules[i], m.Spec.Retries
		r.Timeout = cmp.Or(r.Timeout, m.Spec.Timeout)
		r.Retries = retrySettings{
			cmp.Or(r.Retries.Attempts, of.Attempts), cmp.Or(r.Retries.PerTryTimeout, of.PerTryTimeout), cmp.Or(r.Retries.RetryOn, of.RetryOn),
		}
	}
	if w := m.Spec.Waypoint; w != nil && !slices.Contains(m.Spec.ExportTo, "*") {
		m.Spec.ExportTo = append(m.Spec.ExportTo, w.Namespace)
	}
	for i, name := range m.Spec.ExportTo {
		if name == m.Metadata.Namespace {
			m.Spec.ExportTo[i] = "."
		}
	}
	slices.Sort(m.Spec.ExportTo)
	m.Spec.ExportTo = slices.Compact(m.Spec.ExportTo)
	for i := range m.Spec.Destinations {
		d := &m.Spec.Destinations[i]
		d.Name = cmp.Or(d.Name, "primary")
		d.Resolution = cmp.Or(d.Resolution, "DNS")
		u, err := url.Parse(d.URL)
		if err != nil {
			continue // a refused case: nothing is promised
		}
		usual := map[string]int{"https": 443, "http": 80}[u.Scheme]
		d.scheme, d.host, d.base, d.authority = u.Scheme, u.Hostname(), u.EscapedPath(), u.Hostname()
		if d.port, _ = strconv.Atoi(u.Port()); d.port == 0 {
			d.port = usual
		}
		if d.tcp() && m.Spec.Port == 0 {
			m.Spec.Port = d.port
		}
		if d.port != usual {
			d.authority = u.Host
		}
		d.private = d.tcp() || len(d.Endpoints) > 0 || d.Resolution != "DNS" || m.Spec.WorkloadSelector != nil || !slices.Equal(m.Spec.ExportTo, []string{"."}) ||
			m.Spec.Waypoint != nil || m.Spec.EgressGateway != nil
	}
	m.Spec.Port = cmp.Or(m.Spec.Port, map[bool]int{true: 443, false: 80}[m.passesThrough()])
}

func (d destination) tcp() bool { return d.scheme == "tcp" || d.scheme == "tls" }

// speaksTCP says whether the mesh forwards connections and reads nothing.
func (m *manifest) speaksTCP() bool { return slices.ContainsFunc(m.Spec.Destinations, destination.tcp) }

// passesThrough says whether workloads call the hosts over their own TLS.
func (m *manifest) passesThrough() bool { return len(m.Spec.Destinations) == 0 }

// aliases are the names of the Services that the route serves; inPlace are the real hosts.
func (m *manifest) hosts() (aliases, inPlace []string) {
	if m.passesThrough() {
		return nil, nil
	}
	for _, h := range m.Spec.Hosts {
		name, rest, qualified := strings.Cut(h, ".")
		if !qualified || strings.HasPrefix(rest, m.Metadata.Namespace+".svc") {
			aliases = append(aliases, name)
			continue
		}
		inPlace = append(inPlace, h)
	}
	return aliases, inPlace
}

// answer says what the route promises for a request, and by which rule: -1 where none matches.
func (m *manifest) answer(r request, cluster func(destination) string) (outcome, int) {
	for i, rule := range m.Spec.Rules {
		matched := slices.IndexFunc(rule.Match, func(c match) bool { return c.holds(r) })
		if len(rule.Match) > 0 && matched < 0 {
			continue
		}
		var condition match
		if matched >= 0 {
			condition = rule.Match[matched]
		}
		return m.follow(rule, condition, r, cluster), i
	}
	return outcome{Status: 404}, -1
}

func (m *manifest) follow(rule rule, condition match, r request, cluster func(destination) string) outcome {
	out := outcome{ResponseHeaders: rule.Headers.Response.lines(nil)}
	if rule.DirectResponse != nil {
		out.Status, out.Body, out.RequestHeaders = rule.DirectResponse.Status, rule.DirectResponse.Body, rule.Headers.Request.lines(nil)
		return out
	}
	var removed []string
	if m.Spec.MeshHeaders != "Keep" {
		removed = meshHeaders
		if m.Spec.EgressGateway != nil {
			removed = append(slices.Clone(removed), "x-forwarded-for") // a gateway adds it, a sidecar does not
		}
	}
	out.RequestHeaders = rule.Headers.Request.lines(removed)
	out.Timeout = time.Duration(rule.Timeout).String()
	out.Retries = rule.retries()
	out.Fault = rule.fault()

	var base string
	for _, d := range m.Spec.Destinations {
		weight := value(d.Weight, 1)
		if len(rule.Destinations) > 0 {
			weight = 0
			for _, rd := range rule.Destinations {
				if rd.Name == d.Name {
					weight += value(rd.Weight, 1)
				}
			}
		}
		if weight > 0 {
			out.Targets = append(out.Targets, target{Cluster: cluster(d), Authority: cmp.Or(rule.Rewrite.Authority, d.authority), Weight: weight})
			base = d.base
		}
	}
	out.Targets = shares(out.Targets)

	path, query, _ := strings.Cut(r.path, "?")
	switch rewrite := rule.Rewrite; {
	case rewrite.URI != "" && condition.URI == nil: // to Istio a match without uri is one for the prefix /
		path = rewrite.URI + strings.TrimPrefix(path, "/")
	case rewrite.URI != "" && condition.URI.Prefix != "":
		path = rewrite.URI + strings.TrimPrefix(path, condition.URI.Prefix)
	case rewrite.URI != "":
		path = rewrite.URI
	case rewrite.URIRegexRewrite != nil:
		path = substitute(rewrite.URIRegexRewrite.Match, rewrite.URIRegexRewrite.Rewrite, path)
	case path == "/":
		path = cmp.Or(base, "/")
	default:
		path = strings.TrimRight(base, "/") + path
	}
	out.Path = withQuery(path, query)
	return out
}

// shares puts targets in order; the weight of an only one says nothing.
func shares(targets []target) []target {
	if len(targets) == 1 {
		targets[0].Weight = 0
	}
	return sorted(targets)
}

func (c match) holds(r request) bool {
	path, query, _ := strings.Cut(r.path, "?")
	parameters, _ := url.ParseQuery(query)
	if c.URI != nil && !c.URI.holds(path) || c.Method != nil && !c.Method.holds(r.method) {
		return false
	}
	for name, condition := range c.Headers {
		if got, exists := r.headers[strings.ToLower(name)]; !exists || !condition.holds(got) {
			return false
		}
	}
	for name, condition := range c.QueryParams {
		if !parameters.Has(name) || !condition.holds(parameters.Get(name)) {
			return false
		}
	}
	return true
}

func (s stringMatch) holds(text string) bool {
	switch {
	case s.Exact != "":
		return text == s.Exact
	case s.Prefix != "":
		return strings.HasPrefix(text, s.Prefix)
	default:
		return wholeMatch(s.Regex, text)
	}
}

func (r rule) retries() string {
	attempts, on := value(r.Retries.Attempts, 2), cmp.Or(r.Retries.RetryOn, "connect-failure,refused-stream")
	if attempts == 0 {
		return "none"
	}
	return fmt.Sprintf("%d on %s, each within %s", attempts, strings.Join(sorted(strings.Split(on, ",")), ","), time.Duration(r.Retries.PerTryTimeout))
}

func (r rule) fault() string {
	var parts []string
	if a := r.Fault.Abort; a != nil {
		parts = append(parts, fmt.Sprintf("%d%% answered %d", a.Percentage, a.HTTPStatus))
	}
	if d := r.Fault.Delay; d != nil {
		parts = append(parts, fmt.Sprintf("%d%% held back %s", d.Percentage, time.Duration(d.FixedDelay)))
	}
	return strings.Join(parts, ", ")
}

// lines are the operations in a form to compare: what is removed besides, unless the operations themselves set it.
func (o headerOperations) lines(removed []string) []string {
	var lines []string
	set := map[string]bool{}
	for name, v := range o.Set {
		set[strings.ToLower(name)] = true
		lines = append(lines, fmt.Sprintf("set %s: %s", strings.ToLower(name), v))
	}
	for name, v := range o.Add {
		lines = append(lines, fmt.Sprintf("add %s: %s", strings.ToLower(name), v))
	}
	for _, name := range slices.Concat(o.Remove, removed) {
		if !set[strings.ToLower(name)] {
			lines = append(lines, "remove "+strings.ToLower(name))
		}
	}
	return slices.Compact(sorted(lines))
}

// upstream is how a destination is reached.
type upstream struct {
	TLS       *tlsSettings
	Discovery string
	Endpoints []string
	Limits    string
	Outlier   string
}

type tlsSettings struct {
	SNI               string
	SubjectAltNames   []string
	CA                string
	ClientCertificate string
	ALPN              string
}

const unlimited = 1<<32 - 1

func (m *manifest) upstream(d destination) upstream {
	u := upstream{Discovery: map[string]string{"DNS": "STRICT_DNS", "DNSRoundRobin": "LOGICAL_DNS"}[d.Resolution], TLS: m.tls(d)}
	names := slices.ContainsFunc(d.Endpoints, func(e endpoint) bool { return net.ParseIP(e.Address) == nil })
	if len(d.Endpoints) > 0 && !names {
		u.Discovery = "EDS"
	}
	priorities := map[int]bool{}
	for _, e := range d.Endpoints {
		priorities[e.Priority] = true
	}
	for _, e := range d.Endpoints { // Envoy wants them without gaps
		earlier := 0
		for priority := range priorities {
			if priority < e.Priority {
				earlier++
			}
		}
		u.Endpoints = append(u.Endpoints, withPriority(address(e.Address, cmp.Or(e.Port, d.port)), earlier))
	}
	if len(d.Endpoints) == 0 {
		u.Endpoints = []string{address(d.host, d.port)}
	}
	u.Endpoints = sorted(u.Endpoints)

	p := d.ConnectionPool
	u.Limits = limits(value(p.MaxConnections, unlimited), value(p.MaxPendingRequests, unlimited), p.MaxRequestsPerConnection,
		cmp.Or(time.Duration(p.ConnectTimeout), 10*time.Second), time.Duration(p.IdleTimeout), d.Protocol == "HTTP2")
	if o := d.OutlierDetection; o != nil {
		percent := uint32(0)
		for len(d.Endpoints) > 1 && percent*uint32(len(d.Endpoints)) < 100*uint32(len(d.Endpoints)-1) { // all but one
			percent++
		}
		u.Outlier = outlier(o.Consecutive5xxErrors, value(o.MaxEjectionPercent, percent), time.Duration(o.Interval), time.Duration(o.BaseEjectionTime))
	}
	return u
}

func (m *manifest) tls(d destination) *tlsSettings {
	if d.scheme != "https" && d.scheme != "tls" {
		return nil
	}
	settings := &tlsSettings{SNI: cmp.Or(d.TLS.SNI, d.host), SubjectAltNames: d.TLS.SubjectAltNames, CA: "file-root:system"}
	if len(settings.SubjectAltNames) == 0 {
		settings.SubjectAltNames = []string{d.host}
	}
	for _, ca := range d.TLS.CACertificateRefs {
		settings.CA = fmt.Sprintf("configmap://%s/%s-cacert", m.Metadata.Namespace, ca.Name)
	}
	if client := d.TLS.ClientCertificateRef.Name; client != "" {
		settings.ClientCertificate = "kubernetes://" + client
		settings.CA = settings.ClientCertificate + "-cacert"
	}
	if d.Protocol == "HTTP2" {
		settings.ALPN = "h2"
	}
	return settings
}

func limits(connections, pending, perConnection uint32, connect, idle time.Duration, http2 bool) string {
	return fmt.Sprintf("connections %d, pending %d, requests per connection %d, connect %s, idle %s, http2 %t",
		connections, pending, perConnection, connect, idle, http2)
}

func withPriority(address string, priority int) string {
	if priority == 0 {
		return address
	}
	return fmt.Sprintf("%s with priority %d", address, priority)
}

func outlier(errors, percent uint32, interval, ejection time.Duration) string {
	return fmt.Sprintf("after %d errors in %s for %s, up to %d%%", errors, interval, ejection, percent)
}

// probes are requests that try every rule of the route, and the paths on which rewrites usually go wrong.
func (m *manifest) probes() []request {
	requests := []request{{path: "/"}, {path: "/x"}, {path: "/x/?q=1"}, {path: "//y"}, {path: "/?q=/a"}, {path: "/a/b/c.txt"}}
	for _, rule := range m.Spec.Rules {
		for _, c := range rule.Match {
			r := request{path: "/some/path", headers: map[string]string{}}
			suffixes := []string{""}
			if c.URI != nil {
				r.path, suffixes = c.URI.example(), []string{"", "x", "/", "/x", "//x"}
			}
			if c.Method != nil {
				r.method = c.Method.example()
			}
			for name, condition := range c.Headers {
				r.headers[strings.ToLower(name)] = condition.example()
			}
			query := url.Values{}
			for name, condition := range c.QueryParams {
				query.Set(name, condition.example())
			}
			for _, suffix := range suffixes {
				requests = append(requests, request{r.method, withQuery(r.path+suffix, query.Encode()), r.headers}, request{path: r.path + suffix})
			}
		}
	}
	for i := range requests {
		requests[i].method = cmp.Or(requests[i].method, "GET")
	}
	return requests
}

// example is a text for which the condition holds.
func (s stringMatch) example() string {
	if s.Regex == "" {
		return s.Exact + s.Prefix
	}
	parsed, err := syntax.Parse(s.Regex, syntax.Perl)
	if err != nil {
		return ""
	}
	return shortest(parsed)
}

// shortest is about the shortest text that an expression matches, but for stars, which it takes once.
func shortest(e *syntax.Regexp) string {
	var text strings.Builder
	switch e.Op {
	case syntax.OpLiteral:
		return string(e.Rune)
	case syntax.OpCharClass:
		return string(e.Rune[0])
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return "z"
	case syntax.OpAlternate:
		return shortest(e.Sub[0])
	case syntax.OpRepeat:
		return strings.Repeat(shortest(e.Sub[0]), max(1, e.Min))
	default:
		for _, sub := range e.Sub {
			text.WriteString(shortest(sub))
		}
		return text.String()
	}
}

// wholeMatch is how Envoy matches an expression: the text as a whole.
func wholeMatch(expression, text string) bool {
	return regexp.MustCompile("^(?:" + expression + ")$").MatchString(text)
}

// substitute is how Envoy rewrites by an expression: RE2's GlobalReplace, with \1 for a group.
func substitute(expression, replacement, text string) string {
	groups := regexp.MustCompile(`\\[0-9\\]|\$`).ReplaceAllStringFunc(replacement, func(s string) string {
		switch s {
		case "$":
			return "$$"
		case `\\`:
			return `\`
		default:
			return "${" + s[1:] + "}"
		}
	})
	return regexp.MustCompile(expression).ReplaceAllString(text, groups)
}

func withQuery(path, query string) string {
	if query == "" {
		return path
	}
	return path + "?" + query
}

func value[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

func sorted[T any](list []T) []T {
	sort.Slice(list, func(i, j int) bool { return fmt.Sprint(list[i]) < fmt.Sprint(list[j]) })
	return list
}

func address(host string, port int) string {
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// showsCertificateAtWaypoint reports whether the route is the waypoint's alone, which has the client certificate.
func (m *manifest) showsCertificateAtWaypoint() bool {
	return m.Spec.Waypoint != nil && slices.ContainsFunc(m.Spec.Destinations, func(d destination) bool { return d.TLS.ClientCertificateRef.Name != "" })
}
