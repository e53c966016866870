package mesh

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"istio.io/istio/pilot/test/xdstest"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// rivalPairs is how many random pairs are judged, unless RIVAL_PAIRS says otherwise; RIVAL_SEED is the seed.
const rivalPairs = 100

// stricter are the verdicts that need not show in these calls: a protocol decides about calls that are not the route's, the younger of two subsets of one
// name is lost, and endpoints are put together or not by the names of their ports too.
var stricter = regexp.MustCompile("protocol|subset of the same name|endpoints")

// rivals is a line of test/rivals: a route's objects, another client's, and whether the operator calls them rivals.
type rivals struct {
	Namespace string                       `json:"namespace"`
	Host      string                       `json:"host"`
	Labels    map[string]string            `json:"labels"`
	Visible   []string                     `json:"visible"`
	Existing  []*unstructured.Unstructured `json:"existing"`
	Ours      []*unstructured.Unstructured `json:"ours"`
	Rival     []*unstructured.Unstructured `json:"rival"`
	Kind      string                       `json:"kind"`
	Tie       bool                         `json:"tie"`
	Verdict   string                       `json:"verdict"`
}

// The operator's verdict about rivals is what istiod makes of both sets of objects. A rival is whatever changes what ours become for a sidecar, and a
// DestinationRule that would be changed by ours; of two routes that get along, neither may change for the other.
func TestRivals(t *testing.T) {
	pairs := readRivals(t, number(t, "RIVAL_PAIRS", rivalPairs), number(t, "RIVAL_SEED", 1))
	told := map[string]int{}
	for some := range slices.Chunk(pairs, 25) { // an istiod for many pairs is slow
		judgeRivals(t, some, told)
	}
	t.Log(told)
	for _, kind := range []string{"VirtualService", "ServiceEntry", "DestinationRule", "Route", "XBackend"} {
		for _, verdict := range []string{"true", "false"} {
			if len(pairs) >= rivalPairs && told[kind+", rivals: "+verdict] == 0 {
				t.Errorf("no %s is judged %s", kind, verdict)
			}
		}
	}
}

func judgeRivals(t *testing.T, pairs []*rivals, told map[string]int) {
	t.Helper()
	var alone, both, theirs []*unstructured.Unstructured
	for _, p := range pairs {
		alone = slices.Concat(alone, p.Existing, p.Ours)
		both = slices.Concat(both, p.Existing, p.Ours, p.Rival)
		theirs = slices.Concat(theirs, p.Existing, p.rivalsGround(), p.Rival)
	}
	meshes := map[string]*mesh{"ours": newMesh(t, alone), "both": newMesh(t, distinct(both)), "theirs": newMesh(t, theirs)}
	for _, p := range pairs {
		var changes []string
		for _, namespace := range p.Visible {
			for _, labels := range p.pods() {
				ours, both, theirs := meshes["ours"].sidecar(namespace, labels), meshes["both"].sidecar(namespace, labels), meshes["theirs"].sidecar(namespace, labels)
				changes = append(changes, p.changes(t, p.Ours, ours, both, labels)...)
				if p.Kind == "Route" {
					changes = append(changes, p.changes(t, p.Rival, theirs, both, labels)...)
				}
				if p.Kind == "DestinationRule" && namespace == p.Namespace && p.seenAtHome() {
					changes = append(changes, p.others(t, theirs, both)...)
				}
			}
		}
		told[fmt.Sprintf("%s, rivals: %v", p.Kind, p.Verdict != "")]++
		agrees := (len(changes) > 0) == (p.Verdict != "")
		if p.Verdict != "" && (p.Tie || p.Kind == "Route" || stricter.MatchString(p.Verdict)) {
			agrees = true // it may clash, and need not in this very case
		}
		if !agrees {
			text, _ := yaml.Marshal(map[string]any{"ours": p.Ours, "rival": p.Rival})
			t.Errorf("%s: the operator says %q, and istiod changes %q\n%s", p.Namespace, p.Verdict, changes, text)
		}
	}
}

func readRivals(t *testing.T, pairs, seed int) []*rivals {
	t.Helper()
	command := exec.Command("go", "run", "./test/rivals", "-pairs", fmt.Sprint(pairs), "-seed", fmt.Sprint(seed))
	command.Dir = "../.."
	var problems bytes.Buffer
	command.Stderr = &problems
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, problems.String())
	}
	var all []*rivals
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		p := &rivals{}
		if err := decoder.Decode(p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// pods are those that the route is for: with its selector's labels and others, or any.
func (p *rivals) pods() []map[string]string {
	if p.Labels != nil {
		return []map[string]string{p.Labels}
	}
	if p.Kind == "DestinationRule" || p.Kind == "Route" { // a selector of theirs may take pods out
		return []map[string]string{{}, {"app": "a"}, {"app": "b"}}
	}
	return []map[string]string{{}}
}

// seenAtHome says whether the route's own namespace sees the rival.
func (p *rivals) seenAtHome() bool {
	exportTo, _, _ := unstructured.NestedStringSlice(p.Rival[0].Object, "spec", "exportTo")
	home := len(exportTo) == 0 || slices.ContainsFunc(exportTo, func(n string) bool { return n == "." || n == "*" || n == p.Namespace })
	return home && p.Rival[0].GetNamespace() == p.Namespace
}

// rivalsGround is what a rival needs without the route's objects: a DestinationRule needs a ServiceEntry.
func (p *rivals) rivalsGround() []*unstructured.Unstructured {
	if p.Kind != "DestinationRule" {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(p.Ours), func(o *unstructured.Unstructured) bool { return o.GetKind() != "ServiceEntry" })
}

// changes name what of a route's objects is not the same for two sidecars: the virtual hosts of its hosts, the clusters that they lead to, and the
// endpoints of a host in place without its VirtualService.
func (p *rivals) changes(t *testing.T, objects []*unstructured.Unstructured, before, after *sidecar, labels map[string]string) []string {
	t.Helper()
	var changed []string
	for _, o := range objects {
		if o.GetKind() == "ServiceEntry" {
			for _, name := range inPlaceClusters(o) {
				if was, is := before.addresses(name), after.addresses(name); !slices.Equal(was, is) {
					changed = append(changed, fmt.Sprintf("endpoints of %s from %v to %v", name, was, is))
				}
			}
		}
		if o.GetKind() != "VirtualService" {
			continue
		}
		if !serves(o, labels) {
			return nil
		}
		hosts, _, _ := unstructured.NestedStringSlice(o.Object, "spec", "hosts")
		for _, host := range hosts {
			if was, is := before.connects(o, host), after.connects(o, host); was != is {
				changed = append(changed, fmt.Sprintf("connections to %s from %q to %q", host, was, is))
			}
			if !strings.Contains(host, ".") {
				host += "." + o.GetNamespace() + ".svc.cluster.local"
			}
			for _, name := range before.virtualHosts(host, o.GetName()) {
				if !proto.Equal(before.virtualHost(name), after.virtualHost(name)) {
					changed = append(changed, "virtual host "+name)
				}
			}
		}
		for name := range clustersOf(o) {
			if was, is := plain(t, before.clusters[name]), plain(t, after.clusters[name]); was != is {
				changed = append(changed, "cluster "+name)
			}
			if was, is := unique(before.endpoints[name]), unique(after.endpoints[name]); !slices.Equal(was, is) {
				changed = append(changed, "endpoints "+name)
			}
		}
	}
	return changed
}

// inPlaceClusters are the clusters of the plain ports on which a generated ServiceEntry upgrades its host in place: those that lead elsewhere.
func inPlaceClusters(entry *unstructured.Unstructured) []string {
	hosts, _, _ := unstructured.NestedStringSlice(entry.Object, "spec", "hosts")
	ports, _, _ := unstructured.NestedSlice(entry.Object, "spec", "ports")
	var names []string
	for _, p := range ports {
		if port := p.(map[string]any); port["targetPort"] != nil {
			names = append(names, fmt.Sprintf("outbound|%v||%s", port["number"], hosts[0]))
		}
	}
	return names
}

// addresses are those that Envoy resolves for a cluster, each once.
func (s *sidecar) addresses(cluster string) []string {
	return unique(xdstest.ExtractEndpoints(s.clusters[cluster].GetLoadAssignment()))
}

// others name the clusters of the host, ours aside, that are not the same for two sidecars.
func (p *rivals) others(t *testing.T, before, after *sidecar) []string {
	t.Helper()
	ours := map[string]bool{}
	for _, o := range p.Ours {
		if o.GetKind() == "VirtualService" {
			ours = clustersOf(o)
		}
	}
	var changed []string
	for name, cluster := range before.clusters {
		if strings.HasSuffix(name, "|"+p.Host) && !ours[name] && plain(t, cluster) != plain(t, after.clusters[name]) {
			changed = append(changed, "their cluster "+name)
		}
	}
	return changed
}

// serves says whether a generated VirtualService has routes for a pod: those of a route with a selector name its labels.
func serves(o *unstructured.Unstructured, labels map[string]string) bool {
	matches, _, _ := unstructured.NestedSlice(routesOf(o)[0].(map[string]any), "match")
	if len(matches) == 0 {
		return true
	}
	wanted, _, _ := unstructured.NestedStringMap(matches[0].(map[string]any), "sourceLabels")
	for key, value := range wanted {
		if labels[key] != value {
			return false
		}
	}
	return true
}

// routesOf are a generated VirtualService's routes, which are all for HTTP, or all for TCP.
func routesOf(o *unstructured.Unstructured) []any {
	http, _, _ := unstructured.NestedSlice(o.Object, "spec", "http")
	tcp, _, _ := unstructured.NestedSlice(o.Object, "spec", "tcp")
	return slices.Concat(http, tcp)
}

// connects says what serves the connections to an alias of a generated VirtualService, or nothing if that is for HTTP.
func (s *sidecar) connects(o *unstructured.Unstructured, host string) string {
	tcp, _, _ := unstructured.NestedSlice(o.Object, "spec", "tcp")
	if len(tcp) == 0 {
		return ""
	}
	matches, _, _ := unstructured.NestedSlice(tcp[0].(map[string]any), "match")
	port, _ := matches[0].(map[string]any)["port"].(int64)
	service, _, _ := strings.Cut(host, ".")
	return s.connect(s.mesh.addresses[service+"."+o.GetNamespace()], int(port))
}

func clustersOf(o *unstructured.Unstructured) map[string]bool {
	names := map[string]bool{}
	for _, route := range routesOf(o) {
		destinations, _, _ := unstructured.NestedSlice(route.(map[string]any), "route")
		for _, d := range destinations {
			host, _, _ := unstructured.NestedString(d.(map[string]any), "destination", "host")
			subset, _, _ := unstructured.NestedString(d.(map[string]any), "destination", "subset")
			port, _, _ := unstructured.NestedFieldNoCopy(d.(map[string]any), "destination", "port", "number")
			names[fmt.Sprintf("outbound|%v|%s|%s", port, subset, host)] = true
		}
	}
	return names
}

// virtualHosts are the names of a host's virtual hosts whose routes are a VirtualService's.
func (s *sidecar) virtualHosts(host, virtualService string) []string {
	var names []string
	for _, table := range s.routes {
		for _, v := range table.VirtualHosts {
			if strings.HasPrefix(v.Name, host+":") && strings.Contains(v.Routes[0].GetMetadata().String(), "/virtual-service/"+virtualService+`"`) {
				names = append(names, table.Name+" "+v.Name)
			}
		}
	}
	return sorted(names)
}

func (s *sidecar) virtualHost(name string) *routev3.VirtualHost {
	table, host, _ := strings.Cut(name, " ")
	for _, v := range s.routes[table].GetVirtualHosts() {
		if v.Name == host {
			return v
		}
	}
	return nil
}

// plain is a cluster without what says where it comes from, and with each of its addresses once.
func plain(t *testing.T, c *clusterv3.Cluster) string {
	t.Helper()
	if c == nil {
		return ""
	}
	copied := proto.CloneOf(c)
	copied.Metadata = nil
	var addresses []string
	for _, locality := range copied.GetLoadAssignment().GetEndpoints() {
		for _, e := range locality.LbEndpoints {
			addresses = append(addresses, e.GetEndpoint().GetAddress().String())
		}
	}
	copied.LoadAssignment = nil
	raw, err := protojson.Marshal(copied)
	if err != nil {
		t.Fatal(err)
	}
	var value any // protojson's spaces are random by design
	readYAML(t, raw, &value)
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + strings.Join(unique(addresses), " ")
}

// distinct keeps the first of objects of one name: two routes may want the same Service.
func distinct(objects []*unstructured.Unstructured) []*unstructured.Unstructured {
	seen := map[string]bool{}
	return slices.DeleteFunc(objects, func(o *unstructured.Unstructured) bool {
		key := o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
		twice := seen[key]
		seen[key] = true
		return twice
	})
}

func unique(list []string) []string {
	return slices.Compact(sorted(slices.Clone(list)))
}
