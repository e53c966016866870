package chart_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// The alerts and the dashboard of config are those of the chart, whatever templates stand in them; where there are none, no object is rendered. The alerts
// select the metrics of the release.
func TestAlertsAndDashboardAreThoseOfConfig(t *testing.T) {
	rendered := objects(t, render(t, valuesOf("everything")))

	alerts := map[string]any{}
	ofRelease := strings.NewReplacer(`namespace="externalroute-system"`, `namespace="egress"`, `job="externalroute-metrics"`, `job="operators"`)
	if err := yaml.Unmarshal([]byte(ofRelease.Replace(string(readIfThere(t, "config/prometheus/alerts.yaml")))), &alerts); err != nil {
		t.Fatal(err)
	}
	var gotAlerts any
	if count(rendered, "PrometheusRule") > 0 {
		gotAlerts = find(t, rendered, "PrometheusRule", "egress-routes").Object["spec"].(map[string]any)["groups"]
	}
	if diff := cmp.Diff(alerts["groups"], gotAlerts); diff != "" {
		t.Errorf("alerts, config (-) and chart (+):\n%s", diff)
	}

	var dashboard, gotDashboard any
	if content := readIfThere(t, "config/grafana/externalroute.json"); content != nil {
		if err := json.Unmarshal(content, &dashboard); err != nil {
			t.Fatal(err)
		}
	}
	for _, object := range rendered {
		if object.GetLabels()["dashboard"] != "yes" {
			continue
		}
		content := object.Object["data"].(map[string]any)["externalroute.json"].(string)
		if err := json.Unmarshal([]byte(content), &gotDashboard); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(dashboard, gotDashboard); diff != "" {
		t.Errorf("dashboard, config (-) and chart (+):\n%s", diff)
	}
}

func readIfThere(t *testing.T, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, file))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return content
}
