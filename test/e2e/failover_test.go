//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/externalroute/externalroute/test/e2e/bench"
)

// site is one of several addresses of a host. It answers with its name, or fails.
type site struct {
	*bench.Upstream
	broken atomic.Bool
	stop   func()
}

func startSite(t *testing.T, host, name string) *site {
	t.Helper()
	s := &site{Upstream: &bench.Upstream{Host: host, Unlisted: true}}
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if s.broken.Load() {
			http.Error(w, name+" is broken", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, name)
	})
	s.start(t)
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *site) start(t *testing.T) {
	t.Helper()
	stop, err := mesh.StartUpstream(s.Upstream)
	if err != nil {
		t.Fatal(err)
	}
	s.stop = stop
}

func TestFailover(t *testing.T) {
	const namespace, host, alias = "failover", "billing.example.com", "http://billing/"
	first, second, third := startSite(t, host, "first"), startSite(t, host, "second"), startSite(t, host, "third")
	app := begin(t, namespace)
	route := func(t *testing.T, addresses ...*site) {
		t.Helper()
		apply(t, namespace, "failover.yaml", "FIRST", addresses[0].Address, "SECOND", addresses[1].Address, "THIRD", addresses[2].Address)
		ready(t, namespace)
	}
	only := func(t *testing.T, name string) {
		t.Helper()
		answers(t, app, alias, name)
		for range 50 {
			same(t, "answer", app.Get(t.Context(), alias).Body, name)
		}
	}
	route(t, first, second, third)

	t.Run("the first endpoint serves alone", func(t *testing.T) {
		only(t, "first")
		same(t, "requests at the second", second.Total(), 0)
		same(t, "requests at the third", third.Total(), 0)
	})
	t.Run("the next one takes over when it answers 503", func(t *testing.T) {
		first.broken.Store(true)
		answers(t, app, alias, "second")
	})
	t.Run("and the one after that when nobody listens at the second", func(t *testing.T) {
		second.stop()
		answers(t, app, alias, "third")
	})
	t.Run("each serves again when it recovers", func(t *testing.T) {
		second.start(t)
		answers(t, app, alias, "second")
		first.broken.Store(false)
		only(t, "first")
	})
	t.Run("while all fail, one endpoint is still tried", func(t *testing.T) {
		for _, s := range []*site{first, second, third} {
			s.broken.Store(true)
		}
		before := third.Total()
		await(t, "a request at the third", func() (string, bool) {
			r := app.Fresh(t.Context(), alias)
			return r.String(), third.Total() > before
		})
		for range 100 {
			if r := app.Get(t.Context(), alias); !strings.HasSuffix(strings.TrimSpace(r.Body), "is broken") {
				t.Errorf("want the answer of an endpoint, got %s", r)
			}
		}
		for _, s := range []*site{first, second, third} {
			s.broken.Store(false)
		}
		only(t, "first")
	})
	t.Run("an exchange of priorities loses no request", func(t *testing.T) {
		load := app.Load(alias)
		more(t, load)
		route(t, second, first, third)
		lostNothing(t, load, "second")
		only(t, "second")
	})
	encrypted(t, first.Upstream, second.Upstream, third.Upstream)
}
