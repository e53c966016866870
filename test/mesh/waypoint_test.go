package mesh

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/google/go-cmp/cmp"
	"istio.io/istio/pilot/pkg/features"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pilot/test/xdstest"
	"istio.io/istio/pkg/test"
	"istio.io/istio/pkg/workloadapi"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// ambient lets istiod serve ambient meshes until the test ends.
func ambient(t *testing.T) {
	t.Helper()
	for _, feature := range []*bool{&features.EnableAmbient, &features.EnableAmbientWaypoints, &features.EnableHBONESend} {
		test.SetForTest(t, feature, true)
	}
}

// newAmbientMesh is newMesh with Istio's ambient index, which reads all objects from Kubernetes. Gateways are ready.
func newAmbientMesh(t *testing.T, objects []*unstructured.Unstructured) *mesh {
	t.Helper()
	m := &mesh{t: t, addresses: map[string]string{}}
	options := m.options(objects)
	options.KubernetesObjects = nil
	for _, object := range objects {
		object = object.DeepCopy()
		switch object.GetKind() {
		case "Service":
			address := m.addresses[object.GetName()+"."+object.GetNamespace()]
			if err := unstructured.SetNestedField(object.Object, address, "spec", "clusterIP"); err != nil {
				t.Fatal(err)
			}
		case "Gateway":
			host := fmt.Sprintf("%s.%s.svc.cluster.local", object.GetName(), object.GetNamespace())
			object.Object["status"] = map[string]any{"addresses": []any{map[string]any{"type": "Hostname", "value": host}}}
			options.KubernetesObjectString += fmt.Sprintf(waypointService, object.GetName(), object.GetNamespace())
		}
		document, err := yaml.Marshal(object.Object)
		if err != nil {
			t.Fatal(err)
		}
		options.KubernetesObjectString += "---\n" + string(document)
	}
	m.server = xds.NewFakeDiscoveryServer(t, options)
	return m
}

const waypointService = `---
apiVersion: v1
kind: Service
metadata:
  name: %[1]s
  namespace: %[2]s
  labels: {gateway.istio.io/managed: istio.io-mesh-controller, gateway.networking.k8s.io/gateway-name: %[1]s}
spec:
  clusterIP: 10.96.9.9
  ports: [{name: mesh, port: 15008, appProtocol: hbone}]
  selector: {gateway.networking.k8s.io/gateway-name: %[1]s}
`

// waypoint is what istiod sends to a waypoint: clusters, and a route table for each port of a Service.
type waypoint struct {
	*sidecar
	tables map[string]*routev3.RouteConfiguration
}

func (m *mesh) waypoint(of waypointName) *waypoint {
	m.t.Helper()
	labels := map[string]string{"gateway.networking.k8s.io/gateway-name": of.Name, "gateway.istio.io/managed": "istio.io-mesh-controller"}
	known := map[string]string{"topology.istio.io/cluster": "Kubernetes"} // which istiod adds to every proxy
	maps.Copy(known, labels)
	proxy := m.server.SetupProxy(&model.Proxy{
		Type: model.Waypoint, ConfigNamespace: of.Namespace, Labels: known, IPAddresses: []string{"10.0.0.9"},
		Metadata: &model.NodeMetadata{Namespace: of.Namespace, Labels: labels, ClusterID: "Kubernetes", IstioVersion: "1.31.0"},
	})
	clusters, assignments := m.server.Clusters(proxy), m.server.Endpoints(proxy)
	xdstest.ValidateClusters(m.t, clusters)
	w := &waypoint{
		sidecar: &sidecar{
			mesh: m, clusters: xdstest.ExtractClusters(clusters), endpoints: xdstest.ExtractLoadAssignments(assignments),
			assignments: map[string]*endpointv3.ClusterLoadAssignment{},
		},
		tables: map[string]*routev3.RouteConfiguration{},
	}
	for _, assignment := range assignments {
		w.assignments[assignment.ClusterName] = assignment
	}
	for _, chain := range xdstest.ExtractListener("main_internal", m.server.Listeners(proxy)).GetFilterChains() {
		if manager := xdstest.ExtractHTTPConnectionManager(m.t, chain); manager != nil {
			w.tables[chain.Name] = manager.GetRouteConfig()
		}
	}
	return w
}

// answer says what the waypoint does with a request to a port of a Service: it does not look at the Host header.
func (w *waypoint) answer(service string, port int, r request) (outcome, error) {
	table := w.tables[fmt.Sprintf("inbound-vip|%d|http|%s", port, service)]
	if hosts := table.GetVirtualHosts(); len(hosts) == 1 && slices.Equal(hosts[0].Domains, []string{"*"}) {
		return firstRoute(hosts[0], r)
	}
	return outcome{}, fmt.Errorf("the waypoint serves no port %d of %s: it has %v", port, service, slices.Sorted(maps.Keys(w.tables)))
}

// toOutside is the socket with which Envoy connects to addresses outside the mesh. Waypoints have another one for pods.
func toOutside(cluster *clusterv3.Cluster) *corev3.TransportSocket {
	for _, m := range cluster.TransportSocketMatches {
		if m.Name != "hbone" && len(m.Match.GetFields()) == 0 {
			return m.TransportSocket
		}
	}
	return cluster.TransportSocket
}

// Every golden folder with a waypoint: the waypoint does what the manifest promises, ztunnel sends calls of the aliases to it, and knows no address of the
// upstreams.
func TestWaypoints(t *testing.T) {
	ambient(t)
	ran := 0
	for _, f := range readFolders(t) {
		if !f.accepted || f.route.Spec.Waypoint == nil {
			continue
		}
		ran++
		t.Run(f.name, func(t *testing.T) {
			for _, finding := range inspectWaypoint(t, f) {
				t.Error(finding)
			}
		})
	}
	if ran == 0 {
		t.Error("no golden folder has a waypoint")
	}
}

// inspectWaypoint returns what is wrong, so that planted faults can ask for it.
func inspectWaypoint(t *testing.T, f *folder) []string {
	t.Helper()
	m := newAmbientMesh(t, objectsOf([]*folder{f}, nil))
	i := &inspection{with: m, without: newAmbientMesh(t, objectsOf([]*folder{f}, f))}
	w, before := m.waypoint(*f.route.Spec.Waypoint), i.without.waypoint(*f.route.Spec.Waypoint)
	aliases, _ := f.route.hosts()
	for _, alias := range aliases {
		i.waypointRequests(f, w, serviceName(f, alias))
		i.waypointOtherPorts(f, w, before, serviceName(f, alias))
	}
	i.upstreams(f, w.sidecar)
	i.ztunnel(f, aliases)
	i.waypointLosses(t, f, aliases)
	return i.findings
}

func serviceName(f *folder, alias string) string {
	return fmt.Sprintf("%s.%s.svc.cluster.local", alias, f.route.Metadata.Namespace)
}

func (i *inspection) waypointRequests(f *folder, w *waypoint, service string) {
	reached := map[int]bool{}
	for _, probe := range f.route.probes() {
		want, rule := f.route.answer(probe, f.cluster)
		reached[rule] = true
		got, err := w.answer(service, f.route.Spec.Port, probe)
		if err != nil {
			i.found("%s %s%s: %v", probe.method, service, probe.path, err)
			return
		}
		if diff := cmp.Diff(want, got); diff != "" {
			i.found("%s %s%s %v (-want +got):\n%s", probe.method, service, probe.path, probe.headers, diff)
			return // the same mistake shows in many probes
		}
	}
	for rule := range f.route.Spec.Rules {
		if !reached[rule] {
			i.found("no probe reached rules[%d]: the folder needs another one, or the rule is dead", rule)
		}
	}
}

// waypointOtherPorts of an existing Service keep their own traffic.
func (i *inspection) waypointOtherPorts(f *folder, w, before *waypoint, service string) {
	served := fmt.Sprintf("inbound-vip|%d|http|%s", f.route.Spec.Port, service)
	for _, name := range slices.Sorted(maps.Keys(before.tables)) {
		if name == served || !strings.HasSuffix(name, "|"+service) {
			continue
		}
		if diff := cmp.Diff(before.tables[name].String(), w.tables[name].String()); diff != "" {
			i.found("%s is no longer as without the route (-without +with):\n%s", name, diff)
		}
	}
}

// ztunnel sends calls of aliases to the waypoint, and must not know addresses of upstreams: it would catch calls of their hosts.
func (i *inspection) ztunnel(f *folder, aliases []string) {
	addresses, _ := i.with.server.Env().AmbientIndexes.AddressInformation(nil)
	known := map[string]*workloadapi.Service{}
	for _, address := range addresses {
		if s := address.GetService(); s != nil {
			known[s.Hostname] = s
		}
	}
	to := fmt.Sprintf("%s.%s.svc.cluster.local", f.route.Spec.Waypoint.Name, f.route.Spec.Waypoint.Namespace)
	for _, alias := range aliases {
		if got := known[serviceName(f, alias)].GetWaypoint().GetHostname().GetHostname(); got != to {
			i.found("ztunnel sends calls of %s to the waypoint %q, not to %s", alias, got, to)
		}
	}
	for _, object := range f.generated {
		if object.GetKind() != "ServiceEntry" {
			continue
		}
		hosts, _, _ := unstructured.NestedStringSlice(object.Object, "spec", "hosts")
		if s := known[hosts[0]]; s == nil || s.Waypoint != nil || len(s.Addresses) > 0 {
			i.found("ztunnel knows the upstream %s as %v", hosts[0], s)
		}
		if object.GetLabels()["networking.istio.io/enable-autoallocate-ip"] != "false" {
			i.found("istiod gives the upstream %s an address, with which ztunnel catches calls of its host", hosts[0])
		}
	}
}

// waypointLosses takes objects away in every combination: what remains must send requests to the pods of an existing Service, to nothing, or over TLS.
func (i *inspection) waypointLosses(t *testing.T, f *folder, aliases []string) {
	t.Helper()
	if slices.ContainsFunc(f.route.Spec.Destinations, func(d destination) bool { return d.scheme == "http" }) {
		return
	}
	objects := slices.DeleteFunc(slices.Clone(f.generated), func(o *unstructured.Unstructured) bool { return o.GetKind() == "Service" })
	for kept := range 1<<len(objects) - 1 {
		remaining, missing := slices.Clone(f.existing), []string{}
		for _, object := range f.generated {
			if bit := slices.Index(objects, object); bit < 0 || kept>>bit&1 == 1 {
				remaining = append(remaining, object)
			} else {
				missing = append(missing, object.GetKind())
			}
		}
		w := newAmbientMesh(t, remaining).waypoint(*f.route.Spec.Waypoint)
		for _, alias := range aliases {
			got, err := w.answer(serviceName(f, alias), f.route.Spec.Port, request{method: "GET", path: "/"})
			for _, target := range got.Targets {
				settings, _ := w.tls(target.Cluster)
				toPods := strings.HasPrefix(target.Cluster, "inbound-vip|") && w.clusters[target.Cluster].GetType() == clusterv3.Cluster_EDS
				if w.clusters[target.Cluster] != nil && settings == nil && !toPods {
					i.found("without %s: http://%s leaves in plaintext to %s", strings.Join(missing, ", "), alias, target.Cluster)
				}
			}
			if err != nil {
				i.found("without %s: %v", strings.Join(missing, ", "), err)
			}
		}
	}
}

// What Istio makes of other shapes of a route with a waypoint in another namespace. This is why the generated objects have the labels and the exportTo that they
// have (docs/design/0018-waypoints.md). When a line fails, Istio has changed: decide anew.
func TestWaypointShapes(t *testing.T) {
	ambient(t)
	const subset, pods = "outbound|443|web|h1.demo.externalroute.internal", "inbound-vip|80|http|webserver.demo.svc.cluster.local"
	for sentence, c := range map[string]struct {
		change []string // old and new text in turns
		alias  string   // the cluster of http://webserver/, with TLS unless it is that of the pods
		entry  string   // the waypoint to which ztunnel sends calls of the upstream's name
	}{
		"as the operator generates them": {alias: subset},
		"the namespace attaches its ServiceEntries to the waypoint": {
			change: []string{"istio.io/use-waypoint: none, ", ""},
			alias:  "inbound-vip|443|tcp/web|h1.demo.externalroute.internal", entry: "waypoint.infra.svc.cluster.local",
		},
		"objects that the waypoint's namespace does not see": {change: []string{`[".", infra]`, `["."]`}, alias: pods},
		"a VirtualService alone that it does not see":        {change: []string{`[".", infra] # traffic`, `["."]`}, alias: pods},
		"a DestinationRule alone that it does not see":       {change: []string{`[".", infra] # rule`, `["."]`}, alias: "missing " + subset},
		"a ServiceEntry alone that it does not see":          {change: []string{`[".", infra] # entry`, `["."]`}, alias: "missing inbound-vip|443|http/web|h1.demo.externalroute.internal"},
		"a Service that its namespace attaches":              {change: []string{"istio.io/use-waypoint: waypoint, istio.io/use-waypoint-namespace: infra # alias", ""}, alias: subset},
		"a Service without a waypoint":                       {change: []string{"istio.io/use-waypoint: waypoint, istio.io/use-waypoint-namespace: infra # alias", "istio.io/use-waypoint: none"}, alias: "nothing"},
		"a waypoint that serves its own namespace only":      {change: []string{"from: All", "from: Same"}, alias: "nothing"},
		"a waypoint for workloads only":                      {change: []string{"istio.io/waypoint-for: service", "istio.io/waypoint-for: workload"}, alias: "nothing"},
		"a match of a workloadSelector":                      {change: []string{"match: []", "match: [{sourceLabels: {app: web}}]"}, alias: pods},
	} {
		t.Run(sentence, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "objects.yaml")
			if err := os.WriteFile(file, []byte(strings.NewReplacer(c.change...).Replace(waypointShape)), 0o600); err != nil {
				t.Fatal(err)
			}
			m := newAmbientMesh(t, readObjects(t, file))
			w := m.waypoint(waypointName{"waypoint", "infra"})
			if got := w.lands("webserver.demo.svc.cluster.local"); got != c.alias {
				t.Errorf("http://webserver/ lands on %s, want %s", got, c.alias)
			}
			addresses, _ := m.server.Env().AmbientIndexes.AddressInformation(nil)
			for _, a := range addresses {
				if s := a.GetService(); s.GetHostname() == "h1.demo.externalroute.internal" && s.GetWaypoint().GetHostname().GetHostname() != c.entry {
					t.Errorf("ztunnel sends calls of the upstream to %v, want %q", s.Waypoint, c.entry)
				}
			}
		})
	}
}

// lands is the cluster of a request to port 80 of a Service: "nothing" if the waypoint does not serve that, and marked if it is missing or speaks plaintext.
func (w *waypoint) lands(service string) string {
	got, err := w.answer(service, 80, request{method: "GET", path: "/"})
	if err != nil || len(got.Targets) != 1 {
		return "nothing"
	}
	name := got.Targets[0].Cluster
	if w.clusters[name] == nil {
		return "missing " + name
	}
	if settings, err := w.tls(name); err == nil && settings == nil {
		return "plaintext " + name
	}
	return name
}

const waypointShape = `
apiVersion: v1
kind: Namespace
metadata:
  name: demo
  labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: waypoint, istio.io/use-waypoint-namespace: infra}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: infra, labels: {istio.io/waypoint-for: service}}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: All}}}]
---
apiVersion: v1
kind: Service
metadata:
  name: webserver
  labels: {
    istio.io/use-waypoint: waypoint, istio.io/use-waypoint-namespace: infra # alias
  }
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, labels: {istio.io/use-waypoint: none, networking.istio.io/enable-autoallocate-ip: "false"}}
spec:
  hosts: [h1.demo.externalroute.internal]
  location: MESH_EXTERNAL
  resolution: DNS
  ports: [{name: https, number: 443, protocol: TLS}]
  endpoints: [{address: api.example.com}]
  exportTo: [".", infra] # entry
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec:
  host: h1.demo.externalroute.internal
  subsets: [{name: web, trafficPolicy: {tls: {mode: SIMPLE, sni: api.example.com, subjectAltNames: [api.example.com]}}}]
  exportTo: [".", infra] # rule
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [webserver]
  http:
  - match: []
    route: [{destination: {host: h1.demo.externalroute.internal, subset: web, port: {number: 443}}}]
  exportTo: [".", infra] # traffic
`

// Each fault must be found, or a proof proves nothing.
func TestWaypointFaults(t *testing.T) {
	ambient(t)
	for sentence, plant := range map[string]func(*unstructured.Unstructured){
		"the alias has no waypoint": func(o *unstructured.Unstructured) {
			if o.GetKind() == "Service" {
				o.SetLabels(nil)
			}
		},
		"the upstream has a waypoint": func(o *unstructured.Unstructured) {
			if o.GetKind() == "ServiceEntry" {
				o.SetLabels(map[string]string{"istio.io/use-waypoint": "waypoint", "istio.io/use-waypoint-namespace": "infra"})
			}
		},
		"the waypoint does not see the objects": func(o *unstructured.Unstructured) {
			if o.GetKind() != "Service" {
				_ = unstructured.SetNestedStringSlice(o.Object, []string{"."}, "spec", "exportTo")
			}
		},
		"nothing originates TLS": func(o *unstructured.Unstructured) {
			if o.GetKind() == "DestinationRule" {
				subsets, _, _ := unstructured.NestedSlice(o.Object, "spec", "subsets")
				subsets[0].(map[string]any)["trafficPolicy"] = map[string]any{}
				_ = unstructured.SetNestedSlice(o.Object, subsets, "spec", "subsets")
			}
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			f := find(t, "waypoint-of-another-namespace")
			for _, object := range f.generated {
				plant(object)
			}
			if len(inspectWaypoint(t, f)) == 0 {
				t.Error("nothing was found")
			}
		})
	}
}
