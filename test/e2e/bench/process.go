//go:build linux

package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
)

// process is a program that runs until it is stopped, or until this process ends, however that happens.
type process struct {
	command *exec.Cmd
	log     string
	done    chan struct{}
}

// launch starts a program whose output goes to NAME.log, after what earlier ones of that name wrote.
func launch(dir, name string, env []string, program string, args ...string) (*process, error) {
	p := &process{command: exec.Command(program, args...), log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.command.Env = append(os.Environ(), env...)
	p.command.Stdout, p.command.Stderr = log, log
	p.command.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true, // an interrupt at the terminal is for this process, which then ends the others in order
		Pdeathsig: syscall.SIGKILL,
	}
	started := make(chan error)
	nursery() <- func() { started <- p.command.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = p.command.Wait() // it ends by a signal, which Wait calls an error
		close(p.done)
	}()
	return p, nil
}

// The kernel sends the death signal when the thread that started the child ends. So one thread, which never ends, starts all of them.
var nursery = sync.OnceValue(func() chan<- func() {
	births := make(chan func())
	go func() {
		runtime.LockOSThread()
		for birth := range births {
			birth()
		}
	}()
	return births
})

func (p *process) kill() {
	_ = p.command.Process.Kill()
	<-p.done
}

// await asks until the answer is yes or the program has ended.
func (p *process) await(ctx context.Context, ask func() error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-p.done:
			cancel(fmt.Errorf("it ended by itself, see %s", p.log))
		case <-ctx.Done():
		}
	}()
	return eventually(ctx, "see "+p.log, ask)
}
