// Package mesh asks Istio what it makes of the objects that routes become: its validators, its analyzers, and its simulation of what sidecars do.
//
// It is a module of its own, since Istio brings its own Kubernetes, and reads YAML only: the operator's golden folders. It never imports the operator,
// so that what it expects (promise_test.go) is written down a second time, from the manifest alone.
package mesh

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	istiolog "istio.io/istio/pkg/log"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

const (
	goldenFolders = "../../internal/translate/testdata"
	namespace     = "demo"
)

func TestMain(m *testing.M) {
	for _, scope := range istiolog.Scopes() { // istiod tells its life at every start
		scope.SetOutputLevel(istiolog.NoneLevel)
	}
	os.Exit(m.Run())
}

// folder is one golden case of the translation.
type folder struct {
	name  string
	route manifest
	// existing is what else the cluster holds, generated what the route becomes: nothing where it is refused.
	existing, generated []*unstructured.Unstructured
	accepted            bool
	calls               []call
	gateway             *gateway // that the route names, nil if there is none
}

// call is a line of calls.yaml: a request to the first of the route's hosts, and what must become of it. What is left out is not looked at.
type call struct {
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"`

	WantPath        string `json:"wantPath"`
	WantDestination string `json:"wantDestination"`
	WantAuthority   string `json:"wantAuthority"`
	WantStatus      int    `json:"wantStatus"`
}

func readFolders(t *testing.T) []*folder {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(goldenFolders, "*", "route.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden folders: %v", err)
	}
	var folders []*folder
	for _, file := range files {
		folders = append(folders, readFolder(t, filepath.Dir(file)))
	}
	return folders
}

func readFolder(t *testing.T, path string) *folder {
	t.Helper()
	var policy struct {
		Spec struct {
			EgressGateway *egressRef `json:"egressGateway"`
		} `json:"spec"`
	}
	f := &folder{name: filepath.Base(path), generated: readObjects(t, filepath.Join(path, "want.yaml"))}
	for _, object := range readObjects(t, filepath.Join(path, "route.yaml")) {
		switch object.GetKind() {
		case "ExternalRoute":
			readYAML(t, jsonOf(t, object), &f.route)
		case "ExternalRoutePolicy":
			readYAML(t, jsonOf(t, object), &policy)
		default:
			f.existing = append(f.existing, object)
		}
	}
	if f.route.Spec.EgressGateway == nil {
		f.route.Spec.EgressGateway = policy.Spec.EgressGateway
	}
	f.route.fillIn()
	f.addGateway(t)

	var status struct {
		Conditions []struct{ Type, Status string } `json:"conditions"`
	}
	readYAML(t, readFile(t, filepath.Join(path, "status.yaml")), &status)
	for _, c := range status.Conditions {
		f.accepted = f.accepted || c.Type == "Accepted" && c.Status == "True"
	}
	readYAML(t, readFile(t, filepath.Join(path, "calls.yaml")), &f.calls)
	return f
}

func jsonOf(t *testing.T, object *unstructured.Unstructured) []byte {
	t.Helper()
	raw, err := object.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func readObjects(t *testing.T, file string) []*unstructured.Unstructured {
	t.Helper()
	reader, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	var objects []*unstructured.Unstructured
	decoder := utilyaml.NewYAMLOrJSONDecoder(reader, 4096)
	for {
		object := &unstructured.Unstructured{}
		switch err := decoder.Decode(object); {
		case errors.Is(err, io.EOF):
			return objects
		case err != nil:
			t.Fatalf("%s: %v", file, err)
		case object.Object == nil:
			continue
		}
		if object.GetNamespace() == "" && object.GetKind() != "Namespace" {
			object.SetNamespace(namespace)
		}
		objects = append(objects, object)
	}
}

// readFile returns nothing for a file that is not there: not every folder has all of them.
func readFile(t *testing.T, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return content
}

func readYAML(t *testing.T, content []byte, into any) {
	t.Helper()
	if err := yaml.Unmarshal(content, into); err != nil {
		t.Fatalf("%v in:\n%s", err, content)
	}
}

// find returns a folder by its name.
func find(t *testing.T, name string) *folder {
	t.Helper()
	return readFolder(t, filepath.Join(goldenFolders, name))
}
