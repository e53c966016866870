package explain

import (
	"fmt"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	istio "istio.io/api/networking/v1alpha3"
)

// match returns the first of the matches that the request meets, or for each of them the conditions that fail. No matches match everything.
func (q *question) match(matches []*istio.HTTPMatchRequest) (met *istio.HTTPMatchRequest, failed [][]string) {
	if len(matches) == 0 {
		return &istio.HTTPMatchRequest{}, nil
	}
	for _, m := range matches {
		failures := q.failures(m)
		if len(failures) == 0 {
			return m, nil
		}
		failed = append(failed, failures)
	}
	return nil, failed
}

// failures are the conditions of a match that the request does not meet. Envoy matches paths without the query, and query parameters as they are written.
func (q *question) failures(m *istio.HTTPMatchRequest) (failures []string) {
	check := func(what, text string, exists bool, condition *istio.StringMatch) {
		switch {
		case condition == nil:
		case !exists:
			failures = append(failures, what+" is missing")
		default:
			if why := mismatch(text, condition); why != "" {
				failures = append(failures, fmt.Sprintf("%s %q %s", what, text, why))
			}
		}
	}
	check("method", q.Method, true, m.Method)
	check("path", q.path(), true, m.Uri)
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		switch value, why, exists := q.header(name, m.Headers[name]); {
		case !exists:
			failures = append(failures, "header "+name+" is missing")
		case why != "":
			failures = append(failures, fmt.Sprintf("header %s %q %s", name, value, why))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.QueryParams)) {
		value, exists := parameter(q.URL.RawQuery, name)
		check("query parameter "+name, value, exists, m.QueryParams[name])
	}
	return failures
}

// joined are headers of which Envoy makes one line when they repeat, without empty values.
var joined = strings.Fields(`accept accept-encoding access-control-request-headers access-control-request-method authorization cache-control
	content-encoding content-type grpc-timeout if-match if-modified-since if-none-match if-range if-unmodified-since origin pragma referer via`)

// header is the value of a header that a condition is about, with why it fails. Envoy compares with the value of each line, and with all of them joined.
func (q *question) header(name string, condition *istio.StringMatch) (value, why string, exists bool) {
	name = strings.ToLower(name)
	values := q.Headers[name]
	if len(values) == 0 {
		return "", "", false
	}
	candidates := append(slices.Clone(values), strings.Join(values, ","))
	if slices.Contains(joined, name) {
		candidates = []string{strings.Join(slices.DeleteFunc(slices.Clone(values), func(v string) bool { return v == "" }), ",")}
	}
	for _, value = range candidates {
		if why = mismatch(value, condition); why == "" {
			break
		}
	}
	return value, why, true
}

// isEnvoys reports whether Envoy sets, changes or removes a header of requests itself, so that a client does not decide what a rule matches.
func isEnvoys(name string) bool {
	name = strings.ToLower(name)
	return strings.HasPrefix(name, "x-envoy-") || strings.HasPrefix(name, "x-forwarded-") || name == "x-request-id"
}

// mismatch is why a text does not meet a condition, empty if it does.
func mismatch(text string, condition *istio.StringMatch) string {
	switch c := condition.MatchType.(type) {
	case *istio.StringMatch_Exact:
		if text != c.Exact {
			return fmt.Sprintf("is not %q", c.Exact)
		}
	case *istio.StringMatch_Prefix:
		if !strings.HasPrefix(text, c.Prefix) {
			return fmt.Sprintf("does not start with %q", c.Prefix)
		}
	case *istio.StringMatch_Regex:
		if !regexp.MustCompile(`\A(?:` + inGo(c.Regex) + `)\z`).MatchString(bytewise(text)) {
			return fmt.Sprintf("does not match %q as a whole", c.Regex)
		}
	}
	return ""
}

// parameter is the first value of a query parameter. Envoy does not decode it.
func parameter(query, name string) (value string, exists bool) {
	for pair := range strings.SplitSeq(query, "&") {
		if key, value, _ := strings.Cut(pair, "="); key == name && pair != "" {
			return value, true
		}
	}
	return "", false
}

// rewritten is the path and query that leave, for the match that the request meets.
func (q *question) rewritten(met *istio.HTTPMatchRequest, rewrite *istio.HTTPRewrite) string {
	path := q.path()
	switch {
	case rewrite.GetUri() != "" && met.Uri == nil: // Istio writes a prefix match of "/"
		path = rewrite.Uri + strings.TrimPrefix(path, "/")
	case rewrite.GetUri() != "" && met.Uri.GetPrefix() != "":
		path = rewrite.Uri + strings.TrimPrefix(path, met.Uri.GetPrefix())
	case rewrite.GetUri() != "":
		path = rewrite.Uri
	case rewrite.GetUriRegexRewrite() != nil:
		r := rewrite.UriRegexRewrite
		path = characters(regexp.MustCompile(inGo(r.Match)).ReplaceAllString(bytewise(path), bytewise(template(r.Rewrite))))
	}
	if q.URL.RawQuery != "" || q.URL.ForceQuery {
		path += "?" + q.URL.RawQuery
	}
	return path
}

// template is a replacement of RE2 in Go's words.
func template(replacement string) string {
	return escapes.ReplaceAllStringFunc(replacement, func(s string) string {
		switch s {
		case "$":
			return "$$"
		case `\\`:
			return `\`
		}
		return "${" + s[1:] + "}"
	})
}

var escapes = regexp.MustCompile(`\\[0-9\\]|\$`)

// inGo is an expression that the translation has checked, for Go. As written it may quote to its end (\Q), so that nothing could be appended to it.
func inGo(expression string) string {
	parsed, err := syntax.Parse(bytewise(expression), syntax.Perl)
	if err != nil {
		panic(err)
	}
	return parsed.String()
}

// bytewise makes a character of each byte, as Envoy reads expressions and texts.
func bytewise(text string) string {
	runes := make([]rune, len(text))
	for i := range len(text) {
		runes[i] = rune(text[i])
	}
	return string(runes)
}

// characters undoes bytewise.
func characters(text string) string {
	var raw []byte
	for _, r := range text {
		raw = append(raw, byte(r)) //nolint:gosec // a byte before
	}
	return string(raw)
}

// fewest leaves out failures that include all of others, and those that are there twice: a match that the translation split fails by what its parts share.
func fewest(failed [][]string) (kept [][]string) {
	includes := func(all, part []string) bool {
		return !slices.ContainsFunc(part, func(s string) bool { return !slices.Contains(all, s) })
	}
	for i, f := range failed {
		covered := false
		for j, other := range failed {
			covered = covered || i != j && includes(f, other) && (len(other) < len(f) || j < i)
		}
		if !covered {
			kept = append(kept, f)
		}
	}
	return kept
}
