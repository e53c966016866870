//go:build linux

// Package bench is a mesh on one machine, made of the real parts: a Kubernetes control plane, istiod, Envoy as the sidecar of apps in network namespaces
// of their own, HTTPS servers that play the outside world, their DNS, and the operator as a process. It knows nothing of what a route should do: the
// stories beside it do.
package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/test/controlplane"
)

// Bench is a mesh that runs.
type Bench struct {
	*controlplane.ControlPlane

	Cluster   client.WithWatch // as the admin
	Dir       string           // the logs of all processes
	Authority *Authority       // what Envoy takes for the system's roots
	DNS       *DNS             // the outside world's names
	Istiod    *Istiod
	Operator  *Operator // nil until StartOperator

	envoy string
	world *network

	mu   sync.Mutex
	apps int
	hops int
}

// Enter gives this process the rights that a bench needs, or says what is missing. A user who is not root becomes root of a user namespace, in which the
// program begins anew: call it first.
func Enter() error {
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil { // which Debian's users lack
		return err
	}
	for _, tool := range []string{"ip", "iptables", "mount", "nsenter", "unshare"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("the mesh needs %s: apt-get install iproute2 iptables mount util-linux", tool)
		}
	}
	root := os.Geteuid() == 0
	flags := []string{"--mount", "--net"}
	if !root {
		flags = append(flags, "--user", "--map-root-user")
	}
	if output, err := exec.Command("unshare", append(flags, "iptables", "-t", "nat", "-S")...).CombinedOutput(); err != nil {
		advice := "this machine does not give them to ordinary users: run the same command as root, with sudo --preserve-env env PATH=\"$PATH\" COMMAND"
		if root {
			advice = "root of a container gets them from docker run --privileged"
		}
		return fmt.Errorf("the mesh needs network namespaces with iptables; %s (%w: %s)", advice, err, bytes.TrimSpace(output))
	}
	if root {
		return nil
	}
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(unshare, append([]string{"unshare", "--user", "--map-root-user", self}, os.Args[1:]...), os.Environ())
}

// Start starts everything but the operator and the apps, and reports each part. Whatever is started ends with Stop or with this process.
func Start(report func(part string, took time.Duration)) (*Bench, error) {
	b := &Bench{}
	if err := b.start(report); err != nil {
		return nil, errors.Join(err, b.Stop(true))
	}
	return b, nil
}

func (b *Bench) start(report func(part string, took time.Duration)) (err error) {
	if b.Dir, err = os.MkdirTemp("", "externalroute-e2e-"); err != nil {
		return err
	}
	if b.Authority, err = NewAuthority("the world's"); err != nil {
		return err
	}
	for _, part := range []struct {
		name  string
		start func() error
	}{
		{"a Kubernetes control plane: etcd, kube-apiserver and a few controllers", b.startControlPlane},
		{"the outside world: a network of its own, with DNS", b.startWorld},
		{"istiod", b.startIstiod},
		{"Envoy, not running yet: each app gets its own", b.installEnvoy},
	} {
		began := time.Now()
		if err := part.start(); err != nil {
			return fmt.Errorf("start %s: %w", part.name, err)
		}
		report(part.name, time.Since(began))
	}
	return nil
}

func (b *Bench) startControlPlane() (err error) {
	options := controlplane.Options{ExternalRoute: true, Istio: true, Dir: filepath.Join(b.Dir, "controlplane")}
	if b.ControlPlane, err = controlplane.Start(options); err != nil {
		return err
	}
	b.Cluster, err = client.NewWithWatch(b.Config, client.Options{})
	return err
}

// Stop ends everything. The logs stay if asked for.
func (b *Bench) Stop(keepLogs bool) error {
	var problems []error
	if b.Operator != nil {
		b.Operator.Kill()
	}
	if b.Istiod != nil {
		b.Istiod.stop()
	}
	if b.world != nil {
		b.world.remove()
	}
	if b.ControlPlane != nil {
		problems = append(problems, b.ControlPlane.Stop())
	}
	if !keepLogs {
		problems = append(problems, os.RemoveAll(b.Dir))
	}
	return errors.Join(problems...)
}

// Namespace creates a namespace.
func (b *Bench) Namespace(ctx context.Context, name string) error {
	return b.Cluster.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
}

// serviceAddress is what the cluster's DNS answers for a Service.
func (b *Bench) serviceAddress(namespace, name string) (netip.Addr, error) {
	var service corev1.Service
	if err := b.Cluster.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: name}, &service); err != nil {
		return netip.Addr{}, err
	}
	return netip.ParseAddr(service.Spec.ClusterIP)
}

func (b *Bench) installEnvoy() (err error) {
	b.envoy, err = controlplane.LastLine("./hack/envoy/install.sh")
	return err
}

const patience = 2 * time.Minute // far more than anything takes, on a busy machine too

// eventually asks until the answer is yes.
func eventually(ctx context.Context, what string, ask func() error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%s: not within %s", what, patience))
	defer cancel()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
