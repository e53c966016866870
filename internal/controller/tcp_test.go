package controller_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	istio "istio.io/api/networking/v1alpha3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

const database = `
hosts: [db]
destinations:
- url: tcp://db.example.com:5432`

func TestNewTCPRouteTakesFiveWrites(t *testing.T) {
	s := sharedStory(t)
	s.route("db", database)
	route := s.ready("db")
	upstream := route.Status.Resources[1].Name
	s.only("Service/db", "ServiceEntry/"+upstream, "DestinationRule/"+upstream, "VirtualService/db")
	if got := s.connects("db"); got != route.Status.Destinations[0].Host {
		t.Errorf("connections go to %s, and the status says %v", got, route.Status.Destinations)
	}
	alias := &corev1.Service{}
	s.get("db", alias)
	want := []corev1.ServicePort{{Name: "tcp", AppProtocol: new("tcp"), Protocol: corev1.ProtocolTCP, Port: 5432, TargetPort: alias.Spec.Ports[0].TargetPort}}
	if diff := cmp.Diff(want, alias.Spec.Ports); diff != "" {
		t.Error(diff)
	}
	if writes := s.rest(); len(writes) != 5 {
		t.Errorf("%d writes: %v", len(writes), writes)
	}
	s.quiet()
	s.delete(route)
	s.only()
}

// A Service with pods is taken over as a move. It is never changed, and its other ports are not the route's.
func TestTCPRouteOfAnExistingService(t *testing.T) {
	for name, c := range map[string]struct {
		selector map[string]string
		writes   int
	}{
		"a Service that nobody serves":         {writes: 4},
		"a Service with pods, which is a move": {selector: map[string]string{"app": "db"}, writes: 5},
	} {
		t.Run(name, func(t *testing.T) {
			s := sharedStory(t)
			alias := service("db", c.selector, 80)
			alias.Spec.Ports = append(alias.Spec.Ports, corev1.ServicePort{Name: "tcp", Port: 5432})
			s.create(alias)
			s.notice()
			s.route("db", database)
			route := s.ready("db")
			if writes := s.rest(); len(writes) != c.writes {
				t.Errorf("%d writes: %v", len(writes), writes)
			}
			if diff := cmp.Diff(uint32(5432), s.virtualService("db").Spec.Tcp[0].Match[0].Port); diff != "" {
				t.Error(diff)
			}
			s.delete(route)
			s.only("Service/db")
		})
	}
}

func TestTCPRouteMovesToAnotherUpstream(t *testing.T) {
	s := sharedStory(t)
	s.route("db", database)
	old := s.ready("db").Status.Destinations[0].Host
	objects := s.objects()
	s.clock.stop(t)
	s.route("db", strings.ReplaceAll(database, "tcp://", "tls://"))
	s.becomes("db", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonSwitching)
	s.after(settle-moment, "db")
	if got := s.connects("db"); got != old {
		t.Errorf("connections moved to %s before the new upstream had settled", got)
	}
	s.after(moment, "db")
	s.ready("db")
	if got := s.connects("db"); got == old {
		t.Error("the new upstream has settled, and connections go to the old one")
	}
	s.after(settle-moment, "db")
	if left := s.objects(); len(left) != len(objects)+2 {
		t.Errorf("the old upstream went before traffic had settled: %v", left)
	}
	s.after(moment, "db")
	s.until("the old upstream should go", func() string { return cmpLen(len(objects), s.objects()) })
	s.quiet()
}

// Other weights change in place, in one write.
func TestTCPWeightsChangeInPlace(t *testing.T) {
	s := sharedStory(t)
	spec := database + "\n  weight: %d\n- {name: other, url: 'tcp://other.example.com:5432'}"
	s.route("db", fmt.Sprintf(spec, 1))
	s.ready("db")
	s.rest()
	s.route("db", fmt.Sprintf(spec, 9))
	s.ready("db")
	writes := slices.DeleteFunc(s.rest(), func(write string) bool { return strings.HasSuffix(write, "/status") })
	if len(writes) != 1 || !strings.Contains(writes[0], "virtualservices") {
		t.Errorf("writes: %v", writes)
	}
}

// A route that turns from HTTP to TCP, and back, is a move. Its Service changes at once: one port has one protocol.
func TestRouteTurnsFromHTTPToTCPAndBack(t *testing.T) {
	s := sharedStory(t)
	s.route("db", "hosts: [db]\nport: 5432\ndestinations: [{url: 'https://api.example.com'}]")
	s.ready("db")
	before := s.objects()
	s.clock.stop(t)
	s.route("db", "hosts: [db]\nport: 5432\ndestinations: [{url: 'tcp://db.example.com:5432'}]")
	s.becomes("db", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonSwitching)
	if got := s.serves("db"); got != "api.example.com" {
		t.Errorf("before the upstream has settled, requests go to %q", got)
	}
	s.after(settle, "db")
	route := s.ready("db")
	if got := s.connects("db"); got != route.Status.Destinations[0].Host {
		t.Errorf("connections go to %q", got)
	}
	if v := s.virtualService("db"); len(v.Spec.Http) > 0 {
		t.Errorf("the VirtualService has http routes: %v", v.Spec.Http)
	}
	s.after(settle, "db")
	s.until("the upstream for HTTP should go", func() string { return cmpLen(4, s.objects()) })

	s.route("db", "hosts: [db]\nport: 5432\ndestinations: [{url: 'https://api.example.com'}]")
	s.becomes("db", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonSwitching)
	s.after(settle, "db")
	s.ready("db")
	if v := s.virtualService("db"); len(v.Spec.Tcp) > 0 {
		t.Errorf("the VirtualService has tcp routes: %v", v.Spec.Tcp)
	}
	s.after(settle, "db")
	s.only(before...)
	s.quiet()
}

// A Service whose port is not for TCP is refused with the fix, and the route begins when it is corrected.
func TestTCPRouteAwaitsATCPPort(t *testing.T) {
	s := sharedStory(t)
	unusable := service("db", nil, 5432)
	s.create(unusable)
	s.notice()
	s.route("db", database)
	route := s.refused("db", v1alpha1.ReasonServiceNotUsable)
	want := `spec.hosts[0]: Service db does not declare port 5432 (name "` + unusable.Spec.Ports[0].Name + `", appProtocol "") as TCP: use another port, or set its appProtocol to tcp`
	if diff := cmp.Diff(want, message(route, v1alpha1.ConditionAccepted)); diff != "" {
		t.Error(diff)
	}
	edit(s, unusable, func(v *corev1.Service) { v.Spec.Ports[0].AppProtocol = new("tcp") })
	s.ready("db")
	edit(s, unusable, func(v *corev1.Service) { v.Spec.Ports[0].AppProtocol = new("tls") })
	s.refused("db", v1alpha1.ReasonServiceNotUsable)
	if got := s.connects("db"); got == "" {
		t.Error("the objects that worked are gone")
	}
}

// A route for HTTP and one for TCP share an alias that exists, on two ports. On one port it belongs to one of them.
func TestRoutesOfTwoProtocolsShareAnAlias(t *testing.T) {
	s := sharedStory(t)
	alias := service("db", nil, 80)
	alias.Spec.Ports = append(alias.Spec.Ports, corev1.ServicePort{Name: "tcp", Port: 5432})
	s.create(alias)
	s.notice()
	s.route("web", "hosts: [db]\ndestinations: [{url: 'https://api.example.com'}]")
	s.ready("web")
	s.route("db", database)
	s.ready("db")

	s.route("made", simple)
	s.ready("made")
	s.route("other", "hosts: [web]\nport: 80\ndestinations: [{url: 'tcp://db.example.com:5432'}]")
	other := s.refused("other", v1alpha1.ReasonHostConflict)
	if said := message(other, v1alpha1.ConditionAccepted); !strings.Contains(said, "belongs to ExternalRoute "+s.namespace+"/made") {
		t.Error(said)
	}
	s.delete(s.read("made"))
	s.ready("other")
}

// A VirtualService of another client with a tcp route for the alias, or for a wildcard that includes it, holds the route up until it goes.
func TestForeignTCPRouteConflictsIfIstioPrefersIt(t *testing.T) {
	for name, host := range map[string]string{"for the alias": "db.%s.svc.cluster.local", "for a wildcard": "*.%s.svc.cluster.local"} {
		t.Run(name, func(t *testing.T) {
			s := sharedStory(t)
			theirs := virtualService("theirs", ".", fmt.Sprintf(host, s.namespace))
			theirs.Namespace, theirs.Spec.Http = s.namespace, nil
			theirs.Spec.Tcp = []*istio.TCPRoute{{Route: []*istio.RouteDestination{{Destination: &istio.Destination{Host: "elsewhere.example.com"}}}}}
			s.create(theirs)
			s.notice()
			s.route("db", database)
			s.refused("db", v1alpha1.ReasonHostConflict)
			s.delete(theirs)
			s.ready("db")
		})
	}
}

// connects is the host that a VirtualService sends connections to, empty if it sends none.
func (s *story) connects(name string) string {
	s.Helper()
	for _, tcp := range s.virtualService(name).Spec.Tcp {
		return tcp.Route[0].Destination.Host
	}
	return ""
}
