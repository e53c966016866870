//go:build linux

package e2e

import (
	"io"
	"math"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/externalroute/externalroute/test/e2e/bench"
)

func TestPaths(t *testing.T) {
	const namespace = "paths"
	files := mesh.Serve(t, &bench.Upstream{Host: "files.example.com"})
	app := begin(t, namespace)
	apply(t, namespace, "paths.yaml")
	ready(t, namespace)
	answers(t, app, "http://bare/", files.Host+" GET /")
	for _, c := range []struct{ called, arrives string }{
		{"bare/x/?q=1", "/x/?q=1"},
		{"base/", "/base/file.txt"},
		{"base", "/base/file.txt"},
		{"base/?q=1", "/base/file.txt?q=1"},
		{"base/x", "/base/file.txt/x"},
		{"base/x/", "/base/file.txt/x/"},
		{"base//y", "/base/file.txt//y"},
		{"base/a%2Fb%20c", "/base/file.txt/a%2Fb%20c"},
		{"base/x?q=1&q=%2F", "/base/file.txt/x?q=1&q=%2F"},
		{"folder/", "/base/"},
		{"folder/x", "/base/x"},
		{"folder//x", "/base//x"},
		{"rewrites/old/x?q=1", "/new/x?q=1"},
		{"rewrites/users/42", "/v2/people/42/profile"},
		{"rewrites/users/42?q=1", "/v2/people/42/profile?q=1"},
		{"rewrites/v1/x?q=1", "/base/v1/x?q=1"},
		{"rewrites/status", "/base/status"},
		{"rewrites/?page=7", "/base?page=7"},
		{"rewrites/list?page=7", "/base/list?page=7"},
	} {
		t.Run(c.called, func(t *testing.T) {
			answers(t, app, "http://"+c.called, files.Host+" GET "+c.arrives)
		})
	}
	t.Run("what no rule matches is 404", func(t *testing.T) {
		same(t, "status", app.Get(t.Context(), "http://rewrites/other").Status, http.StatusNotFound)
		r := request(t, http.MethodDelete, "http://rewrites/other", "")
		same(t, "answer", app.Do(r).String(), `405 "read-only"`)
	})
}

func TestHeaders(t *testing.T) {
	const namespace = "headers"
	upstream := mesh.Serve(t, &bench.Upstream{Host: "headers.example.com", Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Secret", "internal")
		_, _ = io.WriteString(w, "ok")
	})})
	app := begin(t, namespace)
	apply(t, namespace, "headers.yaml")
	ready(t, namespace)
	answers(t, app, "http://headers/", "ok")
	answers(t, app, "http://headers-kept/", "ok")
	upstream.Requests()
	send := func(t *testing.T, alias string) (bench.Request, bench.Response) {
		t.Helper()
		r := request(t, http.MethodGet, "http://"+alias+"/path", "")
		r.Header = http.Header{"X-Set": {"app"}, "X-Add": {"first"}, "X-Internal": {"secret"}, "X-Request-Id": {"of-the-app"}}
		answer := app.Do(r)
		return last(t, upstream), answer
	}

	t.Run("are set, added and removed, literally", func(t *testing.T) {
		seen, answer := send(t, "headers")
		same(t, "x-set", strings.Join(seen.Header.Values("X-Set"), "|"), "100% %FOO% %REQ(:path)%")
		same(t, "x-add", strings.Join(seen.Header.Values("X-Add"), ","), "first,second")
		same(t, "x-internal", seen.Header.Get("X-Internal"), "")
		same(t, "x-answer", answer.Header.Get("X-Answer"), "50%")
		same(t, "x-secret", answer.Header.Get("X-Secret"), "")
	})
	ofTheMesh := []string{"X-Envoy-Attempt-Count", "X-Envoy-Decorator-Operation", "X-Forwarded-Proto"}
	t.Run("of the mesh stay inside, save two that Envoy adds afterwards", func(t *testing.T) {
		seen, _ := send(t, "headers")
		for name := range seen.Header {
			foreign := strings.HasPrefix(name, "X-Envoy-") || strings.HasPrefix(name, "X-Forwarded-")
			if foreign && name != "X-Envoy-Original-Host" && name != "X-Envoy-Original-Path" {
				t.Errorf("the upstream saw %s: %s", name, seen.Header.Get(name))
			}
		}
		same(t, "x-request-id", seen.Header.Get("X-Request-Id"), "of-the-app")
	})
	t.Run("of the mesh leave when asked", func(t *testing.T) {
		seen, _ := send(t, "headers-kept")
		for _, name := range ofTheMesh {
			if seen.Header.Get(name) == "" {
				t.Errorf("%s is missing: %v", name, seen.Header)
			}
		}
	})
}

func TestRules(t *testing.T) {
	app := begin(t, "rules")
	rules(t, app, manifest(t, "rules.yaml"))
}

// rules holds for every road on which the routes of rules.yaml are.
func rules(t *testing.T, app *bench.App, manifest string) {
	t.Helper()
	var tries atomic.Int64
	mesh.Serve(t, &bench.Upstream{Host: "moody.example.com", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/slow"):
			<-r.Context().Done() // until Envoy gives up
		case strings.HasPrefix(r.URL.Path, "/break"): // the connection breaks after the request was read
			tries.Add(1)
			panic(http.ErrAbortHandler)
		case strings.HasPrefix(r.URL.Path, "/fail"):
			tries.Add(1)
			w.WriteHeader(http.StatusServiceUnavailable)
		case strings.HasPrefix(r.URL.Path, "/insist") && tries.Add(1) < 3:
			w.WriteHeader(http.StatusBadGateway)
		}
		_, _ = io.WriteString(w, "ok")
	})})
	mesh.Serve(t, &bench.Upstream{Host: "blue.example.com"})
	mesh.Serve(t, &bench.Upstream{Host: "green.example.com"})
	applyText(t, app.Namespace, manifest)
	ready(t, app.Namespace)
	answers(t, app, "http://patience/", "ok")

	t.Run("a timeout", func(t *testing.T) {
		begin := time.Now() // without the timeout there would be no answer
		same(t, "status", app.Get(t.Context(), "http://patience/slow").Status, http.StatusGatewayTimeout)
		if took := time.Since(begin); took < 200*time.Millisecond { // of 300: Envoy's clock ticks coarsely
			t.Errorf("it took %s", took)
		}
	})
	for _, path := range []string{"/break", "/fail"} {
		t.Run("a POST is not repeated: "+path, func(t *testing.T) {
			tries.Store(0)
			r := request(t, http.MethodPost, "http://patience"+path, "once")
			same(t, "status", app.Do(r).Status, http.StatusServiceUnavailable)
			same(t, "tries", tries.Load(), 1)
		})
	}
	t.Run("retries when asked", func(t *testing.T) {
		tries.Store(0)
		same(t, "answer", app.Get(t.Context(), "http://patience/insist").String(), `200 "ok"`)
		same(t, "tries", tries.Load(), 3)
	})
	t.Run("faults", func(t *testing.T) {
		same(t, "status", app.Get(t.Context(), "http://patience/abort").Status, http.StatusTeapot)
		begin := time.Now()
		same(t, "answer", app.Get(t.Context(), "http://patience/delay").String(), `200 "ok"`)
		if took := time.Since(begin); took < 300*time.Millisecond { // of 400: Envoy's clock ticks coarsely
			t.Errorf("the delay took %s", took)
		}
	})
	t.Run("a direct response", func(t *testing.T) {
		same(t, "answer", app.Get(t.Context(), "http://patience/closed").String(), `503 "closed for today"`)
	})
	t.Run("weights 3 to 1", func(t *testing.T) {
		const requests = 2000
		refuses(t, app, "http://shares/", http.StatusOK)
		counts := map[string]int{}
		for range requests {
			answer, _, _ := strings.Cut(app.Get(t.Context(), "http://shares/").Body, " ")
			counts[answer]++
		}
		t.Log(counts)
		share, deviation := float64(counts["blue.example.com"])/requests, math.Sqrt(0.75*0.25/requests)
		if math.Abs(share-0.75) > 5*deviation || counts["blue.example.com"]+counts["green.example.com"] != requests {
			t.Errorf("blue has %.3f", share)
		}
	})
}
