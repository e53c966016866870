package gitops_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/test/controlplane"
)

const root = "../.."

var routes = v1alpha1.SchemeGroupVersion.WithKind("ExternalRoute")

// story is a repository, Flux that applies it, and the operator, which all run for as long as the test.
type story struct {
	*testing.T
	plane      *controlplane.ControlPlane
	client     client.Client
	repository *repository
	argo       *cluster
	requests   int // that Flux has got
}

func newStory(t *testing.T) *story {
	t.Helper()
	log.SetLogger(logr.Discard()) // controller-runtime complains without one
	argo := newCluster(t, controlplane.Options{ExternalRoute: true, Istio: true})
	plane := argo.ControlPlane
	s := &story{T: t, plane: plane, argo: argo}
	var err error
	if s.client, err = client.New(plane.Config, client.Options{}); err != nil {
		t.Fatal(err)
	}
	programs := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", programs, "./cmd/...")
	build.Dir = root
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build.Args, err, output)
	}
	s.repository = newRepository(t, programs+string(os.PathListSeparator)+plane.Assets)
	gateways, err := controlplane.GatewayAPICRDs()
	if err != nil {
		t.Fatal(err)
	}
	if err := plane.InstallCRDs(gateways); err != nil {
		t.Fatal(err)
	}
	startFlux(t, plane)
	s.deployOperator(filepath.Join(programs, "manager"))
	return s
}

// deployOperator commits the operator's manifests, lets Flux apply them, and starts the program that the Deployment would run if there were nodes.
func (s *story) deployOperator(manager string) {
	s.Helper()
	for _, folder := range []string{"crd", "rbac", "manager", "default"} {
		if err := os.CopyFS(filepath.Join(s.repository.folder, "operator", folder), os.DirFS(filepath.Join(root, "config", folder))); err != nil {
			s.Fatal(err)
		}
	}
	s.repository.commit(s.T)
	commit := s.repository.merge(s.T)
	source := strings.Replace(block(s.T, "docs/flux.md", "name: deploy\n  namespace"), "https://git.example.com/shop/deploy", s.repository.url, 1)
	s.kubectl("create", "namespace", fluxNamespace)
	s.apply(source + `
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: operator, namespace: flux-system}
spec:
  interval: 10m
  sourceRef: {kind: GitRepository, name: deploy}
  path: ./operator/default
  prune: true
`)
	if ready := s.sync(commit, "operator"); ready.status != "True" {
		s.Fatalf("Flux cannot apply the operator's manifests: %+v", ready)
	}
	const namespace = "externalroute-system"
	kubeconfig, err := s.plane.Kubeconfig("system:serviceaccount:"+namespace+":externalroute", "system:serviceaccounts", "system:serviceaccounts:"+namespace)
	if err != nil {
		s.Fatal(err)
	}
	launch(s.T, s.plane, nil, manager, "--kubeconfig="+kubeconfig, "--health-probe-bind-address=0", "--leader-elect", "--leader-election-namespace="+namespace)
}

// run is a part of the story. What follows a part that fails would fail too.
func (s *story) run(name string, part func()) {
	whole := s.T
	defer func() { s.T = whole }()
	if !whole.Run(name, func(t *testing.T) { s.T = t; part() }) {
		whole.FailNow()
	}
}

func (s *story) kubectl(args ...string) string {
	s.Helper()
	output, err := s.plane.Kubectl(s.Context(), args...).CombinedOutput()
	if err != nil {
		s.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, output)
	}
	return string(output)
}

func (s *story) apply(manifests string) {
	s.Helper()
	command := s.plane.Kubectl(s.Context(), "apply", "--server-side", "--filename=-")
	command.Stdin = strings.NewReader(manifests)
	if output, err := command.CombinedOutput(); err != nil {
		s.Fatalf("%v: %s", err, output)
	}
}

func (s *story) get(kind schema.GroupVersionKind, namespace, name string) *unstructured.Unstructured {
	s.Helper()
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(kind)
	if err := s.client.Get(s.Context(), client.ObjectKey{Namespace: namespace, Name: name}, object); err != nil {
		s.Fatal(err)
	}
	return object
}

func (s *story) list(kind schema.GroupVersionKind, namespace string) []unstructured.Unstructured {
	s.Helper()
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(kind)
	if err := s.client.List(s.Context(), list, client.InNamespace(namespace)); err != nil {
		s.Fatal(err)
	}
	return list.Items
}

// eventually waits until a condition holds. It says what is missing, or nothing.
func (s *story) eventually(what string, missing func() string) {
	s.Helper()
	last := ""
	err := wait.PollUntilContextTimeout(s.Context(), 100*time.Millisecond, 2*time.Minute, true, func(context.Context) (bool, error) {
		last = missing()
		return last == "", nil
	})
	if err != nil {
		s.Fatalf("%s: %v: %s\n%s", what, err, last, s.plane.Logs())
	}
}

var fences = regexp.MustCompile("(?ms)^```\\w+\n(.*?\n)```$")

// block returns the fenced block of a page that contains a text.
func block(t *testing.T, page, text string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	all := fences.FindAllStringSubmatch(string(content), -1)
	i := slices.IndexFunc(all, func(match []string) bool { return strings.Contains(match[1], text) })
	if i < 0 {
		t.Fatalf("%s has no block with %q", page, text)
	}
	return all[i][1]
}
