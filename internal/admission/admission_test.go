package admission_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/admission"
)

// test/api compares every rule with a real API server. Here stands what callers build on.
func TestAdmit(t *testing.T) {
	admit, err := admission.New()
	if err != nil {
		t.Fatal(err)
	}
	manifest := func(text string) *unstructured.Unstructured {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(text), &object.Object); err != nil {
			t.Fatal(err)
		}
		return object
	}

	t.Run("a good manifest is admitted with its defaults, and stays as it was", func(t *testing.T) {
		given := manifest(`
apiVersion: networking.externalroute.io/v1alpha1
kind: ExternalRoute
metadata: {name: web, namespace: demo}
spec: {hosts: [web], destinations: [{url: "https://example.com"}]}
status: {hosts: [forged]}
`)
		before := given.DeepCopy()
		got, problems := admit.Admit(t.Context(), given)
		if len(problems) > 0 {
			t.Fatal(problems.ToAggregate())
		}
		want := &v1alpha1.ExternalRoute{
			TypeMeta:   metav1.TypeMeta{APIVersion: "networking.externalroute.io/v1alpha1", Kind: "ExternalRoute"},
			ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "demo"},
			Spec: v1alpha1.ExternalRouteSpec{
				Hosts:                 []v1alpha1.RouteHost{"web"},
				ServiceCreationPolicy: v1alpha1.ServiceCreationIfMissing,
				Destinations:          []v1alpha1.Destination{{URL: "https://example.com"}},
				MeshHeaders:           v1alpha1.MeshHeadersRemove,
				ExportTo:              []v1alpha1.ExportNamespace{"."},
			},
			Status: got.Status, // the default of a brand-new route
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if len(got.Status.Hosts) > 0 || len(got.Status.Conditions) != 2 {
			t.Errorf("the status is not that of a brand-new route: %+v", got.Status)
		}
		if diff := cmp.Diff(before, given); diff != "" {
			t.Errorf("the manifest was changed: %s", diff)
		}
	})

	for sentence, c := range map[string]struct {
		manifest string
		want     []string
	}{
		"unknown fields are refused by their paths": {
			manifest: `{metadata: {name: web}, spec: {hots: [web], hosts: [web], destinations: [{url: "https://example.com", tls: {insecure: true}}]}}`,
			want:     []string{"spec.destinations[0].tls.insecure", "spec.hots"},
		},
		"what breaks the schema is refused": {
			manifest: `{metadata: {name: web}, spec: {hosts: [web], port: 0, destinations: [{url: "https://example.com"}]}}`,
			want:     []string{"spec.port"},
		},
		"what breaks a rule is refused": {
			manifest: `{metadata: {name: web}, spec: {hosts: [web], destinations: [{url: "https://10.0.0.1"}]}}`,
			want:     []string{"spec.destinations[0].url"},
		},
		"an item that stands twice is refused": {
			manifest: `{metadata: {name: web}, spec: {hosts: [web, web], destinations: [{url: "https://example.com"}]}}`,
			want:     []string{"spec.hosts[1]"},
		},
		"a route without a name is refused": {
			manifest: `{spec: {hosts: [web], destinations: [{url: "https://example.com"}]}}`,
			want:     []string{"metadata.name"},
		},
		"nothing is refused": {manifest: `{}`, want: []string{"metadata.name", "spec"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			route, problems := admit.Admit(t.Context(), manifest(c.manifest))
			var fields []string
			for _, problem := range problems {
				fields = append(fields, problem.Field)
			}
			if diff := cmp.Diff(c.want, fields); diff != "" || route != nil {
				t.Errorf("%s%v", diff, problems)
			}
		})
	}
}
