package docs_test

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/text"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/internal/cli"
)

// block is a fenced block of a page.
type block struct {
	line     int    // of its first line
	language string // what stands behind the fence
	text     string
	notRun   string // why it is not run; empty where it is
	file     string // name under which the page's commands find it; empty where they do not
}

var (
	marker = regexp.MustCompile(`^<!-- not run: (\S.*) -->\n?$`)
	named  = regexp.MustCompile(`^<!-- file: (\S+) -->\n?$`)
)

// blocks returns the fenced blocks of a page, in order. One that hides from the test in another form of Markdown is a mistake.
func blocks(t *testing.T, page string) []block {
	t.Helper()
	source := []byte(read(t, page))
	lineOf := func(node ast.Node) int {
		if node.Lines().Len() == 0 {
			return 0
		}
		return bytes.Count(source[:node.Lines().At(0).Start], []byte("\n")) + 1
	}
	var all []block
	visit := func(node ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering || node.Type() != ast.TypeBlock {
			return ast.WalkContinue, nil
		}
		content := string(node.Lines().Value(source))
		switch node := node.(type) {
		case *ast.FencedCodeBlock:
			found := block{line: lineOf(node), language: string(node.Language(source)), text: content}
			if before, ok := node.PreviousSibling().(*ast.HTMLBlock); ok {
				comment := string(before.Lines().Value(source))
				if match := marker.FindStringSubmatch(comment); match != nil {
					found.notRun = match[1]
				}
				if match := named.FindStringSubmatch(comment); match != nil {
					found.file = match[1]
				}
			}
			all = append(all, found)
		case *ast.CodeBlock:
			t.Errorf("%s:%d: put a fence around this block", page, lineOf(node))
		case *ast.HTMLBlock:
			_, beforeFence := node.NextSibling().(*ast.FencedCodeBlock)
			if strings.Contains(content, "not run") && (!beforeFence || !marker.MatchString(content)) {
				t.Errorf("%s:%d: want `<!-- not run: REASON -->` alone, right before a fence", page, lineOf(node))
			}
		}
		return ast.WalkContinue, nil
	}
	if err := ast.Walk(goldmark.DefaultParser().Parse(text.NewReader(source)), visit); err != nil {
		t.Fatal(err)
	}
	return all
}

// Commands are marked as such, so that none of them is passed over: sh and console are run, and the others hold none.
func TestEveryFenceNamesALanguage(t *testing.T) {
	known := map[string]bool{"sh": true, "console": true, "yaml": true, "promql": true, "mermaid": true}
	for _, page := range documents(t) {
		for _, b := range blocks(t, page) {
			if !known[b.language] {
				t.Errorf("%s:%d: the language is %q: want sh, console, yaml, promql or mermaid", page, b.line, b.language)
			}
		}
	}
}

// egressGateway is the Service that the pages on egress gateways expect.
const egressGateway = `
apiVersion: v1
kind: Service
metadata: {name: istio-egressgateway, namespace: istio-egress}
spec: {selector: {istio: egressgateway}, ports: [{name: https, port: 443}]}
---
`

// What a page shows can be copied: it is admitted, and translated.
func TestEveryManifestTranslates(t *testing.T) {
	seen := 0
	for _, page := range documents(t) {
		for _, b := range blocks(t, page) {
			if b.language != "yaml" || b.notRun != "" {
				continue
			}
			if err := yaml.Unmarshal([]byte(b.text), new(any)); err != nil {
				t.Errorf("%s:%d: %v", page, b.line, err)
			}
			if !strings.Contains(b.text, "kind: ExternalRoute\n") {
				continue
			}
			seen++
			streams, in, _, _ := genericiooptions.NewTestIOStreams()
			in.WriteString(egressGateway + b.text)
			render := cli.New(streams, "")
			render.SetArgs([]string{"render", "--filename=-"})
			if err := render.Execute(); err != nil {
				t.Errorf("%s:%d: %v", page, b.line, err)
			}
		}
	}
	if seen == 0 {
		t.Error("found no manifest: the test looks at the wrong place")
	}
}

// A reader with a task finds the manifest for it, as it stands, and a reader with a manifest finds a page on it.
func TestEverySampleIsInAGuide(t *testing.T) {
	shown := map[string]bool{}
	for _, page := range documents(t) {
		if !strings.HasPrefix(page, "docs/guides/") {
			continue
		}
		for _, link := range links.FindAllStringSubmatch(read(t, page), -1) {
			file, ok := strings.CutPrefix(link[1], "../../")
			if !ok || !strings.HasPrefix(file, "config/") || !strings.HasSuffix(file, ".yaml") {
				continue
			}
			for _, b := range blocks(t, page) {
				shown[file] = shown[file] || b.text == firstManifest(read(t, file))
			}
		}
	}
	for _, pattern := range []string{"config/samples/*.yaml", "config/recipes/*.yaml"} {
		for _, file := range glob(t, pattern) {
			if !strings.HasSuffix(file, "/kustomization.yaml") && !shown[file] {
				t.Errorf("no page of docs/guides links to %s and shows it as it stands", file)
			}
		}
	}
}

// firstManifest returns the first object of a file, without the comment before it.
func firstManifest(sample string) string {
	const first = "apiVersion:"
	route, _, _ := strings.Cut(sample, "---\n")
	_, rest, _ := strings.Cut(route, first)
	return first + rest
}
