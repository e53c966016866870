package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
)

// The processes of a control plane, by the names of their binaries.
const (
	APIServer   = "kube-apiserver"
	Etcd        = "etcd"
	Controllers = "controllers"
)

// Kill ends a process at once, as a node that dies does. The function that it returns starts it again, on the same ports and data and with the same
// flags and those that are added, and waits until the API answers. (Linux alone: the process is looked up in /proc, since envtest does not tell it.)
func (c *ControlPlane) Kill(name string) (start func(flags ...string) error, err error) {
	pid, err := c.processOf(name)
	if err != nil {
		return nil, err
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return nil, fmt.Errorf("read the flags of %s: %w", name, err)
	}
	flags := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")[1:]
	if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil { // its leash too
		return nil, fmt.Errorf("kill %s: %w", name, err)
	}
	if c.controllers != nil && c.controllers.Process.Pid == pid {
		_ = c.controllers.Wait() // nobody else asks how it ended
		c.controllers = nil
	}
	return func(more ...string) error {
		if err := c.awaitEnd(pid); err != nil {
			return fmt.Errorf("wait for the end of %s: %w", name, err)
		}
		return c.startAgain(name, append(flags, more...))
	}, nil
}

// Pause stops a process: its connections stay open, and nobody answers. The function that it returns lets it go on.
func (c *ControlPlane) Pause(name string) (resume func() error, err error) {
	pid, err := c.processOf(name)
	if err != nil {
		return nil, err
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return nil, fmt.Errorf("stop %s: %w", name, err)
	}
	return func() error { return syscall.Kill(pid, syscall.SIGCONT) }, nil
}

// RunQuotaController compiles and runs Kubernetes' controller of resource quotas, which no control plane has by itself, until the function that it returns
// is called.
func (c *ControlPlane) RunQuotaController() (stop func(), err error) {
	const name = "quota-controller"
	binary := filepath.Join(c.Dir, name+"-binary")
	if _, err := Run("go", "build", "-C", "hack/controlplane", "-buildvcs=false", "-tags=quota", "-o", binary, "./controllers"); err != nil {
		return nil, err
	}
	path, log, err := c.leash(name, binary)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	command := exec.Command(path, "--kubeconfig="+c.KubeconfigFile, "--controllers=resourcequota")
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start the %s: %w", name, err)
	}
	return func() {
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
		_ = command.Wait() // it ends by a signal, which Wait calls an error
	}, nil
}

// processOf finds the process that runs one of our binaries and writes to our log of it: other control planes may run beside this one.
func (c *ControlPlane) processOf(name string) (int, error) {
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	dir, err := filepath.EvalSymlinks(c.Dir)
	if err != nil {
		return 0, err
	}
	for _, folder := range folders {
		binary, _ := os.Readlink(filepath.Join(folder, "exe")) // it may have ended
		log, _ := os.Readlink(filepath.Join(folder, "fd", "1"))
		if filepath.Base(binary) == name && log == filepath.Join(dir, name+".log") {
			return strconv.Atoi(filepath.Base(folder))
		}
	}
	return 0, fmt.Errorf("find %s: it does not run", name)
}

// awaitEnd waits until a process is gone and its parent has waited for it: until then its port may be taken.
func (c *ControlPlane) awaitEnd(pid int) error {
	return wait.PollUntilContextTimeout(context.Background(), 10*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH), nil
	})
}

func (c *ControlPlane) startAgain(name string, flags []string) error {
	path := filepath.Join(c.Dir, name) // leashed already
	log, err := os.OpenFile(path+".log", os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	command := exec.Command(path, flags...)
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
		return fmt.Errorf("start %s again: %w", name, err)
	}
	ended := make(chan struct{})
	go func() {
		_ = command.Wait() // it ends by a signal, which Wait calls an error
		close(ended)
	}()
	asked, err := discovery.NewDiscoveryClientForConfig(c.Config)
	if err != nil {
		return err
	}
	err = wait.PollUntilContextTimeout(context.Background(), 50*time.Millisecond, 2*time.Minute, true, func(ctx context.Context) (bool, error) {
		select {
		case <-ended:
			return false, errors.New("it ended by itself")
		default:
		}
		return asked.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error() == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait until %s answers again: %w\n%s", name, err, c.Logs())
	}
	return nil
}
