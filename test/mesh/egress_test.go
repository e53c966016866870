package mesh

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"github.com/google/go-cmp/cmp"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/pkg/simulation"
	"istio.io/istio/pilot/test/xdstest"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

const gatewayPod = "10.1.1.90"

// gateway is the egress gateway that a route names.
type gateway struct {
	service corev1.Service
	port    corev1.ServicePort // by which sidecars reach it
}

// host is the name of its Service.
func (g *gateway) host() string {
	return g.service.Name + "." + g.service.Namespace + ".svc.cluster.local"
}

// address is that of its Service.
func (g *gateway) address() string { return address(g.host(), int(g.port.Port)) }

// listens is the port of the pod.
func (g *gateway) listens() int {
	if g.port.TargetPort.IntValue() == 0 {
		return int(g.port.Port)
	}
	return g.port.TargetPort.IntValue()
}

// addGateway adds the pod of the gateway's Service to what exists: a folder has the Service only.
func (f *folder) addGateway(t *testing.T) {
	t.Helper()
	reference := f.route.Spec.EgressGateway
	if reference == nil {
		return
	}
	at := slices.IndexFunc(f.existing, func(o *unstructured.Unstructured) bool {
		return o.GetKind() == "Service" && o.GetName() == reference.Name && o.GetNamespace() == reference.Namespace
	})
	if at < 0 {
		return
	}
	f.gateway = &gateway{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(f.existing[at].Object, &f.gateway.service); err != nil {
		t.Fatal(err)
	}
	ports := f.gateway.service.Spec.Ports
	usable := slices.IndexFunc(ports, func(p corev1.ServicePort) bool { return p.Port == 443 })
	if usable < 0 {
		usable = slices.IndexFunc(ports, func(p corev1.ServicePort) bool {
			protocol := p.Name
			if p.AppProtocol != nil {
				protocol = *p.AppProtocol
			}
			protocol, _, _ = strings.Cut(protocol, "-")
			return protocol == "https" || protocol == "tls"
		})
	}
	if usable < 0 {
		return // a refused case: nothing is promised
	}
	f.gateway.port = ports[usable]
	f.existing = append(f.existing, objectsIn(t, f.gateway.pod())...)
}

// pod is the gateway's, with its endpoints.
func (g *gateway) pod() string {
	labels := "{"
	for name, value := range g.service.Spec.Selector {
		labels += fmt.Sprintf("%q: %q, ", name, value)
	}
	var ports []string
	for _, p := range g.service.Spec.Ports {
		listens := &gateway{port: p}
		ports = append(ports, fmt.Sprintf("{name: %q, port: %d}", p.Name, listens.listens()))
	}
	return strings.NewReplacer("NAMESPACE", g.service.Namespace, "SERVICE", g.service.Name, "LABELS", labels+"}", "PORTS", strings.Join(ports, ", ")).Replace(`
apiVersion: v1
kind: Pod
metadata: {name: SERVICE, namespace: NAMESPACE, labels: LABELS}
spec: {serviceAccountName: SERVICE, containers: [{name: istio-proxy, image: istio/proxyv2}]}
status: {podIP: ` + gatewayPod + `, phase: Running, podIPs: [{ip: ` + gatewayPod + `}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: SERVICE, namespace: NAMESPACE, labels: {kubernetes.io/service-name: SERVICE}}
addressType: IPv4
ports: [PORTS]
endpoints: [{addresses: [` + gatewayPod + `], conditions: {ready: true}, targetRef: {kind: Pod, name: SERVICE, namespace: NAMESPACE}}]
`)
}

// router is what istiod sends to a gateway's Envoy.
type router struct {
	*sidecar
	gateway *gateway
}

func (m *mesh) gateway(f *folder) *router {
	m.t.Helper()
	service := f.gateway.service
	return &router{gateway: f.gateway, sidecar: m.sidecarOf(service.Namespace, service.Spec.Selector, func(p *model.Proxy) {
		p.Type = model.Router
		p.IPAddresses = []string{gatewayPod}
		p.ID = service.Name + "." + service.Namespace
	})}
}

// secondLeg says what the gateway does with a request that a sidecar sends on. The first leg must leave it as it is but for the authority, by which the
// gateway knows the route.
func (r *router) secondLeg(first outcome, probe request) (outcome, error) {
	if len(first.Targets) != 1 {
		return first, fmt.Errorf("the sidecar answers by itself: %+v", first)
	}
	to := first.Targets[0]
	want := outcome{
		Targets: []target{{Cluster: to.Cluster, Authority: to.Authority}}, Path: probe.path,
		Timeout: "0s", Retries: "2 on connect-failure,refused-stream, each within 0s",
	}
	if diff := cmp.Diff(want, first); diff != "" {
		return first, fmt.Errorf("the first leg changes more than the authority (-want +got):\n%s", diff)
	}
	result := r.Run(simulation.Call{
		Port: r.gateway.listens(), Protocol: simulation.HTTP, TLS: simulation.MTLS, Sni: to.Authority, HostHeader: to.Authority,
		CallMode: simulation.CallModeGateway,
	})
	return r.routed(result, probe)
}

// passes is the cluster of a connection with a workload's own TLS.
func (r *router) passes(host string) string {
	result := r.Run(simulation.Call{
		Port: r.gateway.listens(), Protocol: simulation.HTTP, TLS: simulation.TLS, Sni: host, HostHeader: host, CallMode: simulation.CallModeGateway,
	})
	if result.Error != nil {
		return result.Error.Error()
	}
	return result.ClusterMatched
}

// behindGateway compares both legs with the promise: mutual TLS of the mesh to the gateway's pod, and from there to the destinations, which no sidecar
// knows.
func (i *inspection) behindGateway(f *folder, own *sidecar) {
	i.upstreams(f, i.with.gateway(f).sidecar)
	aliases, inPlace := f.route.hosts()
	host := slices.Concat(aliases, inPlace)[0]
	first, err := own.answer(i.addressOf(f, host), host, f.route.Spec.Port, request{method: "GET", path: "/"})
	if err != nil || len(first.Targets) != 1 {
		return // requests says so
	}
	to := first.Targets[0]
	got, err := own.upstream(to.Cluster)
	if err != nil {
		i.found("the first leg: %v", err)
		return
	}
	got.Limits = ""
	if got.TLS != nil {
		got.TLS.ALPN = ""
	}
	service := f.gateway.service
	want := upstream{Discovery: "EDS", Endpoints: []string{address(gatewayPod, f.gateway.listens())}, TLS: &tlsSettings{
		SNI: to.Authority, CA: "ROOTCA", ClientCertificate: "default",
		SubjectAltNames: []string{fmt.Sprintf("spiffe://cluster.local/ns/%s/sa/%s", service.Namespace, service.Name)},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		i.found("the first leg, cluster %s (-want +got):\n%s", to.Cluster, diff)
	}
	for _, d := range f.route.Spec.Destinations {
		cluster := f.cluster(d)
		host := cluster[strings.LastIndex(cluster, "|"):]
		for name := range own.clusters {
			if strings.HasSuffix(name, host) && service.Namespace != f.route.Metadata.Namespace {
				i.found("sidecars know %s, which is the gateway's alone", name)
			}
		}
	}
}

// passedOn looks at the second leg of a host whose TLS is the workload's own.
func (i *inspection) passedOn(f *folder, host string) {
	at := i.with.gateway(f)
	cluster := at.passes(host)
	got, err := at.upstream(cluster)
	if err != nil {
		i.found("the gateway, for %s: %v", host, err)
		return
	}
	got.Limits = ""
	if diff := cmp.Diff(upstream{Discovery: "STRICT_DNS", Endpoints: []string{address(host, f.route.Spec.Port)}}, got); diff != "" {
		i.found("the gateway, for %s, cluster %s (-want +got):\n%s", host, cluster, diff)
	}
}

// strays takes each object of the folder away: no request may then leave from a sidecar, nor without the TLS that the manifest promises from the gateway.
func (i *inspection) strays(t *testing.T, f *folder) {
	t.Helper()
	aliases, inPlace := f.route.hosts()
	for at, missing := range f.generated {
		m := newMesh(t, slices.Concat(f.existing, slices.Delete(slices.Clone(f.generated), at, at+1)))
		what := missing.GetKind() + " " + missing.GetName()
		own, router := m.sidecar(f.route.Metadata.Namespace, nil), m.gateway(f)
		for _, host := range slices.Concat(aliases, inPlace) {
			first, err := own.answer(i.addressOf(f, host), host, f.route.Spec.Port, request{method: "GET", path: "/"})
			if err != nil {
				continue // Envoy has no route for it
			}
			for _, to := range first.Targets {
				if stray := own.leaves(to.Cluster, address(gatewayPod, f.gateway.listens())); stray != "" && missing.GetKind() != "Service" {
					i.found("without %s: http://%s leaves from the sidecar to %s", what, host, stray)
				}
			}
			second, err := router.secondLeg(first, request{method: "GET", path: "/"})
			if err != nil {
				continue
			}
			for _, to := range second.Targets {
				at := slices.IndexFunc(f.route.Spec.Destinations, func(d destination) bool { return f.cluster(d) == to.Cluster })
				switch settings, err := router.tls(to.Cluster); {
				case at < 0:
					i.found("without %s: http://%s goes to cluster %s at the gateway", what, host, to.Cluster)
				case err == nil && !cmp.Equal(settings, f.route.tls(f.route.Spec.Destinations[at])):
					i.found("without %s: the gateway speaks %+v to %s", what, settings, to.Cluster)
				}
			}
		}
	}
}

// leaves is where a cluster leads, besides one address and nowhere.
func (s *sidecar) leaves(cluster, but string) string {
	known := s.clusters[cluster]
	if known == nil {
		return ""
	}
	if known.GetType() == clusterv3.Cluster_ORIGINAL_DST {
		return "wherever it was going"
	}
	assignment := known.LoadAssignment
	if assignment == nil {
		assignment = s.assignments[cluster]
	}
	for _, endpoint := range xdstest.ExtractEndpoints(assignment) {
		if endpoint != but && !strings.HasSuffix(endpoint, ":1") {
			return endpoint
		}
	}
	return ""
}

// Who else uses the gateway. When a line fails, Istio has changed: decide anew (docs/design/0017-egress-gateway.md).
func TestForeignGateways(t *testing.T) {
	const before, after = "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"
	both := map[string]string{"alias": "served", "pass-through": "served"}
	for sentence, c := range map[string]struct {
		server, created string
		want            map[string]string
	}{
		"an older server for HTTP on the port silences all routes": {
			"{port: {number: 443, name: http, protocol: HTTP}, hosts: ['*']}", before, map[string]string{"alias": "protocol error", "pass-through": "protocol error"},
		},
		"a younger one does not":                {"{port: {number: 443, name: http, protocol: HTTP}, hosts: ['*']}", after, both},
		"a younger server for TCP does not":     {"{port: {number: 443, name: tcp, protocol: TCP}, hosts: ['*']}", after, both},
		"an older server for TLS of all hosts":  {"{port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: ISTIO_MUTUAL}}", before, both},
		"an older server that passes all hosts": {"{port: {number: 443, name: tls, protocol: TLS}, hosts: ['*'], tls: {mode: PASSTHROUGH}}", before, both},
		"an older server for the private names": {"{port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*.externalroute.internal'], tls: {mode: ISTIO_MUTUAL}}", before, both},
		"a server that ends the TLS of a passed host": {
			"{port: {number: 443, name: https, protocol: HTTPS}, hosts: [www.example.com], tls: {mode: ISTIO_MUTUAL}}", after,
			map[string]string{"alias": "served", "pass-through": "multiple filter chains matched"},
		},
		"an older server for TCP silences all routes": {
			"{port: {number: 443, name: tcp, protocol: TCP}, hosts: ['*']}", before, map[string]string{"alias": "no listener matched", "pass-through": "no listener matched"},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			alias, passed := find(t, "gateway"), find(t, "pass-through-gateway")
			objects := slices.Concat(alias.existing, alias.generated, passed.generated)
			for _, o := range objects {
				if o.GetKind() == "Gateway" {
					created(t, o, "2026-01-02T00:00:00Z")
				}
			}
			foreign := objectsIn(t, "{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: foreign, namespace: istio-egress}, spec: {selector: {istio: egressgateway}, servers: ["+c.server+"]}}")
			created(t, foreign[0], c.created)
			m := newMesh(t, slices.Concat(objects, foreign))
			m.overlapping = c.want["pass-through"] == "multiple filter chains matched"
			if got := m.served(alias, "www.example.com"); !cmp.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// Routes of two namespaces pass one host through one gateway. Its filter chain for the host and the cluster must not go with the older route, in whichever
// order the garbage collector deletes.
func TestHostPassedByTwoNamespaces(t *testing.T) {
	f := find(t, "pass-through-gateway")
	younger := youngerTwins(t, f, strings.NewReplacer("demo", "other"))
	for left := range 1 << len(f.generated) {
		var objects []*unstructured.Unstructured
		names := []string{}
		for i, o := range f.generated {
			if left&(1<<i) != 0 {
				objects, names = append(objects, o), append(names, o.GetKind()+" "+o.GetName())
			}
		}
		passedStill(t, fmt.Sprintf("while the older route has %v", names), f, younger, objects)
	}
}

// Routes of one namespace pass one host through one gateway. Istio uses the Gateway of the older one: in the order in which the operator deletes its objects, the
// connections of the younger one find a filter chain all the time.
func TestHostPassedByTwoRoutesOfANamespace(t *testing.T) {
	f := find(t, "pass-through-gateway")
	younger := youngerTwins(t, f, strings.NewReplacer("name: external-", "name: younger-", "demo/external-", "demo/younger-"))
	left := f.generated
	for _, gone := range []string{"nothing", "Gateway", "VirtualService", "ServiceEntry"} {
		left = slices.DeleteFunc(slices.Clone(left), func(o *unstructured.Unstructured) bool { return o.GetKind() == gone })
		passedStill(t, "when "+gone+" has gone", f, younger, left)
	}
}

// youngerTwins are objects like those of a folder, of a route that is younger and differs in its names.
func youngerTwins(t *testing.T, f *folder, names *strings.Replacer) (twins []*unstructured.Unstructured) {
	t.Helper()
	for _, o := range f.generated {
		created(t, o, "2026-01-01T00:00:00Z")
		text, err := yaml.Marshal(o.Object)
		if err != nil {
			t.Fatal(err)
		}
		twin := objectsIn(t, names.Replace(string(text)))
		created(t, twin[0], "2026-01-02T00:00:00Z")
		twins = append(twins, twin...)
	}
	return twins
}

// passedStill fails the test if a gateway does not pass connections to the host of a younger route, beside objects of an older one.
func passedStill(t *testing.T, when string, f *folder, younger, older []*unstructured.Unstructured) {
	t.Helper()
	const host = "www.example.com"
	gateway := newMesh(t, slices.Concat(f.existing, younger, older)).gateway(f)
	cluster := gateway.passes(host)
	got, err := gateway.upstream(cluster)
	if want := []string{address(host, 443)}; err != nil || !cmp.Equal(got.Endpoints, want) {
		t.Errorf("%s: cluster %s leads to %v, %v; want %v", when, cluster, got.Endpoints, err, want)
	}
}

// While routes of one namespace move to a gateway together, one of them still leads straight out. Istio merges both ends, and the gateway passes the host.
func TestHostOfRoutesThatMoveToAGateway(t *testing.T) {
	const host = "www.example.com"
	f := find(t, "pass-through-gateway")
	direct := objectsIn(t, "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: other, namespace: demo, labels: {app.kubernetes.io/managed-by: externalroute}}, "+
		"spec: {hosts: ["+host+"], location: MESH_EXTERNAL, resolution: DNS, exportTo: [.], ports: [{number: 443, name: https, protocol: TLS}]}}")
	for _, age := range []string{"2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"} {
		created(t, direct[0], age)
		for _, o := range f.generated {
			created(t, o, "2026-01-02T00:00:00Z")
		}
		m := newMesh(t, slices.Concat(f.existing, f.generated, direct))
		s := m.sidecar("demo", nil)
		cluster := s.direct(host, 443)
		got, err := s.upstream(cluster)
		if want := sorted([]string{address(host, 443), f.gateway.address()}); err != nil || !cmp.Equal(got.Endpoints, want) {
			t.Errorf("cluster %s leads to %v, %v; want %v", cluster, got.Endpoints, err, want)
		}
		if through := m.gateway(f).passes(host); !strings.Contains(through, "externalroute.internal") {
			t.Errorf("the gateway sends the host to %s", through)
		}
	}
}

func created(t *testing.T, o *unstructured.Unstructured, when string) {
	t.Helper()
	at, err := time.Parse(time.RFC3339, when)
	if err != nil {
		t.Fatal(err)
	}
	o.SetCreationTimestamp(metav1.NewTime(at))
}

// served says what the gateway makes of both kinds of connections: those for the private name of a route, and those for a host that it passes.
func (m *mesh) served(f *folder, host string) map[string]string {
	r := m.gateway(f)
	got := map[string]string{"alias": "served", "pass-through": "served"}
	for _, o := range f.generated {
		hosts, _, _ := unstructured.NestedStringSlice(o.Object, "spec", "hosts")
		if _, second, _ := unstructured.NestedSlice(o.Object, "spec", "gateways"); !second {
			continue
		}
		result := r.Run(simulation.Call{
			Port: r.gateway.listens(), Protocol: simulation.HTTP, TLS: simulation.MTLS, Sni: hosts[0], HostHeader: hosts[0], CallMode: simulation.CallModeGateway,
		})
		if result.Error != nil {
			got["alias"] = result.Error.Error()
		}
	}
	if cluster := r.passes(host); r.clusters[cluster] == nil {
		got["pass-through"] = cluster
	}
	return got
}
