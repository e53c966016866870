//go:build linux

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/externalroute/externalroute/test/controlplane"
	"github.com/externalroute/externalroute/test/e2e/bench"
)

// A route moves while the operator does not learn that its writes were committed, and loses no request.
func TestLostAnswersLoseNoRequest(t *testing.T) {
	const namespace = "life"
	for i := range 2 {
		mesh.DNS.Set(lossy(i), 5*time.Second, slowDNS, mesh.Serve(t, &bench.Upstream{Host: lossy(i)}).Address)
	}
	app := begin(t, namespace)
	proxy := behindProxy(t)
	apply(t, namespace, "life.yaml")
	move := func(t *testing.T, to string) {
		t.Helper()
		patch(t, namespace, fmt.Sprintf(`{"destinations": [{"url": "https://%s"}]}`, to))
		ready(t, namespace)
		cleaned(t, namespace)
	}
	move(t, lossy(0))
	answers(t, app, life, lossy(0)+" GET /")
	at := 0
	for _, c := range []struct {
		name, resource string
		share          float64
		moves          int
	}{
		{"of all writes of Istio's objects", "/networking.istio.io/", 1, 2},
		{"of all writes of VirtualServices", "/virtualservices/", 1, 6},
		{"of all writes of the status", "/externalroutes/", 1, 1},
		{"of half of the writes", "", 0.5, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			load := app.Load(life)
			more(t, load)
			lost := proxy.Lost.Load()
			proxy.Lose(c.share, c.resource)
			defer proxy.Lose(0, "")
			for range c.moves {
				at = 1 - at
				move(t, lossy(at))
				arrived(t, app)
				serves(t, load, lossy(at))
			}
			lostNothing(t, load, lossy(at))
			t.Logf("%d answers lost", proxy.Lost.Load()-lost)
			if proxy.Lost.Load() == lost {
				t.Error("no answer was lost")
			}
		})
	}
}

func lossy(i int) string { return fmt.Sprintf("lossy%d.example.com", i) }

// behindProxy runs the operator behind a proxy until the test ends.
func behindProxy(t *testing.T) *controlplane.Proxy {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", mesh.Operator.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := controlplane.NewProxy(config, rand.New(rand.NewPCG(1, 1))) //nolint:gosec // to be repeated, not secret
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		mesh.Operator.Kill()
		proxy.Close()
		if err := mesh.Operator.Start(context.Background()); err != nil {
			t.Error(err)
		}
	})
	kubeconfig, err := proxy.Kubeconfig(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	restart(t, "--kubeconfig", kubeconfig)
	return proxy
}
