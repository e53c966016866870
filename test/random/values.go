package random

import (
	"fmt"
	"net/url"
	"strings"

	"pgregory.net/rapid"
)

// drawing is one spec that is being drawn.
type drawing struct {
	t         *rapid.T
	namespace string
	// plenty is how many sixteenths of what may be left out are there.
	plenty int
	depth  int
	// seen are the strings that the spec has already, by property: references and twins are made of them.
	seen map[string][]string
}

// below draws a number below n, all with the same chance: rapid's own draws prefer small ones.
func (d *drawing) below(n int) int {
	number := 0
	for span := 1; span < n; span *= 2 {
		number *= 2
		if flip.Draw(d.t, "flip") {
			number++
		}
	}
	return number % n
}

var flip = rapid.Bool()

// chance is true in as many cases of sixteen.
func (d *drawing) chance(of16 int) bool {
	return d.below(16) >= 16-of16
}

func (d *drawing) one(of ...string) string {
	return of[d.below(len(of))]
}

// size draws how many items something has: few, in most cases.
func (d *drawing) size(least, most int) int {
	if d.chance(1) {
		return most
	}
	return least + rapid.IntRange(0, min(most-least, 1+d.plenty/2)).Draw(d.t, "size")
}

func (d *drawing) number(property string, least, most int) int {
	if property == "port" && d.chance(14) {
		return []int{80, 443, 8080, 8443, 81, 1, 65535, 15001, 9080, 3306}[d.below(10)]
	}
	switch d.below(8) {
	case 0:
		return least
	case 1:
		return most
	case 2:
		return least + 1
	case 3:
		return most - 1
	default:
		return rapid.IntRange(least, most).Draw(d.t, property)
	}
}

// kind is a sort of text that is written somewhere in a spec.
type kind func(*drawing) string

// kinds says what is written where. A property that is not here gets texts of any kind, and so does each of these from time to time.
var kinds = map[string]kind{
	"address":           address,
	"authority":         authority,
	"baseEjectionTime":  duration,
	"body":              text,
	"connectTimeout":    duration,
	"destinations":      label,
	"exact":             text,
	"exportTo":          exportNamespace,
	"fixedDelay":        duration,
	"hosts":             routeHost,
	"idleTimeout":       duration,
	"interval":          duration,
	"match":             regex,
	"matchLabels":       labelValue,
	"name":              label,
	"perTryTimeout":     duration,
	"prefix":            text,
	"regex":             regex,
	"remove":            headerName,
	"retryOn":           retryOn,
	"rewrite":           replacement,
	"set":               headerValue,
	"add":               headerValue,
	"sni":               host,
	"subjectAltNames":   host,
	"timeout":           duration,
	"uri":               path,
	"url":               address2URL,
	"metadata.name":     object,
	"headers keys":      headerName,
	"set keys":          headerName,
	"add keys":          headerName,
	"queryParams keys":  parameter,
	"matchLabels keys":  labelKey,
	"metadata.services": label,
}

var anyKind = []kind{address, authority, duration, text, object, label, headerName, headerValue, host, path, regex, replacement, retryOn, address2URL, labelKey, labelValue}

func kindOfKeys(property string) string { return property + " keys" }

// value draws a text for a property: one of its kind, one that stands elsewhere in the spec, or anything.
func (d *drawing) value(property string) string {
	of16 := 2
	if property == "name" && d.depth > 2 { // a rule's destination is one of the route's
		of16 = 15
	}
	if twins := d.seen[property]; len(twins) > 0 && d.chance(of16) {
		return twins[d.below(len(twins))]
	}
	return d.text(property)
}

func (d *drawing) text(property string) string {
	draw, known := kinds[property]
	if !known || d.chance(1) {
		draw = anyKind[d.below(len(anyKind))]
	}
	return draw(d)
}

const (
	letters  = "abcdefghijklmnopqrstuvwxyz"
	digits   = "0123456789"
	tokens   = letters + "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + digits + "-!#$%&*+.^_|~"
	pathText = letters + "ABC" + digits + "-._~!$&()*+,;=:@/'%"
	ascii    = " !\"#$%&'()*+,-./0123456789:;<=>?@ABCXYZ[\\]^_`abcxyz{|}~"
)

// of draws a text of some characters, sometimes a very long one.
func (d *drawing) of(characters string, least, most int) string {
	var out strings.Builder
	for range least + rapid.IntRange(0, min(most-least, 12)).Draw(d.t, "length") {
		out.WriteByte(characters[d.below(len(characters))])
	}
	if most > 40 && d.chance(1) && out.Len() > 0 {
		return strings.Repeat(out.String(), most/out.Len()+1)[:most]
	}
	return out.String()
}

func label(d *drawing) string {
	switch d.below(8) {
	case 0:
		return d.one("web", "api", "primary", "backup", "http", "default", "a")
	case 1:
		return d.one("0", "1a", "-a", "a-", "xn--bcher-kva", "10", "istio-system", "localhost")
	case 2:
		return d.of(letters, 1, 1) + d.of(letters+digits+"-", 61, 61) + d.of(letters, 1, 1)
	default:
		return d.of(letters, 1, 4) + d.of(letters+digits+"-", 1, 20) + d.of(letters+digits, 1, 2)
	}
}

func object(d *drawing) string {
	if d.chance(2) {
		return label(d) + "." + object(d)
	}
	if d.chance(1) {
		return strings.TrimRight(strings.Repeat(label(d)+".", 253)[:253], ".-")
	}
	return label(d)
}

func host(d *drawing) string {
	switch d.below(16) {
	case 0:
		return d.one("example.com", "api.example.com", "raw.githubusercontent.com", "xn--bcher-kva.example", "a.b", "github.io", "example.com.cn")
	case 1:
		return d.one("localhost", "web.demo", "kubernetes.default", "web.demo.svc", "a.cluster.local", "metadata.google.internal", "web.demo.svc.cluster.local",
			"1.2.3.4", "0x7f.1", "example.com.", "*.example.com", "EXAMPLE.com", "exa_mple.com", "a..b", "svc", "example.svc", "0.0", "1.2.3.d")
	case 2: // as long as a name may be
		name := strings.Repeat(d.of(letters, 1, 3)+d.of(letters+digits, 30, 59)+".", 9)
		return strings.Trim(name[:249], ".") + ".com"
	case 3, 4: // a name that an existing Service could have
		return label(d) + "." + d.one(d.namespace, label(d))
	default:
		var name strings.Builder
		for range rapid.IntRange(1, 4).Draw(d.t, "labels") {
			name.WriteString(label(d) + ".")
		}
		return name.String() + d.one("com", "org", "io", "dev", "example")
	}
}

func routeHost(d *drawing) string {
	if d.passesThrough() && d.chance(14) {
		return d.one("", "", "", "*.") + host(d)
	}
	switch d.below(16) {
	case 0:
		return label(d) + "." + d.one(d.namespace, d.namespace, d.namespace, "other") + ".svc" + d.one("", ".cluster.local", ".cluster.local", ".example.org")
	case 1, 2:
		if urls := d.seen["url"]; len(urls) > 0 {
			if u, err := url.Parse(urls[d.below(len(urls))]); err == nil {
				return u.Hostname()
			}
		}
	case 3:
		return host(d)
	case 4, 5:
		return label(d) + "." + d.namespace + ".svc" + d.one("", ".cluster.local")
	}
	return label(d)
}

func address2URL(d *drawing) string {
	name := host(d)
	if others := d.seen["url"]; len(others) > 0 && d.chance(4) { // the same host with something else
		if u, err := url.Parse(others[d.below(len(others))]); err == nil {
			name = u.Hostname()
		}
	}
	scheme := d.one("https", "https", "https", "https", "https", "http", "http", d.one("HTTPS", "ftp", "tcp", "http:"))
	port := ""
	if d.chance(6) {
		port = ":" + d.one("443", "80", "8443", "8080", "1", "65535", "65536", "0", "15001", "080", "", fmt.Sprint(rapid.IntRange(1, 65535).Draw(d.t, "port")))
	}
	base := ""
	if d.chance(5) {
		base = path(d)
	}
	if d.chance(1) {
		base += d.one("?a=b", "#x", "/..", "/%2e%2e/a", "/ü", "/\x7f", "/%", "?", "/%zz")
	}
	return scheme + "://" + name + port + base
}

func path(d *drawing) string {
	switch d.below(8) {
	case 0:
		return d.one("/", "//", "/a/", "/a//", "/a%2Fb", "/%25", "/a;b=c", "/a:b@c", "/.well-known/x", "/...", "/a.b", "/~x", "/%e2%82%ac", "/''", "/$1", "/\\1", "/%%")
	case 1:
		return "/" + d.of(pathText, 1, 1023)
	case 2:
		return d.of(ascii, 1, 20)
	default:
		var out strings.Builder
		for range rapid.IntRange(1, 4).Draw(d.t, "segments") {
			out.WriteString("/" + d.of(letters+digits+"-._~!$&()*+,;=:@'", 1, 8))
		}
		return out.String() + d.one("", "", "/")
	}
}

func address(d *drawing) string {
	switch d.below(8) {
	case 0:
		return d.one("10.1.2.3", "192.168.0.1", "203.0.113.9", "1.1.1.1", "100.64.0.1", "198.18.0.1", "172.16.254.254", "239.255.255.255")
	case 1:
		return d.one("2001:db8::1", "fd00::1", "2606:4700:4700::1111", "::ffff:10.0.0.1", "2001:DB8::1", "2001:db8:0:0:0:0:0:1", "fe80::1%eth0", "64:ff9b::a01:203")
	case 2:
		return d.one("127.0.0.1", "::1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255", "fd00:ec2::254", "010.0.0.1", "1.2.3", "::", "ff02::1")
	case 3, 4:
		return fmt.Sprintf("%d.%d.%d.%d", d.below(256), d.below(256), d.below(256), d.below(256))
	case 5:
		return fmt.Sprintf("%x:%x::%x", d.below(1<<16), d.below(1<<16), d.below(1<<16))
	default:
		return host(d)
	}
}

func authority(d *drawing) string {
	if d.chance(4) {
		return host(d) + ":" + d.one("1", "80", "443", "8443", "65535", "65536", "0")
	}
	return d.one(host(d), "UPPER.example.com", "under_score.example", "10.0.0.1", "a", "a-", strings.Repeat("a", 253), "%FOO%", "a..b", "1", "a--b", "a:1:2")
}

func duration(d *drawing) string {
	switch d.below(8) {
	case 0:
		return d.one("1ms", "01ms", "0s", "99999h", "99999h99999m99999s99999ms", "99999h99999h99999h99999h", "0h1ms", "1s1s", "1h1m1s1ms", "00000h1ms", "999ms", "1000ms")
	case 1:
		return d.one("1.5s", "1d", "-1s", "1us", "s", "1", "1h ")
	default:
		var out strings.Builder
		for range rapid.IntRange(1, 3).Draw(d.t, "units") {
			fmt.Fprintf(&out, "%d%s", rapid.IntRange(0, 99999).Draw(d.t, "count"), d.one("ms", "s", "m", "h"))
		}
		return out.String()
	}
}

func headerName(d *drawing) string {
	switch d.below(8) {
	case 0:
		return d.one("x-tenant", "X-Tenant", "authorization", "cookie", "set-cookie", "user-agent", "content-type", "accept-encoding", "te", "connection", "upgrade",
			"keep-alive", "proxy-authorization", "trailer", "expect", "date", "server", "via", "location", "grpc-status", "x-request-id")
	case 1:
		return d.one("x-envoy-attempt-count", "x-forwarded-for", "X-Forwarded-Proto", "x-forwarded-client-cert", "x-envoy-original-path", "x-envoy-internal",
			"x-envoy-retry-on", "x-envoy-upstream-rq-timeout-ms", "x-envoy-decorator-operation", "x-envoy-peer-metadata", "x-envoy-force-trace", "x-forwarded-host")
	case 2:
		return d.one("host", "Host", ":authority", ":path", ":method", "content-length", "Transfer-Encoding", "uri", "scheme", "method", "authority", "x y", "x:y", "", "ü", "%FOO%")
	default:
		return d.of(tokens, 1, 1025)
	}
}

func headerValue(d *drawing) string {
	switch d.below(4) {
	case 0:
		return d.one("100%", "%", "%%", "%FOO%", "%REQ(x)%", "%START_TIME(%Y)%", "%PROTOCOL%", "%%%", "%DYNAMIC_METADATA([\"a\"])%", "a%b", "% %", "%ENVIRONMENT(X)%",
			"%25", "%REQ(:path):5%", "%%REQ(x)%%", "%CEL(request.path)%")
	case 1:
		return d.one(" ", "\t", " a ", "a\tb", "\\", "\"", "{}", "a, b", "a;b", "ü", "\u0000", "a\nb", "a\r\nx: y", "\x7f", "${X}", "{{x}}", "\\n", "€")
	default:
		return d.of(ascii, 1, 1025)
	}
}

func text(d *drawing) string {
	switch d.below(8) {
	case 0:
		return d.one("GET", "POST", "get", "", "*", "/", " ", "true", "ü", "日本", "a\nb\tc\r\n", "\u0000", "\u001f", "\u007f", "\u0085", "\u2028", "%", "%FOO%", "{}")
	case 1:
		return strings.Repeat(d.one("ü", "日", "😀", "x\n", "{\"a\": \"b\"}", "%DURATION%"), 1+d.below(4097))
	case 2, 3:
		return headerValue(d)
	default:
		return path(d)
	}
}

func parameter(d *drawing) string {
	if d.chance(4) {
		return d.one("q", "a[b]", "a[]", "x.y", "%20", "a b", "a=b", "a&b", "ü", "?", "'", "%", "~", "[", "]", "(", "a/b", "$", "\\")
	}
	return d.of(letters+digits+"-._~!$()*+,;:@/?%[]'", 1, 1025)
}

func exportNamespace(d *drawing) string {
	if d.chance(12) {
		return d.one(".", ".", ".", "*")
	}
	return d.one(d.namespace, "other", label(d), "~", "istio-system")
}

func labelKey(d *drawing) string {
	if d.chance(8) {
		return d.one("app", "version", "tier")
	}
	return d.one("", "example.com/", object(d)+"/") + d.of(letters+digits+"ABC-_.", 1, 63)
}

func labelValue(d *drawing) string {
	return d.one("web", "v1", d.of(letters+digits+"ABC-_.", 1, 63))
}

// retryWords are Envoy's and gRPC's, and some that are not.
var retryWords = strings.Fields(`5xx gateway-error reset reset-before-request connect-failure retriable-4xx refused-stream retriable-status-codes
	retriable-headers envoy-ratelimited http3-post-connect-failure cancelled deadline-exceeded internal resource-exhausted unavailable 400 418 421 428 431
	451 500 503 508 511 419 599 abc`)

func retryOn(d *drawing) string {
	var words []string
	for range d.size(1, 30) {
		words = append(words, d.one(retryWords[:len(retryWords)-d.below(2)*3]...))
	}
	return strings.Join(words, ",")
}
