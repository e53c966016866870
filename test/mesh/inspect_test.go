package mesh

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"github.com/google/go-cmp/cmp"
	"istio.io/istio/pilot/test/xdstest"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// inspection compares what the manifests of some folders promise with what the sidecars of a mesh that holds all of their objects do.
type inspection struct {
	// with is the mesh that holds the objects of all folders, without the one that lacks those of the folder under inspection.
	with, without *mesh
	// inPlace are the host:port that a route serves under a real name.
	inPlace  map[string]bool
	findings []string
}

// inspect returns what is wrong. That is data, not a failure, so that planted faults can ask for it.
func inspect(t *testing.T, folders ...*folder) []string {
	t.Helper()
	return inspectWith(t, "", folders...)
}

// inspectWith is inspect in a mesh with a mesh-wide configuration.
func inspectWith(t *testing.T, settings string, folders ...*folder) []string {
	t.Helper()
	i := &inspection{with: newMeshWith(t, settings, objectsOf(folders, nil)), inPlace: map[string]bool{}}
	for _, f := range folders {
		_, inPlace := f.route.hosts()
		for _, host := range inPlace {
			i.inPlace[address(host, f.route.Spec.Port)] = true
		}
	}
	for _, f := range folders {
		i.without = newMeshWith(t, settings, objectsOf(folders, f))
		i.folder(t, folders, f)
		i.losses(t, folders, f)
	}
	return i.findings
}

// objectsOf are all objects of the folders, but for those that one of them generates.
func objectsOf(folders []*folder, missing *folder) []*unstructured.Unstructured {
	var objects []*unstructured.Unstructured
	for _, f := range folders {
		for _, object := range f.existing { // several folders have one egress gateway
			if !slices.ContainsFunc(objects, func(o *unstructured.Unstructured) bool { return sameObject(o, object) }) {
				objects = append(objects, object)
			}
		}
		if f != missing {
			objects = append(objects, f.generated...)
		}
	}
	return objects
}

func sameObject(a, b *unstructured.Unstructured) bool {
	return a.GroupVersionKind() == b.GroupVersionKind() && a.GetNamespace() == b.GetNamespace() && a.GetName() == b.GetName()
}

func (i *inspection) found(format string, args ...any) {
	i.findings = append(i.findings, fmt.Sprintf(format, args...))
}

func (i *inspection) folder(t *testing.T, folders []*folder, f *folder) {
	t.Helper()
	if f.route.passesThrough() {
		i.passThrough(f)
		return
	}
	if f.route.speaksTCP() {
		i.tcp(f)
		return
	}
	var labels map[string]string
	if s := f.route.Spec.WorkloadSelector; s != nil {
		labels = s.MatchLabels
	}
	if f.route.showsCertificateAtWaypoint() {
		i.unknown(f, i.with.sidecar(f.route.Metadata.Namespace, nil))
		return
	}
	own, ownBefore := i.with.sidecar(f.route.Metadata.Namespace, labels), i.without.sidecar(f.route.Metadata.Namespace, labels)
	aliases, inPlace := f.route.hosts()
	names := slices.Concat(aliases, inPlace)
	for _, alias := range aliases {
		names = append(names, f.qualified(alias)...)
	}
	i.requests(f, own, names)
	if f.route.Spec.EgressGateway == nil {
		i.upstreams(f, own)
	} else {
		i.behindGateway(f, own)
		if len(folders) == 1 { // beside others it would be the same, and take long
			i.strays(t, f)
		}
	}
	i.directCalls(f, own, ownBefore)
	i.otherPorts(f, own, ownBefore)
	i.writtenCalls(f, own)
	if labels != nil {
		i.bystander(f, i.with.sidecar(f.route.Metadata.Namespace, nil))
	}

	for _, name := range f.route.Spec.ExportTo {
		if name == "." {
			continue
		}
		importer := strings.ReplaceAll(name, "*", "elsewhere")
		other := i.with.sidecar(importer, nil)
		for _, alias := range aliases {
			i.requests(f, other, f.qualified(alias))
		}
		i.upstreams(f, other)
		i.directCalls(f, other, i.without.sidecar(importer, nil))
	}
	if !slices.Contains(f.route.Spec.ExportTo, "*") {
		for _, name := range i.with.sidecar("elsewhere", nil).differences(i.without.sidecar("elsewhere", nil)) {
			i.found("a namespace that the route is not exported to has another %s", name)
		}
	}
}

// passThrough looks at the sidecars of all namespaces that a pass-through route is exported to, and at one that it is not.
func (i *inspection) passThrough(f *folder) {
	for _, name := range f.route.Spec.ExportTo {
		client := strings.NewReplacer("*", "elsewhere", ".", f.route.Metadata.Namespace).Replace(name)
		i.passedCalls(f, i.with.sidecar(client, nil), i.without.sidecar(client, nil))
	}
	if !slices.Contains(f.route.Spec.ExportTo, "*") {
		for _, name := range i.with.sidecar("elsewhere", nil).differences(i.without.sidecar("elsewhere", nil)) {
			i.found("a namespace that the route is not exported to has another %s", name)
		}
	}
}

// passedCalls are those over TLS of the workload's own: they go where DNS or the workload says, and nothing else changes but the listener of their port.
func (i *inspection) passedCalls(f *folder, s, before *sidecar) {
	port := f.route.Spec.Port
	expected := map[string]bool{fmt.Sprintf("listener 0.0.0.0_%d", port): true}
	for _, host := range f.route.Spec.Hosts {
		called, discovery, endpoints := host, "STRICT_DNS", []string{address(host, port)}
		if f.route.Spec.EgressGateway != nil {
			endpoints = []string{f.gateway.address()}
			i.passedOn(f, host)
		}
		if base, wildcard := strings.CutPrefix(host, "*"); wildcard {
			called, discovery, endpoints = "a.b"+base, "ORIGINAL_DST", nil
		}
		want := fmt.Sprintf("outbound|%d||%s", port, host)
		expected["cluster "+want], expected["endpoints "+want] = true, true
		if got := s.direct(called, port); got != want {
			i.found("a call of https://%s lands on %s, not on %s", called, got, want)
			continue
		}
		got, err := s.upstream(want)
		if err != nil {
			i.found("a call of https://%s: %v", called, err)
			continue
		}
		plain := limits(unlimited, unlimited, 0, 10*time.Second, 0, false)
		if diff := cmp.Diff(upstream{Discovery: discovery, Endpoints: endpoints, Limits: plain}, got); diff != "" {
			i.found("cluster %s (-want +got):\n%s", want, diff)
		}
	}
	for _, name := range s.differences(before) {
		if !expected[name] && !sameUpstream(s, before, name) {
			i.found("%s changes with the route", name)
		}
	}
	for _, host := range []string{"other.example.net", "example.com"} {
		if got, want := s.direct(host, port), before.direct(host, port); got != want {
			i.found("a call of https://%s lands on %s, and on %s without the route", host, got, want)
		}
	}
}

// sameUpstream says whether a resource is a cluster that two sidecars reach in the same way, or that only one of them has: Istio repeats the addresses of a
// host that several ServiceEntries name, and makes each subset for each of its ports.
func sameUpstream(s, before *sidecar, resource string) bool {
	name, isCluster := strings.CutPrefix(resource, "cluster ")
	if !isCluster {
		name, isCluster = strings.CutPrefix(resource, "endpoints ")
	}
	if isCluster && before.clusters[name] == nil && before.endpoints[name] == nil {
		return true
	}
	got, err := s.upstream(name)
	want, errBefore := before.upstream(name)
	return isCluster && err == nil && errBefore == nil && cmp.Equal(want, got)
}

// qualified are the names of an alias that other namespaces can use too.
func (f *folder) qualified(alias string) []string {
	name := alias + "." + f.route.Metadata.Namespace
	return []string{name, name + ".svc", name + ".svc.cluster.local"}
}

// cluster is the Envoy cluster of a destination: of the subset that is named after route and destination, under the real name or a private one.
func (f *folder) cluster(d destination) string {
	const maxReadable = 63 - len("-0123456789")
	readable := strings.ReplaceAll(f.route.Metadata.Name, ".", "-") + "-" + d.Name
	readable = strings.TrimRight(readable[:min(len(readable), maxReadable)], "-")
	subset := regexp.MustCompile("^" + regexp.QuoteMeta(readable) + "-[0-9a-f]{10}$")
	for _, object := range f.generated {
		if object.GetKind() != "DestinationRule" {
			continue
		}
		host, _, _ := unstructured.NestedString(object.Object, "spec", "host")
		if private := strings.HasSuffix(host, "."+f.route.Metadata.Namespace+".externalroute.internal"); private != d.private || !private && host != d.host {
			continue
		}
		subsets, _, _ := unstructured.NestedSlice(object.Object, "spec", "subsets")
		for _, s := range subsets {
			if name, _ := s.(map[string]any)["name"].(string); subset.MatchString(name) {
				return fmt.Sprintf("outbound|%d|%s|%s", d.port, name, host)
			}
		}
	}
	return fmt.Sprintf("(a subset %s for destination %s)", subset, d.Name)
}

// requests sends probes to every name, with and without the port, and compares all that becomes of them with what the manifest promises.
// unknown finds what a sidecar knows of the destinations, for which it has no client certificate.
func (i *inspection) unknown(f *folder, own *sidecar) {
	for _, d := range f.route.Spec.Destinations {
		if _, known := own.clusters[f.cluster(d)]; known {
			i.found("sidecars know %s, which is the waypoint's alone", f.cluster(d))
		}
	}
	aliases, _ := f.route.hosts()
	for _, alias := range aliases {
		answer, err := own.answer(i.addressOf(f, alias), alias, f.route.Spec.Port, request{method: "GET", path: "/"})
		if err == nil && slices.ContainsFunc(answer.Targets, func(t target) bool { return strings.Contains(t.Cluster, "externalroute.internal") }) {
			i.found("sidecars send requests of %s to %v", alias, answer.Targets)
		}
	}
}

func (i *inspection) requests(f *folder, s *sidecar, names []string) {
	reached := map[int]bool{}
	for _, name := range names {
		for _, host := range []string{name, address(name, f.route.Spec.Port)} {
			for _, probe := range f.route.probes() {
				want, rule := f.route.answer(probe, f.cluster)
				reached[rule] = true
				got, err := s.answer(i.addressOf(f, name), host, f.route.Spec.Port, probe)
				if err == nil && f.route.Spec.EgressGateway != nil {
					got, err = i.with.gateway(f).secondLeg(got, probe)
				}
				if err != nil {
					i.found("%s http://%s%s: %v", probe.method, host, probe.path, err)
					return
				}
				if diff := cmp.Diff(want, got); diff != "" {
					i.found("%s http://%s%s %v (-want +got):\n%s", probe.method, host, probe.path, probe.headers, diff)
					return // the same mistake shows under every name
				}
			}
		}
	}
	for rule := range f.route.Spec.Rules {
		if !reached[rule] {
			i.found("no probe reached rules[%d]: the folder needs another one, or the rule is dead", rule)
		}
	}
}

// addressOf is where a name leads: to the Service, or somewhere outside.
func (i *inspection) addressOf(f *folder, name string) string {
	service, _, _ := strings.Cut(name, ".")
	if a := i.with.addresses[service+"."+f.route.Metadata.Namespace]; a != "" {
		return a
	}
	return "203.0.113.1"
}

var idle = regexp.MustCompile("idle [^,]*, ")

func (i *inspection) upstreams(f *folder, s *sidecar) {
	for _, d := range f.route.Spec.Destinations {
		got, err := s.upstream(f.cluster(d))
		if err != nil {
			i.found("destination %s: %v", d.Name, err)
			continue
		}
		want := f.route.upstream(d)
		if d.tcp() { // an idle connection is the listener's matter
			got.Limits, want.Limits = idle.ReplaceAllString(got.Limits, ""), idle.ReplaceAllString(want.Limits, "")
		}
		if diff := cmp.Diff(want, got); diff != "" {
			i.found("destination %s, cluster %s (-want +got):\n%s", d.Name, f.cluster(d), diff)
		}
	}
}

// directCalls are those that an application makes to the real host itself: they must work as if there were no route, but for scope Host.
func (i *inspection) directCalls(f *folder, s, before *sidecar) {
	for _, d := range f.route.Spec.Destinations {
		call := fmt.Sprintf("a direct call of %s://%s", d.scheme, address(d.host, d.port))
		var got, without string
		if d.scheme == "https" {
			got, without = s.direct(d.host, d.port), before.direct(d.host, d.port)
		} else {
			if i.inPlace[address(d.host, d.port)] {
				continue
			}
			got, without = s.plain(d.authority, d.port), before.plain(d.authority, d.port)
		}
		if _, inPlace := f.route.hosts(); d.private && !slices.Contains(inPlace, d.host) {
			if got != without || s.clusters[got] == nil {
				i.found("%s lands on %s, and on %s without the route", call, got, without)
			}
			continue
		}
		if want := fmt.Sprintf("outbound|%d||%s", d.port, d.host); got != want {
			i.found("%s lands on %s, not on %s", call, got, want)
			continue
		}
		settings, err := s.tls(got)
		if err != nil {
			i.found("%s: %v", call, err)
			continue
		}
		if diff := cmp.Diff(f.hostWide(d), settings); diff != "" {
			i.found("%s lands on a cluster with other TLS (-want +got):\n%s", call, diff)
		}
	}
}

// plain is the cluster of a direct call over plain http.
func (s *sidecar) plain(authority string, port int) string {
	got, err := s.answer("203.0.113.1", authority, port, request{method: "GET", path: "/"})
	if err != nil || len(got.Targets) == 0 {
		return fmt.Sprintf("nothing (%v)", err)
	}
	return got.Targets[0].Cluster
}

// hostWide is the TLS that the whole namespace speaks to the https port of a destination's host: none, but in scope Host.
func (f *folder) hostWide(d destination) *tlsSettings {
	for _, other := range f.route.Spec.Destinations {
		if other.host == d.host && other.port == d.port && other.scheme == d.scheme && other.TLS.Scope == "Host" {
			return f.route.tls(other)
		}
	}
	return nil
}

// otherPorts of an existing Service keep their own traffic.
func (i *inspection) otherPorts(f *folder, s, before *sidecar) {
	for _, object := range f.existing {
		ports, _, _ := unstructured.NestedSlice(object.Object, "spec", "ports")
		for _, p := range ports {
			port, _ := p.(map[string]any)["port"].(int64)
			if object.GetKind() != "Service" || int(port) == f.route.Spec.Port {
				continue
			}
			host := address(object.GetName(), int(port))
			want, _ := before.answer(i.addressOf(f, object.GetName()), host, int(port), request{method: "GET", path: "/a"})
			got, _ := s.answer(i.addressOf(f, object.GetName()), host, int(port), request{method: "GET", path: "/a"})
			if diff := cmp.Diff(want, got); diff != "" || len(got.Targets) != 1 {
				i.found("http://%s is no longer as without the route (-without +with):\n%s", host, diff)
			}
		}
	}
}

// bystander is a pod that the route's workloadSelector does not select: its calls go to the Service as if there were no route.
func (i *inspection) bystander(f *folder, s *sidecar) {
	aliases, _ := f.route.hosts()
	for _, alias := range aliases {
		want := fmt.Sprintf("outbound|%d||%s.%s.svc.cluster.local", f.route.Spec.Port, alias, f.route.Metadata.Namespace)
		for _, probe := range f.route.probes() {
			got, err := s.answer(i.addressOf(f, alias), alias, f.route.Spec.Port, probe)
			if err != nil || len(got.Targets) != 1 || got.Targets[0] != (target{Cluster: want}) || got.Path != probe.path || got.RequestHeaders != nil {
				i.found("a pod without the labels calls http://%s%s: %+v %v", alias, probe.path, got, err)
			}
		}
	}
	for _, d := range f.route.Spec.Destinations {
		if s.clusters[f.cluster(d)] != nil {
			i.found("a pod without the labels has cluster %s", f.cluster(d))
		}
	}
}

// writtenCalls are those of calls.yaml: what a person says that must happen.
func (i *inspection) writtenCalls(f *folder, s *sidecar) {
	for _, c := range f.calls {
		headers := map[string]string{}
		for name, value := range c.Headers {
			headers[strings.ToLower(name)] = value
		}
		if c.Method == "" {
			c.Method = "GET"
		}
		aliases, inPlace := f.route.hosts()
		host := slices.Concat(aliases, inPlace)[0]
		got, err := s.answer(i.addressOf(f, host), net.JoinHostPort(host, strconv.Itoa(f.route.Spec.Port)), f.route.Spec.Port, request{c.Method, c.Path, headers})
		if err != nil {
			i.found("calls.yaml, %s %s: %v", c.Method, c.Path, err)
			continue
		}
		to := slices.IndexFunc(f.route.Spec.Destinations, func(d destination) bool { return d.Name == c.WantDestination })
		switch {
		case c.WantPath != "" && c.WantPath != got.Path,
			c.WantStatus != got.Status,
			c.WantAuthority != "" && !slices.ContainsFunc(got.Targets, func(t target) bool { return t.Authority == c.WantAuthority }),
			c.WantDestination != "" && (to < 0 || !slices.ContainsFunc(got.Targets, func(t target) bool { return t.Cluster == f.cluster(f.route.Spec.Destinations[to]) })):
			i.found("calls.yaml, %s %s: want %+v, got %+v", c.Method, c.Path, c, got)
		}
	}
}

// losses takes objects of the folder away, in every combination, from a mesh that lets nothing out by itself: what remains must never send requests for a
// host in place outside in plaintext, unless the manifest has no TLS at all.
func (i *inspection) losses(t *testing.T, folders []*folder, f *folder) {
	t.Helper()
	_, inPlace := f.route.hosts()
	encrypts := slices.ContainsFunc(f.route.Spec.Destinations, func(d destination) bool { return d.scheme == "https" })
	if len(inPlace) == 0 || !encrypts || f.route.Spec.EgressGateway != nil { // strays looks at those
		return
	}
	closed := &unstructured.Unstructured{}
	readYAML(t, []byte(registryOnly), &closed.Object)
	objects := slices.DeleteFunc(slices.Clone(f.generated), func(o *unstructured.Unstructured) bool { return o.GetKind() == "Service" })
	for kept := range 1<<len(objects) - 1 {
		remaining, missing := slices.Concat([]*unstructured.Unstructured{closed}, objectsOf(folders, f)), []string{}
		for bit, object := range objects {
			if kept>>bit&1 == 1 {
				remaining = append(remaining, object)
			} else {
				missing = append(missing, object.GetKind())
			}
		}
		s := newMesh(t, remaining).sidecar(f.route.Metadata.Namespace, nil)
		for _, host := range inPlace {
			if where := s.plaintext(host, f.route.Spec.Port); where != "" {
				i.found("without %s: http://%s leaves in plaintext to %s", strings.Join(missing, ", "), host, where)
			}
		}
	}
}

// registryOnly lets nothing out that the mesh does not know.
const registryOnly = `
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: demo}
spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}
`

// plaintext says where a plain request to a host goes without TLS, or nothing. Port 1 is nowhere.
func (s *sidecar) plaintext(host string, port int) string {
	got, err := s.answer("203.0.113.1", host, port, request{method: "GET", path: "/"})
	if err != nil {
		return "" // Envoy has no route for it
	}
	for _, target := range got.Targets {
		cluster := s.clusters[target.Cluster]
		if cluster == nil || target.Cluster == "BlackHoleCluster" {
			continue
		}
		if settings, err := s.tls(target.Cluster); err == nil && settings != nil {
			continue
		}
		if cluster.GetType() == clusterv3.Cluster_ORIGINAL_DST {
			return "wherever it was going"
		}
		for _, endpoint := range xdstest.ExtractEndpoints(cluster.LoadAssignment) {
			if !strings.HasSuffix(endpoint, ":1") {
				return endpoint
			}
		}
	}
	return ""
}
