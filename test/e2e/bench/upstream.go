//go:build linux

package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Upstream is a server of the outside world. By default it speaks TLS on port 443 with a good certificate, answers every request for its own host with
// "HOST METHOD URI" and, as many real servers do, every other with 404.
type Upstream struct {
	Host        string // its name in DNS, and what it answers to
	Port        int
	Plain       bool             // it speaks HTTP without TLS, on port 80 by default
	Certificate *tls.Certificate // defaults to one for the host by the bench's authority
	TLS         *tls.Config      // what else its TLS does
	Handler     http.Handler     // answers in place of the default
	Conn        func(net.Conn)   // serves each connection in place of HTTP
	Unlisted    bool             // DNS does not know it

	Address string // where it listens; defaults to an address of its own

	mu        sync.Mutex
	requests  []Request
	total     atomic.Int64
	failures  []string
	plaintext []string
}

// Request is a request as an upstream saw it.
type Request struct {
	Method, URI, Host, Proto string
	Header                   http.Header
	TLS, SNI, ALPN           string // its version, the name asked for, the protocol agreed on; empty without TLS
	ClientCertificate        string // its common name
}

const remembered = 10_000 // more than any story looks at; a load sends more

// Serve makes an upstream answer until the test ends.
func (b *Bench) Serve(t *testing.T, u *Upstream) *Upstream {
	t.Helper()
	stop, err := b.StartUpstream(u)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return u
}

// StartUpstream makes an upstream answer until the function that it returns is called.
func (b *Bench) StartUpstream(u *Upstream) (stop func(), err error) {
	if u.Port == 0 {
		u.Port = 443
		if u.Plain {
			u.Port = 80
		}
	}
	if u.Address == "" {
		if u.Address, err = b.address(); err != nil {
			return nil, err
		}
	}
	server := &http.Server{
		Handler:           http.HandlerFunc(u.answer),
		ErrorLog:          log.New(u, "", 0),
		ReadHeaderTimeout: time.Minute,
		Protocols:         new(http.Protocols),
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	serve := server.Serve
	if !u.Plain {
		if server.TLSConfig, err = u.tlsConfig(b.Authority); err != nil {
			return nil, err
		}
		serve = func(l net.Listener) error { return server.ServeTLS(&suspicious{l, u}, "", "") }
	}
	listener, err := b.world.listen(net.JoinHostPort(u.Address, strconv.Itoa(u.Port)))
	if err != nil {
		return nil, err
	}
	closes := server.Close
	if u.Conn != nil {
		serve = func(l net.Listener) error { return u.serveConnections(l, server.TLSConfig) }
		closes = listener.Close
	}
	go func() { _ = serve(listener) }() // until it closes
	if !u.Unlisted {
		b.DNS.Set(u.Host, 5*time.Second, 0, u.Address)
	}
	return func() {
		if !u.Unlisted {
			b.DNS.Remove(u.Host)
		}
		_ = closes()
	}, nil
}

func (u *Upstream) tlsConfig(authority *Authority) (*tls.Config, error) {
	if u.Certificate == nil {
		certificate, err := authority.Server(time.Now().AddDate(0, 0, 1), u.Host)
		if err != nil {
			return nil, err
		}
		u.Certificate = &certificate
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if u.TLS != nil {
		config = u.TLS.Clone()
	}
	config.Certificates = []tls.Certificate{*u.Certificate}
	return config, nil
}

func (u *Upstream) answer(w http.ResponseWriter, r *http.Request) {
	u.record(r)
	if u.Handler != nil {
		u.Handler.ServeHTTP(w, r)
		return
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	if host != u.Host {
		http.Error(w, "no such site: "+r.Host, http.StatusNotFound)
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	fmt.Fprintf(w, "%s %s %s", u.Host, r.Method, r.RequestURI)
}

func (u *Upstream) record(r *http.Request) {
	u.total.Add(1)
	seen := Request{Method: r.Method, URI: r.RequestURI, Host: r.Host, Proto: r.Proto, Header: r.Header.Clone()}
	if r.TLS != nil {
		seen.TLS = tls.VersionName(r.TLS.Version)
		seen.SNI, seen.ALPN = r.TLS.ServerName, r.TLS.NegotiatedProtocol
		if len(r.TLS.PeerCertificates) > 0 {
			seen.ClientCertificate = r.TLS.PeerCertificates[0].Subject.CommonName
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.requests) < remembered {
		u.requests = append(u.requests, seen)
	}
}

// Write takes the server's error log: that is where Go tells of handshakes that failed.
func (u *Upstream) Write(line []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if bytes.Contains(line, []byte("TLS handshake error")) && !bytes.HasSuffix(bytes.TrimSpace(line), []byte("EOF")) {
		u.failures = append(u.failures, strings.TrimSpace(string(line)))
	}
	return len(line), nil
}

// Requests returns what arrived since the last call.
func (u *Upstream) Requests() []Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	seen := u.requests
	u.requests = nil
	return seen
}

// Total is the number of requests that ever arrived.
func (u *Upstream) Total() int64 { return u.total.Load() }

// FailedHandshakes returns what the server's log says of handshakes that were broken off since the last call.
func (u *Upstream) FailedHandshakes() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	seen := u.failures
	u.failures = nil
	return seen
}

// AwaitFailedHandshakes waits until there are any: the server may learn why a client hung up after the client has told its own caller.
func (u *Upstream) AwaitFailedHandshakes(ctx context.Context) (failed []string, err error) {
	err = eventually(ctx, "a handshake should fail", func() error {
		if failed = u.FailedHandshakes(); len(failed) == 0 {
			return errors.New("none has")
		}
		return nil
	})
	return failed, err
}

// Plaintext returns the beginnings of connections to a TLS port that did not begin with a handshake, ever.
func (u *Upstream) Plaintext() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]string(nil), u.plaintext...)
}

// suspicious looks at the first bytes of each connection.
type suspicious struct {
	net.Listener
	upstream *Upstream
}

func (s *suspicious) Accept() (net.Conn, error) {
	connection, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &suspect{Conn: connection, upstream: s.upstream}, nil
}

type suspect struct {
	net.Conn
	upstream *Upstream
	looked   bool
}

func (s *suspect) Read(b []byte) (int, error) {
	const handshake = 0x16
	n, err := s.Conn.Read(b)
	if n > 0 && !s.looked {
		s.looked = true
		if b[0] != handshake {
			s.upstream.mu.Lock()
			s.upstream.plaintext = append(s.upstream.plaintext, string(b[:min(n, 80)]))
			s.upstream.mu.Unlock()
		}
	}
	return n, err
}
