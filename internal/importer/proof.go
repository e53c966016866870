package importer

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/externalroute/externalroute/internal/translate"
)

// admit judges the route as the API server and the operator do.
func (d *draft) admit() {
	for _, object := range d.objects {
		d.lacks(ofIstio(object, "label", object.GetLabels()))
		d.lacks(ofIstio(object, "annotation", object.GetAnnotations()))
	}
	if len(d.reasons) > 0 {
		return
	}
	admitted, problems := d.Admit(d.route)
	for _, problem := range problems {
		d.reason("the route would be refused: %s", problem)
	}
	if len(problems) > 0 {
		return
	}
	translation, refusal := translate.Translate(admitted, d.withGateway(d.mesh()))
	if refusal != nil {
		for _, problem := range refusal.Problems {
			d.reason("the route would be refused (%s): %s", refusal.Reason, translate.Text(problem))
		}
		return
	}
	d.imported = &Imported{Route: d.route, Notes: d.notes}
	d.admitted, d.translation = admitted, translation
}

// ofIstio are the labels or annotations of an object that mean something to Istio. The generated objects do not have them.
func ofIstio(object translate.Object, what string, values map[string]string) (reasons []string) {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		domain, _, _ := strings.Cut(key, "/")
		if domain == "istio.io" || strings.HasSuffix(domain, ".istio.io") {
			reasons = append(reasons, fmt.Sprintf("%s %s of %s has no counterpart in an ExternalRoute", what, key, translate.KeyOf(object)))
		}
	}
	return reasons
}

// prove compares the meaning of the old objects and that of the ones that the route generates.
func (d *draft) prove() {
	after := rendered(d.translation, d.clusterDomain)
	if len(after.virtualServices) != 1 {
		d.reason("the route generates %d VirtualServices", len(after.virtualServices))
		return
	}
	old := &set{clusterDomain: d.clusterDomain, beside: d.beside, services: d.services, entries: d.entries, rules: d.rules}
	after.services = d.services
	called := func(host string) string { return d.called(host) }
	d.compare(old.meaningOf(d.v, d.port, called), after.meaningOf(after.virtualServices[0], d.port, called))
}

func (d *draft) provePassed(e *networkingv1.ServiceEntry, port *istio.ServicePort) {
	after := rendered(d.translation, d.clusterDomain)
	d.compare(passedMeaning([]*networkingv1.ServiceEntry{e}, port.Number), passedMeaning(after.entries, port.Number))
}

func (d *draft) compare(before, after meaning) {
	all := map[string]bool{}
	for property := range before {
		all[property] = true
	}
	for property := range after {
		all[property] = true
	}
	for _, property := range slices.Sorted(maps.Keys(all)) {
		was, is := before[property], after[property]
		if was == is {
			d.imported.Same++
			continue
		}
		difference := Difference{Property: property, Before: was, After: is}
		i := slices.IndexFunc(justifications, func(j justification) bool { return j.property.MatchString(property) && j.holds(was, is) })
		if i < 0 {
			d.reason("%s would change from %q to %q", property, was, is)
			continue
		}
		if strings.HasSuffix(property, ".headers.request.remove") {
			difference.After = strings.TrimPrefix(was+" and the headers that the mesh adds", " and ")
		}
		difference.Why, difference.Decide = justifications[i].why, justifications[i].decide
		d.imported.Differences = append(d.imported.Differences, difference)
	}
}

// justification is why a property may differ.
type justification struct {
	property *regexp.Regexp
	holds    func(before, after string) bool
	why      string
	decide   bool
}

func unset(before, after string) bool { return before == "" && after != "" }
func given(before, after string) bool { return before != "" && after == "" }
func anything(string, string) bool    { return true }
func from(value string) func(string, string) bool {
	return func(before, _ string) bool { return before == value }
}

func to(value string) func(string, string) bool {
	return func(_, after string) bool { return after == value }
}

var justifications = []justification{
	{
		property: regexp.MustCompile(`\.retries$`), holds: func(before, _ string) bool { return strings.Contains(before, "the mesh's default") },
		why: "safer: Istio's default also retries requests that the upstream may have seen",
	},
	{
		property: regexp.MustCompile(`\.tls\.sni$`), holds: unset,
		why: "safer: the SNI is written, and does not depend on the authority of each request",
	},
	{
		property: regexp.MustCompile(`\.tls\.subjectAltNames$`), holds: unset,
		why: "safer: the certificate must carry the name of the host, and not only come from a trusted CA",
	},
	{
		property: regexp.MustCompile(`\.tls\.scope$`), holds: given,
		why: "safer: a subset originates TLS for this route alone, so that workloads that call https://HOST themselves keep working",
	},
	{
		property: regexp.MustCompile(`\.headers\.request\.remove$`), holds: addsMeshHeaders,
		why: "safer: headers that the mesh adds do not leave it; meshHeaders: Keep keeps them",
	},
	{
		property: regexp.MustCompile(`\.connectionPool\.http\.h2UpgradePolicy$`), holds: unset,
		why: "explicit: the mesh's own h2UpgradePolicy does not apply",
	},
	{
		property: regexp.MustCompile(`\.workloadSelector\.`), holds: unset,
		why: "explicit: the DestinationRule is for the pods that the matches select, as the route is",
	},
	{
		property: regexp.MustCompile(`\.authority$`), holds: unset,
		why: "the server gets its own name as the authority, and not the one that the workload called, for which most servers answer 404; " +
			"rewrite.authority sets another",
		decide: true,
	},
	{
		property: regexp.MustCompile(`^exportTo$`), holds: to("."),
		why: "a route is private by default: workloads of other namespaces no longer use it, unless its exportTo names them", decide: true,
	},
	{
		property: regexp.MustCompile(`^exportTo$`), holds: anything,
		why:    "all of a route is for the namespaces of its exportTo: workloads of these can use its upstreams now, and those of others cannot use any of it",
		decide: true,
	},
	{
		property: regexp.MustCompile(`\.loadBalancer\.simple$`), holds: given,
		why: "a route uses the default of the mesh, which matters only if the host has several addresses", decide: true,
	},
	{
		property: regexp.MustCompile(`:\d+\.resolution$`), holds: from("NONE"),
		why: "the sidecar resolves the host itself, and does not use the address that the workload found", decide: true,
	},
}

// addsMeshHeaders reports whether nothing but headers of the mesh is removed in addition.
func addsMeshHeaders(before, after string) bool {
	for name := range strings.SplitSeq(before, ", ") {
		if name != "" && !slices.Contains(strings.Split(after, ", "), name) {
			return false
		}
	}
	for name := range strings.SplitSeq(after, ", ") {
		if !isMeshHeader(name) && !slices.Contains(strings.Split(before, ", "), name) {
			return false
		}
	}
	return true
}

// String is the difference in a line.
func (d Difference) String() string {
	value := func(v string) string {
		if v == "" {
			return "(none)"
		}
		return v
	}
	return fmt.Sprintf("%s: %s -> %s", d.Property, value(d.Before), value(d.After))
}
