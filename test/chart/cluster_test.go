package chart_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/test/controlplane"
)

// cluster is a real control plane, with what makes pods of Deployments and schedules them. Its one node is simulated, and says of its pods that they run.
type cluster struct {
	*controlplane.ControlPlane
	client client.Client // the admin's
}

func startCluster(t *testing.T, options controlplane.Options) *cluster {
	t.Helper()
	plane, err := controlplane.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(plane.Logs())
			events, _ := plane.Kubectl(context.Background(), "get", "events,deployments,pods", "--all-namespaces").CombinedOutput()
			t.Logf("%s", events)
		}
		if err := plane.Stop(); err != nil {
			t.Error(err)
		}
	})
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c := &cluster{ControlPlane: plane}
	if c.client, err = client.New(plane.Config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	c.run(t, "workloads", filepath.Join(tools, "kube-controller-manager"),
		"--kubeconfig="+plane.KubeconfigFile, "--leader-elect=false", "--secure-port=0",
		"--controllers=deployment-controller,replicaset-controller,node-lifecycle-controller,disruption-controller,clusterrole-aggregation-controller")
	c.run(t, "scheduler", filepath.Join(tools, "kube-scheduler"), "--kubeconfig="+plane.KubeconfigFile, "--leader-elect=false", "--secure-port=0")
	c.run(t, "kwok", filepath.Join(tools, "kwok"), "--kubeconfig="+plane.KubeconfigFile, "--manage-all-nodes", "--node-lease-duration-seconds=40", "--config="+filepath.Join(tools, "stages.yaml"))
	c.create(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "simulated", Labels: map[string]string{corev1.LabelOSStable: "linux"}}})
	return c
}

// run starts a process that ends with the test, and with this process, however it dies: the shell's input ends then.
func (c *cluster) run(t *testing.T, name, program string, args ...string) *process {
	t.Helper()
	return c.runIn(t, nil, name, program, args...)
}

type process struct {
	name, logFile string
	stop          func()
}

func (c *cluster) runIn(t *testing.T, environment []string, name, program string, args ...string) *process {
	t.Helper()
	p := &process{name: name, logFile: filepath.Join(c.Dir, name+".log")}
	log, err := os.Create(p.logFile)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(context.WithoutCancel(t.Context()), "sh",
		append([]string{"-c", `"$@" & read -r _; kill -KILL $!`, "sh", program}, args...)...)
	command.Stdout, command.Stderr, command.Env = log, log, append(os.Environ(), environment...)
	leash, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	p.stop = func() {
		if leash.Close() == nil { // the first time
			_ = command.Wait() // the shell tells how the process ended
			_ = log.Close()
		}
	}
	t.Cleanup(p.stop)
	return p
}

func (p *process) log() string {
	content, _ := os.ReadFile(p.logFile)
	return string(content)
}

func (c *cluster) create(t *testing.T, object client.Object) {
	t.Helper()
	if err := c.client.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

// namespace creates a namespace that admits only what Pod Security calls restricted.
func (c *cluster) namespace(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		c.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}})
	}
}

// kubectl runs kubectl as the admin.
func (c *cluster) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return strings.TrimSpace(string(output(t, c.Kubectl(t.Context(), args...))))
}

// helm runs Helm 4 as the user of a kubeconfig.
func (c *cluster) helm(t *testing.T, kubeconfig string, args ...string) string {
	t.Helper()
	return string(output(t, helmCommand(t, kubeconfig, args...)))
}

func helmCommand(t *testing.T, kubeconfig string, args ...string) *exec.Cmd {
	t.Helper()
	if args[0] != "get" { // which waits for nothing
		args = append(args, "--timeout=5m")
	}
	command := exec.CommandContext(t.Context(), filepath.Join(tools, "helm"), args...)
	home := t.TempDir()
	command.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig, "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	return command
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never happened that %s", what)
		}
	}
}
