package translate_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/admission"
	"github.com/externalroute/externalroute/internal/policy"
	"github.com/externalroute/externalroute/internal/translate"
)

var update = flag.Bool("update", false, "rewrite the golden files from what the translation does now")

// Every folder of testdata is a case that a user could read: route.yaml is the manifest, followed by what else the namespace has (Services,
// ConfigMaps, Gateways, its labels) and the policies; want.yaml is what is generated, in the order in which it is applied; status.yaml is what the route's status says about it.
func TestGolden(t *testing.T) {
	judge, err := admission.New()
	if err != nil {
		t.Fatal(err)
	}
	folders, err := filepath.Glob("testdata/*/route.yaml")
	if err != nil || len(folders) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range folders {
		folder := filepath.Dir(file)
		t.Run(filepath.Base(folder), func(t *testing.T) {
			route, mesh := readCase(t, judge, file)
			translation, refusal := translate.Translate(route, mesh)
			compare(t, filepath.Join(folder, "want.yaml"), printed(t, translation))
			compare(t, filepath.Join(folder, "status.yaml"), printStatus(t, translation, refusal))

			if translation != nil {
				checkObjects(t, translation.Objects)
			}
			again, _ := translate.Translate(route.DeepCopy(), mesh)
			if diff := cmp.Diff(string(printed(t, translation)), string(printed(t, again))); diff != "" {
				t.Errorf("the same route gave something else the second time:\n%s", diff)
			}
		})
	}
}

func readCase(t *testing.T, judge *admission.Admission, file string) (*v1alpha1.ExternalRoute, translate.Mesh) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var route *v1alpha1.ExternalRoute
	mesh := translate.Mesh{
		ClusterDomain:     translate.DefaultClusterDomain,
		Services:          map[types.NamespacedName]translate.Service{},
		MissingConfigMaps: map[string]bool{},
		Waypoints:         map[types.NamespacedName]*translate.Waypoint{},
	}
	configMaps, gateways := map[string]bool{}, map[types.NamespacedName]*translate.Waypoint{}
	var policies policy.Policies
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
	for {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(object); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		switch object.GetKind() {
		case "ExternalRoute":
			object.SetNamespace("demo")
			admitted, problems := judge.Admit(t.Context(), object)
			if len(problems) > 0 {
				t.Fatalf("the API server would refuse the case: %v", problems.ToAggregate())
			}
			route = admitted
		case "Service":
			service := &corev1.Service{}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, service); err != nil {
				t.Fatal(err)
			}
			mesh.Services[types.NamespacedName{Namespace: namespaceOf(object), Name: object.GetName()}] = translate.ServiceFacts(service, nil)
		case "ConfigMap":
			configMaps[object.GetName()] = true
		case "Gateway":
			spec, err := json.Marshal(object.Object["spec"])
			if err != nil {
				t.Fatal(err)
			}
			facts := translate.WaypointFacts(object.GetLabels(), spec)
			gateways[types.NamespacedName{Namespace: namespaceOf(object), Name: object.GetName()}] = &facts
		case "Namespace":
			mesh.NamespaceLabels = object.GetLabels()
		case "ExternalRoutePolicy":
			policies.Put(policyOf(t, object))
		default:
			t.Fatalf("a case cannot hold a %s", object.GetKind())
		}
	}
	scope := policies.For(route.Namespace, mesh.NamespaceLabels)
	route, mesh.RoadPolicies = scope.Lead(route)
	if refusal := scope.Judge(route, policy.Allow); refusal != nil && policies.Len() > 0 {
		t.Fatalf("the policies refuse the case: %s", refusal.Message())
	}
	references := translate.ReferencesOf(route)
	for _, name := range references.ConfigMaps {
		mesh.MissingConfigMaps[name] = !configMaps[name]
	}
	if key := references.Waypoint; key != nil {
		mesh.Waypoints[*key] = gateways[*key]
	}
	return route, mesh
}

func policyOf(t *testing.T, object *unstructured.Unstructured) *v1alpha1.ExternalRoutePolicy {
	t.Helper()
	p := &v1alpha1.ExternalRoutePolicy{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, p); err != nil {
		t.Fatal(err)
	}
	return p
}

func namespaceOf(object *unstructured.Unstructured) string {
	if object.GetNamespace() == "" {
		return "demo"
	}
	return object.GetNamespace()
}

func printed(t *testing.T, translation *translate.Translation) []byte {
	t.Helper()
	var out bytes.Buffer
	if translation == nil {
		return nil
	}
	printer := &printers.YAMLPrinter{}
	for _, object := range translation.Objects {
		manifest, err := translate.Manifest(object)
		if err != nil {
			t.Fatal(err)
		}
		if err := printer.PrintObj(manifest, &out); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// checkObjects holds the order of writing, and that an object which the API server answers with is in sync with the one that was sent.
func checkObjects(t *testing.T, objects translate.Objects) {
	t.Helper()
	last, stage := 0, translate.StageUpstream
	for _, item := range objects {
		kind, found := translate.KindNamed(item.GetObjectKind().GroupVersionKind().Kind)
		if !found || kind.GVK != item.GetObjectKind().GroupVersionKind() || kind.GVK != translate.KindOf(item.Object).GVK {
			t.Fatalf("%T is not in the table of kinds as %v", item.Object, item.GetObjectKind().GroupVersionKind())
		}
		rank := translate.Rank(kind.GVK.Kind)
		if item.Stage < stage || item.Stage == stage && rank < last {
			t.Errorf("%s comes after an object that may refer to it", translate.KeyOf(item))
		}
		last, stage = rank, item.Stage
		if v, is := item.Object.(*networkingv1.VirtualService); is && translate.IsSecondLeg(v) != (item.Stage == translate.StageUpstream) {
			t.Errorf("%s has stage %d", translate.KeyOf(item), item.Stage)
		}
		answer := kind.New()
		manifest, err := translate.Manifest(item)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := manifest.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, answer); err != nil {
			t.Fatal(err)
		}
		if !translate.InSync(item, answer) || translate.Fingerprint(item) != translate.Fingerprint(answer) {
			t.Errorf("%s is not what its manifest says:\n%s", translate.KeyOf(item), raw)
		}
	}
}

func printStatus(t *testing.T, translation *translate.Translation, refusal *translate.Refusal) []byte {
	t.Helper()
	type condition struct {
		Type    string                 `json:"type"`
		Status  metav1.ConditionStatus `json:"status"`
		Reason  string                 `json:"reason"`
		Message string                 `json:"message"`
	}
	var status struct {
		Conditions   []condition                  `json:"conditions"`
		Hosts        []string                     `json:"hosts,omitempty"`
		Destinations []v1alpha1.DestinationStatus `json:"destinations,omitempty"`
	}
	for _, c := range translate.Conditions(translation, refusal) {
		status.Conditions = append(status.Conditions, condition{c.Type, c.Status, c.Reason, c.Message})
	}
	if translation != nil {
		status.Hosts, status.Destinations = translation.HostNames(), translation.Destinations
	}
	out, err := yaml.Marshal(status)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func compare(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if len(got) == 0 {
			_ = os.Remove(file)
			return
		}
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (refresh with -update):\n%s", file, diff)
	}
}
