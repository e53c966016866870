//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/externalroute/externalroute/test/e2e/bench"
)

const slowDNS = 1500 * time.Millisecond // half of the settle time

// before is who answers a host until a route serves it.
const before = "BEFORE"

// A new route for a Service with pods takes its traffic over, and loses no request.
func TestTakeoverOfAServiceLosesNoRequest(t *testing.T) {
	const namespace = "takeover"
	pods := mesh.Serve(t, &bench.Upstream{Host: "pods", Plain: true, Unlisted: true, Handler: answersBefore})
	app := begin(t, namespace)
	applyText(t, namespace, fmt.Sprintf(`{apiVersion: v1, kind: Service, metadata: {name: shop}, spec: {selector: {app: shop}, ports: [{name: http, port: 80}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: shop, labels: {kubernetes.io/service-name: shop}},
	addressType: IPv4, ports: [{name: http, port: 80}], endpoints: [{addresses: [%s], conditions: {ready: true}}]}`, pods.Address))
	takesOver := func(t *testing.T, host string, delay time.Duration) {
		t.Helper()
		mesh.DNS.Set(host, 5*time.Second, delay, mesh.Serve(t, &bench.Upstream{Host: host}).Address)
		answers(t, app, "http://shop/", before)
		load := app.Load("http://shop/")
		serves(t, load, before)
		applyText(t, namespace, fmt.Sprintf(`{apiVersion: networking.externalroute.io/v1alpha1, kind: ExternalRoute, metadata: {name: shop},
			spec: {hosts: [shop], destinations: [{url: "https://%s"}]}}`, host))
		ready(t, namespace)
		arrived(t, app)
		lostNothing(t, load, host)
	}
	t.Run("an upstream whose DNS is slow", func(t *testing.T) {
		takesOver(t, "slow.takeover.example.com", slowDNS)
		givesBack(t, app, namespace, "http://shop/")
	})
	for i := range 5 {
		t.Run("an upstream whose DNS is fast", func(t *testing.T) {
			takesOver(t, fmt.Sprintf("fast%d.takeover.example.com", i), 0)
			givesBack(t, app, namespace, "http://shop/")
		})
	}
}

// A new route for a host that workloads call without TLS takes that over, and loses no request. The mesh is open, and knows nothing of the host before.
func TestTakeoverInPlaceLosesNoRequest(t *testing.T) {
	for i, c := range []struct {
		name   string
		port   int
		delay  time.Duration
		beside bool // the mesh has another host on that port: requests pass a listener that knows about HTTP
	}{
		{"port 80, slow DNS", 80, slowDNS, true},
		{"port 80, fast DNS", 80, 0, true},
		{"port 80 of no other host, slow DNS", 80, slowDNS, false},
		{"port 80 of no other host, fast DNS", 80, 0, false},
		{"port 8080, slow DNS", 8080, slowDNS, true},
		{"port 8080 of no other host, slow DNS", 8080, slowDNS, false},
		{"port 8080 of no other host, fast DNS", 8080, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newUpgrade(t, fmt.Sprintf("upgrade-%d", i), c.port, c.delay)
			if c.beside {
				applyText(t, s.namespace, fmt.Sprintf(`{apiVersion: v1, kind: Service, metadata: {name: beside}, spec: {ports: [{name: http, port: %d}]}}`, c.port))
			}
			arrived(t, s.app)
			answers(t, s.app, s.url, before)
			load := s.load()
			serves(t, load, before)
			s.destination(t, "https")
			s.upgraded(t)
			lostNothing(t, load, s.encrypted.Host)
			plaintext := s.plain.Total()
			load = s.load()
			lostNothing(t, load, s.encrypted.Host)
			same(t, "requests in plaintext afterwards", s.plain.Total()-plaintext, 0)
			givesBack(t, s.app, s.namespace, s.url)
		})
	}
}

// A route in place goes to TLS and back, and loses no request.
func TestFlipInPlaceLosesNoRequest(t *testing.T) {
	s := newUpgrade(t, "flip", 80, 0)
	s.destination(t, "https")
	s.upgraded(t)
	answers(t, s.app, s.url, s.encrypted.Host+" GET /")
	cleaned(t, s.namespace)
	for range 3 {
		for _, c := range []struct{ scheme, serves string }{{"http", before}, {"https", s.encrypted.Host}} {
			t.Run("to "+c.scheme, func(t *testing.T) {
				load := s.load()
				more(t, load)
				s.destination(t, c.scheme)
				s.upgraded(t)
				cleaned(t, s.namespace)
				arrived(t, s.app)
				lostNothing(t, load, c.serves)
			})
		}
	}
	t.Run("to http and back before it has settled", func(t *testing.T) {
		load := s.load()
		more(t, load)
		for range 3 {
			s.destination(t, "http")
			becomes(t, s.namespace, "api", "Programmed", "False Switching: ")
			s.destination(t, "https")
		}
		s.upgraded(t)
		cleaned(t, s.namespace)
		arrived(t, s.app)
		lostNothing(t, load, s.encrypted.Host)
	})
}

// upgrade is an app that calls a host without TLS, which a route upgrades in place.
type upgrade struct {
	namespace, url   string
	port             int
	app              *bench.App
	encrypted, plain *bench.Upstream
}

func newUpgrade(t *testing.T, namespace string, port int, delay time.Duration) *upgrade {
	t.Helper()
	host := namespace + ".example.com"
	s := &upgrade{namespace: namespace, port: port, url: fmt.Sprintf("http://%s:%d/", host, port)}
	s.encrypted = mesh.Serve(t, &bench.Upstream{Host: host})
	s.plain = mesh.Serve(t, &bench.Upstream{Host: host, Plain: true, Port: port, Address: s.encrypted.Address, Handler: answersBefore})
	mesh.DNS.Set(host, 5*time.Second, delay, s.encrypted.Address)
	s.app = begin(t, namespace)
	return s
}

// load connects anew all the time: a connection that passed Envoy before the host was known to the mesh stays as it is.
func (s *upgrade) load() *bench.Load { return s.app.LoadAnew(20, s.url) }

func (s *upgrade) destination(t *testing.T, scheme string) {
	t.Helper()
	applyText(t, s.namespace, fmt.Sprintf(`{apiVersion: networking.externalroute.io/v1alpha1, kind: ExternalRoute, metadata: {name: api},
		spec: {hosts: [%[1]s], port: %[2]d, destinations: [{url: "%[3]s://%[1]s%[4]s"}]}}`, s.encrypted.Host, s.port, scheme, s.suffix(scheme)))
}

// suffix is the port that a URL names.
func (s *upgrade) suffix(scheme string) string {
	if scheme == "https" || s.port == 80 {
		return ""
	}
	return fmt.Sprintf(":%d", s.port)
}

// upgraded waits until the operator has done all that it does for the route, and the sidecar knows.
func (s *upgrade) upgraded(t *testing.T) {
	t.Helper()
	ready(t, s.namespace)
	await(t, "the plain port of the ServiceEntry", func() (string, bool) {
		ports := kubectl(t, "", "get", "serviceentries", "--namespace", s.namespace, "-o", "jsonpath={.items[*].spec.ports[*].number}")
		return ports, slices.Contains(strings.Fields(ports), fmt.Sprint(s.port))
	})
	arrived(t, s.app)
}

// givesBack deletes the routes of a namespace and tells how many requests are lost until who answered before answers again. No order of ours prevents that:
// the garbage collector deletes the objects.
func givesBack(t *testing.T, app *bench.App, namespace, url string) {
	t.Helper()
	load := app.LoadAnew(20, url)
	more(t, load)
	kubectl(t, "", "delete", "externalroutes", "--all", "--namespace", namespace)
	await(t, "the garbage collector to delete everything", func() (string, bool) {
		left := generated(t, namespace)
		return fmt.Sprint(left), len(left) == 0
	})
	arrived(t, app)
	serves(t, load, before)
	report := load.Stop()
	t.Logf("deleted: %s", report)
}

// serves waits until a server has answered many more requests.
func serves(t *testing.T, load *bench.Load, who string) {
	t.Helper()
	if err := load.AwaitServed(t.Context(), who, enough); err != nil {
		t.Fatal(err)
	}
}

var answersBefore = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, before) })
