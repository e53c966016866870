// Package lint gives advice about routes that are valid. It is pure: it knows the route alone.
package lint

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// Advice is something that a valid route probably does not mean.
type Advice struct {
	// Rule is the name of the rule that found it.
	Rule string
	Path *field.Path
	// Message says what happens, and how to avoid it.
	Message string
}

// Rule finds one kind of mistake.
type Rule struct {
	Name string
	// About is the rule in one sentence.
	About string
	find  func(*v1alpha1.ExternalRoute) []Advice
}

// Rules are all rules, by name.
var Rules = []Rule{
	{"host-wide-tls", "tls.scope Host breaks workloads that call the host over TLS of their own.", hostWideTLS},
	{"no-timeout", "Requests without a timeout wait as long as the destination does.", noTimeout},
	{"prefix-without-slash", "A prefix matches text, and not whole segments of a path.", prefixWithoutSlash},
	{"retries-repeat-post", "A retry condition can repeat a request that the destination has processed.", retriesRepeatPost},
	{"secret-in-header", "A header value is readable for all who may read the route.", secretInHeader},
	{"shadowed-rule", "A rule after one that matches all of its requests never applies.", shadowedRule},
}

// Advise returns the advice of all rules, in the order of the rules.
func Advise(route *v1alpha1.ExternalRoute) []Advice {
	var all []Advice
	for _, rule := range Rules {
		for _, advice := range rule.find(route) {
			advice.Rule = rule.Name
			all = append(all, advice)
		}
	}
	return all
}

func advise(path *field.Path, format string, args ...any) Advice {
	return Advice{Path: path, Message: fmt.Sprintf(format, args...)}
}

var spec = field.NewPath("spec")

func rulePath(i int) *field.Path { return spec.Child("rules").Index(i) }

func hostWideTLS(route *v1alpha1.ExternalRoute) (found []Advice) {
	for i, d := range route.Spec.Destinations {
		if d.TLS != nil && d.TLS.Scope == v1alpha1.TLSScopeHost {
			found = append(found, advise(spec.Child("destinations").Index(i).Child("tls", "scope"),
				"workloads of the namespace that call the host over https send TLS in TLS and fail: use scope Route"))
		}
	}
	return found
}

// noTimeout leaves out what has no requests to wait for: routes of TCP and pass-through routes.
func noTimeout(route *v1alpha1.ExternalRoute) (found []Advice) {
	http := slices.ContainsFunc(route.Spec.Destinations, func(d v1alpha1.Destination) bool { return strings.HasPrefix(string(d.URL), "http") })
	if !http || route.Spec.Timeout != "" {
		return nil
	}
	const message = "requests have no timeout, and a destination that hangs holds its callers: set timeout, such as 15s"
	if len(route.Spec.Rules) == 0 {
		return []Advice{advise(spec.Child("timeout"), message)}
	}
	for i, rule := range route.Spec.Rules {
		if rule.Timeout == "" && rule.DirectResponse == nil {
			found = append(found, advise(rulePath(i).Child("timeout"), message))
		}
	}
	return found
}

func prefixWithoutSlash(route *v1alpha1.ExternalRoute) (found []Advice) {
	for i, rule := range route.Spec.Rules {
		for k, match := range rule.Match {
			if match.URI == nil || match.URI.Prefix == "" || strings.HasSuffix(string(match.URI.Prefix), "/") {
				continue
			}
			found = append(found, advise(rulePath(i).Child("match").Index(k).Child("uri", "prefix"),
				"matches %[1]sabc too, and not only %[1]s and paths below it: use prefix %[1]s/, and a match with exact %[1]s if clients call it", match.URI.Prefix))
		}
	}
	return found
}

// unsent are the conditions under which the destination cannot have received the request.
var unsent = []string{"connect-failure", "refused-stream", "http3-post-connect-failure", "reset-before-request"}

// idempotent are the methods that clients may repeat (RFC 9110, section 9.2.2).
var idempotent = []v1alpha1.MatchText{"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"}

func retriesRepeatPost(route *v1alpha1.ExternalRoute) (found []Advice) {
	if repeats := repeating(route.Spec.Retries); repeats != "" && inheritsRepeats(route) {
		found = append(found, repeated(spec, repeats))
	}
	for i, rule := range route.Spec.Rules {
		if repeats := repeating(rule.Retries); repeats != "" && !repeatable(rule) {
			found = append(found, repeated(rulePath(i), repeats))
		}
	}
	return found
}

func repeated(of *field.Path, condition string) Advice {
	return advise(of.Child("retries", "retryOn"), "%s can repeat a POST that the destination has processed: "+
		"limit it to a rule that matches methods such as GET, or use connect-failure,refused-stream", condition)
}

// inheritsRepeats reports whether requests other than idempotent ones use the retry conditions of the spec.
func inheritsRepeats(route *v1alpha1.ExternalRoute) bool {
	return len(route.Spec.Rules) == 0 || slices.ContainsFunc(route.Spec.Rules, func(r v1alpha1.Rule) bool {
		own := r.Retries != nil && (r.Retries.RetryOn != "" || off(r.Retries))
		return !own && r.DirectResponse == nil && !repeatable(r)
	})
}

func off(r *v1alpha1.Retries) bool { return r.Attempts != nil && *r.Attempts == 0 }

// repeating is the first condition with which the destination may have received the request, empty if there is none.
func repeating(r *v1alpha1.Retries) string {
	if r == nil || r.RetryOn == "" || off(r) {
		return ""
	}
	conditions := strings.Split(r.RetryOn, ",")
	if i := slices.IndexFunc(conditions, func(c string) bool { return !slices.Contains(unsent, c) }); i >= 0 {
		return conditions[i]
	}
	return ""
}

// repeatable reports whether a rule matches only requests that clients may repeat.
func repeatable(rule v1alpha1.Rule) bool {
	return len(rule.Match) > 0 && !slices.ContainsFunc(rule.Match, func(m v1alpha1.Match) bool {
		return m.Method == nil || !slices.Contains(idempotent, m.Method.Exact)
	})
}

// secrets are parts of the names of headers that carry credentials.
var secrets = []string{"authorization", "cookie", "token", "secret", "password", "api-key", "apikey"}

func secretInHeader(route *v1alpha1.ExternalRoute) (found []Advice) {
	for i, rule := range route.Spec.Rules {
		if rule.Headers == nil || rule.Headers.Request == nil {
			continue
		}
		request := rulePath(i).Child("headers", "request")
		for _, of := range []struct {
			path   *field.Path
			values map[string]v1alpha1.HeaderValue
		}{{request.Child("set"), rule.Headers.Request.Set}, {request.Child("add"), rule.Headers.Request.Add}} {
			for _, name := range slices.Sorted(maps.Keys(of.values)) {
				if slices.ContainsFunc(secrets, func(s string) bool { return strings.Contains(strings.ToLower(name), s) }) {
					found = append(found, advise(of.path.Key(name),
						"the value is readable for all who may read routes and VirtualServices: let the workload send the credential"))
				}
			}
		}
	}
	return found
}

func shadowedRule(route *v1alpha1.ExternalRoute) (found []Advice) {
	for i, rule := range route.Spec.Rules {
		if earlier := slices.IndexFunc(route.Spec.Rules[:i], func(e v1alpha1.Rule) bool { return covers(e, rule) }); earlier >= 0 {
			found = append(found, advise(rulePath(i),
				"never applies, because %s matches all of its requests: move it before that rule, or remove it", rulePath(earlier)))
		}
	}
	return found
}

// covers reports whether one rule matches every request that another matches.
func covers(rule, other v1alpha1.Rule) bool {
	if len(rule.Match) == 0 {
		return true
	}
	return len(other.Match) > 0 && !slices.ContainsFunc(other.Match, func(theirs v1alpha1.Match) bool {
		return !slices.ContainsFunc(rule.Match, func(ours v1alpha1.Match) bool { return matchCovers(ours, theirs) })
	})
}

func matchCovers(m, other v1alpha1.Match) bool {
	everyPath := m.URI != nil && m.URI.Prefix == "/"
	return (everyPath || textCovers(m.URI, other.URI)) && textCovers(m.Method, other.Method) &&
		allCover(m.Headers, other.Headers, strings.ToLower) && allCover(m.QueryParams, other.QueryParams, strings.Clone)
}

// allCover compares conditions by name. Names that are spelled alike are the same.
func allCover(conditions, others map[string]v1alpha1.StringMatch, spell func(string) string) bool {
	spelled := map[string]v1alpha1.StringMatch{}
	for name, condition := range others {
		spelled[spell(name)] = condition
	}
	for name, condition := range conditions {
		other, found := spelled[spell(name)]
		if !found || !textCovers(&condition, &other) {
			return false
		}
	}
	return true
}

// textCovers reports whether a condition holds for every text for which another one holds. No condition holds for every text. It does not compare regular
// expressions that differ.
func textCovers(m, other *v1alpha1.StringMatch) bool {
	switch {
	case m == nil:
		return true
	case other == nil:
		return false
	case m.Prefix != "":
		return strings.HasPrefix(string(other.Exact+other.Prefix), string(m.Prefix))
	}
	return *m == *other
}
