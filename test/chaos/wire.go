//go:build linux

package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"io"
	stdlog "log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"k8s.io/client-go/rest"
)

// wire is what lies between the operator and the API server: a TCP proxy, which TLS passes through. Of its connections some may be slow, cut or dead.
type wire struct {
	proxy  *toxiproxy.Proxy
	config *rest.Config // of an operator at its near end
}

func newWire(target *rest.Config) (*wire, error) {
	to, _, err := rest.DefaultServerUrlFor(target)
	if err != nil {
		return nil, err
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	w := &wire{proxy: toxiproxy.NewProxy(server, "wire", "127.0.0.1:0", to.Host), config: rest.CopyConfig(target)}
	if err := w.proxy.Start(); err != nil {
		return nil, err
	}
	w.config.Host, w.config.ServerName = "https://"+w.proxy.Listen, to.Hostname()
	return w, nil
}

func (w *wire) stop() { w.proxy.Stop() }

// cut closes all connections.
func (w *wire) cut() error {
	w.proxy.Stop()
	return w.proxy.Start()
}

// toxic is a disturbance of connections, in toxiproxy's words.
type toxic struct {
	Type       string           `json:"type"`
	Stream     string           `json:"stream"`
	Toxicity   float64          `json:"toxicity"`
	Attributes map[string]int64 `json:"attributes"`
}

// disturb does things to connections, those that stand and new ones, until the function that it returns is called.
func (w *wire) disturb(toxics ...toxic) (calm func(), err error) {
	calm = func() { w.proxy.Toxics.ResetToxics(context.Background()) }
	for _, t := range toxics {
		raw, err := json.Marshal(t)
		if err != nil {
			return nil, err
		}
		if _, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(string(raw))); err != nil {
			calm()
			return nil, err
		}
	}
	return calm, nil
}

// refuser is an HTTP proxy before the API server which answers some of the requests itself, as an API server does that is overloaded or broken.
type refuser struct {
	server *httptest.Server
	config *rest.Config // of an operator that talks to it

	mu      sync.Mutex
	random  *rand.Rand
	share   float64 // of the requests that are refused
	late    time.Duration
	hidden  string // what cannot be looked at: a part of the path
	refused atomic.Int64
}

func newRefuser(target *rest.Config, random *rand.Rand) (*refuser, error) {
	to, _, err := rest.DefaultServerUrlFor(target)
	if err != nil {
		return nil, err
	}
	transport, err := rest.TransportFor(target) // with the operator's certificate: a client's own does not pass a proxy that ends TLS
	if err != nil {
		return nil, err
	}
	f := &refuser{random: random}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ModifyResponse = func(response *http.Response) error {
		if response.Request.Method != http.MethodGet {
			time.Sleep(f.lateness())
		}
		return nil
	}
	proxy.Transport, proxy.FlushInterval, proxy.ErrorLog = transport, -1, stdlog.New(io.Discard, "", 0)
	f.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status := f.verdict(r); status != 0 {
			f.refused.Add(1)
			w.Header().Set("Retry-After", "1")
			http.Error(w, http.StatusText(status), status)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	f.server.Config.ErrorLog = stdlog.New(io.Discard, "", 0)
	f.server.StartTLS()
	f.config = &rest.Config{Host: f.server.URL, TLSClientConfig: rest.TLSClientConfig{
		CAData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.server.Certificate().Raw}),
	}}
	return f, nil
}

// verdict is the status with which the next request is refused, or 0.
func (f *refuser) verdict(r *http.Request) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hidden != "" && r.Method == http.MethodGet && strings.Contains(r.URL.Path, f.hidden) {
		return http.StatusServiceUnavailable
	}
	if f.random.Float64() >= f.share {
		return 0
	}
	return []int{http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}[f.random.IntN(5)]
}

// lateness is how late answers to writes come. Watches tell what they did in time.
func (f *refuser) lateness() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.late
}

// hide cuts all connections, and lets only those watches begin anew that are not of a resource.
func (f *refuser) hide(resource string) {
	f.mu.Lock()
	f.hidden = resource
	f.mu.Unlock()
	f.server.CloseClientConnections()
}

func (f *refuser) answerLate(late time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.late = late
}

func (f *refuser) refuse(share float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.share = share
}
