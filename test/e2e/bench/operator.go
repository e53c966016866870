//go:build linux

package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/externalroute/externalroute/test/controlplane"
)

// Operator is this project's manager, as a process with the rights of its ServiceAccount.
type Operator struct {
	Kubeconfig string

	bench   *Bench
	process *process
}

// Settle is the operator's default, which is what users run.
const Settle = 3 * time.Second

const (
	operatorNamespace = "externalroute-system"
	operatorAccount   = "system:serviceaccount:" + operatorNamespace + ":externalroute"
)

// StartOperator installs what users install (the Deployment stays without pods, since there is no kubelet), and runs the manager.
func (b *Bench) StartOperator() error {
	ctx := context.Background()
	repository, err := controlplane.Repository()
	if err != nil {
		return err
	}
	if output, err := b.Kubectl(ctx, "apply", "--server-side", "--force-conflicts", "-k", filepath.Join(repository, "config", "default")).CombinedOutput(); err != nil {
		return fmt.Errorf("install the operator: %w: %s", err, output)
	}
	if _, err := controlplane.Run("./hack/tools/patiently.sh", "compiling the operator",
		"go", "build", "-buildvcs=false", "-o", filepath.Join(b.Dir, "manager"), "./cmd/manager"); err != nil {
		return err
	}
	groups := []string{"system:serviceaccounts", "system:serviceaccounts:" + operatorNamespace, "system:authenticated"}
	kubeconfig, err := b.Kubeconfig(operatorAccount, groups...)
	if err != nil {
		return err
	}
	b.Operator = &Operator{bench: b, Kubeconfig: kubeconfig}
	return b.Operator.Start(ctx)
}

// Start runs the manager and waits until it is ready. Flags that are added win.
func (o *Operator) Start(ctx context.Context, flags ...string) error {
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	flags = append([]string{
		"--kubeconfig", o.Kubeconfig, "--settle", Settle.String(), "--leader-elect=false", "--metrics-bind-address", "0", "--health-probe-bind-address", ports[0],
	}, flags...)
	o.process, err = launch(o.bench.Dir, "manager", nil, filepath.Join(o.bench.Dir, "manager"), flags...)
	if err != nil {
		return err
	}
	return o.process.await(ctx, func() error { return ready(ctx, "http://"+ports[0]+"/readyz") })
}

// Kill ends the manager at once, as a node that dies does.
func (o *Operator) Kill() {
	if o.process != nil {
		o.process.kill()
	}
}
