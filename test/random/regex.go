package random

import (
	"fmt"
	"strings"
)

// regex draws a regular expression of the grammar that Go and RE2 share, and some beyond it. A part of them is near the size that Envoy takes.
func regex(d *drawing) string {
	switch d.below(16) {
	case 0:
		return d.one(".*", "/.*", "^/api/v[0-9]+/.*$", "(?i)get|post", "[^/]+", "", "a**", "a{1001}", "(", "\\", "(?P<a>b)", "\\p{Greek}", "\\pL{50}", "[[:alpha:]]{1000}",
			"(?:a{1000}){2}", "\\x{100}", "\\C", "\\8", "\\1", "(?=a)", "[a", "x{,3}", "[[:foo:]]", "\\Qa.b\\E", "^*", "$+", "\\b+", "(?i)k", "(?i)\\xe5", "(|a)*", "(a*)*")
	case 1: // one repeat that makes it large
		return fmt.Sprintf("(?:%s){%d}", expression(d, 2), 50+d.below(950))
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
