package controller_test

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/test/controlplane"
)

// installGateways installs the Gateways of the Gateway API.
func (s *story) installGateways() {
	s.Helper()
	definition, err := os.ReadFile("testdata/gateways.yaml")
	if err != nil {
		s.Fatal(err)
	}
	if err := s.plane.InstallCRDs(definition); err != nil {
		s.Fatal(err)
	}
}

// gateway is a waypoint of the story's namespace.
func gateway(name, class string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
		"metadata": map[string]any{"name": name},
		"spec": map[string]any{
			"gatewayClassName": class,
			"listeners":        []any{map[string]any{"name": "mesh", "port": int64(15008), "protocol": "HBONE"}},
		},
	}}
}

func setClass(s *story, name, class string) {
	s.Helper()
	edit(s, gateway(name, ""), func(g *unstructured.Unstructured) {
		if err := unstructured.SetNestedField(g.Object, class, "spec", "gatewayClassName"); err != nil {
			s.Fatal(err)
		}
	})
}

// through is a spec with a waypoint of the story's namespace.
func (s *story) through(spec, waypoint string) string {
	return fmt.Sprintf("%s\nwaypoint: {name: %s, namespace: %s}", spec, waypoint, s.namespace)
}

// A route waits for its waypoint, however that becomes usable, and for no other one. What stands keeps serving when the waypoint is lost.
func TestRouteWaitsForItsWaypoint(t *testing.T) {
	s := sharedStory(t)
	s.route("web", s.through(simple, "waypoint"))
	route := s.refused("web", v1alpha1.ReasonGatewayNotUsable)
	if meta.FindStatusCondition(route.Status.Conditions, v1alpha1.ConditionStalled) != nil {
		t.Error("a missing waypoint stalls the route, and its arrival heals it")
	}
	s.says("web", v1alpha1.ConditionAccepted, "spec.waypoint: Gateway NAMESPACE/waypoint does not exist: create it with "+
		"`istioctl waypoint apply --namespace NAMESPACE --name waypoint`, or name another one")
	s.only()
	s.installGateways()
	s.create(gateway("waypoint", "istio"))
	s.says("web", v1alpha1.ConditionAccepted, "spec.waypoint: Gateway NAMESPACE/waypoint is of class istio, which is no waypoint: "+
		"name a Gateway of class istio-waypoint")
	s.create(gateway("other", "istio-waypoint"))
	if writes := s.rest(); len(writes) == 0 {
		t.Fatal("the stories see no writes")
	}

	setClass(s, "waypoint", "istio-waypoint")
	s.ready("web")
	if writes := s.rest(); len(writes) != 5 {
		t.Errorf("%d writes: %v", len(writes), writes)
	}
	s.says("web", v1alpha1.ConditionAccepted, "The route is valid. Waypoint NAMESPACE/waypoint applies it to all pods in ambient mode that call its aliases, "+
		"of every namespace: exportTo limits pods with sidecars only.")
	s.becomes("web", v1alpha1.ConditionMeshEnrolled, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotEnrolled)
	s.label(map[string]string{"istio.io/dataplane-mode": "ambient"})
	s.becomes("web", v1alpha1.ConditionMeshEnrolled, metav1.ConditionTrue, v1alpha1.ReasonNamespaceEnrolled)
	s.quiet()

	stands := s.objects()
	setClass(s, "waypoint", "istio-agentgateway-waypoint")
	s.refused("web", v1alpha1.ReasonGatewayNotUsable)
	s.says("web", v1alpha1.ConditionProgrammed, "The spec is not accepted. The objects of the last accepted spec keep serving, and the operator does not repair them.")
	s.only(stands...)
	s.delete(gatewayOf(s, "waypoint"))
	s.says("web", v1alpha1.ConditionAccepted, "spec.waypoint: Gateway NAMESPACE/waypoint does not exist: create it with "+
		"`istioctl waypoint apply --namespace NAMESPACE --name waypoint`, or name another one")
	s.create(gateway("waypoint", "istio-waypoint"))
	s.ready("web")
	s.only(stands...)
}

func gatewayOf(s *story, name string) *unstructured.Unstructured {
	s.Helper()
	g := gateway(name, "")
	s.get(name, g)
	return g
}

// waypointLabels are those of a generated Service that say which waypoint serves it.
func (s *story) waypointLabels(service string) map[string]string {
	s.Helper()
	object := &corev1.Service{}
	s.get(service, object)
	maps.DeleteFunc(object.Labels, func(key, _ string) bool { return !strings.HasPrefix(key, "istio.io/") })
	if by, says := object.Annotations[v1alpha1.WaypointAnnotation]; says {
		object.Labels["by"] = by
	}
	return object.Labels
}

// A waypoint that comes, changes or goes labels the same objects, and moves no traffic between upstreams that have names of their own anyway. Labels of users
// stay.
func TestWaypointComesAndGoesInPlace(t *testing.T) {
	s := sharedStory(t)
	s.installGateways()
	const private = "hosts: [web]\ndestinations: [{url: 'https://web.example.com', endpoints: [{address: 203.0.113.7}]}]"
	s.create(gateway("first", "istio-waypoint"))
	s.create(gateway("second", "istio-waypoint"))
	s.route("web", private)
	s.ready("web")
	stands := s.objects()
	labelled := func(waypoint string) map[string]string {
		return map[string]string{"istio.io/use-waypoint": waypoint, "istio.io/use-waypoint-namespace": s.namespace, "by": s.namespace + "/" + waypoint}
	}
	for _, step := range []struct {
		spec string
		want map[string]string
	}{
		{s.through(private, "first"), labelled("first")},
		{s.through(private, "second"), labelled("second")},
		{private, map[string]string{}},
	} {
		s.route("web", step.spec)
		s.until("the labels should follow the route", func() string { return cmp.Diff(step.want, s.waypointLabels("web")) })
		s.ready("web")
		s.only(stands...)
		entry := &networkingv1.ServiceEntry{}
		s.get(s.resources(s.read("web"), "ServiceEntry")[0].GetName(), entry)
		if got := entry.Labels["istio.io/use-waypoint"] == "none"; got != (len(step.want) > 0) {
			t.Errorf("%s: the ServiceEntry has labels %v", step.spec, entry.Labels)
		}
	}
	edit(s, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"}}, func(service *corev1.Service) {
		service.Labels["istio.io/use-waypoint"] = "own"
	})
	s.quiet()
	if diff := cmp.Diff(map[string]string{"istio.io/use-waypoint": "own"}, s.waypointLabels("web")); diff != "" {
		t.Error(diff)
	}
}

// Without a waypoint the upstream has the real name, and with one a private name: traffic moves when the new one has settled.
func TestWaypointThatChangesTheUpstreamIsAMove(t *testing.T) {
	s := sharedStory(t)
	s.installGateways()
	s.create(gateway("waypoint", "istio-waypoint"))
	s.route("web", simple)
	s.ready("web")
	s.rest()
	before := s.serves("web")
	s.clock.stop(t)
	s.route("web", s.through(simple, "waypoint"))
	s.becomes("web", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonSwitching)
	if now := s.serves("web"); now != before {
		t.Errorf("traffic moved from %s to %s at once", before, now)
	}
	s.after(settle, "web")
	s.ready("web")
	if now := s.serves("web"); !strings.HasSuffix(now, "."+s.namespace+".externalroute.internal") {
		t.Errorf("traffic is at %s", now)
	}
}

// A Service that exists is never changed: its labels, or those of its namespace, must name the waypoint.
func TestExistingServiceNeedsTheWaypoint(t *testing.T) {
	s := sharedStory(t)
	s.installGateways()
	s.create(gateway("waypoint", "istio-waypoint"))
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}}
	s.create(service)
	s.route("web", s.through(simple, "waypoint"))
	s.refused("web", v1alpha1.ReasonServiceNotUsable)
	s.says("web", v1alpha1.ConditionAccepted, "spec.hosts[0]: Service web has no waypoint: label it with istio.io/use-waypoint=waypoint and "+
		"istio.io/use-waypoint-namespace=NAMESPACE")
	edit(s, service, func(o *corev1.Service) { o.Labels = map[string]string{"istio.io/use-waypoint": "waypoint"} })
	s.ready("web")
	edit(s, service, func(o *corev1.Service) { o.Labels = map[string]string{"istio.io/use-waypoint": "none"} })
	s.refused("web", v1alpha1.ReasonServiceNotUsable)
	edit(s, service, func(o *corev1.Service) { o.Labels = nil })
	s.label(map[string]string{"istio.io/use-waypoint": "waypoint"})
	s.ready("web")
}

// An operator of some namespaces cannot see a waypoint elsewhere, and takes it to be usable.
func TestWaypointInANamespaceThatIsNotWatched(t *testing.T) {
	c, err := startCluster(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	s := newStory(t, c)
	s.installGateways()
	if c.end, c.done, err = c.runOperator(labels.Everything(), nil, s.namespace); err != nil {
		t.Fatal(err)
	}
	s.route("web", simple+"\nwaypoint: {name: waypoint, namespace: elsewhere}")
	s.ready("web")
	s.route("web", s.through(simple, "waypoint"))
	s.refused("web", v1alpha1.ReasonGatewayNotUsable)
}
