package translate_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// Whose Services may use a waypoint is decided as Istio does. What nobody knows is no reason to refuse a route.
func TestWaypointAllowsNamespaces(t *testing.T) {
	const (
		hbone    = `{"gatewayClassName":"istio-waypoint","listeners":[{"name":"mesh","port":15008,"protocol":"HBONE"`
		selector = hbone + `,"allowedRoutes":{"namespaces":{"from":"Selector","selector":{"matchLabels":{"team":"shop"}}}}}]}`
	)
	shop, other := map[string]string{"team": "shop"}, map[string]string{"team": "other"}
	for sentence, c := range map[string]struct {
		spec    string
		own     bool
		labels  map[string]string
		unknown bool
		reason  string
	}{
		"a waypoint allows its own namespace":               {spec: hbone + `}]}`, own: true},
		"and no other, if it does not say so":               {spec: hbone + `}]}`, reason: "GatewayNotUsable"},
		"it may allow all":                                  {spec: hbone + `,"allowedRoutes":{"namespaces":{"from":"All"}}}]}`},
		"it may say that it allows its own alone":           {spec: hbone + `,"allowedRoutes":{"namespaces":{"from":"Same"}}}]}`, reason: "GatewayNotUsable"},
		"a selector that the namespace's labels match":      {spec: selector, labels: shop},
		"a selector that they do not match":                 {spec: selector, labels: other, reason: "GatewayNotUsable"},
		"a selector, and the labels are not known":          {spec: selector},
		"without a listener for HBONE, its own":             {spec: `{"gatewayClassName":"istio-waypoint","listeners":[{"name":"http","port":80}]}`, reason: "GatewayNotUsable"},
		"a spec of another form has no class":               {spec: `{"listeners":"none"}`, own: true, reason: "GatewayNotUsable"},
		"nothing is known of the Gateway, and it may exist": {unknown: true},
	} {
		t.Run(sentence, func(t *testing.T) {
			route := &v1alpha1.ExternalRoute{}
			route.Namespace, route.Name = "demo", "web"
			route.Spec.Hosts = []v1alpha1.RouteHost{"web"}
			route.Spec.Destinations = []v1alpha1.Destination{{URL: "https://api.example.com"}}
			route.Spec.Waypoint = &v1alpha1.GatewayReference{Name: "waypoint", Namespace: "infra"}
			if c.own {
				route.Spec.Waypoint.Namespace = "demo"
			}
			mesh := translate.Mesh{ClusterDomain: translate.DefaultClusterDomain, NamespaceLabels: c.labels}
			if facts := translate.WaypointFacts(nil, []byte(c.spec)); !c.unknown {
				mesh.Waypoints = map[types.NamespacedName]*translate.Waypoint{*translate.ReferencesOf(route).Waypoint: &facts}
			}
			reason := ""
			if _, refusal := translate.Translate(route, mesh); refusal != nil {
				reason = refusal.Reason
			}
			if reason != c.reason {
				t.Errorf("got reason %q, want %q", reason, c.reason)
			}
		})
	}
}

// The operator takes back the labels that it has set for a waypoint, and no others.
func TestStaleWaypointLabelsAreNotInSync(t *testing.T) {
	route := &v1alpha1.ExternalRoute{}
	route.Namespace, route.Name = "demo", "web"
	route.Spec.Hosts = []v1alpha1.RouteHost{"web"}
	route.Spec.Destinations = []v1alpha1.Destination{{URL: "https://api.example.com", Endpoints: []v1alpha1.Endpoint{{Address: "203.0.113.1"}}}}
	objects := func() translate.Objects {
		translation, refusal := translate.Translate(route, translate.Mesh{ClusterDomain: translate.DefaultClusterDomain})
		if refusal != nil {
			t.Fatal(refusal.Message())
		}
		return translation.Objects
	}
	without := objects()
	route.Spec.Waypoint = &v1alpha1.GatewayReference{Name: "waypoint", Namespace: "demo"}
	with := objects()
	route.Spec.Waypoint.Name = "other"
	with2 := objects()
	for i, item := range with {
		labelled := item.GetAnnotations()[v1alpha1.WaypointAnnotation] != ""
		if translate.KeyOf(item) != translate.KeyOf(without[i]) {
			t.Errorf("the waypoint gives %s another name: %s", translate.KeyOf(without[i]), translate.KeyOf(item))
		}
		if got := translate.InSync(without[i], item); labelled && got {
			t.Errorf("%s of a route that has lost its waypoint is in sync", translate.KeyOf(item))
		}
		if got := translate.InSync(with2[i], item); labelled == got {
			t.Errorf("%s of a route that has got another waypoint is in sync: %t", translate.KeyOf(item), got)
		}
	}
	service := without[0].DeepCopyObject().(translate.Object)
	service.SetLabels(map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue, "istio.io/use-waypoint": "own"})
	if !translate.InSync(without[0], service) {
		t.Error("a label that a user has set makes the Service differ")
	}
}
