// Command demo tells the main job as a story on a terminal, on a real control plane of its own that it starts and ends: one manifest becomes a set of
// Istio objects, which stay as they should be, and mistakes say what they are.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/externalroute/externalroute/hack/demo/teller"
	"github.com/externalroute/externalroute/test/controlplane"
)

const (
	namespace = "demo"
	identity  = "system:serviceaccount:externalroute-system:externalroute"
	first     = "config/samples/smallest.yaml"
)

func main() {
	keep := flag.Bool("keep", false, "Stay until interrupted, and print the kubeconfig.")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *keep)
	if err != nil && ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, keep bool) (err error) {
	began := time.Now()
	t := &story{teller.New()}
	t.Heading("A Kubernetes control plane starts on this machine, with Istio's CRDs in it")
	plane, err := controlplane.Start(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		return err
	}
	defer func() { err = firstOf(err, plane.Stop()) }()
	t.Plane = plane
	if err := t.prepare(ctx); err != nil {
		return err
	}
	operator, err := startOperator(plane)
	if err != nil {
		return err
	}
	defer func() { err = firstOf(err, operator.stop()) }()

	for _, chapter := range []func(context.Context){
		t.oneManifest, t.generatedObjects, t.repair, t.everySample, t.refusal, t.mistake, t.removal,
	} {
		chapter(ctx)
		if t.Err != nil {
			return fmt.Errorf("%w\n%s", t.Err, operator.lastLines())
		}
	}
	t.Heading("That was it, in %d seconds", int(time.Since(began).Seconds()))
	t.Say("There is no mesh in this one. make demo-mesh sends an app's requests through a real istiod and Envoy (Linux).")
	if keep {
		t.Say("Everything stays until you press Ctrl-C. In another terminal:\n\n  export KUBECONFIG=%s\n  alias kubectl=%s\n",
			plane.KubeconfigFile, filepath.Join(plane.Assets, "kubectl"))
		<-ctx.Done()
	}
	return nil
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// operator is the manager as a process of this machine. It has the rights that config/rbac gives its ServiceAccount, and no others.
type operator struct {
	process  *exec.Cmd
	lifeline *os.File
	log      string
}

// The manager ends with this process, however that dies: a few lines of shell wait at a pipe that only this process holds open.
const leash = `(read -r _ <&3; kill $$) & exec "$@" 3<&-`

func startOperator(plane *controlplane.ControlPlane) (*operator, error) {
	kubeconfig, err := plane.Kubeconfig(identity, "system:serviceaccounts", "system:serviceaccounts:externalroute-system")
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(plane.Dir, "manager.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	waiting, lifeline, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer waiting.Close()
	process := exec.Command("sh", "-c", leash, "sh", "bin/manager", "--kubeconfig="+kubeconfig, "--health-probe-bind-address=0")
	process.Stdout, process.Stderr = log, log
	process.ExtraFiles = []*os.File{waiting}
	process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt at the terminal is for us, who then end it
	if err := process.Start(); err != nil {
		return nil, fmt.Errorf("start the manager: %w", err)
	}
	return &operator{process: process, lifeline: lifeline, log: log.Name()}, nil
}

func (o *operator) stop() error {
	err := o.lifeline.Close() // the shell at the other end kills it
	_ = o.process.Wait()      // it ends by a signal, which Wait calls an error
	return err
}

func (o *operator) lastLines() string {
	content, err := os.ReadFile(o.log)
	if err != nil {
		return err.Error()
	}
	return "the manager's log:\n" + string(content[max(0, len(content)-4000):])
}
