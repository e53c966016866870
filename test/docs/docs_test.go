// Package docs_test holds the documents to the code that they speak of.
package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

// Whoever reads a reason in a status looks it up: each has a section that says what it means and what to do.
func TestEveryReasonHasASection(t *testing.T) {
	reasons := reasonConstants(t)
	if len(reasons) == 0 {
		t.Fatal("found no reason: the test looks at the wrong place")
	}
	sections := map[string]string{}
	for _, section := range strings.Split(read(t, "docs/troubleshooting.md"), "\n### ")[1:] {
		name, text, _ := strings.Cut(section, "\n")
		sections[name] = text
	}
	for name, reason := range reasons {
		text, ok := sections[reason]
		switch {
		case !ok:
			t.Errorf("%s (%q) has no section in docs/troubleshooting.md", name, reason)
		case !strings.Contains(text, "**Means:** ") || !strings.Contains(text, "**Do:** "):
			t.Errorf("the section on %s does not say what it means and what to do", reason)
		}
		delete(sections, reason)
	}
	for name := range sections {
		t.Errorf("docs/troubleshooting.md has a section on %q, which is no reason", name)
	}
}

var links = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)

func TestEveryLinkLeadsToAFile(t *testing.T) {
	for _, document := range append(documents(t), glob(t, "docs/commands/*.md")...) {
		for _, link := range links.FindAllStringSubmatch(read(t, document), -1) {
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(document), link[1])); err != nil {
				t.Errorf("%s: %s leads nowhere", document, link[1])
			}
		}
	}
}

var targets = regexp.MustCompile("(?:`|^|\n)make ([a-z0-9-]+)")

func TestEveryMakeTargetExists(t *testing.T) {
	makefile := read(t, "Makefile")
	for _, document := range documents(t) {
		for _, target := range targets.FindAllStringSubmatch(read(t, document), -1) {
			if !strings.Contains(makefile, "\n"+target[1]+": ") {
				t.Errorf("%s: the Makefile has no target %q", document, target[1])
			}
		}
	}
}

var checks = regexp.MustCompile(`set -- ([a-z0-9 -]+)\n`)

func TestContributingNamesWhatCIRuns(t *testing.T) {
	match := checks.FindStringSubmatch(read(t, ".ci/run"))
	if match == nil {
		t.Fatal("found no targets in .ci/run: the test looks at the wrong place")
	}
	if !strings.Contains(read(t, "CONTRIBUTING.md"), "`"+match[1]+"`") {
		t.Errorf("CONTRIBUTING.md does not say that .ci/run makes `%s`", match[1])
	}
}

// reasonConstants returns the exported constants of conditions.go whose names begin with Reason.
func reasonConstants(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), root+"/api/v1alpha1/conditions.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[string]string{}
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Reason") {
			return true
		}
		literal, ok := spec.Values[0].(*ast.BasicLit)
		if !ok {
			t.Fatalf("%s is not a literal", spec.Names[0].Name)
		}
		if reasons[spec.Names[0].Name], err = strconv.Unquote(literal.Value); err != nil {
			t.Fatal(err)
		}
		return true
	})
	return reasons
}

func documents(t *testing.T) []string {
	t.Helper()
	return glob(t, "*.md", "docs/*.md", "docs/design/*.md", "docs/guides/*.md", "docs/runbooks/*.md", "config/*/README.md", "charts/*/README.md")
}

func glob(t *testing.T, patterns ...string) []string {
	t.Helper()
	var all []string
	for _, pattern := range patterns {
		found, err := fs.Glob(os.DirFS(root), pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
