package explain

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// path is the path that Envoy matches and rewrites: what the client sends, normalized as Istio does by default (BASE). Letters, digits and -._~ are
// decoded, then dot segments are resolved. All other characters, encoded slashes and doubled slashes stay as they are.
func (q *question) path() string {
	var kept []string
	segments := q.segments()
	for i, segment := range segments {
		segment = decodedUnreserved(segment)
		if segment != "." && segment != ".." {
			kept = append(kept, segment)
			continue
		}
		if segment == ".." {
			kept = kept[:max(0, len(kept)-1)]
		}
		if i == len(segments)-1 {
			kept = append(kept, "")
		}
	}
	return "/" + strings.Join(kept, "/")
}

// segments are those of the path as the client sends it, except the parameters of dot segments, which Envoy removes first.
func (q *question) segments() []string {
	segments := strings.Split(strings.TrimPrefix(q.URL.EscapedPath(), "/"), "/")
	for i, segment := range segments {
		if name, _, _ := strings.Cut(segment, ";"); name == "." || name == ".." {
			segments[i] = name
		}
	}
	return segments
}

// decodedUnreserved decodes the characters that RFC 3986 calls unreserved.
func decodedUnreserved(path string) string {
	var out strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] == '%' && i+2 < len(path) {
			if value, err := strconv.ParseUint(path[i+1:i+3], 16, 8); err == nil && isUnreserved(byte(value)) {
				out.WriteByte(byte(value))
				i += 2
				continue
			}
		}
		out.WriteByte(path[i])
	}
	return out.String()
}

func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

// methods are what Envoy accepts in HTTP/1.1.
var methods = strings.Fields(`ACL BIND CHECKOUT CONNECT COPY DELETE GET HEAD LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL MOVE MSEARCH NOTIFY OPTIONS PATCH POST
	PROPFIND PROPPATCH PURGE PUT REBIND REPORT SEARCH SOURCE SUBSCRIBE TRACE UNBIND UNLINK UNLOCK UNSUBSCRIBE`)

// malformed is why Envoy answers 400 to an HTTP/1.1 request before any rule applies, empty if it does not.
func (q *question) malformed() string {
	switch {
	case !slices.Contains(methods, q.Method):
		return fmt.Sprintf("Envoy answers 400, because it does not know the method %q: methods are upper-case", q.Method)
	case strings.ContainsFunc(q.URL.RawQuery, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "Envoy answers 400, because the query holds a space or a character that is not printable ASCII: percent-encode it"
	case slices.ContainsFunc(q.segments(), func(segment string) bool { return strings.Contains(segment, "%00") }):
		return "Envoy answers 400, because the path holds %00: remove it"
	}
	return ""
}
