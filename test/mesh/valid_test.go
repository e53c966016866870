package mesh

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/analysis/analyzers"
	"istio.io/istio/pkg/config/analysis/diag"
	"istio.io/istio/pkg/config/analysis/local"
	"istio.io/istio/pkg/config/schema/collections"
	"istio.io/istio/pkg/config/schema/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// explained are the messages of Istio that are right to be there. Each must still occur.
var explained = []struct{ contains, because string }{
	{"IST0128", "scope Host is the textbook shape: without caCertificates Istio verifies against the system's roots, which is what is wanted"},
	{"IST0118", "a port name of the user's own existing Service"},
	{oneEntryPerHost, "ports of one host in several ServiceEntries are merged: the simulation reaches each of them"},
}

// oneEntryPerHost marks an error that is the analyzer's own: it keeps one ServiceEntry per host and does not see the ports of the others
// (istio: pkg/config/analysis/analyzers/util, InitServiceEntryHostMap).
const oneEntryPerHost = "[IST0101 although a ServiceEntry has the port]"

// pods are what the analyzers expect of a namespace whose pods have sidecars.
const pods = `
apiVersion: v1
kind: Namespace
metadata: {name: demo, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Pod
metadata: {name: shop, namespace: demo, labels: {app: shop, tier: front}, annotations: {sidecar.istio.io/status: "{}"}}
spec: {containers: [{name: shop, image: shop}, {name: istio-proxy, image: istio/proxyv2}]}
`

// complaints are what Istio's validators and analyzers say about the objects of some folders.
func complaints(t *testing.T, folders ...*folder) (errors, remarks []string) {
	t.Helper()
	var all []*unstructured.Unstructured
	for _, f := range folders {
		all = slices.Concat(all, f.existing, f.generated)
		for _, object := range f.generated {
			if object.GetKind() == "Service" {
				continue
			}
			c := istioConfig(t, object)
			collection, _ := collections.Pilot.FindByGroupVersionKind(c.GroupVersionKind)
			warning, err := collection.ValidateConfig(c)
			if err != nil {
				errors = append(errors, fmt.Sprintf("%s %s: %v", object.GetKind(), object.GetName(), err))
			}
			if err := unknownFields(collection, object); err != nil {
				errors = append(errors, fmt.Sprintf("%s %s: %v", object.GetKind(), object.GetName(), err))
			}
			if warning != nil {
				remarks = append(remarks, fmt.Sprintf("%s %s: %v", object.GetKind(), object.GetName(), warning))
			}
		}
	}

	content := pods
	for _, object := range all {
		document, err := yaml.Marshal(object.Object)
		if err != nil {
			t.Fatal(err)
		}
		content += "---\n" + string(document)
	}
	analyzer := local.NewIstiodAnalyzer(analyzers.AllCombined(), "", "istio-system", nil)
	if err := analyzer.AddTestReaderKubeSource([]local.ReaderSource{{Name: "objects", Reader: strings.NewReader(content)}}); err != nil {
		t.Fatal(err)
	}
	result, err := analyzer.Analyze(t.Context().Done())
	if err != nil {
		t.Fatal(err)
	}
	if len(result.SkippedAnalyzers) > 0 {
		errors = append(errors, fmt.Sprintf("analyzers did not run: %v", result.SkippedAnalyzers))
	}
	for _, m := range result.Messages {
		line := m.String()
		if m.Type.Code() == "IST0101" && declared(all, m) {
			remarks = append(remarks, oneEntryPerHost+" "+line)
			continue
		}
		if m.Type.Level() == diag.Error {
			errors = append(errors, line)
			continue
		}
		remarks = append(remarks, line)
	}
	return errors, remarks
}

// unknownFields tells of fields that Istio would silently leave out.
func unknownFields(collection resource.Schema, object *unstructured.Unstructured) error {
	raw, err := json.Marshal(object.Object["spec"])
	if err != nil {
		return err
	}
	spec, err := collection.NewInstance()
	if err != nil {
		return err
	}
	return config.ApplyJSONStrict(spec, string(raw))
}

// declared says whether a ServiceEntry has the very host and port that the analyzer misses.
func declared(objects []*unstructured.Unstructured, m diag.Message) bool {
	for _, object := range objects {
		if object.GetKind() != "ServiceEntry" {
			continue
		}
		hosts, _, _ := unstructured.NestedStringSlice(object.Object, "spec", "hosts")
		ports, _, _ := unstructured.NestedSlice(object.Object, "spec", "ports")
		for _, host := range hosts {
			for _, port := range ports {
				if slices.Contains(m.Parameters, any(fmt.Sprintf("%s:%v", host, port.(map[string]any)["number"]))) {
					return true
				}
			}
		}
	}
	return false
}
