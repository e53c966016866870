package translate

import (
	"fmt"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// checkRule says what the CRD's rules cannot say about one rule.
func checkRule(rule *v1alpha1.Rule, path *field.Path) field.ErrorList {
	var problems field.ErrorList
	add := func(problem *field.Error) {
		if problem != nil {
			problems = append(problems, problem)
		}
	}
	for i := range rule.Match {
		m, matchPath := &rule.Match[i], path.Child("match").Index(i)
		add(checkStringMatch(m.URI, matchPath.Child("uri")))
		add(checkStringMatch(m.Method, matchPath.Child("method")))
		for name, condition := range sorted(m.Headers) {
			add(checkStringMatch(&condition, matchPath.Child("headers").Key(name)))
		}
		for name, condition := range sorted(m.QueryParams) {
			add(checkStringMatch(&condition, matchPath.Child("queryParams").Key(name)))
		}
		problems = append(problems, checkHeaderNames(m.Headers, matchPath.Child("headers"))...)
	}
	if rule.Rewrite != nil && rule.Rewrite.URIRegexRewrite != nil {
		add(checkRegexRewrite(rule.Rewrite.URIRegexRewrite, path.Child("rewrite", "uriRegexRewrite")))
	}
	if rule.Headers != nil {
		for name, o := range map[string]*v1alpha1.HeaderOperations{"request": rule.Headers.Request, "response": rule.Headers.Response} {
			if o != nil {
				problems = append(problems, checkHeaderNames(o.Set, path.Child("headers", name, "set"))...)
				problems = append(problems, checkHeaderNames(o.Add, path.Child("headers", name, "add"))...)
			}
		}
	}
	slices.SortStableFunc(problems, func(a, b *field.Error) int { return strings.Compare(a.Field, b.Field) })
	return problems
}

// checkHeaderNames refuses names that differ in case only: they are one header, and which value wins would be chance.
func checkHeaderNames[V any](headers map[string]V, path *field.Path) field.ErrorList {
	var problems field.ErrorList
	seen := map[string]string{}
	for name := range sorted(headers) {
		lower := strings.ToLower(name)
		if other, twice := seen[lower]; twice {
			problems = append(problems, field.Invalid(path.Key(name), name, fmt.Sprintf("is the same header as %q", other)))
		}
		seen[lower] = name
	}
	return problems
}

func checkStringMatch(m *v1alpha1.StringMatch, path *field.Path) *field.Error {
	if m == nil || m.Regex == "" {
		return nil
	}
	return checkRegex(string(m.Regex), path.Child("regex"))
}

func checkRegexRewrite(r *v1alpha1.RegexRewrite, path *field.Path) *field.Error {
	if problem := checkRegex(r.Match, path.Child("match")); problem != nil {
		return problem
	}
	groups := regexp.MustCompile(r.Match).NumSubexp()
	for i := 0; i+1 < len(r.Rewrite); i++ {
		if r.Rewrite[i] != '\\' {
			continue
		}
		i++ // what follows a backslash is a digit or a backslash, by schema
		if group := int(r.Rewrite[i] - '0'); r.Rewrite[i] != '\\' && group > groups {
			return field.Invalid(path.Child("rewrite"), r.Rewrite, fmt.Sprintf("names group %d, and match has %d", group, groups))
		}
	}
	return nil
}

// checkRegex refuses expressions that Envoy refuses: those that do not compile, and those that compile to more than it takes. Envoy reads expressions and
// texts byte by byte (RE2's Latin-1 mode), so that a character above \xff does not exist for it.
func checkRegex(expression string, path *field.Path) *field.Error {
	if wide := wideEscape.FindString(strings.ReplaceAll(expression, `\\`, "")); wide != "" {
		return field.Invalid(path, expression, fmt.Sprintf("Envoy matches bytes and refuses %s, which is above \\xff: write the bytes of its UTF-8 form", wide))
	}
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return field.Invalid(path, expression, err.Error())
	}
	size, err := programSize(parsed)
	if err != nil {
		return field.Invalid(path, expression, err.Error())
	}
	if size > maxProgram {
		return field.Invalid(path, expression, fmt.Sprintf(
			"compiles to about %d instructions, and Envoy takes %d for sure: use fewer repeats and smaller character classes", size, maxProgram))
	}
	return nil
}

// wideEscape finds escapes of characters above \xff: \x{100} and beyond, \400 and beyond.
var wideEscape = regexp.MustCompile(`\\x\{0*[1-9A-Fa-f][0-9A-Fa-f]{2,}\}|\\[4-7][0-7]{2}`)

// sorted ranges over a map by its keys, so that problems are reported in the same order every time.
func sorted[V any](m map[string]V) func(yield func(string, V) bool) {
	return func(yield func(string, V) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}
