package translate_test

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/admission"
	"github.com/externalroute/externalroute/internal/translate"
)

// change changes an object of one kind.
type change struct {
	kind  translate.Kind
	apply func(o translate.Object)
}

func service(f func(*corev1.Service)) change {
	return change{translate.ServiceKind, func(o translate.Object) { f(o.(*corev1.Service)) }}
}

func serviceEntry(f func(*networkingv1.ServiceEntry)) change {
	return change{translate.ServiceEntryKind, func(o translate.Object) { f(o.(*networkingv1.ServiceEntry)) }}
}

func destinationRule(f func(*networkingv1.DestinationRule)) change {
	return change{translate.DestinationRuleKind, func(o translate.Object) { f(o.(*networkingv1.DestinationRule)) }}
}

func gateway(f func(*networkingv1.Gateway)) change {
	return change{translate.GatewayKind, func(o translate.Object) { f(o.(*networkingv1.Gateway)) }}
}

func virtualService(f func(*networkingv1.VirtualService)) change {
	return change{translate.VirtualServiceKind, func(o translate.Object) { f(o.(*networkingv1.VirtualService)) }}
}

// specChanges are changes of a field that the route decides about.
var specChanges = map[string]change{
	"the type of a Service":                                 service(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }),
	"the number of a Service's port":                        service(func(s *corev1.Service) { s.Spec.Ports[0].Port = 81 }),
	"the name of a Service's port":                          service(func(s *corev1.Service) { s.Spec.Ports[0].Name = "tcp" }),
	"the application protocol of a Service's port":          service(func(s *corev1.Service) { s.Spec.Ports[0].AppProtocol = new("tcp") }),
	"the application protocol of a Service's port, removed": service(func(s *corev1.Service) { s.Spec.Ports[0].AppProtocol = nil }),
	"the target port of a Service":                          service(func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromInt32(8080) }),
	"the ports of a Service, removed":                       service(func(s *corev1.Service) { s.Spec.Ports = nil }),
	"a host of a ServiceEntry":                              serviceEntry(func(e *networkingv1.ServiceEntry) { e.Spec.Hosts[0] = "abi.example.com" }),
	"the location of a ServiceEntry":                        serviceEntry(func(e *networkingv1.ServiceEntry) { e.Spec.Location = istio.ServiceEntry_MESH_INTERNAL }),
	"the resolution of a ServiceEntry":                      serviceEntry(func(e *networkingv1.ServiceEntry) { e.Spec.Resolution = istio.ServiceEntry_NONE }),
	"a port of a ServiceEntry":                              serviceEntry(func(e *networkingv1.ServiceEntry) { e.Spec.Ports[0].TargetPort = 8443 }),
	"addresses of a ServiceEntry, added":                    serviceEntry(func(e *networkingv1.ServiceEntry) { e.Spec.Addresses = []string{"192.0.2.1"} }),
	"the export of a ServiceEntry":                          serviceEntry(func(e *networkingv1.ServiceEntry) { e.Spec.ExportTo = nil }),
	"the host of a DestinationRule":                         destinationRule(func(d *networkingv1.DestinationRule) { d.Spec.Host = "abi.example.com" }),
	"a traffic policy of a DestinationRule, added":          destinationRule(func(d *networkingv1.DestinationRule) { d.Spec.TrafficPolicy = &istio.TrafficPolicy{} }),
	"a subset of a DestinationRule, added": destinationRule(func(d *networkingv1.DestinationRule) {
		d.Spec.Subsets = append(d.Spec.Subsets, &istio.Subset{Name: "more"})
	}),
	"the TLS mode of a DestinationRule": destinationRule(func(d *networkingv1.DestinationRule) {
		d.Spec.Subsets[0].TrafficPolicy.Tls.Mode = istio.ClientTLSSettings_DISABLE
	}),
	"the selector of a Gateway":               gateway(func(g *networkingv1.Gateway) { g.Spec.Selector["istio"] = "ingress" }),
	"a host of a Gateway, added":              gateway(func(g *networkingv1.Gateway) { g.Spec.Servers[0].Hosts = append(g.Spec.Servers[0].Hosts, "*") }),
	"the TLS mode of a Gateway":               gateway(func(g *networkingv1.Gateway) { g.Spec.Servers[0].Tls.Mode = istio.ServerTLSSettings_PASSTHROUGH }),
	"a host of a VirtualService, added":       virtualService(func(v *networkingv1.VirtualService) { v.Spec.Hosts = append(v.Spec.Hosts, "shop") }),
	"gateways of a VirtualService":            virtualService(func(v *networkingv1.VirtualService) { v.Spec.Gateways = []string{"front"} }),
	"a host of a VirtualService":              virtualService(func(v *networkingv1.VirtualService) { v.Spec.Hosts[0] = "wed" }),
	"the target of a VirtualService":          virtualService(func(v *networkingv1.VirtualService) { v.Spec.Http[0].Route[0].Destination.Subset = "" }),
	"the routes of a VirtualService, removed": virtualService(func(v *networkingv1.VirtualService) { v.Spec.Http = nil }),
}

func TestInSyncSeesEveryChangeOfTheSpec(t *testing.T) {
	for name, c := range specChanges {
		t.Run(name, func(t *testing.T) {
			want := objectOf(t, c.kind)
			live := stored(want)
			c.apply(live)
			if translate.InSync(want, live) {
				t.Error("in sync")
			}
		})
	}
}

func TestInSyncLeavesOtherUsersTheirFields(t *testing.T) {
	for name, test := range map[string]struct {
		change change
		inSync bool
	}{
		"a port that another user added to a Service does not matter": {service(func(s *corev1.Service) {
			s.Spec.Ports = append([]corev1.ServicePort{{Name: "metrics", Port: 9090, Protocol: corev1.ProtocolTCP}}, s.Spec.Ports...)
		}), true},
		"what the API server fills in a Service does not matter": {service(func(s *corev1.Service) {
			s.Spec.ClusterIP, s.Spec.ClusterIPs = "10.0.0.1", []string{"10.0.0.1"}
			s.Spec.SessionAffinity, s.Spec.InternalTrafficPolicy = corev1.ServiceAffinityNone, new(corev1.ServiceInternalTrafficPolicyCluster)
		}), true},
		"an annotation that another user removed from a Service": {service(func(s *corev1.Service) { s.Annotations = nil }), false},
		"an annotation that another user changed on a Service": {service(func(s *corev1.Service) {
			s.Annotations[translate.ExportToAnnotation] = "*"
		}), false},
		"the status of a VirtualService does not matter": {virtualService(func(v *networkingv1.VirtualService) { v.Status.ObservedGeneration = 7 }), true},
	} {
		t.Run(name, func(t *testing.T) { checkInSync(t, test.change, test.inSync) })
	}
	for name, test := range map[string]struct {
		change func(o translate.Object)
		inSync bool
	}{
		"an object as it was sent": {func(translate.Object) {}, true},
		"a label that another user added does not matter": {func(o translate.Object) {
			o.SetLabels(map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue, "team": "shop"})
		}, true},
		"a label that another user removed": {func(o translate.Object) { o.SetLabels(nil) }, false},
		"a label that another user changed": {func(o translate.Object) { o.SetLabels(map[string]string{v1alpha1.ManagedByLabel: "helm"}) }, false},
		"an annotation that another user added does not matter": {func(o translate.Object) {
			annotations := map[string]string{"team": "shop"}
			maps.Copy(annotations, o.GetAnnotations())
			o.SetAnnotations(annotations)
		}, true},
		"owner references are the caller's to compare": {func(o translate.Object) {
			o.SetOwnerReferences([]metav1.OwnerReference{{Kind: "Deployment", Name: "shop"}})
		}, true},
	} {
		for _, kind := range translate.Kinds {
			t.Run(name+", "+kind.GVK.Kind, func(t *testing.T) { checkInSync(t, change{kind, test.change}, test.inSync) })
		}
	}
}

func TestObjectsOfTwoKindsAreNotInSync(t *testing.T) {
	for _, a := range translate.Kinds {
		for _, b := range translate.Kinds {
			if same := a.GVK == b.GVK; translate.InSync(a.New(), b.New()) != same {
				t.Errorf("an empty %s and an empty %s: in sync is %t", a.GVK.Kind, b.GVK.Kind, !same)
			}
		}
	}
}

func checkInSync(t *testing.T, c change, inSync bool) {
	t.Helper()
	want := objectOf(t, c.kind)
	live := stored(want)
	c.apply(live)
	if got := translate.InSync(want, live); got != inSync {
		t.Errorf("in sync is %t, not %t", got, inSync)
	}
}

func TestFingerprintCoversEveryChange(t *testing.T) {
	seen := map[uint64]string{}
	add := func(what string, object translate.Object) {
		fingerprint := translate.Fingerprint(object)
		if fingerprint == 0 {
			t.Errorf("%s has no fingerprint", what)
		}
		if fingerprint != translate.Fingerprint(stored(object)) {
			t.Errorf("%s has two fingerprints", what)
		}
		if other, taken := seen[fingerprint]; taken {
			t.Errorf("%s and %s have one fingerprint", what, other)
		}
		seen[fingerprint] = what
	}
	for name, c := range specChanges {
		object := objectOf(t, c.kind)
		c.apply(object)
		add(name, object)
	}
	metadata := map[string]func(o translate.Object){
		"unchanged":                         func(translate.Object) {},
		"the name":                          func(o translate.Object) { o.SetName("other") },
		"a label, removed":                  func(o translate.Object) { o.SetLabels(nil) },
		"a label, changed":                  func(o translate.Object) { o.SetLabels(map[string]string{v1alpha1.ManagedByLabel: "helm"}) },
		"two labels":                        func(o translate.Object) { o.SetLabels(map[string]string{"a": "b", "c": "d"}) },
		"one label that reads like two":     func(o translate.Object) { o.SetLabels(map[string]string{"a": "b c:d"}) },
		"the labels as annotations":         func(o translate.Object) { o.SetAnnotations(o.GetLabels()); o.SetLabels(nil) },
		"an annotation":                     func(o translate.Object) { o.SetAnnotations(map[string]string{"a": "b"}) },
		"an annotation with an empty value": func(o translate.Object) { o.SetAnnotations(map[string]string{"a": ""}) },
	}
	for _, kind := range translate.Kinds {
		for name, f := range metadata {
			object := objectOf(t, kind)
			f(object)
			add(kind.GVK.Kind+": "+name, object)
		}
		add(kind.GVK.Kind+", empty", kind.New())
	}
}

// What the API server adds to an object is no change of what is wanted.
func TestFingerprintIsOfWhatIsWanted(t *testing.T) {
	for _, kind := range translate.Kinds {
		object := objectOf(t, kind)
		before := translate.Fingerprint(object)
		object.SetResourceVersion("7")
		object.SetUID("7")
		object.SetOwnerReferences([]metav1.OwnerReference{{Kind: "ExternalRoute", Name: "web"}})
		if translate.Fingerprint(object) != before {
			t.Errorf("%s: the fingerprint changes with the version", kind.GVK.Kind)
		}
	}
}

func TestKindsAreKnownByNameAndByType(t *testing.T) {
	for i, kind := range translate.Kinds {
		named, found := translate.KindNamed(kind.GVK.Kind)
		if !found || named.GVK != kind.GVK || translate.Rank(kind.GVK.Kind) != i || translate.KindOf(kind.New()).GVK != kind.GVK {
			t.Errorf("%s is not found", kind.GVK.Kind)
		}
	}
	if _, found := translate.KindNamed("Sidecar"); found || translate.Rank("Sidecar") >= 0 {
		t.Error("a Sidecar is not generated")
	}
	defer func() {
		if recover() == nil {
			t.Error("an object of a kind that is not generated has a kind")
		}
	}()
	translate.KindOf(&networkingv1.Sidecar{})
}

func TestKeyNamesAnObjectWithinItsNamespace(t *testing.T) {
	key := translate.KeyOf(objectOf(t, translate.VirtualServiceKind))
	if want := (translate.Key{Kind: "VirtualService", NamespacedName: types.NamespacedName{Namespace: "demo", Name: "web"}}); key != want {
		t.Errorf("the key is %#v", key)
	}
	if key.String() != "VirtualService web" {
		t.Errorf("it reads %s", key)
	}
}

func TestEveryObjectNamesTheFieldThatAsksForIt(t *testing.T) {
	translation := translated(t, nil, map[string]any{
		"hosts": []any{"c.example.com", "web", "shop.demo.svc"},
		"destinations": []any{
			map[string]any{"name": "a", "url": "https://a.example.com"},
			map[string]any{"name": "again", "url": "https://a.example.com"},
			map[string]any{"name": "c", "url": "https://c.example.com"},
		},
	})
	var got []string
	for _, item := range translation.Objects {
		got = append(got, fmt.Sprintf("%s: %s", item.GetObjectKind().GroupVersionKind().Kind, item.Path))
	}
	want := []string{
		"Service: spec.hosts[1]", "Service: spec.hosts[2]",
		"ServiceEntry: spec.destinations[0]", "ServiceEntry: spec.destinations[2]",
		"DestinationRule: spec.destinations[0]", "DestinationRule: spec.destinations[2]",
		"VirtualService: spec.hosts",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got = nil
	for _, h := range translation.Hosts {
		got = append(got, fmt.Sprintf("%s: %s, in place: %t", h.Name, h.Path, h.InPlace))
	}
	want = []string{
		"web.demo.svc.cluster.local: spec.hosts[1], in place: false", "shop.demo.svc.cluster.local: spec.hosts[2], in place: false",
		"c.example.com: spec.hosts[0], in place: true",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestOntoTraffic(t *testing.T) {
	const inPlace = "api.example.com"
	existing := translate.Service{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}
	withPods := existing
	withPods.HasSelector = true
	for name, test := range map[string]struct {
		service *translate.Service
		hosts   []any
		want    bool
	}{
		"a new alias has no callers yet":                            {nil, []any{"web"}, false},
		"an alias with a Service without pods has no answers yet":   {&existing, []any{"web"}, false},
		"an alias with a Service with pods takes over its requests": {&withPods, []any{"web"}, true},
		"a host in place is called already":                         {nil, []any{inPlace}, true},
		"one host in place is enough":                               {nil, []any{"web", inPlace}, true},
	} {
		t.Run(name, func(t *testing.T) {
			translation := translated(t, test.service, map[string]any{"hosts": test.hosts, "destinations": []any{map[string]any{"url": "https://" + inPlace}}})
			if got := translation.OntoTraffic(); got != test.want {
				t.Errorf("onto traffic is %t", got)
			}
		})
	}
}

var newAdmission = sync.OnceValues(admission.New)

// translated is the translation of a route whose alias web may have a Service.
func translated(t *testing.T, web *translate.Service, spec map[string]any) *translate.Translation {
	t.Helper()
	judge, err := newAdmission()
	if err != nil {
		t.Fatal(err)
	}
	route, problems := judge.Admit(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.externalroute.io/v1alpha1", "kind": "ExternalRoute",
		"metadata": map[string]any{"name": "web", "namespace": "demo"}, "spec": spec,
	}})
	if len(problems) > 0 {
		t.Fatal(problems.ToAggregate())
	}
	mesh := translate.Mesh{ClusterDomain: translate.DefaultClusterDomain, Services: map[types.NamespacedName]translate.Service{
		{Namespace: "gateways", Name: "egress"}: {HasSelector: true, Selector: map[string]string{"istio": "egress"}, Ports: []corev1.ServicePort{{Port: 443}}},
	}}
	if web != nil {
		mesh.Services[types.NamespacedName{Namespace: "demo", Name: "web"}] = *web
	}
	translation, refusal := translate.Translate(route, mesh)
	if refusal != nil {
		t.Fatal(refusal.Message())
	}
	return translation
}

// objectOf is the generated object of a kind.
func objectOf(t *testing.T, kind translate.Kind) translate.Object {
	t.Helper()
	spec := map[string]any{"hosts": []any{"web"}, "destinations": []any{map[string]any{"url": "https://api.example.com"}}}
	if kind.GVK == translate.GatewayKind.GVK {
		spec["egressGateway"] = map[string]any{"name": "egress", "namespace": "gateways"}
	}
	objects := translated(t, nil, spec).Objects
	return objects[slices.IndexFunc(objects, func(item translate.Item) bool { return translate.KindOf(item).GVK == kind.GVK })].Object
}

// stored is the object as a cache has it: without type metadata, with a version.
func stored(object translate.Object) translate.Object {
	live := object.DeepCopyObject().(translate.Object)
	live.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	live.SetResourceVersion("1")
	return live
}
