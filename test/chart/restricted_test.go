package chart_test

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/test/controlplane"
)

// Pods of both Deployments are admitted where Pod Security enforces its strictest level.
func TestPodsAreAdmittedWhereRestricted(t *testing.T) {
	c := startCluster(t, controlplane.Options{})
	c.namespace(t, "restricted")
	for name, manifests := range map[string][]byte{
		"config/default":                         kustomize(t, "config/default"),
		"config/default with all that it offers": allOfConfig(t),
		"the chart":                              render(t),
		"the chart with everything":              render(t, valuesOf("everything")),
	} {
		for _, object := range objects(t, manifests) {
			if object.GetKind() != "Deployment" {
				continue
			}
			deployment := &appsv1.Deployment{}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, deployment, true); err != nil {
				t.Fatal(err)
			}
			pod := &corev1.Pod{Spec: deployment.Spec.Template.Spec}
			pod.Namespace, pod.Name = "restricted", "manager"
			if err := c.client.Create(t.Context(), pod.DeepCopy(), client.DryRunAll); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			pod.Spec.Containers[0].SecurityContext.AllowPrivilegeEscalation = nil
			if err := c.client.Create(t.Context(), pod, client.DryRunAll); !apierrors.IsForbidden(err) {
				t.Errorf("%s: with privileges to gain it is not refused: %v", name, err)
			}
		}
	}
}

// What make deploy applies rolls out, in the namespace that it brings, which is restricted too.
func TestConfigRollsOut(t *testing.T) {
	c := startCluster(t, controlplane.Options{})
	command := c.Kubectl(t.Context(), "apply", "--server-side", "--filename=-")
	command.Stdin = strings.NewReader(string(kustomize(t, "config/default")))
	output(t, command)
	if got := c.kubectl(t, "get", "namespace/externalroute-system", `--output=jsonpath={.metadata.labels.pod-security\.kubernetes\.io/enforce}`); got != "restricted" {
		t.Errorf("the namespace enforces %q", got)
	}
	c.kubectl(t, "rollout", "status", "--namespace=externalroute-system", "--timeout=5m", "deployment/externalroute")
}
