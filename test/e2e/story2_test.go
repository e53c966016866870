//go:build linux

package e2e

import (
	"strings"
	"testing"

	"github.com/externalroute/externalroute/test/e2e/bench"
)

func TestAnAppThatSpeaksTLSItself(t *testing.T) {
	const (
		alias  = "http://webserver/"
		direct = "https://" + raw + "/direct"
		works  = raw + " GET /direct"
	)
	for _, namespace := range []string{"allow-any", "registry-only"} {
		t.Run(namespace, func(t *testing.T) {
			upstream := mesh.Serve(t, &bench.Upstream{Host: raw})
			app := begin(t, namespace)
			closed := namespace == "registry-only"
			if closed {
				apply(t, namespace, "registry-only.yaml")
				isBroken(t, app, direct)
			}
			asBefore := func(t *testing.T) {
				t.Helper()
				arrived(t, app)
				for range 20 {
					if r := app.Fresh(t.Context(), direct); (r.Body == works) == closed {
						t.Fatal(r)
					}
				}
			}

			t.Run("does not notice a private upstream name", func(t *testing.T) {
				apply(t, namespace, "fixed-address.yaml", "ADDRESS", upstream.Address)
				ready(t, namespace)
				answers(t, app, alias, raw+" GET /")
				asBefore(t)
			})
			t.Run("keeps working next to a route", func(t *testing.T) {
				forget(t, namespace)
				if closed {
					apply(t, namespace, "registry-only.yaml")
				}
				apply(t, namespace, "smallest.yaml")
				ready(t, namespace)
				answers(t, app, alias, raw+" GET "+file)
				answers(t, app, direct, works)
				same(t, "DirectHTTPS", condition(t, namespace, "webserver", "DirectHTTPS"), "")
			})
			t.Run("breaks when the route takes the whole host, and the status says so", func(t *testing.T) {
				apply(t, namespace, "scope-host.yaml")
				ready(t, namespace)
				said := condition(t, namespace, "webserver", "DirectHTTPS")
				if !strings.HasPrefix(said, "False HostScopedTLS: ") || !strings.Contains(said, raw) {
					t.Errorf("DirectHTTPS is %q", said)
				}
				isBroken(t, app, direct)
				answers(t, app, alias, raw+" GET "+file)
			})
			t.Run("works again when the route steps back", func(t *testing.T) {
				apply(t, namespace, "smallest.yaml")
				answers(t, app, direct, works)
				answers(t, app, alias, raw+" GET "+file)
				encrypted(t, upstream)
			})
		})
	}
}

// isBroken waits until a call gets no answer at all.
func isBroken(t *testing.T, app *bench.App, url string) {
	t.Helper()
	if last, ok := app.Until(t.Context(), url, func(r bench.Response) bool { return r.Err != nil }); !ok {
		t.Fatalf("%s still answers: %s", url, last)
	}
}
