//go:build linux

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/externalroute/externalroute/test/controlplane"
	"github.com/externalroute/externalroute/test/e2e/bench"
)

const randomNamespace, randomGateway = "random", "egress"

// Random routes, drawn from the CRD's schema and translated by the operator's own code (test/random/cases), reach a real Envoy, and it refuses none of
// them: one value that it refuses would freeze all routes of a sidecar. RANDOM_SEEDS draws more, RANDOM_FROM is the first seed.
func TestRandomRoutes(t *testing.T) {
	tryRandom(t, egress(t, randomNamespace+"-egress", randomGateway), 40, 160)
}

// Routes with hundreds of random regular expressions each, up to the size that is just not refused: what the translation lets pass, Envoy takes.
func TestRandomRegexes(t *testing.T) {
	tryRandom(t, nil, 10, 20, "-regexes")
}

func tryRandom(t *testing.T, g *bench.Gateway, size, seeds int, flags ...string) {
	t.Helper()
	begin, routes, batches, behind := time.Now(), 0, 0, 0
	send := func(b *batchOfRoutes) {
		b.gateway = g
		for _, r := range b.routes {
			if _, is, _ := unstructured.NestedMap(r.Route.Object, "spec", "egressGateway"); is {
				behind++
			}
		}
		batches++
		routes += len(b.routes)
		for _, finding := range b.findings(t) {
			t.Error(finding)
		}
	}
	inBatches(t, size, seeds, send, flags...)
	took := time.Since(begin)
	t.Logf("%d routes, %d of them behind a gateway, in %d batches reached Envoy in %s", routes, behind, batches, took.Round(time.Second))
	if routes < seeds/10 {
		t.Error("too few routes reached Envoy to say anything")
	}
}

// inBatches draws routes and sends them in batches of a size, each route beside none that it rivals.
func inBatches(t *testing.T, size, seeds int, send func(*batchOfRoutes), flags ...string) {
	t.Helper()
	var open []*batchOfRoutes
	for r := range randomRoutes(t, variable(t, "RANDOM_FROM", 0), variable(t, "RANDOM_SEEDS", seeds), flags...) {
		i := slices.IndexFunc(open, func(b *batchOfRoutes) bool { return b.add(r) })
		if i < 0 { // it would rival one of each batch: that is another test's matter
			i = len(open)
			open = append(open, newBatch(r))
		}
		if len(open[i].routes) == size {
			send(open[i])
			open = slices.Delete(open, i, i+1)
		}
	}
	for _, b := range open {
		send(b)
	}
}

// randomRoute is a line of test/random/cases.
type randomRoute struct {
	Seed      int                          `json:"seed"`
	Route     *unstructured.Unstructured   `json:"route"`
	Refused   string                       `json:"refused"`
	Generated []*unstructured.Unstructured `json:"generated"`
	Error     string                       `json:"error"`
}

func randomRoutes(t *testing.T, from, seeds int, flags ...string) func(yield func(randomRoute) bool) {
	t.Helper()
	program := built(t, "./test/random/cases")
	arguments := append([]string{"-from", strconv.Itoa(from), "-seeds", strconv.Itoa(seeds), "-workers", "1", "-namespace", randomNamespace, "-bare", "-gateway", randomNamespace + "-egress/" + randomGateway}, flags...)
	command := exec.CommandContext(t.Context(), program, arguments...)
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bufio.NewReader(output))
	return func(yield func(randomRoute) bool) {
		for {
			var r randomRoute
			if err := decoder.Decode(&r); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("read a random route: %v", err)
			}
			if r.Error != "" {
				t.Errorf("seed %d: %s", r.Seed, r.Error)
				continue
			}
			if r.Refused == "" {
				yield(r)
			}
		}
		if err := command.Wait(); err != nil {
			t.Errorf("the generator: %v", err)
		}
	}
}

// built builds a program of the repository.
func built(t *testing.T, folder string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), filepath.Base(folder))
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, folder)
	repository, err := controlplane.Repository()
	if err != nil {
		t.Fatal(err)
	}
	build.Dir = repository
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v: %s", folder, err, output)
	}
	return program
}

// batchOfRoutes are routes that live side by side in one namespace.
type batchOfRoutes struct {
	routes  []randomRoute
	gateway *bench.Gateway
	// claims are what belongs to one route only, and protocols those of the ports: Istio has one listener on a port.
	claims    map[string]bool
	protocols map[string]string
	labels    map[string]string
}

func newBatch(routes ...randomRoute) *batchOfRoutes {
	b := &batchOfRoutes{claims: map[string]bool{}, protocols: map[string]string{}, labels: map[string]string{}}
	for _, r := range routes {
		b.add(r)
	}
	return b
}

// add takes a route, if it does not rival those that are there.
func (b *batchOfRoutes) add(r randomRoute) bool {
	claims, protocols := map[string]bool{}, map[string]string{}
	labels, _, _ := unstructured.NestedStringMap(r.Route.Object, "spec", "workloadSelector", "matchLabels")
	for name, value := range labels {
		if other, there := b.labels[name]; there && other != value {
			return false
		}
	}
	for _, object := range r.Generated {
		claims[object.GetKind()+" "+object.GetName()] = true
		for _, host := range stringsAt(object.Object, "spec", "hosts") {
			claims[host] = true
		}
		for _, p := range itemsAt(object.Object, "spec", "ports") {
			protocol, _ := p["protocol"].(string)
			if object.GetKind() == "Service" {
				protocol = strings.ToUpper(fmt.Sprint(p["appProtocol"]))
			}
			number := fmt.Sprint(p["port"])
			if p["port"] == nil {
				number = fmt.Sprint(p["number"])
			}
			if other, there := protocols[number]; there && other != protocol {
				protocol = "both"
			}
			protocols[number] = protocol
		}
	}
	for claim := range claims {
		if b.claims[claim] {
			return false
		}
	}
	for number, protocol := range protocols {
		if other, there := b.protocols[number]; there && other != protocol {
			return false
		}
	}
	maps.Copy(b.claims, claims)
	maps.Copy(b.protocols, protocols)
	maps.Copy(b.labels, labels)
	b.routes = append(b.routes, r)
	return true
}

// findings tell what the API server, istiod and Envoy do not take of the routes. A batch with something refused is halved until the route stands alone.
func (b *batchOfRoutes) findings(t *testing.T) []string {
	t.Helper()
	problem := b.try(t)
	switch {
	case problem == "":
		return nil
	case len(b.routes) == 1:
		raw, err := b.routes[0].Route.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		text := kubectl(t, string(raw), "create", "--dry-run=client", "--validate=false", "-o", "yaml", "-f", "-")
		return []string{fmt.Sprintf("seed %d: %s\n%s", b.routes[0].Seed, problem, text)}
	}
	half := len(b.routes) / 2
	first, second := newBatch(b.routes[:half]...), newBatch(b.routes[half:]...)
	first.gateway, second.gateway = b.gateway, b.gateway
	findings := append(first.findings(t), second.findings(t)...)
	if len(findings) == 0 {
		findings = []string{"together, though not by halves: " + problem}
	}
	return findings
}

// try applies the objects of all routes beside a new sidecar, and waits until all of it has arrived there or some of it is refused.
func (b *batchOfRoutes) try(t *testing.T) (problem string) {
	t.Helper()
	t.Run(fmt.Sprintf("%d routes from seed %d", len(b.routes), b.routes[0].Seed), func(t *testing.T) {
		app := mesh.App(t, randomNamespace, b.labels)
		t.Cleanup(func() { forgetGenerated(t, randomNamespace) })
		for _, r := range b.routes {
			for _, object := range r.Generated {
				configuration := client.ApplyConfigurationFromUnstructured(object.DeepCopy()) // which the answer is written into
				if err := hasty().Apply(t.Context(), configuration, client.FieldOwner("random"), client.ForceOwnership); err != nil {
					problem = fmt.Sprintf("the API server refuses %s %s: %v", object.GetKind(), object.GetName(), err)
					return
				}
			}
		}
		var missing []string
		for deadline := time.Now().Add(5 * time.Minute); time.Now().Before(deadline); time.Sleep(300 * time.Millisecond) {
			if refused := refusals.FindAllString(app.Admin(t, "stats?filter=update_rejected"), -1); len(refused) > 0 {
				problem = "Envoy refuses it: " + strings.Join(append(refused, details.FindAllString(app.Admin(t, "config_dump"), -1)...), "\n")
				return
			}
			if missing = b.missing(t, app); len(missing) > 0 {
				continue
			}
			if b.gateway == nil {
				return
			}
			arrivedAt(t, b.gateway)
			if refused := refusals.FindAllString(b.gateway.Admin(t, "stats?filter=update_rejected"), -1); len(refused) > 0 {
				problem = "the gateway's Envoy refuses it: " + strings.Join(append(refused, details.FindAllString(b.gateway.Admin(t, "config_dump"), -1)...), "\n")
			}
			return
		}
		problem = "this never arrived: " + strings.Join(missing, ", ")
	})
	return problem
}

// hasty is a client that nothing but the API server holds back: a batch is hundreds of objects.
var hasty = sync.OnceValue(func() client.Client {
	log.SetLogger(log.Log.WithSink(log.NullLogSink{})) // else a late client complains that there is none
	config := *mesh.Config
	config.QPS = -1
	cluster, err := client.New(&config, client.Options{})
	if err != nil {
		panic(err)
	}
	return cluster
})

func forgetGenerated(t *testing.T, namespace string) {
	t.Helper()
	const istio = "networking.istio.io/v1"
	for _, of := range [][2]string{
		{istio, "VirtualService"}, {istio, "Gateway"}, {istio, "DestinationRule"}, {istio, "ServiceEntry"}, {istio, "Sidecar"},
		{"telemetry.istio.io/v1", "Telemetry"}, {"v1", "Service"},
	} {
		object := &unstructured.Unstructured{}
		object.SetAPIVersion(of[0])
		object.SetKind(of[1])
		if err := hasty().DeleteAllOf(context.Background(), object, client.InNamespace(namespace)); err != nil {
			t.Error(err)
		}
	}
}

var (
	refusals = regexp.MustCompile(`(?m)^.*update_rejected: [1-9].*$`)
	details  = regexp.MustCompile(`"details": "(?:[^"\\]|\\.)*"`)
)

// missing are the clusters and hosts that Envoy does not have yet.
func (b *batchOfRoutes) missing(t *testing.T, app *bench.App) []string {
	t.Helper()
	wanted := map[string]bool{}
	for _, r := range b.routes {
		for _, object := range r.Generated {
			_, second, _ := unstructured.NestedSlice(object.Object, "spec", "gateways")
			exportTo, _, _ := unstructured.NestedStringSlice(object.Object, "spec", "exportTo")
			if object.GetKind() == "VirtualService" && !second && (slices.Contains(exportTo, ".") || slices.Contains(exportTo, "*")) { // or it is the waypoint's alone
				wantedOf(object, fmt.Sprint(port(r.Route)), wanted)
			}
		}
	}
	there := map[string]bool{}
	var dump struct {
		Configs []map[string]any `json:"configs"`
	}
	for _, resource := range []string{"dynamic_active_clusters", "dynamic_warming_clusters", "dynamic_route_configs"} {
		if err := json.Unmarshal([]byte(app.Admin(t, "config_dump?resource="+resource)), &dump); err != nil {
			t.Fatal(err)
		}
		for _, c := range dump.Configs {
			if cluster, _ := c["cluster"].(map[string]any); cluster != nil {
				there[fmt.Sprint(cluster["name"])] = true
			}
			for _, virtualHost := range itemsAt(c, "route_config", "virtual_hosts") {
				there[fmt.Sprint(virtualHost["name"])] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(wanted)), func(name string) bool { return there[name] })
}

func port(route *unstructured.Unstructured) int64 {
	number, found, err := unstructured.NestedInt64(route.Object, "spec", "port")
	if err != nil || !found {
		return 80
	}
	return number
}

// wantedOf adds the clusters and virtual hosts that a VirtualService asks for.
func wantedOf(virtualService *unstructured.Unstructured, port string, wanted map[string]bool) {
	http := itemsAt(virtualService.Object, "spec", "http")
	for _, host := range stringsAt(virtualService.Object, "spec", "hosts") {
		if len(http) == 0 { // of TCP there are clusters only
			break
		}
		if !strings.Contains(host, ".") {
			host += "." + randomNamespace + ".svc.cluster.local"
		}
		wanted[host+":"+port] = true
	}
	for _, route := range append(http, itemsAt(virtualService.Object, "spec", "tcp")...) {
		for _, target := range itemsAt(route, "route") {
			to, _ := target["destination"].(map[string]any)
			number, _, _ := unstructured.NestedFieldNoCopy(to, "port", "number")
			wanted[fmt.Sprintf("outbound|%v|%v|%v", number, to["subset"], to["host"])] = true
		}
	}
}

func stringsAt(object map[string]any, path ...string) []string {
	list, _, _ := unstructured.NestedStringSlice(object, path...)
	return list
}

func itemsAt(object map[string]any, path ...string) []map[string]any {
	value, _, _ := unstructured.NestedFieldNoCopy(object, path...)
	list, _ := value.([]any)
	var items []map[string]any
	for _, item := range list {
		if typed, ok := item.(map[string]any); ok {
			items = append(items, typed)
		}
	}
	return items
}

func variable(t *testing.T, name string, fallback int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return fallback
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}
