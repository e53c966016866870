package controller

import (
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// version is a route as a watch shows it: its generation, and what Programmed says of which one.
func version(generation, observed int64, reason string) *v1alpha1.ExternalRoute {
	route := &v1alpha1.ExternalRoute{ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "1", Generation: generation}}
	if reason != "" {
		route.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionProgrammed, Reason: reason, ObservedGeneration: observed}}
	}
	return route
}

// Between one version and the next lies a second.
func TestTheStopwatch(t *testing.T) {
	const programmed, invalid, switching = v1alpha1.ReasonProgrammed, v1alpha1.ReasonNotAccepted, v1alpha1.ReasonSwitching
	for name, story := range map[string]struct {
		seen    []any
		edits   uint64
		seconds float64
		open    int
	}{
		"a new route is timed from its first version": {
			seen: []any{version(1, 0, ""), version(1, 1, programmed)}, edits: 1, seconds: 1,
		},
		"a route that is at rest when the operator starts is not timed": {
			seen: []any{version(4, 4, programmed), version(4, 4, programmed)},
		},
		"an edit is timed over all that its status says meanwhile": {
			seen:  []any{version(1, 1, programmed), version(2, 1, programmed), version(2, 2, switching), version(2, 2, switching), version(2, 2, programmed)},
			edits: 1, seconds: 3,
		},
		"an edit that overtakes another is timed from itself": {
			seen: []any{version(1, 0, ""), version(2, 0, ""), version(2, 1, switching), version(2, 2, programmed)}, edits: 1, seconds: 2,
		},
		"a change of labels does not begin an edit anew": {
			seen: []any{version(1, 0, ""), version(1, 0, ""), version(1, 1, programmed)}, edits: 1, seconds: 2,
		},
		"a repair is no edit": {
			seen: []any{version(1, 1, programmed), version(1, 1, v1alpha1.ReasonApplyFailed), version(1, 1, programmed)},
		},
		"what waits for a person is not timed, and not remembered": {
			seen: []any{version(1, 0, ""), version(1, 1, invalid), version(1, 1, programmed)},
		},
		"nor what waits for Istio": {
			seen: []any{version(1, 0, ""), version(1, 1, v1alpha1.ReasonIstioNotInstalled), version(1, 1, programmed)},
		},
		"what the API server refuses goes on being timed": {
			seen: []any{version(1, 0, ""), version(1, 1, v1alpha1.ReasonApplyFailed), version(1, 1, programmed)}, edits: 1, seconds: 2,
		},
		"a route that the operator is at is remembered": {
			seen: []any{version(1, 0, ""), version(1, 1, switching)}, open: 1,
		},
		"a route that goes is forgotten": {
			seen: []any{version(1, 0, ""), toolscache.DeletedFinalStateUnknown{Obj: version(1, 0, "")}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			clock := clocktesting.NewFakePassiveClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
			m := newMetrics(nil, nil, clock)
			for _, object := range story.seen {
				if _, gone := object.(toolscache.DeletedFinalStateUnknown); gone {
					m.lost(object)
				}
				m.saw(object)
				clock.SetTime(clock.Now().Add(time.Second))
			}
			var observed dto.Metric
			if err := m.programmed.Write(&observed); err != nil {
				t.Fatal(err)
			}
			if h := observed.Histogram; h.GetSampleCount() != story.edits || h.GetSampleSum() != story.seconds {
				t.Errorf("%d edits of %g s together, want %d of %g s", h.GetSampleCount(), h.GetSampleSum(), story.edits, story.seconds)
			}
			if len(m.edits) != story.open {
				t.Errorf("%d edits are remembered, want %d", len(m.edits), story.open)
			}
		})
	}
}
