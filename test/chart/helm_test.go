// Package chart_test tries the Helm chart and the manifests of config/ as a cluster would: by the schemas of a real API server, by Pod Security, and
// installed into a real control plane whose nodes alone are simulated.
package chart_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/test/controlplane"
)

const (
	root  = "../.."
	chart = root + "/charts/externalroute"
)

// tools is the folder of helm, kubeconform, kwok and the like.
var tools string

func TestMain(m *testing.M) {
	folder, err := controlplane.LastLine("./hack/chart/tools.sh")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	tools = folder
	ctrl.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// output runs a command and returns what it prints. Its failure is the test's.
func output(t *testing.T, command *exec.Cmd) []byte {
	t.Helper()
	var stderr bytes.Buffer
	command.Stderr = &stderr
	stdout, err := command.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(command.Args, " "), err, stdout, stderr.Bytes())
	}
	return stdout
}

// render renders the chart as the release externalroute in the namespace operators.
func render(t *testing.T, args ...string) []byte {
	t.Helper()
	args = append([]string{"template", "externalroute", chart, "--namespace=operators"}, args...)
	return output(t, exec.CommandContext(t.Context(), filepath.Join(tools, "helm"), args...))
}

// kustomize builds a folder of config.
func kustomize(t *testing.T, folder string) []byte {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "tool", "-modfile=hack/tools/go.mod", "kustomize", "build", folder)
	command.Dir = root
	return output(t, command)
}

// allOfConfig builds config/default with everything that its comments offer, where that is there.
func allOfConfig(t *testing.T) []byte {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "config")
	if err := os.CopyFS(copied, os.DirFS(root+"/config")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(copied, "default", "kustomization.yaml")
	var lines []string
	for line := range strings.Lines(string(read(t, "config/default/kustomization.yaml"))) {
		offered, isOffer := strings.CutPrefix(line, "#")
		isOffer = isOffer && (strings.HasPrefix(offered, "- ") || strings.HasPrefix(offered, "  "))
		if folder, isFolder := strings.CutPrefix(strings.TrimSpace(offered), "- ../"); isFolder {
			_, err := os.Stat(filepath.Join(copied, folder))
			isOffer = isOffer && err == nil
		}
		if isOffer {
			line = offered
		}
		lines = append(lines, line)
	}
	if err := os.WriteFile(file, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	return kustomize(t, filepath.Dir(file))
}

// objects parses YAML documents.
func objects(t *testing.T, documents []byte) []*unstructured.Unstructured {
	t.Helper()
	var all []*unstructured.Unstructured
	for document := range strings.SplitSeq("\n"+string(documents), "\n---") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &object.Object); err != nil {
			t.Fatalf("%v:\n%s", err, document)
		}
		if len(object.Object) > 0 {
			all = append(all, object)
		}
	}
	return all
}

// find returns the one object of a kind and name.
func find(t *testing.T, all []*unstructured.Unstructured, kind, name string) *unstructured.Unstructured {
	t.Helper()
	for _, object := range all {
		if object.GetKind() == kind && object.GetName() == name {
			return object
		}
	}
	t.Fatalf("there is no %s %q", kind, name)
	return nil
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// valuesFiles are the files with which the chart is tried.
func valuesFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"/ci/*.yaml", "/values-*.yaml"} {
		found, err := filepath.Glob(chart + pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("found no values files %s: %v", pattern, err)
		}
		files = append(files, found...)
	}
	return files
}

// valuesOf is the flag for one of them.
func valuesOf(name string) string { return "--values=" + chart + "/ci/" + name + "-values.yaml" }
