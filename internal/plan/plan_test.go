package plan_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/plan"
	"github.com/externalroute/externalroute/internal/translate"
)

const settle = 3 * time.Second

// Specs of the route, as the API server stores them.
const (
	toA         = `{hosts: [web], port: 80, exportTo: [.], destinations: [{name: primary, url: "https://a.example.com", resolution: DNS, weight: 1}]}`
	toB         = `{hosts: [web], port: 80, exportTo: [.], destinations: [{name: primary, url: "https://b.example.com", resolution: DNS, weight: 1}]}`
	toARename   = `{hosts: [web], port: 80, exportTo: [.], destinations: [{name: other, url: "https://a.example.com", resolution: DNS, weight: 1}]}`
	toASNI      = `{hosts: [web], port: 80, exportTo: [.], destinations: [{name: primary, url: "https://a.example.com", resolution: DNS, weight: 1, tls: {sni: x.example.com}}]}`
	toASlow     = `{hosts: [web], port: 80, exportTo: [.], rules: [{timeout: 5s}], destinations: [{name: primary, url: "https://a.example.com", resolution: DNS, weight: 1}]}`
	inPlace     = `{hosts: [a.example.com], port: 80, exportTo: [.], destinations: [{name: primary, url: "https://a.example.com", resolution: DNS, weight: 1}]}`
	inPlain     = `{hosts: [a.example.com], port: 80, exportTo: [.], destinations: [{name: primary, url: "http://a.example.com", resolution: DNS, weight: 1}]}`
	inPlace8080 = `{hosts: [a.example.com], port: 8080, exportTo: [.], destinations: [{name: primary, url: "https://a.example.com", resolution: DNS, weight: 1}]}`
	passA       = `{hosts: [a.example.com], exportTo: [.]}`
	passB       = `{hosts: [a.example.com, b.example.com, "*.example.org"], exportTo: [.]}`
	passA8443   = `{hosts: [a.example.com], port: 8443, exportTo: [.]}`
	tcpA        = `{hosts: [web], exportTo: [.], destinations: [{name: primary, url: "tcp://a.example.com:5432", weight: 1}]}`
	tlsA        = `{hosts: [web], exportTo: [.], destinations: [{name: primary, url: "tls://a.example.com:5432", weight: 1}]}`
	tlsASNI     = `{hosts: [web], exportTo: [.], destinations: [{name: primary, url: "tls://a.example.com:5432", weight: 1, tls: {sni: x.example.com}}]}`
	tcpTwo      = `{hosts: [web], exportTo: [.], destinations: [{name: primary, url: "tcp://a.example.com:5432", weight: 1}, {name: other, url: "tcp://a.example.com:5432", weight: 1}]}`
	tcpTwoOne   = `{hosts: [web], exportTo: [.], destinations: [{name: primary, url: "tcp://a.example.com:5432", weight: 9}, {name: other, url: "tcp://a.example.com:5432", weight: 1}]}`
	eastA       = `{hosts: [web], port: 80, exportTo: [.], egressGateway: {name: east, namespace: gateways}, destinations: [{name: primary, url: "https://a.example.com", resolution: DNS, weight: 1}]}`
	eastASlow   = `{hosts: [web], port: 80, exportTo: [.], rules: [{timeout: 5s}], egressGateway: {name: east, namespace: gateways}, destinations: [{name: primary, url: "https://a.example.com", resolution: DNS, weight: 1}]}`
	eastB       = `{hosts: [web], port: 80, exportTo: [.], egressGateway: {name: east, namespace: gateways}, destinations: [{name: primary, url: "https://b.example.com", resolution: DNS, weight: 1}]}`
	westA       = `{hosts: [web], port: 80, exportTo: [.], egressGateway: {name: west, namespace: gateways}, destinations: [{name: primary, url: "https://a.example.com", resolution: DNS, weight: 1}]}`
	inPlaceEast = `{hosts: [a.example.com], port: 80, exportTo: [.], egressGateway: {name: east, namespace: gateways}, destinations: [{name: primary, url: "https://a.example.com", resolution: DNS, weight: 1}]}`
	passEast    = `{hosts: [a.example.com], exportTo: [.], egressGateway: {name: east, namespace: gateways}}`
	passEastB   = `{hosts: [a.example.com, b.example.com], exportTo: [.], egressGateway: {name: east, namespace: gateways}}`
	passWest    = `{hosts: [a.example.com], exportTo: [.], egressGateway: {name: west, namespace: gateways}}`
	toAWaypoint = `{hosts: [web], port: 80, exportTo: [.], waypoint: {name: w, namespace: demo}, destinations: [{name: primary, url: "https://a.example.com", resolution: DNS, weight: 1}]}`
	toAAnother  = `{hosts: [web], port: 80, exportTo: [.], waypoint: {name: w, namespace: infra}, destinations: [{name: primary, url: "https://a.example.com", resolution: DNS, weight: 1}]}`
	both        = `{hosts: [web, a.example.com], port: 80, exportTo: [.], destinations: [{name: primary, url: "https://a.example.com", resolution: DNS, weight: 1}]}`
)

// tcpName and tlsName begin the private names of tcpA and tlsA.
const tcpName, tlsName = "1fcb1474cc", "79c08e652b"

// What is written and deleted, when, and what the condition says. A line is a pass: the time since the beginning, the writes (stages are separated by |), the
// deletions, the condition's reason, and when there is more to do.
func TestNext(t *testing.T) {
	const a, b = "ServiceEntry(a:443), DestinationRule(a 1)", "ServiceEntry(b:443), DestinationRule(b 1)"
	const tcp, tls = "ServiceEntry(" + tcpName + ":5432,to a), DestinationRule(" + tcpName + " 1)", "ServiceEntry(" + tlsName + ":5432,to a), DestinationRule(" + tlsName + " 1)"
	const private = "ServiceEntry(private:443,to a), DestinationRule(private 1)"
	for name, c := range map[string]struct {
		story func(*story)
		want  []string
	}{
		"a new route is written in one pass, upstreams first": {
			func(s *story) { s.route(toA); s.pass(); s.pass() },
			[]string{"0s: Service, " + a + " | VirtualService; Programmed", "0s: Programmed"},
		},
		"a route at rest writes nothing, after a restart too": {
			func(s *story) { s.stands(toA); s.pass(); s.restart(); s.pass() },
			[]string{"0s: Programmed", "0s: Programmed"},
		},
		"settings change in place, at once": {
			func(s *story) {
				s.stands(toA)
				s.route(toASNI)
				s.pass()
				s.pass()
				s.route(toASlow)
				s.pass()
			},
			[]string{"0s: DestinationRule(a 1); Programmed", "0s: Programmed", "0s: DestinationRule(a 1) | VirtualService; Programmed"},
		},
		"a new host is a move: new upstreams, settle, traffic, settle, deletions": {
			func(s *story) {
				s.stands(toA)
				s.route(toB)
				s.pass()
				s.after(2 * time.Second)
				s.pass()
				s.after(time.Second)
				s.pass()
				s.after(2 * time.Second)
				s.pass()
				s.after(time.Second)
				s.pass()
				s.pass()
			},
			[]string{
				"0s: " + b + "; Switching; again 3s", "2s: Switching; again 1s", "3s: VirtualService; Programmed; again 3s", "5s: Programmed; again 1s",
				"6s: delete DestinationRule(a), ServiceEntry(a); Programmed", "6s: Programmed",
			},
		},
		"a move that is taken back deletes the new upstreams only after a settle time, if traffic has moved": {
			func(s *story) {
				s.stands(toA)
				s.route(toB)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.route(toA)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
			},
			[]string{
				"0s: " + b + "; Switching; again 3s", "3s: VirtualService; Programmed; again 3s", "3s: VirtualService; Programmed; again 3s",
				"6s: delete DestinationRule(b), ServiceEntry(b); Programmed",
			},
		},
		"a first waypoint labels the Service at once, and is a move to an upstream of a private name": {
			func(s *story) {
				s.stands(toA)
				s.route(toAWaypoint)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
			},
			[]string{
				"0s: Service, " + private + "; Switching; again 3s", "3s: VirtualService; Programmed; again 3s",
				"6s: delete DestinationRule(a), ServiceEntry(a); Programmed", "6s: Programmed",
			},
		},
		"another waypoint changes everything in place, the VirtualService last": {
			func(s *story) {
				s.stands(toAWaypoint)
				s.route(toAAnother)
				s.pass()
				s.pass()
			},
			[]string{"0s: Service, " + private + " | VirtualService; Programmed", "0s: Programmed"},
		},
		"a waypoint that goes takes its labels from the Service at once, and is a move back": {
			func(s *story) {
				s.stands(toAWaypoint)
				s.route(toA)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
			},
			[]string{
				"0s: Service, " + a + "; Switching; again 3s", "3s: VirtualService; Programmed; again 3s", "6s: delete DestinationRule, ServiceEntry; Programmed",
			},
		},
		"a renamed destination keeps the old subset until traffic has settled": {
			func(s *story) {
				s.stands(toA)
				s.route(toARename)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
			},
			[]string{
				"0s: DestinationRule(a 2); Switching; again 3s", "3s: VirtualService; Programmed; again 3s", "6s: DestinationRule(a 1); Programmed", "6s: Programmed",
			},
		},
		"after a restart, every wait begins anew": {
			func(s *story) {
				s.stands(toA)
				s.route(toB)
				s.pass()
				s.after(2 * time.Second)
				s.restart()
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(2 * time.Second)
				s.restart()
				s.pass()
				s.after(3 * time.Second)
				s.pass()
			},
			[]string{
				"0s: " + b + "; Switching; again 3s", "2s: Switching; again 3s", "5s: VirtualService; Programmed; again 3s", "7s: Programmed; again 3s",
				"10s: delete DestinationRule(a), ServiceEntry(a); Programmed",
			},
		},
		"a lost answer of an upstream does not shorten the wait": {
			func(s *story) {
				s.stands(toA)
				s.route(toB)
				s.loseAnswer("ServiceEntry")
				s.pass()
				s.after(time.Second)
				s.pass()
				s.after(2 * time.Second)
				s.pass()
				s.after(time.Second)
				s.pass()
			},
			[]string{
				"0s: " + b + "; failed", "1s: DestinationRule(b 1); Switching; again 3s", "3s: Switching; again 1s", "4s: VirtualService; Programmed; again 3s",
			},
		},
		"a lost answer of the VirtualService does not shorten the wait": {
			func(s *story) {
				s.stands(toA)
				s.route(toB)
				s.pass()
				s.after(3 * time.Second)
				s.loseAnswer("VirtualService")
				s.pass()
				s.after(time.Second)
				s.pass()
				s.after(2 * time.Second)
				s.pass()
			},
			[]string{
				"0s: " + b + "; Switching; again 3s", "3s: VirtualService; failed", "4s: Programmed; again 2s",
				"6s: delete DestinationRule(a), ServiceEntry(a); Programmed",
			},
		},
		"an edit after a lost answer of the VirtualService moves traffic again, whatever the cache shows": {
			func(s *story) {
				s.stands(toA)
				s.route(toB)
				s.pass()
				s.after(3 * time.Second)
				s.loseAnswer("VirtualService")
				before := s.owned[s.key("VirtualService")]
				s.pass()
				s.owned[s.key("VirtualService")] = before // the cache lags behind
				s.route(toASlow)
				s.after(2 * time.Second)
				s.pass()
			},
			[]string{"0s: " + b + "; Switching; again 3s", "3s: VirtualService; failed", "5s: VirtualService; Programmed; again 3s"},
		},
		"an answer that comes late lengthens the wait": {
			func(s *story) {
				s.stands(toA)
				s.route(toB)
				s.slow = 10 * time.Second
				s.pass()
				s.slow = 0
				s.pass()
			},
			[]string{"0s: " + b + "; Switching; again 3s", "10s: Switching; again 3s"},
		},
		"a host that workloads call already is a move, although nothing stands": {
			func(s *story) {
				s.services = map[string]bool{"web": true}
				s.route(toA)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
			},
			[]string{"0s: " + a + "; Switching; again 3s", "3s: VirtualService; Programmed", "3s: Programmed"},
		},
		"a host in place gets its plain port right after the VirtualService": {
			func(s *story) {
				s.route(inPlace)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
			},
			[]string{"0s: " + a + "; Switching; again 3s", "3s: VirtualService | ServiceEntry(a:443,80-); Programmed", "3s: Programmed"},
		},
		"... also if the operator ends between the two": {
			func(s *story) {
				s.route(inPlace)
				s.pass()
				s.after(3 * time.Second)
				s.loseRequest("ServiceEntry")
				s.pass()
				s.restart()
				s.pass()
			},
			[]string{"0s: " + a + "; Switching; again 3s", "3s: VirtualService | ServiceEntry(a:443,80-); failed", "3s: ServiceEntry(a:443,80-); Programmed"},
		},
		"a host in place that is added to a route gets its port after the VirtualService": {
			func(s *story) { s.stands(toA); s.route(both); s.pass(); s.pass() },
			[]string{"0s: VirtualService | ServiceEntry(a:443,80-); Programmed", "0s: Programmed"},
		},
		"a host in place that is taken out of a route keeps its port until traffic has settled": {
			func(s *story) {
				s.stands(both)
				s.route(toA)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
			},
			[]string{"0s: VirtualService; Programmed; again 3s", "3s: ServiceEntry(a:443); Programmed", "3s: Programmed"},
		},
		"in place on another port, the new one comes after the VirtualService, and the old one stays until traffic has settled": {
			func(s *story) {
				s.stands(inPlace)
				s.route(inPlace8080)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
			},
			[]string{
				"0s: VirtualService | ServiceEntry(a:443,8080-,80-); Programmed; again 3s", "3s: ServiceEntry(a:443,8080-); Programmed", "3s: Programmed",
			},
		},
		"in place, a VirtualService that is refused is tried again without another settle time": {
			func(s *story) {
				s.route(inPlace)
				s.pass()
				s.after(3 * time.Second)
				s.loseRequest("VirtualService")
				s.pass()
				s.pass()
			},
			[]string{
				"0s: ServiceEntry(a:443), DestinationRule(a 1); Switching; again 3s", "3s: VirtualService | ServiceEntry(a:443,80-); failed",
				"3s: VirtualService | ServiceEntry(a:443,80-); Programmed",
			},
		},
		"in place from https to http, the port that leads nowhere goes as the open one comes": {
			func(s *story) {
				s.stands(inPlace)
				s.route(inPlain)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
			},
			[]string{
				"0s: ServiceEntry(a:80), DestinationRule(a 1), ServiceEntry(a:443); Switching; again 3s", "3s: VirtualService; Programmed; again 3s",
				"6s: delete DestinationRule(a), ServiceEntry(a); Programmed",
			},
		},
		"in place from http to https, it comes as the open one goes": {
			func(s *story) {
				s.stands(inPlain)
				s.route(inPlace)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
			},
			[]string{
				"0s: " + a + "; Switching; again 3s", "3s: VirtualService; Programmed; again 3s",
				"6s: ServiceEntry(a:443,80-); delete DestinationRule(a), ServiceEntry(a); Programmed", "6s: Programmed",
			},
		},
		"a pass-through route is written at once, and writes nothing at rest": {
			func(s *story) {
				s.route(passB)
				s.pass()
				s.pass()
				s.restart()
				s.pass()
			},
			[]string{"0s: ServiceEntry(a:443), ServiceEntry(*:443); Programmed", "0s: Programmed", "0s: Programmed"},
		},
		"hosts of a pass-through route come in place, and the last wildcard goes a settle time later": {
			func(s *story) {
				s.stands(passA)
				s.route(passB)
				s.pass()
				s.route(passA)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
			},
			[]string{
				"0s: ServiceEntry(a:443), ServiceEntry(*:443); Programmed", "0s: ServiceEntry(a:443); Programmed; again 3s",
				"3s: delete ServiceEntry; Programmed", "3s: Programmed",
			},
		},
		"a pass-through route on another port keeps the old entry until the new one has settled": {
			func(s *story) {
				s.stands(passA)
				s.route(passA8443)
				s.pass()
				s.after(2 * time.Second)
				s.restart()
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
			},
			[]string{
				"0s: ServiceEntry(a:8443); Programmed; again 3s", "2s: Programmed; again 3s", "5s: delete ServiceEntry(a); Programmed", "5s: Programmed",
			},
		},
		"a route that loses its destinations: the entry, settle, no VirtualService, settle, no upstreams": {
			func(s *story) {
				s.stands(inPlace)
				s.route(passA)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(2 * time.Second)
				s.pass()
				s.after(time.Second)
				s.pass()
				s.pass()
			},
			[]string{
				"0s: ServiceEntry(a:443); Programmed; again 3s", "3s: delete VirtualService; Programmed; again 3s", "5s: Programmed; again 1s",
				"6s: delete DestinationRule(a), ServiceEntry(a); Programmed", "6s: Programmed",
			},
		},
		"... and a restart in between begins the wait anew": {
			func(s *story) {
				s.stands(toA)
				s.route(passA)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(2 * time.Second)
				s.restart()
				s.pass()
				s.after(3 * time.Second)
				s.pass()
			},
			[]string{
				"0s: ServiceEntry(a:443); Programmed; again 3s", "3s: delete VirtualService; Programmed; again 3s", "5s: Programmed; again 3s",
				"8s: delete DestinationRule(a), ServiceEntry(a), Service; Programmed",
			},
		},
		"... and a suspended one keeps all": {
			func(s *story) { s.stands(toA); s.route(passA); s.suspended = true; s.pass() },
			[]string{"0s: Suspended"},
		},
		"a pass-through route that gets destinations under an alias: all at once, settle, no old entry": {
			func(s *story) {
				s.stands(passA)
				s.route(toA)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
			},
			[]string{"0s: Service, " + a + " | VirtualService; Programmed; again 3s", "3s: delete ServiceEntry(a); Programmed", "3s: Programmed"},
		},
		"a pass-through route that gets destinations in place: a move": {
			func(s *story) {
				s.stands(passA)
				s.route(inPlace)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
			},
			[]string{
				"0s: " + a + "; Switching; again 3s", "3s: VirtualService | ServiceEntry(a:443,80-); Programmed; again 3s",
				"6s: delete ServiceEntry(a); Programmed", "6s: Programmed",
			},
		},
		"a new route through a gateway onto nobody's alias is written in one pass": {
			func(s *story) {
				s.route(eastA)
				s.pass()
				s.pass()
				s.restart()
				s.pass()
			},
			[]string{
				"0s: Service, ServiceEntry(private:443,to a), DestinationRule(private 1), DestinationRule(east 1), Gateway, leg | VirtualService; Programmed",
				"0s: Programmed",
				"0s: Programmed",
			},
		},
		"a route that goes to a gateway: the whole way there settles before traffic moves": {
			func(s *story) {
				s.stands(toA)
				s.route(eastA)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
			},
			[]string{
				"0s: ServiceEntry(private:443,to a), DestinationRule(private 1), DestinationRule(east 1), Gateway, leg; Switching; again 3s",
				"3s: VirtualService; Programmed; again 3s",
				"6s: delete DestinationRule(a), ServiceEntry(a); Programmed",
				"6s: Programmed",
			},
		},
		"a route that leaves its gateway": {
			func(s *story) {
				s.stands(eastA)
				s.route(toA)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
			},
			[]string{
				"0s: ServiceEntry(a:443), DestinationRule(a 1); Switching; again 3s",
				"3s: VirtualService; Programmed; again 3s",
				"6s: delete Gateway, leg, DestinationRule(private), DestinationRule(east), ServiceEntry(private); Programmed",
				"6s: Programmed",
			},
		},
		"a route that goes from one gateway to another": {
			func(s *story) {
				s.stands(eastA)
				s.route(westA)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
			},
			[]string{
				"0s: ServiceEntry(private:443,to a), DestinationRule(private 1), DestinationRule(west 1), Gateway, leg; Switching; again 3s",
				"3s: VirtualService; Programmed; again 3s",
				"6s: delete Gateway, leg, DestinationRule(private), DestinationRule(east), ServiceEntry(private); Programmed",
				"6s: Programmed",
			},
		},
		"another upstream behind a gateway: a second leg beside the old one": {
			func(s *story) {
				s.stands(eastA)
				s.route(eastB)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
			},
			[]string{
				"0s: ServiceEntry(private:443,to b), DestinationRule(private 1), DestinationRule(east 2), Gateway, leg; Switching; again 3s",
				"3s: VirtualService; Programmed; again 3s",
				"6s: DestinationRule(east 1); delete Gateway, leg, DestinationRule(private), ServiceEntry(private); Programmed",
				"6s: Programmed",
			},
		},
		"rules behind a gateway change in place, at once": {
			func(s *story) {
				s.stands(eastA)
				s.route(eastASlow)
				s.pass()
				s.pass()
			},
			[]string{
				"0s: leg; Programmed",
				"0s: Programmed",
			},
		},
		"a move to a gateway waits for a second leg that was lost meanwhile": {
			func(s *story) {
				s.stands(toA)
				s.route(eastA)
				s.pass()
				s.after(2 * time.Second)
				s.lose("Gateway")
				s.pass()
				s.after(time.Second)
				s.pass()
				s.after(2 * time.Second)
				s.pass()
			},
			[]string{
				"0s: ServiceEntry(private:443,to a), DestinationRule(private 1), DestinationRule(east 1), Gateway, leg; Switching; again 3s",
				"2s: Gateway?; Switching; again 3s",
				"3s: Switching; again 2s",
				"5s: VirtualService; Programmed; again 3s",
			},
		},
		"a host in place goes to a gateway, and keeps its plain port": {
			func(s *story) {
				s.stands(inPlace)
				s.route(inPlaceEast)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
			},
			[]string{
				"0s: ServiceEntry(private:443,to a), DestinationRule(private 1), DestinationRule(east 1), Gateway, leg; Switching; again 3s",
				"3s: VirtualService; Programmed; again 3s",
				"6s: delete DestinationRule(a); Programmed",
				"6s: Programmed",
			},
		},
		"a host in place leaves its gateway": {
			func(s *story) {
				s.stands(inPlaceEast)
				s.route(inPlace)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
			},
			[]string{
				"0s: DestinationRule(a 1); Switching; again 3s",
				"3s: VirtualService; Programmed; again 3s",
				"6s: delete Gateway, leg, DestinationRule(private), DestinationRule(east), ServiceEntry(private); Programmed",
				"6s: Programmed",
			},
		},
		"a pass-through route through a gateway may find traffic: its entry comes last": {
			func(s *story) {
				s.route(passEast)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
				s.restart()
				s.pass()
			},
			[]string{
				"0s: ServiceEntry(private:443,to a), Gateway, leg; Switching; again 3s",
				"3s: ServiceEntry(a:443,to east); Programmed",
				"3s: Programmed",
				"3s: Programmed",
			},
		},
		"a pass-through route goes to a gateway": {
			func(s *story) {
				s.stands(passA)
				s.route(passEast)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
			},
			[]string{
				"0s: ServiceEntry(private:443,to a), Gateway, leg; Switching; again 3s",
				"3s: ServiceEntry(a:443,to east); Programmed",
				"6s: Programmed",
				"6s: Programmed",
			},
		},
		"a pass-through route leaves its gateway": {
			func(s *story) {
				s.stands(passEast)
				s.route(passA)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
			},
			[]string{
				"0s: ServiceEntry(a:443); Programmed; again 3s",
				"3s: delete Gateway, leg, ServiceEntry(private); Programmed",
				"6s: Programmed",
				"6s: Programmed",
			},
		},
		"a pass-through route goes from one gateway to another": {
			func(s *story) {
				s.stands(passEast)
				s.route(passWest)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
			},
			[]string{
				"0s: Gateway, leg; Switching; again 3s",
				"3s: ServiceEntry(a:443,to west); Programmed; again 3s",
				"6s: delete Gateway, leg; Programmed",
				"6s: Programmed",
			},
		},
		"a host of a pass-through route through a gateway comes": {
			func(s *story) {
				s.stands(passEast)
				s.route(passEastB)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
			},
			[]string{
				"0s: ServiceEntry(private:443,to b), Gateway, leg; Switching; again 3s",
				"3s: ServiceEntry(a:443,to east); Programmed",
				"6s: Programmed",
				"6s: Programmed",
			},
		},
		"a host of a pass-through route through a gateway goes": {
			func(s *story) {
				s.stands(passEastB)
				s.route(passEast)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
			},
			[]string{
				"0s: ServiceEntry(a:443,to east); Programmed; again 3s",
				"3s: delete Gateway, leg, ServiceEntry(private); Programmed",
				"6s: Programmed",
				"6s: Programmed",
			},
		},
		"a pass-through route through a gateway that gets destinations": {
			func(s *story) {
				s.stands(passEast)
				s.route(eastA)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
			},
			[]string{
				"0s: Service, ServiceEntry(private:443,to a), DestinationRule(private 1), DestinationRule(east 1), Gateway, leg | VirtualService; Programmed; again 3s",
				"3s: delete Gateway, leg, ServiceEntry(private), ServiceEntry(a); Programmed",
				"6s: Programmed",
				"6s: Programmed",
			},
		},
		"a route through a gateway that loses its destinations": {
			func(s *story) {
				s.stands(eastA)
				s.route(passEast)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
			},
			[]string{
				"0s: ServiceEntry(private:443,to a), Gateway, leg; Switching; again 3s",
				"3s: ServiceEntry(a:443,to east); Programmed; again 3s",
				"6s: delete VirtualService; Programmed; again 3s",
				"6s: Programmed; again 3s",
				"9s: delete Gateway, leg, DestinationRule(private), DestinationRule(east), ServiceEntry(private), Service; Programmed",
				"12s: Programmed",
			},
		},
		"a suspended route that waits for its gateway to settle says what differs": {
			func(s *story) {
				s.stands(passA)
				s.suspended = true
				s.route(passEast)
				s.pass()
			},
			[]string{
				"0s: Suspended",
			},
		},
		"an entry of a pass-through route that another client deletes comes back": {
			func(s *story) {
				s.stands(passA)
				s.pass()
				s.owned = nil
				s.owned = map[translate.Key]translate.Object{}
				s.pass()
			},
			[]string{"0s: Programmed", "0s: ServiceEntry(a:443)?; Programmed"},
		},
		"a new TCP route is written in one pass, upstreams first": {
			func(s *story) { s.route(tcpA); s.pass(); s.pass() },
			[]string{"0s: Service, " + tcp + " | VirtualService; Programmed", "0s: Programmed"},
		},
		"a TCP route at rest writes nothing, after a restart too": {
			func(s *story) { s.stands(tcpA); s.pass(); s.restart(); s.pass() },
			[]string{"0s: Programmed", "0s: Programmed"},
		},
		"TLS settings and weights of a TCP route change in place, at once": {
			func(s *story) {
				s.stands(tlsA)
				s.route(tlsASNI)
				s.pass()
				s.lose("ServiceEntry")
				s.lose("DestinationRule")
				s.stands(tcpTwo)
				s.route(tcpTwoOne)
				s.pass()
			},
			[]string{"0s: DestinationRule(" + tlsName + " 1); Programmed", "0s: VirtualService; Programmed"},
		},
		"another destination of a TCP route is a move": {
			func(s *story) {
				s.stands(tcpA)
				s.route(tcpTwo)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.route(tcpA)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
			},
			[]string{
				"0s: DestinationRule(" + tcpName + " 2); Switching; again 3s", "3s: VirtualService; Programmed", "3s: VirtualService; Programmed; again 3s",
				"6s: DestinationRule(" + tcpName + " 1); Programmed",
			},
		},
		"TLS where there was none is a move: no connection meets a subset that it is not meant for": {
			func(s *story) {
				s.stands(tcpA)
				s.route(tlsA)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
			},
			[]string{
				"0s: " + tls + "; Switching; again 3s", "3s: VirtualService; Programmed; again 3s",
				"6s: delete DestinationRule(" + tcpName + "), ServiceEntry(" + tcpName + "); Programmed",
			},
		},
		"a route that turns from HTTP to TCP is a move": {
			func(s *story) {
				s.stands(toA)
				s.route(tcpA)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
			},
			[]string{
				"0s: Service, " + tcp + "; Switching; again 3s", "3s: VirtualService; Programmed; again 3s",
				"6s: delete DestinationRule(a), ServiceEntry(a); Programmed",
			},
		},
		"... and so is the way back": {
			func(s *story) {
				s.stands(tcpA)
				s.route(toA)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
			},
			[]string{
				"0s: Service, " + a + "; Switching; again 3s", "3s: VirtualService; Programmed; again 3s",
				"6s: delete DestinationRule(" + tcpName + "), ServiceEntry(" + tcpName + "); Programmed",
			},
		},
		"a TCP route whose VirtualService has lost its routes may have sent connections anywhere": {
			func(s *story) {
				s.stands(tcpA)
				s.owned[s.key("VirtualService")].(*networkingv1.VirtualService).Spec.Tcp = nil
				s.route(tlsA)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
			},
			[]string{
				"0s: " + tls + "; Switching; again 3s", "3s: VirtualService; Programmed; again 3s",
			},
		},
		"an adopted VirtualService carries traffic": {
			func(s *story) {
				s.handOver(toB, "VirtualService")
				s.route(toA)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
			},
			[]string{"0s: Service, " + a + "; Switching; again 3s", "3s: VirtualService!; Programmed"},
		},
		"adopted upstreams keep what traffic may use": {
			func(s *story) {
				s.handOver(toARename, "ServiceEntry", "DestinationRule", "VirtualService")
				s.route(toA)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
			},
			[]string{
				"0s: Service, ServiceEntry(a:443)!, DestinationRule(a 2)!; Switching; again 3s", "3s: VirtualService!; Programmed; again 3s",
				"6s: DestinationRule(a 1); Programmed",
			},
		},
		"objects of other names that were handed over go when traffic has moved, and until then the route's rule decides as they do": {
			func(s *story) {
				s.handOver(toB, "VirtualService")
				s.replaces("old", "a.example.com")
				s.route(toA)
				s.pass()
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
			},
			[]string{
				"0s: Service, ServiceEntry(a:443,80), DestinationRule(a 2, settings); Switching; again 3s", "0s: Switching; again 3s",
				"3s: VirtualService!; Programmed; again 3s", "3s: Programmed; again 3s",
				"6s: ServiceEntry(a:443), DestinationRule(a 1); delete ServiceEntry(old), DestinationRule(old); Programmed", "6s: Programmed",
			},
		},
		"... in place": {
			func(s *story) {
				s.replaces("old", "a.example.com")
				s.route(inPlace)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.pass()
			},
			[]string{
				"0s: ServiceEntry(a:443,80), DestinationRule(a 2, settings); Switching; again 3s",
				"3s: VirtualService; Programmed; again 3s", "3s: Programmed; again 3s",
				"6s: ServiceEntry(a:443,80-), DestinationRule(a 1); delete ServiceEntry(old), DestinationRule(old); Programmed", "6s: Programmed",
			},
		},
		"... of another host decide nothing": {
			func(s *story) {
				s.handOver(toB, "VirtualService")
				s.replaces("old", "b.example.com")
				s.route(toA)
				s.pass()
			},
			[]string{"0s: Service, ServiceEntry(a:443), DestinationRule(a 1); Switching; again 3s"},
		},
		"... decide nothing either if Istio does not ask them": {
			func(s *story) {
				s.handOver(toB, "VirtualService")
				s.replaces("old", "a.example.com")
				s.inForce = nil
				s.route(toA)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
			},
			[]string{
				"0s: Service, ServiceEntry(a:443), DestinationRule(a 1); Switching; again 3s", "3s: VirtualService!; Programmed; again 3s",
				"6s: delete ServiceEntry(old), DestinationRule(old); Programmed",
			},
		},
		"adopted objects that are as the route asks are written once": {
			func(s *story) {
				s.handOver(toA, "Service", "ServiceEntry", "DestinationRule", "VirtualService")
				s.route(toA)
				s.pass()
				s.pass()
			},
			[]string{"0s: Service!, ServiceEntry(a:443)!, DestinationRule(a 1)! | VirtualService!; Programmed", "0s: Programmed"},
		},
		"a VirtualService that cannot be read may send requests to what is left over": {
			func(s *story) {
				s.stands(toA)
				s.owned[s.key("VirtualService")].(*networkingv1.VirtualService).Spec.Reset()
				s.route(toB)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
				s.after(3 * time.Second)
				s.pass()
			},
			[]string{
				"0s: " + b + "; Switching; again 3s", "3s: VirtualService; Programmed; again 3s",
				"6s: delete DestinationRule(a), ServiceEntry(a); Programmed",
			},
		},
		"an object of an earlier route is deleted first": {
			func(s *story) {
				s.route(toA)
				s.earlier("VirtualService", s.began.Add(-time.Second))
				s.pass()
			},
			[]string{"0s: delete VirtualService; Pending; again 30s"},
		},
		"an object of the same second may be of a later route, but not when the cache cannot be that late": {
			func(s *story) {
				s.route(toA)
				s.earlier("VirtualService", s.began)
				s.pass()
				s.after(30 * time.Second)
				s.pass()
				s.after(1)
				s.pass()
			},
			[]string{"0s: Pending; again 30s", "30s: Pending; again 30s", "30.000000001s: delete VirtualService; Pending; again 30s"},
		},
		"a withdrawn route loses everything at once, the VirtualService first": {
			func(s *story) { s.stands(toA); s.withdrawn = true; s.pass() },
			[]string{"0s: delete VirtualService, DestinationRule(a), ServiceEntry(a), Service; NotAccepted"},
		},
		"... of two legs, the VirtualService of the sidecars first and that of the gateway after its Gateway": {
			func(s *story) { s.stands(eastA); s.withdrawn = true; s.pass() },
			[]string{"0s: delete VirtualService, Gateway, leg, DestinationRule(private), DestinationRule(east), ServiceEntry(private), Service; NotAccepted"},
		},
		"... of a host that passes through a gateway": {
			func(s *story) { s.stands(passEast); s.withdrawn = true; s.pass() },
			[]string{"0s: delete Gateway, leg, ServiceEntry(private), ServiceEntry(a); NotAccepted"},
		},
		"a suspended route writes nothing and says what differs": {
			func(s *story) {
				s.stands(toA)
				s.suspended = true
				s.pass()
				s.route(toB)
				s.pass()
				s.route(toA)
				s.lose("DestinationRule")
				s.pass()
			},
			[]string{"0s: Suspended, in sync", "0s: Suspended", "0s: Suspended"},
		},
		"a repair is at once, and from the third on there is a pause after each": {
			func(s *story) {
				s.stands(toA)
				s.pass()
				for range 3 {
					s.lose("VirtualService")
					s.pass()
				}
				s.lose("VirtualService")
				s.pass()
				s.after(250 * time.Millisecond)
				s.pass()
				s.after(500 * time.Millisecond)
				s.pass()
			},
			[]string{
				"0s: Programmed", "0s: VirtualService?; Programmed", "0s: VirtualService?; Programmed", "0s: VirtualService?; Pending, paused; again 250ms",
				"0s: Pending, paused; again 250ms", "250ms: VirtualService?; Pending, paused; again 500ms", "750ms: Programmed",
			},
		},
		"a pause that ends within the pass hides no repair": {
			func(s *story) {
				s.stands(toA)
				s.pass()
				for range 3 {
					s.lose("VirtualService")
					s.pass()
				}
				s.lose("VirtualService")
				s.after(250*time.Millisecond - 1)
				s.pass()
				s.after(1)
				s.pass()
			},
			[]string{
				"0s: Programmed", "0s: VirtualService?; Programmed", "0s: VirtualService?; Programmed", "0s: VirtualService?; Pending, paused; again 250ms",
				"249.999999ms: Pending, paused; again 1ns", "250ms: VirtualService?; Pending, paused; again 500ms",
			},
		},
		"objects that go while traffic moves are repaired with the same pauses": {
			func(s *story) {
				s.stands(toA)
				s.route(toB)
				s.pass()
				for range 3 {
					s.loseHost("b.example.com")
					s.pass()
				}
				s.loseHost("b.example.com")
				s.pass()
			},
			[]string{
				"0s: " + b + "; Switching; again 3s",
				"0s: ServiceEntry(b:443)?, DestinationRule(b 1)?; Switching; again 3s", "0s: ServiceEntry(b:443)?, DestinationRule(b 1)?; Switching; again 3s",
				"0s: ServiceEntry(b:443)?, DestinationRule(b 1)?; Pending, paused; again 250ms", "0s: Pending, paused; again 250ms",
			},
		},
		"an edit ends the pause": {
			func(s *story) {
				s.stands(toA)
				s.pass()
				for range 3 {
					s.lose("VirtualService")
					s.pass()
				}
				s.route(toASlow)
				s.pass()
			},
			[]string{
				"0s: Programmed", "0s: VirtualService?; Programmed", "0s: VirtualService?; Programmed", "0s: VirtualService?; Pending, paused; again 250ms",
				"0s: VirtualService; Programmed",
			},
		},
		"a lost VirtualService does not wait for upstreams that stand": {
			func(s *story) { s.stands(inPlace); s.pass(); s.after(time.Hour); s.lose("VirtualService"); s.pass() },
			[]string{"0s: Programmed", "1h0m0s: VirtualService?; Programmed"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &story{T: t, owned: map[translate.Key]translate.Object{}, theirs: map[translate.Key]translate.Object{}}
			s.now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			s.began = s.now
			s.moments.Began = s.now
			c.story(s)
			if diff := cmp.Diff(c.want, s.plans); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// story is a route and what stands for it, in a cluster that does what the plan says.
type story struct {
	*testing.T
	began, now time.Time
	slow       time.Duration // of every answer
	moments    plan.Moments
	owned      map[translate.Key]translate.Object
	theirs     map[translate.Key]translate.Object // that were handed over
	replaced   map[translate.Key]translate.Object // that were handed over, and have other names
	inForce    []translate.Object                 // those of them that Istio asks
	gone       map[translate.Key]plan.Earlier
	services   map[string]bool // that exist with pods

	spec                    string
	suspended, withdrawn    bool
	lostAnswer, lostRequest string
	plans                   []string
}

func (s *story) after(d time.Duration) { s.now = s.now.Add(d) }
func (s *story) route(spec string)     { s.spec = spec }
func (s *story) restart()              { s.moments = plan.Moments{Began: s.now} }

// loseAnswer and loseRequest let the next write of a kind fail: after the API server has committed it, or before.
func (s *story) loseAnswer(kind string)  { s.lostAnswer = kind }
func (s *story) loseRequest(kind string) { s.lostRequest = kind }

// stands lets the route's objects stand since long ago.
func (s *story) stands(spec string) {
	s.route(spec)
	for _, item := range s.translate().Objects {
		s.put(item.Object)
	}
	s.moments.Began = s.now.Add(-time.Hour)
}

// handOver hands over objects of some kinds that do what a spec asks for.
func (s *story) handOver(spec string, kinds ...string) {
	s.route(spec)
	for _, item := range s.translate().Objects {
		if key := translate.KeyOf(item.Object); slices.Contains(kinds, key.Kind) {
			s.theirs[key] = item.Object
		}
	}
}

// replaces hands over a ServiceEntry, and a DestinationRule with a subset and with settings for the whole host.
func (s *story) replaces(name, host string) {
	meta := metav1.ObjectMeta{Namespace: "demo", Name: name, UID: types.UID(name)}
	entry := &networkingv1.ServiceEntry{ObjectMeta: meta}
	entry.Spec.Hosts = []string{host}
	entry.Spec.Ports = []*istio.ServicePort{{Number: 80, Name: "plain", Protocol: "HTTP", TargetPort: 443}, {Number: 443, Name: "tls", Protocol: "HTTPS"}}
	rule := &networkingv1.DestinationRule{ObjectMeta: meta}
	rule.Spec.Host, rule.Spec.TrafficPolicy = host, &istio.TrafficPolicy{Tls: &istio.ClientTLSSettings{Mode: istio.ClientTLSSettings_SIMPLE}}
	rule.Spec.Subsets = []*istio.Subset{{Name: "old"}}
	s.replaced = map[translate.Key]translate.Object{translate.KeyOf(entry): entry, translate.KeyOf(rule): rule}
	s.inForce = []translate.Object{entry, rule}
}

func (s *story) put(object translate.Object) {
	live := object.DeepCopyObject().(translate.Object)
	live.SetUID(types.UID(object.GetName()))
	s.owned[translate.KeyOf(object)] = live
	delete(s.theirs, translate.KeyOf(object))
}

func (s *story) lose(kind string) {
	for key := range s.owned {
		if key.Kind == kind {
			delete(s.owned, key)
		}
	}
}

// key is that of the only object of a kind.
func (s *story) key(kind string) translate.Key {
	for key := range s.owned {
		if key.Kind == kind {
			return key
		}
	}
	return translate.Key{}
}

func (s *story) loseHost(host string) {
	for key, object := range s.owned {
		if hostOf(object) == host {
			delete(s.owned, key)
		}
	}
}

func (s *story) earlier(kind string, created time.Time) {
	s.gone = map[translate.Key]plan.Earlier{}
	for _, item := range s.translate().Objects {
		if key := translate.KeyOf(item.Object); key.Kind == kind {
			s.gone[key] = plan.Earlier{UID: "earlier", Created: created}
		}
	}
}

func (s *story) translate() *translate.Translation {
	s.Helper()
	route := &v1alpha1.ExternalRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "web"}}
	if err := yaml.UnmarshalStrict([]byte(s.spec), &route.Spec); err != nil {
		s.Fatal(err)
	}
	mesh := translate.Mesh{ClusterDomain: translate.DefaultClusterDomain, Services: map[types.NamespacedName]translate.Service{}}
	for name := range s.services {
		mesh.Services[types.NamespacedName{Namespace: "demo", Name: name}] = translate.Service{
			Type: corev1.ServiceTypeClusterIP, HasSelector: true, Ports: []corev1.ServicePort{{Name: "http", Port: 80}},
		}
	}
	for _, name := range []string{"east", "west"} {
		mesh.Services[types.NamespacedName{Namespace: "gateways", Name: name}] = translate.Service{
			HasSelector: true, Selector: map[string]string{"gateway": name}, Ports: []corev1.ServicePort{{Name: "https", Port: 443}},
		}
	}
	translation, refusal := translate.Translate(route, mesh)
	if refusal != nil {
		s.Fatal(refusal.Message())
	}
	return translation
}

// pass makes a plan, does what it says, and tells it.
func (s *story) pass() {
	s.Helper()
	translation := s.translate()
	wanted := plan.Wanted{
		Objects: translation.Objects, OntoTraffic: translation.OntoTraffic(), Suspended: s.suspended, Withdrawn: s.withdrawn, Settle: settle,
	}
	standing := plan.Standing{Owned: s.owned, Earlier: s.gone, Adopted: maps.Clone(s.theirs), Replaced: s.replaced, InForce: s.inForce, Created: s.began}
	p := plan.Next(wanted, standing, &s.moments, s.now)
	at := s.now
	failed := s.execute(p)
	s.plans = append(s.plans, s.describe(p, standing, at, failed))
}

func (s *story) execute(p plan.Plan) (failed bool) {
	if !s.suspended {
		s.moments.Start(p, s.now)
	}
	s.now = s.now.Add(s.slow)
	failed = false
	var stage translate.Stage
	for _, step := range p.Apply {
		if failed && step.Stage != stage {
			return true
		}
		stage = step.Stage
		var err error
		switch kind := step.Key().Kind; {
		case kind == s.lostRequest && (kind != "ServiceEntry" || stage == plan.StagePorts):
			err, s.lostRequest = errors.New("connection refused"), ""
		case kind == s.lostAnswer:
			err, s.lostAnswer = errors.New("connection reset"), ""
			s.put(step.Object)
		default:
			if s.slow > 0 || !failed || kind != "DestinationRule" { // as if it were sent after the one that failed
				s.put(step.Object)
			}
		}
		if failed && err == nil {
			delete(s.owned, step.Key())
			err = errors.New("not sent")
		}
		s.moments.Returned(p, step, err, s.now)
		failed = failed || err != nil
	}
	if failed {
		return true
	}
	for _, d := range p.Delete {
		delete(s.owned, d.Key)
		delete(s.replaced, d.Key)
		s.moments.Deleted(d.Key, nil, s.now)
	}
	return false
}

func (s *story) describe(p plan.Plan, before plan.Standing, at time.Time, failed bool) string {
	stages := make([][]string, 3)
	for _, step := range p.Apply {
		name := short(step.Object)
		if step.Repair {
			name += "?"
		}
		if before.Adopted[step.Key()] != nil && step.Exists {
			name += "!"
		}
		stages[step.Stage] = append(stages[step.Stage], name)
	}
	var parts, writes []string
	for _, stage := range stages {
		if len(stage) > 0 {
			writes = append(writes, strings.Join(stage, ", "))
		}
	}
	if len(writes) > 0 {
		parts = append(parts, strings.Join(writes, " | "))
	}
	var deletions []string
	for _, d := range p.Delete {
		name := d.Kind
		if host := s.hosts()[d.Key]; strings.HasSuffix(host, ".internal") || strings.HasSuffix(host, ".example.com") || strings.HasSuffix(host, ".local") {
			name += "(" + label(host) + ")"
		}
		if d.UID == types.UID("old") {
			name += "(old)"
		}
		if d.Kind == "VirtualService" && d.Name != "web" {
			name = "leg"
		}
		deletions = append(deletions, name)
	}
	if len(deletions) > 0 {
		parts = append(parts, "delete "+strings.Join(deletions, ", "))
	}
	if failed {
		return fmt.Sprintf("%s: %s", at.Sub(s.began), strings.Join(append(parts, "failed"), "; "))
	}
	reason := p.Condition.Reason
	switch {
	case p.Paused:
		reason += ", paused"
	case p.Condition.Programmed && reason == v1alpha1.ReasonSuspended:
		reason += ", in sync"
	}
	if p.Condition.Message == "" {
		s.Errorf("%s has no message", reason)
	}
	parts = append(parts, reason)
	if p.Again > 0 {
		parts = append(parts, "again "+p.Again.String())
	}
	return fmt.Sprintf("%s: %s", at.Sub(s.began), strings.Join(parts, "; "))
}

// hosts are the hosts of all objects that any of the specs gives.
func (s *story) hosts() map[translate.Key]string {
	hosts := map[translate.Key]string{}
	before := s.spec
	for _, spec := range []string{
		toA, toB, inPlace, inPlain, passA, passA8443, tcpA, tlsA, eastA, eastB, westA, inPlaceEast, passEastB, passWest,
	} {
		s.spec = spec
		for _, item := range s.translate().Objects {
			hosts[translate.KeyOf(item.Object)] = hostOf(item.Object)
		}
	}
	s.spec = before
	return hosts
}

func hostOf(object translate.Object) string {
	switch o := object.(type) {
	case *networkingv1.ServiceEntry:
		return o.Spec.Hosts[0]
	case *networkingv1.DestinationRule:
		return o.Spec.Host
	}
	return ""
}

// short names an object with what matters of it: an entry's ports, those that lead nowhere with a dash, or how many subsets a rule has.
func short(object translate.Object) string {
	host := label(hostOf(object))
	switch o := object.(type) {
	case *networkingv1.ServiceEntry:
		var ports []string
		for _, p := range o.Spec.Ports {
			port := fmt.Sprint(p.Number)
			if translate.LeadsNowhere(p) {
				port += "-"
			}
			ports = append(ports, port)
		}
		for _, e := range o.Spec.Endpoints {
			ports = append(ports, "to "+label(e.Address))
		}
		return fmt.Sprintf("ServiceEntry(%s:%s)", host, strings.Join(ports, ","))
	case *networkingv1.DestinationRule:
		if o.Spec.TrafficPolicy.GetTls() != nil {
			return fmt.Sprintf("DestinationRule(%s %d, settings)", host, len(o.Spec.Subsets))
		}
		return fmt.Sprintf("DestinationRule(%s %d)", host, len(o.Spec.Subsets))
	}
	if v, is := object.(*networkingv1.VirtualService); is && translate.IsSecondLeg(v) {
		return "leg"
	}
	return translate.KeyOf(object).Kind
}

// label is the first one of a host, or that the host is private.
func label(host string) string {
	first, _, _ := strings.Cut(host, ".")
	if strings.HasSuffix(host, ".externalroute.internal") && first != tcpName && first != tlsName {
		return "private"
	}
	return first
}

// A row of failures ends with a success, and not with the time that each of them takes.
func TestFailuresThatComeSlowlyAreARow(t *testing.T) {
	var failures plan.Backoff
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for range 3 {
		now = now.Add(time.Hour)
		failures.Fail(now)
	}
	if !failures.Paused(now) {
		t.Error("the third failure in a row starts no pause")
	}
}

// Of several rules that were handed over, the route's decides as the first does that decides anything, and has the subsets of all.
func TestFirstRuleInForceDecides(t *testing.T) {
	rule := func(name, sni string) *networkingv1.DestinationRule {
		r := &networkingv1.DestinationRule{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: name}}
		r.Spec.Host, r.Spec.Subsets = "a.example.com", []*istio.Subset{{Name: name}}
		if sni != "" {
			r.Spec.TrafficPolicy = &istio.TrafficPolicy{Tls: &istio.ClientTLSSettings{Mode: istio.ClientTLSSettings_SIMPLE, Sni: sni}}
		}
		return r
	}
	s := &story{T: t, spec: toA}
	wanted := s.translate()
	standing := plan.Standing{Replaced: map[translate.Key]translate.Object{}}
	for _, r := range []*networkingv1.DestinationRule{rule("subsets", ""), rule("second", "second"), rule("third", "third")} {
		standing.Replaced[translate.KeyOf(r)] = r
		standing.InForce = append(standing.InForce, r)
	}
	p := plan.Next(plan.Wanted{Objects: wanted.Objects, OntoTraffic: true, Settle: settle}, standing, &plan.Moments{}, time.Unix(1000, 0))
	var got []string
	for _, step := range p.Apply {
		if r, is := step.Object.(*networkingv1.DestinationRule); is {
			got = append(got, r.Spec.TrafficPolicy.GetTls().GetSni())
			for _, subset := range r.Spec.Subsets[1:] {
				got = append(got, subset.Name)
			}
		}
	}
	if diff := cmp.Diff([]string{"second", "subsets", "second", "third"}, got); diff != "" {
		t.Error(diff)
	}
}
