//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/externalroute/externalroute/hack/demo/teller"
	"github.com/externalroute/externalroute/test/e2e/bench"
)

const (
	namespace = "demo"
	manifest  = "config/samples/smallest.yaml"
	alias     = "http://webserver/"

	host  = "raw.githubusercontent.com"
	other = "mirror.example.com"
	path  = "/mcasperson/NodejsProxy/master/externalservice1.txt"
	text  = "Hello from externalservice1.txt, a file outside of the mesh.\n"
)

// story has the chapters.
type story struct {
	*teller.Teller

	mesh        *bench.Bench
	app         *bench.App
	server      *bench.Upstream                 // plays the host of the manifest
	certificate atomic.Pointer[tls.Certificate] // in place of the server's own
}

// started is a line of what the story needs before it begins.
func (t *story) started(part string, took time.Duration) { t.Say("%5.1f s  %s", took.Seconds(), part) }

// populate starts the operator, the servers outside and the app.
func (t *story) populate(ctx context.Context) (end func(), err error) {
	var ends []func()
	end = func() {
		for _, e := range slices.Backward(ends) {
			e()
		}
	}
	t.Plane = t.mesh.ControlPlane
	began := time.Now()
	if err := t.mesh.StartOperator(); err != nil {
		return end, err
	}
	t.started("the operator, as kubectl apply -k config/default installs it", time.Since(began))

	began = time.Now()
	t.server = &bench.Upstream{Host: host, Handler: serveFile(host), TLS: &tls.Config{
		MinVersion:             tls.VersionTLS12,
		GetCertificate:         t.chooseCertificate,
		SessionTicketsDisabled: true, // a session that is resumed shows no certificate
	}}
	for _, u := range []*bench.Upstream{t.server, {Host: other, Handler: serveFile(other)}} {
		stop, err := t.mesh.StartUpstream(u)
		if err != nil {
			return end, err
		}
		ends = append(ends, stop)
	}
	t.started("HTTPS servers that play "+host+" and "+other+",", time.Since(began))
	t.Say("         with certificates of a CA that this mesh takes for the public ones")

	began = time.Now()
	if t.app, err = t.mesh.StartApp(ctx, namespace, nil); err != nil {
		return end, err
	}
	t.started("an app in a network namespace of its own: all that it sends goes through its Envoy", time.Since(began))
	t.Quietly(ctx, "config", "set-context", "--current", "--namespace", namespace)
	return end, t.Err
}

// serveFile answers as a real server does: with the file under its own name and path, and with 404 under any other. A client that reads gets a connection
// of its own, so that each call of curl is a TLS handshake.
func serveFile(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.Header().Set("Connection", "close")
		}
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Host != name || r.URL.Path != path {
			http.NotFound(w, r)
			return
		}
		if r.Method == http.MethodPost { // the load: it counts who answered
			_, _ = io.WriteString(w, name+" ")
		}
		_, _ = io.WriteString(w, text)
	}
}

func (t *story) chooseCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := t.certificate.Load(); c != nil {
		return c, nil
	}
	return t.server.Certificate, nil
}

// curl runs curl where the app is, and fails the story when it does not print the words.
func (t *story) curl(ctx context.Context, words string) {
	args := []string{"-sS", alias}
	output, _ := t.Show(t.app.Command(ctx, "curl", args...), "curl", args...) // how it ended, the words tell
	if !strings.Contains(output, words) {
		t.Check(fmt.Errorf("curl should have printed %q", words))
	}
}

func (t *story) before(ctx context.Context) {
	t.Heading("Before: the app calls %s", alias)
	t.curl(ctx, "Could not resolve host: webserver")
}

func (t *story) manifest(ctx context.Context) {
	t.Heading("One manifest: %s shall be a file on the internet, over verified TLS", alias)
	t.File(manifest)
	t.Kubectl(ctx, "apply", "-f", manifest)
	t.Kubectl(ctx, "wait", "--for=condition=Ready", "externalroute/webserver", "--timeout=60s")
	t.awaitEnvoy(ctx)
}

// awaitEnvoy waits until istiod has sent the route to Envoy and Envoy has resolved the host's name: that is no part of what the operator promises.
func (t *story) awaitEnvoy(ctx context.Context) {
	if t.Err != nil {
		return
	}
	began := time.Now()
	if answer, ok := t.app.Until(ctx, alias, func(r bench.Response) bool { return r.Body == text }); !ok {
		t.Check(fmt.Errorf("the app gets no right answer, but %s", answer))
	}
	t.Say("The app's Envoy has it from istiod %d ms later.", time.Since(began).Milliseconds())
	t.server.Requests() // forget these
}

func (t *story) after(ctx context.Context) {
	t.Heading("After: the same call")
	t.curl(ctx, text)
}

func (t *story) seen(context.Context) {
	t.Heading("What the server saw of it")
	requests := t.server.Requests()
	if t.Err != nil || len(requests) != 1 {
		t.Check(fmt.Errorf("the server saw %d requests, want 1", len(requests)))
		return
	}
	r := requests[0]
	t.Say("request     %s %s %s", r.Method, r.URI, r.Proto)
	t.Say("authority   %s", r.Host)
	t.Say("SNI         %s", r.SNI)
	t.Say("encryption  %s", r.TLS)
	if r.URI != path || r.Host != host || r.SNI != host || !strings.HasPrefix(r.TLS, "TLS 1.") {
		t.Check(errors.New("that is not what the manifest asks for"))
	}
}

func (t *story) impostor(ctx context.Context) {
	t.Heading("Is the certificate verified? The server now shows one for another name, of the same CA")
	impostor, err := t.mesh.Authority.Server(time.Now().AddDate(0, 0, 1), "attacker.example.net")
	t.Check(err)
	t.certificate.Store(&impostor)
	t.curl(ctx, "upstream connect error")
	t.certificate.Store(nil)
	if t.Err != nil {
		return
	}
	failed, err := t.server.AwaitFailedHandshakes(ctx)
	t.Check(err)
	if requests, plaintext := t.server.Requests(), t.server.Plaintext(); len(requests) > 0 || len(plaintext) > 0 {
		t.Check(fmt.Errorf("the server saw %d requests, and %d times plaintext", len(requests), len(plaintext)))
	}
	if t.Err != nil {
		return
	}
	t.Say("The server saw no request, but Envoy's answer to that certificate:\n%s", failed[0])
}

func (t *story) edit(ctx context.Context) {
	const enough = 2000 // requests before the edit and after it
	t.Heading("An edit under load: the route moves to another host while 4 clients of the app send requests without a pause")
	if t.Err != nil {
		return
	}
	load := t.app.Load(alias)
	defer load.Stop()
	t.Check(load.Await(ctx, enough))
	patch := fmt.Sprintf(`{"spec": {"destinations": [{"url": "https://%s%s"}]}}`, other, path)
	t.Kubectl(ctx, "patch", "externalroute/webserver", "--type=merge", "--patch", patch)
	t.Kubectl(ctx, "wait", "--for=condition=Ready", "externalroute/webserver", "--timeout=60s")
	t.Check(load.AwaitServed(ctx, other, enough))
	report := load.Stop()
	t.Say("%d requests: %d answered by %s, then %d by %s, %d failed.", report.Total, report.Served[host], host, report.Served[other], other, report.Failed)
	if report.Failed > 0 {
		t.Check(fmt.Errorf("requests failed: %s", report))
	}
}

func (t *story) removal(ctx context.Context) {
	t.Heading("The route is deleted: all is as before")
	t.Kubectl(ctx, "delete", "externalroute/webserver")
	t.Kubectl(ctx, "wait", "--for=delete", "service/webserver", "--timeout=60s")
	t.curl(ctx, "Could not resolve host: webserver")
}
