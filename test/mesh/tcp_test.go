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
	"sigs.k8s.io/yaml"
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

// What a TCP route generates changes nothing but what is its own: whatever else the namespace has on its port, whatever the mesh lets out, and whatever the
// pods' IP families are. That holds for two routes that happen to share an address too.
func TestTCPRouteLeavesOthersAlone(t *testing.T) {
	first := readGenerated(t, "tcp")
	second := first.renamed("reports", "a1b2c3d4e5")
	if first.address != second.address || first.host == second.host {
		t.Fatalf("two routes with one address: %+v %+v", first, second)
	}
	aliases := first.alias + "\n---\n" + strings.Replace(second.alias, aliasAddress, "10.96.0.8", 1)
	own := []string{
		"cluster " + first.cluster, "cluster outbound|5432||" + first.host, "cluster " + second.cluster, "cluster outbound|5432||" + second.host,
		"listener 10.96.0.7_5432", "listener 10.96.0.8_5432", "listener " + first.address + "_5432",
	}
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
			after := newMesh(t, objectsIn(t, on(aliases), on(tcpNeighbours), policy, on(first.others), on(second.others)))
			for which, change := range pods {
				t.Run(fmt.Sprintf("port %d, %s, pods with %s", port, mode, which), func(t *testing.T) {
					s := after.sidecarOf(namespace, nil, change)
					got, want := s.differences(before.sidecarOf(namespace, nil, change)), sorted(strings.Split(on(strings.Join(own, "; ")), "; "))
					if !slices.Equal(got, want) {
						t.Errorf("changed: got %q, want %q", got, want)
					}
					for address, want := range map[string]string{
						aliasAddress: "10.96.0.7_5432 -> " + first.cluster, "10.96.0.8": "10.96.0.8_5432 -> " + second.cluster,
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

// An alias serves a TCP route, and waits for nobody to speak first, only if Istio takes its port for TCP. The operator refuses the others (golden folder
// refused-tcp-service-port).
func TestTCPAliasNeedsATCPPort(t *testing.T) {
	route := readGenerated(t, "tcp")
	routed := "10.96.0.7_5432 -> " + route.cluster
	own := "10.96.0.7_5432 -> outbound|5432||orders.demo.svc.cluster.local"
	for port, want := range map[string]string{
		"name: tcp-db":                  routed,
		"appProtocol: tcp":              routed,
		"name: http, appProtocol: tcp":  routed,
		"name: mysql":                   routed,
		"name: redis":                   routed,
		"name: mongo":                   routed,
		"name: db":                      "10.96.0.7_5432, http_inspector -> " + route.cluster,
		"name: tls":                     own,
		"name: https":                   own,
		"name: tcp, appProtocol: https": own,
		"name: tcp, appProtocol: http":  "0.0.0.0_5432, http_inspector -> PassthroughCluster",
		"name: http":                    "0.0.0.0_5432, http_inspector -> PassthroughCluster",
	} {
		t.Run(port, func(t *testing.T) {
			alias := fmt.Sprintf(`{apiVersion: v1, kind: Service, metadata: {name: orders}, spec: {clusterIP: 10.96.0.7, ports: [{port: 5432, %s}]}}`, port)
			if got := newMesh(t, objectsIn(t, alias, route.others)).sidecar(namespace, nil).connect(aliasAddress, 5432); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// Other ports of the alias keep what they had, routes for HTTP included.
func TestTCPRouteLeavesOtherPortsOfItsAliasAlone(t *testing.T) {
	alias := `{apiVersion: v1, kind: Service, metadata: {name: orders}, spec: {clusterIP: 10.96.0.7, ports: [{name: http, port: 80}, {name: tcp-admin, port: 9000}, {name: tcp, port: 5432}]}}`
	web := `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec: {hosts: [orders], exportTo: ["."], http: [{directResponse: {status: 418}}]}
`
	route := readGenerated(t, "tcp")
	for with, others := range map[string]string{"alone": "", "with a route for HTTP": web} {
		t.Run(with, func(t *testing.T) {
			before := newMesh(t, objectsIn(t, alias, others)).sidecar(namespace, nil)
			after := newMesh(t, objectsIn(t, alias, others, route.others)).sidecar(namespace, nil)
			want := sorted([]string{"cluster " + route.cluster, "cluster outbound|5432||" + route.host, "listener 10.96.0.7_5432", "listener " + route.address + "_5432"})
			if got := after.differences(before); !slices.Equal(got, want) {
				t.Errorf("changed: got %q, want %q", got, want)
			}
			if got, want := after.connect(aliasAddress, 5432), "10.96.0.7_5432 -> "+route.cluster; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// Whichever object of a TCP route is missing, no connection reaches the host without TLS.
func TestTCPRouteWithoutAnObjectIsClosed(t *testing.T) {
	route := readGenerated(t, "tcp")
	for kind, want := range map[string]string{
		"VirtualService":  "10.96.0.7_5432 -> outbound|5432||orders.demo.svc.cluster.local",
		"DestinationRule": "10.96.0.7_5432 -> " + route.cluster + " (missing)",
		"ServiceEntry":    "10.96.0.7_5432 -> " + route.cluster + " (missing)",
		"Service":         "virtualOutbound -> PassthroughCluster", // to an address that Kubernetes has withdrawn
	} {
		t.Run(kind, func(t *testing.T) {
			objects := slices.DeleteFunc(objectsIn(t, route.alias, route.others), func(o *unstructured.Unstructured) bool { return o.GetKind() == kind })
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

// generatedTCP is what a golden folder's route with one TCP destination generates, as YAML.
type generatedTCP struct {
	// alias is the Service, with an address, and others are the other objects.
	alias, others string
	// host and address are those of the ServiceEntry, and cluster is that of the subset.
	host, address, cluster string
}

func readGenerated(t *testing.T, name string) generatedTCP {
	t.Helper()
	f := find(t, name)
	route := generatedTCP{cluster: f.cluster(f.route.Spec.Destinations[0])}
	for _, object := range f.generated {
		if object.GetKind() == "Service" {
			if err := unstructured.SetNestedField(object.Object, aliasAddress, "spec", "clusterIP"); err != nil {
				t.Fatal(err)
			}
		}
		if object.GetKind() == "ServiceEntry" {
			hosts, _, _ := unstructured.NestedStringSlice(object.Object, "spec", "hosts")
			addresses, _, _ := unstructured.NestedStringSlice(object.Object, "spec", "addresses")
			route.host, route.address = hosts[0], addresses[0]
		}
		text, err := yaml.Marshal(object.Object)
		if err != nil {
			t.Fatal(err)
		}
		if object.GetKind() == "Service" {
			route.alias = string(text)
			continue
		}
		route.others += "---\n" + string(text)
	}
	return route
}

// renamed is the same for another alias and another private name.
func (g generatedTCP) renamed(alias, hash string) generatedTCP {
	private, _, _ := strings.Cut(g.host, ".")
	replace := strings.NewReplacer(private, hash, "name: orders\n", "name: "+alias+"\n", "name: orders-0", "name: "+alias+"-0", "- orders\n", "- "+alias+"\n").Replace
	return generatedTCP{alias: replace(g.alias), others: replace(g.others), host: replace(g.host), address: g.address, cluster: replace(g.cluster)}
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
{apiVersion: v1, kind: Service, metadata: {name: stock}, spec: {clusterIP: 10.96.0.20, ports: [{name: tcp, port: 5432}]}}
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
spec: {hosts: [orders.db.example.com], exportTo: ["."], location: MESH_EXTERNAL, resolution: DNS, ports: [{name: tls, number: 5432, protocol: TLS}]}
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
