// Command crdschemas writes the schemas of our CRDs as JSON schemas, for editors and for kubeconform: FOLDER/GROUP/KIND_VERSION.json, the layout that
// kubeconform finds with -schema-location 'FOLDER/{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json'. CEL rules are not part of them.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "crdschemas:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) < 2 {
		return errors.New("want: FOLDER and the files of CRDs")
	}
	for _, name := range arguments[1:] {
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		var definition apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(content, &definition); err != nil {
			return fmt.Errorf("parse %s: %w", name, err)
		}
		for i := range definition.Spec.Versions {
			if err := write(arguments[0], &definition, &definition.Spec.Versions[i]); err != nil {
				return fmt.Errorf("convert %s: %w", name, err)
			}
		}
	}
	return nil
}

func write(folder string, definition *apiextensionsv1.CustomResourceDefinition, version *apiextensionsv1.CustomResourceDefinitionVersion) error {
	converted, err := runtime.DefaultUnstructuredConverter.ToUnstructured(version.Schema.OpenAPIV3Schema)
	if err != nil {
		return err
	}
	plain(converted)
	converted["$schema"] = "http://json-schema.org/draft-07/schema#"
	properties, ok := converted["properties"].(map[string]any)
	if !ok {
		return errors.New("the schema has no properties")
	}
	properties["apiVersion"] = map[string]any{"type": "string", "enum": []any{definition.Spec.Group + "/" + version.Name}}
	properties["kind"] = map[string]any{"type": "string", "enum": []any{definition.Spec.Names.Kind}}
	converted["required"] = []any{"apiVersion", "kind", "metadata", "spec"}
	raw, err := json.MarshalIndent(converted, "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Join(folder, definition.Spec.Group, strings.ToLower(definition.Spec.Names.Kind)+"_"+version.Name+".json")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, append(raw, '\n'), 0o644)
}

// plain takes away what only Kubernetes understands, and closes objects: kubectl refuses unknown fields, and an editor should underline them.
func plain(schema map[string]any) {
	for name := range schema {
		if strings.HasPrefix(name, "x-kubernetes-") {
			delete(schema, name)
		}
	}
	if properties, ok := schema["properties"].(map[string]any); ok {
		schema["additionalProperties"] = false
		for _, property := range properties {
			plain(property.(map[string]any))
		}
	}
	for _, below := range []string{"items", "additionalProperties"} {
		if nested, ok := schema[below].(map[string]any); ok {
			plain(nested)
		}
	}
	for _, below := range []string{"oneOf", "anyOf", "allOf"} {
		if _, ok := schema[below]; ok {
			panic(below + " is not expected in a schema of ours")
		}
	}
}
