//go:build linux

package e2e

import (
	"net/http"
	"testing"

	"github.com/externalroute/externalroute/test/e2e/bench"
)

const file = "/mcasperson/NodejsProxy/master/externalservice1.txt"

func TestTheArticle(t *testing.T) {
	const namespace = "article"
	upstream := mesh.Serve(t, &bench.Upstream{Host: raw})
	app := begin(t, namespace)
	asTheURL := func(t *testing.T, uri string) {
		t.Helper()
		r := last(t, upstream)
		same(t, "path", r.URI, uri)
		same(t, "authority", r.Host, raw)
		same(t, "SNI", r.SNI, raw)
		encrypted(t, upstream)
	}

	t.Run("every path answers with the file", func(t *testing.T) {
		apply(t, namespace, "textbook.yaml")
		ready(t, namespace)
		answers(t, app, "http://webserver/anything?q=1", raw+" GET "+file+"?q=1")
		asTheURL(t, file+"?q=1")
	})
	t.Run("the smallest manifest, applied over it, answers by every name of the service", func(t *testing.T) {
		apply(t, namespace, "smallest.yaml")
		ready(t, namespace)
		for _, name := range []string{"webserver", "webserver." + namespace, "webserver." + namespace + ".svc", "webserver." + namespace + ".svc.cluster.local"} {
			answers(t, app, "http://"+name, raw+" GET "+file)
			asTheURL(t, file)
		}
	})
	t.Run("the server knows no other name", func(t *testing.T) {
		r := request(t, http.MethodGet, "https://"+raw, "")
		r.Host = "webserver"
		same(t, "status", app.Do(r).Status, http.StatusNotFound) // so that a 200 above means that the authority was rewritten
	})
}
