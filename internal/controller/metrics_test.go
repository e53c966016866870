package controller_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

var update = flag.Bool("update", false, "rewrite docs/metrics.md from what the operator tells now")

// healthy are the conditions of a route with which all is well, in a namespace that nobody has labelled.
var healthy = map[string]string{
	"Accepted": "True Accepted", "Programmed": "True Programmed", "Ready": "True Programmed", "MeshEnrolled": "False NamespaceNotEnrolled",
}

func TestSeriesFollowTheirRoute(t *testing.T) {
	s := sharedStory(t)
	s.route("web", simple)
	s.ready("web")
	s.exposes("the new route", healthy)
	s.route("web", s.invalid())
	s.refused("web", v1alpha1.ReasonInvalid)
	s.exposes("the mistake", map[string]string{
		"Accepted": "False Invalid", "Programmed": "False NotAccepted", "Ready": "False Invalid", "Stalled": "True Invalid",
		"MeshEnrolled": "False NamespaceNotEnrolled",
	})
	s.delete(s.read("web"))
	s.exposes("nothing of a route that is gone", map[string]string{})
}

func TestOnlyGeneratedObjectsAreCounted(t *testing.T) {
	s := newLoneStory(t)
	kinds := []string{"DestinationRule", "Gateway", "Service", "ServiceEntry", "VirtualService"}
	before := values(t, "externalroute_managed_objects")
	if got := slices.Sorted(maps.Keys(before)); !slices.Equal(got, kinds) {
		t.Fatalf("counts %v", got)
	}
	s.create(service("another-clients", nil, 80))
	s.route("web", simple)
	s.ready("web")
	s.until("one more of each kind but Gateways", func() string {
		now := values(t, "externalroute_managed_objects")
		for _, kind := range kinds {
			if more := now[kind] - before[kind]; kind == "Gateway" && more != 0 || kind != "Gateway" && more != 1 {
				return fmt.Sprintf("%v, and before %v", now, before)
			}
		}
		return ""
	})
	s.delete(s.read("web"))
	s.until("as before", func() string { return cmp.Diff(before, values(t, "externalroute_managed_objects")) })
}

// Other stories write at the same time: TestAppliesAreCountedOnce counts exactly.
func TestAppliesAreCountedByResult(t *testing.T) {
	s := sharedStory(t)
	before := values(t, "externalroute_applies_total")
	s.route("web", simple)
	s.ready("web")
	edit(s, s.virtualService("web"), func(v *networkingv1.VirtualService) { v.Spec.Http = nil })
	s.until("a repair", func() string {
		if len(s.virtualService("web").Spec.Http) == 0 {
			return "not yet"
		}
		return ""
	})
	for _, key := range []string{"Service created", "ServiceEntry created", "DestinationRule created", "VirtualService created", "VirtualService updated"} {
		s.until("a write is counted", func() string {
			if now := values(t, "externalroute_applies_total")[key]; now <= before[key] {
				return fmt.Sprintf("%s: %g, as before", key, now)
			}
			return ""
		})
	}
}

func TestConflictsAreCountedByReason(t *testing.T) {
	s := newLoneStory(t)
	conflicts := func(host float64) {
		t.Helper()
		want := map[string]float64{v1alpha1.ReasonHostConflict: host, v1alpha1.ReasonDestinationConflict: 0, v1alpha1.ReasonNameConflict: 0}
		s.until("the conflicts", func() string { return cmp.Diff(want, values(t, "externalroute_routes_in_conflict")) })
	}
	s.route("first", simple)
	s.ready("first")
	s.route("second", simple)
	s.refused("second", v1alpha1.ReasonHostConflict)
	conflicts(1)
	s.delete(s.read("first"))
	conflicts(0)
}

// A policy that selects no namespace is visible, and so is one that concerns no route.
func TestPoliciesAreCountedByWhatTheySelect(t *testing.T) {
	s := sharedStory(t)
	s.policyFor("a", "namespaceSelector: {matchLabels: {istio-team: counted}}")
	s.exposesPolicy("that the policy selects no namespace", map[string]float64{"namespaces": 0, "routes": 0})
	s.label(map[string]string{"istio-team": "counted"})
	s.exposesPolicy("its namespace, which has no routes", map[string]float64{"namespaces": 1, "routes": 0})
	s.route("web", simple)
	s.refused("web", v1alpha1.ReasonNotAllowedByPolicy)
	s.exposesPolicy("its route", map[string]float64{"namespaces": 1, "routes": 1})
	s.exposes("the refusal", map[string]string{
		"Accepted": "False NotAllowedByPolicy", "Programmed": "False NotAccepted", "Ready": "False NotAllowedByPolicy", "Stalled": "True NotAllowedByPolicy",
		"MeshEnrolled": "False NamespaceNotEnrolled",
	})
	s.withoutPolicy("a")
	s.exposesPolicy("nothing of a policy that is gone", map[string]float64{})
}

// Other stories edit at the same time: TestTheStopwatch counts exactly.
func TestEditsAreTimedUntilTheirObjectsStand(t *testing.T) {
	s := sharedStory(t)
	timed := func() (edits uint64, seconds float64) {
		h := family(t, "externalroute_edit_to_programmed_seconds").Metric[0].Histogram
		return h.GetSampleCount(), h.GetSampleSum()
	}
	counted := func(what string, before uint64) {
		t.Helper()
		s.until(what, func() string {
			if now, _ := timed(); now <= before {
				return fmt.Sprintf("%d edits, as before", now)
			}
			return ""
		})
	}
	before, _ := timed()
	s.route("web", simple)
	s.ready("web")
	counted("the new route is counted", before)
	s.notice()
	s.clock.stop(t) // what others edit meanwhile takes no time
	before, seconds := timed()
	s.route("web", "hosts: [web]\ndestinations: [{url: 'https://other.example.com'}]")
	s.becomes("web", v1alpha1.ConditionProgrammed, metav1.ConditionFalse, v1alpha1.ReasonSwitching)
	s.clock.step(settle)
	s.ready("web")
	counted("the move is counted", before)
	s.until("the move takes the settle time", func() string {
		if _, now := timed(); now < seconds+settle.Seconds() {
			return fmt.Sprintf("%.3f s for all edits, and %.3f s before", now, seconds)
		}
		return ""
	})
}

// Tests start several managers in one process, and so may others.
func TestMetricsEndWithTheirManager(t *testing.T) {
	s := sharedStory(t)
	second := &cluster{plane: s.plane, client: s.client, operator: s.operator, requests: s.requests, clock: s.clock}
	if err := second.startOperator(); err != nil {
		t.Fatal(err)
	}
	s.route("web", simple)
	s.ready("web")
	if err := second.stopOperator(); err != nil {
		t.Fatal(err)
	}
	s.exposes("the first one's", healthy)
	if err := s.stopOperator(); err != nil {
		t.Fatal(err)
	}
	if left := families(t); len(left) > 0 {
		t.Errorf("a manager that stopped left %v", slices.Sorted(maps.Keys(left)))
	}
	if err := s.startOperator(); err != nil {
		t.Fatal(err)
	}
	s.exposes("those of its successor", healthy)
}

func TestMetricsAreNamedAsPrometheusAsks(t *testing.T) {
	s := sharedStory(t)
	s.policy("a", allowsExample)
	s.route("web", simple)
	s.ready("web")
	s.exposes("a route", healthy)
	s.exposesPolicy("its policy", map[string]float64{"namespaces": 1, "routes": 1})
	problems, err := promlint.NewWithMetricFamilies(slices.Collect(maps.Values(families(t)))).Lint()
	if err != nil || len(problems) > 0 {
		t.Error(err, problems)
	}
}

// examples are queries that the document shows.
var examples = map[string]string{
	"externalroute_condition":                  `count by (reason) (externalroute_condition{condition="Ready", status!="True"})`,
	"externalroute_managed_objects":            `sum by (kind) (externalroute_managed_objects)`,
	"externalroute_applies_total":              `sum by (kind, result) (rate(externalroute_applies_total[5m]))`,
	"externalroute_routes_in_conflict":         `sum by (reason) (externalroute_routes_in_conflict)`,
	"externalroute_policy_namespaces":          `max by (policy) (externalroute_policy_namespaces)`,
	"externalroute_policy_routes":              `sum by (policy) (externalroute_policy_routes)`,
	"externalroute_edit_to_programmed_seconds": `histogram_quantile(0.95, sum by (le) (rate(externalroute_edit_to_programmed_seconds_bucket[5m])))`,
}

func TestMetricsPageListsEveryMetric(t *testing.T) {
	s := sharedStory(t)
	s.policy("a", allowsExample)
	s.route("web", simple)
	s.ready("web")
	s.exposes("a route", healthy)
	s.exposesPolicy("its policy", map[string]float64{"namespaces": 1, "routes": 1})
	const name = "../../docs/metrics.md"
	page := template.Must(template.New("metrics.md.tmpl").Funcs(template.FuncMap{
		"lower": func(m *dto.MetricFamily) string { return strings.ToLower(m.GetType().String()) },
		"labels": func(m *dto.MetricFamily) string {
			return strings.Join(labelsOf(m.Metric[0], (*dto.LabelPair).GetName), "`, `")
		},
		"example": func(m *dto.MetricFamily) string { return examples[m.GetName()] },
	}).ParseFiles("testdata/metrics.md.tmpl"))
	var want strings.Builder
	if err := page.Execute(&want, families(t)); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(name, []byte(want.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), string(got)); diff != "" {
		t.Errorf("docs/metrics.md is not what -update would write:\n%s", diff)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(examples)), slices.Sorted(maps.Keys(families(t)))); diff != "" {
		t.Errorf("every metric has an example:\n%s", diff)
	}
}

// tellAlone begins a story once what others left is gone: what is counted is counted over all namespaces.
func newLoneStory(t *testing.T) *story {
	t.Helper()
	s := sharedStory(t)
	s.until("the routes and objects of other stories go", func() string {
		for kind, count := range values(t, "externalroute_managed_objects") {
			if count > 0 {
				return fmt.Sprintf("%g of kind %s", count, kind)
			}
		}
		if routes, found := families(t)["externalroute_condition"]; found {
			return routes.Metric[0].String()
		}
		return ""
	})
	return s
}

// tells waits until the conditions of the namespace's routes, as metrics, are these: type to status and reason.
func (s *story) exposes(what string, want map[string]string) {
	s.Helper()
	s.until("the metrics should expose "+what, func() string {
		got := map[string]string{}
		if conditions, found := families(s.T)["externalroute_condition"]; found {
			for _, m := range conditions.Metric {
				if m.Gauge.GetValue() != 1 {
					return m.String()
				}
				values := labelsOf(m, (*dto.LabelPair).GetValue) // condition, name, namespace, reason, status
				if values[2] == s.namespace {
					got[values[0]] = values[4] + " " + values[3]
				}
			}
		}
		return cmp.Diff(want, got)
	})
}

// exposesPolicy waits until what the story's policy a selects, as metrics, is this.
func (s *story) exposesPolicy(what string, want map[string]float64) {
	s.Helper()
	s.until("the metrics should expose "+what, func() string {
		got := map[string]float64{}
		for _, counted := range []string{"namespaces", "routes"} {
			f, found := families(s.T)["externalroute_policy_"+counted]
			if !found {
				continue // there is no policy at all
			}
			for _, m := range f.Metric {
				if m.Label[0].GetValue() == s.namespace+"-a" {
					got[counted] = m.Gauge.GetValue()
				}
			}
		}
		return cmp.Diff(want, got)
	})
}

// families are the metrics that the operator tells, by name, those of controller-runtime aside.
func families(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	all, err := metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	ours := map[string]*dto.MetricFamily{}
	for _, f := range all {
		if strings.HasPrefix(f.GetName(), "externalroute_") {
			ours[f.GetName()] = f
		}
	}
	return ours
}

func family(t *testing.T, name string) *dto.MetricFamily {
	t.Helper()
	f, found := families(t)[name]
	if !found {
		t.Fatalf("no metric %s", name)
	}
	return f
}

// values are those of a metric, by the values of its labels.
func values(t *testing.T, name string) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for _, m := range family(t, name).Metric {
		all[strings.Join(labelsOf(m, (*dto.LabelPair).GetValue), " ")] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
	}
	return all
}

// labels are the names or the values of a series' labels, ordered by name.
func labelsOf(m *dto.Metric, part func(*dto.LabelPair) string) []string {
	var all []string
	for _, l := range m.Label {
		all = append(all, part(l))
	}
	return all
}
