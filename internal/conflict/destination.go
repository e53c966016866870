package conflict

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// ServiceEntry is what matters of a ServiceEntry beside another one of its hosts in its namespace.
type ServiceEntry struct {
	Identity
	// Kind is the kind of the object of which Istio makes the ServiceEntry. Empty means that it is one.
	Kind  string
	Hosts []string
	// Ports are in the order of their numbers.
	Ports      []Port
	Resolution istio.ServiceEntry_Resolution
	// Endpoints stands for its own addresses, in which equal ones are equal. It is 0 if the names of its hosts are resolved.
	Endpoints uint64
	// Labels are its labels, as text in which equal ones are equal: there may be many entries, and a map takes more than all else.
	Labels   string
	ExportTo []string
	// Adopt is the name of the route that the object is handed over to, empty if to none.
	Adopt string
}

// Port is what a ServiceEntry says about a port.
type Port struct {
	Number uint32
	// Protocol is HTTP, TLS (which HTTPS is to Istio as well), or as written.
	Protocol string
	// Target is the port that is dialled.
	Target uint32
}

// nowhere is the target of the plain port of a host that a route upgrades in place: the VirtualService alone sends its requests on.
const nowhere = 1

// terms are those on which routes share the port. A protocol that routes do not generate is shared with nobody.
func (p Port) terms() string {
	switch {
	case p.Target == nowhere:
		return InPlace
	case p.Protocol == protocolHTTP || p.Protocol == protocolTLS:
		return p.Protocol
	}
	return ""
}

// ServiceEntryFacts reads them.
func ServiceEntryFacts(e *networkingv1.ServiceEntry) ServiceEntry {
	facts := ServiceEntry{
		Identity: IdentityOf(e), Hosts: e.Spec.Hosts, Ports: make([]Port, 0, len(e.Spec.Ports)),
		Resolution: e.Spec.Resolution, Endpoints: endpointsOf(&e.Spec),
		Labels: labels.Set(e.Labels).String(), ExportTo: slices.Sorted(slices.Values(e.Spec.ExportTo)), Adopt: e.Annotations[v1alpha1.AdoptAnnotation],
	}
	for _, p := range e.Spec.Ports {
		port := Port{Number: p.Number, Protocol: p.Protocol, Target: p.TargetPort}
		if port.Protocol == "HTTPS" {
			port.Protocol = "TLS"
		}
		if port.Target == 0 {
			port.Target = p.Number
		}
		facts.Ports = append(facts.Ports, port)
	}
	slices.SortStableFunc(facts.Ports, func(a, b Port) int { return cmp.Compare(a.Number, b.Number) })
	return facts
}

// endpointsOf is a hash of the endpoints of a ServiceEntry and of all by which Istio finds their ports, 0 if there are none. There may be many of them.
func endpointsOf(e *istio.ServiceEntry) uint64 {
	if len(e.Endpoints) == 0 && e.WorkloadSelector == nil {
		return 0
	}
	var endpoints []string
	for _, endpoint := range e.Endpoints {
		endpoints = append(endpoints, text(endpoint))
	}
	slices.Sort(endpoints)
	hash := fnv.New64a()
	fmt.Fprintf(hash, "%q %q", endpoints, text(&istio.ServiceEntry{WorkloadSelector: e.WorkloadSelector, Ports: e.Ports, Resolution: e.Resolution}))
	return hash.Sum64() | 1
}

// text is a message as text in which equal ones are equal.
func text(message proto.Message) string {
	encoded, _ := proto.MarshalOptions{Deterministic: true}.Marshal(message) // what was decoded can be encoded
	return string(encoded)
}

// Claims are its hosts in its namespace.
func (e ServiceEntry) Claims() []Name {
	claims := make([]Name, len(e.Hosts))
	for i, host := range e.Hosts {
		claims[i] = Name{e.Namespace, host}
	}
	return claims
}

func (e ServiceEntry) port(number uint32) (Port, bool) {
	for _, p := range e.Ports {
		if p.Number == number {
			return p, true
		}
	}
	return Port{}, false
}

// agree is what helps against most disturbances.
const agree = ": change it to agree with the route, or delete it"

// Disturbs says what of our ServiceEntry would not be as it says beside another one of the same host and namespace, and what helps, or nothing.
//
// Istio asks the first of them about a host's resolution and ports, and the last one about the protocol of a route table's port: those that are
// exported to the namespace by name come before the public ones, and older ones before younger. It adds the ports of others only where all else is
// equal, the way in which exportTo is written and their labels too. The addresses of all of them are put together by the numbers of their ports, even
// of those that the namespace does not see (istio: pilot/pkg/model/push_context.go, servicesExportedToNamespace; pilot/pkg/model/sidecar.go,
// appendSidecarServices and canMergeServices; pilot/pkg/model/endpointshards.go, CopyEndpoints; pilot/pkg/networking/core/httproute.go,
// BuildSidecarOutboundVirtualHosts).
func (e ServiceEntry) Disturbs(ours ServiceEntry) string {
	how := e.disturbs(ours)
	if how != "" && e.Kind == XBackendKind {
		how = "is a ServiceEntry to an istiod with " + XBackendFlag + " and " + how
	}
	return how
}

func (e ServiceEntry) disturbs(ours ServiceEntry) string {
	if how := e.disturbsPorts(ours); how != "" {
		return how
	}
	if e.after(ours) {
		return ""
	}
	if e.Resolution != ours.Resolution {
		return "has another resolution, and Istio uses that of the older one" + agree
	}
	merged := e.Labels == ours.Labels && slices.Equal(e.ExportTo, ours.ExportTo)
	for _, mine := range ours.Ports {
		if _, has := e.port(mine.Number); !has && !merged {
			return "has other ports, labels or exportTo and is older, so that Istio does not add the route's ports" + agree
		}
	}
	return ""
}

// withoutPlainPorts is our entry without the plain ports of hosts in place. The plan keeps those of an entry that was handed over until traffic has moved.
func (e ServiceEntry) withoutPlainPorts() ServiceEntry {
	e.Ports = slices.DeleteFunc(slices.Clone(e.Ports), func(p Port) bool { return p.Target == nowhere })
	return e
}

// after says that Istio asks ours first, or ours alone.
func (e ServiceEntry) after(ours ServiceEntry) bool {
	mine, theirs := ours.Identity, e.Identity
	mine.Name, theirs.Name = "", "" // of one second, Istio's order is anybody's guess
	rank := e.rank()
	return rank == invisible || cmp.Or(cmp.Compare(rank, ours.rank()), theirs.Compare(mine)) > 0
}

// disturbsPorts looks at the ports that both have. Another protocol of a ServiceEntry is a problem even if Istio asks ours first, since it changes calls that
// are not the route's. Most istiods read no XBackend, so that one must change the route itself.
func (e ServiceEntry) disturbsPorts(ours ServiceEntry) string {
	for _, mine := range ours.Ports {
		theirs, shared := e.port(mine.Number)
		switch {
		case shared && mine.Target == nowhere && theirs.Target != nowhere:
			return fmt.Sprintf("declares port %[1]d, on which the route upgrades the host in place: requests would leave in plaintext "+
				"without the VirtualService. Remove port %[1]d from it, or delete it", mine.Number)
		case shared && (theirs.Target != mine.Target || e.Endpoints != ours.Endpoints):
			return "has other endpoints for the same port, and Istio merges the endpoints of both" + agree
		case shared && theirs.Protocol != mine.Protocol && e.rank() != invisible && (e.Kind != XBackendKind || !e.after(ours)):
			return "has another protocol for the same port" + agree
		}
	}
	return ""
}

// rank is how early Istio asks the ServiceEntry, for sidecars of its own namespace.
func (e ServiceEntry) rank() int {
	switch {
	case len(e.ExportTo) == 0 || slices.Contains(e.ExportTo, "*"):
		return public
	case !slices.Contains(e.ExportTo, "~") && (slices.Contains(e.ExportTo, ".") || slices.Contains(e.ExportTo, e.Namespace)):
		return private
	}
	return invisible
}

// DestinationRule is what matters of a DestinationRule beside another one of its host in its namespace.
type DestinationRule struct {
	Identity
	Host     string
	Subsets  []string
	Selector bool
	// Policy says that it has settings for the whole host.
	Policy bool
	// Settings are the fields of these settings by port. Port 0 stands for all ports that have no settings of their own.
	Settings map[uint32][]string
	// Sets are the fields that every subset sets itself, and does not inherit.
	Sets []string
	// Ports are those on which requests use the subsets. None means that they are not known.
	Ports []uint32
	// TLS says that it originates TLS for the whole host, or for one of its ports.
	TLS      bool
	ExportTo []string
	// Adopt is the name of the route that the object is handed over to, empty if to none.
	Adopt string
}

// DestinationRuleFacts reads them.
func DestinationRuleFacts(d *networkingv1.DestinationRule) DestinationRule {
	facts := DestinationRule{
		Identity: IdentityOf(d), Host: d.Spec.Host, Selector: d.Spec.WorkloadSelector != nil, Policy: d.Spec.TrafficPolicy != nil,
		ExportTo: slices.Sorted(slices.Values(d.Spec.ExportTo)), Adopt: d.Annotations[v1alpha1.AdoptAnnotation],
	}
	policy := d.Spec.TrafficPolicy
	facts.TLS = originates(policy.GetTls()) || slices.ContainsFunc(policy.GetPortLevelSettings(), func(p *istio.TrafficPolicy_PortTrafficPolicy) bool {
		return originates(p.GetTls())
	})
	if policy != nil {
		facts.Settings = map[uint32][]string{0: fieldsOf(policy)}
		for _, p := range policy.PortLevelSettings {
			if _, twice := facts.Settings[p.GetPort().GetNumber()]; !twice {
				facts.Settings[p.GetPort().GetNumber()] = fieldsOf(p)
			}
		}
	}
	for i, s := range d.Spec.Subsets {
		facts.Subsets = append(facts.Subsets, s.Name)
		sets := fieldsOf(s.TrafficPolicy)
		if i > 0 {
			sets = slices.DeleteFunc(sets, func(field string) bool { return !slices.Contains(facts.Sets, field) })
		}
		facts.Sets = sets
	}
	return facts
}

// fieldsOf are the fields of a traffic policy that have a value, in order.
func fieldsOf(policy proto.Message) []string {
	var fields []string
	policy.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if name := field.JSONName(); name != "port" && name != "portLevelSettings" {
			fields = append(fields, name)
		}
		return true
	})
	slices.Sort(fields)
	return fields
}

// Beside limits the subsets to the ports on which a ServiceEntry of the route leads to the host.
func (d DestinationRule) Beside(e ServiceEntry) DestinationRule {
	d.Ports = nil
	for _, p := range e.Ports {
		if p.Target != nowhere {
			d.Ports = append(d.Ports, p.Number)
		}
	}
	return d
}

func originates(tls *istio.ClientTLSSettings) bool {
	return tls != nil && tls.Mode != istio.ClientTLSSettings_DISABLE
}

// Claims are its host in its namespace.
func (d DestinationRule) Claims() []Name { return []Name{{d.Namespace, d.Host}} }

// Disturbs says why our DestinationRule and another one of the same host and namespace cannot both be as they say, and what helps, or nothing.
//
// Istio merges them only if their exportTo is written alike, or the younger's has all of the older's, and none has a workloadSelector: subsets of
// other names are added, and the settings for the whole host are those of the oldest that has any. A subset inherits those of its port, or else those of
// all ports, and replaces each field that it sets itself as a whole. Without a merge, Istio asks the youngest without a selector, and those that a selector
// picks (istio: pilot/pkg/model/destination_rule.go, mergeDestinationRule and MergeTrafficPolicy; pilot/pkg/model/sidecar.go, DestinationRule).
func (d DestinationRule) Disturbs(ours DestinationRule) string {
	if !d.seenAtHome() {
		return "" // only other namespaces see it, and they do not see ours
	}
	switch {
	case d.Selector:
		return "has a workloadSelector, and Istio does not merge it with the route's: each pod would use only one of the two" + agree
	case slices.ContainsFunc(d.Subsets, func(s string) bool { return slices.Contains(ours.Subsets, s) }):
		return "has a subset of the same name" + agree
	case !merge(d, ours):
		return "has another exportTo, and Istio would ignore the older of the two" + agree
	case ours.Policy:
		return "would inherit the settings of tls.scope Host" + agree
	}
	return d.bequeaths(ours)
}

// disturbsMove says why our DestinationRule cannot take on what this one decides until traffic has moved, and what helps, or nothing. It was handed over to
// our route, whose plan does the rest.
func (d DestinationRule) disturbsMove(ours DestinationRule) string {
	if d.Selector || slices.ContainsFunc(d.Subsets, func(s string) bool { return slices.Contains(ours.Subsets, s) }) {
		return d.Disturbs(ours)
	}
	return ""
}

// bequeaths says which settings our subsets would inherit, and what helps, or nothing.
func (d DestinationRule) bequeaths(ours DestinationRule) string {
	if d.Policy && len(d.Settings) == 1 && len(d.Settings[0]) == 0 { // those of a newer Istio, perhaps
		return "has settings for the whole host that the operator cannot read, and the route's subsets would inherit them" + agree
	}
	ports := ours.Ports
	if len(ports) == 0 {
		ports = slices.Collect(maps.Keys(d.Settings))
	}
	var inherited []string
	for _, port := range ports {
		fields, own := d.Settings[port]
		if !own {
			fields = d.Settings[0]
		}
		for _, field := range fields {
			if !slices.Contains(ours.Sets, field) {
				inherited = append(inherited, field)
			}
		}
	}
	if len(inherited) == 0 {
		return ""
	}
	slices.Sort(inherited)
	return fmt.Sprintf("sets %s outside its subsets, and the route's subsets would inherit it: move it into subsets, or delete the rule",
		strings.Join(slices.Compact(inherited), ", "))
}

// DisturbsPassed says why workloads cannot call a host of a pass-through route over their own TLS beside a DestinationRule of the host and namespace, and
// what helps, or nothing.
func (d DestinationRule) DisturbsPassed() string {
	if !d.TLS || !d.seenAtHome() {
		return ""
	}
	return "originates TLS, and TLS that workloads originate themselves would be inside it: remove its tls settings, or delete it"
}

// hiddenBy says why our DestinationRule of a Service in another namespace cannot stand beside one of that namespace, and what helps, or nothing: Istio applies
// those of the client's namespace alone (istio: pilot/pkg/model/push_context.go, destinationRule).
func (d DestinationRule) hiddenBy(ours DestinationRule) string {
	if d.Namespace == ours.Namespace || len(d.ExportTo) > 0 && !slices.Contains(d.ExportTo, "*") && !slices.Contains(d.ExportTo, ours.Namespace) {
		return ""
	}
	return fmt.Sprintf("also applies to namespace %s, in which the route's own would replace it: leave %[1]s out of its exportTo, or delete it", ours.Namespace)
}

// inForce are those rules of one host and namespace, in Istio's order, that Istio asks about workloads of the namespace: the last ones that it merges.
func inForce(rules []DestinationRule) (last []DestinationRule) {
	for _, rule := range rules {
		if rule.Selector || !rule.seenAtHome() {
			continue
		}
		if len(last) > 0 && !merge(last[0], rule) {
			last = nil
		}
		last = append(last, rule)
	}
	return last
}

// seenAtHome says whether sidecars of its own namespace use it.
func (d DestinationRule) seenAtHome() bool {
	home := []string{".", "*", d.Namespace}
	return d.Selector || len(d.ExportTo) == 0 || slices.ContainsFunc(d.ExportTo, func(n string) bool { return slices.Contains(home, n) })
}

// merge says whether Istio makes one of two rules of a host, as far as their exportTo goes.
func merge(a, b DestinationRule) bool {
	if a.Compare(b.Identity) > 0 {
		a, b = b, a
	}
	if len(a.ExportTo) == 0 || len(b.ExportTo) == 0 {
		return len(a.ExportTo) == len(b.ExportTo)
	}
	return !slices.ContainsFunc(a.ExportTo, func(n string) bool { return !slices.Contains(b.ExportTo, n) })
}
