package mesh

import (
	"os"
	"path/filepath"
	"testing"

	"istio.io/istio/pkg/config/schema/collections"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// Istio's validator has nothing to say about the AuthorizationPolicies that users copy.
func TestRecipesAreValid(t *testing.T) {
	files, err := filepath.Glob("../../config/recipes/authorization-*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("found no recipes: %v", err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		object := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict(content, &object.Object); err != nil {
			t.Fatal(err)
		}
		if err := unknownFields(collections.AuthorizationPolicy, object); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		warning, err := collections.AuthorizationPolicy.ValidateConfig(istioConfig(t, object))
		if warning != nil || err != nil {
			t.Errorf("%s: %v, %v", file, warning, err)
		}
	}
}
