//go:build linux

package e2e

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/externalroute/externalroute/test/e2e/bench"
)

// tcpPort is the port of every server and alias here: what must not disturb each other is on one port.
const tcpPort = ":5432"

func tcpServer(t *testing.T, u *bench.Upstream) *bench.Upstream {
	t.Helper()
	u.Port = 5432
	if u.Conn == nil {
		u.Conn = bench.Echoes(u.Host)
	}
	return mesh.Serve(t, u)
}

// tcpRoute applies a route whose alias is its name. More are other fields of its spec.
func tcpRoute(t *testing.T, namespace, name, destinations string, more ...string) {
	t.Helper()
	applyText(t, namespace, fmt.Sprintf("{apiVersion: networking.externalroute.io/v1alpha1, kind: ExternalRoute, metadata: {name: %s}, spec: {%s}}",
		name, strings.Join(append(more, "hosts: ["+name+"]", "destinations: "+destinations), ", ")))
}

// says waits until a server behind an alias answers.
func says(t *testing.T, app *bench.App, address, line, want string) {
	t.Helper()
	await(t, address+" to answer "+want, func() (string, bool) {
		got, err := app.Talk(t.Context(), address, line)
		return fmt.Sprint(got, err), err == nil && got == want
	})
}

func TestTCP(t *testing.T) {
	const namespace = "tcp"
	one := tcpServer(t, &bench.Upstream{Host: "one.tcp.example.com"})
	two := tcpServer(t, &bench.Upstream{Host: "two.tcp.example.com"})
	app := begin(t, namespace)

	t.Run("the mesh speaks verified TLS for the app, to both destinations alike", func(t *testing.T) {
		tcpRoute(t, namespace, "both", `[{url: "tls://one.tcp.example.com:5432"}, {name: second, url: "tls://two.tcp.example.com:5432"}]`)
		says(t, app, "both"+tcpPort, "hello", one.Host+" hello")
		says(t, app, "both"+tcpPort, "hello", two.Host+" hello")
		one.Requests()
		two.Requests()
		for range 200 {
			if got, err := app.Talk(t.Context(), "both"+tcpPort, "hello"); err != nil || !strings.HasSuffix(got, " hello") {
				t.Fatal(got, err)
			}
		}
		seen := one.Requests()
		same(t, "SNI", seen[0].SNI, one.Host)
		same(t, "ALPN", seen[0].ALPN, "")
		if n := len(seen); n < 60 || n > 140 || n+len(two.Requests()) != 200 { // less likely than 1 in 10^8
			t.Errorf("%d of 200 connections reached the first of two", n)
		}
	})
	t.Run("a server with another name's certificate gets nothing", func(t *testing.T) {
		certificate, err := mesh.Authority.Server(time.Now().AddDate(0, 0, 1), "another.example.com")
		if err != nil {
			t.Fatal(err)
		}
		impostor := tcpServer(t, &bench.Upstream{Host: "impostor.tcp.example.com", Certificate: &certificate})
		tcpRoute(t, namespace, "impostor", `[{url: "tls://impostor.tcp.example.com:5432"}]`)
		ready(t, namespace)
		arrived(t, app)
		got, err := app.Talk(t.Context(), "impostor"+tcpPort, "hello")
		same(t, "answer", fmt.Sprint(got, err), "closed<nil>")
		if _, err := impostor.AwaitFailedHandshakes(t.Context()); err != nil {
			t.Error(err)
		}
		same(t, "connections", len(impostor.Requests()), 0)
		encrypted(t, impostor)
	})
	t.Run("a server that speaks first does so, with and without TLS", func(t *testing.T) {
		tcpServer(t, &bench.Upstream{Host: "mail.tcp.example.com", Plain: true, Conn: bench.Greets("mail")})
		tcpServer(t, &bench.Upstream{Host: "secure.tcp.example.com", Conn: bench.Greets("secure")})
		tcpRoute(t, namespace, "mail", `[{url: "tcp://mail.tcp.example.com:5432"}]`)
		tcpRoute(t, namespace, "secure", `[{url: "tls://secure.tcp.example.com:5432"}]`)
		says(t, app, "mail"+tcpPort, "", "mail greets")
		says(t, app, "secure"+tcpPort, "", "secure greets")
	})
	t.Run("a CA and a client certificate of the namespace's own serve too", func(t *testing.T) {
		company, err := bench.NewAuthority("the company's")
		if err != nil {
			t.Fatal(err)
		}
		tomorrow := time.Now().AddDate(0, 0, 1)
		certificate, err := company.Server(tomorrow, "bank.tcp.example.com")
		if err != nil {
			t.Fatal(err)
		}
		bank := tcpServer(t, &bench.Upstream{
			Host: "bank.tcp.example.com", Certificate: &certificate,
			TLS: &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: company.Pool()},
		})
		own, key, err := company.Issue(tomorrow, "client.example.com")
		if err != nil {
			t.Fatal(err)
		}
		meta := metav1.ObjectMeta{Namespace: namespace, Name: "bank"}
		if err := mesh.Cluster.Create(t.Context(), &corev1.Secret{ObjectMeta: meta, Data: map[string][]byte{"tls.crt": own, "tls.key": key, "ca.crt": company.PEM()}}); err != nil {
			t.Fatal(err)
		}
		tcpRoute(t, namespace, "bank", `[{url: "tls://bank.tcp.example.com:5432", tls: {clientCertificateRef: {name: bank}}}]`,
			"workloadSelector: {matchLabels: {app: client}}")
		says(t, app, "bank"+tcpPort, "hello", bank.Host+" hello")
		same(t, "client certificate", last(t, bank).ClientCertificate, "client.example.com")

		certificate, err = company.Server(tomorrow, "intranet.tcp.example.com")
		if err != nil {
			t.Fatal(err)
		}
		intranet := tcpServer(t, &bench.Upstream{Host: "intranet.tcp.example.com", Certificate: &certificate})
		if err := mesh.Cluster.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"ca.crt": string(company.PEM())}}); err != nil {
			t.Fatal(err)
		}
		tcpRoute(t, namespace, "intranet", `[{url: "tls://intranet.tcp.example.com:5432", tls: {caCertificateRefs: [{name: bank}]}}]`)
		says(t, app, "intranet"+tcpPort, "hello", intranet.Host+" hello")
		encrypted(t, bank, intranet)
	})
	t.Run("nothing can connect to the address of the private name", func(t *testing.T) {
		address := kubectl(t, "", "get", "serviceentries", "--namespace", namespace, "-o", "jsonpath={.items[0].spec.addresses[0]}")
		if _, err := app.Dial(t.Context(), address+tcpPort); !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a move to another host loses no connection", func(t *testing.T) {
		const stays, moves = `[{url: "tls://one.tcp.example.com:5432"}]`, `[{url: "tls://two.tcp.example.com:5432"}]`
		tcpRoute(t, namespace, "moving", stays)
		says(t, app, "moving"+tcpPort, "hello", one.Host+" hello")
		finish := talksOn(t, app, "moving"+tcpPort)
		for range 2 {
			tcpRoute(t, namespace, "moving", moves)
			says(t, app, "moving"+tcpPort, "hello", two.Host+" hello")
			becomes(t, namespace, "moving", "Ready", "True")
			tcpRoute(t, namespace, "moving", stays)
			says(t, app, "moving"+tcpPort, "hello", one.Host+" hello")
			becomes(t, namespace, "moving", "Ready", "True")
		}
		talked, lost := finish()
		if len(lost) > 0 || talked == 0 {
			t.Errorf("%d of %d connections were lost, such as %q", len(lost), talked, lost[0])
		}
		t.Logf("%d connections", talked)
	})
	encrypted(t, one, two)
}

// Whatever else uses the port does so as before: when the route comes, while it is there, and when it goes. And whichever of its objects is missing, the host
// never gets plaintext.
func TestTCPLeavesOthersAlone(t *testing.T) {
	db := tcpServer(t, &bench.Upstream{Host: "db.tcp.example.com"})
	passthrough := tcpServer(t, &bench.Upstream{Host: "passthrough.tcp.example.com"})
	orders := tcpServer(t, &bench.Upstream{Host: "orders", Plain: true, Unlisted: true})
	second := tcpServer(t, &bench.Upstream{Host: "second", Plain: true, Unlisted: true})
	direct := tcpServer(t, &bench.Upstream{Host: "direct", Plain: true, Unlisted: true, Conn: bench.Greets("direct")})
	for _, c := range []struct {
		namespace string
		manifests []string
		want      map[string]string
	}{
		{"tcp-open", nil, map[string]string{"direct address": "direct greets", "passthrough": passthrough.Host + " hello", "db": db.Host + " hello"}},
		{"tcp-closed", []string{"registry-only.yaml", "tcp-passthrough.yaml"}, map[string]string{"direct address": "closed", "passthrough": passthrough.Host + " hello", "db": "closed"}},
	} {
		t.Run(c.namespace, func(t *testing.T) {
			app := begin(t, c.namespace)
			apply(t, c.namespace, "tcp-neighbours.yaml", "ORDERS", orders.Address, "SECOND", second.Address)
			for _, file := range c.manifests {
				apply(t, c.namespace, file)
			}
			arrived(t, app)
			says(t, app, "orders"+tcpPort, "hello", "orders hello")
			want := maps.Clone(c.want)
			want["orders"], want["second"] = "orders hello", "second hello"
			neighbours := func(when string) {
				t.Helper()
				line := "" // it speaks first
				if c.want["direct address"] == "closed" {
					line = "hello"
				}
				got := map[string]string{}
				for name, talk := range map[string]func() (string, error){
					"orders":         func() (string, error) { return app.Talk(t.Context(), "orders"+tcpPort, "hello") },
					"second":         func() (string, error) { return app.Talk(t.Context(), second.Address+tcpPort, "hello") },
					"direct address": func() (string, error) { return app.Talk(t.Context(), direct.Address+tcpPort, line) },
					"passthrough":    func() (string, error) { return app.TalkTLS(t.Context(), passthrough.Host+tcpPort, "hello") },
					"db":             func() (string, error) { return app.TalkTLS(t.Context(), db.Host+tcpPort, "hello") },
				} {
					answer, err := talk()
					if err != nil {
						answer = err.Error()
					}
					got[name] = answer
				}
				if !maps.Equal(got, want) {
					t.Errorf("%s: got %v, want %v", when, got, want)
				}
			}
			neighbours("before")
			create := func() {
				t.Helper()
				tcpRoute(t, c.namespace, "db", `[{url: "tls://db.tcp.example.com:5432"}]`)
				says(t, app, "db"+tcpPort, "hello", db.Host+" hello")
			}
			create()
			neighbours("while the route is there")

			address := kubectl(t, "", "get", "service", "db", "--namespace", c.namespace, "-o", "jsonpath={.spec.clusterIP}") + tcpPort
			finish := talksOn(t, app, address)
			for _, kind := range []string{"virtualservice", "destinationrule", "serviceentry", "service"} {
				lose(t, c.namespace, "db", kind)
				arrived(t, app)
				got, err := app.Talk(t.Context(), address, "hello")
				same(t, "answer without the "+kind, fmt.Sprint(got, err), "closed<nil>")
				neighbours("without the " + kind)
				if kind != "service" { // a new one would have another address
					patchRoute(t, c.namespace, "db", `{"suspend": false}`)
					create()
				}
			}
			finish()
			kubectl(t, "", "delete", "externalroute", "db", "--namespace", c.namespace)
			await(t, "the objects to go", func() (string, bool) {
				objects := generated(t, c.namespace)
				return fmt.Sprint(objects), len(objects) == 0
			})
			arrived(t, app)
			neighbours("after")
			encrypted(t, db, passthrough)
		})
	}
}

// A connection that is open goes on while its settings change, and while objects go. (Envoy closes it at the end of its drain time when the VirtualService
// changed; the bench's Envoy drains for longer than a test.)
func TestTCPKeepsOpenConnections(t *testing.T) {
	const namespace = "tcp-open-connections"
	db := tcpServer(t, &bench.Upstream{Host: "long.tcp.example.com"})
	app := begin(t, namespace)
	tcpRoute(t, namespace, "db", `[{url: "tls://long.tcp.example.com:5432"}]`)
	says(t, app, "db"+tcpPort, "hello", db.Host+" hello")
	c, err := app.Dial(t.Context(), "db"+tcpPort)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Minute)); err != nil { // far more than all steps take
		t.Fatal(err)
	}
	answers := bufio.NewReader(c)
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"before", func() {}},
		{"other TLS settings", func() {
			tcpRoute(t, namespace, "db", `[{url: "tls://long.tcp.example.com:5432", tls: {subjectAltNames: [long.tcp.example.com, other.example.com]}}]`)
			becomes(t, namespace, "db", "Ready", "True")
		}},
		{"no VirtualService", func() { lose(t, namespace, "db", "virtualservice") }},
		{"no DestinationRule", func() { lose(t, namespace, "db", "destinationrule") }},
		{"no ServiceEntry", func() { lose(t, namespace, "db", "serviceentry") }},
		{"no Service", func() { lose(t, namespace, "db", "service") }},
	} {
		step.do()
		arrived(t, app)
		if _, err := fmt.Fprintln(c, step.name); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		answer, err := answers.ReadString('\n')
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		same(t, "answer", answer, db.Host+" "+step.name+"\n")
	}
	encrypted(t, db)
}

// lose deletes an object of a route, which the operator then leaves as it is.
func lose(t *testing.T, namespace, route, kind string) {
	t.Helper()
	patchRoute(t, namespace, route, `{"suspend": true}`)
	await(t, "the route to be suspended", func() (string, bool) {
		last := condition(t, namespace, route, "Programmed")
		return last, strings.Contains(last, "Suspended")
	})
	if kind == "service" {
		kubectl(t, "", "delete", kind, route, "--namespace", namespace)
		return
	}
	kubectl(t, "", "delete", kind, "--namespace", namespace, "--selector", "app.kubernetes.io/managed-by=externalroute")
}

func patchRoute(t *testing.T, namespace, route, spec string) {
	t.Helper()
	kubectl(t, "", "patch", "externalroute", route, "--namespace", namespace, "--type", "merge", "--patch", `{"spec": `+spec+`}`)
}

// talksOn lets the app send a line to an address over and over, until the function that it returns is called. That returns how often it did, and what became
// of the lines that were not answered.
func talksOn(t *testing.T, app *bench.App, address string) (finish func() (talked int, lost []string)) {
	t.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	var talked int
	var lost []string
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				talked++
				if answer, err := app.Talk(t.Context(), address, "hello"); err != nil || !strings.HasSuffix(answer, " hello") {
					lost = append(lost, fmt.Sprint(answer, err))
				}
			}
		}
	}()
	return func() (int, []string) {
		close(stop)
		<-done
		return talked, lost
	}
}
