package chart_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"

	"github.com/externalroute/externalroute/test/controlplane"
)

// Whatever is rendered fits the schemas of the API server that runs here, with our CRD and those of the Prometheus operator in it.
func TestManifestsFitTheSchemasOfTheAPIServer(t *testing.T) {
	plane, err := controlplane.Start(controlplane.Options{ExternalRoute: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := plane.Stop(); err != nil {
			t.Error(err)
		}
	})
	for _, kind := range []string{"servicemonitors", "prometheusrules"} {
		definition, err := os.ReadFile(filepath.Join(tools, "monitoring", "monitoring.coreos.com_"+kind+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if err := plane.InstallCRDs(definition); err != nil {
			t.Fatal(err)
		}
	}
	var schemas string
	eventually(t, "the API server describes the kinds of all CRDs", func() bool {
		schemas = writeSchemas(t, plane)
		return !slices.ContainsFunc([]string{"externalroute-networking-v1alpha1", "servicemonitor-monitoring-v1", "prometheusrule-monitoring-v1"},
			func(name string) bool {
				_, err := os.Stat(filepath.Join(schemas, name+".json"))
				return err != nil
			})
	})

	manifests := map[string][]byte{"config/default": kustomize(t, "config/default"), "config/default with all that it offers": allOfConfig(t)}
	for _, values := range valuesFiles(t) {
		manifests[filepath.Base(values)] = render(t, "--values="+values)
	}
	for name, rendered := range manifests {
		if problems, err := conform(t, schemas, rendered); err != nil {
			t.Errorf("%s: %v\n%s", name, err, problems)
		}
	}

	everything := render(t, valuesOf("everything"))
	for what, edit := range map[string]*strings.Replacer{
		"a misspelt field":                      strings.NewReplacer("enableServiceLinks:", "enableServiceLink:"),
		"a string for a number":                 strings.NewReplacer("containerPort: 8081", "containerPort: many"),
		"a misspelt field of a ServiceMonitor":  strings.NewReplacer("honorLabels:", "honourLabels:"),
		"a kind that the API server lacks":      strings.NewReplacer("kind: NetworkPolicy", "kind: NetworkPolice"),
		"a field that a CRD does not have here": strings.NewReplacer("preserveUnknownFields:", "x:", "additionalPrinterColumns:", "printerColumns:"),
	} {
		broken := edit.Replace(string(everything))
		if broken == string(everything) {
			t.Errorf("%s could not be planted", what)
		}
		if _, err := conform(t, schemas, []byte(broken)); err == nil {
			t.Errorf("%s is not found", what)
		}
	}
}

// conform runs kubeconform.
func conform(t *testing.T, schemas string, manifests []byte) (problems []byte, err error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), filepath.Join(tools, "kubeconform"),
		"-strict", "-summary", "-schema-location", schemas+"/{{ .ResourceKind }}{{ .KindSuffix }}.json", "-")
	command.Stdin = bytes.NewReader(manifests)
	return command.CombinedOutput()
}

// writeSchemas writes a JSON schema for every kind that the API server describes, and returns their folder.
func writeSchemas(t *testing.T, plane *controlplane.ControlPlane) string {
	t.Helper()
	client, err := discovery.NewDiscoveryClientForConfig(plane.Config)
	if err != nil {
		t.Fatal(err)
	}
	paths, err := client.OpenAPIV3().Paths()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for path, version := range paths {
		content, err := version.Schema(runtime.ContentTypeJSON)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		var document struct {
			Components struct {
				Schemas map[string]map[string]any `json:"schemas"`
			} `json:"components"`
		}
		if err := json.Unmarshal(content, &document); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, definition := range document.Components.Schemas {
			refuseUnknown(definition)
		}
		for name, definition := range document.Components.Schemas {
			kinds, _ := definition["x-kubernetes-group-version-kind"].([]any)
			if len(kinds) != 1 { // one that all groups share, such as DeleteOptions
				continue
			}
			kind := kinds[0].(map[string]any)
			gvk := schema.GroupVersionKind{Group: kind["group"].(string), Version: kind["version"].(string), Kind: kind["kind"].(string)}
			content, err := json.Marshal(map[string]any{"$ref": "#/components/schemas/" + name, "components": document.Components})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(folder, schemaFile(gvk)), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return folder
}

// schemaFile is the name by which kubeconform looks for a kind.
func schemaFile(gvk schema.GroupVersionKind) string {
	parts := []string{gvk.Kind, gvk.Version}
	if gvk.Group != "" {
		group, _, _ := strings.Cut(gvk.Group, ".")
		parts = []string{gvk.Kind, group, gvk.Version}
	}
	return strings.ToLower(strings.Join(parts, "-")) + ".json"
}

// refuseUnknown makes an object of known fields refuse others, as the API server does where it validates strictly.
func refuseUnknown(definition map[string]any) {
	for name, part := range definition {
		switch part := part.(type) {
		case map[string]any:
			if name != "properties" {
				refuseUnknown(part)
				continue
			}
			for _, property := range part {
				refuseUnknown(property.(map[string]any))
			}
		case []any:
			for _, alternative := range part {
				if inner, ok := alternative.(map[string]any); ok {
					refuseUnknown(inner)
				}
			}
		}
	}
	_, known := definition["properties"]
	_, others := definition["additionalProperties"]
	if known && !others && definition["x-kubernetes-preserve-unknown-fields"] != true {
		definition["additionalProperties"] = false
	}
}
