//go:build linux

package e2e

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/externalroute/externalroute/test/e2e/bench"
)

func TestOnlyTheVerifiedServerReceivesRequests(t *testing.T) {
	const namespace = "impostors"
	tomorrow, yesterday := time.Now().AddDate(0, 0, 1), time.Now().AddDate(0, 0, -1)
	foreign, err := bench.NewAuthority("another authority")
	if err != nil {
		t.Fatal(err)
	}
	certificate := func(a *bench.Authority, until time.Time, name string) *tls.Certificate {
		c, err := a.Server(until, name)
		if err != nil {
			t.Fatal(err)
		}
		return &c
	}
	impostors := map[string]*bench.Upstream{
		"a certificate for another name":                          {Host: "other-name.example.com", Certificate: certificate(mesh.Authority, tomorrow, "attacker.example.net")},
		"a certificate for another name, where only SNI is given": {Host: "other-name-with-sni.example.com", Certificate: certificate(mesh.Authority, tomorrow, "attacker.example.net")},
		"a certificate from another authority":                    {Host: "other-authority.example.com", Certificate: certificate(foreign, tomorrow, "other-authority.example.com")},
		"a certificate that has expired":                          {Host: "expired.example.com", Certificate: certificate(mesh.Authority, yesterday, "expired.example.com")},
	}
	for _, impostor := range impostors {
		mesh.Serve(t, impostor)
	}
	wildcard := mesh.Serve(t, &bench.Upstream{Host: "one.wild.example.org", Certificate: certificate(mesh.Authority, tomorrow, "*.wild.example.org")})
	app := begin(t, namespace)
	apply(t, namespace, "impostors.yaml")
	ready(t, namespace)

	for name, impostor := range impostors {
		t.Run(name+" gets no request", func(t *testing.T) {
			alias, _, _ := strings.Cut(impostor.Host, ".")
			answer := refuses(t, app, "http://"+alias+"/secret", http.StatusServiceUnavailable)
			if tried := untilHandshakeFails(t, app, "http://"+alias+"/secret", impostor); !tried {
				t.Errorf("the handshake was never tried: %s", answer)
			}
			same(t, "requests at the impostor", impostor.Total(), 0)
			encrypted(t, impostor)
		})
	}
	t.Run("a wildcard certificate is as good as any", func(t *testing.T) {
		answers(t, app, "http://wildcard/", wildcard.Host+" GET /")
	})
}

// A new cluster answers 503 for a moment before its name is resolved: only a handshake that failed proves something.
func untilHandshakeFails(t *testing.T, app *bench.App, url string, u *bench.Upstream) bool {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if failures := u.FailedHandshakes(); len(failures) > 0 {
			t.Log(failures[0])
			return true
		}
		app.Fresh(t.Context(), url)
	}
	return false
}

func TestCertificatesOfTheCompany(t *testing.T) {
	const namespace = "company"
	company, err := bench.NewAuthority("the company's")
	if err != nil {
		t.Fatal(err)
	}
	tomorrow := time.Now().AddDate(0, 0, 1)

	t.Run("a host with a certificate from the company's own authority", func(t *testing.T) {
		certificate, err := company.Server(tomorrow, "intranet.example.com")
		if err != nil {
			t.Fatal(err)
		}
		intranet := mesh.Serve(t, &bench.Upstream{Host: "intranet.example.com", Certificate: &certificate})
		app := begin(t, namespace)
		apply(t, namespace, "own-authority.yaml")
		becomes(t, namespace, "intranet", "Accepted", "False CACertificateMissing")
		authority := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "company-ca"}, Data: map[string]string{"ca.crt": string(company.PEM())}}
		if err := mesh.Cluster.Create(t.Context(), authority); err != nil {
			t.Fatal(err)
		}
		ready(t, namespace)
		answers(t, app, "http://intranet/", intranet.Host+" GET /")
		encrypted(t, intranet)
	})
	t.Run("a host that asks for a client certificate gets it from the pods chosen, and nothing from others", func(t *testing.T) {
		certificate, err := company.Server(tomorrow, "bank.example.com")
		if err != nil {
			t.Fatal(err)
		}
		bank := mesh.Serve(t, &bench.Upstream{
			Host:        "bank.example.com",
			Certificate: &certificate,
			TLS:         &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: company.Pool()},
		})
		shop := begin(t, namespace)
		payments := mesh.App(t, namespace, map[string]string{"app": "payments"})
		own, key, err := company.Issue(tomorrow, "client.example.com")
		if err != nil {
			t.Fatal(err)
		}
		secret := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "bank-client"},
			Data:       map[string][]byte{"tls.crt": own, "tls.key": key, "ca.crt": company.PEM()},
		}
		if err := mesh.Cluster.Create(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
		apply(t, namespace, "mutual.yaml")
		ready(t, namespace)
		answers(t, payments, "http://bank/", bank.Host+" GET /")
		r := last(t, bank)
		same(t, "client certificate", r.ClientCertificate, "client.example.com")
		same(t, "SNI", r.SNI, bank.Host)
		for range 10 {
			if r := shop.Fresh(t.Context(), "http://bank/"); r.Status == http.StatusOK {
				t.Errorf("the shop reached the bank: %s", r)
			}
		}
		same(t, "requests from the shop", len(bank.Requests()), 0)
		encrypted(t, bank)
	})
}
