package admission_test

import (
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"

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
