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
	for _, line := range (&world{}).drift(wanted, owned) {
		got = append(got, strings.TrimSuffix(line, suffix))
	}
	if diff := cmp.Diff([]string{"Service changed is different", "Service deleted is missing", "Service old is left over"}, got); diff != "" {
		t.Error(diff)
	}
}

// What the user may not read is neither missing nor mentioned.
func TestUnreadObjects(t *testing.T) {
	wanted := &translate.Translation{}
	for _, kind := range translate.Kinds {
		object := kind.New()
		object.SetNamespace("shop")
		object.SetName("web")
		wanted.Objects = append(wanted.Objects, translate.Item{Object: object})
	}
	w := &world{}
	for _, resource := range generatedResources {
		w.gaps = append(w.gaps, gap{resource: resource, readIn: []string{"other"}})
	}
	for _, item := range wanted.Objects {
		if key := translate.KeyOf(item); w.stateOf(key, item.Object, nil) != stateUnread {
			t.Errorf("%s is %s", key, w.stateOf(key, item.Object, nil))
		}
	}
	if got := w.drift(wanted, objects{}); len(got) > 0 {
		t.Errorf("drift is %q", got)
	}
}
