package gitops_test

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/externalroute/externalroute/test/controlplane"
)

const fluxNamespace = "flux-system"

var (
	gitRepositories = schema.GroupVersionKind{Group: "source.toolkit.fluxcd.io", Version: "v1", Kind: "GitRepository"}
	kustomizations  = schema.GroupVersionKind{Group: "kustomize.toolkit.fluxcd.io", Version: "v1", Kind: "Kustomization"}
)

// startFlux starts Flux's controllers, as the admin. They have no webhooks and send no events.
func startFlux(t *testing.T, plane *controlplane.ControlPlane) {
	t.Helper()
	folder, err := controlplane.LastLine("./hack/flux/build.sh")
	if err != nil {
		t.Fatal(err)
	}
	definitions, err := controlplane.FluxCRDs()
	if err != nil {
		t.Fatal(err)
	}
	if err := plane.InstallCRDs(definitions); err != nil {
		t.Fatal(err)
	}
	environment := []string{"KUBECONFIG=" + plane.KubeconfigFile, "RUNTIME_NAMESPACE=" + fluxNamespace}
	shared := []string{"--events-addr=", "--metrics-addr=0", "--health-addr=0", "--requeue-dependency=1s"}
	artifacts := net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t)))
	launch(t, plane, environment, filepath.Join(folder, "source-controller"),
		append(shared, "--storage-path="+t.TempDir(), "--storage-addr="+artifacts, "--storage-adv-addr="+artifacts)...)
	launch(t, plane, environment, filepath.Join(folder, "kustomize-controller"), shared...)
}

func launch(t *testing.T, plane *controlplane.ControlPlane, environment []string, program string, args ...string) {
	t.Helper()
	kill, err := plane.Launch(environment, program, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kill)
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return listener.Addr().(*net.TCPAddr).Port
}

// reconcile makes Flux reconcile an object now, as `flux reconcile` does, and returns its condition Ready when it has, at a commit or at any.
func (s *story) reconcile(kind schema.GroupVersionKind, name, commit string) condition {
	s.Helper()
	s.requests++
	token := strconv.Itoa(s.requests)
	s.kubectl("annotate", "--overwrite", "--namespace="+fluxNamespace, kind.Kind+"."+kind.Group, name, "reconcile.fluxcd.io/requestedAt="+token)
	revisionOf := map[string][]string{gitRepositories.Kind: {"status", "artifact", "revision"}, kustomizations.Kind: {"status", "lastAttemptedRevision"}}
	var ready condition
	s.eventually("Flux should reconcile "+kind.Kind+" "+name, func() string {
		object := s.get(kind, fluxNamespace, name)
		handled, _, _ := unstructured.NestedString(object.Object, "status", "lastHandledReconcileAt")
		revision, _, _ := unstructured.NestedString(object.Object, revisionOf[kind.Kind]...)
		if ready = conditionOf(object, "Ready"); handled != token || ready.status == "Unknown" || !strings.HasSuffix(revision, commit) {
			return fmt.Sprintf("it has handled request %q of %s, is at revision %q and not at %q, and Ready is %+v", handled, token, revision, commit, ready)
		}
		return ""
	})
	return ready
}

// sync makes Flux apply a commit, and returns the condition Ready of the last Kustomization. Those on which it depends go first: Flux waits until they have
// applied the same commit.
func (s *story) sync(commit string, names ...string) (ready condition) {
	s.Helper()
	s.reconcile(gitRepositories, "deploy", commit)
	for _, name := range names {
		ready = s.reconcile(kustomizations, name, commit)
	}
	return ready
}

// condition is what a status says of one type.
type condition struct{ status, reason, message string }

func conditionOf(object *unstructured.Unstructured, kind string) condition {
	all, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, one := range all {
		fields, _ := one.(map[string]any)
		text := func(name string) string { value, _ := fields[name].(string); return value }
		if text("type") == kind {
			return condition{text("status"), text("reason"), text("message")}
		}
	}
	return condition{status: "Unknown"}
}
