package translate_test

import (
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/externalroute/externalroute/internal/admission"
	"github.com/externalroute/externalroute/internal/translate"
)

// The targets below judge by net/url and by what Envoy does with a rewrite, not by the translation's own words. `go test` runs what testdata/fuzz keeps;
// `go test -fuzz FuzzURL ./internal/translate` looks for more.

// become admits and translates a route of one destination. It returns nothing where the API server refuses the route, or the translation does.
func become(t *testing.T, judge *admission.Admission, spec map[string]any) (*translate.Translation, *translate.Refusal) {
	t.Helper()
	manifest := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.externalroute.io/v1alpha1", "kind": "ExternalRoute",
		"metadata": map[string]any{"name": "web", "namespace": "demo"}, "spec": spec,
	}}
	route, problems := judge.Admit(t.Context(), manifest)
	if len(problems) > 0 {
		return nil, nil
	}
	return translate.Translate(route, translate.Mesh{ClusterDomain: translate.DefaultClusterDomain})
}

func newJudge(f *testing.F) *admission.Admission {
	f.Helper()
	judge, err := admission.New()
	if err != nil {
		f.Fatal(err)
	}
	return judge
}

// What the objects say of a URL is what net/url reads in it, and together they are the URL again.
func FuzzURL(f *testing.F) {
	judge := newJudge(f)
	for _, seed := range []string{
		"https://example.com", "http://example.com:8080/a/b/", "https://xn--bcher-kva.example:443/%2F//x;y=z@w:1", "https://a.b:65535/~!$&'()*+,;=:@", "http://1.2.3.4/",
		"https://[::1]/", "https://user@example.com/", "https://example.com:/", "https://example.com:080/", "https://example.com./", "https://0x7f.1/", "http://EXAMPLE.com",
		"https://example.com/a?b", "https://example.com/#", "https://example.com\\@evil.org/", "https://example.com/%", "https:///x", "https:example.com",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		translation, refusal := become(t, judge, map[string]any{"hosts": []any{"web"}, "destinations": []any{map[string]any{"url": raw}}})
		if translation == nil {
			if refusal != nil && !strings.HasPrefix(refusal.Problems[0].Field, "spec.destinations[0].url") {
				t.Fatalf("refused elsewhere: %s", refusal.Message())
			}
			return
		}
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatalf("accepted, and net/url refuses it: %v", err)
		}
		port := map[string]uint32{"http": 80, "https": 443}[u.Scheme]
		authority := u.Hostname()
		if u.Port() != "" {
			number, err := strconv.ParseUint(u.Port(), 10, 16)
			if err != nil {
				t.Fatal(err)
			}
			if number != uint64(port) {
				authority = u.Host
			}
			port = uint32(number)
		}
		if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "" {
			t.Errorf("accepted with more than scheme, host, port and path: %#v", u)
		}
		if messages := validation.IsDNS1123Subdomain(u.Hostname()); len(messages) > 0 || !strings.Contains(u.Hostname(), ".") {
			t.Errorf("accepted, and the host is no DNS name: %v", messages)
		}
		if _, err := netip.ParseAddr(u.Hostname()); err == nil {
			t.Error("accepted, and the host is an IP address")
		}

		entry, rule := &only[*networkingv1.ServiceEntry](t, translation).Spec, &only[*networkingv1.DestinationRule](t, translation).Spec
		if entry.Hosts[0] != u.Hostname() || entry.Ports[0].Number != port || (entry.Ports[0].Protocol == "TLS") != (u.Scheme == "https") {
			t.Errorf("the ServiceEntry is for %v %v", entry.Hosts, entry.Ports)
		}
		tls := rule.Subsets[0].TrafficPolicy.Tls
		if rule.Host != u.Hostname() || (tls.Mode == istio.ClientTLSSettings_SIMPLE) != (u.Scheme == "https") {
			t.Errorf("the DestinationRule is for %v with TLS %v", rule.Host, tls)
		}
		if u.Scheme == "https" && (tls.Sni != u.Hostname() || len(tls.SubjectAltNames) != 1 || tls.SubjectAltNames[0] != u.Hostname()) {
			t.Errorf("TLS is for %v and %v", tls.Sni, tls.SubjectAltNames)
		}
		routes := httpRoutes(t, translation)
		for _, route := range routes {
			if to := route.Route[0].Destination; to.Host != u.Hostname() || to.Port.Number != port || route.Rewrite.Authority != authority {
				t.Errorf("the VirtualService goes to %v as %s", to, route.Rewrite.Authority)
			}
		}
		want := u.EscapedPath()
		if want == "" {
			want = "/"
		}
		if got := rewritten(routes, "/"); got != want {
			t.Errorf("/ becomes %q, not %q", got, want)
		}
	})
}

// A host is served under the very name that was written, completed for a Service.
func FuzzHost(f *testing.F) {
	judge := newJudge(f)
	for _, seed := range []string{
		"web", "web.demo.svc", "web.demo.svc.cluster.local", "api.example.com", "web.other.svc", "a.demo.svc.example.org", "example.com", "web.demo", "Web", "*", "10.0.0.1",
		"web.", "a--b", "0", "xn--bcher-kva", "api.example.com.", "localhost", "web.demo.svc.", "-a", strings.Repeat("a", 64), "api.example.com:80",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, host string) {
		translation, refusal := become(t, judge, map[string]any{
			"hosts": []any{host}, "destinations": []any{map[string]any{"url": "https://api.example.com"}},
		})
		if translation == nil {
			if refusal != nil && !strings.HasPrefix(refusal.Problems[0].Field, "spec.hosts[0]") {
				t.Fatalf("refused elsewhere: %s", refusal.Message())
			}
			return
		}
		if u, err := url.Parse("http://" + host + "/"); err != nil || u.Host != host || u.Hostname() != host {
			t.Errorf("accepted, and http://%s/ is not a URL of that host: %v", host, err)
		}
		served := only[*networkingv1.VirtualService](t, translation).Spec.Hosts
		services := translate.Of[*corev1.Service](translation.Objects)
		if host == "api.example.com" {
			if len(services) > 0 || len(served) != 1 || served[0] != host || translation.Hosts[0].Name != host {
				t.Errorf("in place, and served as %v with %d Services", served, len(services))
			}
			return
		}
		name, _, _ := strings.Cut(host, ".")
		full := name + ".demo.svc.cluster.local"
		if len(services) != 1 || services[0].Name != name || translation.Hosts[0].Name != full {
			t.Fatalf("Services %v, hosts %v", services, translation.Hosts)
		}
		if messages := validation.IsDNS1035Label(name); len(messages) > 0 {
			t.Errorf("accepted, and no Service can be called so: %v", messages)
		}
		if len(served) != 1 || (served[0] != full && (served[0] != host || strings.Contains(host, "."))) || !strings.HasPrefix(full, host) {
			t.Errorf("served as %v, and %s in full", served, full)
		}
	})
}

// However a rule matches a path, it reaches the URL with the path behind it: one slash in between, and "/" is the URL as written.
func FuzzBasePath(f *testing.F) {
	judge := newJudge(f)
	for _, seed := range [][2]string{
		{"", "/"},
		{"/", "/x"},
		{"/a", "/"},
		{"/a", "/x"},
		{"/a/", "/"},
		{"/a/", "/x/"},
		{"/a//", "//x"},
		{"//", "/x"},
		{"/a.b;c=d", "/%2F"},
		{"/%2e%2e", "/x"},
		{"/$1", "/\\1"},
		{"/a", "/a"},
		{"/(.*)", "/x"},
		{"/a&b", "/x?y"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, base, path string) {
		if base != "" && base[0] != '/' { // then it belongs to the host
			return
		}
		want := strings.TrimRight(base, "/") + path
		if path == "/" && base != "" {
			want = base
		}
		exactly, prefix := map[string]any{"exact": path}, map[string]any{"prefix": path}
		for _, uri := range []map[string]any{nil, {"prefix": "/"}, {"regex": ".*"}, {"regex": "/.*"}, exactly, prefix} {
			spec := map[string]any{"hosts": []any{"web"}, "destinations": []any{map[string]any{"url": "https://api.example.com" + base}}}
			if uri != nil {
				spec["rules"] = []any{map[string]any{"match": []any{map[string]any{"uri": uri}}}}
			}
			translation, refusal := become(t, judge, spec)
			if refusal != nil {
				t.Fatal(refusal.Message())
			}
			if translation == nil || !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "\r\n") {
				continue
			}
			if got := rewritten(httpRoutes(t, translation), path); got != want {
				t.Errorf("%s behind %q, matched by %v, becomes %q, not %q", path, base, uri, got, want)
			}
		}
	})
}

// only returns the one object of its kind.
func only[T translate.Object](t *testing.T, translation *translate.Translation) T {
	t.Helper()
	all := translate.Of[T](translation.Objects)
	if len(all) != 1 {
		t.Fatalf("%d objects of type %T, not one", len(all), *new(T))
	}
	return all[0]
}

func httpRoutes(t *testing.T, translation *translate.Translation) []*istio.HTTPRoute {
	t.Helper()
	return only[*networkingv1.VirtualService](t, translation).Spec.Http
}

// rewritten is what Envoy makes of a path by the first route that matches it.
func rewritten(routes []*istio.HTTPRoute, path string) string {
	for _, route := range routes {
		rewrite := route.Rewrite
		for _, match := range append(route.Match, always(route.Match)...) {
			uri := match.Uri
			if !matches(uri, path) {
				continue
			}
			switch {
			case rewrite.UriRegexRewrite != nil:
				return regexp.MustCompile(rewrite.UriRegexRewrite.Match).ReplaceAllLiteralString(path, rewrite.UriRegexRewrite.Rewrite)
			case rewrite.Uri == "":
				return path
			case uri.GetPrefix() != "":
				return rewrite.Uri + strings.TrimPrefix(path, uri.GetPrefix())
			case uri == nil:
				return rewrite.Uri + strings.TrimPrefix(path, "/")
			default:
				return rewrite.Uri
			}
		}
	}
	return "404"
}

// always is the match of a route that has none.
func always(matches []*istio.HTTPMatchRequest) []*istio.HTTPMatchRequest {
	if len(matches) == 0 {
		return []*istio.HTTPMatchRequest{{}}
	}
	return nil
}

func matches(uri *istio.StringMatch, path string) bool {
	switch typed := uri.GetMatchType().(type) {
	case *istio.StringMatch_Exact:
		return path == typed.Exact
	case *istio.StringMatch_Prefix:
		return strings.HasPrefix(path, typed.Prefix)
	case *istio.StringMatch_Regex:
		return matchesWhole(typed.Regex, path)
	}
	return true
}

// matchesWhole says whether an expression matches all of a text: then the longest match is all of it.
func matchesWhole(expression, text string) bool {
	compiled := regexp.MustCompile(expression)
	compiled.Longest()
	return slices.Equal(compiled.FindStringIndex(text), []int{0, len(text)})
}

// An expression that is accepted compiles, is accepted in a group too, and sends "/" to the URL as written where it matches that; one that is refused is
// refused by its field.
func FuzzRegex(f *testing.F) {
	judge := newJudge(f)
	for _, seed := range []string{
		".*", "/api/v[0-9]+/.*", "(?i)get|post", "a**", "a{1001}", "(?:a{1000}){40}", "\\pL{50}", "\\x{100}", "\\400", "\\Q\\E\\x{100}", "\\Q/", "(?s:a*)*/", "[[:alpha:]]", "(?P<a>b)", "(", "\\C",
		"^*", "(?:(?:\\pN{10}){10}){10}", "[^\\x00-\\xff]", "\\", "(?i)k", "(|a)*",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, expression string) {
		try := func(expression string) *translate.Translation {
			translation, refusal := become(t, judge, map[string]any{
				"hosts": []any{"web"}, "destinations": []any{map[string]any{"url": "https://api.example.com/base"}},
				"rules": []any{map[string]any{"match": []any{map[string]any{"uri": map[string]any{"regex": expression}}}}},
			})
			if refusal != nil && refusal.Problems[0].Field != "spec.rules[0].match[0].uri.regex" {
				t.Fatalf("refused elsewhere: %s", refusal.Message())
			}
			return translation
		}
		translation := try(expression)
		if translation == nil {
			return
		}
		if _, err := regexp.Compile(expression); err != nil {
			t.Fatalf("accepted, and it does not compile: %v", err)
		}
		want := "404"
		if matchesWhole(expression, "/") {
			want = "/base"
		}
		if got := rewritten(httpRoutes(t, translation), "/"); got != want {
			t.Errorf("/ becomes %q, not %q", got, want)
		}
		if grouped := "(?:" + expression + ")"; len(grouped) <= 1024 && try(grouped) == nil && !strings.Contains(expression, "\\Q") {
			t.Errorf("accepted, and refused in a group")
		}
	})
}
