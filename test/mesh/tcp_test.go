package mesh

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/pkg/simulation"
	"istio.io/istio/pilot/test/xdstest"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const (
	aliasAddress = "10.96.0.7"
	elsewhere    = "203.0.113.9" // an address that the mesh does not know
	privateName  = "h5a3c.demo.externalroute.internal"
)

// What a ServiceEntry behind a TCP alias does to other connections on its port. This is why a TCP route gives its private name an address that nothing can
// connect to (docs/design/0016-tcp-routes.md). When a line fails, Istio has changed: decide anew.
func TestTCPServiceEntries(t *testing.T) {
	const endpoint = "resolution: DNS, endpoints: [{address: db.example.com}]"
	for sentence, c := range map[string]struct {
		entry     string
		host      string // of the ServiceEntry; defaults to the private name
		port      int    // of the ServiceEntry; defaults to 5432
		alias     string // what serves the alias
		others    string // what serves a connection to an unknown address on port 5432
		listeners string // what else is new
	}{
		"the real host, without an address, takes every connection on its port": {
			host: "db.example.com", entry: "resolution: DNS, ports: [{name: tcp, number: 5432, protocol: TCP}]",
			alias: "outbound|5432|db|db.example.com", others: "0.0.0.0_5432 -> outbound|5432||db.example.com", listeners: "0.0.0.0_5432",
		},
		"a private name, without an address, takes every connection on its port": {
			entry: endpoint + ", ports: [{name: tcp, number: 5432, protocol: TCP}]",
			alias: "outbound|5432|db|" + privateName, others: "0.0.0.0_5432 -> outbound|5432||" + privateName, listeners: "0.0.0.0_5432",
		},
		"a port declared as TLS makes every connection on it wait for the client's first bytes": {
			entry: endpoint + ", ports: [{name: tls, number: 5432, protocol: TLS}]",
			alias: "outbound|5432|db|" + privateName, others: "0.0.0.0_5432, tls_inspector -> PassthroughCluster", listeners: "0.0.0.0_5432, tls_inspector",
		},
		"so does a port declared as HTTP": {
			entry: endpoint + ", ports: [{name: http, number: 5432, protocol: HTTP}]",
			alias: "outbound|5432|db|" + privateName, others: "0.0.0.0_5432, http_inspector -> PassthroughCluster", listeners: "0.0.0.0_5432, http_inspector",
		},
		"a port of its own takes every connection on that one": {
			entry: endpoint + ", ports: [{name: tcp, number: 61432, targetPort: 5432, protocol: TCP}]", port: 61432,
			alias: "outbound|61432|db|" + privateName, others: "virtualOutbound -> PassthroughCluster", listeners: "0.0.0.0_61432",
		},
		"a port of its own, declared as TLS, makes every connection on that one wait": {
			entry: endpoint + ", ports: [{name: tls, number: 61432, targetPort: 5432, protocol: TLS}]", port: 61432,
			alias: "outbound|61432|db|" + privateName, others: "virtualOutbound -> PassthroughCluster", listeners: "0.0.0.0_61432, tls_inspector",
		},
		"a port declared as UDP has no cluster": {
			entry: endpoint + ", ports: [{name: udp, number: 5432, protocol: UDP}]",
			alias: "missing outbound|5432|db|" + privateName, others: "virtualOutbound -> PassthroughCluster",
		},
		"a ServiceEntry that nobody sees disturbs nobody, and Istio does not look whether the VirtualService may see it": {
			entry: endpoint + `, exportTo: ["~"], ports: [{name: tcp, number: 5432, protocol: TCP}]`,
			alias: "outbound|5432|db|" + privateName, others: "virtualOutbound -> PassthroughCluster",
		},
		"the address of the alias sends the alias past the TLS settings": {
			entry: endpoint + ", addresses: [10.96.0.7], ports: [{name: tcp, number: 5432, protocol: TCP}]",
			alias: "outbound|5432||" + privateName, others: "virtualOutbound -> PassthroughCluster",
		},
		"the address of the alias with a port of its own disturbs nobody": {
			entry: endpoint + ", addresses: [10.96.0.7], ports: [{name: tcp, number: 61432, targetPort: 5432, protocol: TCP}]", port: 61432,
			alias: "outbound|61432|db|" + privateName, others: "virtualOutbound -> PassthroughCluster", listeners: "10.96.0.7_61432",
		},
		"a reserved address takes only connections to it": {
			entry: endpoint + ", addresses: [241.2.3.4], ports: [{name: tcp, number: 5432, protocol: TCP}]",
			alias: "outbound|5432|db|" + privateName, others: "virtualOutbound -> PassthroughCluster", listeners: "241.2.3.4_5432",
		},
		"a multicast address takes only connections to it": {
			entry: endpoint + ", addresses: [239.2.3.4], ports: [{name: tcp, number: 5432, protocol: TCP}]",
			alias: "outbound|5432|db|" + privateName, others: "virtualOutbound -> PassthroughCluster", listeners: "239.2.3.4_5432",
		},
		"a range of addresses listens on all addresses": {
			entry: endpoint + ", addresses: [239.2.3.0/24], ports: [{name: tcp, number: 5432, protocol: TCP}]",
			alias: "outbound|5432|db|" + privateName, others: "0.0.0.0_5432 -> PassthroughCluster", listeners: "0.0.0.0_5432",
		},
		"resolution NONE sends connections where the client sent them: to the alias": {
			entry: "resolution: NONE, addresses: [239.2.3.4], ports: [{name: tcp, number: 5432, protocol: TCP}]",
			alias: "ORIGINAL_DST outbound|5432|db|" + privateName, others: "virtualOutbound -> PassthroughCluster", listeners: "239.2.3.4_5432",
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			host, port := privateName, 5432
			if c.host != "" {
				host = c.host
			}
			if c.port != 0 {
				port = c.port
			}
			entry := c.entry
			if !strings.Contains(entry, "exportTo") {
				entry += `, exportTo: ["."]`
			}
			before := newMesh(t, objectsIn(t, tcpAlias)).sidecar(namespace, nil)
			after := newMesh(t, objectsIn(t, tcpAlias, tcpRoute("db", host, entry, port))).sidecar(namespace, nil)

			alias := strings.TrimPrefix(after.connect(aliasAddress, 5432), "10.96.0.7_5432 -> ")
			if cluster := after.clusters[alias]; cluster == nil {
				alias = "missing " + alias
			} else if kind := cluster.GetType().String(); kind != "STRICT_DNS" {
				alias = kind + " " + alias
			}
			var listeners []string
			for _, name := range after.differences(before) {
				if listener, is := strings.CutPrefix(name, "listener "); is && listener != "10.96.0.7_5432" {
					listeners = append(listeners, listener+after.inspectors(listener))
				}
			}
			for what, is := range map[string][2]string{
				"the alias":         {alias, c.alias},
				"others":            {after.connect(elsewhere, 5432), c.others},
				"the new listeners": {strings.Join(listeners, "; "), c.listeners},
			} {
				if is[0] != is[1] {
					t.Errorf("%s: got %q, want %q", what, is[0], is[1])
				}
			}
		})
	}
}

// The chosen shape changes nothing but what is its own: whatever else the namespace has on its port, whatever the mesh lets out, and whatever the pods' IP
// families are. That holds for two routes that happen to share an address too.
func TestTCPRouteLeavesOthersAlone(t *testing.T) {
	first := tcpRoute("db", privateName, addressed("239.2.3.4", "db.example.com"), 5432)
	second := tcpRoute("db2", "k7b1d.demo.externalroute.internal", addressed("239.2.3.4", "db2.example.com"), 5432)
	aliases := tcpAlias + "\n---\n" + strings.NewReplacer("name: db", "name: db2", aliasAddress, "10.96.0.8").Replace(tcpAlias)
	own := strings.Join([]string{
		"cluster outbound|5432|db2|k7b1d.demo.externalroute.internal", "cluster outbound|5432|db|" + privateName,
		"cluster outbound|5432||" + privateName, "cluster outbound|5432||k7b1d.demo.externalroute.internal",
		"listener 10.96.0.7_5432", "listener 10.96.0.8_5432", "listener 239.2.3.4_5432",
	}, "; ")
	pods := map[string]func(*model.Proxy){
		"IPv4":        func(*model.Proxy) {},
		"IPv6":        func(p *model.Proxy) { p.IPAddresses = []string{"fd00::1"} },
		"dual stack":  func(p *model.Proxy) { p.IPAddresses = []string{"1.1.1.1", "fd00::1"} },
		"DNS capture": func(p *model.Proxy) { p.Metadata.DNSCapture, p.Metadata.DNSAutoAllocate = true, true },
	}
	for _, port := range []int{5432, 443, 80, 3306} {
		on := func(text string) string { return strings.ReplaceAll(text, "5432", fmt.Sprint(port)) }
		for mode, policy := range map[string]string{"ALLOW_ANY": "", "REGISTRY_ONLY": registryOnly} {
			before := newMesh(t, objectsIn(t, on(aliases), on(tcpNeighbours), policy))
			after := newMesh(t, objectsIn(t, on(aliases), on(tcpNeighbours), policy, on(first), on(second)))
			for which, change := range pods {
				t.Run(fmt.Sprintf("port %d, %s, pods with %s", port, mode, which), func(t *testing.T) {
					s := after.sidecarOf(namespace, nil, change)
					if got, want := s.differences(before.sidecarOf(namespace, nil, change)), strings.Split(on(own), "; "); !slices.Equal(got, want) {
						t.Errorf("changed: got %q, want %q", got, want)
					}
					for address, want := range map[string]string{
						aliasAddress: "10.96.0.7_5432 -> outbound|5432|db|" + privateName,
						"10.96.0.8":  "10.96.0.8_5432 -> outbound|5432|db2|k7b1d.demo.externalroute.internal",
					} {
						if got := s.connect(address, port); got != on(want) {
							t.Errorf("%s: got %s, want %s", address, got, on(want))
						}
					}
				})
			}
		}
	}
}

// An alias serves a TCP route, and waits for nobody to speak first, only if Istio takes its port for TCP.
func TestTCPAliasNeedsATCPPort(t *testing.T) {
	route := tcpRoute("db", privateName, addressed("239.2.3.4", "db.example.com"), 5432)
	routed := "10.96.0.7_5432 -> outbound|5432|db|" + privateName
	own := "10.96.0.7_5432 -> outbound|5432||db.demo.svc.cluster.local"
	for port, want := range map[string]string{
		"name: tcp-db":                  routed,
		"appProtocol: tcp":              routed,
		"name: http, appProtocol: tcp":  routed,
		"name: mysql":                   routed,
		"name: redis":                   routed,
		"name: mongo":                   routed,
		"name: db":                      "10.96.0.7_5432, http_inspector -> outbound|5432|db|" + privateName,
		"name: tls":                     own,
		"name: https":                   own,
		"name: tcp, appProtocol: https": own,
		"name: tcp, appProtocol: http":  "0.0.0.0_5432, http_inspector -> PassthroughCluster",
		"name: http":                    "0.0.0.0_5432, http_inspector -> PassthroughCluster",
	} {
		t.Run(port, func(t *testing.T) {
			alias := strings.Replace(tcpAlias, "name: tcp, port: 5432, appProtocol: tcp", "port: 5432, "+port, 1)
			if got := newMesh(t, objectsIn(t, alias, route)).sidecar(namespace, nil).connect(aliasAddress, 5432); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// Other ports of the alias keep what they had, routes for HTTP included.
func TestTCPRouteLeavesOtherPortsOfItsAliasAlone(t *testing.T) {
	alias := strings.Replace(tcpAlias, "ports: [", "ports: [{name: http, port: 80}, {name: tcp-admin, port: 9000}, ", 1)
	web := `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec: {hosts: [db], exportTo: ["."], http: [{match: [{port: 80}], directResponse: {status: 418}}]}
`
	route := tcpRoute("db", privateName, addressed("239.2.3.4", "db.example.com"), 5432)
	for with, others := range map[string]string{"alone": "", "with a route for HTTP": web} {
		t.Run(with, func(t *testing.T) {
			before := newMesh(t, objectsIn(t, alias, others)).sidecar(namespace, nil)
			after := newMesh(t, objectsIn(t, alias, others, route)).sidecar(namespace, nil)
			want := []string{"cluster outbound|5432|db|" + privateName, "cluster outbound|5432||" + privateName, "listener 10.96.0.7_5432", "listener 239.2.3.4_5432"}
			if got := after.differences(before); !slices.Equal(got, want) {
				t.Errorf("changed: got %q, want %q", got, want)
			}
			if got, want := after.connect(aliasAddress, 5432), "10.96.0.7_5432 -> outbound|5432|db|"+privateName; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// Whichever object of a TCP route is missing, no connection reaches the host without TLS.
func TestTCPRouteWithoutAnObjectIsClosed(t *testing.T) {
	route := tcpRoute("db", privateName, addressed("239.2.3.4", "db.example.com"), 5432)
	for kind, want := range map[string]string{
		"VirtualService":  "10.96.0.7_5432 -> outbound|5432||db.demo.svc.cluster.local",
		"DestinationRule": "10.96.0.7_5432 -> outbound|5432|db|" + privateName + " (missing)",
		"ServiceEntry":    "10.96.0.7_5432 -> outbound|5432|db|" + privateName + " (missing)",
		"Service":         "virtualOutbound -> PassthroughCluster", // to an address that Kubernetes has withdrawn
	} {
		t.Run(kind, func(t *testing.T) {
			objects := slices.DeleteFunc(objectsIn(t, tcpAlias, route), func(o *unstructured.Unstructured) bool { return o.GetKind() == kind })
			s := newMesh(t, objects).sidecar(namespace, nil)
			got := s.connect(aliasAddress, 5432)
			if _, cluster, _ := strings.Cut(got, " -> "); s.clusters[cluster] == nil {
				got += " (missing)"
			}
			if got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// A sidecar gets the weights of several destinations, and each subset's own TLS.
func TestTCPDestinations(t *testing.T) {
	route := strings.Replace(tcpRoute("db", privateName, addressed("239.2.3.4", "db.example.com"), 5432),
		"{destination: {host: "+privateName, "{weight: 25, destination: {host: k7b1d.demo.externalroute.internal, subset: db2, port: {number: 5432}}}, {weight: 75, destination: {host: "+privateName, 1)
	second := tcpRoute("db2", "k7b1d.demo.externalroute.internal", addressed("239.9.9.9", "db2.example.com"), 5432)
	second = strings.Replace(second, "mode: SIMPLE", "mode: MUTUAL, credentialName: bank", 1)
	second = strings.Replace(second, "  host: ", "  workloadSelector: {matchLabels: {app: client}}\n  host: ", 1)
	s := newMesh(t, objectsIn(t, tcpAlias, route, second)).sidecar(namespace, map[string]string{"app": "client"})
	want := "10.96.0.7_5432 -> outbound|5432|db2|k7b1d.demo.externalroute.internal at 25, outbound|5432|db|" + privateName + " at 75"
	if got := s.connect(aliasAddress, 5432); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for cluster, want := range map[string]tlsSettings{
		"outbound|5432|db|" + privateName:                     {SNI: "db.example.com", SubjectAltNames: []string{"db.example.com"}, CA: "file-root:system"},
		"outbound|5432|db2|k7b1d.demo.externalroute.internal": {SNI: "db.example.com", SubjectAltNames: []string{"db.example.com"}, CA: "kubernetes://bank-cacert", ClientCertificate: "kubernetes://bank"},
	} {
		got, err := s.tls(cluster)
		if err != nil {
			t.Fatal(err)
		}
		if got == nil || fmt.Sprintf("%+v", *got) != fmt.Sprintf("%+v", want) {
			t.Errorf("%s: got %+v, want %+v", cluster, got, want)
		}
	}
}

// Istio accepts the chosen shape, and its analyzers have nothing to say about it.
func TestTCPRouteIsValid(t *testing.T) {
	route := tcpRoute("db", privateName, addressed("239.2.3.4", "db.example.com"), 5432)
	errors, remarks := complaints(t, &folder{generated: objectsIn(t, tcpAlias, route)})
	if all := slices.Concat(errors, remarks); len(all) > 0 {
		t.Errorf("Istio says %q", all)
	}
}

// Envoy closes connections that are idle for an hour unless the DestinationRule says otherwise, and that must say so for the host: Istio overlooks a subset.
func TestTCPIdleTimeoutIsTheHosts(t *testing.T) {
	route := tcpRoute("db", privateName, addressed("239.2.3.4", "db.example.com"), 5432)
	const policy = "connectionPool: {tcp: {idleTimeout: 7200s, maxConnectionDuration: 86400s}}"
	for where, c := range map[string]struct{ route, want string }{
		"nowhere":    {route, "0s 0s"},
		"the subset": {strings.Replace(route, "trafficPolicy: {", "trafficPolicy: {"+policy+", ", 1), "0s 0s"},
		"the host":   {strings.Replace(route, "  subsets:", "  trafficPolicy: {"+policy+"}\n  subsets:", 1), "2h0m0s 24h0m0s"},
	} {
		t.Run(where, func(t *testing.T) {
			s := newMesh(t, objectsIn(t, tcpAlias, c.route)).sidecar(namespace, nil)
			proxy := xdstest.ExtractTCPProxy(t, xdstest.ExtractListener("10.96.0.7_5432", s.Listeners).GetFilterChains()[0])
			if got := fmt.Sprint(proxy.GetIdleTimeout().AsDuration(), proxy.GetMaxDownstreamConnectionDuration().AsDuration()); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

const tcpAlias = `{apiVersion: v1, kind: Service, metadata: {name: db}, spec: {clusterIP: 10.96.0.7, ports: [{name: tcp, port: 5432, appProtocol: tcp}]}}`

// addressed is the chosen shape of a ServiceEntry.
func addressed(address, host string) string {
	return fmt.Sprintf(`exportTo: ["."], resolution: DNS, endpoints: [{address: %s}], addresses: [%s], ports: [{name: tcp, number: 5432, protocol: TCP}]`, host, address)
}

func tcpRoute(name, host, entry string, port int) string {
	return strings.NewReplacer("NAME", name, "HOST", host, "ENTRY", entry, "PORT", fmt.Sprint(port)).Replace(`
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: NAME}, spec: {hosts: [HOST], location: MESH_EXTERNAL, ENTRY}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: NAME}
spec:
  host: HOST
  exportTo: ["."]
  subsets: [{name: NAME, trafficPolicy: {tls: {mode: SIMPLE, sni: db.example.com, subjectAltNames: [db.example.com]}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: NAME}
spec:
  hosts: [NAME]
  exportTo: ["."]
  tcp: [{match: [{port: 5432}], route: [{destination: {host: HOST, subset: NAME, port: {number: PORT}}}]}]
`)
}

// tcpNeighbours is whatever else can use a port: a Service, databases with and without an address, a host that workloads call over TLS, and HTTP.
const tcpNeighbours = `
{apiVersion: v1, kind: Service, metadata: {name: orders}, spec: {clusterIP: 10.96.0.20, ports: [{name: tcp, port: 5432}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 10.96.0.21, ports: [{name: http, port: 5432}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: undeclared}, spec: {clusterIP: 10.96.0.22, ports: [{name: any, port: 5432}]}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: anywhere}
spec: {hosts: [anywhere.example.com], exportTo: ["."], location: MESH_EXTERNAL, resolution: DNS, ports: [{name: tcp, number: 5432, protocol: TCP}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: fixed}
spec:
  hosts: [fixed.example.com]
  exportTo: ["."]
  addresses: [203.0.113.20]
  location: MESH_EXTERNAL
  resolution: STATIC
  endpoints: [{address: 203.0.113.20}]
  ports: [{name: tcp, number: 5432, protocol: TCP}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: range}
spec: {hosts: [range.example.com], exportTo: ["."], addresses: [203.0.113.64/26], location: MESH_EXTERNAL, resolution: NONE, ports: [{name: tcp, number: 5432, protocol: TCP}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: passthrough}
spec: {hosts: [db.example.com], exportTo: ["."], location: MESH_EXTERNAL, resolution: DNS, ports: [{name: tls, number: 5432, protocol: TLS}]}
`

func objectsIn(t *testing.T, manifests ...string) []*unstructured.Unstructured {
	t.Helper()
	file := filepath.Join(t.TempDir(), "objects.yaml")
	if err := os.WriteFile(file, []byte(strings.Join(manifests, "\n---\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return readObjects(t, file)
}

// connect says which listener and which clusters serve a TCP connection of a workload, and which inspectors wait for its first bytes.
func (s *sidecar) connect(address string, port int) string {
	var chain *listenerv3.FilterChain
	result := s.Run(simulation.Call{
		Address: address, Port: port, Protocol: simulation.TCP, CallMode: simulation.CallModeOutbound,
		CustomListenerValidations: []simulation.CustomFilterChainValidation{func(f *listenerv3.FilterChain) error { chain = f; return nil }},
	})
	if result.Error != nil {
		return result.Error.Error()
	}
	clusters := result.ClusterMatched
	if clusters == "" {
		weights := map[string]uint32{}
		for _, c := range xdstest.ExtractTCPProxy(s.mesh.t, chain).GetWeightedClusters().GetClusters() {
			weights[c.Name] = c.Weight
		}
		var names []string
		for _, name := range slices.Sorted(maps.Keys(weights)) {
			names = append(names, fmt.Sprintf("%s at %d", name, weights[name]))
		}
		clusters = strings.Join(names, ", ")
	}
	return result.ListenerMatched + s.inspectors(result.ListenerMatched) + " -> " + clusters
}

func (s *sidecar) inspectors(listener string) string {
	var names string
	for _, l := range s.Listeners {
		for _, f := range l.ListenerFilters {
			if name := strings.TrimPrefix(f.Name, "envoy.filters.listener."); l.Name == listener && strings.HasSuffix(name, "_inspector") {
				names += ", " + name
			}
		}
	}
	return names
}
