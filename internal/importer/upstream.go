package importer

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/externalroute/externalroute/internal/translate"
)

// set is a set of objects that work together.
type set struct {
	clusterDomain string
	// beside is the namespace of the egress gateway, whose rules count for what leaves through it.
	beside          string
	all             []translate.Object
	services        []*corev1.Service
	entries         []*networkingv1.ServiceEntry
	rules           []*networkingv1.DestinationRule
	virtualServices []*networkingv1.VirtualService
}

func newSet(objects []translate.Object, clusterDomain string) *set {
	s := &set{clusterDomain: clusterDomain, all: objects}
	for _, object := range objects {
		switch o := object.(type) {
		case *corev1.Service:
			s.services = append(s.services, o)
		case *networkingv1.ServiceEntry:
			s.entries = append(s.entries, o)
		case *networkingv1.DestinationRule:
			s.rules = append(s.rules, o)
		case *networkingv1.VirtualService:
			s.virtualServices = append(s.virtualServices, o)
		}
	}
	return s
}

// rulesOf are the rules that decide about a host in a namespace: those for it alone, or else those with the longest wildcard for it.
func (s *set) rulesOf(namespace, host string) (rules []*networkingv1.DestinationRule) {
	for _, r := range s.rules {
		if r.Namespace != namespace && (s.beside == "" || r.Namespace != s.beside) || !matches(r.Spec.Host, host) {
			continue
		}
		if len(rules) > 0 && r.Spec.Host != rules[0].Spec.Host {
			if !narrower(r.Spec.Host, rules[0].Spec.Host) {
				continue
			}
			rules = nil
		}
		rules = append(rules, r)
	}
	return rules
}

// unreadRule is the name of a rule that could not be read and may decide about a host, empty if there is none.
func (i *importer) unreadRule(namespace, host string) string {
	for _, u := range i.Unread {
		if u.Kind == translate.DestinationRuleKind.GVK.Kind && u.Namespace == namespace && (len(u.Hosts) == 0 || meet(u.Hosts, []string{host})) {
			return u.Name
		}
	}
	return ""
}

// narrower reports whether one of two hosts that match a third is for fewer.
func narrower(host, other string) bool {
	return strings.HasPrefix(other, "*") && (!strings.HasPrefix(host, "*") || len(host) > len(other))
}

// upstream is what a destination of a VirtualService leads to.
type upstream struct {
	entry *networkingv1.ServiceEntry
	port  *istio.ServicePort
	// rule is nil if none decides about the host, and policy is what it decides for the subset and the port.
	rule   *networkingv1.DestinationRule
	policy *istio.TrafficPolicy
}

// resolve finds the upstream of a destination, or says why there is none.
func (s *set) resolve(namespace string, d *istio.Destination) (*upstream, string) {
	u := &upstream{}
	for _, e := range s.entries {
		if !slices.Contains(e.Spec.Hosts, d.GetHost()) || e.Namespace != namespace {
			continue
		}
		for _, p := range e.Spec.Ports {
			if n := d.GetPort().GetNumber(); n == p.Number || n == 0 && len(e.Spec.Ports) == 1 {
				if u.entry != nil {
					return nil, fmt.Sprintf("ServiceEntries %s and %s both declare port %d of %s: merge them first", u.entry.Name, e.Name, p.Number, d.Host)
				}
				u.entry, u.port = e, p
			}
		}
	}
	if u.entry == nil {
		return nil, s.unresolved(namespace, d)
	}
	switch rules := s.rulesOf(namespace, d.Host); len(rules) {
	case 0:
		if d.Subset != "" {
			return nil, fmt.Sprintf("the input has no DestinationRule with subset %s of %s", d.Subset, d.Host)
		}
	case 1:
		u.rule = rules[0]
		policy, found := effective(&u.rule.Spec, d.Subset, u.port.Number)
		if !found {
			return nil, fmt.Sprintf("DestinationRule %s has no subset %s", u.rule.Name, d.Subset)
		}
		u.policy = policy
	default:
		return nil, fmt.Sprintf("DestinationRules %s and %s both decide about %s: merge them first", rules[0].Name, rules[1].Name, d.Host)
	}
	return u, ""
}

func (s *set) unresolved(namespace string, d *istio.Destination) string {
	name, rest, _ := strings.Cut(d.GetHost(), ".")
	switch {
	case strings.HasSuffix(d.GetHost(), ".svc."+s.clusterDomain) || strings.HasSuffix(d.GetHost(), ".svc") || rest == "" || s.service(rest, name) != nil:
		return fmt.Sprintf("%s is in the cluster, and a route leads outside", d.GetHost())
	case slices.ContainsFunc(s.entries, func(e *networkingv1.ServiceEntry) bool {
		return e.Namespace == namespace && slices.Contains(e.Spec.Hosts, d.Host)
	}):
		return fmt.Sprintf("no ServiceEntry of %s declares port %d, or the destination names no port and the entry has several", d.Host, d.GetPort().GetNumber())
	}
	return fmt.Sprintf("the input has no ServiceEntry for %s in namespace %s", d.GetHost(), namespace)
}

// effective is what a rule decides for a subset and a port. A subset replaces each of the settings that it has; the settings of a port replace all four
// (istio: pilot/pkg/model/destination_rule.go, MergeTrafficPolicy).
func effective(rule *istio.DestinationRule, subset string, port uint32) (policy *istio.TrafficPolicy, found bool) {
	policy = merge(&istio.TrafficPolicy{}, rule.TrafficPolicy, port)
	if subset == "" {
		return policy, true
	}
	i := slices.IndexFunc(rule.Subsets, func(s *istio.Subset) bool { return s.Name == subset })
	if i < 0 {
		return nil, false
	}
	return merge(policy, rule.Subsets[i].TrafficPolicy, port), true
}

func merge(inherited, own *istio.TrafficPolicy, port uint32) *istio.TrafficPolicy {
	if own == nil {
		return inherited
	}
	merged, own := proto.CloneOf(inherited), proto.CloneOf(own)
	levels := own.PortLevelSettings
	own.PortLevelSettings = nil
	own.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		merged.ProtoReflect().Set(field, value)
		return true
	})
	for _, p := range levels {
		if p.GetPort().GetNumber() == port {
			merged.ConnectionPool, merged.OutlierDetection, merged.LoadBalancer, merged.Tls = p.ConnectionPool, p.OutlierDetection, p.LoadBalancer, p.Tls
			break
		}
	}
	return merged
}

func (u *upstream) originatesTLS() bool {
	tls := u.policy.GetTls()
	return tls != nil && tls.Mode != istio.ClientTLSSettings_DISABLE
}

// dials are the addresses and ports that the sidecar connects to.
func (u *upstream) dials(host string) []string {
	number := u.port.Number
	if u.port.TargetPort != 0 {
		number = u.port.TargetPort
	}
	if len(u.entry.Spec.Endpoints) == 0 {
		return []string{fmt.Sprintf("%s:%d", host, number)}
	}
	var addresses []string
	for _, e := range u.entry.Spec.Endpoints {
		at := number
		if p := e.Ports[u.port.Name]; p != 0 {
			at = p
		}
		addresses = append(addresses, fmt.Sprintf("%s:%d", e.Address, at))
	}
	return addresses
}

const (
	protocolHTTP = "HTTP"
	protocolTLS  = "TLS"
)

// protocolOf is what Istio takes the protocol of a ServiceEntry's port for: HTTP, TLS, or as written.
func protocolOf(written string) string {
	switch upper := strings.ToUpper(written); upper {
	case "HTTP", "HTTP2", "GRPC", "GRPC-WEB":
		return protocolHTTP
	case "HTTPS", "TLS":
		return protocolTLS
	default:
		return upper
	}
}

// speaksHTTP2 reports whether a ServiceEntry's port is declared as HTTP/2.
func speaksHTTP2(written string) bool {
	upper := strings.ToUpper(written)
	return upper == "HTTP2" || strings.HasPrefix(upper, "GRPC")
}

// splitURL are the parts of a URL that a route may have.
func splitURL(raw string) (scheme, host string, port uint32, authority string) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", "", 0, ""
	}
	number, _ := strconv.ParseUint(u.Port(), 10, 16)
	usual := map[string]uint64{"http": 80, "https": 443}[u.Scheme]
	if number == 0 {
		number = usual
	}
	authority = u.Hostname()
	if number != usual {
		authority = u.Host
	}
	return u.Scheme, u.Hostname(), uint32(number), authority
}

// unknown are the fields of a message that have a value and are not among those that the importer knows.
func unknown(path string, message proto.Message, known ...string) (reasons []string) {
	message.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if name := field.JSONName(); !slices.Contains(known, name) {
			reasons = append(reasons, noWords(path+"."+name))
		}
		return true
	})
	slices.Sort(reasons)
	return reasons
}

// hints say what to do about a field without a counterpart.
var hints = map[string]string{
	"mirror":            "a mirrored request would carry the main destination's authority",
	"mirrors":           "a mirrored request would carry the main destination's authority",
	"caCertificates":    "put the CA into a ConfigMap under ca.crt, and write the route with caCertificateRefs",
	"clientCertificate": "put the certificate into a Secret, and write the route with clientCertificateRef",
	"delegate":          "merge the delegate into this VirtualService first",
	"locality":          "endpoints of a route have a priority instead: write the route with endpoints[].priority and outlierDetection",
	"addresses":         "workloads dial these addresses themselves, and a route serves names",
}

func noWords(path string) string {
	reason := path + " has no counterpart in an ExternalRoute"
	if hint := hints[path[strings.LastIndex(path, ".")+1:]]; hint != "" {
		reason += ": " + hint
	}
	return reason
}
