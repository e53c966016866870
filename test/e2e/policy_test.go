//go:build linux

package e2e

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/externalroute/externalroute/test/e2e/bench"
)

// A policy closes the door under running traffic, which fails and never leaves in plaintext, and opens it again.
func TestPolicyClosesTheDoorAndOpensIt(t *testing.T) {
	const namespace = "policy-door"
	web, passed := mesh.Serve(t, &bench.Upstream{Host: "web.door.example.com"}), mesh.Serve(t, &bench.Upstream{Host: "passed.door.example.com"})
	app := begin(t, namespace)
	apply(t, namespace, "registry-only.yaml")
	apply(t, namespace, "egress.yaml", "GATEWAY", "null", "HOST", web.Host)
	apply(t, namespace, "egress-pass.yaml", "GATEWAY", "null", "HOST", passed.Host)
	ready(t, namespace)
	answers(t, app, "http://web/", web.Host+" GET /")
	answers(t, app, "https://"+passed.Host+"/", passed.Host+" GET /")

	load := app.Load("http://web/")
	more(t, load)
	allow(t, namespace, "*.elsewhere.example.com", nil)
	for _, route := range []string{"web", "passed"} {
		becomes(t, namespace, route, "Accepted", "False NotAllowedByPolicy: ")
	}
	await(t, "the operator to delete everything", func() (string, bool) {
		left := everything(t, namespace)
		return left, left == ""
	})
	arrived(t, app)
	load.Stop()
	web.Requests()
	passed.Requests()
	for range 10 {
		if got := app.Fresh(t.Context(), "http://web/"); got.Err == nil && got.Status < http.StatusInternalServerError {
			t.Errorf("the mesh answers %s", got)
		}
		if got := app.Fresh(t.Context(), "https://"+passed.Host+"/"); got.Err == nil {
			t.Errorf("the host answers %s", got)
		}
	}
	same(t, "requests behind the door", len(web.Requests())+len(passed.Requests()), 0)

	allow(t, namespace, "*.door.example.com", nil)
	ready(t, namespace)
	answers(t, app, "http://web/", web.Host+" GET /")
	answers(t, app, "https://"+passed.Host+"/", passed.Host+" GET /")
	encrypted(t, web, passed)
}

// A policy moves the routes of a namespace to its gateway, to another one and back, without a change of a route, and no request is lost.
func TestPolicyMovesANamespaceToTheGateway(t *testing.T) {
	const namespace, out, url = "policy-road", "policy-road-out", "http://web/"
	web, passed := mesh.Serve(t, &bench.Upstream{Host: "web.road.example.com"}), mesh.Serve(t, &bench.Upstream{Host: "passed.road.example.com"})
	a, b := egress(t, out, "egress-a"), mesh.Gateway(t, out, "egress-b")
	app := begin(t, namespace)
	apply(t, namespace, "registry-only.yaml")
	apply(t, namespace, "egress.yaml", "GATEWAY", "null", "HOST", web.Host)
	pass := manifest(t, "egress-pass.yaml", "GATEWAY", "null", "HOST", passed.Host)
	applyText(t, namespace, pass)
	applyText(t, namespace, strings.Replace(pass, "name: passed", "name: passed-as-well", 1)) // routes of one host can only move together
	ready(t, namespace)
	answers(t, app, url, web.Host+" GET /")
	answers(t, app, "https://"+passed.Host+"/", passed.Host+" GET /")
	for _, step := range []struct {
		name     string
		to, from *bench.Gateway
	}{{"to a gateway", a, nil}, {"to another gateway", b, a}, {"back", nil, b}} {
		t.Run(step.name, func(t *testing.T) {
			loads := []*bench.Load{app.Load(url), app.LoadAnew(5, "https://"+passed.Host+"/")}
			for _, load := range loads {
				more(t, load)
			}
			allow(t, namespace, "*.road.example.com", step.to)
			await(t, "the operator to see the policy", func() (string, bool) {
				first := kubectl(t, "", "get", "virtualservice/web", "--namespace", namespace, "-o", "jsonpath={.spec.http[0].route[0].destination.host}")
				want := web.Host
				if step.to != nil {
					want = step.to.Host()
				}
				return first, first == want
			})
			moved(t, namespace, step.from, web, web)
			arrived(t, app)
			arrivedAt(t, a)
			arrivedAt(t, b)
			lostNothing(t, loads[0], web.Host)
			lostNothing(t, loads[1], passed.Host)
			if step.to == nil {
				return
			}
			kept(t, app, web, passed)
			app.Hangup()
			loggedEach(t, step.to, web.Address, passed.Address)
		})
	}
	encrypted(t, web, passed)
}

// A destination shows a client certificate of the gateway's if a policy allows it.
func TestPolicyAllowsAClientCertificateOfTheGateway(t *testing.T) {
	const namespace, out = "policy-certificate", "policy-certificate-out"
	bank, secret := bankWith(t, "bank.certificate.example.com", out)
	g := egress(t, out, "bank")
	app := begin(t, namespace)
	apply(t, namespace, "registry-only.yaml")
	apply(t, namespace, "certificate.yaml", "ROAD", "egressGateway: "+reference(g), "HOST", bank.Host)
	becomes(t, namespace, "web", "Accepted", "False NotAllowedByPolicy: ")
	same(t, "objects", everything(t, namespace), "")
	allow(t, namespace, bank.Host, nil)
	ready(t, namespace)
	refuses(t, app, "http://web/", http.StatusServiceUnavailable)
	showsAfterAll(t, app, bank, secret)
	logged(t, g, bank.Address)
	kept(t, app, bank)
}

// bankWith is an upstream that asks for a client certificate, and the Secret with one in a namespace, which does not exist yet.
func bankWith(t *testing.T, host, namespace string) (*bench.Upstream, *corev1.Secret) {
	t.Helper()
	authority, err := bench.NewAuthority("the bank's")
	if err != nil {
		t.Fatal(err)
	}
	tomorrow := time.Now().AddDate(0, 0, 1)
	certificate, err := authority.Server(tomorrow, host)
	if err != nil {
		t.Fatal(err)
	}
	own, key, err := authority.Issue(tomorrow, "client.example.com")
	if err != nil {
		t.Fatal(err)
	}
	bank := mesh.Serve(t, &bench.Upstream{
		Host: host, Certificate: &certificate,
		TLS: &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority.Pool()},
	})
	return bank, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "client"},
		Data:       map[string][]byte{"tls.crt": own, "tls.key": key, "ca.crt": authority.PEM()},
	}
}

// showsAfterAll creates the Secret that the requests of an app need.
func showsAfterAll(t *testing.T, app *bench.App, bank *bench.Upstream, secret *corev1.Secret) {
	t.Helper()
	same(t, "requests without the Secret", len(bank.Requests()), 0)
	if err := mesh.Cluster.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := mesh.Cluster.Delete(context.Background(), secret); err != nil {
			t.Error(err)
		}
	})
	answers(t, app, "http://web/", bank.Host+" GET /")
	same(t, "client certificate", last(t, bank).ClientCertificate, "client.example.com")
	encrypted(t, bank)
}

// allow lets a namespace reach hosts through a gateway, or directly, as long as the test runs.
func allow(t *testing.T, namespace, hosts string, through *bench.Gateway) {
	t.Helper()
	t.Cleanup(func() {
		if err := mesh.Kubectl(context.Background(), "delete", "externalroutepolicy", namespace, "--ignore-not-found").Run(); err != nil {
			t.Error(err)
		}
	})
	apply(t, namespace, "policy.yaml", "NAMESPACE", namespace, "HOSTS", hosts, "GATEWAY", reference(through))
}
