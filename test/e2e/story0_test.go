//go:build linux

package e2e

import (
	"net/http"
	"testing"

	"github.com/externalroute/externalroute/test/e2e/bench"
)

// The bench itself, with objects written by hand: what fails here is not the operator's fault.
func TestTheBench(t *testing.T) {
	const namespace = "bench"
	upstream := mesh.Serve(t, &bench.Upstream{Host: "bench.example.com"})
	app := begin(t, namespace)
	apply(t, namespace, "handwritten.yaml", "ALIAS", "webserver", "HOST", upstream.Host)

	t.Run("objects written by hand work", func(t *testing.T) {
		answers(t, app, "http://webserver/path?query=1", "bench.example.com GET /path?query=1")
		r := last(t, upstream)
		same(t, "SNI", r.SNI, upstream.Host)
		same(t, "original host", r.Header.Get("X-Envoy-Original-Host"), "webserver") // it came through Envoy
	})
	t.Run("plaintext at a TLS port is seen", func(t *testing.T) {
		bare := mesh.Serve(t, &bench.Upstream{Host: "bare.example.com"})
		same(t, "status", app.Get(t.Context(), "http://bare.example.com:443/").Status, http.StatusBadRequest)
		same(t, "plaintext connections", len(bare.Plaintext()), 1)
	})
	t.Run("a load sees requests that fail", func(t *testing.T) {
		load := app.Load("http://webserver/")
		more(t, load)
		kubectl(t, "", "delete", "destinationrule", "webserver", "--namespace", namespace)
		refuses(t, app, "http://webserver/", http.StatusServiceUnavailable)
		more(t, load)
		if report := load.Stop(); report.Failed == 0 || report.Failed == report.Total {
			t.Errorf("%s", report)
		}
	})
	t.Run("an update that Envoy refuses is seen", func(t *testing.T) {
		victim := begin(t, "bench-refusals")
		apply(t, victim.Namespace, "refused-by-envoy.yaml")
		victim.MustRefuse(t, "FOO")
	})
}
