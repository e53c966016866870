package chart_test

import (
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/test/controlplane"
)

const definition = "externalroutes.networking.externalroute.io"

// Two releases in one namespace, each for its own namespaces, installed in the same way. Both lead. The CRD belongs to one of them at a time, and stays the
// same object whatever happens to the releases.
func TestTwoReleases(t *testing.T) {
	c := startCluster(t, controlplane.Options{Istio: true})
	c.namespace(t, "operators", "shop", "billing")
	c.install(t, "first", "shop")
	notes := c.install(t, "second", "billing")
	if want := "belongs to release first in namespace operators"; !strings.Contains(notes, want) {
		t.Errorf("the notes of the second release do not say %q:\n%s", want, notes)
	}
	for _, namespace := range []string{"shop", "billing"} {
		c.kubectl(t, "apply", "--namespace="+namespace, "--filename="+root+"/config/samples/smallest.yaml")
		c.kubectl(t, "wait", "--namespace="+namespace, "--for=condition=Ready", "--timeout=5m", "externalroute/webserver")
	}
	before := c.kubectl(t, "get", "crd", definition, "--output=jsonpath={.metadata.uid}")

	for _, release := range []string{"first", "second"} {
		c.helm(t, c.KubeconfigFile, "upgrade", release, chart, "--namespace=operators", "--reuse-values", "--wait")
	}
	c.ownsCRD(t, "first", true)
	c.ownsCRD(t, "second", false)

	c.helm(t, c.KubeconfigFile, "uninstall", "first", "--namespace=operators", "--wait")
	notes = c.helm(t, c.KubeconfigFile, "upgrade", "second", chart, "--namespace=operators", "--reuse-values", "--wait")
	c.ownsCRD(t, "second", false)
	takeOver := regexp.MustCompile(`(?m)^  kubectl (annotate --overwrite .*) \\\n +(.*)$`).FindAllStringSubmatch(notes, -1)
	if len(takeOver) != 2 {
		t.Fatalf("the notes do not say how to take the two CRDs over:\n%s", notes)
	}
	for _, command := range takeOver {
		c.kubectl(t, strings.Fields(command[1]+" "+command[2])...)
	}
	c.helm(t, c.KubeconfigFile, "upgrade", "second", chart, "--namespace=operators", "--reuse-values", "--wait")
	c.ownsCRD(t, "second", true)

	c.helm(t, c.KubeconfigFile, "uninstall", "second", "--namespace=operators", "--wait")
	if after := c.kubectl(t, "get", "crd", definition, "--output=jsonpath={.metadata.uid}"); after != before {
		t.Errorf("the CRD is another one: %s, before %s", after, before)
	}
}

// install installs a release for the routes of one namespace, runs its operator, and returns its notes.
func (c *cluster) install(t *testing.T, release, namespace string) string {
	t.Helper()
	p := freePorts(t)
	notes := c.helm(t, c.KubeconfigFile, append([]string{
		"install", release, chart, "--namespace=operators", "--wait", "--set=watchNamespaces={" + namespace + "}",
	}, p.values()...)...)
	c.runManager(t, client.ObjectKey{Namespace: "operators", Name: release + "-externalroute"}, p)
	return notes
}

// ownsCRD checks whether the CRD is a part of a release.
func (c *cluster) ownsCRD(t *testing.T, release string, want bool) {
	t.Helper()
	manifest := c.helm(t, c.KubeconfigFile, "get", "manifest", release, "--namespace=operators")
	if got := strings.Contains(manifest, "name: "+definition); got != want {
		t.Errorf("release %s has the CRD: %t, want %t", release, got, want)
	}
}
