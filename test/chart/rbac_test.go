package chart_test

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// rights are what a role allows: verbs by RESOURCE.GROUP or path.
type rights map[string]string

// shipped are all rights that anybody gets from config/default or from the chart. A right more is a decision, and changes this table.
var shipped = map[string]rights{
	"manager": {
		"configmaps.":          "list watch",
		"namespaces.":          "list watch",
		"services.":            "create delete list patch watch",
		"events.events.k8s.io": "create patch",
		"externalroutes.networking.externalroute.io":               "list watch",
		"externalroutepolicies.networking.externalroute.io":        "list watch",
		"externalroutepolicies/status.networking.externalroute.io": "patch",
		"externalroutes/finalizers.networking.externalroute.io":    "update",
		"externalroutes/status.networking.externalroute.io":        "patch",
		"destinationrules.networking.istio.io":                     "create delete list patch watch",
		"gateways.networking.istio.io":                             "create delete list patch watch",
		"serviceentries.networking.istio.io":                       "create delete list patch watch",
		"virtualservices.networking.istio.io":                      "create delete list patch watch",
		"httproutes.gateway.networking.k8s.io":                     "list watch",
		"grpcroutes.gateway.networking.k8s.io":                     "list watch",
		"gateways.gateway.networking.k8s.io":                       "list watch",
		"xbackends.gateway.networking.x-k8s.io":                    "list watch",
	},
	"leader-election": {
		"leases.coordination.k8s.io": "create get list patch update watch",
		"events.":                    "create patch",
		"events.events.k8s.io":       "create patch",
	},
	"metrics-auth": {
		"tokenreviews.authentication.k8s.io":        "create",
		"subjectaccessreviews.authorization.k8s.io": "create",
	},
	"metrics-reader": {"/metrics": "get"},
	"viewer": {
		"externalroutes.networking.externalroute.io":        "get list watch",
		"externalroutes/status.networking.externalroute.io": "get",
	},
	"editor": {
		"externalroutes.networking.externalroute.io":        "create delete deletecollection get list patch update watch",
		"externalroutes/status.networking.externalroute.io": "get",
	},
	"policy-admin": {
		"externalroutepolicies.networking.externalroute.io":        "create delete deletecollection get list patch update watch",
		"externalroutepolicies/status.networking.externalroute.io": "get",
	},
}

func TestPermissionsAreMinimal(t *testing.T) {
	inSomeNamespaces := maps.Clone(shipped)
	for _, name := range []string{"metrics-auth", "metrics-reader", "viewer", "editor", "policy-admin"} {
		delete(inSomeNamespaces, name)
	}
	inSomeNamespaces["manager"] = maps.Clone(shipped["manager"])
	for _, clusterScoped := range []string{"namespaces.", "externalroutepolicies.networking.externalroute.io", "externalroutepolicies/status.networking.externalroute.io"} {
		delete(inSomeNamespaces["manager"], clusterScoped)
	}
	for name, c := range map[string]struct {
		manifests []byte
		want      map[string]rights
	}{
		"config/default":                       {kustomize(t, "config/default"), shipped},
		"the chart":                            {render(t), shipped},
		"the chart, some namespaces":           {render(t, valuesOf("namespaces")), inSomeNamespaces},
		"the chart, for a user without rights": {render(t, valuesOf("least")), map[string]rights{}},
	} {
		t.Run(name, func(t *testing.T) {
			got := map[string]rights{}
			for _, object := range objects(t, c.manifests) {
				if kind := object.GetKind(); kind != "Role" && kind != "ClusterRole" {
					continue
				}
				role := strings.TrimPrefix(object.GetName(), "externalroute-")
				allowed := rightsOf(t, object)
				if others, found := got[role]; found && !maps.Equal(others, allowed) {
					t.Errorf("%s differs from namespace to namespace", role)
				}
				got[role] = allowed
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("wanted (-) and given (+):\n%s", diff)
			}
		})
	}
}

// rightsOf reads a role, and refuses in it what no role of ours may have, whatever the table says.
func rightsOf(t *testing.T, object *unstructured.Unstructured) rights {
	t.Helper()
	role := &rbacv1.ClusterRole{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, role, true); err != nil {
		t.Fatal(err)
	}
	known := []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
	allowed := rights{}
	for _, rule := range role.Rules {
		slices.Sort(rule.Verbs)
		for _, verb := range rule.Verbs {
			if !slices.Contains(known, verb) {
				t.Errorf("%s has the verb %q", role.Name, verb)
			}
		}
		targets := slices.Clone(rule.NonResourceURLs)
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				targets = append(targets, resource+"."+group)
			}
		}
		for _, target := range targets {
			if strings.Contains(target, "*") || strings.HasPrefix(target, "secrets") {
				t.Errorf("%s has rights on %q", role.Name, target)
			}
			if _, twice := allowed[target]; twice {
				t.Errorf("%s names %q twice", role.Name, target)
			}
			allowed[target] = strings.Join(rule.Verbs, " ")
		}
	}
	if role.AggregationRule != nil {
		t.Errorf("%s takes rights from others", role.Name)
	}
	return allowed
}

// The operator's account alone gets the operator's rights, in the chart as in config.
func TestBindingsAreTheOperatorsAlone(t *testing.T) {
	for name, c := range map[string]struct {
		manifests []byte
		account   string
		bindings  int
	}{
		"config/default":             {kustomize(t, "config/default"), "externalroute-system/externalroute", 3},
		"the chart":                  {render(t), "operators/externalroute", 3},
		"the chart, some namespaces": {render(t, valuesOf("namespaces")), "operators/externalroute", 3},
	} {
		t.Run(name, func(t *testing.T) {
			all := objects(t, c.manifests)
			bindings := 0
			for _, object := range all {
				if kind := object.GetKind(); kind != "RoleBinding" && kind != "ClusterRoleBinding" {
					continue
				}
				bindings++
				binding := &rbacv1.RoleBinding{}
				if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, binding); err != nil {
					t.Fatal(err)
				}
				find(t, all, binding.RoleRef.Kind, binding.RoleRef.Name)
				if want := strings.TrimSuffix(object.GetKind(), "Binding"); binding.RoleRef.Kind != want {
					t.Errorf("%s binds a %s", binding.Name, binding.RoleRef.Kind)
				}
				for _, subject := range binding.Subjects {
					if got := subject.Namespace + "/" + subject.Name; subject.Kind != rbacv1.ServiceAccountKind || got != c.account {
						t.Errorf("%s binds %s %s", binding.Name, subject.Kind, got)
					}
				}
			}
			if bindings != c.bindings {
				t.Errorf("found %d bindings, want %d", bindings, c.bindings)
			}
		})
	}
}

func TestTheChartsCRDsAreThoseOfConfig(t *testing.T) {
	rendered := objects(t, render(t))
	files, err := filepath.Glob(root + "/config/crd/bases/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("found no CRDs: %v", err)
	}
	for _, file := range files {
		want := map[string]any{}
		if err := yaml.UnmarshalStrict(read(t, strings.TrimPrefix(file, root)), &want); err != nil {
			t.Fatal(err)
		}
		base := &unstructured.Unstructured{Object: want}
		got := find(t, rendered, "CustomResourceDefinition", base.GetName())
		if diff := cmp.Diff(want["spec"], got.Object["spec"]); diff != "" {
			t.Errorf("%s: config (-) and chart (+):\n%s", file, diff)
		}
		for key, value := range base.GetAnnotations() {
			if got.GetAnnotations()[key] != value {
				t.Errorf("%s: the chart has lost the annotation %s", file, key)
			}
		}
	}
	if got := count(rendered, "CustomResourceDefinition"); got != len(files) {
		t.Errorf("the chart has %d CRDs, config %d", got, len(files))
	}
}

// count counts the objects of a kind.
func count(all []*unstructured.Unstructured, kind string) int {
	n := 0
	for _, object := range all {
		if object.GetKind() == kind {
			n++
		}
	}
	return n
}
