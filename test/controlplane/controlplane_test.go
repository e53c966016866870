package controlplane_test

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/test/controlplane"
)

func TestAControlPlane(t *testing.T) {
	plane, err := controlplane.Start(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(plane.Logs())
		}
		if err := plane.Stop(); err != nil {
			t.Error(err)
		}
	})
	cluster, err := client.New(plane.Config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}

	t.Run("what is owned by a deleted object goes away", func(t *testing.T) {
		owner := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "owner"}}
		if err := cluster.Create(t.Context(), owner); err != nil {
			t.Fatal(err)
		}
		owned := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
			Namespace:       "default",
			Name:            "owned",
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "owner", UID: owner.UID}},
		}}
		if err := cluster.Create(t.Context(), owned); err != nil {
			t.Fatal(err)
		}
		if err := cluster.Delete(t.Context(), owner); err != nil {
			t.Fatal(err)
		}
		err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 3*time.Minute, true, func(ctx context.Context) (bool, error) {
			err := cluster.Get(ctx, client.ObjectKeyFromObject(owned), owned)
			return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
		})
		if err != nil {
			t.Fatalf("it is still there: %v", err)
		}
	})

	t.Run("a ServiceAccount gets a token", func(t *testing.T) {
		token, err := plane.Kubectl(t.Context(), "create", "token", "default").Output()
		if err != nil || strings.Count(string(token), ".") != 2 {
			t.Errorf("got %q, %v", token, err)
		}
	})

	t.Run("a user may do what RBAC allows and nothing else", func(t *testing.T) {
		kubeconfig, err := plane.Kubeconfig("system:serviceaccount:default:default", "system:serviceaccounts")
		if err != nil {
			t.Fatal(err)
		}
		answer, err := plane.Kubectl(t.Context(), "--kubeconfig", kubeconfig, "get", "configmaps").CombinedOutput()
		if err == nil || !strings.Contains(string(answer), "forbidden") {
			t.Errorf("got %q, %v", answer, err)
		}
	})

	t.Run("routes and Istio's objects are served", func(t *testing.T) {
		for _, kind := range []string{"externalroutes", "serviceentries", "virtualservices", "destinationrules", "gateways"} {
			if answer, err := plane.Kubectl(t.Context(), "get", kind).CombinedOutput(); err != nil {
				t.Errorf("%s: %s", kind, answer)
			}
		}
	})
}
