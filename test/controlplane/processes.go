package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// A child of envtest outlives a test that panics or is killed. So every process runs under a few lines of shell that wait at a pipe which nobody ever
// writes to and only this process holds open: its end, whatever the cause, is theirs.
const leash = `#!/bin/sh
[ "$1" = --help ] && exec '%[1]s' --help
(read -r _ <'%[2]s'; kill -KILL $$) &
exec '%[1]s' "$@"
`

func (c *ControlPlane) holdLifeline() error {
	pipe := filepath.Join(c.Dir, "lifeline")
	if err := os.Remove(pipe); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		return fmt.Errorf("make pipe %q: %w", pipe, err)
	}
	var err error
	c.lifeline, err = os.OpenFile(pipe, os.O_RDWR, 0) // a FIFO opened for writing alone would wait for a reader
	return err
}

// leashed returns the path of a program that runs the named binary of the control plane for as long as this process lives, and a file for its log.
func (c *ControlPlane) leashed(name string) (path string, log *os.File, err error) {
	return c.leash(name, filepath.Join(c.Assets, name))
}

func (c *ControlPlane) leash(name, binary string) (path string, log *os.File, err error) {
	path = filepath.Join(c.Dir, name)
	script := fmt.Sprintf(leash, binary, c.lifeline.Name())
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil { //nolint:gosec // it must be executable
		return "", nil, err
	}
	log, err = os.Create(path + ".log")
	return path, log, err
}

func (c *ControlPlane) startAPIServer(address string) error {
	etcd, etcdLog, err := c.leashed("etcd")
	if err != nil {
		return err
	}
	defer etcdLog.Close()
	apiServer, apiServerLog, err := c.leashed("kube-apiserver")
	if err != nil {
		return err
	}
	defer apiServerLog.Close()

	c.environment = envtest.Environment{
		ControlPlane: envtest.ControlPlane{
			Etcd:        &envtest.Etcd{Path: etcd, Out: etcdLog, Err: etcdLog}, // envtest adds --unsafe-no-fsync by itself
			APIServer:   &envtest.APIServer{Path: apiServer, Out: apiServerLog, Err: apiServerLog},
			KubectlPath: filepath.Join(c.Assets, "kubectl"),
		},
		UseExistingCluster:       new(false),      // whatever the environment says: tests create and delete
		ControlPlaneStartTimeout: 2 * time.Minute, // a busy machine
		ControlPlaneStopTimeout:  time.Minute,
	}
	server := c.environment.ControlPlane.APIServer
	server.Configure().Set("service-cluster-ip-range", "10.96.0.0/16") // envtest's own holds 250 Services
	if address != "" {
		listener, err := net.Listen("tcp", net.JoinHostPort(address, "0")) // for a free port
		if err != nil {
			return err
		}
		if err := listener.Close(); err != nil {
			return err
		}
		server.Address, server.Port = address, strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	}
	if c.Config, err = c.environment.Start(); err != nil {
		return err
	}
	c.Etcd = c.environment.ControlPlane.Etcd.URL.String()
	c.KubeconfigFile = filepath.Join(c.Dir, "admin.kubeconfig")
	return os.WriteFile(c.KubeconfigFile, c.environment.KubeConfig, 0o600)
}

// Launch starts a program of the caller's, with environment variables beside this process's own, and returns what kills it. It ends with this process
// too, and its log is among Logs.
func (c *ControlPlane) Launch(environment []string, program string, args ...string) (kill func(), err error) {
	path, log, err := c.leash(filepath.Base(program), program)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	command := exec.Command(path, args...)
	command.Stdout, command.Stderr = log, log
	command.Env = append(os.Environ(), environment...)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its leash ends with it
	if err := command.Start(); err != nil {
		return nil, err
	}
	return func() {
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL) // unless it has ended
		_ = command.Wait()                                      // by a signal, which Wait calls an error
	}, nil
}

func (c *ControlPlane) startControllers() error {
	path, log, err := c.leashed(Controllers)
	if err != nil {
		return err
	}
	defer log.Close()
	c.controllers = exec.Command(path,
		"--kubeconfig="+c.KubeconfigFile,
		"--service-account-private-key-file="+filepath.Join(c.environment.ControlPlane.APIServer.CertDir, "sa-signer.key"),
	)
	c.controllers.Stdout, c.controllers.Stderr = log, log
	c.controllers.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt at the terminal is for us, who end them in order
	if err := c.controllers.Start(); err != nil {
		c.controllers = nil
		return err
	}
	return c.awaitControllers()
}

// The first thing that the controllers do is to make a ServiceAccount for the default namespace.
func (c *ControlPlane) awaitControllers() error {
	cluster, err := client.New(c.Config, client.Options{})
	if err != nil {
		return err
	}
	err = wait.PollUntilContextTimeout(context.Background(), 100*time.Millisecond, 2*time.Minute, true, func(ctx context.Context) (bool, error) {
		err := cluster.Get(ctx, client.ObjectKey{Namespace: corev1.NamespaceDefault, Name: "default"}, &corev1.ServiceAccount{})
		return err == nil, client.IgnoreNotFound(err)
	})
	if err != nil {
		return fmt.Errorf("wait for the controllers: %w", err)
	}
	return nil
}

func (c *ControlPlane) stopControllers() error {
	if c.controllers == nil {
		_, _ = c.Kill(Controllers) // one that was killed and started again, if any: the API server waits for its connections
		return nil
	}
	group := -c.controllers.Process.Pid
	if err := syscall.Kill(group, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop the controllers: %w", err)
	}
	late := time.AfterFunc(20*time.Second, func() { _ = syscall.Kill(group, syscall.SIGKILL) })
	defer late.Stop()
	_ = c.controllers.Wait() // it ends by a signal, which Wait calls an error
	c.controllers = nil
	return nil
}
