//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/externalroute/externalroute/test/e2e/bench"
)

func TestProtocols(t *testing.T) {
	const namespace = "protocols"
	api := mesh.Serve(t, &bench.Upstream{Host: "api.example.com"})
	ports := mesh.Serve(t, &bench.Upstream{Host: "ports.example.com", Port: 8443})
	plain := mesh.Serve(t, &bench.Upstream{Host: "plain.example.com", Plain: true})
	next := make(chan struct{})
	mesh.Serve(t, &bench.Upstream{Host: "stream.example.com", Handler: streams(next)})
	healthy := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(healthy, health.NewServer())
	remote := mesh.Serve(t, &bench.Upstream{Host: "grpc.example.com", Handler: healthy})
	app := begin(t, namespace)
	apply(t, namespace, "protocols.yaml")
	ready(t, namespace)

	t.Run("http://HOST becomes TLS in place, and https://HOST stays what it was", func(t *testing.T) {
		answers(t, app, "http://api.example.com/p", "api.example.com GET /p")
		r := last(t, api)
		same(t, "SNI", r.SNI, api.Host)
		same(t, "authority", r.Host, api.Host)
		answers(t, app, "https://api.example.com/p", "api.example.com GET /p")
		encrypted(t, api)
	})
	t.Run("a port of its own is part of the authority", func(t *testing.T) {
		answers(t, app, "http://port/p", "ports.example.com GET /p")
		r := last(t, ports)
		same(t, "authority", r.Host, "ports.example.com:8443")
		same(t, "SNI", r.SNI, ports.Host)
	})
	t.Run("plain HTTP", func(t *testing.T) {
		answers(t, app, "http://plain/p", "plain.example.com GET /p")
		r := last(t, plain)
		same(t, "authority", r.Host, plain.Host)
		same(t, "SNI", r.SNI, "")
	})
	t.Run("WebSocket", func(t *testing.T) {
		refuses(t, app, "http://stream/ready", http.StatusOK)
		echo(t, app, "ws://stream/echo")
	})
	t.Run("gRPC over HTTP/2", func(t *testing.T) {
		refuses(t, app, "http://grpc/", http.StatusMethodNotAllowed) // gRPC is POST
		healthCheck(t, app, "grpc:80")
		r := last(t, remote)
		same(t, "protocol", r.Proto, "HTTP/2.0")
		same(t, "ALPN", r.ALPN, "h2")
	})
	t.Run("20 MB there and back", func(t *testing.T) {
		body := bytes.Repeat([]byte("0123456789abcdef"), 20<<20/16)
		r := request(t, http.MethodPost, "http://stream/mirror", string(body))
		answer := app.Do(r)
		same(t, "status", answer.Status, http.StatusOK)
		same(t, "checksum", checksum([]byte(answer.Body)), checksum(body))
	})
	t.Run("an answer arrives while it is written", func(t *testing.T) {
		r := request(t, http.MethodGet, "http://stream/lines", "")
		response, err := app.Client(nil).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		lines := bufio.NewScanner(response.Body)
		for i := range 3 {
			if !lines.Scan() {
				t.Fatal(lines.Err())
			}
			same(t, "line", lines.Text(), fmt.Sprint(i))
			next <- struct{}{} // the next one is not written before this one was read
		}
	})
	t.Run("1,000 requests at once, each of which waits for the others", func(t *testing.T) {
		sender := app.Client(nil)
		defer sender.CloseIdleConnections()
		var all sync.WaitGroup
		failures := make(chan error, crowd)
		for range cap(failures) {
			all.Go(func() { failures <- status(t.Context(), sender, "http://stream/wait") })
		}
		all.Wait()
		close(failures)
		for err := range failures {
			if err != nil {
				t.Error(err)
			}
		}
	})
}

func TestDNSThatChanges(t *testing.T) {
	const namespace = "dns"
	old := mesh.Serve(t, &bench.Upstream{Host: "one.example.com"})
	other := mesh.Serve(t, &bench.Upstream{Host: "one.example.com", Unlisted: true})
	app := begin(t, namespace)
	apply(t, namespace, "life.yaml")
	ready(t, namespace)
	answers(t, app, "http://life/old", "one.example.com GET /old")
	last(t, old)

	load := app.Load("http://life/moved")
	more(t, load)
	mesh.DNS.Set("one.example.com", 5*time.Second, 0, other.Address)
	begin := time.Now()
	await(t, "the new address to be used", func() (string, bool) { return "not used", other.Total() > 0 })
	t.Logf("the new address was used after %.1f s (time to live 5 s)", time.Since(begin).Seconds())
	lostNothing(t, load, "one.example.com")
}

const crowd = 1000

// echo sends words over a WebSocket, whose server sends them back.
func echo(t *testing.T, app *bench.App, url string) {
	t.Helper()
	connection, _, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{HTTPClient: app.Client(nil)}) //nolint:bodyclose // the connection is the body
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.CloseNow() }()
	for _, said := range []string{"hello", "again"} {
		if err := connection.Write(t.Context(), websocket.MessageText, []byte(said)); err != nil {
			t.Fatal(err)
		}
		_, heard, err := connection.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		same(t, "echo", string(heard), said)
	}
}

// healthCheck calls a gRPC server in plaintext.
func healthCheck(t *testing.T, app *bench.App, address string) {
	t.Helper()
	connection, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(app.Dial))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	answer, err := grpc_health_v1.NewHealthClient(connection).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "health", answer.GetStatus(), grpc_health_v1.HealthCheckResponse_SERVING)
}

// echoes sends back what comes over a WebSocket.
func echoes(w http.ResponseWriter, r *http.Request) {
	connection, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = connection.CloseNow() }()
	for {
		kind, message, err := connection.Read(r.Context())
		if err != nil || connection.Write(r.Context(), kind, message) != nil {
			return
		}
	}
}

// streams is a server for what is more than a question and an answer.
func streams(next <-chan struct{}) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/ready", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/echo", echoes)
	mux.HandleFunc("/mirror", func(w http.ResponseWriter, r *http.Request) {
		content, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = w.Write(content)
	})
	mux.HandleFunc("/lines", func(w http.ResponseWriter, _ *http.Request) {
		for i := range 3 {
			fmt.Fprintln(w, i)
			_ = http.NewResponseController(w).Flush()
			<-next
		}
	})
	var waiting atomic.Int64
	all := make(chan struct{})
	mux.HandleFunc("/wait", func(_ http.ResponseWriter, r *http.Request) { // for the others
		if waiting.Add(1) == crowd {
			close(all)
		}
		select {
		case <-all:
		case <-r.Context().Done():
		}
	})
	return mux
}

func status(ctx context.Context, sender *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := sender.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", response.Status)
	}
	return nil
}

func checksum(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
