package importer

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/externalroute/externalroute/internal/translate"
)

// meaning is what a VirtualService and the objects that it refers to mean for the workloads that call its hosts, by property. It has every field, whether or
// not the importer knows it, and none of the names that only tie the objects to each other.
type meaning map[string]string

// meaningOf reads it on one port of the hosts. Requests that workloads send to the host of a destination itself have the authority that called returns.
func (s *set) meaningOf(v *networkingv1.VirtualService, port uint32, called func(host string) string) meaning {
	m := meaning{}
	hosts := slices.Clone(v.Spec.Hosts)
	for i, host := range hosts {
		if name, rest, dotted := strings.Cut(host, "."); !dotted || rest == v.Namespace || rest == v.Namespace+".svc" {
			if !dotted || rest != v.Namespace || s.service(v.Namespace, name) != nil {
				hosts[i] = fmt.Sprintf("%s.%s.svc.%s", name, v.Namespace, s.clusterDomain)
			}
		}
	}
	slices.Sort(hosts)
	m["hosts"] = strings.Join(hosts, ", ")
	exports := []string{exported(v.Spec.ExportTo, v.Namespace)}
	for i, http := range v.Spec.Http {
		path := fmt.Sprintf("http[%d]", i)
		m.addHTTP(path, http, port)
		targets := make([]*istio.RouteDestination, len(http.Route))
		for j, to := range http.Route {
			targets[j] = &istio.RouteDestination{Destination: to.Destination, Weight: to.Weight}
			at := fmt.Sprintf("%s.destination[%d].authority", path, j)
			m.set(at, cmp.Or(authorityFor(http, to), called(to.Destination.GetHost())))
		}
		exports = append(exports, m.addTargets(s, v.Namespace, path, targets)...)
	}
	for i, tcp := range v.Spec.Tcp {
		path := fmt.Sprintf("tcp[%d]", i)
		clone := proto.CloneOf(tcp)
		clone.Route = nil
		for _, match := range clone.Match {
			if match.Port == port {
				match.Port = 0
			}
		}
		if len(clone.Match) == 1 && proto.Size(clone.Match[0]) == 0 {
			clone.Match = nil
		}
		m.flatten(path, clone)
		exports = append(exports, m.addTargets(s, v.Namespace, path, tcp.Route)...)
	}
	slices.Sort(exports)
	m["exportTo"] = strings.Join(slices.Compact(exports), " and ")
	return m
}

// exported is an exportTo, written out.
func exported(namespaces []string, own string) string {
	if len(namespaces) == 0 {
		return "*"
	}
	all := slices.Clone(namespaces)
	for i, n := range all {
		if n == own {
			all[i] = "."
		}
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ", ")
}

func (m meaning) set(property, value string) {
	if value != "" {
		m[property] = value
	}
}

// addHTTP adds an http route without its destinations, the authority and the port.
func (m meaning) addHTTP(path string, http *istio.HTTPRoute, port uint32) {
	clone := proto.CloneOf(http)
	clone.Route, clone.Retries, clone.Name = nil, nil, ""
	for _, match := range clone.Match {
		match.Name, match.Gateways = "", slices.DeleteFunc(match.Gateways, func(g string) bool { return g == "mesh" })
		if match.Port == port {
			match.Port = 0
		}
	}
	if len(clone.Match) == 1 && proto.Size(clone.Match[0]) == 0 {
		clone.Match = nil
	}
	if clone.GetTimeout().AsDuration() == 0 {
		clone.Timeout = nil // none
	}
	if clone.Rewrite != nil {
		clone.Rewrite.Authority = ""
	}
	if r := clone.GetHeaders().GetRequest(); r != nil {
		maps.DeleteFunc(r.Set, func(name, _ string) bool { return strings.EqualFold(name, "host") || name == ":authority" })
		for i, name := range r.Remove {
			r.Remove[i] = strings.ToLower(name)
		}
	}
	m.flatten(path, clone)
	if len(http.Route) > 0 {
		m[path+".retries"] = retriesText(http.Retries)
	}
}

func retriesText(r *istio.HTTPRetry) string {
	switch {
	case r == nil:
		return "the mesh's default"
	case r.Attempts == 0:
		return "none"
	}
	rest := proto.CloneOf(r)
	rest.Attempts, rest.RetryOn = 0, ""
	text := fmt.Sprintf("%d on %s", r.Attempts, cmp.Or(r.RetryOn, "the mesh's default"))
	if proto.Size(rest) > 0 {
		text += " " + compact(rest)
	}
	return text
}

// compact is a message as JSON, the same for equal ones: protojson adds spaces at random.
func compact(message proto.Message) string {
	raw, err := protojson.Marshal(message)
	if err != nil {
		return err.Error()
	}
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return err.Error()
	}
	raw, err = json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// addTargets adds where requests go, and returns to whom the objects that decide it are exported.
func (m meaning) addTargets(s *set, namespace, path string, targets []*istio.RouteDestination) (exports []string) {
	var total int32
	for _, to := range targets {
		total += to.Weight
	}
	for j, to := range targets {
		at := fmt.Sprintf("%s.destination[%d]", path, j)
		if len(targets) > 1 {
			m[at+".share"] = fmt.Sprintf("%.4g%%", 100*float64(to.Weight)/float64(max(total, 1)))
		}
		u, problem := s.resolve(namespace, to.Destination)
		if problem != "" {
			m[at] = problem
			continue
		}
		exports = append(exports, exported(u.entry.Spec.ExportTo, namespace))
		dials := u.dials(to.Destination.Host)
		m[at+".dials"] = strings.Join(dials, ", ")
		m[at+".resolution"] = u.entry.Spec.Resolution.String()
		m[at+".protocol"] = protocolOf(u.port.Protocol)
		if speaksHTTP2(u.port.Protocol) || u.policy.GetConnectionPool().GetHttp().GetH2UpgradePolicy() == istio.ConnectionPoolSettings_HTTPSettings_UPGRADE {
			m[at+".http2"] = "true"
		}
		if u.originatesTLS() { // the port is then declared as one or the other, and the upstream sees TLS
			m[at+".protocol"] = protocolTLS
		}
		if u.rule == nil {
			continue
		}
		exports = append(exports, exported(u.rule.Spec.ExportTo, namespace))
		m.addPolicy(at, u)
	}
	return exports
}

func (m meaning) addPolicy(at string, u *upstream) {
	policy := proto.CloneOf(u.policy)
	if !u.originatesTLS() {
		policy.Tls = nil
	}
	if http := policy.GetConnectionPool().GetHttp(); http != nil && http.H2UpgradePolicy == istio.ConnectionPoolSettings_HTTPSettings_UPGRADE {
		http.H2UpgradePolicy = istio.ConnectionPoolSettings_HTTPSettings_DEFAULT
	}
	m.flatten(at, policy)
	if s := u.rule.Spec.WorkloadSelector; s != nil {
		m.flatten(at+".workloadSelector", s)
	}
	if policy, _ := effective(&u.rule.Spec, "", u.port.Number); (&upstream{policy: policy}).originatesTLS() {
		m[at+".tls.scope"] = "the whole host"
	}
}

// flatten adds every field of a message that has a value. A list of words is one property.
func (m meaning) flatten(path string, message proto.Message) {
	var value any
	if err := json.Unmarshal([]byte(compact(message)), &value); err != nil {
		m[path] = err.Error()
		return
	}
	m.flattenValue(path, value)
}

func (m meaning) flattenValue(path string, value any) {
	switch v := value.(type) {
	case map[string]any:
		for key, child := range v {
			m.flattenValue(path+"."+key, child)
		}
	case []any:
		var words []string
		for i, child := range v {
			if word, is := child.(string); is {
				words = append(words, word)
				continue
			}
			m.flattenValue(fmt.Sprintf("%s[%d]", path, i), child)
		}
		if len(words) > 0 {
			slices.Sort(words)
			m[path] = strings.Join(words, ", ")
		}
	default:
		m[path] = fmt.Sprint(v)
	}
}

// passedMeaning is what entries mean for the workloads that call a port of their hosts over their own TLS.
func passedMeaning(entries []*networkingv1.ServiceEntry, number uint32) meaning {
	m := meaning{}
	var exports []string
	for _, e := range entries {
		exports = append(exports, exported(e.Spec.ExportTo, e.Namespace))
		for _, host := range e.Spec.Hosts {
			for _, p := range e.Spec.Ports {
				if p.Number == number {
					m[fmt.Sprintf("%s:%d", host, number)] = protocolOf(p.Protocol)
					m[fmt.Sprintf("%s:%d.resolution", host, number)] = e.Spec.Resolution.String()
				}
			}
		}
	}
	slices.Sort(exports)
	m["exportTo"] = strings.Join(slices.Compact(exports), " and ")
	return m
}

// rendered are the objects of a translation.
func rendered(t *translate.Translation, clusterDomain string) *set {
	objects := make([]translate.Object, len(t.Objects))
	for i, item := range t.Objects {
		objects[i] = item.Object
	}
	return newSet(objects, clusterDomain)
}
