package translate

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	istio "istio.io/api/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// variant is a part of a rule's matches and the rewrite that they share. Istio rewrites by rule, and what a rewrite replaces depends on the match.
type variant struct {
	matches []*istio.HTTPMatchRequest
	rewrite *istio.HTTPRewrite
}

// sharedBase is the base path of a rule's destinations. They must agree on it, since Istio rewrites the path by rule and not by destination.
func sharedBase(rule *v1alpha1.Rule, shares []share) (string, *field.Error) {
	if ownPath(rule) || len(shares) == 0 {
		return "", nil
	}
	first := shares[0]
	for _, s := range shares[1:] {
		if s.base != first.base {
			return "", field.Invalid(s.path.Child("url"), s.URL, fmt.Sprintf(
				"has another base path than %s, and a rule sends requests to both: Istio rewrites the path by rule, so give them the same, or rules of their own",
				first.path.Child("url")))
		}
	}
	return first.base, nil
}

// ownPath says whether the rule replaces the path by its own words.
func ownPath(rule *v1alpha1.Rule) bool {
	return rule.Rewrite != nil && (rule.Rewrite.URI != "" || rule.Rewrite.URIRegexRewrite != nil)
}

// pathVariants splits a rule by the rewrite that its matches need.
//
// With a base path, "/" becomes the URL as written, and a longer path is appended to it with exactly one slash. Any two variants of a rule give the same
// path the same rewrite, as long as the one for "/" comes first; so the order of the others does not matter.
func pathVariants(rule *v1alpha1.Rule, base string) []variant {
	if ownPath(rule) {
		rewrite := &istio.HTTPRewrite{Uri: rule.Rewrite.URI}
		if r := rule.Rewrite.URIRegexRewrite; r != nil {
			rewrite.UriRegexRewrite = &istio.RegexRewrite{Match: r.Match, Rewrite: r.Rewrite}
		}
		return []variant{{matches: plainMatches(rule.Match), rewrite: rewrite}}
	}
	if base == "" {
		return []variant{{matches: plainMatches(rule.Match), rewrite: &istio.HTTPRewrite{}}}
	}

	matches := rule.Match
	if len(matches) == 0 {
		matches = []v1alpha1.Match{{}}
	}
	s := basePath{asWritten: base, stem: strings.TrimRight(base, "/"), root: variant{rewrite: &istio.HTTPRewrite{Uri: base}}}
	for i := range matches {
		s.split(&matches[i])
	}
	if len(s.root.matches) == 0 {
		return s.others
	}
	return append([]variant{s.root}, s.others...)
}

// basePath collects the variants of a rule whose destinations have a base path.
type basePath struct {
	asWritten string
	// stem is asWritten without its slashes at the end: what a longer path is appended to.
	stem string
	// root are the matches of "/" alone, which becomes asWritten.
	root   variant
	others []variant
}

// split adds the variants that one match needs.
func (b *basePath) split(m *v1alpha1.Match) {
	uri := v1alpha1.StringMatch{Prefix: "/"}
	if m.URI != nil {
		uri = *m.URI
	}
	rootIsPrefix := b.asWritten == b.stem+"/" // then "/" needs no variant of its own
	switch {
	case uri.Exact == "/":
		b.addRoot(m)
	case uri.Exact != "":
		b.add(m, exact(string(uri.Exact)), &istio.HTTPRewrite{Uri: b.stem + string(uri.Exact)})
	case uri.Prefix != "":
		if uri.Prefix == "/" && !rootIsPrefix {
			b.addRoot(m)
		}
		b.add(m, prefix(string(uri.Prefix)), &istio.HTTPRewrite{Uri: b.stem + string(uri.Prefix)})
	default: // Istio's uri would replace the whole path of a regex match
		if matchesRoot(string(uri.Regex)) && !rootIsPrefix {
			b.addRoot(m)
		}
		b.add(m, regex(string(uri.Regex)), &istio.HTTPRewrite{UriRegexRewrite: &istio.RegexRewrite{Match: "^/", Rewrite: b.stem + "/"}})
	}
}

func (b *basePath) addRoot(m *v1alpha1.Match) {
	request := plainMatch(m)
	request.Uri = exact("/")
	b.root.matches = append(b.root.matches, request)
}

func (b *basePath) add(m *v1alpha1.Match, uri *istio.StringMatch, rewrite *istio.HTTPRewrite) {
	request := plainMatch(m)
	request.Uri = uri
	same := slices.IndexFunc(b.others, func(v variant) bool { return proto.Equal(v.rewrite, rewrite) })
	if same >= 0 {
		b.others[same].matches = append(b.others[same].matches, request)
		return
	}
	b.others = append(b.others, variant{matches: []*istio.HTTPMatchRequest{request}, rewrite: rewrite})
}

// matchesRoot says whether an expression matches the path "/" as a whole, as Envoy matches.
func matchesRoot(expression string) bool {
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return false
	}
	compiled, err := regexp.Compile("^(?:" + parsed.String() + ")$") // as written, it may quote to its end: \Q/
	return err == nil && compiled.MatchString("/")
}

func plainMatches(matches []v1alpha1.Match) []*istio.HTTPMatchRequest {
	var plain []*istio.HTTPMatchRequest
	for i := range matches {
		plain = append(plain, plainMatch(&matches[i]))
	}
	return plain
}

func plainMatch(m *v1alpha1.Match) *istio.HTTPMatchRequest {
	return &istio.HTTPMatchRequest{
		Uri:         stringMatch(m.URI),
		Method:      stringMatch(m.Method),
		Headers:     stringMatches(m.Headers),
		QueryParams: stringMatches(m.QueryParams),
	}
}

func stringMatches(matches map[string]v1alpha1.StringMatch) map[string]*istio.StringMatch {
	if len(matches) == 0 {
		return nil
	}
	plain := make(map[string]*istio.StringMatch, len(matches))
	for name, m := range matches {
		plain[name] = stringMatch(&m)
	}
	return plain
}

func stringMatch(m *v1alpha1.StringMatch) *istio.StringMatch {
	switch {
	case m == nil:
		return nil
	case m.Exact != "":
		return exact(string(m.Exact))
	case m.Prefix != "":
		return prefix(string(m.Prefix))
	default:
		return regex(string(m.Regex))
	}
}

func exact(s string) *istio.StringMatch {
	return &istio.StringMatch{MatchType: &istio.StringMatch_Exact{Exact: s}}
}

func prefix(s string) *istio.StringMatch {
	return &istio.StringMatch{MatchType: &istio.StringMatch_Prefix{Prefix: s}}
}

func regex(s string) *istio.StringMatch {
	return &istio.StringMatch{MatchType: &istio.StringMatch_Regex{Regex: s}}
}
