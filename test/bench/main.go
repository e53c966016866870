//go:build linux

// Command bench measures what routes cost, on a real control plane of its own, and holds it against the floor: a bare client that writes the same
// objects and knows nothing else. Floor and operator are measured in one run, on one machine, so that their ratio means something elsewhere too.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/externalroute/externalroute/test/controlplane"
)

// settings are the command line.
type settings struct {
	routes    sizes
	services  string
	steps     words
	workers   int
	lone      int
	changes   int
	drift     int
	foreign   int
	failovers int
	idle      time.Duration
	settle    time.Duration
	timeout   time.Duration
	manager   string
	arguments string
	json      string
	profiles  string
	tmpfs     string
}

// sizes are numbers of routes.
type sizes []int

func (s *sizes) String() string { return strings.Trim(fmt.Sprint([]int(*s)), "[]") }

func (s *sizes) Set(text string) error {
	*s = nil
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 1 {
			return fmt.Errorf("%q is no number of routes", part)
		}
		*s = append(*s, n)
	}
	return nil
}

// words are names of steps; none are all.
type words []string

func (w *words) String() string { return strings.Join(*w, ",") }

func (w *words) Set(text string) error {
	*w = strings.Split(text, ",")
	return nil
}

func (w *words) has(word string) bool { return len(*w) == 0 || slices.Contains(*w, word) }

func readFlags() *settings {
	s := &settings{routes: sizes{1000, 5000, 10000}}
	flag.Var(&s.routes, "n", "Numbers of routes, with commas between.")
	flag.StringVar(&s.services, "services", "both", "The aliases' Services: existing, created (by the operator), or both, one after the other.")
	flag.Var(&s.steps, "steps", "Steps besides the bulk, with commas between: lone, few, idle, one, drift, restart, failover, edit. Defaults to all.")
	flag.IntVar(&s.workers, "workers", 16, "How many requests the bench has on the way at once.")
	flag.IntVar(&s.lone, "lone", 100, "How many routes are applied one by one.")
	flag.IntVar(&s.changes, "changes", 50, "How many single changes are made to one of few routes, and to one of all.")
	flag.IntVar(&s.drift, "drift", 1000, "How many generated objects are edited at once.")
	flag.IntVar(&s.foreign, "foreign", 20000, "How many objects of other people there are when their memory is measured; 0 leaves it out.")
	flag.IntVar(&s.failovers, "failovers", 5, "How often the leader is stopped while a second replica stands by.")
	flag.DurationVar(&s.idle, "idle", time.Minute, "How long nothing happens while writes are counted.")
	flag.DurationVar(&s.settle, "settle", 500*time.Millisecond, "The operator's --settle while every route changes its URL; elsewhere it has its default.")
	flag.DurationVar(&s.timeout, "timeout", 20*time.Minute, "How long one phase may take.")
	flag.StringVar(&s.manager, "manager", "", "Path of a manager binary. Defaults to the one of this repository.")
	flag.StringVar(&s.arguments, "args", "", "More flags for the manager, with spaces between.")
	flag.StringVar(&s.json, "json", "", "File for the figures.")
	flag.StringVar(&s.profiles, "profiles", "", "Folder for the operator's CPU and heap profiles of the bulk phase; the manager must know --pprof-bind-address.")
	flag.StringVar(&s.tmpfs, "tmpfs", "/dev/shm", "Where etcd keeps its data, so that the disk is not part of what is measured.")
	flag.Parse()
	return s
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, readFlags())
	if err != nil && ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s *settings) (err error) {
	variants, known := map[string][]bool{"existing": {true}, "created": {false}, "both": {true, false}}[s.services]
	if !known {
		return fmt.Errorf("-services %q: must be existing, created or both", s.services)
	}
	if s.profiles != "" {
		if err := os.MkdirAll(s.profiles, 0o750); err != nil {
			return fmt.Errorf("make the folder for profiles: %w", err)
		}
	}
	manager, err := buildManager(ctx, s)
	if err != nil {
		return err
	}
	defer os.RemoveAll(manager.folder)
	if info, err := os.Stat(s.tmpfs); err == nil && info.IsDir() {
		if err := os.Setenv("TMPDIR", s.tmpfs); err != nil {
			return err
		}
	}
	plane, err := controlplane.Start(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plane.Stop()) }()
	ctx, end := context.WithCancel(ctx)
	defer end() // before the API server, which waits for those who watch it
	b, err := newBench(ctx, s, plane, manager.binary)
	if err != nil {
		return err
	}
	report, err := b.measureAll(ctx, variants)
	if err != nil {
		return fmt.Errorf("%s\n%w", plane.Logs(), err)
	}
	return report.publish(os.Stdout, s.json)
}

// measureAll runs all scenarios. The control plane stays the same; each run leaves it as it was.
func (b *bench) measureAll(ctx context.Context, variants []bool) (*report, error) {
	r := newReport(b.settings)
	if err := b.warmUp(ctx); err != nil {
		return nil, fmt.Errorf("warm up: %w", err)
	}
	for _, n := range b.settings.routes {
		for _, existing := range variants {
			one, err := b.measureRun(ctx, n, existing)
			if err != nil {
				one.printPhases(os.Stdout)
				return nil, err
			}
			r.Runs = append(r.Runs, one)
			one.print(os.Stdout)
		}
	}
	if b.settings.foreign > 0 {
		var err error
		if r.Foreign, err = b.measureForeign(ctx); err != nil {
			return nil, fmt.Errorf("foreign objects: %w", err)
		}
	}
	return r, nil
}
