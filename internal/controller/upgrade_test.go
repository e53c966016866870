package controller_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/config/crd"
	"github.com/externalroute/externalroute/test/controlplane"
)

// An upgrade can start the operator before it replaces the CRD of the release before, which does not declare status.destinations. Routes become Ready all the
// same, and get the field with the first write after the CRD has it.
func TestRouteIsReadyBeforeTheCRDIsUpgraded(t *testing.T) {
	c, err := startCluster(controlplane.Options{Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	if err := c.plane.InstallCRDs(crdOfEarlier(t)); err != nil {
		t.Fatal(err)
	}
	if err := c.startOperator(); err != nil {
		t.Fatal(err)
	}
	s := newStory(t, c)
	s.route("web", simple)
	s.route("shop", strings.ReplaceAll(simple, "web", "shop"))
	for _, name := range []string{"web", "shop"} {
		if route := s.ready(name); len(route.Status.Destinations) > 0 {
			t.Errorf("the CRD does not declare what %s has: %v", name, route.Status.Destinations)
		}
	}
	s.quiet()

	if err := c.plane.InstallCRDs(crd.ExternalRoutes); err != nil {
		t.Fatal(err)
	}
	s.until("the new CRD should be in force", func() string {
		probe := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{
			"destinations": []any{map[string]any{"name": "primary", "host": "example.com", "port": int64(443), "subset": "web"}},
		}}}
		probe.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind("ExternalRoute"))
		probe.SetNamespace(s.namespace)
		probe.SetName("web")
		err := s.client.Status().Apply(t.Context(), client.ApplyConfigurationFromUnstructured(probe), client.FieldOwner("probe"), client.DryRunAll)
		if err != nil {
			return err.Error()
		}
		return ""
	})
	for _, name := range []string{"web", "shop"} {
		s.touchSpec(name)
		s.until(name+" should name its upstream", func() string {
			status := s.ready(name).Status
			if len(status.Destinations) != 1 {
				return "it has none"
			}
			return cmp.Diff("api.example.com", status.Destinations[0].Host)
		})
	}
}

// crdOfEarlier is the CRD as an earlier release had it.
func crdOfEarlier(t *testing.T) []byte {
	t.Helper()
	var definition apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(crd.ExternalRoutes, &definition); err != nil {
		t.Fatal(err)
	}
	status := definition.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["status"]
	if _, declared := status.Properties["destinations"]; !declared {
		t.Fatal("the CRD does not declare status.destinations")
	}
	delete(status.Properties, "destinations")
	content, err := yaml.Marshal(definition)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
