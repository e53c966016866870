package controlplane

import (
	"encoding/pem"
	"errors"
	"io"
	stdlog "log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Proxy is an HTTP proxy before the API server. It may answer requests itself, as an overloaded API server does, answer writes late, or not at all.
type Proxy struct {
	Config  *rest.Config // of a client that talks to it
	Refused atomic.Int64 // requests
	Lost    atomic.Int64 // answers

	server *httptest.Server

	mu     sync.Mutex
	random *rand.Rand
	share  float64 // of the requests that are refused
	late   time.Duration
	hidden string // of which resources nothing can be read: a part of the path
	losing string // of which resources answers may be lost: a part of the path
	loss   float64
}

// errLost is an answer that the API server gave and the client does not get.
var errLost = errors.New("the answer is lost")

// NewProxy starts a proxy that passes everything on, with the credentials of the configuration.
func NewProxy(target *rest.Config, random *rand.Rand) (*Proxy, error) {
	to, _, err := rest.DefaultServerUrlFor(target)
	if err != nil {
		return nil, err
	}
	transport, err := rest.TransportFor(target) // a client's own certificate does not pass a proxy that ends TLS
	if err != nil {
		return nil, err
	}
	p := &Proxy{random: random}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ModifyResponse = p.modify
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
		if errors.Is(err, errLost) {
			panic(http.ErrAbortHandler) // which closes the connection
		}
		w.WriteHeader(http.StatusBadGateway)
	}
	proxy.Transport, proxy.FlushInterval, proxy.ErrorLog = transport, -1, stdlog.New(io.Discard, "", 0)
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status := p.verdict(r); status != 0 {
			p.Refused.Add(1)
			w.Header().Set("Retry-After", "1")
			http.Error(w, http.StatusText(status), status)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	p.server.Config.ErrorLog = stdlog.New(io.Discard, "", 0)
	p.server.StartTLS()
	p.Config = &rest.Config{Host: p.server.URL, TLSClientConfig: rest.TLSClientConfig{
		CAData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw}),
	}}
	return p, nil
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() {
	p.server.CloseClientConnections()
	p.server.Close()
}

// modify delays or loses the answer to a write. The API server has committed it by now.
func (p *Proxy) modify(response *http.Response) error {
	if response.Request.Method == http.MethodGet {
		return nil
	}
	time.Sleep(p.lateness())
	if response.StatusCode < http.StatusBadRequest && p.loses(response.Request) {
		p.Lost.Add(1)
		return errLost
	}
	return nil
}

// verdict is the status with which the next request is refused, or 0.
func (p *Proxy) verdict(r *http.Request) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hidden != "" && r.Method == http.MethodGet && strings.Contains(r.URL.Path, p.hidden) {
		return http.StatusServiceUnavailable
	}
	if p.random.Float64() >= p.share {
		return 0
	}
	return []int{http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}[p.random.IntN(5)]
}

// lateness is how late answers to writes come. Watches see what they did in time.
func (p *Proxy) lateness() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.late
}

func (p *Proxy) loses(r *http.Request) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Contains(r.URL.Path, p.losing) && p.random.Float64() < p.loss
}

// Hide cuts all connections and, until it is called with "", refuses to read resources whose path contains the words.
func (p *Proxy) Hide(resource string) {
	p.mu.Lock()
	p.hidden = resource
	p.mu.Unlock()
	p.server.CloseClientConnections()
}

// AnswerLate delays the answers to writes.
func (p *Proxy) AnswerLate(late time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.late = late
}

// Refuse answers a share of all requests with 429 or 5xx.
func (p *Proxy) Refuse(share float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.share = share
}

// Lose closes the connection instead of answering a share of the writes to resources whose path contains the words, after the API server committed them.
func (p *Proxy) Lose(share float64, resource string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loss, p.losing = share, resource
}

// Kubeconfig writes a kubeconfig for a client of the proxy into a folder and returns the file.
func (p *Proxy) Kubeconfig(folder string) (string, error) {
	file := filepath.Join(folder, "proxy.kubeconfig")
	return file, WriteKubeconfig(p.Config, file)
}

// WriteKubeconfig writes a client's configuration to a file.
func WriteKubeconfig(config *rest.Config, file string) error {
	content, err := clientcmd.Write(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{"cluster": {
			Server: config.Host, CertificateAuthorityData: config.CAData, TLSServerName: config.ServerName,
		}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"user": {ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}},
		Contexts:       map[string]*clientcmdapi.Context{"context": {Cluster: "cluster", AuthInfo: "user"}},
		CurrentContext: "context",
	})
	if err != nil {
		return err
	}
	return os.WriteFile(file, content, 0o600)
}
