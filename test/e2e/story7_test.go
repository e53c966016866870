//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/test/e2e/bench"
)

const life = "http://life/"

// edit is a change of a route while requests flow.
type edit struct {
	name   string
	spec   string // a merge patch of the spec
	moves  bool   // the contract settles it
	serves string // who answers afterwards
}

func TestEditsLoseNoRequest(t *testing.T) {
	const namespace = "life"
	one := mesh.Serve(t, &bench.Upstream{Host: "one.example.com"})
	two := mesh.Serve(t, &bench.Upstream{Host: "two.example.com"})
	ports := mesh.Serve(t, &bench.Upstream{Host: "ports.example.com"})
	mesh.Serve(t, &bench.Upstream{Host: "ports.example.com", Port: 9443, Address: ports.Address})
	mesh.Serve(t, &bench.Upstream{Host: "plain.example.com", Plain: true})
	mesh.Serve(t, &bench.Upstream{Host: "ports.example.com", Plain: true, Address: ports.Address})
	app := begin(t, namespace)
	authority := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "company-ca"},
		Data:       map[string]string{"ca.crt": string(mesh.Authority.PEM())},
	}
	if err := mesh.Cluster.Create(t.Context(), authority); err != nil {
		t.Fatal(err)
	}
	apply(t, namespace, "life.yaml")
	ready(t, namespace)
	answers(t, app, life, "one.example.com GET /")

	destinations := func(words string) string { return `{"destinations": [` + words + `]}` }
	primary := func(url string) string { return destinations(fmt.Sprintf(`{"url": %q}`, url)) }
	for _, e := range []edit{
		{name: "SNI and names", spec: destinations(`{"url": "https://one.example.com", "tls": {"sni": "one.example.com", "subjectAltNames": ["one.example.com", "two.example.com"]}}`)},
		{name: "an authority of its own", spec: destinations(`{"url": "https://one.example.com", "tls": {"caCertificateRefs": [{"name": "company-ca"}]}}`)},
		{name: "the system's authorities again", spec: primary("https://one.example.com")},
		{name: "HTTP/2 and a pool", spec: destinations(`{"url": "https://one.example.com", "protocol": "HTTP2", "connectionPool": {"maxPendingRequests": 1000}}`)},
		{name: "scope Host", spec: destinations(`{"url": "https://one.example.com", "tls": {"scope": "Host"}}`)},
		{name: "scope Route", spec: primary("https://one.example.com")},
		{name: "rules", spec: `{"rules": [{"match": [{"uri": {"prefix": "/x"}}], "timeout": "5s"}, {"headers": {"request": {"set": {"x-tenant": "100%"}}}}]}`},
		{name: "no rules", spec: `{"rules": null}`},
		{name: "another host", spec: primary("https://two.example.com"), moves: true, serves: "two.example.com"},
		{name: "another host again", spec: primary("https://one.example.com"), moves: true, serves: "one.example.com"},
		{name: "a second destination", spec: destinations(`{"url": "https://one.example.com"}, {"name": "second", "url": "https://two.example.com"}`), moves: true, serves: "two.example.com"},
		{name: "its weight", spec: destinations(`{"url": "https://one.example.com", "weight": 9}, {"name": "second", "url": "https://two.example.com"}`)},
		{name: "the second alone", spec: destinations(`{"name": "second", "url": "https://two.example.com"}`), serves: "two.example.com"},
		{name: "a destination renamed", spec: destinations(`{"name": "renamed", "url": "https://two.example.com"}`), moves: true, serves: "two.example.com"},
		{name: "fixed addresses", spec: destinations(fmt.Sprintf(`{"url": "https://one.example.com", "endpoints": [{"address": %q}]}`, one.Address)), moves: true, serves: "one.example.com"},
		{name: "no fixed addresses", spec: primary("https://two.example.com"), moves: true, serves: "two.example.com"},
		{name: "chosen pods only", spec: `{"workloadSelector": {"matchLabels": {"app": "client"}}}`, moves: true, serves: "two.example.com"},
		{name: "all pods", spec: `{"workloadSelector": null}`, moves: true, serves: "two.example.com"},
		{name: "exported", spec: `{"exportTo": [".", "elsewhere"]}`, moves: true, serves: "two.example.com"},
		{name: "not exported", spec: `{"exportTo": ["."]}`, moves: true, serves: "two.example.com"},
		{name: "port 9443", spec: primary("https://ports.example.com:9443"), moves: true, serves: "ports.example.com"},
		{name: "port 443", spec: primary("https://ports.example.com"), moves: true, serves: "ports.example.com"},
		{name: "the same host without TLS", spec: primary("http://ports.example.com"), moves: true, serves: "ports.example.com"},
		{name: "and with TLS again", spec: primary("https://ports.example.com"), moves: true, serves: "ports.example.com"},
		{name: "without TLS", spec: primary("http://plain.example.com"), moves: true, serves: "plain.example.com"},
		{name: "with TLS", spec: primary("https://one.example.com"), moves: true, serves: "one.example.com"},
	} {
		t.Run(e.name, func(t *testing.T) {
			load := app.Load(life)
			more(t, load)
			switched := watchSwitching(t, namespace)
			patch(t, namespace, e.spec)
			ready(t, namespace)
			if e.moves {
				await(t, "Programmed to be Switching for a while", func() (string, bool) { return "never so", switched() })
			}
			cleaned(t, namespace)
			arrived(t, app)
			lostNothing(t, load, e.serves)
		})
	}

	t.Run("an edit that is refused leaves the old route at work", func(t *testing.T) {
		load := app.Load(life)
		patch(t, namespace, destinations(`{"url": "https://one.example.com/a"}, {"name": "second", "url": "https://two.example.com/b"}`))
		becomes(t, namespace, "life", "Accepted", "False Invalid: ")
		arrived(t, app)
		lostNothing(t, load, "one.example.com")
		patch(t, namespace, primary("https://one.example.com"))
		ready(t, namespace)
	})
	t.Run("the operator dies in the middle of a move", func(t *testing.T) {
		load := app.Load(life)
		restart(t, "--settle=1h") // so that it is in the middle for as long as it takes to kill it
		patch(t, namespace, primary("https://two.example.com"))
		becomes(t, namespace, "life", "Programmed", "False Switching: ")
		mesh.Operator.Kill()
		more(t, load)
		restart(t)
		ready(t, namespace)
		cleaned(t, namespace)
		arrived(t, app)
		lostNothing(t, load, "two.example.com")
	})
	t.Run("istiod dies", func(t *testing.T) {
		load := app.Load(life)
		for range 2 {
			more(t, load)
			if err := mesh.Istiod.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			arrived(t, app) // Envoy has connected again
		}
		lostNothing(t, load, "two.example.com")
	})
	t.Run("what was left behind is gone", func(t *testing.T) {
		same(t, "objects", len(generated(t, namespace)), 3)
		encrypted(t, one, two)
	})
}

func patch(t *testing.T, namespace, spec string) {
	t.Helper()
	kubectl(t, "", "patch", "externalroute", "life", "--namespace", namespace, "--type", "merge", "--patch", `{"spec": `+spec+`}`)
}

// lostNothing ends a load and fails the test when a request of it failed, or when the upstream named did not answer the last ones.
func lostNothing(t *testing.T, load *bench.Load, serves string) {
	t.Helper()
	var err error
	if serves == "" {
		err = load.Await(t.Context(), enough)
	} else {
		err = load.AwaitServed(t.Context(), serves, enough)
	}
	report := load.Stop()
	t.Log(report)
	if report.Failed > 0 || report.Total == 0 {
		t.Errorf("requests were lost")
	}
	if err != nil {
		t.Errorf("%v: %v", err, report.Served)
	}
}

const enough = 1000 // requests before and after a change

// more waits until a load has sent many more requests.
func more(t *testing.T, load *bench.Load) {
	t.Helper()
	if err := load.Await(t.Context(), enough); err != nil {
		t.Fatal(err)
	}
}

// restart ends the operator, if it runs, and starts it with flags.
func restart(t *testing.T, flags ...string) {
	t.Helper()
	mesh.Operator.Kill()
	if err := mesh.Operator.Start(t.Context(), flags...); err != nil {
		t.Fatal(err)
	}
}

// watchSwitching answers, at any time, whether the route of the namespace has said Switching since the call: that may last shorter than a slow test looks.
func watchSwitching(t *testing.T, namespace string) (seen func() bool) {
	t.Helper()
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion("networking.externalroute.io/v1alpha1")
	list.SetKind("ExternalRouteList")
	events, err := mesh.Cluster.Watch(t.Context(), list, client.InNamespace(namespace))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(events.Stop)
	var switching atomic.Bool
	go func() {
		for event := range events.ResultChan() {
			route, _ := event.Object.(*unstructured.Unstructured)
			if route == nil {
				continue
			}
			for _, c := range itemsAt(route.Object, "status", "conditions") {
				if c["reason"] == "Switching" {
					switching.Store(true)
				}
			}
		}
	}()
	return switching.Load
}

// cleaned waits until nothing is left of before a move: each object is one that the VirtualService sends traffic to.
func cleaned(t *testing.T, namespace string) {
	t.Helper()
	await(t, "nothing but what carries traffic", func() (string, bool) {
		problem := leftover(t, namespace)
		return problem, problem == ""
	})
}

func leftover(t *testing.T, namespace string) string {
	t.Helper()
	var list unstructured.UnstructuredList
	objects := kubectl(t, "", "get", "serviceentries,destinationrules,virtualservices", "--namespace", namespace,
		"--selector", "app.kubernetes.io/managed-by=externalroute", "-o", "json")
	if err := json.Unmarshal([]byte(objects), &list); err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{} // hosts, and subsets as HOST|SUBSET
	for _, v := range list.Items {
		for _, rule := range itemsAt(v.Object, "spec", "http") {
			for _, to := range itemsAt(rule, "route") {
				host, _, _ := unstructured.NestedString(to, "destination", "host")
				subset, _, _ := unstructured.NestedString(to, "destination", "subset")
				used[host], used[host+"|"+subset] = true, true
			}
		}
	}
	declared := map[string]bool{} // KIND HOST
	for _, o := range list.Items {
		hosts := stringsAt(o.Object, "spec", "hosts")
		switch o.GetKind() {
		case "VirtualService":
			continue
		case "DestinationRule":
			host, _, _ := unstructured.NestedString(o.Object, "spec", "host")
			hosts = []string{host}
			for _, s := range itemsAt(o.Object, "spec", "subsets") {
				if name := fmt.Sprint(s["name"]); !used[host+"|"+name] {
					return "subset " + name + " of " + o.GetName()
				}
			}
		}
		for _, host := range hosts {
			if key := o.GetKind() + " " + host; !used[host] || declared[key] {
				return o.GetKind() + " " + o.GetName()
			}
			declared[o.GetKind()+" "+host] = true
		}
	}
	return ""
}

func TestDeletionNeverSendsPlaintext(t *testing.T) {
	for _, scope := range []string{"Route", "Host"} {
		t.Run("scope "+scope, func(t *testing.T) {
			namespace := "deletion-" + strings.ToLower(scope)
			one := mesh.Serve(t, &bench.Upstream{Host: "one.example.com"})
			app := begin(t, namespace)
			applyText(t, namespace, "{apiVersion: v1, kind: Service, metadata: {name: life}, spec: {ports: [{name: http, port: 80}]}}")
			arrived(t, app)                                                // before that, the sidecar answers for no Service
			before := refuses(t, app, life, http.StatusServiceUnavailable) // a Service without pods
			apply(t, namespace, "life.yaml")
			patch(t, namespace, fmt.Sprintf(`{"destinations": [{"url": "https://one.example.com", "tls": {"scope": %q}}]}`, scope))
			ready(t, namespace)
			answers(t, app, life, "one.example.com GET /")

			t.Run("a DestinationRule deleted by hand comes back", func(t *testing.T) {
				load := app.Load(life)
				lost := generated(t, namespace)
				kubectl(t, "", "delete", "destinationrules", "--all", "--namespace", namespace)
				await(t, "the DestinationRule to be recreated", func() (string, bool) {
					now := generated(t, namespace)
					return fmt.Sprint(now), slices.Equal(now, lost)
				})
				arrived(t, app)
				atWorst503(t, load)
				answers(t, app, life, "one.example.com GET /")
				encrypted(t, one)
			})
			t.Run("a DestinationRule that stays away is a 503", func(t *testing.T) {
				mesh.Operator.Kill()
				load := app.Load(life)
				kubectl(t, "", "delete", "destinationrules", "--all", "--namespace", namespace)
				refuses(t, app, life, http.StatusServiceUnavailable)
				arrived(t, app)
				atWorst503(t, load)
				encrypted(t, one)
				restart(t)
				answers(t, app, life, "one.example.com GET /")
			})
			t.Run("the route deleted is what was before", func(t *testing.T) {
				load := app.Load(life)
				kubectl(t, "", "delete", "externalroute", "life", "--namespace", namespace)
				await(t, "the garbage collector to delete everything", func() (string, bool) {
					left := generated(t, namespace)
					return fmt.Sprint(left), len(left) == 0
				})
				arrived(t, app)
				atWorst503(t, load)
				same(t, "answer", app.Fresh(t.Context(), life).String(), before.String())
				encrypted(t, one)
			})
		})
	}
}

// atWorst503 ends a load and fails the test when something else than 200 and 503 was answered.
func atWorst503(t *testing.T, load *bench.Load) {
	t.Helper()
	more(t, load)
	report := load.Stop()
	t.Logf("%d of %d failed", report.Failed, report.Total)
	for answer, times := range report.Failures {
		if !strings.Contains(answer, "s 503 ") {
			t.Errorf("%d times %s", times, answer)
		}
	}
}
