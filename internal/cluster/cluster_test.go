package cluster_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/conflict"
	"github.com/externalroute/externalroute/internal/translate"
)

// never lets no event of a route trigger a pass over the route itself: what is left is what this package triggers.
func never() predicate.Predicate {
	return predicate.NewPredicateFuncs(func(client.Object) bool { return false })
}

// simple is the spec of a route for an alias and a host.
func simple(alias, host string) string {
	return fmt.Sprintf("{hosts: [%s], destinations: [{name: main, url: 'https://%s'}]}", alias, host)
}

// One object whose spec the operator cannot read, or cannot read in full, costs only itself: the operator starts, the object keeps its name, and it claims the
// hosts that can be read.
func TestUnreadableObjectsOfOthersCostOnlyThemselves(t *testing.T) {
	namespace := namespaceFor(t)
	cases := map[string]struct {
		kind, spec string
		host       string
		want       int // how many objects claim the host
		check      func(*testing.T, *operator, string)
	}{
		"a VirtualService with a field of a newer Istio claims its host": {
			kind: "VirtualService", host: "a.example.com", want: 1,
			spec: "{hosts: [a.example.com], exportTo: ['.'], http: [{quantum: {leap: 5}}]}",
		},
		"a VirtualService with a field of another type claims its host, for all requests": {
			kind: "VirtualService", host: "b.example.com", want: 1,
			spec: "{hosts: [b.example.com], exportTo: ['.'], http: 5}",
			check: func(t *testing.T, o *operator, host string) {
				t.Helper()
				facts := o.World(t.Context()).VirtualServices(host)[0]
				if diff := cmp.Diff([]conflict.Match{{}}, facts.Matches); diff != "" {
					t.Error(diff)
				}
				if diff := cmp.Diff([]string{namespace}, facts.ExportTo); diff != "" {
					t.Error(diff)
				}
			},
		},
		"a VirtualService whose hosts are no list claims none": {kind: "VirtualService", host: "c.example.com", spec: "{hosts: {c.example.com: 1}, http: [{}]}"},
		"a VirtualService without a spec claims no host":       {kind: "VirtualService", host: "d.example.com", spec: "null"},
		"a VirtualService whose spec is no object claims none": {kind: "VirtualService", host: "e.example.com", spec: "5"},
		"a ServiceEntry with an enum value of a newer Istio claims its host": {
			kind: "ServiceEntry", host: "f.example.com", want: 1,
			spec: "{hosts: [f.example.com], location: MESH_EXTERNAL, resolution: TELEPATHY, ports: [{number: 443, name: tls, protocol: TLS}]}",
			check: func(t *testing.T, o *operator, host string) {
				t.Helper()
				if facts := o.World(t.Context()).ServiceEntries(namespace, host)[0]; len(facts.Ports) != 1 || facts.Ports[0].Number != 443 {
					t.Errorf("read as %+v", facts)
				}
			},
		},
		"a ServiceEntry with a field of another type claims its host": {
			kind: "ServiceEntry", host: "g.example.com", want: 1, spec: "{hosts: [g.example.com], resolution: DNS, ports: {tls: 443}}",
		},
		"a DestinationRule with an enum value of a newer Istio claims its host": {
			kind: "DestinationRule", host: "h.example.com", want: 1, spec: "{host: h.example.com, trafficPolicy: {tls: {mode: QUANTUM}}}",
		},
		"a DestinationRule with a field of another type claims its host, and has settings for all of it": {
			kind: "DestinationRule", host: "i.example.com", want: 1, spec: "{host: i.example.com, trafficPolicy: strict}",
			check: func(t *testing.T, o *operator, host string) {
				t.Helper()
				if !o.World(t.Context()).DestinationRules(namespace, host)[0].Policy {
					t.Error("it has none")
				}
			},
		},
	}
	names := map[string]string{}
	for name, c := range cases {
		names[name] = fmt.Sprintf("foreign-%d", len(names))
		create(t, namespace, istio(c.kind, names[name], nil, c.spec))
	}
	o := start(t, namespace, nil)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			world := o.World(t.Context())
			if world.Named(translate.Key{Kind: c.kind, NamespacedName: o.key(names[name])}) == nil {
				t.Error("it does not keep its name")
			}
			got := map[string]int{
				"VirtualService": len(world.VirtualServices(c.host)), "ServiceEntry": len(world.ServiceEntries(namespace, c.host)),
				"DestinationRule": len(world.DestinationRules(namespace, c.host)),
			}
			if diff := cmp.Diff(c.want, got[c.kind]); diff != "" {
				t.Errorf("its host is claimed by another number of objects:\n%s", diff)
			}
			if err := world.Err(); err != nil {
				t.Error(err)
			}
			if c.check != nil && !t.Failed() {
				c.check(t, o, c.host)
			}
		})
	}
}

func (o *operator) owned(route *v1alpha1.ExternalRoute) map[string]translate.Object {
	o.Helper()
	objects := map[string]translate.Object{}
	world := o.World(o.Context())
	for _, object := range world.Owned(route) {
		objects[translate.KeyOf(object).String()] = object
	}
	if err := world.Err(); err != nil {
		o.Fatal(err)
	}
	return objects
}

func TestUnreadableObjectIsStillOwned(t *testing.T) {
	o := start(t, namespaceFor(t), nil)
	route := o.route("web", simple("web", "web.example.com"))
	object := o.create(istio("VirtualService", "web", route, "{hosts: [web], http: 5}"))
	live, ok := o.owned(route)["VirtualService web"].(*networkingv1.VirtualService)
	if !ok || live.UID != object.GetUID() || len(live.Spec.Hosts) != 0 {
		t.Errorf("owned is %v", live)
	}
	claim := conflict.HostClaim(o.namespace, "web."+o.namespace+".svc.cluster.local", 80, nil)
	if holders := o.World(t.Context()).Holders(claim); len(holders) != 1 || holders[0].Name != "web" {
		t.Errorf("the host is held by %v", holders)
	}
}

func TestObjectWithoutLabelIsStillOwned(t *testing.T) {
	o := start(t, namespaceFor(t), nil)
	route := o.route("web", simple("web", "web.example.com"))
	object := o.create(istio("ServiceEntry", "web", route, "{hosts: [web.example.com]}"))
	for _, value := range []string{`"externalroute"`, "null"} {
		patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"app.kubernetes.io/managed-by":`+value+`}}}`))
		if err := admin.Patch(t.Context(), object, patch); err != nil {
			t.Fatal(err)
		}
		o.until("the operator should see the change", func() string {
			live := o.owned(route)["ServiceEntry web"]
			if live == nil {
				t.Fatal("the object is missing")
			}
			return cmp.Diff(object.GetResourceVersion(), live.GetResourceVersion())
		})
		if diff := cmp.Diff(object.GetLabels(), o.owned(route)["ServiceEntry web"].GetLabels()); diff != "" {
			t.Error(diff)
		}
	}
}

// liar answers that Istio's group does not exist, for as many requests as a test asks.
type liar struct {
	mu    sync.Mutex
	lies  int
	asked []string // the requests about the group
}

func (l *liar) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if !strings.HasPrefix(r.URL.Path, "/apis/networking.istio.io/v1") || r.URL.Query().Has("watch") {
			return next.RoundTrip(r)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.asked = append(l.asked, r.URL.Path)
		if r.URL.Path == "/apis/networking.istio.io/v1" && l.lies > 0 {
			l.lies--
			r = r.Clone(r.Context())
			r.URL.Path = "/apis/none.example.com/v1"
		}
		return next.RoundTrip(r)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (l *liar) discoveries() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, path := range l.asked {
		if path == "/apis/networking.istio.io/v1" {
			n++
		}
	}
	return n
}

// An older release may not have granted the right to list an optional kind. It holds nobody up, whether the cluster serves it or not.
func TestOptionalKindNeedsNoListPermission(t *testing.T) {
	const user = "an-older-release"
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: user}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{v1alpha1.SchemeGroupVersion.Group, networkingv1.SchemeGroupVersion.Group, ""}, Resources: []string{"*"}, Verbs: []string{"list", "watch"}},
	}}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: user},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: user, APIGroup: rbacv1.GroupName}},
		RoleRef:    rbacv1.RoleRef{Kind: "ClusterRole", Name: user, APIGroup: rbacv1.GroupName},
	}
	for _, object := range []client.Object{role, binding} {
		if err := admin.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	for name, served := range map[string]bool{"a kind that is missing": false, "a kind that is served": true} {
		t.Run(name, func(t *testing.T) {
			if served {
				installGatewayAPI(t, "HTTPRoute", "httproutes")
			}
			o := start(t, namespaceFor(t), func(next http.RoundTripper) http.RoundTripper {
				return roundTripper(func(r *http.Request) (*http.Response, error) {
					r = r.Clone(r.Context())
					r.Header.Set("Impersonate-User", user)
					return next.RoundTrip(r)
				})
			})
			o.route("web", simple("web", "web.example.com"))
			o.woken("web", func() { // the controller has started
				o.create(istio("VirtualService", "foreign", nil, "{hosts: [web], http: [{}]}"))
			}, func() { o.create(istio("VirtualService", "web", nil, "{hosts: [web], http: [{}]}")) })
		})
	}
}

// A Gateway wakes the routes that name it when it comes, goes or changes its class, and no others; a status that changes wakes nobody.
func TestGatewayWakesTheRoutesThatNameIt(t *testing.T) {
	installGatewayAPI(t, "Gateway", "gateways")
	o := start(t, namespaceFor(t), nil)
	waypoint := func(name string) string {
		return fmt.Sprintf("{hosts: [%s], destinations: [{url: 'https://%[1]s.example.com'}], waypoint: {name: %[1]s, namespace: %s}}", name, o.namespace)
	}
	for _, name := range []string{"web", "other", "sentinel"} {
		o.route(name, waypoint(name))
	}
	o.route("direct", simple("direct", "direct.example.com"))
	gateway := func(name string) string {
		return manifest("gateway.networking.k8s.io/v1", "Gateway", name, nil, "{gatewayClassName: istio}")
	}
	signals := 0
	signal := func() {
		signals++
		if signals == 1 {
			create(t, o.namespace, gateway("sentinel"))
			return
		}
		o.change("Gateway", "sentinel", fmt.Sprintf(`{"spec":{"gatewayClassName":"class-%d"}}`, signals))
	}
	o.woken("sentinel", func() {}, signal) // the kinds that were installed just now trigger a pass over every route
	for _, step := range []struct {
		what   string
		change func()
		want   []string
	}{
		{"it comes", func() { create(t, o.namespace, gateway("web")) }, []string{"web"}},
		{"its class changes", func() { o.change("Gateway", "web", `{"spec":{"gatewayClassName":"istio-waypoint"}}`) }, []string{"web"}},
		{"its label changes", func() { o.change("Gateway", "web", `{"metadata":{"labels":{"istio.io/waypoint-for":"all"}}}`) }, []string{"web"}},
		{"its status changes", func() { o.change("Gateway", "web", `{"status":{"addresses":[]}}`) }, nil},
		{"an annotation changes", func() { o.change("Gateway", "web", `{"metadata":{"annotations":{"a":"b"}}}`) }, nil},
		{"it goes", func() { o.remove("Gateway", "web") }, []string{"web"}},
	} {
		if diff := cmp.Diff(step.want, o.woken("sentinel", step.change, signal)); diff != "" {
			t.Errorf("%s: %s", step.what, diff)
		}
	}
}

func (o *operator) gatewayAPI(kind, name string) *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetAPIVersion("gateway.networking.k8s.io/v1")
	object.SetKind(kind)
	object.SetNamespace(o.namespace)
	object.SetName(name)
	return object
}

func (o *operator) change(kind, name, patch string) {
	o.Helper()
	if err := admin.Patch(o.Context(), o.gatewayAPI(kind, name), client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		o.Fatal(err)
	}
}

func (o *operator) remove(kind, name string) {
	o.Helper()
	if err := admin.Delete(o.Context(), o.gatewayAPI(kind, name)); err != nil {
		o.Fatal(err)
	}
}

// installGatewayAPI installs a kind of the Gateway API until the test ends.
func installGatewayAPI(t *testing.T, kind, plural string) {
	t.Helper()
	definition := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{
			Name:        plural + ".gateway.networking.k8s.io",
			Annotations: map[string]string{"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api/pull/2466"},
		},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "gateway.networking.k8s.io", Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Kind: kind, ListKind: kind + "List", Plural: plural, Singular: strings.ToLower(kind)},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Served: true, Storage: true, Schema: &apiextensionsv1.CustomResourceValidation{
				OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: new(true)},
			}}},
		},
	}
	options := envtest.CRDInstallOptions{CRDs: []*apiextensionsv1.CustomResourceDefinition{definition}, MaxTime: time.Minute}
	if _, err := envtest.InstallCRDs(plane.Config, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := envtest.UninstallCRDs(plane.Config, options); err != nil {
			t.Error(err)
		}
	})
}

// What is expected of one object, the events of others do not tell, however late their versions are.
func TestExpectations(t *testing.T) {
	o := start(t, namespaceFor(t), nil)
	one := o.create(istio("ServiceEntry", "one", nil, "{hosts: [one.example.com]}"))
	key := translate.Key{Kind: "ServiceEntry", NamespacedName: o.key("one")}
	o.Expect(key)
	if !o.HasSeen(key, one.GetResourceVersion()) {
		t.Error("a write that changes nothing is waited for")
	}
	other := o.create(istio("ServiceEntry", "other", nil, "{hosts: [other.example.com]}"))
	if o.HasSeen(key, other.GetResourceVersion()) {
		t.Error("an event of another object is enough")
	}
	patch(o, "ServiceEntry", "one", `{"spec":{"hosts":["two.example.com"]}}`)
	o.until("its own event should be enough", func() string {
		return cmp.Diff(true, o.HasSeen(key, other.GetResourceVersion()))
	})
	o.Expect(key)
	if o.HasSeen(key, "99999999999999999999") {
		t.Error("a later version is seen")
	}
	o.Forget(key)
	if !o.HasSeen(key, "99999999999999999999") {
		t.Error("what nobody expects is waited for")
	}
}

func TestHandedOverObjectIsReadWhole(t *testing.T) {
	o := start(t, namespaceFor(t), nil)
	object := parse(t, o.namespace, istio("VirtualService", "web", nil, "{hosts: [web], http: [{route: [{destination: {host: old.example.com}}]}]}"))
	object.SetAnnotations(map[string]string{v1alpha1.AdoptAnnotation: "web"})
	o.Expect(keyOf(object))
	if err := admin.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	o.sees(object)
	live, ok := o.World(t.Context()).Object(keyOf(object)).(*networkingv1.VirtualService)
	if !ok || live.UID != object.GetUID() || live.Spec.Http[0].Route[0].Destination.Host != "old.example.com" {
		t.Errorf("it is %v", live)
	}
}

func TestOneWrongAnswerOfDiscoveryDropsNothing(t *testing.T) {
	l := &liar{lies: 1} // at the start, too
	o := start(t, namespaceFor(t), l.wrap)
	if !o.World(o.Context()).IstioInstalled() {
		t.Fatal("Istio is missing at the start")
	}
	route := o.route("web", simple("web", "web.example.com"))
	o.create(istio("VirtualService", "web", route, "{hosts: [web], http: [{}]}"))
	l.mu.Lock()
	l.lies = 1
	l.mu.Unlock()
	passes := o.woken("web", func() {
		for range 2 { // the second look begins when the first has ended
			before := l.discoveries()
			o.RecheckIstio()
			o.until("the operator should look", func() string {
				if !o.World(o.Context()).IstioInstalled() || o.owned(route)["VirtualService web"] == nil {
					t.Fatal("Istio's objects were dropped")
				}
				if l.discoveries() == before {
					return "it does not"
				}
				return ""
			})
		}
	}, func() { o.create(istio("VirtualService", "web2", route, "{hosts: [web], http: [{}]}")) })
	if len(passes) > 0 {
		t.Errorf("passes over %v", passes)
	}
}

func TestIstioComesAndGoes(t *testing.T) {
	namespace := namespaceFor(t)
	remove := func() {
		for _, crd := range crds {
			definition := crd.DeepCopy()
			if err := admin.Delete(t.Context(), definition); err != nil {
				t.Fatal(err)
			}
			eventually(t, definition.Name+" should be gone", func() string {
				err := admin.Get(t.Context(), client.ObjectKeyFromObject(definition), definition)
				if !apierrors.IsNotFound(err) {
					return fmt.Sprint("it is there: ", err)
				}
				return ""
			})
		}
	}
	remove()
	t.Cleanup(func() {
		if err := installCRDs(); err != nil {
			t.Error(err)
		}
	})
	o := start(t, namespace, nil)
	route := o.route("web", simple("web", "web.example.com"))
	o.until("Istio should be missing", func() string { return installed(o, false) })
	generated := func() map[string]int {
		counts, err := o.Generated(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		delete(counts, "Service") // other tests have some
		return counts
	}
	if got := generated(); len(got) > 0 {
		t.Errorf("%v are generated", got)
	}
	for range 2 {
		o.woken("web", func() {}, func() {
			if err := installCRDs(); err != nil {
				t.Fatal(err)
			}
			create(t, namespace, istio("VirtualService", "web", route, "{hosts: [web], http: [{}]}"))
		})
		o.until("Istio should be installed", func() string { return installed(o, true) })
		o.until("its objects should be read", func() string {
			return cmp.Diff(map[string]int{"VirtualService": 1, "ServiceEntry": 0, "DestinationRule": 0, "Gateway": 0}, generated())
		})
		o.woken("web", func() {}, func() {
			remove()
			o.until("Istio should be missing", func() string {
				o.RecheckIstio()
				return installed(o, false)
			})
		})
		if owned := o.owned(route); len(owned) > 0 {
			t.Errorf("the route owns %v", owned)
		}
	}
}

func installed(o *operator, want bool) string {
	return cmp.Diff(want, o.World(o.Context()).IstioInstalled())
}
