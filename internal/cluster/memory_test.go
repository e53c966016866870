package cluster

import (
	"encoding/json"
	"fmt"
	"runtime"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// BenchmarkObjects reports the live heap for one object of Istio's in a cache, with its indexes. An object of other people is to take less than 2 KB.
func BenchmarkObjects(b *testing.B) {
	specs := map[string]string{
		"VirtualService": `{"hosts":["app-%05[1]d.example.com"],"exportTo":["."],"http":[{"match":[{"uri":{"prefix":"/"}}],
			"route":[{"destination":{"host":"app-%05[1]d.example.com","port":{"number":443},"subset":"tls"}}],"timeout":"10s"},{}]}`,
		"ServiceEntry": `{"hosts":["app-%05[1]d.example.com","www.app-%05[1]d.example.com"],"exportTo":["."],"location":"MESH_EXTERNAL",
			"resolution":"DNS","ports":[{"number":443,"name":"tls","protocol":"TLS"},{"number":80,"name":"http","protocol":"HTTP"}]}`,
		"DestinationRule": `{"host":"app-%05[1]d.example.com","exportTo":["."],"subsets":[{"name":"tls-%05[1]d","trafficPolicy":
			{"tls":{"mode":"SIMPLE","sni":"app-%05[1]d.example.com"}}},{"name":"plain"}]}`,
	}
	for _, k := range istioKinds(translate.DefaultClusterDomain) {
		for _, owner := range []string{"foreign", "own"} {
			b.Run(k.gvk.Kind+"/"+owner, func(b *testing.B) {
				benchmarkObjects(b, k, func(i int) []byte {
					o := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
						Namespace: fmt.Sprintf("team-%02d", i%50), Name: fmt.Sprintf("%s-%05d", owner, i), ResourceVersion: fmt.Sprint(10_000 + i),
						UID: types.UID(fmt.Sprintf("%036d", i)), CreationTimestamp: metav1.Now(), Generation: 1,
						Labels:        map[string]string{"app": fmt.Sprint(i), "team": fmt.Sprintf("team-%02d", i%50)},
						ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{}}`)}},
					}}
					if owner == "own" {
						route := &v1alpha1.ExternalRoute{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("web-%05d", i), UID: types.UID(fmt.Sprintf("%036d", i))}}
						o.Labels = map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}
						o.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(route, v1alpha1.SchemeGroupVersion.WithKind("ExternalRoute"))}
					}
					raw, err := json.Marshal(map[string]any{"metadata": o.ObjectMeta, "spec": json.RawMessage(fmt.Appendf(nil, specs[k.gvk.Kind], i))})
					if err != nil {
						b.Fatal(err)
					}
					return raw
				})
			})
		}
	}
}

func benchmarkObjects(b *testing.B, k kind, manifest func(int) []byte) {
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
		indexers := toolscache.Indexers{toolscache.NamespaceIndex: toolscache.MetaNamespaceIndexFunc}
		for name, values := range optionalIndexes {
			indexers[name] = inNamespaceAndAll(values)
		}
		indexer := toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, indexers)
		for i := range objects {
			o := k.newObject()
			if err := json.Unmarshal(manifest(i), o); err != nil {
				b.Fatal(err)
			}
			reduced, err := k.transform(o)
			if err != nil {
				b.Fatal(err)
			}
			if err := indexer.Add(reduced); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(heap()-before)/objects, "B/object")
		runtime.KeepAlive(indexer)
	}
	b.ReportMetric(0, "ns/op")
}

// inNamespaceAndAll indexes as a cache of controller-runtime does.
func inNamespaceAndAll(values client.IndexerFunc) toolscache.IndexFunc {
	return func(item any) ([]string, error) {
		o := item.(client.Object)
		var both []string
		for _, value := range values(o) {
			both = append(both, o.GetNamespace()+"/"+value, "__all_namespaces/"+value)
		}
		return both, nil
	}
}
