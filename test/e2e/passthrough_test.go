//go:build linux

package e2e

import (
	"testing"

	"github.com/externalroute/externalroute/test/e2e/bench"
)

func TestPassThrough(t *testing.T) {
	const (
		namespace = "pass-through"
		named     = "https://passed.example.com/direct"
		wildcard  = "https://one.wild.example.com/direct"
		outside   = "https://outside.example.com/direct"
	)
	passed, one := mesh.Serve(t, &bench.Upstream{Host: "passed.example.com"}), mesh.Serve(t, &bench.Upstream{Host: "one.wild.example.com"})
	other := mesh.Serve(t, &bench.Upstream{Host: "outside.example.com"})
	app := begin(t, namespace)
	apply(t, namespace, "registry-only.yaml")
	for _, url := range []string{named, wildcard, outside} {
		isBroken(t, app, url)
	}

	t.Run("lets a REGISTRY_ONLY mesh's workloads call its hosts over their own TLS, and no others", func(t *testing.T) {
		apply(t, namespace, "pass-through.yaml")
		ready(t, namespace)
		answers(t, app, named, "passed.example.com GET /direct")
		answers(t, app, wildcard, "one.wild.example.com GET /direct")
		arrived(t, app)
		for range 20 {
			if r := app.Fresh(t.Context(), outside); r.Err == nil {
				t.Fatal(r)
			}
		}
	})
	t.Run("shares a host with a destination, and loses no call as that comes and goes", func(t *testing.T) {
		load := app.LoadAnew(10, named)
		applyText(t, namespace, `{apiVersion: networking.externalroute.io/v1alpha1, kind: ExternalRoute, metadata: {name: alias}, spec: {hosts: [alias],
			destinations: [{url: "https://passed.example.com"}]}}`)
		ready(t, namespace)
		answers(t, app, "http://alias/x", "passed.example.com GET /x")
		kubectl(t, "", "delete", "externalroute", "alias", "--namespace", namespace)
		isBroken(t, app, "http://alias/x")
		lostNothing(t, load, "passed.example.com")
	})
	t.Run("becomes a route with destinations in place and back, and loses no call", func(t *testing.T) {
		load := app.LoadAnew(10, named)
		edit := func(spec string) {
			kubectl(t, "", "patch", "externalroute", "passed", "--namespace", namespace, "--type", "merge", "--patch", `{"spec": `+spec+`}`)
		}
		edit(`{"hosts": ["passed.example.com"], "destinations": [{"url": "https://passed.example.com"}]}`)
		answers(t, app, "http://passed.example.com/plain", "passed.example.com GET /plain")
		isBroken(t, app, wildcard) // the old entry has gone
		edit(`{"destinations": null}`)
		await(t, "only the new ServiceEntry to stand", func() (string, bool) {
			objects := generated(t, namespace)
			return "there are still others", len(objects) == 1
		})
		arrived(t, app)
		lostNothing(t, load, "passed.example.com")
	})
	t.Run("and closes the way again when it goes", func(t *testing.T) {
		kubectl(t, "", "delete", "externalroute", "passed", "--namespace", namespace)
		isBroken(t, app, named)
		encrypted(t, passed, one)
		same(t, "requests at the host outside", other.Total(), 0)
	})
}
