//go:build linux

package e2e

import (
	"bytes"
	"strings"
	"testing"

	"github.com/externalroute/externalroute/test/e2e/bench"
)

// Real databases and their own clients: PostgreSQL, which negotiates TLS inside its protocol, behind tcp://, and Redis, which listens for TLS alone, behind
// tls://.
func TestDatabases(t *testing.T) {
	const namespace = "databases"
	mesh.ServePostgreSQL(t, "db.sql.example.com")
	mesh.ServeRedis(t, "cache.redis.example.com", 6380)
	app := begin(t, namespace)
	apply(t, namespace, "databases.yaml")
	ready(t, namespace)
	arrived(t, app)

	psql := func(mode, query string) string {
		return runs(t, app, bench.PostgreSQL(t, "psql"), "host=orders user=postgres dbname=postgres sslmode="+mode, "--no-psqlrc", "-Atc", query)
	}
	const encrypted = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
	t.Run("psql queries PostgreSQL in plaintext", func(t *testing.T) {
		same(t, "answer", psql("disable", "select 40 + 2"), "42")
		same(t, "the session is encrypted", psql("disable", encrypted), "f")
	})
	t.Run("psql negotiates TLS with PostgreSQL through the route", func(t *testing.T) {
		same(t, "the session is encrypted", psql("require", encrypted), "t")
	})
	t.Run("pgbench runs its transactions", func(t *testing.T) {
		program := bench.PostgreSQL(t, "pgbench")
		runs(t, app, program, "--host=orders", "--username=postgres", "--initialize", "--quiet", "postgres")
		report := runs(t, app, program, "--host=orders", "--username=postgres", "--client=4", "--transactions=50", "postgres")
		for _, want := range []string{"number of transactions actually processed: 200/200", "number of failed transactions: 0"} {
			if !strings.Contains(report, want) {
				t.Errorf("no %q in:\n%s", want, report)
			}
		}
	})
	t.Run("redis-cli speaks plaintext to the alias, and the mesh speaks TLS to Redis", func(t *testing.T) {
		program := bench.Program(t, "redis-cli")
		same(t, "answer", runs(t, app, program, "-h", "cache", "set", "greeting", "hello"), "OK")
		same(t, "answer", runs(t, app, program, "-h", "cache", "get", "greeting"), "hello")
	})
	t.Run("redis-benchmark runs its requests", func(t *testing.T) {
		report := runs(t, app, bench.Program(t, "redis-benchmark"), "-h", "cache", "-n", "2000", "-c", "10", "-t", "set", "--csv")
		if !strings.Contains(report, `"SET",`) {
			t.Error(report)
		}
	})
}

// runs runs a program as the app does, and returns what it prints.
func runs(t *testing.T, app *bench.App, program string, args ...string) string {
	t.Helper()
	command := app.Command(t.Context(), program, args...)
	var problems bytes.Buffer
	command.Stderr = &problems
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, problems.String())
	}
	return strings.TrimSpace(string(output))
}
