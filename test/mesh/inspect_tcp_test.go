package mesh

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"istio.io/istio/pilot/test/xdstest"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// tcp looks at the sidecars of all namespaces that a TCP route is exported to, and at one that it is not.
func (i *inspection) tcp(f *folder) {
	var labels map[string]string
	if s := f.route.Spec.WorkloadSelector; s != nil {
		labels = s.MatchLabels
		i.tcpBystander(f)
	}
	for _, name := range f.route.Spec.ExportTo {
		client := strings.NewReplacer("*", "elsewhere", ".", f.route.Metadata.Namespace).Replace(name)
		s := i.with.sidecar(client, labels)
		i.connections(f, s)
		i.upstreams(f, s)
		for _, changed := range s.differences(i.without.sidecar(client, labels)) {
			if !slices.ContainsFunc(i.ownOfTCP(f), func(own string) bool { return strings.HasSuffix(changed, own) }) {
				i.found("namespace %s has another %s", client, changed)
			}
		}
	}
	if !slices.Contains(f.route.Spec.ExportTo, "*") {
		for _, name := range i.with.sidecar("elsewhere", nil).differences(i.without.sidecar("elsewhere", nil)) {
			i.found("a namespace that the route is not exported to has another %s", name)
		}
	}
}

// connections to an alias go to the destinations by weight, to their subsets, and no inspector waits for their first bytes.
func (i *inspection) connections(f *folder, s *sidecar) {
	var targets []string
	for _, d := range f.route.Spec.Destinations {
		switch weight := value(d.Weight, 1); {
		case len(f.route.Spec.Destinations) == 1:
			targets = []string{f.cluster(d)}
		case weight > 0:
			targets = append(targets, fmt.Sprintf("%s at %d", f.cluster(d), weight))
		}
	}
	aliases, _ := f.route.hosts()
	for _, alias := range aliases {
		address := i.addressOf(f, alias)
		listener := fmt.Sprintf("%s_%d", address, f.route.Spec.Port)
		if got, want := s.connect(address, f.route.Spec.Port), listener+" -> "+strings.Join(sorted(targets), ", "); got != want {
			i.found("connections to %s: got %s, want %s", alias, got, want)
			continue
		}
		proxy := xdstest.ExtractTCPProxy(i.with.t, xdstest.ExtractListener(listener, s.Listeners).GetFilterChains()[0])
		if got, want := proxy.GetIdleTimeout().AsDuration(), time.Duration(f.route.Spec.Destinations[0].ConnectionPool.IdleTimeout); got != want {
			i.found("idle connections to %s are closed after %s, not after %s", alias, got, want)
		}
	}
}

// ownOfTCP are the ends of the names of what a sidecar may have more with the route: the alias that the route creates, the upstreams' private names, and a
// listener on an address to which nothing can connect.
func (i *inspection) ownOfTCP(f *folder) []string {
	var own []string
	aliases, _ := f.route.hosts()
	for _, alias := range aliases {
		own = append(own, fmt.Sprintf("listener %s_%d", i.addressOf(f, alias), f.route.Spec.Port))
	}
	for _, object := range f.generated {
		switch object.GetKind() {
		case "Service":
			own = append(own, fmt.Sprintf("|%d||%s.%s.svc.cluster.local", f.route.Spec.Port, object.GetName(), object.GetNamespace()))
		case "ServiceEntry":
			hosts, _, _ := unstructured.NestedStringSlice(object.Object, "spec", "hosts")
			addresses, _, _ := unstructured.NestedStringSlice(object.Object, "spec", "addresses")
			ports, _, _ := unstructured.NestedSlice(object.Object, "spec", "ports")
			if len(hosts) != 1 || len(addresses) != 1 || len(ports) != 1 || !strings.HasPrefix(addresses[0], "239.") ||
				!strings.HasSuffix(hosts[0], "."+f.route.Metadata.Namespace+".externalroute.internal") {
				i.found("ServiceEntry %s has hosts %v, addresses %v and ports %v", object.GetName(), hosts, addresses, ports)
				continue
			}
			own = append(own, "|"+hosts[0], fmt.Sprintf("listener %s_%v", addresses[0], ports[0].(map[string]any)["number"]))
		}
	}
	return own
}

// tcpBystander is a pod that the route's workloadSelector does not select: its connections go to the Service.
func (i *inspection) tcpBystander(f *folder) {
	s := i.with.sidecar(f.route.Metadata.Namespace, nil)
	aliases, _ := f.route.hosts()
	for _, alias := range aliases {
		address, port := i.addressOf(f, alias), f.route.Spec.Port
		want := fmt.Sprintf("%s_%d -> outbound|%d||%s.%s.svc.cluster.local", address, port, port, alias, f.route.Metadata.Namespace)
		if got := s.connect(address, port); got != want {
			i.found("a pod without the labels connects to %s: got %s, want %s", alias, got, want)
		}
	}
	for _, d := range f.route.Spec.Destinations {
		if s.clusters[f.cluster(d)] != nil {
			i.found("a pod without the labels has cluster %s", f.cluster(d))
		}
	}
}
