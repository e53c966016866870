//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/externalroute/externalroute/test/e2e/bench"
)

// One gateway carries the routes of two namespaces, which call the same hosts. The mesh lets nothing else out.
func TestEgressGateway(t *testing.T) {
	const first, second, out = "egress-first", "egress-second", "egress-out"
	one, two := mesh.Serve(t, &bench.Upstream{Host: "one.egress.example.com"}), mesh.Serve(t, &bench.Upstream{Host: "two.egress.example.com"})
	passed := mesh.Serve(t, &bench.Upstream{Host: "passed.egress.example.com"})
	g := egress(t, out, "egress")
	apps := []*bench.App{begin(t, first), begin(t, second)}
	for _, app := range apps {
		apply(t, app.Namespace, "registry-only.yaml")
		apply(t, app.Namespace, "egress.yaml", "GATEWAY", reference(g), "HOST", one.Host)
		apply(t, app.Namespace, "egress-pass.yaml", "GATEWAY", reference(g), "HOST", passed.Host)
	}
	for _, app := range apps {
		t.Run("requests of "+app.Namespace+" leave through the gateway", func(t *testing.T) {
			ready(t, app.Namespace)
			arrivedAt(t, g)
			one.Requests()
			answers(t, app, "http://web/x?q=1", one.Host+" GET /x?q=1")
			unmarked(t, last(t, one))
			logged(t, g, `"GET /x?q=1 HTTP/1.1" 200`, app.Namespace+".externalroute.internal", one.Address+":443")
			kept(t, app, one)
		})
		t.Run("connections of "+app.Namespace+" pass the gateway with their own TLS", func(t *testing.T) {
			passed.Requests()
			answers(t, app, "https://"+passed.Host+"/x", passed.Host+" GET /x")
			seen := last(t, passed)
			same(t, "SNI", seen.SNI, passed.Host)
			same(t, "HTTP version", seen.Proto, "HTTP/2.0")
			app.Hangup()                        // Envoy logs a connection at its end
			logged(t, g, passed.Address+":443") // by the older route of that host, whichever namespace it is in
			kept(t, app, passed)
		})
	}
	t.Run("a namespace that goes leaves the other's connections alone", func(t *testing.T) {
		load := apps[1].LoadAnew(5, "http://web/", "https://"+passed.Host+"/")
		more(t, load)
		kubectl(t, "", "delete", "externalroutes", "--all", "--namespace", first)
		await(t, "the garbage collector to delete everything", func() (string, bool) {
			left := everything(t, first)
			return left, left == ""
		})
		arrivedAt(t, g)
		lostNothing(t, load, "")
		if got := apps[0].Fresh(t.Context(), "https://"+passed.Host+"/"); got.Err == nil {
			t.Errorf("the host still answers the namespace that went: %s", got)
		}
	})
	encrypted(t, one, two, passed)
}

// The rules of a route work at the gateway as they do at a sidecar.
func TestEgressGatewayRules(t *testing.T) {
	const namespace, out = "egress-rules", "egress-rules-out"
	one := mesh.Serve(t, &bench.Upstream{Host: "one.rules.example.com", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/slow":
			<-r.Context().Done()
		case r.Header.Get("Upgrade") == "websocket":
			echoes(w, r)
		default:
			size, _ := io.Copy(io.Discard, r.Body)
			fmt.Fprintf(w, "%s %s %d", r.Host, r.URL.Path, size)
		}
	})})
	two := mesh.Serve(t, &bench.Upstream{Host: "two.rules.example.com"})
	g := egress(t, out, "rules")
	app := begin(t, namespace)
	apply(t, namespace, "registry-only.yaml")
	apply(t, namespace, "egress-rules.yaml", "GATEWAY", reference(g), "ONE", one.Host, "TWO", two.Host)
	ready(t, namespace)
	refuses(t, app, "http://rules/tea", http.StatusTeapot)

	t.Run("headers and paths", func(t *testing.T) {
		r := request(t, http.MethodGet, "http://rules/me/x?q=1", "")
		r.Header.Set("x-who", "me")
		same(t, "answer", app.Do(r).String(), fmt.Sprintf("200 %q", two.Host+" GET /you/x?q=1"))
		seen := last(t, two)
		unmarked(t, seen)
		same(t, "x-set", seen.Header.Get("x-set"), "yes")
		same(t, "x-who", seen.Header.Get("x-who"), "")
	})
	t.Run("answers of its own", func(t *testing.T) {
		same(t, "direct response", app.Get(t.Context(), "http://rules/tea").String(), `418 "short and stout"`)
		same(t, "fault", app.Get(t.Context(), "http://rules/law").Status, http.StatusUnavailableForLegalReasons)
		same(t, "no rule", app.Get(t.Context(), "http://rules/other").Status, http.StatusNotFound)
	})
	t.Run("timeout", func(t *testing.T) {
		same(t, "status", app.Get(t.Context(), "http://rules/slow").Status, http.StatusGatewayTimeout)
	})
	t.Run("weights, each destination with its own authority", func(t *testing.T) {
		served := map[string]int{}
		for range 200 {
			response := app.Get(t.Context(), "http://rules/both")
			host, _, _ := strings.Cut(response.Body, " ")
			served[host]++
		}
		if served[one.Host] < 50 || served[two.Host] < 50 || len(served) != 2 {
			t.Errorf("served by %v", served)
		}
	})
	t.Run("a large body", func(t *testing.T) {
		const size = 5 << 20
		await(t, "an answer of "+one.Host, func() (string, bool) {
			got := app.Do(request(t, http.MethodPost, "http://rules/both", strings.Repeat("x", size)))
			return got.String(), got.Body == fmt.Sprintf("%s /both %d", one.Host, size)
		})
	})
	t.Run("WebSocket", func(t *testing.T) {
		await(t, "an echo of "+one.Host, func() (string, bool) {
			connection, _, err := websocket.Dial(t.Context(), "ws://rules/both", &websocket.DialOptions{HTTPClient: app.Client(nil)}) //nolint:bodyclose // the connection is the body
			if err != nil {
				return err.Error(), false // the other destination has none
			}
			defer connection.CloseNow()
			if err := connection.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
				return err.Error(), false
			}
			_, echo, err := connection.Read(t.Context())
			return fmt.Sprint(string(echo), err), string(echo) == "hello"
		})
	})
	encrypted(t, one, two)
}

// A gateway carries what a sidecar does: plain http, a CA of the user's own, and a host that workloads call by its real name.
func TestEgressGatewayKinds(t *testing.T) {
	const namespace, out = "egress-kinds", "egress-kinds-out"
	plain := mesh.Serve(t, &bench.Upstream{Host: "plain.egress.example.com", Plain: true})
	inPlace := mesh.Serve(t, &bench.Upstream{Host: "in-place.egress.example.com"})
	authority, err := bench.NewAuthority("the company's")
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := authority.Server(time.Now().AddDate(0, 0, 1), "company.egress.example.com")
	if err != nil {
		t.Fatal(err)
	}
	company := mesh.Serve(t, &bench.Upstream{Host: "company.egress.example.com", Certificate: &certificate})
	g := egress(t, out, "kinds")
	app := begin(t, namespace)
	apply(t, namespace, "registry-only.yaml")
	bundle := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "company-ca"}, Data: map[string]string{"ca.crt": string(authority.PEM())}}
	if err := mesh.Cluster.Create(t.Context(), bundle); err != nil {
		t.Fatal(err)
	}
	apply(t, namespace, "egress-kinds.yaml", "GATEWAY", reference(g), "PLAIN", plain.Host, "COMPANY", company.Host, "INPLACE", inPlace.Host)
	ready(t, namespace)
	for url, upstream := range map[string]*bench.Upstream{"http://plain/": plain, "http://company/": company, "http://" + inPlace.Host + "/": inPlace} {
		answers(t, app, url, upstream.Host+" GET /")
		unmarked(t, last(t, upstream))
		logged(t, g, `"GET / HTTP/1.1" 200`, upstream.Address)
	}
	kept(t, app, plain, company)
	encrypted(t, company, inPlace)
}

// A route goes to a gateway, to another one and back, and to another upstream behind a gateway, and loses no request.
func TestMoveThroughEgressGatewaysLosesNoRequest(t *testing.T) {
	const namespace, out, url = "egress-moves", "egress-moves-out", "http://web/"
	old, other := mesh.Serve(t, &bench.Upstream{Host: "old.moves.example.com"}), mesh.Serve(t, &bench.Upstream{Host: "other.moves.example.com"})
	passed := mesh.Serve(t, &bench.Upstream{Host: "passed.moves.example.com"})
	a, b := egress(t, out, "egress-a"), mesh.Gateway(t, out, "egress-b")
	app := begin(t, namespace)
	apply(t, namespace, "registry-only.yaml")
	apply(t, namespace, "egress.yaml", "GATEWAY", "null", "HOST", old.Host)
	apply(t, namespace, "egress-pass.yaml", "GATEWAY", "null", "HOST", passed.Host)
	ready(t, namespace)
	answers(t, app, url, old.Host+" GET /")
	answers(t, app, "https://"+passed.Host+"/", passed.Host+" GET /")
	for _, step := range []struct {
		to   *bench.Gateway
		from *bench.Gateway
		host *bench.Upstream
	}{{a, nil, old}, {b, a, old}, {b, nil, other}, {a, b, other}, {nil, a, other}} {
		name := "directly"
		if step.to != nil {
			name = "through " + step.to.Name
		}
		t.Run(name+" to "+step.host.Host, func(t *testing.T) {
			loads := []*bench.Load{app.Load(url), app.LoadAnew(5, "https://"+passed.Host+"/")}
			for _, load := range loads {
				more(t, load)
			}
			apply(t, namespace, "egress.yaml", "GATEWAY", reference(step.to), "HOST", step.host.Host)
			apply(t, namespace, "egress-pass.yaml", "GATEWAY", reference(step.to), "HOST", passed.Host)
			moved(t, namespace, step.from, old, step.host)
			arrived(t, app)
			arrivedAt(t, a)
			arrivedAt(t, b)
			lostNothing(t, loads[0], step.host.Host)
			lostNothing(t, loads[1], passed.Host)
			if step.to == nil {
				return
			}
			kept(t, app, step.host, passed)
			app.Hangup()
			loggedEach(t, step.to, step.host.Address, passed.Address)
		})
	}
	encrypted(t, old, other, passed)
}

// A route whose gateway does not exist waits for it.
func TestEgressGatewayThatComesLater(t *testing.T) {
	const namespace, out = "egress-later", "egress-later-out"
	web := mesh.Serve(t, &bench.Upstream{Host: "later.egress.example.com"})
	app := begin(t, namespace)
	apply(t, namespace, "egress.yaml", "GATEWAY", "{name: later, namespace: "+out+"}", "HOST", web.Host)
	becomes(t, namespace, "web", "Accepted", "False GatewayNotUsable: ")
	same(t, "objects", everything(t, namespace), "")
	g := egress(t, out, "later")
	ready(t, namespace)
	answers(t, app, "http://web/", web.Host+" GET /")
	logged(t, g, web.Address)
	kept(t, app, web)
}

// egress starts a gateway in a namespace whose gateways have an access log.
func egress(t *testing.T, namespace, name string) *bench.Gateway {
	t.Helper()
	g := mesh.Gateway(t, namespace, name)
	apply(t, namespace, "egress-log.yaml")
	return g
}

// reference is how a route names a gateway, or none.
func reference(g *bench.Gateway) string {
	if g == nil {
		return "null"
	}
	return fmt.Sprintf("{name: %s, namespace: %s}", g.Name, g.Namespace)
}

// arrivedAt waits until a gateway has everything that was written before.
func arrivedAt(t *testing.T, g *bench.Gateway) {
	t.Helper()
	mark := strconv.FormatInt(marks.Add(1), 10)
	apply(t, g.Namespace, "egress-mark.yaml", "MARK", mark, "GATEWAY", g.Name)
	for path, name := range map[string]string{
		"clusters": fmt.Sprintf("outbound|443|mark|mark-%s.example.com::", mark),
		"config_dump?resource=dynamic_route_configs": fmt.Sprintf("mark-%s.example.com", mark),
	} {
		await(t, name+" at the gateway", func() (string, bool) { return "missing", strings.Contains(g.Admin(t, path), name) })
	}
}

// logged waits until a line of a gateway's access log has all the words.
func logged(t *testing.T, g *bench.Gateway, words ...string) {
	t.Helper()
	var seen []string
	await(t, fmt.Sprintf("the access log of %s to have %q", g.Name, words), func() (string, bool) {
		lines, err := g.AccessLog()
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, lines...)
		return strings.Join(seen, "\n"), slices.ContainsFunc(lines, func(line string) bool {
			return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) })
		})
	})
}

// loggedEach waits until each word is in the access log of a gateway. Lines that it has read are gone, so that words of one moment are asked for together.
func loggedEach(t *testing.T, g *bench.Gateway, words ...string) {
	t.Helper()
	var seen string
	await(t, fmt.Sprintf("the access log of %s to have each of %q", g.Name, words), func() (string, bool) {
		lines, err := g.AccessLog()
		if err != nil {
			t.Fatal(err)
		}
		seen += strings.Join(lines, "\n")
		return seen, !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(seen, word) })
	})
}

// kept waits until the sidecar of an app knows no way to the upstreams besides the gateway.
func kept(t *testing.T, app *bench.App, upstreams ...*bench.Upstream) {
	t.Helper()
	await(t, "the sidecar to know no way besides the gateway", func() (string, bool) {
		clusters := app.Admin(t, "clusters")
		for _, u := range upstreams {
			if strings.Contains(clusters, "::"+u.Address+":") {
				return "known: the address of " + u.Host, false
			}
		}
		return "known: an upstream of the gateway's", !strings.Contains(clusters, ".externalroute.internal")
	})
}

// unmarked fails the test when a third party saw a header of the mesh. Envoy adds two after the header rules (docs/limitations.md).
func unmarked(t *testing.T, r bench.Request) {
	t.Helper()
	for name := range r.Header {
		lower := strings.ToLower(name)
		if strings.HasPrefix(lower, "x-envoy-original-") || lower == "x-request-id" {
			continue
		}
		if strings.HasPrefix(lower, "x-envoy-") || strings.HasPrefix(lower, "x-forwarded-") {
			t.Errorf("%s saw %s: %s", r.Host, name, r.Header.Get(name))
		}
	}
}

// moved waits until no object of a namespace names the gateway and the upstream that its routes have left.
func moved(t *testing.T, namespace string, left *bench.Gateway, from, to *bench.Upstream) {
	t.Helper()
	ready(t, namespace)
	await(t, "the objects of the old way to go", func() (string, bool) {
		objects := kubectl(t, "", "get", istioKinds, "--namespace", namespace, "--selector", "app.kubernetes.io/managed-by=externalroute", "-o", "yaml")
		if left != nil && strings.Contains(objects, left.Name) {
			return "there: " + left.Name, false
		}
		return "there: " + from.Host, from == to || !strings.Contains(objects, from.Host)
	})
}

const istioKinds = "gateways.networking.istio.io,serviceentries,destinationrules,virtualservices"

// everything lists the operator's objects of a namespace.
func everything(t *testing.T, namespace string) string {
	t.Helper()
	return strings.TrimSpace(kubectl(t, "", "get", istioKinds+",services", "--namespace", namespace,
		"--selector", "app.kubernetes.io/managed-by=externalroute", "-o", "name"))
}
