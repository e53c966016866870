//go:build linux

// Package bench is a mesh on one machine, made of the real parts: a Kubernetes control plane, istiod, Envoy as the sidecar of apps in network namespaces
// of their own, HTTPS servers that play the outside world, their DNS, and the operator as a process. It knows nothing of what a route should do: the
// stories beside it do.
package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
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

	envoy    string
	world    *network
	networks networks
	secrets  *secretService

	mu   sync.Mutex
	apps int
	hops int
}

// Start starts everything but the operator and the apps. Whatever is started ends with Stop or with this process.
func Start() (*Bench, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the bench makes network namespaces, which needs root. Run it as: sudo --preserve-env env PATH=\"$PATH\" make e2e")
	}
	for _, tool := range []string{"ip", "iptables", "setpriv"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("the bench needs %s: apt-get install iproute2 iptables util-linux", tool)
		}
	}
	b := &Bench{}
	if err := b.start(); err != nil {
		return nil, errors.Join(err, b.Stop(true))
	}
	return b, nil
}

func (b *Bench) start() (err error) {
	if b.Dir, err = os.MkdirTemp("", "externalroute-e2e-"); err != nil {
		return err
	}
	if err := os.Chmod(b.Dir, 0o755); err != nil { //nolint:gosec // Envoy runs as somebody else and must pass through
		return err
	}
	if b.Authority, err = NewAuthority("the world's"); err != nil {
		return err
	}
	if err := b.installEnvoy(); err != nil {
		return err
	}
	if b.ControlPlane, err = controlplane.Start(controlplane.Options{ExternalRoute: true, Istio: true, Dir: filepath.Join(b.Dir, "controlplane")}); err != nil {
		return err
	}
	if b.Cluster, err = client.NewWithWatch(b.Config, client.Options{}); err != nil {
		return err
	}
	if err := b.startWorld(); err != nil {
		return fmt.Errorf("make the outside world: %w", err)
	}
	if b.secrets, err = startSecretService(filepath.Join(b.Dir, "sds.sock"), b.Authority); err != nil {
		return fmt.Errorf("serve the sidecars' certificates: %w", err)
	}
	if b.Istiod, err = b.startIstiod(); err != nil {
		return fmt.Errorf("start istiod: %w", err)
	}
	return nil
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
	if b.secrets != nil {
		b.secrets.stop()
	}
	problems = append(problems, b.networks.remove())
	if b.ControlPlane != nil {
		problems = append(problems, b.ControlPlane.Stop())
	}
	if b.envoy != "" {
		problems = append(problems, os.Remove(b.envoy)) // large, and no log
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

// installEnvoy copies Envoy to where the user it runs as can read it.
func (b *Bench) installEnvoy() error {
	installed, err := controlplane.LastLine("./hack/envoy/install.sh")
	if err != nil {
		return err
	}
	b.envoy = filepath.Join(b.Dir, "envoy")
	return exec.Command("install", "-m", "755", installed, b.envoy).Run()
}

// Repository is the folder of this repository.
func Repository() string {
	_, thisFile, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(thisFile), "..", "..", "..")
}

// eventually asks until the answer is yes.
func eventually(ctx context.Context, limit time.Duration, what string, ask func() error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s: not within %s", what, limit))
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
