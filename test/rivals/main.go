// Command rivals prints random pairs of a route and another client's object, or another route, with the verdict of internal/conflict: one JSON object a
// line, for tests that hold the verdicts against what istiod makes of both. Every pair has namespaces and hosts of its own.
//
//	go run ./test/rivals -seed 1 -pairs 3 | jq .
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	istio "istio.io/api/networking/v1alpha3"
	istiotype "istio.io/api/type/v1beta1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/admission"
	"github.com/externalroute/externalroute/internal/conflict"
	"github.com/externalroute/externalroute/internal/translate"
)

// pair is one line.
type pair struct {
	Namespace string `json:"namespace"`
	Host      string `json:"host"`
	// Labels are those of the pods that the route is for, Visible the namespaces that see it.
	Labels  map[string]string `json:"labels"`
	Visible []string          `json:"visible"`
	// Existing is there in any case.
	Existing []*unstructured.Unstructured `json:"existing"`
	Ours     []*unstructured.Unstructured `json:"ours"`
	Rival    []*unstructured.Unstructured `json:"rival"`
	// Kind of the rival; Route for another route.
	Kind string `json:"kind"`
	// Tie says that both are of one second, which Istio does not order for ServiceEntries.
	Tie bool `json:"tie,omitempty"`
	// Verdict is why the two are rivals, and empty where they are not.
	Verdict string `json:"verdict"`
}

func main() {
	seed := flag.Uint64("seed", 1, "the random seed")
	pairs := flag.Int("pairs", 100, "how many")
	flag.Parse()
	judge, err := admission.New()
	if err != nil {
		fail(err)
	}
	out := json.NewEncoder(os.Stdout)
	for i := range *pairs {
		d := &dice{Rand: rand.New(rand.NewPCG(*seed, uint64(i))), number: i, judge: judge, namespace: fmt.Sprintf("home-%d", i), host: fmt.Sprintf("h%d.example.com", i)} //nolint:gosec // random by design
		if err := out.Encode(d.pair()); err != nil {
			fail(err)
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

type dice struct {
	*rand.Rand
	number          int
	judge           *admission.Admission
	namespace, host string
}

// address is one of the pair's ClusterIPs.
func (d *dice) address(n int) string {
	return fmt.Sprintf("10.%d.%d.%d", 100+d.number/250, d.number%250, n)
}

func one[T any](d *dice, of ...T) T { return of[d.IntN(len(of))] }

func (d *dice) far() string { return strings.Replace(d.namespace, "home", "far", 1) }

// born gives an object one of few ages, so that ties are common.
func (d *dice) born() metav1.Time { return metav1.Unix(1_700_000_000+int64(d.IntN(3)), 0) }

func (d *dice) pair() pair {
	service := &corev1.Service{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: d.namespace},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: d.address(1), Ports: []corev1.ServicePort{{Name: "http", Port: 80}, {Name: "tcp", Port: 5432}}},
	}
	if d.IntN(2) == 0 {
		service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{Name: "http-more", Port: 8080})
	}
	objects, route := d.route("ours", service)
	virtualService := translate.Of[*networkingv1.VirtualService](objects)[0]
	entry, rule := translate.Of[*networkingv1.ServiceEntry](objects)[0], translate.Of[*networkingv1.DestinationRule](objects)[0]
	p := pair{
		Namespace: d.namespace, Host: d.host, Existing: []*unstructured.Unstructured{manifest(service)}, Ours: manifests(objects),
		Visible: []string{d.namespace}, Kind: one(d, "VirtualService", "VirtualService", "ServiceEntry", "DestinationRule", "Route", "XBackend"),
	}
	if s := route.Spec.WorkloadSelector; s != nil {
		p.Labels = map[string]string{"app": string(s.MatchLabels["app"])}
	}
	if e := virtualService.Spec.ExportTo; len(e) > 1 || e[0] == "*" {
		p.Visible = append(p.Visible, d.far())
	}
	switch p.Kind {
	case "VirtualService":
		rival := d.virtualService(translate.PortOf(route) == 80)
		if d.IntN(2) == 0 { // most others are for another host
			rival.Namespace, rival.Spec.Hosts = d.namespace, virtualService.Spec.Hosts
			rival.Spec.ExportTo = one(d, rival.Spec.ExportTo, virtualService.Spec.ExportTo)
		}
		ours := facts(virtualService).On(uint32(translate.PortOf(route))) //nolint:gosec // 1..65535 by schema
		if _, beats := conflict.Beats(facts(rival), ours); beats {
			p.Verdict = "Istio prefers the rival"
		}
		p.Rival = []*unstructured.Unstructured{manifest(rival)}
	case "ServiceEntry":
		rival := d.serviceEntry()
		p.Verdict = conflict.ServiceEntryFacts(rival).Disturbs(conflict.ServiceEntryFacts(entry))
		if rival.Namespace != d.namespace || rival.Spec.Hosts[0] != entry.Spec.Hosts[0] { // the operator finds rivals by both
			p.Verdict = ""
		}
		p.Tie = rival.CreationTimestamp.Equal(&entry.CreationTimestamp)
		p.Rival = []*unstructured.Unstructured{manifest(rival)}
	case "XBackend":
		rival := d.xBackend()
		facts := xBackendFacts(rival)
		p.Verdict = facts.Disturbs(conflict.ServiceEntryFacts(entry))
		if facts.Namespace != d.namespace || facts.Hosts[0] != entry.Spec.Hosts[0] {
			p.Verdict = ""
		}
		p.Tie = facts.Created.Equal(entry.CreationTimestamp.Time)
		p.Rival = []*unstructured.Unstructured{rival}
	case "DestinationRule":
		rival := d.destinationRule(rule)
		ours := conflict.DestinationRuleFacts(rule).Beside(conflict.ServiceEntryFacts(entry))
		p.Verdict = conflict.DestinationRuleFacts(rival).Disturbs(ours)
		if rival.Namespace != d.namespace || rival.Spec.Host != rule.Spec.Host {
			p.Verdict = ""
		}
		p.Rival = []*unstructured.Unstructured{manifest(rival)}
	case "Route":
		rival, _ := d.route("theirs", service)
		p.Verdict = clash(objects, rival)
		p.Rival = manifests(rival)
	}
	return p
}

func facts(v *networkingv1.VirtualService) conflict.VirtualService {
	return conflict.VirtualServiceFacts(v, translate.DefaultClusterDomain)
}

func clash(a, b translate.Objects) string {
	claims := func(objects translate.Objects) []conflict.Claim {
		var all []conflict.Claim
		for _, item := range objects {
			all = append(all, conflict.ClaimsOf(item.Object, translate.DefaultClusterDomain)...)
		}
		return all
	}
	for _, mine := range claims(a) {
		if slices.ContainsFunc(claims(b), mine.Clashes) {
			return "both claim " + mine.Key
		}
	}
	return ""
}

// route draws routes until one is accepted, and returns its objects, all of one age.
func (d *dice) route(name string, service *corev1.Service) (translate.Objects, *v1alpha1.ExternalRoute) {
	for {
		scheme := one(d, "https", "https", "https", "http")
		destination := map[string]any{"url": scheme + "://" + d.host + one(d, "", "", ":8443", "/base")}
		spec := map[string]any{"hosts": []any{one(d, "web", "web", "shop", d.host, d.host)}, "destinations": []any{destination}}
		tcp := d.IntN(3) == 0
		if tcp {
			destination["url"] = one(d, "tcp", "tls") + "://" + d.host + ":5432"
			spec["hosts"], scheme = []any{one(d, "web", "web", "shop")}, "tcp"
		}
		if scheme == "https" && d.IntN(4) == 0 {
			destination["tls"] = map[string]any{"scope": "Host"}
		}
		if d.IntN(3) == 0 && !tcp {
			spec["port"] = int64(8080)
		}
		switch d.IntN(9) {
		case 0:
			spec["workloadSelector"] = map[string]any{"matchLabels": map[string]any{"app": one[any](d, "a", "b")}}
		case 1:
			spec["exportTo"] = []any{"*"}
		case 2:
			spec["exportTo"] = []any{".", d.far()}
		}
		route, problems := d.judge.Admit(context.Background(), &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": v1alpha1.SchemeGroupVersion.String(), "kind": "ExternalRoute",
			"metadata": map[string]any{"name": name, "namespace": d.namespace}, "spec": spec,
		}})
		if problems != nil {
			continue
		}
		mesh := translate.Mesh{ClusterDomain: translate.DefaultClusterDomain, Services: map[types.NamespacedName]translate.Service{}}
		mesh.Services[types.NamespacedName{Namespace: d.namespace, Name: "web"}] = translate.ServiceFacts(service, route)
		translation, refusal := translate.Translate(route, mesh)
		if refusal != nil {
			continue
		}
		born := d.born()
		for _, o := range translation.Objects {
			o.SetCreationTimestamp(born)
		}
		for _, generated := range translate.Of[*corev1.Service](translation.Objects) {
			generated.Spec.ClusterIP = d.address(2)
		}
		return translation.Objects, route
	}
}

// virtualService may have a Service's shorter names only beside a route on port 80: on others Istio does not look at them.
func (d *dice) virtualService(shorter bool) *networkingv1.VirtualService {
	v := &networkingv1.VirtualService{
		TypeMeta:   metav1.TypeMeta{APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "VirtualService"},
		ObjectMeta: metav1.ObjectMeta{Name: one(d, "a", "ours-not", "z"), Namespace: one(d, d.namespace, d.namespace, d.namespace, d.far()), CreationTimestamp: d.born()},
	}
	v.Spec.Hosts = []string{one(d, "web", "web", "web."+d.namespace+".svc.cluster.local", "web."+d.namespace+".svc.cluster.local", "*."+d.namespace+".svc.cluster.local", d.host, d.host, "web."+d.namespace+".svc."+translate.DefaultClusterDomain)}
	if shorter && d.IntN(5) == 0 {
		v.Spec.Hosts = []string{"web." + d.namespace + one(d, "", ".svc")}
	}
	v.Spec.ExportTo = one(d, nil, []string{"."}, []string{"."}, []string{"*"}, []string{d.namespace}, []string{d.far()}, []string{"~"}, []string{d.namespace, d.far()})
	v.Spec.Gateways = one(d, nil, nil, nil, nil, nil, nil, []string{"front"}, []string{"front", "mesh"})
	for range 1 + d.IntN(2) {
		route := &istio.HTTPRoute{Route: []*istio.HTTPRouteDestination{{Destination: &istio.Destination{Host: "elsewhere.example.com", Port: &istio.PortSelector{Number: 80}}}}}
		for range d.IntN(3) {
			route.Match = append(route.Match, &istio.HTTPMatchRequest{
				Uri:          &istio.StringMatch{MatchType: &istio.StringMatch_Prefix{Prefix: "/" + one(d, "x", "y")}},
				Port:         one[uint32](d, 0, 0, 80, 8080),
				SourceLabels: one(d, nil, nil, map[string]string{"app": "a"}, map[string]string{"app": "b"}), SourceNamespace: one(d, "", "", d.namespace, d.far()),
				Gateways: one(d, nil, nil, nil, []string{"mesh"}, []string{"front"}),
			})
		}
		v.Spec.Http = append(v.Spec.Http, route)
	}
	if d.IntN(3) == 0 {
		v.Spec.Tcp = d.tcpRoutes()
	}
	if len(v.Spec.Tcp) > 0 && d.IntN(2) == 0 {
		v.Spec.Http = nil
	}
	return v
}

func (d *dice) tcpRoutes() []*istio.TCPRoute {
	var routes []*istio.TCPRoute
	for range 1 + d.IntN(2) {
		route := &istio.TCPRoute{Route: []*istio.RouteDestination{{Destination: &istio.Destination{Host: "elsewhere.example.com", Port: &istio.PortSelector{Number: 5432}}}}}
		for range d.IntN(3) {
			route.Match = append(route.Match, &istio.L4MatchAttributes{
				Port:         one[uint32](d, 0, 0, 5432, 80),
				SourceLabels: one(d, nil, nil, map[string]string{"app": "a"}, map[string]string{"app": "b"}), SourceNamespace: one(d, "", "", d.namespace, d.far()),
				Gateways: one(d, nil, nil, nil, []string{"mesh"}, []string{"front"}),
			})
		}
		routes = append(routes, route)
	}
	return routes
}

func (d *dice) serviceEntry() *networkingv1.ServiceEntry {
	e := &networkingv1.ServiceEntry{
		TypeMeta:   metav1.TypeMeta{APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "ServiceEntry"},
		ObjectMeta: metav1.ObjectMeta{Name: one(d, "a", "z"), Namespace: one(d, d.namespace, d.namespace, d.namespace, d.far()), CreationTimestamp: d.born()},
	}
	if d.IntN(3) == 0 {
		e.Labels = map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}
	}
	e.Spec.Hosts = []string{one(d, d.host, d.host, d.host, "*.example.com")}
	e.Spec.Location = one(d, istio.ServiceEntry_MESH_EXTERNAL, istio.ServiceEntry_MESH_EXTERNAL, istio.ServiceEntry_MESH_EXTERNAL, istio.ServiceEntry_MESH_EXTERNAL, istio.ServiceEntry_MESH_INTERNAL)
	e.Spec.Resolution = one(d, istio.ServiceEntry_DNS, istio.ServiceEntry_DNS, istio.ServiceEntry_DNS, istio.ServiceEntry_DNS, istio.ServiceEntry_DNS,
		istio.ServiceEntry_DNS, istio.ServiceEntry_DNS, istio.ServiceEntry_DNS_ROUND_ROBIN, istio.ServiceEntry_STATIC, istio.ServiceEntry_NONE)
	e.Spec.ExportTo = one(d, nil, []string{"."}, []string{"."}, []string{"*"}, []string{d.namespace}, []string{d.far()})
	for _, p := range []*istio.ServicePort{
		{Number: 443, Name: one(d, "https", "https", "tls"), Protocol: one(d, "TLS", "HTTPS", "HTTPS", "HTTP", "TCP")},
		{Number: 8443, Name: one(d, "https-8443", "https-8443", "https-other"), Protocol: "TLS"},
		{Number: 80, Name: "http", Protocol: one(d, "HTTP", "TCP")},
		{Number: 8080, Name: "http-8080", Protocol: "HTTP"},
	} {
		if p.TargetPort = one[uint32](d, 0, 0, 0, 9443); d.IntN(2) == 0 || len(e.Spec.Ports) == 0 {
			e.Spec.Ports = append(e.Spec.Ports, p)
		}
	}
	if e.Spec.Resolution == istio.ServiceEntry_STATIC || e.Spec.Resolution == istio.ServiceEntry_DNS && d.IntN(4) == 0 {
		e.Spec.Endpoints = []*istio.WorkloadEntry{{Address: "192.0.2.7"}}
	}
	if strings.HasPrefix(e.Spec.Hosts[0], "*") {
		e.Spec.Resolution, e.Spec.Endpoints = istio.ServiceEntry_NONE, nil
	}
	return e
}

func (d *dice) xBackend() *unstructured.Unstructured {
	spec := map[string]any{
		"type": "ExternalHostname", "externalHostname": map[string]any{"hostname": one(d, d.host, d.host, d.host, "other."+d.host)},
		"port": map[string]any{"port": one[int64](d, 80, 443, 8080, 8443)},
	}
	if protocol := one(d, "", "HTTP", "HTTP2", "TCP"); protocol != "" {
		spec["protocol"] = protocol
	}
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "gateway.networking.x-k8s.io/v1alpha1", "kind": conflict.XBackendKind, "metadata": map[string]any{}, "spec": spec,
	}}
	o.SetName(one(d, "a", "z"))
	o.SetNamespace(one(d, d.namespace, d.namespace, d.namespace, d.far()))
	o.SetCreationTimestamp(d.born())
	return o
}

func xBackendFacts(o *unstructured.Unstructured) conflict.ServiceEntry {
	spec, err := json.Marshal(o.Object["spec"])
	if err != nil {
		fail(err)
	}
	meta := &metav1.ObjectMeta{Name: o.GetName(), Namespace: o.GetNamespace(), CreationTimestamp: o.GetCreationTimestamp()}
	return conflict.XBackendFacts(meta, spec, translate.DefaultClusterDomain)
}

func (d *dice) destinationRule(ours *networkingv1.DestinationRule) *networkingv1.DestinationRule {
	r := &networkingv1.DestinationRule{
		TypeMeta:   metav1.TypeMeta{APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "DestinationRule"},
		ObjectMeta: metav1.ObjectMeta{Name: one(d, "a", "z"), Namespace: one(d, d.namespace, d.namespace, d.namespace, d.far()), CreationTimestamp: d.born()},
	}
	r.Spec.Host = d.host
	r.Spec.ExportTo = one(d, nil, []string{"."}, []string{"."}, []string{"."}, []string{"*"}, []string{d.namespace}, []string{d.far()}, []string{".", d.far()})
	if d.IntN(2) == 0 {
		r.Spec.Subsets = []*istio.Subset{{Name: one(d, "theirs", "theirs", "theirs", ours.Spec.Subsets[0].Name)}}
	}
	if len(r.Spec.Subsets) == 0 || d.IntN(3) == 0 {
		r.Spec.TrafficPolicy = d.policy()
	}
	if d.IntN(5) == 0 {
		r.Spec.ExportTo, r.Spec.WorkloadSelector = nil, &istiotype.WorkloadSelector{MatchLabels: map[string]string{"app": one(d, "a", "b")}}
	}
	return r
}

// policy has one setting or several, for the whole host or for one of its ports.
func (d *dice) policy() *istio.TrafficPolicy {
	policy := &istio.TrafficPolicy{}
	for policy.ConnectionPool == nil && policy.OutlierDetection == nil && policy.LoadBalancer == nil && policy.Tls == nil {
		policy.ConnectionPool = one(d, nil, &istio.ConnectionPoolSettings{Tcp: &istio.ConnectionPoolSettings_TCPSettings{MaxConnections: 7}})
		policy.OutlierDetection = one(d, nil, nil, &istio.OutlierDetection{BaseEjectionTime: durationpb.New(time.Minute)})
		policy.LoadBalancer = one(d, nil, nil, &istio.LoadBalancerSettings{LbPolicy: &istio.LoadBalancerSettings_Simple{Simple: istio.LoadBalancerSettings_RANDOM}})
		policy.Tls = one(d, nil, nil, &istio.ClientTLSSettings{Mode: istio.ClientTLSSettings_SIMPLE, Sni: "theirs.example.com"})
	}
	if d.IntN(3) == 0 {
		policy = &istio.TrafficPolicy{PortLevelSettings: []*istio.TrafficPolicy_PortTrafficPolicy{{
			Port: &istio.PortSelector{Number: one[uint32](d, 80, 443, 8443)}, ConnectionPool: policy.ConnectionPool,
			OutlierDetection: policy.OutlierDetection, LoadBalancer: policy.LoadBalancer, Tls: policy.Tls,
		}}}
		policy.ConnectionPool = one(d, nil, &istio.ConnectionPoolSettings{Tcp: &istio.ConnectionPoolSettings_TCPSettings{MaxConnections: 8}})
	}
	return policy
}

// manifests are the objects with their ages.
func manifests(objects translate.Objects) []*unstructured.Unstructured {
	var all []*unstructured.Unstructured
	for _, o := range objects {
		all = append(all, manifest(o.Object))
	}
	return all
}

func manifest(object translate.Object) *unstructured.Unstructured {
	raw, err := json.Marshal(object)
	if err != nil {
		fail(err)
	}
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(raw, &u.Object); err != nil {
		fail(err)
	}
	delete(u.Object, "status")
	u.SetCreationTimestamp(metav1.Time{Time: object.GetCreationTimestamp().UTC().Truncate(time.Second)})
	return u
}
