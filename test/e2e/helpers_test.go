//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/externalroute/externalroute/test/e2e/bench"
)

// begin starts an app in a namespace that is empty afterwards.
func begin(t *testing.T, namespace string) *bench.App {
	t.Helper()
	app := mesh.App(t, namespace, nil)
	t.Cleanup(func() { forget(t, namespace) })
	return app
}

// ready waits until the operator says so of every route of a namespace, and returns what it says then.
func ready(t *testing.T, namespace string) {
	t.Helper()
	kubectl(t, "", "wait", "--namespace", namespace, "--for=condition=Ready", "externalroutes", "--all", "--timeout=120s")
}

// condition reads a condition of a route as "Status Reason: message", or nothing when it is absent.
func condition(t *testing.T, namespace, route, condition string) string {
	t.Helper()
	path := `{range .status.conditions[?(@.type=="` + condition + `")]}{.status} {.reason}: {.message}{end}`
	return kubectl(t, "", "get", "externalroute", route, "--namespace", namespace, "-o", "jsonpath="+path)
}

// becomes waits until a condition of a route begins with the words.
func becomes(t *testing.T, namespace, route, kind, words string) {
	t.Helper()
	await(t, fmt.Sprintf("%s of %s/%s to be %q", kind, namespace, route, words), func() (string, bool) {
		last := condition(t, namespace, route, kind)
		return last, strings.HasPrefix(last, words)
	})
}

// await asks until the answer is yes, for far longer than it takes on a busy machine.
func await(t *testing.T, what string, ask func() (state string, done bool)) {
	t.Helper()
	var state string
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var done bool
		if state, done = ask(); done {
			return
		}
	}
	t.Fatalf("waited for %s, but it is %s", what, state)
}

var marks atomic.Int64

// arrived waits until the sidecar of an app has everything that was written before: a mark of each kind comes after it on the way through istiod.
func arrived(t *testing.T, app *bench.App) {
	t.Helper()
	mark := strconv.FormatInt(marks.Add(1), 10)
	apply(t, app.Namespace, "mark.yaml", "MARK", mark)
	answers(t, app, "http://mark/", mark)
	cluster := fmt.Sprintf("outbound|443|mark|mark-%s.example.com::", mark)
	await(t, "the cluster "+cluster, func() (string, bool) { return "missing", strings.Contains(app.Admin(t, "clusters"), cluster) })
}

// generated lists the operator's objects of a namespace that are Istio's.
func generated(t *testing.T, namespace string) []string {
	t.Helper()
	return strings.Fields(kubectl(t, "", "get", "serviceentries,destinationrules,virtualservices", "--namespace", namespace,
		"--selector", "app.kubernetes.io/managed-by=externalroute", "-o", "name"))
}

// answers sends GET requests until the answer is 200 with the body.
func answers(t *testing.T, app *bench.App, url, body string) {
	t.Helper()
	last, ok := app.Until(t.Context(), url, func(r bench.Response) bool { return r.Err == nil && r.Status == http.StatusOK && r.Body == body })
	if !ok {
		t.Fatalf("%s: want 200 %q, got %s", url, body, last)
	}
}

// refuses sends GET requests until the answer has the status.
func refuses(t *testing.T, app *bench.App, url string, status int) bench.Response {
	t.Helper()
	last, ok := app.Until(t.Context(), url, func(r bench.Response) bool { return r.Err == nil && r.Status == status })
	if !ok {
		t.Fatalf("%s: want %d, got %s", url, status, last)
	}
	return last
}

// last returns the request that arrived last.
func last(t *testing.T, u *bench.Upstream) bench.Request {
	t.Helper()
	requests := u.Requests()
	if len(requests) == 0 {
		t.Fatalf("no request arrived at %s", u.Host)
	}
	return requests[len(requests)-1]
}

// request makes a request for the app to send.
func request(t *testing.T, method, url, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// same fails the test when two values differ.
func same[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// encrypted fails the test when anything but TLS reached the upstreams' TLS ports.
func encrypted(t *testing.T, upstreams ...*bench.Upstream) {
	t.Helper()
	for _, u := range upstreams {
		if plain := u.Plaintext(); len(plain) > 0 {
			t.Errorf("%d times plaintext at the TLS port of %s, such as %q", len(plain), u.Host, slices.Compact(plain)[0])
		}
	}
}
