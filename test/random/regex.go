package random

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"pgregory.net/rapid"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// regex draws a regular expression of the grammar that Go and RE2 share, and some beyond it. A part of them is near the size that Envoy takes.
func regex(d *drawing) string {
	switch d.below(16) {
	case 0:
		return d.one(".*", "/.*", "^/api/v[0-9]+/.*$", "(?i)get|post", "[^/]+", "", "a**", "a{1001}", "(", "\\", "(?P<a>b)", "\\p{Greek}", "\\pL{50}", "[[:alpha:]]{1000}",
			"(?:a{1000}){2}", "\\x{100}", "\\C", "\\8", "\\1", "(?=a)", "[a", "x{,3}", "[[:foo:]]", "\\Qa.b\\E", "^*", "$+", "\\b+", "(?i)k", "(?i)\\xe5", "(|a)*", "(a*)*")
	case 1, 4, 5: // one repeat that makes it about as large as Envoy takes
		part := expression(d, 2)
		parsed, err := syntax.Parse(part, syntax.Perl)
		if err != nil {
			return part
		}
		program, err := syntax.Compile(parsed.Simplify())
		if err != nil {
			return part
		}
		return fmt.Sprintf("(?:%s){%d}", part, min(1000, 1+(12000+d.below(24000))/len(program.Inst)))
	case 2: // repeats in repeats
		outer := 2 + d.below(30)
		return fmt.Sprintf("(?:%s(?:%s){%d}){%d}", expression(d, 1), expression(d, 1), 1+d.below(1000/outer), outer)
	case 3: // as long as it may be
		part := expression(d, 2)
		return strings.Repeat(part+d.one("", "", "|"), 1+d.below(1+1024/max(1, len(part))))
	default:
		return expression(d, 4)
	}
}

func expression(d *drawing, depth int) string {
	var out strings.Builder
	if d.chance(1) {
		out.WriteString(d.one("(?i)", "(?s)", "(?U)", "(?m)", "(?is)", "(?-s)", "^", "\\A"))
	}
	for range 1 + d.below(4) {
		out.WriteString(atom(d, depth) + repeat(d))
		if d.chance(2) {
			out.WriteString("|")
		}
	}
	if d.chance(1) {
		out.WriteString(d.one("$", "\\z", "\\b", "\\B", "|"))
	}
	return out.String()
}

func atom(d *drawing, depth int) string {
	switch d.below(8) {
	case 0, 1:
		return d.one("a", "k", "S", "/", "x1", "-", "_", "%", " ", "\\.", "\\/", "\\-", "\\\\", "\\n", "\\t", "\\x41", "\\x{e9}", "\\xff", "\\101", "\\377", "\\Q.*\\E", "~", "\"", "@")
	case 2:
		return d.one(".", "\\d", "\\D", "\\w", "\\W", "\\s", "\\S", "\\pL", "\\pN", "\\PL", "\\pZ", "[[:alpha:]]", "[[:^digit:]]", "[[:word:]]", "[[:space:]]", "\\pS")
	case 3, 4:
		return class(d)
	default:
		if depth == 0 {
			return "b"
		}
		return d.one("(", "(?:", "(?:", "(?i:", "(?s:", "(?U:", "(?-i:") + expression(d, depth-1) + ")"
	}
}

func class(d *drawing) string {
	var out strings.Builder
	out.WriteString(d.one("[", "[", "[^"))
	for range 1 + d.below(6) {
		out.WriteString(d.one("a-z", "0-9", "A-F", "_", "k", "\\-", "\\]", "\\d", "\\S", "\\w", "\\pL", "\\PN", "[:upper:]", "[:^space:]", "\\x00-\\x1f", "\\x80-\\xff", "\\xe0-\\xf0", "!-/", "s", "\\^"))
	}
	return out.String() + "]"
}

func repeat(d *drawing) string {
	switch d.below(4) {
	case 0:
		return d.one("*", "+", "?", "*?", "+?", "??")
	case 1:
		n := 1 + d.below(d.chanceOf(4, 1000, 20))
		return d.one(fmt.Sprintf("{%d}", n), fmt.Sprintf("{%d,}", n), fmt.Sprintf("{0,%d}", n), fmt.Sprintf("{%d,%d}", n/2, n)) + d.one("", "", "?")
	default:
		return ""
	}
}

// chanceOf is one number in some cases of sixteen, else the other.
func (d *drawing) chanceOf(of16, then, otherwise int) int {
	if d.chance(of16) {
		return then
	}
	return otherwise
}

// replacement draws what a regex is replaced by.
func replacement(d *drawing) string {
	if d.chance(4) {
		return d.one("/", "\\0", "/\\1", "\\1\\2", "\\\\", "/x\\9", "a", "\\", "\\a", "/\\1?x", "%", "%FOO%", "/ü", "/ a", "\\10", "/{}", "|", "\\\\1")
	}
	return path(d) + d.one("", "\\1", "\\0", "\\2/")
}

// Regexes draws a manifest whose rules match by nothing but regular expressions, many of them large.
func (g *Generator) Regexes() *rapid.Generator[*unstructured.Unstructured] {
	return rapid.Custom(func(t *rapid.T) *unstructured.Unstructured {
		d := &drawing{t: t}
		var rules []any
		for room := 6000; room > 0; {
			expression := regex(d)
			if len(expression) > room {
				break
			}
			room -= len(expression) + 1
			rule := map[string]any{"match": []any{map[string]any{"uri": map[string]any{"regex": expression}}}}
			if d.chance(4) && len(expression) <= 512 {
				rule["rewrite"] = map[string]any{"uriRegexRewrite": map[string]any{"match": expression, "rewrite": "/"}}
			}
			if rules = append(rules, rule); len(rules) == 32 {
				break
			}
		}
		manifest := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": v1alpha1.SchemeGroupVersion.String(), "kind": "ExternalRoute",
			"spec": map[string]any{
				"hosts":        []any{"r" + d.of(letters, 12, 12)},
				"destinations": []any{map[string]any{"url": "https://" + d.of(letters, 12, 12) + ".example.com"}},
				"rules":        rules,
			},
		}}
		manifest.SetName("r" + d.of(letters, 12, 12))
		manifest.SetNamespace(g.Namespace)
		return manifest
	})
}

// ruleOf reads the number of a rule out of the path of a field.
var ruleOf = regexp.MustCompile(`^spec\.rules\[(\d+)\]`)

// WithoutRules leaves out the rules that have a problem.
func WithoutRules(manifest *unstructured.Unstructured, problems field.ErrorList) {
	refused := map[string]bool{}
	for _, problem := range problems {
		if found := ruleOf.FindStringSubmatch(problem.Field); found != nil {
			refused[found[1]] = true
		}
	}
	var kept []any
	rules, _, _ := unstructured.NestedSlice(manifest.Object, "spec", "rules")
	for i, rule := range rules {
		if !refused[strconv.Itoa(i)] {
			kept = append(kept, rule)
		}
	}
	manifest.Object["spec"].(map[string]any)["rules"] = kept
}
