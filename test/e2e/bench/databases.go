//go:build linux

package bench

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// databaseNeeds says what a machine without the databases lacks.
const databaseNeeds = "the stories of TCP routes need PostgreSQL and Redis: apt-get install postgresql redis-server redis-tools"

// asUser runs a program as an ordinary user of a user namespace of its own: PostgreSQL refuses to run as root. What it shares with other processes ends with
// it.
var asUser = []string{"unshare", "--user", "--map-user=65534", "--map-group=65534", "--ipc"}

// PostgreSQL returns the path of one of its programs. Debian does not put all of them on the PATH.
func PostgreSQL(t *testing.T, program string) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + program)
	if len(found) > 0 {
		return found[len(found)-1]
	}
	return Program(t, program)
}

// Program returns the path of a database's program.
func Program(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%v: %s", err, databaseNeeds)
	}
	return path
}

// ServePostgreSQL runs a PostgreSQL server of the outside world on port 5432 until the test ends. It takes every user, with TLS and without.
func (b *Bench) ServePostgreSQL(t *testing.T, host string) {
	t.Helper()
	certificate, key := b.serverFiles(t, host)
	data := filepath.Join(b.Dir, host)
	words := append(slices.Clone(asUser), PostgreSQL(t, "initdb"), "--pgdata", data, "--username", "postgres", "--auth", "trust", "--no-sync")
	if output, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v: %s", err, output)
	}
	if err := os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte("host all all 0.0.0.0/0 trust\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.serveProgram(t, host, 5432, func(address string) []string {
		return []string{
			PostgreSQL(t, "postgres"), "-D", data, "-h", address, "-k", "", "-c", "fsync=off",
			"-c", "ssl=on", "-c", "ssl_cert_file=" + certificate, "-c", "ssl_key_file=" + key,
		}
	})
}

// ServeRedis runs a Redis server of the outside world until the test ends. It takes connections over TLS alone.
func (b *Bench) ServeRedis(t *testing.T, host string, port int) {
	t.Helper()
	certificate, key := b.serverFiles(t, host)
	b.serveProgram(t, host, port, func(address string) []string {
		return []string{
			Program(t, "redis-server"), "--bind", address, "--port", "0", "--tls-port", strconv.Itoa(port), "--save", "", "--dir", b.Dir,
			"--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", certificate, "--tls-auth-clients", "no", "--protected-mode", "no",
		}
	})
}

// serverFiles are a certificate of the world's authority and its key.
func (b *Bench) serverFiles(t *testing.T, host string) (certificate, key string) {
	t.Helper()
	certificate, key = filepath.Join(b.Dir, host+".crt"), filepath.Join(b.Dir, host+".key")
	public, private, err := b.Authority.Issue(time.Now().AddDate(0, 0, 1), host)
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string][]byte{certificate: public, key: private} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key
}

// serveProgram runs a server program on an address of the outside world until the test ends.
func (b *Bench) serveProgram(t *testing.T, host string, port int, program func(address string) []string) {
	t.Helper()
	address, err := b.address()
	if err != nil {
		t.Fatal(err)
	}
	words := slices.Concat([]string{"--net=" + b.world.path}, asUser, program(address))
	p, err := launch(b.Dir, host, nil, "nsenter", words...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	if err := p.await(t.Context(), func() error {
		connection, err := b.world.dial(context.Background(), net.JoinHostPort(address, strconv.Itoa(port)))
		if err != nil {
			return fmt.Errorf("connect to %s: %w", host, err)
		}
		return connection.Close()
	}); err != nil {
		t.Fatal(err)
	}
	b.DNS.Set(host, 5*time.Second, 0, address)
	t.Cleanup(func() { b.DNS.Remove(host) })
}
