package chart_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/test/controlplane"
)

// A release as people have one: installed from the chart before this one, upgraded to this one, uninstalled, and installed again. A route and its objects
// stay the same objects all the way.
func TestARelease(t *testing.T) {
	c := startCluster(t, controlplane.Options{Istio: true})
	c.namespace(t, "operators", "shop", "monitoring")
	release := client.ObjectKey{Namespace: "operators", Name: "externalroute"}
	first := freePorts(t)

	c.helm(t, c.KubeconfigFile, append([]string{"install", "externalroute", previousChart(t), "--namespace=operators", "--wait"}, first.values()...)...)
	// The manager is that of this tree, and needs a right that the chart before does not give.
	c.kubectl(t, "create", "clusterrole", "gateways", "--verb=list,watch,create,patch,delete", "--resource=gateways.networking.istio.io")
	c.kubectl(t, "create", "clusterrolebinding", "gateways", "--clusterrole=gateways", "--serviceaccount=operators:externalroute")
	manager := c.runManager(t, release, first)
	c.kubectl(t, "apply", "--namespace=shop", "--filename="+root+"/config/samples/smallest.yaml")
	c.kubectl(t, "wait", "--namespace=shop", "--for=condition=Ready", "--timeout=5m", "externalroute/webserver")
	installed := c.everythingOf(t, "shop", "webserver")
	if len(installed) != 5 {
		t.Fatalf("a route, a Service and three objects of Istio were to be there: %v", installed)
	}
	manager.stop()
	c.kubectl(t, "delete", "clusterrolebinding/gateways", "clusterrole/gateways")

	second := freePorts(t)
	notes := c.helm(t, c.KubeconfigFile, append([]string{
		"upgrade", "externalroute", chart, "--namespace=operators", "--wait", "--values=" + chart + "/values-ha.yaml",
	}, second.values()...)...)
	if !strings.Contains(notes, "kubectl -n operators rollout status deployment/externalroute") {
		t.Errorf("the notes do not say the next command:\n%s", notes)
	}
	manager = c.runManager(t, release, second)
	c.metricsAreForReadersAlone(t, second)
	if diff := cmp.Diff(installed, c.everythingOf(t, "shop", "webserver")); diff != "" {
		t.Errorf("the upgrade changed:\n%s", diff)
	}
	c.kubectl(t, "patch", "--namespace=shop", "externalroute/webserver", "--type=merge", `--patch={"spec":{"port":8080}}`)
	c.kubectl(t, "wait", "--namespace=shop", "--for=jsonpath={.spec.ports[0].port}=8080", "--timeout=5m", "service/webserver")
	c.kubectl(t, "wait", "--namespace=shop", "--for=condition=Ready", "--timeout=5m", "externalroute/webserver")
	upgraded := c.everythingOf(t, "shop", "webserver")
	manager.stop()

	c.peopleHaveRights(t)
	c.helm(t, c.KubeconfigFile, "uninstall", "externalroute", "--namespace=operators", "--wait")
	if left := c.kubectl(t, "get", "deployments,services,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,poddisruptionbudgets",
		"--all-namespaces", "--selector=app.kubernetes.io/instance=externalroute", "--output=name"); left != "" {
		t.Errorf("uninstalled, there are left:\n%s", left)
	}
	if diff := cmp.Diff(upgraded, c.everythingOf(t, "shop", "webserver")); diff != "" {
		t.Errorf("uninstalling changed:\n%s", diff)
	}

	third := freePorts(t)
	c.helm(t, c.KubeconfigFile, append([]string{"install", "externalroute", chart, "--namespace=operators", "--wait"}, third.values()...)...)
	c.runManager(t, release, third)
	c.metricsAreForReadersAlone(t, third)
	if diff := cmp.Diff(upgraded, c.everythingOf(t, "shop", "webserver")); diff != "" {
		t.Errorf("installing again changed:\n%s", diff)
	}
	c.helmWaitsForRoutes(t)
}

// helmWaitsForRoutes installs another chart, which holds a route: Helm returns when it works, and says at once why it never will.
func (c *cluster) helmWaitsForRoutes(t *testing.T) {
	t.Helper()
	folder := t.TempDir()
	for file, content := range map[string]string{
		"Chart.yaml": "apiVersion: v2\nname: app\nversion: 1.0.0\n",
		"templates/route.yaml": "apiVersion: networking.externalroute.io/v1alpha1\nkind: ExternalRoute\nmetadata:\n  name: {{ .Release.Name }}\nspec:\n" +
			"  hosts: [{{ .Values.host }}]\n  destinations:\n  - url: https://orders.example.com\n",
	} {
		path := filepath.Join(folder, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	c.helm(t, c.KubeconfigFile, "install", "orders", folder, "--namespace=shop", "--wait", "--set=host=orders")
	if reason := c.reason(t, "shop", "orders"); reason != v1alpha1.ReasonProgrammed {
		t.Errorf("Helm has waited, and the route says %s", reason)
	}
	said, err := helmCommand(t, c.KubeconfigFile, "install", "rival", folder, "--namespace=shop", "--wait", "--set=host=orders").CombinedOutput()
	if err == nil || !strings.Contains(string(said), "belongs to ExternalRoute shop/orders") {
		t.Errorf("Helm does not say that the host is another route's: %v\n%s", err, said)
	}
}

// previousChart is the chart of the last version that was tagged, else the first that was committed, else, outside of a repository, this one.
func previousChart(t *testing.T) string {
	t.Helper()
	git := func(args ...string) string {
		stdout, _ := exec.CommandContext(t.Context(), "git", append([]string{"-C", root}, args...)...).Output()
		return strings.TrimSpace(string(stdout))
	}
	added := strings.Fields(git("log", "--diff-filter=A", "--format=%H", "--", "charts/externalroute/Chart.yaml"))
	if len(added) == 0 {
		t.Log("There is no commit with a chart: the upgrade is from this one")
		return chart
	}
	revision := added[len(added)-1]
	if tag := git("describe", "--tags", "--abbrev=0", "--match=v[0-9]*"); tag != "" && git("ls-tree", tag, "charts/externalroute") != "" {
		revision = tag
	}
	t.Log("The upgrade is from the chart of " + revision)
	folder := t.TempDir()
	archive := filepath.Join(folder, "chart.tar")
	output(t, exec.CommandContext(t.Context(), "git", "-C", root, "archive", "--output="+archive, revision, "charts/externalroute"))
	output(t, exec.CommandContext(t.Context(), "tar", "-xf", archive, "-C", folder))
	return filepath.Join(folder, "charts", "externalroute")
}

// everythingOf returns UID and generation of a route, whose status may say more after an upgrade, and UID and version of all that was generated for it.
func (c *cluster) everythingOf(t *testing.T, namespace, name string) map[string]string {
	t.Helper()
	route := &v1alpha1.ExternalRoute{}
	if err := c.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, route); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{"ExternalRoute " + name: fmt.Sprint(route.UID, " ", route.Generation)}
	for _, resource := range route.Status.Resources {
		object := &unstructured.Unstructured{}
		object.SetGroupVersionKind(schema.FromAPIVersionAndKind(resource.APIVersion, resource.Kind))
		if err := c.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: resource.Name}, object); err != nil {
			t.Fatal(err)
		}
		all[resource.Kind+" "+resource.Name] = string(object.GetUID()) + " " + object.GetResourceVersion()
	}
	return all
}

// metricsAreForReadersAlone also waits until the manager has looked at the route.
func (c *cluster) metricsAreForReadersAlone(t *testing.T, p ports) {
	t.Helper()
	url := "https://localhost:" + strconv.Itoa(p.metrics) + "/metrics"
	eventually(t, "metrics are served", func() bool { return get(t, url, "").status != 0 })
	if got := get(t, url, ""); got.status != http.StatusUnauthorized {
		t.Errorf("a stranger gets %d", got.status)
	}
	prometheus := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "monitoring", Name: "prometheus"}}
	if err := client.IgnoreAlreadyExists(c.client.Create(t.Context(), prometheus)); err != nil {
		t.Fatal(err)
	}
	token := c.token(t, "monitoring", "prometheus")
	if got := get(t, url, token); got.status != http.StatusForbidden {
		t.Errorf("who may not read gets %d", got.status)
	}
	c.kubectl(t, "create", "clusterrolebinding", "prometheus", "--clusterrole=externalroute-metrics-reader", "--serviceaccount=monitoring:prometheus")
	eventually(t, "Prometheus reads of a reconciliation", func() bool { return reconciled(get(t, url, token).body) })
	c.kubectl(t, "delete", "clusterrolebinding", "prometheus")
}

// peopleHaveRights asks whether the rights on routes have arrived in the cluster's own roles.
func (c *cluster) peopleHaveRights(t *testing.T) {
	t.Helper()
	for role, rights := range map[string]map[string]string{
		"view":  {"list": "yes", "create": "no"},
		"edit":  {"list": "yes", "create": "no"},
		"admin": {"list": "yes", "create": "no"},
	} {
		c.kubectl(t, "create", "rolebinding", role, "--clusterrole="+role, "--user="+role, "--namespace=shop")
		for verb, want := range rights {
			eventually(t, role+" may "+verb+" routes: "+want, func() bool {
				answer, _ := c.Kubectl(t.Context(), "auth", "can-i", verb, "externalroutes", "--namespace=shop", "--as="+role).Output() // no is an error too
				return strings.TrimSpace(string(answer)) == want
			})
		}
	}
}

// An administrator of a few namespaces installs the chart, without any object outside of them, and the operator serves routes there and nowhere else.
func TestSomeNamespaces(t *testing.T) {
	c := startCluster(t, controlplane.Options{ExternalRoute: true, Istio: true})
	c.namespace(t, "operators", "shop", "billing", "elsewhere")
	kubeconfig, err := c.Kubeconfig("local-administrator")
	if err != nil {
		t.Fatal(err)
	}
	for _, namespace := range []string{"operators", "shop", "billing"} {
		c.kubectl(t, "create", "rolebinding", "local", "--clusterrole=cluster-admin", "--user=local-administrator", "--namespace="+namespace)
	}
	p := freePorts(t)
	c.helm(t, kubeconfig, append([]string{
		"install", "externalroute", chart, "--namespace=operators", "--wait", valuesOf("namespaces"),
	}, p.values()...)...)
	if global := c.kubectl(t, "get", "clusterroles,clusterrolebindings", "--selector=app.kubernetes.io/instance=externalroute", "--output=name"); global != "" {
		t.Errorf("there are rights everywhere:\n%s", global)
	}
	manager := c.runManager(t, client.ObjectKey{Namespace: "operators", Name: "externalroute"}, p)

	for _, namespace := range []string{"elsewhere", "billing", "shop"} { // the one that nobody serves first
		c.kubectl(t, "apply", "--namespace="+namespace, "--filename="+root+"/config/samples/custom-ca.yaml")
	}
	name := routeOf(t, "custom-ca.yaml")
	for _, namespace := range []string{"billing", "shop"} {
		c.kubectl(t, "wait", "--namespace="+namespace, "--for=condition=Programmed", "--timeout=5m", "externalroute/"+name)
	}
	if reason := c.reason(t, "elsewhere", name); reason != v1alpha1.ReasonPending {
		t.Errorf("a route that nobody serves says %s", reason)
	}
	if strings.Contains(manager.log(), "forbidden") {
		t.Errorf("the operator asks for what it may not do:\n%s", manager.log())
	}
}

func (c *cluster) reason(t *testing.T, namespace, name string) string {
	t.Helper()
	route := &v1alpha1.ExternalRoute{}
	if err := c.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, route); err != nil {
		t.Fatal(err)
	}
	return meta.FindStatusCondition(route.Status.Conditions, v1alpha1.ConditionReady).Reason
}

// routeOf is the name of the route in a sample.
func routeOf(t *testing.T, sample string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, "config", "samples", sample))
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects(t, content) {
		if object.GetKind() == "ExternalRoute" {
			return object.GetName()
		}
	}
	t.Fatalf("%s has no route", sample)
	return ""
}
