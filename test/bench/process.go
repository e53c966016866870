//go:build linux

package main

import (
	"fmt"
	"os"

	"github.com/prometheus/procfs"
)

// The processes that are measured. Those of the control plane go by the names that the kernel gives them.
const (
	operatorName = "operator"
	benchName    = "bench" // the client that creates the routes, and writes the floor
)

var measured = []string{operatorName, "kube-apiserver", "etcd", benchName}

// usage is what a process has used.
type usage struct {
	pid  int
	cpu  float64 // seconds
	rss  uint64  // bytes, now
	peak uint64  // bytes, since resetPeaks
}

// usages looks at all measured processes, which are children of this one.
func usages(o *operator) (map[string]usage, error) {
	all, err := procfs.AllProcs()
	if err != nil {
		return nil, err
	}
	found := map[string]usage{}
	for _, p := range all {
		stat, err := p.Stat()
		if err != nil || stat.PPID != os.Getpid() && p.PID != os.Getpid() { // it may have ended just now
			continue
		}
		status, err := p.NewStatus()
		if err != nil {
			continue
		}
		name := stat.Comm
		switch {
		case p.PID == os.Getpid():
			name = benchName
		case o != nil && p.PID == o.process.Process.Pid:
			name = operatorName
		}
		found[name] = usage{pid: p.PID, cpu: stat.CPUTime(), rss: status.VmRSS, peak: status.VmHWM}
	}
	for _, name := range measured[1:] {
		if found[name].pid == 0 {
			return nil, fmt.Errorf("process %s is not there", name)
		}
	}
	return found, nil
}

// resetPeaks makes the kernel count peaks of memory anew.
func resetPeaks(o *operator) error {
	now, err := usages(o)
	if err != nil {
		return err
	}
	for _, name := range measured {
		if u, found := now[name]; found {
			if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", u.pid), []byte("5"), 0); err != nil {
				return err
			}
		}
	}
	return nil
}
