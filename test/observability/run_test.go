package observability_test

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	prometheusv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"sigs.k8s.io/yaml"
)

var results = flag.String("results", "", "a file for what the dashboard's queries answer over the run")

// TestARun looks at an operator through Prometheus while routes come, change, break and go.
func TestARun(t *testing.T) {
	folder := os.Getenv("PROMETHEUS")
	if folder == "" {
		t.Skip("hack/observability/test.sh gives it a Prometheus")
	}
	b := newBench(t, folder)
	b.tell()
	t.Run("every query of every panel has an answer, and no panel is empty", b.panels)
	t.Run("the queries of the documents have answers", b.documents)
	t.Run("a route that is gone has no series", b.gone)
	t.Run("the alerts are evaluated, and those that should be are pending", b.alerts)
	t.Run("nobody reads the metrics without the right to", b.strangers)
	t.Run("every line of the log is JSON with the keys that people filter by", b.logs)
}

// ask evaluates a query over the whole run, with the dashboard's variables as Grafana fills them in.
func (b *bench) ask(t *testing.T, query string) model.Matrix {
	t.Helper()
	query = strings.NewReplacer("$namespace", ".*", "$job", ".*", "$__rate_interval", "10s").Replace(query)
	value, warnings, err := b.prometheus.QueryRange(t.Context(), query, prometheusv1.Range{Start: b.began, End: time.Now(), Step: time.Second})
	if err != nil || len(warnings) > 0 {
		t.Fatalf("%s: %v %v", query, err, warnings)
	}
	matrix, ok := value.(model.Matrix)
	if !ok {
		t.Fatalf("%s: answers a %s", query, value.Type())
	}
	return matrix
}

// number is what a query answers now, if it is one number, and else none.
func (b *bench) number(query string) float64 {
	b.Helper()
	value, _, err := b.prometheus.Query(b.Context(), query, time.Now())
	if vector, ok := value.(model.Vector); err == nil && ok && len(vector) == 1 {
		return float64(vector[0].Value)
	}
	return math.NaN()
}

// points counts the numbers of an answer, and those that are not 0.
func points(matrix model.Matrix) (numbers, notZero int) {
	for _, series := range matrix {
		for _, sample := range series.Values {
			if v := float64(sample.Value); !math.IsNaN(v) && !math.IsInf(v, 0) {
				numbers++
				if v != 0 {
					notZero++
				}
			}
		}
	}
	return numbers, notZero
}

// atAnInstant is a panel of gauges that are 0 again before the next scrape, if the machine is quick.
const atAnInstant = "Queue depth"

func (b *bench) panels(t *testing.T) {
	answers := map[string][]model.Matrix{}
	for _, p := range readDashboard(t).Panels {
		inAll := 0
		for _, target := range p.Targets {
			matrix := b.ask(t, target.Expr)
			numbers, notZero := points(matrix)
			if numbers == 0 {
				t.Errorf("%s: %s answers nothing", p.Title, target.Expr)
			}
			inAll += notZero
			answers[p.Title] = append(answers[p.Title], matrix)
		}
		if p.Type != "row" && inAll == 0 && p.Title != atAnInstant {
			t.Errorf("%s shows nothing but 0", p.Title)
		}
	}
	if *results == "" {
		return
	}
	content, err := json.Marshal(answers)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(*results, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

var firstColumn = regexp.MustCompile("(?m)^\\| (`[a-z].*?`) \\|")

func (b *bench) documents(t *testing.T) {
	for _, query := range queries(t, "docs/metrics.md") {
		if numbers, _ := points(b.ask(t, query)); numbers == 0 {
			t.Errorf("docs/metrics.md: %s answers nothing", query)
		}
	}
	for _, runbook := range glob(t, "docs/runbooks/*.md") {
		for _, query := range queries(t, runbook) {
			if numbers, _ := points(b.ask(t, query)); numbers == 0 {
				t.Errorf("%s: %s answers nothing", runbook, query)
			}
		}
	}
	named := 0
	for _, row := range firstColumn.FindAllStringSubmatch(read(t, "docs/metrics.md"), -1) {
		for selector := range strings.SplitSeq(strings.ReplaceAll(row[1], "`", ""), ", ") {
			named++
			name, labels, _ := strings.Cut(selector, "{")
			if numbers, _ := points(b.ask(t, fmt.Sprintf(`{__name__=~"%s(_count)?", %s`, name, strings.TrimSuffix(labels, "}")+"}"))); numbers == 0 {
				t.Errorf("docs/metrics.md: nobody tells %s", selector)
			}
		}
	}
	if named < 5 {
		t.Errorf("docs/metrics.md names %d metrics of others: the test does not find its table", named)
	}
}

func (b *bench) gone(t *testing.T) {
	const series = `externalroute_condition{namespace="shop", name="route-03"}`
	if numbers, _ := points(b.ask(t, series)); numbers == 0 {
		t.Errorf("%s never was", series)
	}
	b.until(series+" is gone", func() string {
		if now := b.number("count(" + series + ")"); !math.IsNaN(now) {
			return fmt.Sprintf("%g of them", now)
		}
		return ""
	})
	b.answers(`count(count by (instance) (externalroute_condition))`, 1) // the replica that no longer leads is gone
}

func (b *bench) alerts(t *testing.T) {
	want := map[string]string{
		"ExternalRouteInConflict": "pending", "ExternalRouteNotReady": "pending", // they wait for their minutes
		"ExternalRouteNotAllowedByPolicy": "pending", "ExternalRoutePolicySelectsNothing": "pending",
		"ExternalRouteOperatorDown": "inactive", "ExternalRouteNoLeader": "inactive", "ExternalRouteTwoLeaders": "inactive",
	}
	b.until("the alerts should be "+fmt.Sprint(want), func() string {
		states := b.alertStates(t)
		for name, state := range want {
			if states[name] != state {
				return fmt.Sprintf("%s is %q, want %q", name, states[name], state)
			}
		}
		return ""
	})
}

// alertStates are the states of the alerts, all of which Prometheus must be able to evaluate.
func (b *bench) alertStates(t *testing.T) map[string]string {
	t.Helper()
	rules, err := b.prometheus.Rules(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]string{}
	for _, group := range rules.Groups {
		for _, r := range group.Rules {
			alert, ok := r.(prometheusv1.AlertingRule)
			if !ok || alert.Health != prometheusv1.RuleHealthGood {
				t.Errorf("%+v", r)
			}
			states[alert.Name] = alert.State
		}
	}
	return states
}

func (b *bench) strangers(t *testing.T) {
	for i, replica := range b.replicas {
		if replica.ProcessState != nil {
			continue
		}
		browser := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // its certificate is its own
		answer, err := browser.Get("https://" + b.addresses[i] + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusUnauthorized {
			t.Errorf("without a token: %s", answer.Status)
		}
		if answer, err := http.Get("http://" + b.addresses[i] + "/metrics"); err == nil { // the server's own library writes a line about it
			_ = answer.Body.Close()
			if answer.StatusCode != http.StatusBadRequest {
				t.Errorf("without TLS: %s", answer.Status)
			}
		}
	}
}

func (b *bench) logs(t *testing.T) {
	passes := 0
	for _, replica := range b.replicas {
		content, err := os.ReadFile(replica.log)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			said, err := lineOfLog(line)
			if err != nil {
				t.Errorf("%v:\n%s", err, line)
			}
			if _, ofARoute := said["reconcileID"]; ofARoute {
				passes++
			}
		}
	}
	if passes == 0 {
		t.Error("no line is of a route: the test looks at the wrong place")
	}
}

// lineOfLog reads a line and says what is wrong with it.
func lineOfLog(line string) (map[string]any, error) {
	said := map[string]any{}
	if !json.Valid([]byte(line)) {
		return nil, errors.New("this is no JSON")
	}
	if err := yaml.UnmarshalStrict([]byte(line), &said); err != nil { // JSON's own reader takes the last of two equal keys
		return nil, err
	}
	want := []string{"level", "ts", "msg"}
	if _, ofARoute := said["reconcileID"]; ofARoute {
		want = append(want, "namespace", "name")
		route, ok := said["ExternalRoute"].(map[string]any)
		if !ok || said["namespace"] != route["namespace"] || said["name"] != route["name"] {
			return said, fmt.Errorf("namespace and name are not those of the route: %v", said["ExternalRoute"])
		}
	}
	for _, key := range want {
		if value, ok := said[key].(string); !ok || value == "" {
			return said, fmt.Errorf("no %q", key)
		}
	}
	_, err := time.Parse(time.RFC3339, said["ts"].(string))
	return said, err
}
