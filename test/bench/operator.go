//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/procfs"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/externalroute/externalroute/test/controlplane"
)

// systemNamespace is the one that config/rbac names.
const systemNamespace = "system"

// built is a manager that was built for this run, in a folder of its own.
type built struct{ binary, folder string }

func buildManager(ctx context.Context, s *settings) (built, error) {
	if s.manager != "" {
		binary, err := filepath.Abs(s.manager)
		return built{binary: binary}, err
	}
	root, err := controlplane.Repository()
	if err != nil {
		return built{}, err
	}
	folder, err := os.MkdirTemp("", "externalroute-bench-")
	if err != nil {
		return built{}, err
	}
	b := built{binary: filepath.Join(folder, "manager"), folder: folder}
	command := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-trimpath", "-o", b.binary, "./cmd/manager")
	command.Dir, command.Stderr, command.Env = root, os.Stderr, append(os.Environ(), "CGO_ENABLED=0")
	if err := command.Run(); err != nil {
		return b, fmt.Errorf("build the manager: %w", err)
	}
	return b, nil
}

// operator is the manager as a process of its own, with the account, the rights and the flags with which it is deployed.
type operator struct {
	process *exec.Cmd
	began   time.Time
	metrics string // URLs
	pprof   string
	log     string
	ended   chan struct{}
}

func (b *bench) startOperator(arguments ...string) (*operator, error) {
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	o := &operator{metrics: "http://" + ports[0] + "/metrics", ended: make(chan struct{})}
	arguments = append([]string{
		"--kubeconfig=" + b.account, "--leader-elect", "--leader-election-namespace=" + systemNamespace,
		"--health-probe-bind-address=" + ports[1], "--metrics-bind-address=" + ports[0], "--metrics-secure=false",
	}, arguments...)
	arguments = append(arguments, strings.Fields(b.settings.arguments)...)
	if b.settings.profiles != "" {
		o.pprof = "http://" + ports[2] + "/debug/pprof/"
		arguments = append(arguments, "--pprof-bind-address="+ports[2])
	}
	log, err := os.CreateTemp(b.plane.Dir, "manager-*.log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	o.log = log.Name()
	o.process = exec.Command(b.manager, arguments...)
	o.process.Stdout, o.process.Stderr = log, log
	o.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL} // an interrupt at the terminal is for us
	o.began = time.Now()
	if err := o.process.Start(); err != nil {
		return nil, fmt.Errorf("start the manager: %w", err)
	}
	go func() {
		_ = o.process.Wait() // it ends by our signal, or the next look at it says so
		close(o.ended)
	}()
	return o, nil
}

// freePorts are loopback addresses on which nobody listens, all different.
func freePorts(n int) ([]string, error) {
	addresses := make([]string, n)
	for i := range addresses {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close() //nolint:gocritic // all are held until the last is found, so that they differ
		addresses[i] = listener.Addr().String()
	}
	return addresses, nil
}

// stop ends the operator as a node would, and returns how long that took.
func (o *operator) stop() (time.Duration, error) {
	began := time.Now()
	if err := o.process.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, fmt.Errorf("stop the manager: %w", err)
	}
	select {
	case <-o.ended:
		return time.Since(began), nil
	case <-time.After(time.Minute):
		return 0, errors.Join(errors.New("the manager did not end within a minute"), o.process.Process.Kill())
	}
}

func fetch(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, response.Status)
	}
	return content, err
}

// work is what an operator says about itself.
type work struct {
	reconciles float64
	waiting    float64 // routes in its queue or at work
	heap       float64 // live bytes, as of the last collection
}

func (o *operator) work(ctx context.Context) (work, error) {
	raw, err := fetch(ctx, o.metrics)
	if err != nil {
		return work{}, err
	}
	families, err := parseMetrics(raw)
	if err != nil {
		return work{}, err
	}
	return work{
		reconciles: totalOf(families["controller_runtime_reconcile_total"]),
		waiting:    totalOf(families["workqueue_depth"]) + totalOf(families["controller_runtime_active_workers"]),
		heap:       totalOf(families["go_gc_heap_live_bytes"]),
	}, nil
}

func totalOf(family *dto.MetricFamily) float64 {
	var sum float64
	for _, metric := range family.GetMetric() {
		sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
	}
	return sum
}

// await waits until the operator's work is as a test likes, and returns when that was seen. It leaves the operator alone for at least four times as long as
// a look takes: with thousands of routes, a scrape of all metrics costs CPU, too.
func (o *operator) await(ctx context.Context, every, timeout time.Duration, likes func(work) bool) (time.Time, error) {
	var at, next time.Time
	err := wait.PollUntilContextTimeout(ctx, every, timeout, true, func(ctx context.Context) (bool, error) {
		select {
		case <-o.ended:
			return false, errors.New("the manager ended")
		default:
		}
		begin := time.Now()
		if begin.Before(next) {
			return false, nil
		}
		now, err := o.work(ctx)
		at = time.Now()
		next = at.Add(4 * at.Sub(begin))
		return err == nil && likes(now), nil // it may not listen yet
	})
	return at, o.withLog(err)
}

// withLog adds the end of the manager's log to an error, where there is one.
func (o *operator) withLog(err error) error {
	if err == nil {
		return nil
	}
	content, _ := os.ReadFile(o.log)
	return fmt.Errorf("wait for the manager: %w\n%s", err, content[max(0, len(content)-4000):])
}

// awaitRest waits until the operator's work is as a test likes, and returns since when the operator is at rest. It is asked only when it uses no CPU: to
// tell the metrics of thousands of routes would take a part of the time that is measured.
func (o *operator) awaitRest(ctx context.Context, timeout time.Duration, likes func(work) bool) (since time.Time, err error) {
	process, err := procfs.NewProc(o.process.Process.Pid)
	if err != nil {
		return since, err
	}
	const quiet, idle = 400 * time.Millisecond, 0.03 // of so long, so many seconds may be used: leases, timers
	var used float64
	err = wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, timeout, true, func(ctx context.Context) (bool, error) {
		stat, err := process.Stat()
		if err != nil {
			return false, err
		}
		if now := stat.CPUTime(); now-used > idle {
			used, since = now, time.Now()
		}
		if time.Since(since) < quiet {
			return false, nil
		}
		now, err := o.work(ctx)
		if err == nil && likes(now) { // it may not listen yet
			return true, nil
		}
		if stat, err = process.Stat(); err == nil {
			used, since = stat.CPUTime(), time.Now()
		}
		return false, err
	})
	return since, o.withLog(err)
}

// quiet waits until the operator has had nothing to do for a moment, and returns since when.
func (o *operator) quiet(ctx context.Context, timeout time.Duration) (time.Time, error) {
	var since time.Time
	before, quiet := -1.0, 0
	_, err := o.await(ctx, 100*time.Millisecond, timeout, func(w work) bool {
		if w.waiting > 0 || w.reconciles != before {
			before, quiet, since = w.reconciles, 0, time.Now()
			return false
		}
		quiet++
		return quiet >= 5
	})
	return since, err
}
