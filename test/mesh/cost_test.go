package mesh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	v3 "istio.io/istio/pilot/pkg/xds/v3"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pilot/test/xdstest"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
)

// What one more route costs the mesh: a sidecar of its own namespace hears of it as often, and as much, as of objects written by hand to say
// the same. A sidecar of another namespace hears nothing.
func TestTheCostOfOneMoreRoute(t *testing.T) {
	generated := readText(t, filepath.Join(goldenFolders, "smallest", "want.yaml"))
	byHand := regexp.MustCompile(`webserver(-primary)?-[0-9a-f]{10}`).ReplaceAllString(generated, "webserver")
	byHand = strings.ReplaceAll(byHand, "  labels:\n    app.kubernetes.io/managed-by: externalroute\n", "")

	for _, routes := range []int{10, 100} {
		t.Run(fmt.Sprintf("beside %d others", routes), func(t *testing.T) {
			own, elsewhere := addOne(t, generated, routes)
			t.Logf("generated: own namespace %s; another %s", own, elsewhere)
			ownByHand, elsewhereByHand := addOne(t, byHand, routes)
			t.Logf("by hand:   own namespace %s; another %s", ownByHand, elsewhereByHand)

			if len(elsewhere.ofNew) > 0 {
				t.Errorf("another namespace hears of the route: %s", elsewhere)
			}
			if !slices.ContainsFunc(own.ofNew, func(n string) bool { return strings.Contains(n, "|new.example.com") }) {
				t.Errorf("the own namespace does not hear of the route: %s", own)
			}
			if own.pushes > ownByHand.pushes || own.bytes > ownByHand.bytes*103/100 {
				t.Errorf("the route costs its own namespace %s, and by hand %s", own, ownByHand)
			}
		})
	}

	t.Run("the other namespace would hear of what is exported to it", func(t *testing.T) {
		exported := regexp.MustCompile(`exportTo: \.|- \.\n`).ReplaceAllStringFunc(generated, func(s string) string { return strings.Replace(s, ".", "'*'", 1) })
		if _, elsewhere := addOne(t, exported, 10); !slices.Contains(elsewhere.ofNew, "RDS 80") {
			t.Errorf("it hears of nothing but %s: this test could not fail", elsewhere)
		}
	})
}

// addOne adds one more route to a mesh that has some, and says what a sidecar of its namespace and one of another hear of it.
func addOne(t *testing.T, template string, routes int) (own, elsewhere heard) {
	t.Helper()
	var objects []*unstructured.Unstructured
	for i := range routes {
		objects = append(objects, named(t, template, fmt.Sprintf("route-%d", i))...)
	}
	// Something that every sidecar knows, so that the other one has a route table to which a leak would be added.
	objects = append(objects, parse(t, strings.ReplaceAll(publicService, "NAME", "public"))...)
	m := newPatientMesh(t, objects)
	ownSidecar, otherSidecar := m.connect(namespace), m.connect("elsewhere")
	m.mark(ownSidecar, otherSidecar)
	ownSidecar.reset()
	otherSidecar.reset()

	for _, object := range named(t, template, "new") { // in the order in which they are applied, and at once: istiod gathers what comes together
		m.add(object)
	}
	ownSidecar.await("the route's table", func(h heard) bool { return slices.Contains(h.ofNew, "RDS 80") })
	m.mark(ownSidecar, otherSidecar)
	return ownSidecar.reset(), otherSidecar.reset()
}

// newPatientMesh is an istiod that gathers changes before it pushes, as every istiod does: the four objects of a route come in one push. It gathers for
// longer than others, so that a busy machine is no difference.
func newPatientMesh(t *testing.T, objects []*unstructured.Unstructured) *mesh {
	t.Helper()
	options := xds.FakeOptions{DebounceTime: 2 * time.Second}
	for i, object := range objects {
		if object.GetKind() == "Service" {
			options.KubernetesObjects = append(options.KubernetesObjects, serviceOf(t, object, i+1))
			continue
		}
		options.Configs = append(options.Configs, istioConfig(t, object))
	}
	return &mesh{t: t, server: xds.NewFakeDiscoveryServer(t, options)}
}

func serviceOf(t *testing.T, object *unstructured.Unstructured, address int) *corev1.Service {
	t.Helper()
	service := &corev1.Service{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, service); err != nil {
		t.Fatal(err)
	}
	service.Spec.ClusterIP = fmt.Sprintf("10.96.%d.%d", address/250, 1+address%250)
	return service
}

const publicService = `
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: third}
spec: {ports: [{name: http, port: 80}]}
`

func readText(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// named are the objects of a template under another name, for another host.
func named(t *testing.T, template, name string) []*unstructured.Unstructured {
	t.Helper()
	return parse(t, strings.NewReplacer("raw.githubusercontent.com", name+".example.com", "webserver", name).Replace(template))
}

func parse(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	var objects []*unstructured.Unstructured
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader([]byte(text)), 4096)
	for {
		object := &unstructured.Unstructured{}
		switch err := decoder.Decode(object); {
		case errors.Is(err, io.EOF):
			return objects
		case err != nil:
			t.Fatal(err)
		}
		objects = append(objects, object)
	}
}

// add gives istiod one more object.
func (m *mesh) add(object *unstructured.Unstructured) {
	m.t.Helper()
	if object.GetKind() != "Service" {
		if _, err := m.server.Store().Create(istioConfig(m.t, object)); err != nil {
			m.t.Fatal(err)
		}
		return
	}
	service := serviceOf(m.t, object, 10000)
	if _, err := m.server.KubeClient().Kube().CoreV1().Services(service.Namespace).Create(m.t.Context(), service, metav1.CreateOptions{}); err != nil {
		m.t.Fatal(err)
	}
}

// mark adds a Service that every sidecar knows, and waits until these sidecars have it and all that istiod had to tell before.
func (m *mesh) mark(sidecars ...*connection) {
	m.t.Helper()
	m.server.EnsureSynced(m.t) // what comes now is pushed later
	m.marks++
	name := fmt.Sprintf("mark-%d", m.marks)
	m.add(parse(m.t, strings.ReplaceAll(publicService, "NAME", name))[0])
	for _, sidecar := range sidecars {
		sidecar.await(name, func(h heard) bool {
			return slices.ContainsFunc(h.names, func(n string) bool { return strings.Contains(n, "|"+name+".third.") })
		})
	}
}

// heard is what a sidecar was sent.
type heard struct {
	pushes, bytes int
	names         []string
	ofNew         []string // the names of what has to do with the new route
}

// String leaves out endpoints, which are as many as there are routes.
func (h heard) String() string {
	names := slices.DeleteFunc(slices.Clone(h.names), func(n string) bool { return strings.HasPrefix(n, "EDS ") })
	return fmt.Sprintf("%d pushes, %d bytes (%s, and %d times endpoints)", h.pushes, h.bytes, strings.Join(names, ", "), len(h.names)-len(names))
}

// connection is a sidecar that asks istiod for what Envoy would ask for.
type connection struct {
	t      *testing.T
	stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient

	mu    sync.Mutex
	heard heard
	// asked are the endpoints and route tables that it asked for, and open those of them that istiod has not sent yet.
	asked, open map[string]bool
}

func (m *mesh) connect(namespace string) *connection {
	m.t.Helper()
	dial := func(context.Context, string) (net.Conn, error) { return m.server.BufListener.Dial() }
	conn, err := grpc.NewClient("passthrough:///istiod", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dial))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = conn.Close() })
	c := &connection{t: m.t, asked: map[string]bool{}, open: map[string]bool{}}
	if c.stream, err = discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
	metadata, err := structpb.NewStruct(map[string]any{"NAMESPACE": namespace, "CLUSTER_ID": "Kubernetes", "ISTIO_VERSION": "1.31.0"})
	if err != nil {
		m.t.Fatal(err)
	}
	node := &corev3.Node{Id: fmt.Sprintf("sidecar~10.9.9.1~pod.%s~%s.svc.cluster.local", namespace, namespace), Metadata: metadata}
	for _, kind := range []string{v3.ClusterType, v3.ListenerType} {
		c.send(&discovery.DeltaDiscoveryRequest{Node: node, TypeUrl: kind, ResourceNamesSubscribe: []string{"*"}})
	}
	go c.listen()
	return c
}

func (c *connection) send(request *discovery.DeltaDiscoveryRequest) {
	if err := c.stream.Send(request); err != nil && c.t.Context().Err() == nil {
		c.t.Errorf("ask istiod: %v", err)
	}
}

// listen notes every answer, acknowledges it, and asks for the endpoints and route tables that it names.
func (c *connection) listen() {
	for {
		answer, err := c.stream.Recv()
		if err != nil { // the test is over
			return
		}
		var endpoints, tables []string
		for _, resource := range answer.Resources {
			switch answer.TypeUrl {
			case v3.ClusterType:
				cluster := &clusterv3.Cluster{}
				if resource.Resource.UnmarshalTo(cluster) == nil && cluster.GetType() == clusterv3.Cluster_EDS {
					endpoints = append(endpoints, cluster.Name)
				}
			case v3.ListenerType:
				listener := &listenerv3.Listener{}
				if resource.Resource.UnmarshalTo(listener) == nil {
					tables = append(tables, xdstest.ExtractRoutesFromListeners([]*listenerv3.Listener{listener})...)
				}
			}
		}
		endpoints, tables = c.note(answer, endpoints, tables)
		c.send(&discovery.DeltaDiscoveryRequest{TypeUrl: answer.TypeUrl, ResponseNonce: answer.Nonce})
		c.subscribe(v3.EndpointType, endpoints)
		c.subscribe(v3.RouteType, tables)
	}
}

func (c *connection) subscribe(kind string, names []string) {
	if len(names) > 0 {
		c.send(&discovery.DeltaDiscoveryRequest{TypeUrl: kind, ResourceNamesSubscribe: names})
	}
}

// note takes in an answer, and returns which of the endpoints and route tables that it names are to be asked for.
func (c *connection) note(answer *discovery.DeltaDiscoveryResponse, endpoints, tables []string) (newEndpoints, newTables []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kind := v3.GetShortType(answer.TypeUrl)
	c.heard.pushes++
	c.heard.bytes += proto.Size(answer)
	for _, resource := range answer.Resources {
		name := kind + " " + resource.Name
		delete(c.open, name)
		c.heard.names = append(c.heard.names, name)
		if bytes.Contains(resource.Resource.GetValue(), []byte("new.example.com")) {
			c.heard.ofNew = append(c.heard.ofNew, name)
		}
	}
	for _, name := range answer.RemovedResources {
		delete(c.open, kind+" "+name)
		c.heard.names = append(c.heard.names, kind+" without "+name)
	}
	return c.ask(v3.EndpointType, endpoints), c.ask(v3.RouteType, tables)
}

// ask notes what is asked for, and returns what of it is new.
func (c *connection) ask(kind string, names []string) []string {
	return slices.DeleteFunc(names, func(name string) bool {
		key := v3.GetShortType(kind) + " " + name
		known := c.asked[key]
		if !known {
			c.asked[key], c.open[key] = true, true
		}
		return known
	})
}

// await waits until the sidecar has heard of something, and has all that it asked for.
func (c *connection) await(what string, enough func(heard) bool) {
	c.t.Helper()
	err := wait.PollUntilContextTimeout(c.t.Context(), 10*time.Millisecond, 3*time.Minute, true, func(context.Context) (bool, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return enough(c.heard) && len(c.open) == 0, nil
	})
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.t.Fatalf("a sidecar waits for %s and for %v: %s", what, slices.Collect(maps.Keys(c.open)), c.heard)
	}
}

// reset forgets what was heard, and returns it.
func (c *connection) reset() heard {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.heard
	h.names = sorted(h.names)
	c.heard = heard{}
	return h
}
