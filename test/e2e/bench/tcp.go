//go:build linux

package bench

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Echoes answers each line with "NAME line", and says nothing before that, as Redis does.
func Echoes(name string) func(net.Conn) {
	return func(c net.Conn) {
		for lines := bufio.NewScanner(c); lines.Scan(); {
			if _, err := fmt.Fprintf(c, "%s %s\n", name, lines.Text()); err != nil {
				return
			}
		}
	}
}

// Greets speaks first, as MySQL and SMTP do.
func Greets(name string) func(net.Conn) {
	return func(c net.Conn) {
		if _, err := fmt.Fprintf(c, "%s greets\n", name); err == nil {
			_, _ = io.Copy(io.Discard, c)
		}
	}
}

// Talk connects the app to HOST:PORT, sends the line unless it is empty, and returns the first line of the answer. A connection that ends without an answer
// is "closed".
func (a *App) Talk(ctx context.Context, address, line string) (string, error) {
	c, err := a.Dial(ctx, address)
	if err != nil {
		return "", err
	}
	return talk(c, line)
}

// TalkTLS is Talk with TLS of the app's own.
func (a *App) TalkTLS(ctx context.Context, address, line string) (string, error) {
	c, err := a.Dial(ctx, address)
	if err != nil {
		return "", err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	return talk(tls.Client(c, &tls.Config{RootCAs: a.bench.Authority.Pool(), ServerName: host, MinVersion: tls.VersionTLS12}), line)
}

func talk(c net.Conn, line string) (string, error) {
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if line != "" {
		if _, err := fmt.Fprintln(c, line); err != nil {
			return ended(err)
		}
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return ended(err)
	}
	return strings.TrimSuffix(answer, "\n"), nil
}

func ended(err error) (string, error) {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "", err
	}
	return "closed", nil
}

// serveConnections is http.Server.Serve for u.Conn.
func (u *Upstream) serveConnections(l net.Listener, config *tls.Config) error {
	if config != nil {
		l = &suspicious{l, u}
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go u.serveConnection(c, config)
	}
}

func (u *Upstream) serveConnection(c net.Conn, config *tls.Config) {
	defer c.Close()
	seen := &http.Request{}
	if config != nil {
		secure := tls.Server(c, config)
		if err := secure.HandshakeContext(context.Background()); err != nil {
			_, _ = fmt.Fprintf(u, "TLS handshake error: %v", err)
			return
		}
		state := secure.ConnectionState()
		seen.TLS, c = &state, secure
	}
	u.record(seen)
	u.Conn(c)
}
