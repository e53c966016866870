package random

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"pgregory.net/rapid"
)

// Mark is the request header by which rules of callable routes mark what they forward: NAME/INDEX.
const Mark = "x-marked-by-rule"

// Callables draws manifests of routes that a test can call: any server answers for their destinations at once, and their rules have conditions that rival
// each other.
func (g *Generator) Callables() *rapid.Generator[*unstructured.Unstructured] {
	return rapid.Custom(func(t *rapid.T) *unstructured.Unstructured {
		d, manifest := g.drawManifest(t)
		spec, is := manifest.Object["spec"].(map[string]any)
		if !is {
			return manifest
		}
		remove(spec, "waypoint", "suspend", "timeout", "retries")
		for _, destination := range itemsOf(spec["destinations"]) {
			remove(destination, "endpoints", "resolution", "connectionPool", "outlierDetection")
			if tls, is := destination["tls"].(map[string]any); is {
				remove(tls, "caCertificateRefs", "clientCertificateRef")
				if len(tls) == 0 {
					delete(destination, "tls")
				}
			}
		}
		if d.chance(3) && spec["egressGateway"] == nil {
			spec["exportTo"] = []any{".", d.one("other", "*")}
		}
		rules := itemsOf(spec["rules"])
		if address := firstURL(spec); strings.HasPrefix(address, "http") {
			for d.chance(14) && len(rules) < 8 {
				rules = append(rules, map[string]any{"match": []any{map[string]any{}}})
			}
		}
		var list []any
		for i, rule := range rules {
			callable(d, rule, fmt.Sprintf("%s/%d", manifest.GetName(), i))
			list = append(list, rule)
		}
		if list != nil {
			spec["rules"] = list
		}
		return manifest
	})
}

func firstURL(spec map[string]any) string {
	for _, destination := range itemsOf(spec["destinations"]) {
		address, _ := destination["url"].(string)
		return address
	}
	return ""
}

func remove(object map[string]any, fields ...string) {
	for _, field := range fields {
		delete(object, field)
	}
}

func itemsOf(list any) (items []map[string]any) {
	all, _ := list.([]any)
	for _, item := range all {
		if typed, is := item.(map[string]any); is {
			items = append(items, typed)
		}
	}
	return items
}

// callable makes a rule one whose requests are answered at once, and tell which rule took them.
func callable(d *drawing, rule map[string]any, mark string) {
	remove(rule, "timeout", "retries", "headers")
	if fault, is := rule["fault"].(map[string]any); is {
		delete(fault, "delay")
		if len(fault) == 0 {
			delete(rule, "fault")
		}
	}
	switch d.below(8) {
	case 0:
		remove(rule, "rewrite", "destinations", "fault")
		rule["directResponse"] = map[string]any{"status": []any{200, 204, 404, 418, 503}[d.below(5)]}
	case 1:
		delete(rule, "directResponse")
		rule["fault"] = map[string]any{"abort": map[string]any{"percentage": []any{100, 100, 50, 0}[d.below(4)], "httpStatus": []any{400, 404, 503}[d.below(3)]}}
	}
	if response, is := rule["directResponse"].(map[string]any); is {
		if response["body"] = mark; fmt.Sprint(response["status"]) == "204" || fmt.Sprint(response["status"]) == "304" {
			delete(response, "body")
		}
	} else {
		rule["headers"] = map[string]any{"request": map[string]any{"set": map[string]any{Mark: mark}}}
		if d.chance(6) {
			rule["rewrite"] = map[string]any{"uri": d.one("/", "/x", "/x/", "/x%2Fy")}
		}
	}
	matches := itemsOf(rule["match"])
	for _, match := range matches {
		conditions, _ := match["headers"].(map[string]any)
		for name := range conditions {
			if isWritten(strings.ToLower(name)) {
				delete(conditions, name)
			}
		}
		if len(conditions) == 0 {
			delete(match, "headers")
		}
		rivals(d, match)
	}
	if rewrite, is := rule["rewrite"].(map[string]any); is && d.chance(4) && !strings.Contains(fmt.Sprint(matches), "prefix") {
		rule["rewrite"] = map[string]any{"uriRegexRewrite": replacements[d.below(len(replacements))]}
		if rewrite["authority"] != nil {
			rule["rewrite"].(map[string]any)["authority"] = rewrite["authority"]
		}
	}
}

// ofTheConnection are headers that clients and proxies write themselves, and that an answer about a request cannot know.
var ofTheConnection = map[string]bool{
	"host": true, "content-length": true, "transfer-encoding": true, "connection": true, "upgrade": true, "te": true, "trailer": true, "expect": true,
	"keep-alive": true, "proxy-connection": true, "user-agent": true, "x-request-id": true, "accept-encoding": true,
}

// isWritten reports whether clients or proxies write a header.
func isWritten(name string) bool {
	return ofTheConnection[name] || strings.HasPrefix(name, "x-envoy-") || strings.HasPrefix(name, "x-forwarded-")
}

// rivals gives a match conditions that other rules have too, or nearly.
func rivals(d *drawing, match map[string]any) {
	if match["uri"] == nil || d.chance(8) {
		match["uri"] = condition(d, paths, pathExpressions)
	}
	if d.chance(3) {
		match["method"] = condition(d, methods, []string{"GET|POST", "P.*", "(?i)get"})
	}
	if d.chance(4) {
		match["headers"] = map[string]any{d.one(names...): condition(d, values, valueExpressions)}
	}
	if d.chance(4) {
		match["queryParams"] = map[string]any{d.one("q", "Q", "x.y"): condition(d, values, valueExpressions)}
	}
	if d.chance(2) && len(match) > 1 {
		delete(match, "uri")
	}
}

func condition(d *drawing, texts, expressions []string) map[string]any {
	switch d.below(3) {
	case 0:
		return map[string]any{"exact": d.one(texts...)}
	case 1:
		return map[string]any{"prefix": d.one(texts...)}
	}
	return map[string]any{"regex": d.one(expressions...)}
}

var (
	paths           = []string{"/", "/a", "/a/", "/a/b", "/A", "/a%2Fb", "/a%20b", "/a;v=1", "/~a", "/a.b", "/a/b/c", "/b", "/%C3%A9"}
	pathExpressions = []string{
		"/a.*", "/[^/]+", "/a/?", "/(a|b)/.*", "(?i)/A", "/a%2[fF].*", `/.+\.txt`, `/\w+`,
		`/\x25c3.*`, `/[^\x00-\x7f]+`, `/[[:alpha:]/]+`, "^/b$", "/a|/b",
	}
	methods = []string{"GET", "POST", "PUT", "P"}
	names   = strings.Fields(`x-tier x-tier x-tier x-tier x-tier X-Tier X-Tier cookie cookie cookie accept authorization content-type referer origin via
		cache-control accept-language x-custom range if-match if-none-match content-encoding access-control-request-method pragma traceparent grpc-timeout forwarded`)
	values = []string{"gold", "go", "Gold", "a%20b", "a b", "1", "gold,silver"}

	valueExpressions = []string{"g.*", "gold|silver", ".*,silver", "(?i)GOLD", `\d+`, `[\xc3]\xa9.?`, `a[ +%].*`, ".+", ".*"}

	replacements = []map[string]any{
		{"match": "^/a/(.*)$", "rewrite": `/\1`},
		{"match": "a", "rewrite": "bb"},
		{"match": `/(\w)`, "rewrite": `\0\1`},
		{"match": "/x*", "rewrite": "/-"},
		{"match": "%..", "rewrite": "/"},
		{"match": "(?i)A|$", "rewrite": "$1"},
		{"match": `\b`, "rewrite": `\\`},
		{"match": "b*$", "rewrite": "/y"},
	}
)
