package controller

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clocktesting "k8s.io/utils/clock/testing"
)

func TestAppliesAreCountedOnce(t *testing.T) {
	services := schema.GroupResource{Resource: "services"}
	terminating := apierrors.NewForbidden(services, "web", errors.New("the namespace is being terminated"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	for name, apply := range map[string]struct {
		existed bool
		err     error
		want    string // not counted if empty
	}{
		"an object that was missing":                     {want: "created"},
		"an object that differed":                        {existed: true, want: "updated"},
		"an object of another owner":                     {err: fmt.Errorf("apply: %w", &replacedMeanwhile{}), want: "conflict"},
		"a refusal":                                      {existed: true, err: errors.New("the API server says no"), want: "failed"},
		"a refusal since the namespace is being deleted": {err: fmt.Errorf("apply: %w", terminating)},
		"a refusal since the namespace is gone":          {err: apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "shop")},
		"a refusal since the object is gone":             {existed: true, err: apierrors.NewNotFound(services, "web"), want: "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMetrics(nil, nil, &clocktesting.FakePassiveClock{})
			m.applied("Service", apply.existed, apply.err)
			got, want := map[string]float64{}, map[string]float64{}
			if apply.want != "" {
				want[apply.want] = 1
			}
			for _, result := range []string{"created", "updated", "conflict", "failed"} {
				var counter dto.Metric
				if err := m.applies.WithLabelValues("Service", result).Write(&counter); err != nil {
					t.Fatal(err)
				}
				if n := counter.Counter.GetValue(); n > 0 {
					got[result] = n
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
