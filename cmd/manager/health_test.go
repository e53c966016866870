package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/test/controlplane"
)

// A worker that never gives an item back is what a restart heals. The queue is a real one, which measures itself.
func TestStuckWorkerIsUnhealthy(t *testing.T) {
	queue := workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.DefaultTypedControllerRateLimiter[string](),
		workqueue.TypedRateLimitingQueueConfig[string]{Name: "stuck"},
	)
	defer queue.ShutDown()
	check := workersMove(time.Second)
	queue.Add("item")
	item, _ := queue.Get()
	eventually(t, "the worker is found stuck", func() bool { return check(nil) != nil })
	if err := workersMove(time.Hour)(nil); err != nil {
		t.Errorf("by another limit: %v", err)
	}
	queue.Done(item)
	eventually(t, "the worker is found to move", func() bool { return check(nil) == nil })
}

// What the kubelet would hear from a leader, a standby and one without rights, while the cluster lives, and after.
func TestProbes(t *testing.T) {
	plane, err := controlplane.Start(controlplane.Options{ExternalRoute: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := plane.Stop(); err != nil {
			t.Error(err)
		}
	})
	nobody, err := plane.Kubeconfig("nobody")
	if err != nil {
		t.Fatal(err)
	}
	program := build(t)
	elected := []string{
		"--kubeconfig=" + plane.KubeconfigFile, "--leader-elect", "--leader-election-namespace=default",
		"--leader-elect-lease-duration=1h", "--leader-elect-renew-deadline=50m", // a busy machine must not change the leader
	}
	leader := start(t, program, elected...)
	eventually(t, "one leads", func() bool { return leader.logged("Starting workers") })
	standby := start(t, program, elected...)
	stranger := start(t, program, "--kubeconfig="+nobody)

	for name, m := range map[string]*manager{"leader": leader, "standby": standby} {
		eventually(t, "the "+name+" is ready", func() bool { return m.probe(t, "readyz") == http.StatusOK })
	}
	if standby.logged("Starting workers") {
		t.Error("the standby works")
	}
	eventually(t, "the stranger is refused", func() bool { return stranger.logged("forbidden") })
	if got := stranger.probe(t, "readyz"); got != http.StatusInternalServerError {
		t.Errorf("readyz is %d while nothing may be read", got)
	}
	for name, m := range map[string]*manager{"leader": leader, "standby": standby, "stranger": stranger} {
		if got := m.probe(t, "healthz"); got != http.StatusOK {
			t.Errorf("the %s's healthz is %d", name, got)
		}
	}
	cluster, err := client.New(plane.Config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.ClusterRoleBinding{
		Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: "nobody", APIGroup: rbacv1.GroupName}},
		RoleRef:  rbacv1.RoleRef{Kind: "ClusterRole", Name: "cluster-admin", APIGroup: rbacv1.GroupName},
	}
	binding.Name = "nobody"
	if err := cluster.Create(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stranger is ready once he may read", func() bool { return stranger.probe(t, "readyz") == http.StatusOK })

	if _, err := plane.Kill("kube-apiserver"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the standby is not ready without an API server", func() bool { return standby.probe(t, "readyz") == http.StatusInternalServerError })
	if got := standby.probe(t, "healthz"); got != http.StatusOK {
		t.Errorf("without an API server a restart helps nobody, yet healthz is %d", got)
	}
}

func TestTheLinkerStampsTheVersion(t *testing.T) {
	output, err := exec.CommandContext(t.Context(), build(t, "-ldflags=-X main.version=v1.2.3"), "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(output), "externalroute v1.2.3 (revision ") {
		t.Errorf("got %q", output)
	}
}

func build(t *testing.T, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "manager")
	command := exec.CommandContext(t.Context(), "go", append(append([]string{"build", "-buildvcs=false", "-o", path}, flags...), ".")...)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	return path
}

// manager is one that runs as a process of its own.
type manager struct {
	address string
	logFile string
}

// start starts a manager that ends with the test, and with this process, however it dies: the shell's input ends then.
func start(t *testing.T, program string, args ...string) *manager {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "localhost:0") // for a free port
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{address: listener.Addr().String(), logFile: filepath.Join(t.TempDir(), "log")}
	log, err := os.Create(m.logFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	args = append([]string{"-c", `"$@" & read -r _; kill -KILL $!`, "sh", program, "--health-probe-bind-address=" + m.address}, args...)
	command := exec.CommandContext(context.WithoutCancel(t.Context()), "sh", args...)
	command.Stdout, command.Stderr = log, log
	leash, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = leash.Close()
		_ = command.Wait() // the shell tells how the manager ended
		_ = log.Close()
		if t.Failed() {
			content, _ := os.ReadFile(m.logFile)
			t.Logf("%v:\n%s", args, content)
		}
	})
	return m
}

func (m *manager) logged(words string) bool {
	content, _ := os.ReadFile(m.logFile)
	return strings.Contains(string(content), words)
}

// probe returns the HTTP status of a probe, 0 where nobody answers.
func (m *manager) probe(t *testing.T, path string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+m.address+"/"+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 5*time.Minute, true, func(context.Context) (bool, error) {
		return holds(), nil
	})
	if err != nil {
		t.Fatalf("it never happened that %s", what)
	}
}
