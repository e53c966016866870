package api_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Whoever applies a manifest again that has not changed, as deployment tools do, changes nothing: kubectl replaces a list of a custom resource as a whole, so
// that the schema must fill in nothing inside of one.
func TestApplyAgainIsUnchanged(t *testing.T) {
	for way, flags := range map[string][]string{"client-side": nil, "server-side": {"--server-side"}} {
		t.Run(way, func(t *testing.T) {
			namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "apply-" + way}}
			if err := cluster.Create(t.Context(), namespace); err != nil {
				t.Fatal(err)
			}
			samples := slices.Concat([]string{"-n", namespace.Name, "-k", "../../config/samples"}, flags)
			apply := func() []string {
				return strings.Split(strings.TrimSpace(kubectl(t, append([]string{"apply"}, samples...)...)), "\n")
			}
			versions := func() string {
				return kubectl(t, "get", "externalroutes,configmaps", "-n", namespace.Name, "-o",
					`jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.resourceVersion}{"\n"}{end}`)
			}
			first := apply()
			if way == "server-side" {
				apply() // without an operator, the first update of a new object stores the default of its status
			}
			before := versions()
			if routes := strings.Count(before, "ExternalRoute "); routes != len(first)-1 { // one sample has a ConfigMap
				t.Fatalf("%d routes, and kubectl says %q", routes, first)
			}
			for _, line := range apply() {
				if way == "client-side" && !strings.HasSuffix(line, " unchanged") {
					t.Error(line)
				}
			}
			if diff := cmp.Diff(before, versions()); diff != "" {
				t.Errorf("applied again, objects changed:\n%s", diff)
			}
			kubectl(t, append([]string{"diff"}, samples...)...) // it fails if there is a difference
		})
	}
}

func kubectl(t *testing.T, arguments ...string) string {
	t.Helper()
	command := plane.Kubectl(t.Context(), arguments...)
	command.Stderr = t.Output()
	output, err := command.Output()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(arguments, " "), err, output)
	}
	return string(output)
}
