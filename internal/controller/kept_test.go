package controller

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/conflict"
	"github.com/externalroute/externalroute/internal/translate"
)

func newKeptVirtualServices() *kept[conflict.VirtualService] {
	return keptVirtualServices(translate.DefaultClusterDomain)
}

// Whatever watches show, in whatever order, what is kept is what there is, found by name, by route and by host; and who follows the events knows the same.
func TestWhatIsKeptIsWhatWatchesShow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k, told := newKeptVirtualServices(), map[types.NamespacedName]string{}
		scopes, filled := map[string]*scope[conflict.VirtualService]{}, 0
		for _, namespace := range []string{"a", "b"} {
			scopes[namespace] = &scope[conflict.VirtualService]{
				kept: k, namespace: namespace, filled: func() { filled++ }, changed: func(was, is *sighting, _ bool) { follows(t, told, was, is) },
			}
		}
		cluster, version := map[types.NamespacedName]*networkingv1.VirtualService{}, 0
		steps := rapid.IntRange(1, 30).Draw(t, "steps")
		for range steps {
			version++
			object := anyVirtualService(t, version)
			key := client.ObjectKeyFromObject(object)
			s := scopes[object.Namespace]
			switch before := cluster[key]; rapid.SampledFrom([]string{"change", "change", "delete", "miss"}).Draw(t, "what") {
			case "change":
				cluster[key] = object
				if before == nil {
					_ = s.Add(object.DeepCopy())
				} else {
					_ = s.Update(object.DeepCopy())
				}
			case "delete":
				if before != nil {
					delete(cluster, key)
					last := before.DeepCopy()
					last.ResourceVersion = object.ResourceVersion
					_ = s.Delete(last)
				}
			case "miss": // the watch is cut; what happened meanwhile is learned from a list, which may hold digests already
				cluster[key] = object
				maps.DeleteFunc(cluster, func(other types.NamespacedName, _ *networkingv1.VirtualService) bool {
					return other.Namespace == key.Namespace && other != key && rapid.Bool().Draw(t, "gone")
				})
				var list []any
				for _, o := range cluster {
					if o.Namespace == key.Namespace {
						listed := any(o.DeepCopy())
						if rapid.Bool().Draw(t, "digested") {
							listed, _ = s.Transformer()(listed)
						}
						list = append(list, listed)
					}
				}
				_ = s.Replace(list, object.ResourceVersion)
			}
			compare(t, k, told, cluster)
		}
		if filled > len(scopes) {
			t.Fatalf("told %d times that it is filled", filled)
		}
	})
}

// anyVirtualService is somebody's or a route's, in one of two namespaces, for some of a few hosts.
func anyVirtualService(t *rapid.T, version int) *networkingv1.VirtualService {
	v := &networkingv1.VirtualService{ObjectMeta: metav1.ObjectMeta{
		Namespace:       rapid.SampledFrom([]string{"a", "b"}).Draw(t, "namespace"),
		Name:            rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "name"),
		ResourceVersion: fmt.Sprint(version),
	}}
	v.Spec.Hosts = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"one.example.com", "two.example.com", "three.example.com"}), 1, 3, rapid.ID).Draw(t, "hosts")
	switch owner := rapid.SampledFrom([]string{"", "first", "second", "Deployment"}).Draw(t, "owner"); owner {
	case "":
		if rapid.Bool().Draw(t, "handed over") {
			v.Annotations = map[string]string{v1alpha1.AdoptAnnotation: "first"}
		}
	case "Deployment":
		v.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: owner, Name: "web", Controller: new(true)}}
	default:
		route := &v1alpha1.ExternalRoute{ObjectMeta: metav1.ObjectMeta{Name: owner, UID: types.UID(owner)}}
		v.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(route, v1alpha1.SchemeGroupVersion.WithKind("ExternalRoute"))}
	}
	return v
}

// follows keeps the versions that events tell.
func follows(t *rapid.T, told map[types.NamespacedName]string, was, is *sighting) {
	switch {
	case was == nil:
		if _, known := told[client.ObjectKeyFromObject(is)]; known {
			t.Fatalf("%s is told to be new, and is not", is.GetName())
		}
	case is == nil:
		delete(told, client.ObjectKeyFromObject(was))
		return
	case told[client.ObjectKeyFromObject(was)] != was.GetResourceVersion():
		t.Fatalf("%s is told to have been at %s, and was not", was.GetName(), was.GetResourceVersion())
	}
	if kindOf(is) != "VirtualService" {
		t.Fatalf("%s is told to be a %q", is.GetName(), kindOf(is))
	}
	told[client.ObjectKeyFromObject(is)] = is.GetResourceVersion()
}

func compare(t *rapid.T, k *kept[conflict.VirtualService], told map[types.NamespacedName]string, cluster map[types.NamespacedName]*networkingv1.VirtualService) {
	versions, owned, claiming := map[types.NamespacedName]string{}, map[types.UID][]string{}, map[string][]conflict.Identity{}
	generated := 0
	for key, v := range cluster {
		versions[key] = v.ResourceVersion
		kept := k.at(key)
		if kept == nil || kept.GetResourceVersion() != v.ResourceVersion || !cmp.Equal(kept.GetOwnerReferences(), v.OwnerReferences) ||
			kept.GetAnnotations()[v1alpha1.AdoptAnnotation] != v.Annotations[v1alpha1.AdoptAnnotation] {
			t.Fatalf("of %s is kept %v", key, kept)
		}
		if owner := routeOwner(v); owner != nil {
			generated++
			owned[owner.UID] = append(owned[owner.UID], key.String()+"@"+v.ResourceVersion)
			continue
		}
		for _, host := range v.Spec.Hosts {
			claiming[host] = append(claiming[host], conflict.IdentityOf(v))
		}
	}
	if diff := cmp.Diff(versions, told); diff != "" {
		t.Fatalf("events tell something else:\n%s", diff)
	}
	if k.generated() != generated || len(k.keys()) != len(cluster) {
		t.Fatalf("%d generated ones of %d are kept, not %d of %d", k.generated(), len(k.keys()), generated, len(cluster))
	}
	for _, uid := range []types.UID{"first", "second"} {
		var kept []string
		for _, o := range k.ownedBy(uid) {
			kept = append(kept, client.ObjectKeyFromObject(o).String()+"@"+o.GetResourceVersion())
		}
		slices.Sort(kept)
		slices.Sort(owned[uid])
		if diff := cmp.Diff(owned[uid], kept); diff != "" {
			t.Fatalf("%s owns something else:\n%s", uid, diff)
		}
	}
	for _, host := range []string{"one.example.com", "two.example.com", "three.example.com"} {
		var kept []conflict.Identity
		for _, facts := range k.claiming(conflict.Name{Host: host}) {
			kept = append(kept, facts.Identity)
		}
		slices.SortFunc(claiming[host], conflict.Identity.Compare)
		if diff := cmp.Diff(claiming[host], kept); diff != "" {
			t.Fatalf("%s is claimed by others:\n%s", host, diff)
		}
	}
}

// BenchmarkOthers tells the live heap for one object of somebody else's.
func BenchmarkOthers(b *testing.B) {
	meta := func(i int) metav1.ObjectMeta {
		return metav1.ObjectMeta{
			Namespace: fmt.Sprintf("team-%02d", i%50), Name: fmt.Sprintf("foreign-%05d", i), ResourceVersion: fmt.Sprint(10_000 + i),
			UID: types.UID(fmt.Sprintf("%036d", i)), Labels: map[string]string{"app": fmt.Sprint(i), "team": fmt.Sprintf("team-%02d", i%50)},
		}
	}
	host := func(i int) string { return fmt.Sprintf("foreign-%05d.example.com", i) }
	b.Run("VirtualService", func(b *testing.B) {
		benchmarkOthers(b, newKeptVirtualServices, func(i int) client.Object {
			v := &networkingv1.VirtualService{ObjectMeta: meta(i)}
			v.Spec.Hosts, v.Spec.ExportTo, v.Spec.Http = []string{host(i)}, []string{"."}, []*istio.HTTPRoute{{}, {}}
			return v
		})
	})
	b.Run("ServiceEntry", func(b *testing.B) {
		benchmarkOthers(b, keptServiceEntries, func(i int) client.Object {
			e := &networkingv1.ServiceEntry{ObjectMeta: meta(i)}
			e.Spec.Hosts, e.Spec.ExportTo = []string{host(i), "www." + host(i)}, []string{"."}
			e.Spec.Ports = []*istio.ServicePort{{Number: 443, Protocol: "TLS"}, {Number: 80, Protocol: "HTTP"}}
			return e
		})
	})
	b.Run("DestinationRule", func(b *testing.B) {
		benchmarkOthers(b, keptDestinationRules, func(i int) client.Object {
			d := &networkingv1.DestinationRule{ObjectMeta: meta(i)}
			d.Spec.Host, d.Spec.ExportTo, d.Spec.Subsets = host(i), []string{"."}, []*istio.Subset{{Name: "tls"}, {Name: "plain"}}
			return d
		})
	})
}

func benchmarkOthers[F rivalFacts](b *testing.B, newStore func() *kept[F], object func(int) client.Object) {
	b.Helper()
	const objects = 20_000
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	for b.Loop() {
		before := heap()
		k := newStore()
		all := &scope[F]{kept: k, filled: func() {}, changed: func(_, _ *sighting, _ bool) {}}
		for i := range objects {
			_ = all.Add(object(i))
		}
		b.ReportMetric(float64(heap()-before)/objects, "B/object")
		runtime.KeepAlive(k)
	}
}
