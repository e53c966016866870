//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/client-go/rest"

	"github.com/externalroute/externalroute/test/controlplane"
)

// settle is shorter than in production, so that many moves fit into a run.
const settle = 300 * time.Millisecond

// manager is the operator as a process of this machine. It ends with this process, however that dies.
type manager struct {
	command *exec.Cmd
	ended   chan struct{}
}

// startManager runs the operator against an API server, or what stands before it.
func (c *cluster) startManager(target *rest.Config, flags ...string) (*manager, error) {
	kubeconfig := filepath.Join(c.Dir, "operator.kubeconfig")
	if err := controlplane.WriteKubeconfig(target, kubeconfig); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(c.Dir, "manager.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	flags = append([]string{"--kubeconfig=" + kubeconfig, "--settle=" + settle.String(), "--health-probe-bind-address=0"}, flags...)
	m := &manager{command: exec.Command(c.binary, flags...), ended: make(chan struct{})}
	m.command.Stdout, m.command.Stderr = log, log
	m.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := m.command.Start(); err != nil {
		return nil, fmt.Errorf("start the manager: %w", err)
	}
	go func() {
		_ = m.command.Wait() // it ends by a signal, which Wait calls an error
		close(m.ended)
	}()
	return m, nil
}

// kill ends the manager at once.
func (m *manager) kill() { m.end(syscall.SIGKILL) }

func (m *manager) end(signal os.Signal) {
	_ = m.command.Process.Signal(signal) // it may have ended
	<-m.ended
}

// died says whether the manager ended though nobody asked it to.
func (m *manager) died() bool {
	select {
	case <-m.ended:
		return true
	default:
		return false
	}
}
