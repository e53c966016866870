package chart_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// A reader of a document need not know whether make deploy or Helm has installed the operator.
func TestConfigAndChartGiveObjectsTheSameNames(t *testing.T) {
	ofChart := names(objects(t, render(t, "--namespace=externalroute-system", "--set=networkPolicy.enabled=true",
		"--set=metrics.serviceMonitor.enabled=true,metrics.serviceMonitor.renderMode=alwaysRender,metrics.prometheusRule.enabled=true")))
	ofConfig := names(objects(t, allOfConfig(t)))
	delete(ofConfig, "Namespace /externalroute-system") // which helm install --create-namespace makes
	if diff := cmp.Diff(slices.Sorted(maps.Keys(ofConfig)), slices.Sorted(maps.Keys(ofChart))); diff != "" {
		t.Errorf("config (-) and chart (+):\n%s", diff)
	}
}

func names(all []*unstructured.Unstructured) map[string]bool {
	found := map[string]bool{}
	for _, object := range all {
		found[object.GetKind()+" "+object.GetNamespace()+"/"+object.GetName()] = true
	}
	return found
}

var (
	deploymentOfRunbook = regexp.MustCompile(`\bDEPLOYMENT=(\S+)`)
	namespaceOfRunbook  = regexp.MustCompile(`\bNAMESPACE=(\S+)`)
	objectOfRunbook     = regexp.MustCompile("\\b(Role|ClusterRole)\\s+`([a-z-]+)`")
)

// The objects that a runbook names are those that are installed.
func TestRunbooksNameWhatIsInstalled(t *testing.T) {
	all := objects(t, allOfConfig(t))
	found := 0
	pages, err := filepath.Glob(root + "/docs/runbooks/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		text := string(read(t, strings.TrimPrefix(page, root)))
		for _, match := range deploymentOfRunbook.FindAllStringSubmatch(text, -1) {
			if deployment := find(t, all, "Deployment", match[1]); !slices.Contains(namespaceOfRunbook.FindStringSubmatch(text), deployment.GetNamespace()) {
				t.Errorf("%s does not name the namespace %s", page, deployment.GetNamespace())
			}
			found++
		}
		for _, match := range objectOfRunbook.FindAllStringSubmatch(text, -1) {
			find(t, all, match[1], match[2])
			found++
		}
		if strings.Contains(text, "-n externalroute-system") {
			t.Errorf("%s fixes the namespace in a command", page)
		}
	}
	if found < 5 {
		t.Errorf("found %d names: the test looks at the wrong place", found)
	}
}

// The alerts select metrics by the labels that the ServiceMonitor gives them: the namespace and the name of the Service.
func TestAlertsSelectTheMetricsOfConfig(t *testing.T) {
	alerts := string(read(t, "config/prometheus/alerts.yaml"))
	service := find(t, objects(t, kustomize(t, "config/default")), "Service", "externalroute-metrics")
	for _, label := range []string{
		fmt.Sprintf("namespace=%q", service.GetNamespace()),
		fmt.Sprintf("job=%q", service.GetName()),
	} {
		name, _, _ := strings.Cut(label, "=")
		if all, ours := strings.Count(alerts, name+`="`), strings.Count(alerts, label); ours == 0 || ours != all {
			t.Errorf("%d of %d selectors of %s are %s", ours, all, name, label)
		}
	}
}
