package admission_test

import (
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/version"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"

	"github.com/externalroute/externalroute/internal/admission"
)

// The API server's own validation compiles every CEL rule and estimates its cost from the declared bounds: a rule that is too dear or does not
// compile shows here, not at the first installation.
func TestTheCustomResourceDefinitionIsValid(t *testing.T) {
	definition, err := admission.Definition()
	if err != nil {
		t.Fatal(err)
	}
	definition.Status.StoredVersions = []string{"v1alpha1"}
	for _, problem := range validation.ValidateCustomResourceDefinition(t.Context(), definition) {
		t.Error(problem)
	}
}

// An API server takes in new rules only what the version before it knew, so that it can be rolled back: this is the environment of Kubernetes 1.31, the
// oldest that the chart and docs/upgrade.md name. (The one before it lacks isIP and cidr.)
func TestTheRulesCompileInTheOldestKubernetes(t *testing.T) {
	definition, err := admission.Definition()
	if err != nil {
		t.Fatal(err)
	}
	openAPI := definition.Spec.Validation
	if openAPI == nil {
		openAPI = definition.Spec.Versions[0].Schema
	}
	structural, err := schema.NewStructural(openAPI.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	for old, works := range map[*version.Version]bool{version.MajorMinor(1, 30): true, version.MajorMinor(1, 29): false} {
		rules, refused := compile(t, structural, field.NewPath(""), true, environment.MustBaseEnvSet(old))
		if rules < 50 {
			t.Fatalf("found only %d rules: the test looks at the wrong place", rules)
		}
		if works != (len(refused) == 0) {
			t.Errorf("what %s knew is enough: %t, and refused are %v", old, works, refused)
		}
	}
}

// compile counts the rules of a schema and all below it, and returns what is refused.
func compile(t *testing.T, s *schema.Structural, path *field.Path, root bool, base *environment.EnvSet) (rules int, refused []string) {
	t.Helper()
	results, err := cel.Compile(s, model.SchemaDeclType(s, root), celconfig.PerCallLimit, base, cel.NewExpressionsEnvLoader())
	if err != nil {
		t.Fatal(err)
	}
	for _, result := range results {
		if result.Error != nil {
			refused = append(refused, path.String()+": "+result.Error.Detail)
		}
	}
	below := map[string]*schema.Structural{"[]": s.Items}
	if s.AdditionalProperties != nil {
		below["{}"] = s.AdditionalProperties.Structural
	}
	for name := range s.Properties {
		property := s.Properties[name]
		below[name] = &property
	}
	rules = len(results)
	for name, child := range below {
		if child != nil {
			more, bad := compile(t, child, path.Child(name), false, base)
			rules, refused = rules+more, append(refused, bad...)
		}
	}
	return rules, refused
}
