// Command apirules prints the validation rules of CustomResourceDefinitions as the last section of the API reference: crd-ref-docs lists types and bounds only.
package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(files []string) error {
	fmt.Print("\n## Validation rules\n\nThe API server rejects a manifest that breaks one of these rules, with the field and this message. `[]` stands for each item of " +
		"a list, `*` for\neach key of a map.\n")
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var definition apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(content, &definition); err != nil {
			return fmt.Errorf("parse %s: %w", file, err)
		}
		for _, version := range definition.Spec.Versions {
			fmt.Printf("\n### Rules of %s %s\n\n| field | rule |\n| --- | --- |\n", definition.Spec.Names.Kind, version.Name)
			for _, r := range rulesOf("", version.Schema.OpenAPIV3Schema).merged() {
				fmt.Printf("| `%s` | %s |\n", strings.Join(r.paths, "`<br />`"), escaped.Replace(r.message))
			}
		}
	}
	return nil
}

// escaped keeps a message in its cell, and as it is.
var escaped = strings.NewReplacer("|", `\|`, "*", `\*`, "_", `\_`, "<", "&lt;", "~", `\~`, "[", `\[`, "`", "\\`", "$", `\$`)

// rule is a message, and the fields that it is about.
type rule struct {
	message string
	paths   []string
}

type rules []rule

// merged are the rules with one entry for each message, in the order of their fields.
func (r rules) merged() rules {
	var list rules
	for _, one := range r {
		i := slices.IndexFunc(list, func(other rule) bool { return other.message == one.message })
		if i < 0 {
			list = append(list, one)
			continue
		}
		if !slices.Contains(list[i].paths, one.paths[0]) {
			list[i].paths = append(list[i].paths, one.paths[0])
		}
	}
	slices.SortStableFunc(list, func(a, b rule) int { return strings.Compare(a.paths[0], b.paths[0]) })
	return list
}

// rulesOf are the rules of a schema and all below it.
func rulesOf(path string, schema *apiextensionsv1.JSONSchemaProps) rules {
	var list rules
	for _, validation := range schema.XValidations {
		list = append(list, rule{message: validation.Message, paths: []string{path + validation.FieldPath}})
	}
	if schema.Items != nil {
		list = append(list, rulesOf(path+"[]", schema.Items.Schema)...)
	}
	if schema.AdditionalProperties != nil {
		list = append(list, rulesOf(path+".*", schema.AdditionalProperties.Schema)...)
	}
	for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
		property := schema.Properties[name]
		list = append(list, rulesOf(strings.TrimPrefix(path+"."+name, "."), &property)...)
	}
	return list
}
