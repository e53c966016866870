//go:build linux

package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/externalroute/externalroute/test/e2e/bench"
)

const gateways = "mesh-gateways"

// istiod's configuration for a waypoint, in Envoy, with a client in the place of ztunnel.
func TestWaypoint(t *testing.T) {
	waypoint := mesh.Waypoint(t, gateways)
	t.Run("applies the routes", func(t *testing.T) { applies(t, waypoint) })
	t.Run("applies rules", func(t *testing.T) {
		rules(t, ambient(t, waypoint, "ambient-rules"), withWaypoint(t, "rules.yaml"))
	})
	t.Run("trusts a CA of the route's namespace", func(t *testing.T) { trusts(t, waypoint) })
	t.Run("shows a client certificate of its own namespace", func(t *testing.T) { certifies(t, waypoint) })
	t.Run("speaks HTTP/2 and WebSocket", func(t *testing.T) { speaks(t, waypoint) })
	t.Run("joins a route that pods with sidecars use, and leaves it, and no request is lost", func(t *testing.T) { joins(t, waypoint) })
}

func applies(t *testing.T, waypoint *bench.Waypoint) { //nolint:thelper // a part of the story: failures name their own line
	const namespace = "ambient"
	web := mesh.Serve(t, &bench.Upstream{Host: "web.ambient.example.com"})
	plain := mesh.Serve(t, &bench.Upstream{Host: "plain.ambient.example.com", Plain: true})
	other, err := mesh.Authority.Server(time.Now().AddDate(0, 0, 1), "attacker.example.net")
	if err != nil {
		t.Fatal(err)
	}
	impostor := mesh.Serve(t, &bench.Upstream{Host: "impostor.ambient.example.com", Certificate: &other})
	app := ambient(t, waypoint, namespace)
	apply(t, namespace, "waypoint.yaml")
	ready(t, namespace)

	t.Run("to the URL's host, with its authority, SNI and path", func(t *testing.T) {
		answers(t, app, "http://web/api/x?q=1", web.Host+" GET /base/api/x?q=1")
		r := last(t, web)
		same(t, "authority", r.Host, web.Host)
		same(t, "SNI", r.SNI, web.Host)
	})
	t.Run("to a URL without TLS", func(t *testing.T) {
		answers(t, app, "http://plain/x", plain.Host+" GET /x")
		same(t, "authority", last(t, plain).Host, plain.Host)
	})
	t.Run("without headers of the mesh, unless the route keeps them", func(t *testing.T) {
		foreign := func(alias string) (names []string) {
			web.Requests()
			answers(t, app, "http://"+alias+"/api", web.Host+" GET "+map[string]string{"web": "/base/api", "kept": "/api"}[alias])
			for name := range last(t, web).Header {
				mesh := strings.HasPrefix(name, "X-Envoy-") || strings.HasPrefix(name, "X-Forwarded-")
				if mesh && name != "X-Envoy-Original-Host" && name != "X-Envoy-Original-Path" {
					names = append(names, name)
				}
			}
			return names
		}
		t.Log("kept:", foreign("kept"))
		if len(foreign("kept")) == 0 || len(foreign("web")) > 0 {
			t.Errorf("kept: %v, others: %v", foreign("kept"), foreign("web"))
		}
	})
	t.Run("for requests that match a rule, and no others", func(t *testing.T) {
		web.Requests()
		refuses(t, app, "http://web/elsewhere", http.StatusNotFound)
		same(t, "requests that no rule matches", len(web.Requests()), 0)
	})
	t.Run("if the server proves its name", func(t *testing.T) {
		refuses(t, app, "http://impostor/secret", http.StatusServiceUnavailable)
		if !untilHandshakeFails(t, app, "http://impostor/secret", impostor) {
			t.Error("the handshake was never tried")
		}
		same(t, "requests at the impostor", impostor.Total(), 0)
	})
	t.Run("for ambient pods of every namespace", func(t *testing.T) {
		answers(t, waypoint.Workload(t, "elsewhere"), "http://web."+namespace+"/api", web.Host+" GET /base/api")
	})
	t.Run("and istiod gives their ServiceEntries no address", func(t *testing.T) { unaddressed(t, namespace) })
	encrypted(t, web, impostor)
}

// unaddressed fails the test if istiod has given a generated ServiceEntry an address, since ztunnel catches calls of such addresses.
func unaddressed(t *testing.T, namespace string) {
	t.Helper()
	applyText(t, namespace, `{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: caught},
		spec: {hosts: [caught.example.com], resolution: DNS, ports: [{name: https, number: 443, protocol: TLS}]}}`)
	addresses := func(selection ...string) string {
		return kubectl(t, "", append([]string{"get", "serviceentries", "--namespace", namespace, "-o", "jsonpath={.items[*].status.addresses[*].value}"}, selection...)...)
	}
	await(t, "istiod to give a ServiceEntry an address", func() (string, bool) { return "without", addresses("--field-selector", "metadata.name=caught") != "" })
	same(t, "addresses of the upstreams", addresses("--selector", "app.kubernetes.io/managed-by=externalroute"), "")
}

// ambient makes an ambient workload in a namespace, which is empty afterwards.
func ambient(t *testing.T, waypoint *bench.Waypoint, namespace string) *bench.App {
	t.Helper()
	if err := mesh.Namespace(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { forget(t, namespace) })
	return waypoint.Workload(t, namespace)
}

// withWaypoint reads a manifest of testdata and gives its routes the waypoint.
func withWaypoint(t *testing.T, file string) string {
	t.Helper()
	return strings.ReplaceAll(manifest(t, file), "\nspec:\n", "\nspec:\n  waypoint: {name: waypoint, namespace: "+gateways+"}\n")
}

func trusts(t *testing.T, waypoint *bench.Waypoint) { //nolint:thelper // a part of the story: failures name their own line
	const host = "intranet.example.com"
	company, err := bench.NewAuthority("the company's")
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := company.Server(time.Now().AddDate(0, 0, 1), host)
	if err != nil {
		t.Fatal(err)
	}
	intranet := mesh.Serve(t, &bench.Upstream{Host: host, Certificate: &certificate})
	app := ambient(t, waypoint, "ambient-company")
	authority := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: app.Namespace, Name: "company-ca"}, Data: map[string]string{"ca.crt": string(company.PEM())}}
	if err := mesh.Cluster.Create(t.Context(), authority); err != nil {
		t.Fatal(err)
	}
	applyText(t, app.Namespace, withWaypoint(t, "own-authority.yaml"))
	ready(t, app.Namespace)
	answers(t, app, "http://intranet/", host+" GET /")
	encrypted(t, intranet)
}

func certifies(t *testing.T, waypoint *bench.Waypoint) { //nolint:thelper // a part of the story: failures name their own line
	bank, secret := bankWith(t, "bank.ambient.example.com", gateways)
	app := ambient(t, waypoint, "ambient-bank")
	apply(t, app.Namespace, "certificate.yaml", "ROAD", "waypoint: {name: waypoint, namespace: "+gateways+"}", "HOST", bank.Host)
	becomes(t, app.Namespace, "web", "Accepted", "False NotAllowedByPolicy: ")
	allow(t, app.Namespace, bank.Host, nil)
	ready(t, app.Namespace)
	refuses(t, app, "http://web/", http.StatusServiceUnavailable)
	showsAfterAll(t, app, bank, secret)
	sidecar := mesh.App(t, app.Namespace, nil)
	for range 10 {
		if r := sidecar.Fresh(t.Context(), "http://web/"); r.Err == nil && r.Status < http.StatusInternalServerError {
			t.Errorf("a pod with a sidecar gets %s", r)
		}
	}
	same(t, "requests of the sidecar", len(bank.Requests()), 0)
	encrypted(t, bank)
}

func speaks(t *testing.T, waypoint *bench.Waypoint) { //nolint:thelper // a part of the story: failures name their own line
	const namespace = "ambient-protocols"
	stream := mesh.Serve(t, &bench.Upstream{Host: "stream.ambient.example.com", Handler: streams(nil)})
	healthy := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(healthy, health.NewServer())
	remote := mesh.Serve(t, &bench.Upstream{Host: "grpc.ambient.example.com", Handler: healthy})
	app := ambient(t, waypoint, namespace)
	apply(t, namespace, "waypoint.yaml")
	ready(t, namespace)

	t.Run("WebSocket", func(t *testing.T) {
		refuses(t, app, "http://stream/ready", http.StatusOK)
		echo(t, app, "ws://stream/echo")
	})
	t.Run("gRPC", func(t *testing.T) {
		refuses(t, app, "http://grpc/", http.StatusMethodNotAllowed) // gRPC is POST
		healthCheck(t, app, "grpc:80")
		r := last(t, remote)
		same(t, "protocol", r.Proto, "HTTP/2.0")
		same(t, "ALPN", r.ALPN, "h2")
	})
	encrypted(t, stream, remote)
}

// Pods with and without sidecars use one route, while it gets a waypoint, another URL, and loses the waypoint again.
func joins(t *testing.T, waypoint *bench.Waypoint) { //nolint:thelper // a part of the story: failures name their own line
	const namespace = "ambient-enrolled"
	one, two := mesh.Serve(t, &bench.Upstream{Host: "one.enrolled.example.com"}), mesh.Serve(t, &bench.Upstream{Host: "two.enrolled.example.com"})
	sidecar := begin(t, namespace)
	app := waypoint.Workload(t, namespace)
	edit := func(spec string) {
		kubectl(t, "", "patch", "externalroute", "web", "--namespace", namespace, "--type", "merge", "--patch", `{"spec": `+spec+`}`)
	}
	apply(t, namespace, "enrolled.yaml")
	ready(t, namespace)
	answers(t, sidecar, "http://web/x", one.Host+" GET /x")
	isBroken(t, app, "http://web/x")

	old := sidecar.LoadAnew(10, "http://web/x")
	edit(`{"waypoint": {"name": "waypoint", "namespace": "` + gateways + `"}}`)
	answers(t, app, "http://web/x", one.Host+" GET /x")
	ready(t, namespace)
	fresh := app.LoadAnew(10, "http://web/x")
	edit(`{"destinations": [{"url": "https://` + two.Host + `"}]}`)
	lostNothing(t, fresh, two.Host)
	edit(`{"waypoint": null}`)
	isBroken(t, app, "http://web/x")
	ready(t, namespace)
	arrived(t, sidecar)
	lostNothing(t, old, two.Host)
	encrypted(t, one, two)
}
