//go:build linux

package e2e

import (
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/externalroute/externalroute/test/e2e/bench"
)

func TestNeighbours(t *testing.T) {
	const namespace, other, third = "neighbours", "neighbours-other", "neighbours-third"
	host := mesh.Serve(t, &bench.Upstream{Host: "shared.example.com"})
	mesh.Serve(t, &bench.Upstream{Host: host.Host, Port: 8443, Address: host.Address, Unlisted: true})
	app, foreigner, bystander := begin(t, namespace), begin(t, other), begin(t, third)
	arrived(t, bystander) // istiod's news of the namespaces themselves
	before := knows(t, bystander)
	t.Log(before)

	t.Run("two routes of a namespace to one host keep their own settings, and ports", func(t *testing.T) {
		apply(t, namespace, "neighbours.yaml")
		ready(t, namespace)
		answers(t, app, "http://reader/", "shared.example.com GET /")
		answers(t, app, "http://writer/", "shared.example.com GET /")
		refuses(t, app, "http://stranger/", http.StatusServiceUnavailable)
		if !untilHandshakeFails(t, app, "http://stranger/", host) {
			t.Error("no handshake failed")
		}
	})
	t.Run("and so do two namespaces", func(t *testing.T) {
		apply(t, other, "stranger.yaml")
		ready(t, other)
		if !untilHandshakeFails(t, foreigner, "http://reader/", host) {
			t.Error("no handshake failed")
		}
		for range 20 {
			same(t, "the other namespace", foreigner.Fresh(t.Context(), "http://reader/").Status, http.StatusServiceUnavailable)
			same(t, "this namespace", app.Fresh(t.Context(), "http://reader/").Status, http.StatusOK)
			same(t, "an app that speaks TLS", app.Fresh(t.Context(), "https://"+host.Host).Status, http.StatusOK)
		}
		encrypted(t, host)
	})
	t.Run("a third namespace receives nothing", func(t *testing.T) {
		same(t, "what its sidecar knows", knows(t, bystander), before)
	})
}

// knows returns what istiod ever told a sidecar, as counters.
func knows(t *testing.T, app *bench.App) string {
	t.Helper()
	stats := app.Admin(t, "stats?filter=(cds|lds|rds|eds).*update_(success|attempt)|cluster_manager.active_clusters|listener_manager.total_listeners_active")
	return regexp.MustCompile(`(?m)^.*(xds-grpc|sds-grpc).*\n`).ReplaceAllString(stats, "")
}

func TestARival(t *testing.T) {
	const namespace = "rival"
	upstream := mesh.Serve(t, &bench.Upstream{Host: raw})
	app := begin(t, namespace)
	applyText(t, namespace, "{apiVersion: v1, kind: Service, metadata: {name: webserver}, spec: {ports: [{name: http, port: 80}]}}")

	t.Run("an older VirtualService of another client continues to serve", func(t *testing.T) {
		apply(t, namespace, "rival.yaml")
		answers(t, app, "http://webserver/", "by hand")
		nextSecond(t)
		apply(t, namespace, "smallest.yaml")
		kubectl(t, "", "wait", "--namespace", namespace, "--for=condition=Stalled", "--timeout=120s", "externalroute", "--all")
		arrived(t, app)
		for range 20 {
			same(t, "answer", app.Fresh(t.Context(), "http://webserver/").Body, "by hand")
		}
		same(t, "requests at the upstream", upstream.Total(), 0)
	})
	t.Run("when it goes, the route serves without anybody touching it", func(t *testing.T) {
		kubectl(t, "", "delete", "virtualservice", "rival", "--namespace", namespace)
		ready(t, namespace)
		answers(t, app, "http://webserver/", raw+" GET "+file)
	})
	t.Run("a younger one changes nothing", func(t *testing.T) {
		nextSecond(t)
		load := app.Load("http://webserver/")
		apply(t, namespace, "rival.yaml")
		arrived(t, app)
		lostNothing(t, load, raw)
		same(t, "answer", app.Fresh(t.Context(), "http://webserver/").Body, raw+" GET "+file)
	})
}

// nextSecond waits until what is created now is younger than what was created before: creation times have whole seconds.
func nextSecond(t *testing.T) {
	t.Helper()
	now := time.Now().Unix()
	await(t, "the next second", func() (string, bool) { return "not there yet", time.Now().Unix() > now })
}
