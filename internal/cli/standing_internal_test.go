package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/externalroute/externalroute/internal/translate"
)

// What the operator is about to repair in the cluster is mentioned, object by object.
func TestDrift(t *testing.T) {
	service := func(name string, port int32) *corev1.Service {
		return &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Ports: []corev1.ServicePort{{Name: "http", Port: port}}},
		}
	}
	wanted := &translate.Translation{}
	for _, name := range []string{"as-wanted", "changed", "deleted"} {
		wanted.Objects = append(wanted.Objects, translate.Item{Object: service(name, 80)})
	}
	owned := objects{}
	for _, live := range []*corev1.Service{service("as-wanted", 80), service("changed", 81), service("old", 80)} {
		owned[translate.KeyOf(live)] = live
	}
	const suffix = " in the cluster, and the operator repairs that, with or without this change"
	var got []string
	for _, line := range drift(wanted, owned) {
		got = append(got, strings.TrimSuffix(line, suffix))
	}
	if diff := cmp.Diff([]string{"Service changed is different", "Service deleted is missing", "Service old is left over"}, got); diff != "" {
		t.Error(diff)
	}
}
