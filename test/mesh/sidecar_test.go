package mesh

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/pkg/simulation"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pilot/test/xdstest"
	"istio.io/istio/pkg/config"
	meshconfig "istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/config/schema/collections"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
)

// mesh is an istiod that knows some objects.
type mesh struct {
	t         *testing.T
	server    *xds.FakeDiscoveryServer
	addresses map[string]string // of Services, by NAME.NAMESPACE
	marks     int               // see mark
	// overlapping says that a test wants listeners that Envoy refuses.
	overlapping bool
}

func newMesh(t *testing.T, objects []*unstructured.Unstructured) *mesh {
	t.Helper()
	return newMeshWith(t, "", objects)
}

// newMeshWith is newMesh with a mesh-wide configuration: fields of meshConfig, in YAML.
func newMeshWith(t *testing.T, settings string, objects []*unstructured.Unstructured) *mesh {
	t.Helper()
	m := &mesh{t: t, addresses: map[string]string{}}
	meshConfig, err := meshconfig.ApplyMeshConfigDefaults(settings)
	if err != nil {
		t.Fatal(err)
	}
	options := m.options(objects)
	options.MeshConfig = meshConfig
	m.server = xds.NewFakeDiscoveryServer(t, options)
	return m
}

// options are the objects as istiod reads them.
func (m *mesh) options(objects []*unstructured.Unstructured) (options xds.FakeOptions) {
	for _, object := range objects {
		switch object.GetKind() {
		case "Service":
			service := &corev1.Service{}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, service); err != nil {
				m.t.Fatal(err)
			}
			if service.Spec.ClusterIP == "" { // as the API server would give it one, the same in every mesh
				sum := sha256.Sum256([]byte(service.Namespace + "/" + service.Name))
				service.Spec.ClusterIP = fmt.Sprintf("10.97.%d.%d", sum[0], sum[1])
			}
			m.addresses[service.Name+"."+service.Namespace] = service.Spec.ClusterIP
			options.KubernetesObjects = append(options.KubernetesObjects, service)
		case "ConfigMap", "Namespace":
		case "XBackend":
			options.Configs = append(options.Configs, xBackendConfig(object))
		case "Pod", "EndpointSlice": // without the API server, istiod has them from here
			options.KubernetesObjects = append(options.KubernetesObjects, typed(m.t, object))
		default:
			if object.GroupVersionKind().Group != "gateway.networking.k8s.io" { // a waypoint, which is a Service to it
				options.Configs = append(options.Configs, istioConfig(m.t, object))
			}
		}
	}
	return options
}

func typed(t *testing.T, object *unstructured.Unstructured) runtime.Object {
	t.Helper()
	converted, err := scheme.Scheme.New(object.GroupVersionKind())
	if err != nil {
		t.Fatal(err)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, converted); err != nil {
		t.Fatal(err)
	}
	return converted
}

func istioConfig(t *testing.T, object *unstructured.Unstructured) config.Config {
	t.Helper()
	raw, err := object.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	kind := &crd.IstioKind{}
	readYAML(t, raw, kind)
	gvk := object.GroupVersionKind()
	collection, known := collections.Pilot.FindByGroupVersionAliasesKind(config.GroupVersionKind{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind})
	if !known {
		t.Fatalf("Istio knows no %s", gvk)
	}
	converted, err := crd.ConvertObject(collection, kind, "cluster.local")
	if err != nil {
		t.Fatalf("%s %s: %v", gvk.Kind, object.GetName(), err)
	}
	return *converted
}

// sidecar is what istiod sends to one pod's Envoy.
type sidecar struct {
	*simulation.Simulation
	mesh        *mesh
	clusters    map[string]*clusterv3.Cluster
	routes      map[string]*routev3.RouteConfiguration
	endpoints   map[string][]string
	assignments map[string]*endpointv3.ClusterLoadAssignment
}

func (m *mesh) sidecar(namespace string, labels map[string]string) *sidecar {
	m.t.Helper()
	return m.sidecarOf(namespace, labels, func(*model.Proxy) {})
}

// sidecarOf is sidecar for a proxy that differs from the usual one.
func (m *mesh) sidecarOf(namespace string, labels map[string]string, change func(*model.Proxy)) *sidecar {
	m.t.Helper()
	known := map[string]string{"topology.istio.io/cluster": "Kubernetes"} // which istiod adds to every proxy
	maps.Copy(known, labels)
	client := &model.Proxy{
		ConfigNamespace: namespace,
		Labels:          known,
		Metadata:        &model.NodeMetadata{Namespace: namespace, Labels: labels, ClusterID: "Kubernetes", IstioVersion: "1.31.0"},
	}
	change(client)
	proxy := m.server.SetupProxy(client)
	simulated := simulation.NewSimulation(m.t, m.server, proxy)
	if !m.overlapping {
		xdstest.ValidateListeners(m.t, simulated.Listeners)
	}
	xdstest.ValidateClusters(m.t, simulated.Clusters)
	xdstest.ValidateRouteConfigurations(m.t, simulated.Routes)
	assignments := m.server.Endpoints(proxy)
	s := &sidecar{
		Simulation:  simulated,
		mesh:        m,
		clusters:    xdstest.ExtractClusters(simulated.Clusters),
		routes:      xdstest.ExtractRouteConfigurations(simulated.Routes),
		endpoints:   xdstest.ExtractLoadAssignments(assignments),
		assignments: map[string]*endpointv3.ClusterLoadAssignment{},
	}
	for _, assignment := range assignments {
		s.assignments[assignment.ClusterName] = assignment
	}
	return s
}

// differences names the resources that two sidecars do not have byte for byte alike.
func (s *sidecar) differences(other *sidecar) []string {
	mine, others := s.resources(), other.resources()
	var names []string
	for name, content := range mine {
		if !bytes.Equal(content, others[name]) {
			names = append(names, name)
		}
	}
	for name := range others {
		if mine[name] == nil {
			names = append(names, name)
		}
	}
	return sorted(names)
}

func (s *sidecar) resources() map[string][]byte {
	resources := map[string][]byte{}
	add := func(kind, name string, message proto.Message) {
		content, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
		if err != nil {
			s.mesh.t.Fatal(err)
		}
		resources[kind+" "+name] = content
	}
	for _, l := range s.Listeners {
		add("listener", l.Name, l)
	}
	for _, c := range s.Clusters {
		add("cluster", c.Name, c)
	}
	for _, r := range s.Routes {
		add("route table", r.Name, r)
	}
	for cluster, endpoints := range s.endpoints {
		resources["endpoints "+cluster] = []byte(strings.Join(sorted(endpoints), ","))
	}
	return resources
}

// direct is the cluster of a call that an application makes to a real host over TLS of its own.
func (s *sidecar) direct(host string, port int) string {
	result := s.Run(simulation.Call{Port: port, Protocol: simulation.HTTP, TLS: simulation.TLS, HostHeader: host, CallMode: simulation.CallModeOutbound})
	if result.Error != nil {
		return result.Error.Error()
	}
	return result.ClusterMatched
}

// answer says what Envoy does with a plaintext request. Istio's simulation finds the virtual host; it looks at nothing but paths from there on.
func (s *sidecar) answer(address, host string, port int, r request) (outcome, error) {
	result := s.Run(simulation.Call{Address: address, Port: port, Protocol: simulation.HTTP, HostHeader: host, CallMode: simulation.CallModeOutbound})
	return s.routed(result, r)
}

// routed says what becomes of a request for which Istio's simulation has found the virtual host.
func (s *sidecar) routed(result simulation.Result, r request) (outcome, error) {
	if result.RouteConfigMatched == "" {
		return outcome{Targets: []target{{Cluster: result.ClusterMatched}}}, result.Error
	}
	for _, virtualHost := range s.routes[result.RouteConfigMatched].GetVirtualHosts() {
		if virtualHost.Name != result.VirtualHostMatched {
			continue
		}
		return firstRoute(virtualHost, r)
	}
	return outcome{}, fmt.Errorf("no virtual host: %w", result.Error)
}

// firstRoute says what a virtual host does with a request.
func firstRoute(virtualHost *routev3.VirtualHost, r request) (outcome, error) {
	for _, route := range virtualHost.Routes {
		matched, err := routeMatches(route.Match, r)
		if err != nil {
			return outcome{}, err
		}
		if matched {
			return follow(route, r)
		}
	}
	return outcome{Status: 404}, nil
}

func routeMatches(m *routev3.RouteMatch, r request) (bool, error) {
	path, query, _ := strings.Cut(r.path, "?")
	if len(m.DynamicMetadata) > 0 || m.RuntimeFraction != nil || m.Grpc != nil || m.CaseSensitive != nil && !m.CaseSensitive.Value {
		return false, fmt.Errorf("a match that nobody asked for: %v", m)
	}
	switch p := m.PathSpecifier.(type) {
	case *routev3.RouteMatch_Prefix:
		if !strings.HasPrefix(path, p.Prefix) {
			return false, nil
		}
	case *routev3.RouteMatch_Path:
		if path != p.Path {
			return false, nil
		}
	case *routev3.RouteMatch_SafeRegex:
		if !wholeMatch(p.SafeRegex.Regex, path) {
			return false, nil
		}
	default:
		return false, fmt.Errorf("a path specifier that nobody asked for: %T", p)
	}
	for _, h := range m.Headers {
		value, exists := r.headers[strings.ToLower(h.Name)]
		if h.Name == ":method" {
			value, exists = r.method, true
		}
		if matched, err := stringMatches(h.GetStringMatch(), value); err != nil || !exists || !matched {
			return false, err
		}
	}
	for _, q := range m.QueryParameters {
		found := regexp.MustCompile(`(?:^|&)` + regexp.QuoteMeta(q.Name) + `(?:=([^&]*))?(?:&|$)`).FindStringSubmatch(query)
		if found == nil {
			return false, nil
		}
		if matched, err := stringMatches(q.GetStringMatch(), found[1]); err != nil || !matched {
			return false, err
		}
	}
	return true, nil
}

func stringMatches(m *matcherv3.StringMatcher, text string) (bool, error) {
	switch p := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		return text == p.Exact, nil
	case *matcherv3.StringMatcher_Prefix:
		return strings.HasPrefix(text, p.Prefix), nil
	case *matcherv3.StringMatcher_SafeRegex:
		return wholeMatch(p.SafeRegex.Regex, text), nil
	default:
		return false, fmt.Errorf("a condition that nobody asked for: %v", m)
	}
}

// follow says what leaves when a request takes a route.
func follow(route *routev3.Route, r request) (outcome, error) {
	var out outcome
	var err error
	if out.RequestHeaders, err = headerLines(route.RequestHeadersToAdd, route.RequestHeadersToRemove); err != nil {
		return out, err
	}
	if out.ResponseHeaders, err = headerLines(route.ResponseHeadersToAdd, route.ResponseHeadersToRemove); err != nil {
		return out, err
	}
	if d := route.GetDirectResponse(); d != nil {
		out.Status, out.Body = int(d.Status), d.GetBody().GetInlineString()
		return out, nil
	}
	action := route.GetRoute()
	if action == nil {
		return out, fmt.Errorf("an action that nobody asked for: %v", route.Action)
	}
	out.Timeout = action.Timeout.AsDuration().String()
	out.Retries = retries(action.RetryPolicy)
	if out.Fault, err = fault(route); err != nil {
		return out, err
	}
	out.Path = rewritten(route.Match, action, r.path)
	if cluster := action.GetCluster(); cluster != "" {
		out.Targets = []target{{Cluster: cluster, Authority: action.GetHostRewriteLiteral()}}
	}
	for _, c := range action.GetWeightedClusters().GetClusters() {
		if len(c.RequestHeadersToAdd)+len(c.RequestHeadersToRemove)+len(c.ResponseHeadersToAdd)+len(c.ResponseHeadersToRemove) > 0 {
			return out, fmt.Errorf("headers of one destination alone: %v", c)
		}
		out.Targets = append(out.Targets, target{c.Name, cmp.Or(action.GetHostRewriteLiteral(), c.GetHostRewriteLiteral()), int(c.Weight.GetValue())})
	}
	out.Targets = shares(out.Targets)
	return out, nil
}

func rewritten(m *routev3.RouteMatch, action *routev3.RouteAction, path string) string {
	path, query, _ := strings.Cut(path, "?")
	_, isPrefix := m.PathSpecifier.(*routev3.RouteMatch_Prefix)
	switch {
	case action.RegexRewrite != nil:
		path = substitute(action.RegexRewrite.Pattern.Regex, action.RegexRewrite.Substitution, path)
	case action.PrefixRewrite != "" && isPrefix:
		path = action.PrefixRewrite + strings.TrimPrefix(path, m.GetPrefix())
	case action.PrefixRewrite != "":
		path = action.PrefixRewrite
	}
	return withQuery(path, query)
}

func headerLines(add []*corev3.HeaderValueOption, remove []string) ([]string, error) {
	var lines []string
	for _, h := range add {
		value := strings.ReplaceAll(h.Header.Value, "%%", "")
		if strings.Contains(value, "%") {
			return nil, fmt.Errorf("the value %q of header %s is a command to Envoy: one that it does not know makes it refuse all routes", h.Header.Value, h.Header.Key)
		}
		verb := "add"
		if h.AppendAction == corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
			verb = "set"
		}
		lines = append(lines, fmt.Sprintf("%s %s: %s", verb, strings.ToLower(h.Header.Key), strings.ReplaceAll(h.Header.Value, "%%", "%")))
	}
	for _, name := range remove {
		lines = append(lines, "remove "+strings.ToLower(name))
	}
	return slices.Compact(sorted(lines)), nil
}

func retries(p *routev3.RetryPolicy) string {
	if p == nil {
		return "none"
	}
	on := strings.Split(p.RetryOn, ",")
	if len(p.RetriableStatusCodes) > 0 {
		on = slices.DeleteFunc(on, func(word string) bool { return word == "retriable-status-codes" })
		for _, code := range p.RetriableStatusCodes {
			on = append(on, fmt.Sprint(code))
		}
	}
	return fmt.Sprintf("%d on %s, each within %s", p.NumRetries.GetValue(), strings.Join(sorted(on), ","), p.PerTryTimeout.AsDuration())
}

func fault(route *routev3.Route) (string, error) {
	var parts []string
	for name, typed := range route.TypedPerFilterConfig {
		f := &faultv3.HTTPFault{}
		if err := typed.UnmarshalTo(f); err != nil {
			return "", fmt.Errorf("filter %s: %w", name, err)
		}
		if a := f.Abort; a != nil {
			parts = append(parts, fmt.Sprintf("%d%% answered %d", a.Percentage.GetNumerator()/10000, a.GetHttpStatus()))
		}
		if d := f.Delay; d != nil {
			parts = append(parts, fmt.Sprintf("%d%% held back %s", d.Percentage.GetNumerator()/10000, d.GetFixedDelay().AsDuration()))
		}
	}
	return strings.Join(parts, ", "), nil
}

// upstream says how Envoy reaches a cluster.
func (s *sidecar) upstream(name string) (upstream, error) {
	settings, err := s.tls(name)
	if err != nil {
		return upstream{}, err
	}
	cluster := s.clusters[name]
	u := upstream{TLS: settings, Discovery: cluster.GetType().String()}
	for _, group := range cmp.Or(cluster.LoadAssignment, s.assignments[name]).GetEndpoints() {
		alone := &endpointv3.ClusterLoadAssignment{Endpoints: []*endpointv3.LocalityLbEndpoints{group}}
		for _, address := range xdstest.ExtractEndpoints(alone) {
			u.Endpoints = append(u.Endpoints, withPriority(address, int(group.Priority)))
		}
	}
	u.Endpoints = slices.Compact(sorted(u.Endpoints)) // Istio repeats what several ServiceEntries say, and Envoy takes each address once

	options := &httpv3.HttpProtocolOptions{}
	for _, typed := range cluster.TypedExtensionProtocolOptions {
		if typed.MessageIs(options) {
			if err := typed.UnmarshalTo(options); err != nil {
				return upstream{}, err
			}
		}
	}
	thresholds, common := cluster.CircuitBreakers.Thresholds[0], options.GetCommonHttpProtocolOptions()
	u.Limits = limits(thresholds.MaxConnections.GetValue(), thresholds.MaxPendingRequests.GetValue(), common.GetMaxRequestsPerConnection().GetValue(),
		cluster.ConnectTimeout.AsDuration(), common.GetIdleTimeout().AsDuration(), options.GetExplicitHttpConfig().GetHttp2ProtocolOptions() != nil)
	if o := cluster.OutlierDetection; o != nil {
		u.Outlier = outlier(o.Consecutive_5Xx.GetValue(), o.MaxEjectionPercent.GetValue(), o.Interval.AsDuration(), o.BaseEjectionTime.AsDuration())
	}
	return u, nil
}

// tls says what Envoy speaks to a cluster: nothing where that is plaintext.
func (s *sidecar) tls(name string) (*tlsSettings, error) {
	cluster := s.clusters[name]
	if cluster == nil {
		return nil, fmt.Errorf("there is no cluster %s", name)
	}
	socket := toOutside(cluster)
	if socket == nil && len(cluster.TransportSocketMatches) == 0 || socket.GetName() == "envoy.transport_sockets.raw_buffer" {
		return nil, nil
	}
	typed := &tlsv3.UpstreamTlsContext{}
	if err := socket.GetTypedConfig().UnmarshalTo(typed); err != nil {
		return nil, fmt.Errorf("cluster %s: %w", name, err)
	}
	common := typed.CommonTlsContext
	validation := common.GetCombinedValidationContext()
	settings := &tlsSettings{SNI: typed.Sni, CA: validation.GetValidationContextSdsSecretConfig().GetName(), ALPN: strings.Join(common.AlpnProtocols, ",")}
	for _, name := range validation.GetDefaultValidationContext().GetMatchSubjectAltNames() { //nolint:staticcheck // what Istio writes
		settings.SubjectAltNames = append(settings.SubjectAltNames, name.GetExact())
	}
	for _, certificate := range common.TlsCertificateSdsSecretConfigs {
		settings.ClientCertificate += certificate.Name
	}
	return settings, nil
}
