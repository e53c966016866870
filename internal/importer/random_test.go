package importer_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/importer"
	"github.com/externalroute/externalroute/internal/translate"
	"github.com/externalroute/externalroute/test/random"
)

// What a random route generates, read as if it were written by hand, gives a route that generates the same, as far as the importer has words.
// -rapid.checks=N tries more.
func TestGeneratedObjectsAreImportedAsTheyWere(t *testing.T) {
	generator, err := random.New()
	if err != nil {
		t.Fatal(err)
	}
	judge := newJudge(t)
	manifests := generator.Manifests()
	tried, imported := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		manifest := manifests.Draw(t, "manifest")
		route, problems := generator.Admit(manifest)
		if len(problems) > 0 || unlike(route) {
			t.SkipNow()
		}
		mesh := translate.Mesh{ClusterDomain: translate.DefaultClusterDomain, Services: map[types.NamespacedName]translate.Service{}}
		before, refusal := translate.Translate(route, mesh)
		if refusal != nil {
			t.SkipNow()
		}
		tried++
		var objects []translate.Object
		for _, item := range before.Objects {
			object := item.DeepCopyObject().(translate.Object)
			object.SetLabels(nil)
			objects = append(objects, object)
		}
		result := importer.Import(objects, importer.Options{ClusterDomain: translate.DefaultClusterDomain, Admit: judge})
		if len(result.Routes) != 1 || len(result.Stays) > 0 {
			return
		}
		imported++
		admitted, problems := judge(result.Routes[0].Route)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		after, refusal := translate.Translate(admitted, mesh)
		if refusal != nil {
			t.Fatal(refusal.Message())
		}
		if diff := cmp.Diff(nameless(t, before.Objects), nameless(t, after.Objects)); diff != "" {
			text, _ := yaml.Marshal(manifest.Object)
			again, _ := yaml.Marshal(result.Routes[0].Route)
			t.Fatalf("%s\n%s\n%s", diff, text, again)
		}
	})
	t.Logf("%d tried, %d imported", tried, imported)
	if imported < tried/3 {
		t.Errorf("%d tried, and only %d imported", tried, imported)
	}
}

// unlike reports whether the importer says a route in other words on purpose: TLS for the whole host becomes a subset, the mesh's headers are removed, and an
// endpoint that is the host itself is left out.
func unlike(route *v1alpha1.ExternalRoute) bool {
	return route.Spec.MeshHeaders == v1alpha1.MeshHeadersKeep || route.Spec.EgressGateway != nil || route.Spec.Waypoint != nil ||
		slices.ContainsFunc(route.Spec.Destinations, func(d v1alpha1.Destination) bool {
			return d.TLS != nil && d.TLS.Scope == v1alpha1.TLSScopeHost || len(d.Endpoints) == 1 && strings.Contains(string(d.URL), "//"+string(d.Endpoints[0].Address))
		})
}

var (
	hashedName  = regexp.MustCompile(`"[a-z0-9][-a-z0-9.]*-[0-9a-f]{10}"`)
	privateName = regexp.MustCompile(`[0-9a-f]{10}\.[-a-z0-9]+\.externalroute\.internal`)
	multicast   = regexp.MustCompile(`"239\.[0-9.]+"`)
)

// nameless are the specs of objects without the names that only tie them to each other.
func nameless(t *rapid.T, objects translate.Objects) []string {
	used := map[string]bool{} // a subset that no rule uses means nothing
	for _, v := range translate.Of[*networkingv1.VirtualService](objects) {
		for _, http := range v.Spec.Http {
			for _, to := range http.Route {
				used[to.Destination.Subset] = true
			}
		}
		for _, tcp := range v.Spec.Tcp {
			for _, to := range tcp.Route {
				used[to.Destination.Subset] = true
			}
		}
	}
	var texts []string
	for _, item := range objects {
		spec := any(item.Object)
		switch o := item.Object.(type) {
		case *networkingv1.ServiceEntry:
			spec = &o.Spec
		case *networkingv1.DestinationRule:
			rule := o.DeepCopy()
			rule.Spec.Subsets = slices.DeleteFunc(rule.Spec.Subsets, func(s *istio.Subset) bool { return !used[s.Name] })
			spec = &rule.Spec
		case *networkingv1.VirtualService:
			v := o.DeepCopy()
			for _, http := range v.Spec.Http { // the order and the case of removed headers mean nothing
				removed := http.GetHeaders().GetRequest().GetRemove()
				for i, name := range removed {
					removed[i] = strings.ToLower(name)
				}
				slices.Sort(removed)
			}
			spec = &v.Spec
		}
		raw, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(raw), "."+item.GetNamespace()+".svc."+translate.DefaultClusterDomain, "") // a short name means the same
		text = privateName.ReplaceAllString(text, "PRIVATE")
		texts = append(texts, multicast.ReplaceAllString(hashedName.ReplaceAllString(text, `"NAME"`), `"ADDRESS"`))
	}
	slices.Sort(texts)
	return texts
}
