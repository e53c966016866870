//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/test/e2e/bench"
)

func TestTimeToTheFirstRightAnswer(t *testing.T) {
	const (
		namespace = "latency"
		routes    = 20
		allowance = 100 * time.Millisecond
	)
	certificate, err := mesh.Authority.Server(time.Now().AddDate(0, 0, 1), "*.latency.example.com")
	if err != nil {
		t.Fatal(err)
	}
	upstream := mesh.Serve(t, &bench.Upstream{Host: "latency.example.com", Certificate: &certificate, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Host)
	})})
	app := begin(t, namespace)
	appears := watchVirtualServices(t, namespace)

	var total, operator, istiod, byHand []time.Duration
	for i := range routes {
		for _, file := range []string{"latency.yaml", "handwritten.yaml"} {
			alias := fmt.Sprintf("%.1s%d", file, i)
			host := alias + ".latency.example.com"
			mesh.DNS.Set(host, time.Minute, 0, upstream.Address)
			apply(t, namespace, file, "ALIAS", alias, "HOST", host)
			applied := time.Now()
			answered := firstAnswer(t, app, "http://"+alias+"/", host)
			written := <-appears
			if file == "handwritten.yaml" {
				byHand = append(byHand, answered.Sub(applied))
				continue
			}
			total = append(total, answered.Sub(applied))
			operator = append(operator, max(0, written.Sub(applied))) // kubectl needs a moment to end, in which the operator is done
			istiod = append(istiod, answered.Sub(written))
		}
	}
	t.Logf("from kubectl apply to the first right answer, %d routes: %s", routes, spread(total))
	t.Logf("  of which until the VirtualService was written (the operator): %s", spread(operator))
	t.Logf("  of which from then on (istiod, Envoy, DNS and TLS): %s", spread(istiod))
	t.Logf("objects written by hand: %s", spread(byHand))
	if slower := median(total) - median(byHand); slower > allowance {
		t.Logf("MISSED: a route takes %s longer than objects written by hand", slower) // a figure, and no verdict: machines are noisy
	}
}

// watchVirtualServices tells when each new VirtualService of a namespace appears.
func watchVirtualServices(t *testing.T, namespace string) <-chan time.Time {
	t.Helper()
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(schema.GroupVersionKind{Group: "networking.istio.io", Version: "v1", Kind: "VirtualServiceList"})
	events, err := mesh.Cluster.Watch(t.Context(), list, client.InNamespace(namespace))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(events.Stop)
	appears := make(chan time.Time, 1000)
	go func() {
		for event := range events.ResultChan() {
			if event.Type == watch.Added {
				appears <- time.Now()
			}
		}
	}()
	return appears
}

func firstAnswer(t *testing.T, app *bench.App, url, body string) time.Time {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if app.Fresh(t.Context(), url).Body == body {
			return time.Now()
		}
	}
	t.Fatalf("%s never answered", url)
	return time.Time{}
}

func median(durations []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(durations))[len(durations)/2]
}

func spread(durations []time.Duration) string {
	return fmt.Sprintf("median %d ms, %d to %d", median(durations).Milliseconds(), slices.Min(durations).Milliseconds(), slices.Max(durations).Milliseconds())
}
