package random

import (
	"fmt"
	"maps"
	"net/url"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// Call is a request as a client writes it, or a connection.
type Call struct {
	Method string `json:"method,omitempty"`
	URL    string `json:"url"`
	// Headers have names and values, in order.
	Headers   [][2]string `json:"headers,omitempty"`
	Namespace string      `json:"namespace"`
}

// Calls draws calls that are near to what routes take: most meet the host and one match of a rule, but for a detail. They come from the namespace of the
// routes or from the other one.
func Calls(routes []*v1alpha1.ExternalRoute, other string) *rapid.Generator[Call] {
	return rapid.Custom(func(t *rapid.T) Call {
		d := &drawing{t: t}
		route := routes[d.below(len(routes))]
		for tries := 0; len(route.Spec.Rules) < 2 && tries < 3; tries++ { // rules are what there is most to say about
			route = routes[d.below(len(routes))]
		}
		d.namespace = route.Namespace
		c := Call{Namespace: route.Namespace}
		if d.chance(2) {
			c.Namespace = other
		}
		upstreams := translate.UpstreamsOf(route)
		switch {
		case translate.PassesThrough(route):
			c.URL = "https://" + instance(d, upstreams) + d.one("", "", "", ":443", ":8443") + "/"
		case translate.SpeaksTCP(route):
			c.URL = fmt.Sprintf("%s://%s:%d", d.one("tcp", "tcp", "https"), nameOf(d, route), portFor(d, route))
		case d.chance(1):
			c.URL = d.one("https", "https", "http") + "://" + instance(d, upstreams) + d.one("", "", ":443", ":80", ":8080") + "/"
		default:
			c.request(d, route)
		}
		if c.Method == "" && !strings.HasPrefix(c.URL, "tcp:") {
			c.Method = "GET"
		}
		return c
	})
}

func instance(d *drawing, hosts []string) string {
	host := d.one(hosts...)
	if suffix, wildcard := strings.CutPrefix(host, "*"); wildcard {
		host = d.one("a", "b", "a.b") + suffix
	}
	return nearly(d, 1, host, strings.ToUpper(host), "x"+host, host+"x")
}

// nearly is the first text, or in some cases of sixteen one of the others.
func nearly(d *drawing, of16 int, text string, others ...string) string {
	if d.chance(of16) {
		return d.one(others...)
	}
	return text
}

func portFor(d *drawing, route *v1alpha1.ExternalRoute) int {
	if d.chance(1) {
		return []int{80, 443, 8080}[d.below(3)]
	}
	return int(translate.PortOf(route))
}

// nameOf writes one of a route's hosts, in one of the ways that clients may.
func nameOf(d *drawing, route *v1alpha1.ExternalRoute) string {
	hosts := translate.HostsOf(route, translate.DefaultClusterDomain)
	host := hosts[d.below(len(hosts))]
	if service, is := strings.CutSuffix(host, ".svc."+translate.DefaultClusterDomain); is {
		name, _, _ := strings.Cut(service, ".")
		host = d.one(name, name, name, service, service+".svc", host)
	}
	return nearly(d, 3, host, strings.ToUpper(host), strings.ToUpper(host[:1])+host[1:], host+".", host+"x", "x"+host, host[1:]+"a", host+"."+route.Namespace)
}

// everyMethod is every method that servers know, and some that they do not.
const everyMethod = `ACL BIND CHECKOUT COPY DELETE GET HEAD LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL MOVE M-SEARCH MSEARCH NOTIFY OPTIONS PATCH POST PROPFIND
	PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE TRACE UNBIND UNLINK UNLOCK UNSUBSCRIBE Get PRI`

// request makes the call one of a route's host, near a match of a rule.
func (c *Call) request(d *drawing, route *v1alpha1.ExternalRoute) {
	match := v1alpha1.Match{}
	if rules := route.Spec.Rules; len(rules) > 0 {
		if matches := rules[d.below(len(rules))].Match; len(matches) > 0 {
			match = matches[d.below(len(matches))]
		}
	}
	c.Method = "GET"
	if m := meeting(d, match.Method, d.one("GET", "GET", "POST", "PUT", "HEAD")); token(m) {
		c.Method = nearly(d, 2, m, "POST", "DELETE", "PATCH", "OPTIONS", "get", d.one(strings.Fields(everyMethod)...))
	}
	for _, name := range slices.Sorted(maps.Keys(match.Headers)) {
		condition := match.Headers[name]
		value := strings.Trim(meeting(d, &condition, ""), " \t")
		if !printable(value) || d.chance(1) {
			continue
		}
		header := [2]string{nearly(d, 4, name, strings.ToUpper(name), strings.ToLower(name)), nearly(d, 2, value, strings.ToUpper(value), value+"x", "")}
		c.Headers = append(c.Headers, header)
		if d.chance(3) {
			c.Headers = append(c.Headers, [2]string{header[0], d.one("", "silver", value)})
		}
		if d.chance(1) {
			c.Headers = append([][2]string{{strings.ToLower(name), d.one("", "gold", value)}}, c.Headers...)
		}
	}
	address := fmt.Sprintf("http://%s%s", nameOf(d, route), nearly(d, 8, "", fmt.Sprintf(":%d", portFor(d, route))))
	if translate.PortOf(route) != 80 && !strings.Contains(strings.TrimPrefix(address, "http://"), ":") {
		address += fmt.Sprintf(":%d", portFor(d, route))
	}
	path, query := near(d, meeting(d, match.URI, d.one("/", "/a", "/b/c"))), queryNear(d, match.QueryParams)
	if !utf8.ValidString(path) {
		path = encoded(path)
	}
	if !utf8.ValidString(query) {
		query = encoded(query)
	}
	for _, text := range []string{address + path + query, address + path, address + strings.ReplaceAll(path, "%", "%25") + query, address + "/"} {
		if c.URL = text; parses(text) {
			return
		}
	}
}

// encoded percent-encodes the bytes that are not ASCII.
func encoded(text string) string {
	var out strings.Builder
	for i := range len(text) {
		if text[i] < utf8.RuneSelf {
			out.WriteByte(text[i])
			continue
		}
		fmt.Fprintf(&out, "%%%02X", text[i])
	}
	return out.String()
}

func parses(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Path == "" || u.Path[0] == '/') && !strings.ContainsAny(u.RequestURI(), " \x7f")
}

func token(text string) bool {
	return text != "" && strings.Trim(text, letters+strings.ToUpper(letters)+"-_") == "" && !strings.EqualFold(text, "connect") && len(text) < 20
}

func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// near changes a detail of a path, or nothing.
func near(d *drawing, path string) string {
	for d.chance(6) {
		i := d.below(len(path) + 1)
		if path != "" && d.chance(8) {
			path = anotherWay(d, path, min(i, len(path)-1))
			continue
		}
		added := d.one("/", "/.", "/..", "/./", "/../", "//", "/%2e%2e", "/%2E/", "/..;", "/..;/", "/..;x", "/..;x/", "/.;", "/.;x/y", "\\", "%2F", "%5c", "%00",
			"%0a", "x", ".txt", ";", "é", "%C3%A9", "%c3%a9", "+", "%20", "\"", "|", "^", "~", "%7E", "%7e", "%41", "%zz", "'", "[", "{", "`", "<", "..", ".")
		path = nearly(d, 6, path+added, path[:i]+added+path[i:], added+path)
	}
	return path
}

// anotherWay writes one character of a path differently.
func anotherWay(d *drawing, path string, i int) string {
	switch d.below(5) {
	case 0:
		return path[:i] + strings.ToUpper(path[i:i+1]) + path[i+1:]
	case 1:
		return path[:i] + path[i+1:]
	case 2:
		return path[:i] + fmt.Sprintf("%%%02x", path[i]) + path[i+1:]
	case 3:
		return path[:i] + fmt.Sprintf("%%%02X", path[i]) + path[i+1:]
	}
	return strings.Replace(path, "/", "\\", 1)
}

func queryNear(d *drawing, conditions map[string]v1alpha1.StringMatch) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(conditions)) {
		condition := conditions[name]
		value := meeting(d, &condition, "1")
		value = nearly(d, 10, value, url.QueryEscape(value), url.PathEscape(value))
		if value = strings.NewReplacer("#", "%23", " ", "+").Replace(value); !printable(value) {
			value = url.QueryEscape(value)
		}
		pairs = append(pairs, nearly(d, 3, name+"="+value, name, name+"="+value+"x",
			strings.ToUpper(name)+"="+value, name+"=a&"+name+"="+value, name+"="+value+"&"+name+"=a"))
	}
	for d.chance(3) {
		pairs = append(pairs, d.one("", "z", "q=1", "=", "a=b=c", "q=%67o", "é=1", "x?y", "/../", "%zz"))
	}
	if len(pairs) == 0 {
		return nearly(d, 1, "", "?")
	}
	return "?" + strings.Join(pairs, nearly(d, 1, "&", ";", "&&"))
}

// meeting draws a text that meets a condition.
func meeting(d *drawing, condition *v1alpha1.StringMatch, otherwise string) string {
	switch {
	case condition == nil:
		return otherwise
	case condition.Exact != "":
		return string(condition.Exact)
	case condition.Prefix != "":
		return string(condition.Prefix) + d.one("", "", "/", "x", "/x", "/x/y.txt")
	case condition.Regex != "":
		if parsed, err := syntax.Parse(string(condition.Regex), syntax.Perl); err == nil {
			return meetingRegex(d, parsed)
		}
	}
	return otherwise
}

func meetingRegex(d *drawing, r *syntax.Regexp) string {
	times := func(least, most int) string {
		var out strings.Builder
		for range least + d.below(1+most-least) {
			if out.Len() > 1000 {
				break
			}
			out.WriteString(meetingRegex(d, r.Sub[0]))
		}
		return out.String()
	}
	switch r.Op { //nolint:exhaustive // the others match nothing that a text must have
	case syntax.OpLiteral:
		text := string(r.Rune)
		if r.Flags&syntax.FoldCase != 0 {
			text = d.one(strings.ToLower(text), strings.ToUpper(text))
		}
		return text
	case syntax.OpCharClass:
		return meetingClass(d, r.Rune)
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return d.one("a", "Z", "/", ".", "%", "é", "7")
	case syntax.OpStar:
		return times(0, 3)
	case syntax.OpPlus:
		return times(1, 3)
	case syntax.OpQuest:
		return times(0, 1)
	case syntax.OpRepeat:
		most := r.Max
		if most < 0 {
			most = r.Min + 2
		}
		return times(r.Min, most)
	case syntax.OpCapture:
		return meetingRegex(d, r.Sub[0])
	case syntax.OpAlternate:
		return meetingRegex(d, r.Sub[d.below(len(r.Sub))])
	case syntax.OpConcat:
		var out strings.Builder
		for _, sub := range r.Sub {
			out.WriteString(meetingRegex(d, sub))
		}
		return out.String()
	}
	return ""
}

func meetingClass(d *drawing, ranges []rune) string {
	for range 8 {
		i := d.below(len(ranges)/2+1) * 2 % max(2, len(ranges))
		if len(ranges) == 0 {
			return ""
		}
		low, high := ranges[i], min(ranges[i+1], 0xff)
		if low > high {
			continue
		}
		if r := low + rune(d.below(int(high-low)+1)); r > ' ' && r < 0x7f {
			return string(r)
		} else if r > 0x7f {
			return string([]byte{byte(r)}) // Envoy matches bytes
		}
	}
	return "a"
}
