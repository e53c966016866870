package translate

import (
	"fmt"
	"slices"
	"strings"

	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// passScheme stands for the scheme in the names of a pass-through route's ServiceEntries.
const passScheme = "passthrough"

// The two kinds of hosts, which Istio resolves in different ways.
const (
	passedNames     = "names"
	passedWildcards = "wildcards"
)

// PassesThrough reports whether a route has no destinations: it lets workloads call its hosts over their own TLS.
func PassesThrough(route *v1alpha1.ExternalRoute) bool { return len(route.Spec.Destinations) == 0 }

// passed is a ServiceEntry's part of the hosts of a pass-through route: Istio resolves all hosts of an entry in the same way.
type passed struct {
	// name stands for the hosts in the object's name: the entry is the same when hosts come and go.
	name       string
	resolution istio.ServiceEntry_Resolution
	hosts      []string
}

// passThrough returns what a route without destinations means, or why it is refused.
func passThrough(route *v1alpha1.ExternalRoute, mesh Mesh) (*Translation, *Refusal) {
	hosts, problems := readPassed(route, mesh)
	if len(problems) > 0 {
		return nil, &Refusal{Reason: v1alpha1.ReasonInvalid, Problems: problems}
	}
	// An address that DNS cannot tell is the one that the workload dials itself.
	names := passed{name: passedNames, resolution: istio.ServiceEntry_DNS}
	wildcards := passed{name: passedWildcards, resolution: istio.ServiceEntry_NONE}
	for _, host := range hosts {
		part := &names
		if strings.HasPrefix(host.Name, "*") {
			part = &wildcards
		}
		part.hosts = append(part.hosts, host.Name)
	}
	var refusal Refusal
	gateway := readGateway(route, mesh, &refusal)
	if refusal.Reason != "" {
		return nil, &refusal
	}
	translation := &Translation{Hosts: hosts}
	translation.nameGateway(route, mesh)
	stage := StageUpstream
	if gateway != nil {
		stage = StageTraffic
		for i := range hosts {
			hosts[i].InPlace = true
			translation.Objects = append(translation.Objects, gateway.pass(route, hosts[i])...)
		}
		slices.SortStableFunc(translation.Objects, func(a, b Item) int { return Rank(KeyOf(a.Object).Kind) - Rank(KeyOf(b.Object).Kind) })
	}
	for _, part := range []passed{names, wildcards} {
		if len(part.hosts) > 0 {
			translation.Objects = append(translation.Objects, Item{
				Object: passedEntry(route, part, gateway), Stage: stage, Path: field.NewPath("spec", "hosts"),
			})
		}
	}
	return translation, nil
}

// readPassed reads the hosts of a pass-through route, and says which of them are not outside.
func readPassed(route *v1alpha1.ExternalRoute, mesh Mesh) (hosts []Host, problems field.ErrorList) {
	for i, h := range route.Spec.Hosts {
		path, name := field.NewPath("spec", "hosts").Index(i), string(h)
		base, wildcard := strings.CutPrefix(name, "*.")
		if why := inside(base, mesh); why != "" {
			problems = append(problems, field.Invalid(path, name, fmt.Sprintf("is %s. Use an external host, or add destinations", why)))
		} else if wildcard && strings.HasSuffix(mesh.ClusterDomain, "."+base) {
			problems = append(problems, field.Invalid(path, name, fmt.Sprintf("includes the cluster's own domain, %s: use a narrower wildcard", mesh.ClusterDomain)))
		}
		hosts = append(hosts, Host{Name: name, Path: path})
	}
	return hosts, problems
}

// passedEntry makes hosts known to the mesh, and nothing else, or leads them to a gateway. Its port is like that of a destination https://HOST, so that Istio
// merges the entries of all routes of the namespace that name the host.
func passedEntry(route *v1alpha1.ExternalRoute, part passed, to *gateway) *networkingv1.ServiceEntry {
	port := servicePort(uint32(PortOf(route)), true) //nolint:gosec // 1..65535 by schema
	entry := &networkingv1.ServiceEntry{
		TypeMeta:   ServiceEntryKind.typeMeta(),
		ObjectMeta: meta(route, passedName(route, part.name, port.Number)),
		Spec: istio.ServiceEntry{
			Hosts:      part.hosts,
			Location:   istio.ServiceEntry_MESH_EXTERNAL,
			Ports:      []*istio.ServicePort{port},
			Resolution: part.resolution,
			ExportTo:   exportTo(route),
		},
	}
	if to != nil {
		entry.Spec.Endpoints = []*istio.WorkloadEntry{{Address: to.host, Ports: map[string]uint32{port.Name: to.port}}}
	}
	return entry
}

// IsPassed reports whether an entry of a route lets hosts pass through, and is not that of a destination.
func IsPassed(entry *networkingv1.ServiceEntry, route *v1alpha1.ExternalRoute) bool {
	return len(entry.Spec.Ports) == 1 && slices.ContainsFunc([]string{passedNames, passedWildcards}, func(part string) bool {
		return entry.Name == passedName(route, part, entry.Spec.Ports[0].Number)
	})
}

func passedName(route *v1alpha1.ExternalRoute, part string, port uint32) string {
	return upstreamObjectName(route.Name, part, port, passScheme)
}
