package cluster_test

import (
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/cluster"
	"github.com/externalroute/externalroute/internal/conflict"
)

// accept writes the Accepted condition of a route, and waits until the operator sees it.
func (o *operator) accept(name string, status metav1.ConditionStatus, reason string) {
	o.Helper()
	route := &v1alpha1.ExternalRoute{}
	if err := admin.Get(o.Context(), o.key(name), route); err != nil {
		o.Fatal(err)
	}
	meta.SetStatusCondition(&route.Status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionAccepted, Status: status, Reason: reason, Message: "For a test.", ObservedGeneration: route.Generation,
	})
	if err := admin.Status().Update(o.Context(), route); err != nil {
		o.Fatal(err)
	}
	route.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind("ExternalRoute"))
	o.sees(route)
}

// edit merges a patch into a route, and waits until the operator sees it.
func (o *operator) edit(name, patch string) {
	o.Helper()
	route := &v1alpha1.ExternalRoute{ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: name}}
	if err := admin.Patch(o.Context(), route, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		o.Fatal(err)
	}
	route.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind("ExternalRoute"))
	o.sees(route)
}

func TestHolders(t *testing.T) {
	o := start(t, namespaceFor(t), nil)
	first, second := o.route("first", simple("web", "api.example.com")), o.route("second", simple("shop", "api.example.com"))
	fqdn := func(alias string) string { return alias + "." + o.namespace + ".svc.cluster.local" }
	o.create(istio("VirtualService", "first", first, "{hosts: [web], http: [{match: [{port: 80, sourceLabels: {app: a}}]}]}"))
	o.create(istio("ServiceEntry", "first", first, "{hosts: [api.example.com], ports: [{number: 443, name: tls, protocol: TLS}, {number: 80, name: http, protocol: HTTP, targetPort: 1}]}"))
	o.create(istio("DestinationRule", "first", first, "{host: api.example.com, subsets: [{name: first}]}"))
	o.create(istio("DestinationRule", "second", second, "{host: api.example.com, trafficPolicy: {}}"))
	o.create(manifest("v1", "Service", "web", first, "{ports: [{port: 80}]}"))
	o.create(istio("VirtualService", "foreign", nil, "{hosts: [shop], http: [{}]}"))
	o.Reserve(second, func() ([]conflict.Claim, bool) {
		return []conflict.Claim{conflict.HostClaim(o.namespace, fqdn("shop"), 80, nil)}, true
	})
	port := func(number uint32, share string) conflict.Claim {
		return conflict.Claim{Key: "port " + o.namespace + "/api.example.com", Port: number, Share: share, Host: "api.example.com"}
	}
	rule := func(share string) conflict.Claim {
		return conflict.Claim{Key: "rule " + o.namespace + "/api.example.com", Share: share, Host: "api.example.com"}
	}
	exports := func(share, to string) conflict.Claim {
		return conflict.Claim{Key: "export " + o.namespace + "/api.example.com", Share: share, ExportTo: to, Host: "api.example.com"}
	}
	for name, c := range map[string]struct {
		claim conflict.Claim
		want  []string
	}{
		"a host is held by the route whose VirtualService has it":                 {conflict.HostClaim(o.namespace, fqdn("web"), 80, nil), []string{"first"}},
		"... not on another port":                                                 {conflict.HostClaim(o.namespace, fqdn("web"), 8080, nil), nil},
		"... not for other pods":                                                  {conflict.HostClaim(o.namespace, fqdn("web"), 80, map[string]string{"app": "b"}), nil},
		"... not in another namespace":                                            {conflict.HostClaim("elsewhere", fqdn("web"), 80, nil), nil},
		"a host is held by a route that is about to write":                        {conflict.HostClaim(o.namespace, fqdn("shop"), 80, nil), []string{"second, reserved"}},
		"a generated Service is held":                                             {conflict.Claim{Key: "service " + o.namespace + "/web", Serves: true}, []string{"first"}},
		"a port is held on other terms":                                           {port(443, "HTTP"), []string{"first"}},
		"... and not on the same":                                                 {port(443, "TLS"), nil},
		"... and not on another port":                                             {port(8443, "HTTP"), nil},
		"a port is held in place":                                                 {port(80, "HTTP"), []string{"first"}},
		"subsets are held off by settings for the whole host":                     {rule(conflict.Subsets), []string{"second"}},
		"settings for the whole host are held off by both, and by a ServiceEntry": {rule(""), []string{"first", "first", "second"}},
		"a host with another exportTo is held":                                    {exports(conflict.Alone, ""), []string{"first"}},
		"... and not with the same":                                               {exports("", "*"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			world := o.World(t.Context())
			var got []string
			for _, h := range world.Holders(c.claim) {
				if !h.Claim.Clashes(c.claim) {
					t.Errorf("%v does not clash", h)
				}
				if h.Created.IsZero() {
					h.Name += ", reserved"
				}
				got = append(got, h.Name)
			}
			slices.Sort(got)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if err := world.Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAsking(t *testing.T) {
	o := start(t, namespaceFor(t), nil)
	for _, name := range []string{"new", "accepted", "lost", "waiting", "invalid", "edited", "suspended"} {
		o.route(name, simple("web", "api.example.com"))
	}
	o.route("other", simple("shop", "api.example.com"))
	o.accept("accepted", metav1.ConditionTrue, v1alpha1.ReasonAccepted)
	o.accept("lost", metav1.ConditionFalse, v1alpha1.ReasonHostConflict)
	o.accept("waiting", metav1.ConditionFalse, v1alpha1.ReasonDestinationConflict)
	o.accept("invalid", metav1.ConditionFalse, v1alpha1.ReasonInvalid)
	o.accept("edited", metav1.ConditionFalse, v1alpha1.ReasonInvalid)
	o.edit("edited", `{"spec":{"port":8080}}`)
	o.edit("suspended", `{"spec":{"suspend":true}}`)
	for name, c := range map[string]struct {
		claim conflict.Claim
		want  []string
	}{
		"those that ask for a host and are not refused for what they are": {
			conflict.HostClaim(o.namespace, "web."+o.namespace+".svc.cluster.local", 80, nil), []string{"accepted", "edited", "lost", "new", "waiting"},
		},
		"those that wait for a destination": {conflict.Claim{Host: "api.example.com"}, []string{"waiting"}},
		"nobody asks for an unknown host":   {conflict.HostClaim(o.namespace, "none.example.com", 80, nil), nil},
	} {
		t.Run(name, func(t *testing.T) {
			world := o.World(t.Context())
			var got []string
			for _, route := range world.Asking(o.namespace, c.claim) {
				got = append(got, route.Name)
			}
			slices.Sort(got)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestConcurrentRoutesOfOneHostStartOnce(t *testing.T) {
	o := start(t, namespaceFor(t), nil)
	claim := conflict.HostClaim(o.namespace, "web."+o.namespace+".svc.cluster.local", 80, nil)
	begin := func() int32 {
		var granted atomic.Int32
		var all sync.WaitGroup
		for i := range 50 {
			route := &v1alpha1.ExternalRoute{ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: fmt.Sprintf("route-%d", i)}}
			all.Go(func() {
				o.Reserve(route, func() ([]conflict.Claim, bool) {
					free := len(o.World(t.Context()).Holders(claim)) == 0
					runtime.Gosched() // what follows from the answer comes later: another route may ask in between
					if free {
						granted.Add(1)
					}
					return []conflict.Claim{claim}, free
				})
			})
		}
		all.Wait()
		return granted.Load()
	}
	if n := begin(); n != 1 {
		t.Errorf("%d begin", n)
	}
	for i := range 50 { // also those that have none
		o.Release(o.key(fmt.Sprintf("route-%d", i)))
	}
	if holders := o.World(t.Context()).Holders(claim); len(holders) > 0 {
		t.Errorf("released, and held by %v", holders)
	}
	if n := begin(); n != 1 {
		t.Errorf("%d begin later", n)
	}
}

func TestChangeReconcilesDependentRoutes(t *testing.T) {
	o := start(t, namespaceFor(t), nil)
	sentinel := o.route("sentinel", simple("sentinel", "sentinel.example.com"))
	web := o.route("web", simple("web", "api.example.com"))
	o.route("rival", simple("web", "other.example.com"))
	o.route("sharing", simple("shop", "api.example.com"))
	o.route("waiting", simple("store", "api.example.com"))
	o.route("wild", simple("wild", "api.example.org"))
	o.route("roots", "{hosts: [roots], destinations: [{name: main, url: 'https://roots.example.com', tls: {caCertificateRefs: [{name: roots}]}}]}")
	o.wakes(func() { o.accept("waiting", metav1.ConditionFalse, v1alpha1.ReasonDestinationConflict) }, "waiting")
	gone := o.route("gone", simple("gone", "gone.example.com"))
	signals := 0
	signal := func(kind string) func() {
		return func() {
			signals++
			name := fmt.Sprintf("signal-%d", signals)
			if kind == "ExternalRoute" {
				o.edit("rival-of-sentinel", fmt.Sprintf(`{"spec":{"port":%d}}`, 8000+signals))
				return
			}
			create(t, o.namespace, istio(kind, name, sentinel, "{}"))
		}
	}
	o.route("rival-of-sentinel", simple("sentinel", "rival.example.com"))
	for _, step := range []struct {
		name, kind string
		change     func()
		want       []string
	}{
		{"a foreign VirtualService for a host", "VirtualService", func() {
			create(t, o.namespace, istio("VirtualService", "foreign", nil, "{hosts: [web], http: [{}]}"))
		}, []string{"rival", "web"}},
		{"... that moves to another one", "VirtualService", func() { patch(o, "VirtualService", "foreign", `{"spec":{"hosts":["shop"]}}`) }, []string{"rival", "sharing", "web"}},
		{"... and goes", "VirtualService", func() { remove(o, "VirtualService", "foreign") }, []string{"sharing"}},
		{"a route's own VirtualService", "VirtualService", func() {
			create(t, o.namespace, istio("VirtualService", "web", web, "{hosts: [web], http: [{}]}"))
		}, []string{"rival", "web"}},
		{"a foreign ServiceEntry for a destination", "ServiceEntry", func() {
			create(t, o.namespace, istio("ServiceEntry", "foreign", nil, "{hosts: [api.example.com]}"))
		}, []string{"sharing", "waiting", "web"}},
		{"a route's own ServiceEntry for a destination", "ServiceEntry", func() {
			create(t, o.namespace, istio("ServiceEntry", "web", web, "{hosts: [api.example.com], ports: [{number: 443, name: tls, protocol: TLS}]}"))
		}, []string{"waiting", "web"}},
		{"a DestinationRule with the name of a generated one", "DestinationRule", func() {
			create(t, o.namespace, istio("DestinationRule", "sharing-0123456789", nil, "{host: none.example.com}"))
		}, []string{"sharing"}},
		{"a DestinationRule of a wildcard that includes a destination", "DestinationRule", func() {
			create(t, o.namespace, istio("DestinationRule", "wild", nil, "{host: '*.example.org'}"))
		}, []string{"wild"}},
		{"a DestinationRule that concerns nobody", "DestinationRule", func() {
			create(t, o.namespace, istio("DestinationRule", "none", nil, "{host: none.example.com}"))
		}, nil},
		{"an edit of a route", "ExternalRoute", func() { o.edit("web", `{"spec":{"port":8080}}`) }, []string{"rival", "waiting"}},
		{"a route that is refused for what it is", "ExternalRoute", func() {
			o.accept("web", metav1.ConditionFalse, v1alpha1.ReasonInvalid)
		}, []string{"rival", "waiting"}},
		{"... and still is", "ExternalRoute", func() { o.accept("web", metav1.ConditionFalse, v1alpha1.ReasonCACertificateMissing) }, nil},
		{"... and no more", "ExternalRoute", func() { o.accept("web", metav1.ConditionTrue, v1alpha1.ReasonAccepted) }, []string{"rival", "waiting"}},
		{"a route that begins to wait", "ExternalRoute", func() {
			o.accept("sharing", metav1.ConditionFalse, v1alpha1.ReasonDestinationConflict)
		}, []string{"sharing", "waiting"}},
		{"a route that goes without rivals", "ExternalRoute", func() {
			if err := admin.Delete(t.Context(), gone); err != nil {
				t.Fatal(err)
			}
		}, nil},
	} {
		t.Run(step.name, func(t *testing.T) {
			if diff := cmp.Diff(step.want, o.woken("sentinel", step.change, signal(step.kind))); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("a ConfigMap that a route refers to", func(t *testing.T) {
		all := []string{"rival", "rival-of-sentinel", "roots", "sentinel", "sharing", "waiting", "web", "wild"}
		o.wakes(func() {
			o.until("ConfigMaps should be known", func() string {
				exists, known, err := o.ConfigMap(t.Context(), o.key("roots"))
				return cmp.Diff([]any{false, true, nil}, []any{exists, known.Known, err})
			})
		}, all...)
		o.woken("roots", func() { create(t, o.namespace, "{apiVersion: v1, kind: ConfigMap, metadata: {name: roots}}") }, func() {})
		if exists, _, err := o.ConfigMap(t.Context(), o.key("roots")); !exists || err != nil {
			t.Error("it does not exist", err)
		}
	})
	t.Run("a Service that is an alias", func(t *testing.T) {
		got := o.woken("sentinel", func() { create(t, o.namespace, manifest("v1", "Service", "shop", nil, "{ports: [{port: 80}]}")) },
			func() { create(t, o.namespace, manifest("v1", "Service", "signal", sentinel, "{ports: [{port: 80}]}")) })
		if diff := cmp.Diff([]string{"sharing"}, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a reservation that ends", func(t *testing.T) {
		o.Reserve(web, func() ([]conflict.Claim, bool) {
			return []conflict.Claim{conflict.HostClaim(o.namespace, "web."+o.namespace+".svc.cluster.local", 80, nil)}, true
		})
		got := o.woken("sentinel", func() { o.Release(o.key("web")) },
			func() { create(t, o.namespace, istio("VirtualService", "signal", sentinel, "{}")) })
		if diff := cmp.Diff([]string{"rival"}, got); diff != "" {
			t.Error(diff)
		}
	})
}

// The labels of a namespace dependency all of its routes, and no others.
func TestLabelsOfANamespaceTriggerPassesOverItsRoutes(t *testing.T) {
	o, other := start(t, namespaceFor(t), nil), namespaceFor(t)
	o.route("web", simple("web", "api.example.com"))
	o.route("shop", simple("shop", "shop.example.com"))
	label := func(namespace, field, value string) {
		object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
		patch := fmt.Sprintf(`{"metadata":{%q:{"example.com/test":%q}}}`, field, value)
		if err := admin.Patch(t.Context(), object, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
			t.Fatal(err)
		}
	}
	knows := func(namespace string, want ...string) {
		o.until("the operator should know the labels of "+namespace, func() string {
			got, err := o.Namespace(t.Context(), namespace)
			if err != nil || !got.Watched || !got.Found {
				return fmt.Sprint(got, err)
			}
			delete(got.Labels, corev1.LabelMetadataName)
			return cmp.Diff(want, slices.Sorted(maps.Values(got.Labels)))
		})
	}
	knows(o.namespace)
	knows(other)
	o.wakes(func() { label(o.namespace, "labels", "first") }, "shop", "web")
	knows(o.namespace, "first")
	o.wakes(func() {
		label(o.namespace, "annotations", "none")
		label(other, "labels", "another")
		knows(other, "another")
		if passes := o.passesSoFar(); len(passes) > 0 {
			t.Errorf("annotations and the labels of another namespace trigger passes over %v", passes)
		}
		label(o.namespace, "labels", "second")
	}, "shop", "web")
	none, err := o.Namespace(t.Context(), "none")
	if diff := cmp.Diff(cluster.Namespace{Watched: true}, none); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func istioObject(o *operator, kind, name string) *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetAPIVersion("networking.istio.io/v1")
	object.SetKind(kind)
	object.SetNamespace(o.namespace)
	object.SetName(name)
	return object
}

func patch(o *operator, kind, name, patch string) {
	o.Helper()
	if err := admin.Patch(o.Context(), istioObject(o, kind, name), client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		o.Fatal(err)
	}
}

func remove(o *operator, kind, name string) {
	o.Helper()
	if err := admin.Delete(o.Context(), istioObject(o, kind, name)); err != nil {
		o.Fatal(err)
	}
}

// What keeps the operator from reading ConfigMaps or namespaces becomes known, whatever it is, does not keep it from starting, and ends.
func TestMetadataThatCannotBeRead(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	o := start(t, namespaceFor(t), func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if kind, found := strings.CutPrefix(r.URL.Path, "/api/v1/"); broken.Load() && found && (kind == "configmaps" || kind == "namespaces") {
				r = r.Clone(r.Context())
				r.URL.Path = "/api/none/" + kind
			}
			return next.RoundTrip(r)
		})
	})
	for _, step := range []struct {
		broken bool
		why    string
	}{{true, "could not find the requested resource"}, {false, ""}} {
		broken.Store(step.broken)
		o.until("why ConfigMaps cannot be read should be known", func() string {
			_, known, err := o.ConfigMap(t.Context(), o.key("ca"))
			if err != nil || known.Known == step.broken || !strings.Contains(known.Why, step.why) {
				return fmt.Sprint(known, err)
			}
			return ""
		})
		o.until("whether namespaces can be read should be known", func() string {
			namespace, err := o.Namespace(t.Context(), o.namespace)
			if err != nil || namespace.Found == step.broken || namespace.Watched == step.broken {
				return fmt.Sprint(namespace, err)
			}
			return ""
		})
	}
}
