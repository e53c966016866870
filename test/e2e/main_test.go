//go:build linux

// Package e2e proves on the wire what the operator claims in YAML: each story applies manifests that a user could copy, sends requests through a real
// Envoy that a real istiod configures, and looks at what the app and the outside world saw.
package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/externalroute/externalroute/test/e2e/bench"
)

const raw = "raw.githubusercontent.com"

var mesh *bench.Bench

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if err := bench.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	b, err := bench.Start(func(part string, took time.Duration) { fmt.Printf("%5.1f s  %s\n", took.Seconds(), part) })
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	mesh = b
	interrupt := make(chan os.Signal, 1)
	signal.Notify(interrupt, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupt
		_ = b.Stop(true) // the exit ends what it leaves
		fmt.Fprintln(os.Stderr, "interrupted; logs:", b.Dir)
		os.Exit(130)
	}()
	code := 1
	if err := b.StartOperator(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	if err := b.Stop(code != 0); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if code != 0 {
		fmt.Fprintln(os.Stderr, "logs:", b.Dir)
	}
	return code
}

// apply applies a manifest of testdata to a namespace; ${NAME} in it stands for values, given as NAME, VALUE, ...
func apply(t *testing.T, namespace, file string, values ...string) {
	t.Helper()
	applyText(t, namespace, manifest(t, file, values...))
}

// manifest reads a manifest of testdata with its values.
func manifest(t *testing.T, file string, values ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	replacements := make([]string, 0, len(values))
	for i := 0; i < len(values); i += 2 {
		replacements = append(replacements, "${"+values[i]+"}", values[i+1])
	}
	return strings.NewReplacer(replacements...).Replace(string(content))
}

func applyText(t *testing.T, namespace, manifest string) {
	t.Helper()
	kubectl(t, manifest, "apply", "--namespace", namespace, "-f", "-")
}

// kubectl runs as the admin and fails the test with what it says.
func kubectl(t *testing.T, input string, args ...string) string {
	t.Helper()
	command := mesh.Kubectl(t.Context(), args...)
	command.Stdin = strings.NewReader(input)
	var problems bytes.Buffer
	command.Stderr = &problems
	output, err := command.Output()
	if err != nil {
		t.Fatalf("kubectl %s: %v: %s", strings.Join(args, " "), err, problems.String())
	}
	return string(output)
}

// forget deletes what a story left in a namespace, routes first, and waits until it is gone: the next app there begins with nothing.
func forget(t *testing.T, namespace string) {
	t.Helper()
	for _, kinds := range []string{"externalroutes", "virtualservices,gateways.networking.istio.io,serviceentries,destinationrules,services,sidecars"} {
		output, err := mesh.Kubectl(context.Background(), "delete", kinds, "--all", "--namespace", namespace).CombinedOutput()
		if err != nil {
			t.Errorf("clean up %s: %v: %s", namespace, err, output)
		}
	}
}
