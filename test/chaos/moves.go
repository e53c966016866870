//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/externalroute/externalroute/internal/translate"
)

// change is a committed write of one of Istio's objects.
type change struct {
	received       time.Time // by the API server, which committed it later
	byOperator     bool
	created        bool // the name was free before
	resource, name string
	object         *standing // nil after a deletion
}

// standing is the part of an object that a move is about: what it provides to VirtualServices, or what it needs as a VirtualService.
type standing struct {
	owner    types.UID
	hosts    []string // of a VirtualService
	parts    map[string]bool
	provides bool
}

// changeOf reads an event of the audit log. It is nil if the event committed none of Istio's objects.
func changeOf(event *auditv1.Event) (*change, error) {
	o, status := event.ObjectRef, event.ResponseStatus
	// A collection, which has no name, goes with its namespace.
	if o.APIGroup != networkingv1.SchemeGroupVersion.Group || o.Name == "" || status == nil || status.Code >= http.StatusBadRequest || strings.Contains(event.RequestURI, "dryRun=") {
		return nil, nil //nolint:nilnil // see above
	}
	c := &change{
		received: event.RequestReceivedTimestamp.Time, byOperator: event.User.Username == operatorAccount, created: status.Code == http.StatusCreated,
		resource: o.Resource, name: o.Name,
	}
	if event.Verb == "delete" || event.ResponseObject == nil {
		return c, nil
	}
	var err error
	c.object, err = standingOf(o.Resource, event.ResponseObject.Raw)
	return c, err
}

func standingOf(resource string, raw []byte) (*standing, error) {
	s := &standing{parts: map[string]bool{}, provides: true}
	var object metav1.Object
	switch resource {
	case "serviceentries":
		var entry networkingv1.ServiceEntry
		if err := json.Unmarshal(raw, &entry); err != nil {
			return nil, err
		}
		for _, port := range entry.Spec.Ports {
			s.parts[portOf(entry.Spec.Hosts[0], port.Number)] = true
		}
		object = &entry
	case "destinationrules":
		var rule networkingv1.DestinationRule
		if err := json.Unmarshal(raw, &rule); err != nil {
			return nil, err
		}
		for _, subset := range rule.Spec.Subsets {
			s.parts[subsetOf(rule.Spec.Host, subset.Name)] = true
		}
		object = &rule
	case "virtualservices":
		var service networkingv1.VirtualService
		if err := json.Unmarshal(raw, &service); err != nil {
			return nil, err
		}
		if isSecondLeg(&service) { // what it leads to stands and goes with it
			for _, host := range service.Spec.Hosts {
				s.parts[legOf(host)] = true
			}
		} else {
			s.hosts, s.parts, s.provides = service.Spec.Hosts, needs(&service.Spec), false
		}
		object = &service
	default:
		return nil, nil //nolint:nilnil // the operator writes none of those
	}
	if owner := metav1.GetControllerOfNoCopy(object); owner != nil {
		s.owner = owner.UID
	}
	return s, nil
}

func portOf(host string, number uint32) string { return fmt.Sprintf("port %d of %s", number, host) }

func subsetOf(host, name string) string { return fmt.Sprintf("subset %s of %s", name, host) }

// needs is what a VirtualService leads to.
func needs(spec *istio.VirtualService) map[string]bool {
	parts := map[string]bool{}
	add := func(d *istio.Destination) {
		if !isGateway(d) {
			parts[portOf(d.Host, d.Port.GetNumber())] = true
		}
		if d.Subset != "" {
			parts[subsetOf(d.Host, d.Subset)] = true
		}
	}
	for _, rule := range spec.Http {
		for _, to := range rule.Route {
			add(to.Destination)
			if isGateway(to.Destination) {
				parts[legOf(rule.Rewrite.GetAuthority())] = true
			}
		}
	}
	for _, rule := range spec.Tcp {
		for _, to := range rule.Route {
			add(to.Destination)
		}
	}
	for _, rule := range spec.Tls {
		for _, to := range rule.Route {
			add(to.Destination)
		}
	}
	return parts
}

// isSecondLeg goes by the name: another client may write any gateways into a VirtualService.
func isSecondLeg(service *networkingv1.VirtualService) bool {
	owner := metav1.GetControllerOfNoCopy(service)
	return owner != nil && owner.Name != service.Name
}

// isGateway says whether a destination is the Service of an egress gateway, which no route generates.
func isGateway(d *istio.Destination) bool {
	return strings.HasSuffix(d.Host, "."+gatewayNamespace+".svc."+translate.DefaultClusterDomain)
}

func legOf(host string) string { return "second leg " + host }

// moves replays the writes into a namespace. All times are those at which requests arrived, so that no finding depends on when they were committed.
type moves struct {
	settle   time.Duration
	objects  map[string]*standing
	routes   map[types.UID]*moving
	touched  map[string]bool // objects that another user changed last
	findings []finding
}

// moving is one route.
type moving struct {
	since map[string]time.Time // since when a part has been provided without a break; zero if the log does not say
	left  map[string]time.Time // when the VirtualService stopped leading to a part
}

// auditMoves finds traffic that the operator led to parts of upstreams before they had settled, and parts that it removed before traffic had left them.
func auditMoves(changes []change, settle time.Duration) []finding {
	m := &moves{settle: settle, objects: map[string]*standing{}, routes: map[types.UID]*moving{}, touched: map[string]bool{}}
	slices.SortStableFunc(changes, func(a, b change) int { return a.received.Compare(b.received) })
	for i := range changes {
		c := &changes[i]
		key := c.resource + "/" + c.name
		before := m.objects[key]
		if before != nil && (c.created || c.object != nil && c.object.owner != before.owner) { // the log lacks the end of the one before, or it changed hands
			delete(m.objects, key)
			m.remove(key, before, before.parts, &change{received: c.received})
			before = nil
		}
		m.objects[key] = c.object
		if c.object != nil {
			m.add(key, before, c)
		}
		m.touched[key] = !c.byOperator
		if before != nil {
			m.remove(key, before, without(before.parts, c.object.all()), c)
		}
	}
	return inOrder(m.findings)
}

func (s *standing) all() map[string]bool {
	if s == nil {
		return nil
	}
	return s.parts
}

// add notes what an object has and had not before, and whether a VirtualService may lead there.
func (m *moves) add(key string, before *standing, c *change) {
	route := m.of(c.object.owner)
	for part := range without(c.object.parts, before.all()) {
		since, provided := route.since[part]
		switch {
		case c.object.provides && !provided && before == nil && !c.created:
			route.since[part] = time.Time{}
		case c.object.provides && !provided:
			route.since[part] = c.received
		case !c.object.provides:
			delete(route.left, part)
			ontoTraffic := before != nil || c.created && slices.ContainsFunc(c.object.hosts, isCalledAnyway)
			// What another user has just changed, the operator brings back at once; its cache may even show the change before that one.
			if early := m.settle - c.received.Sub(since); c.byOperator && !m.touched[key] && ontoTraffic && provided && early > 0 {
				m.find("%s leads to %s %s before it has settled", key, part, early)
			}
		}
	}
}

// remove notes what an object has no longer, and whether requests may still go there.
func (m *moves) remove(key string, before *standing, parts map[string]bool, c *change) {
	route := m.of(before.owner)
	for part := range parts {
		if !before.provides {
			route.left[part] = c.received
			continue
		}
		if m.any(before.owner, true, part) {
			continue
		}
		delete(route.since, part)
		if !c.byOperator || !m.leads(before.owner) {
			continue
		}
		left, was := route.left[part]
		if early := m.settle - c.received.Sub(left); was && early > 0 {
			m.find("%s loses %s %s before traffic has settled elsewhere", key, part, early)
		}
		if m.any(before.owner, false, part) {
			m.find("%s loses %s, which a VirtualService leads to", key, part)
		}
	}
}

// any says whether any object of a route provides a part, or needs it.
func (m *moves) any(owner types.UID, provides bool, part string) bool {
	for _, object := range m.objects {
		if object != nil && object.owner == owner && object.provides == provides && object.parts[part] {
			return true
		}
	}
	return false
}

// leads says whether a route has a VirtualService: without one, the route is gone and its objects follow.
func (m *moves) leads(owner types.UID) bool {
	for _, object := range m.objects {
		if object != nil && object.owner == owner && !object.provides {
			return true
		}
	}
	return false
}

func (m *moves) of(owner types.UID) *moving {
	if m.routes[owner] == nil {
		m.routes[owner] = &moving{since: map[string]time.Time{}, left: map[string]time.Time{}}
	}
	return m.routes[owner]
}

func (m *moves) find(format string, args ...any) {
	m.findings = append(m.findings, finding{hasty, fmt.Sprintf(format, args...)})
}

// isCalledAnyway says whether workloads may call a host that no route serves: a Service of another user has pods, and a host in place exists outside.
func isCalledAnyway(host string) bool {
	return strings.HasPrefix(host, takenPrefix) || strings.Contains(host, ".")
}

func without(parts, others map[string]bool) map[string]bool {
	rest := maps.Clone(parts)
	maps.DeleteFunc(rest, func(part string, _ bool) bool { return others[part] })
	return rest
}
