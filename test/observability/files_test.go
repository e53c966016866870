// Package observability_test holds alerts, dashboard, documents and logs to what the operator really tells: over a run with a real Prometheus beside it.
package observability_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

const root = "../.."

var update = flag.Bool("update", false, "rewrite config/prometheus/rule.yaml from alerts.yaml")

type rules struct {
	Groups []struct {
		Rules []struct {
			Alert       string            `json:"alert"`
			Expr        string            `json:"expr"`
			Labels      map[string]string `json:"labels"`
			Annotations map[string]string `json:"annotations"`
		} `json:"rules"`
	} `json:"groups"`
}

func readRules(t *testing.T) rules {
	t.Helper()
	var r rules
	if err := yaml.Unmarshal([]byte(read(t, "config/prometheus/alerts.yaml")), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// An alert says what is wrong and links to a runbook that says what to do.
func TestEveryAlertSaysWhatToDoAndIsTested(t *testing.T) {
	const place = "https://github.com/externalroute/externalroute/blob/main/"
	index, tests := read(t, "docs/runbooks/README.md"), read(t, "config/prometheus/alerts_test.yaml")
	runbooks := map[string]bool{}
	for _, file := range glob(t, "docs/runbooks/*.md") {
		runbooks[strings.TrimSuffix(filepath.Base(file), ".md")] = true
	}
	delete(runbooks, "README")
	for _, group := range readRules(t).Groups {
		for _, rule := range group.Rules {
			runbook := "docs/runbooks/" + rule.Alert + ".md"
			if rule.Annotations["runbook_url"] != place+runbook {
				t.Errorf("%s leads to %q", rule.Alert, rule.Annotations["runbook_url"])
			}
			if !strings.HasPrefix(read(t, runbook), "# "+rule.Alert+"\n\n**Means:** ") {
				t.Errorf("%s does not begin with what %s means", runbook, rule.Alert)
			}
			if !strings.Contains(index, "| ["+rule.Alert+"]("+rule.Alert+".md) | "+rule.Labels["severity"]+" | ") {
				t.Errorf("docs/runbooks/README.md has no %s with its severity", rule.Alert)
			}
			if rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
				t.Errorf("%s says too little", rule.Alert)
			}
			if !strings.Contains(tests, "- alertname: "+rule.Alert+"\n") {
				t.Errorf("alerts_test.yaml does not see %s fire", rule.Alert)
			}
			delete(runbooks, rule.Alert)
		}
	}
	if len(runbooks) > 0 {
		t.Errorf("runbooks without an alert: %v", runbooks)
	}
}

func TestThePrometheusRuleIsTheRuleFile(t *testing.T) {
	const head = `# alerts.yaml as the Prometheus operator takes it, written by: go test ./test/observability -run PrometheusRule -update
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: externalroute
  namespace: system
spec:
`
	_, groups, _ := strings.Cut(read(t, "config/prometheus/alerts.yaml"), "\ngroups:\n")
	want := head + indent("groups:\n"+groups)
	if *update {
		if err := os.WriteFile(filepath.Join(root, "config", "prometheus", "rule.yaml"), []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, read(t, "config/prometheus/rule.yaml")); diff != "" {
		t.Errorf("rule.yaml is not what -update would write:\n%s", diff)
	}
}

func indent(text string) string {
	return regexp.MustCompile(`(?m)^(.)`).ReplaceAllString(text, "  $1")
}

type dashboard struct {
	Panels []panel `json:"panels"`
}

type panel struct {
	ID      int    `json:"id"`
	Type    string `json:"type"`
	Title   string `json:"title"`
	GridPos struct {
		H, W, X, Y int
	} `json:"gridPos"`
	Targets []target `json:"targets"`
}

type target struct {
	Expr string `json:"expr"`
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(read(t, "config/grafana/externalroute.json")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestPanelsHaveNamesOfTheirOwnAndDoNotOverlap(t *testing.T) {
	taken, titles, ids := map[[2]int]string{}, map[string]bool{}, map[int]bool{}
	for _, p := range readDashboard(t).Panels {
		if p.Title == "" || titles[p.Title] || ids[p.ID] {
			t.Errorf("panel %d is %q", p.ID, p.Title)
		}
		titles[p.Title], ids[p.ID] = true, true
		if p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%q is wider than the dashboard", p.Title)
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				cell := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if taken[cell] != "" {
					t.Fatalf("%q lies on %q", p.Title, taken[cell])
				}
				taken[cell] = p.Title
			}
		}
		if (p.Type == "row") != (len(p.Targets) == 0) {
			t.Errorf("%q of type %s has %d queries", p.Title, p.Type, len(p.Targets))
		}
	}
}

var promQL = regexp.MustCompile("(?s)```promql\n(.*?)\n```")

// queries are those of a document's code blocks, one a line.
func queries(t *testing.T, document string) []string {
	t.Helper()
	var all []string
	for _, block := range promQL.FindAllStringSubmatch(read(t, document), -1) {
		all = append(all, strings.Split(block[1], "\n")...)
	}
	return all
}

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no file is like %s: %v", pattern, err)
	}
	for i, file := range files {
		if files[i], err = filepath.Rel(root, file); err != nil {
			t.Fatal(err)
		}
	}
	return files
}
