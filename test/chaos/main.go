//go:build linux

// Command chaos lets faults befall a real control plane while the operator works in it, and after each of them an auditor compares the cluster with its
// routes, object by object. Its last line is the tally.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"
)

func main() {
	b := &bench{}
	flag.BoolVar(&b.long, "long", false, "More and longer of everything.")
	flag.Uint64Var(&b.seed, "seed", uint64(time.Now().UnixNano()), "What is random follows from it, save the speed of the machine.") //nolint:gosec // any will do
	flag.IntVar(&b.kills, "kills", 0, "How often the manager is killed. If 0, 200 times in the long form and 15 times in the short one.")
	only := flag.String("only", "", "Faults whose names contain this, and no others.")
	flag.DurationVar(&b.patience, "patience", 3*time.Minute,
		"How long the cluster may take to heal. The pauses of caches, and of the retry of what failed, grow up to half a minute, and some are of a minute.")
	keep := flag.Bool("keep", false, "Keep logs.")
	flag.Parse()
	ctrl.SetLogger(logr.Discard())
	if b.kills == 0 {
		b.kills = b.times(15, 200)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := b.run(ctx, *only, *keep)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func (b *bench) run(ctx context.Context, only string, keep bool) (err error) {
	began := time.Now()
	if b.cluster, err = startCluster(ctx); err != nil {
		return err
	}
	fmt.Printf("seed %d; the control plane was up after %.1f s\n", b.seed, time.Since(began).Seconds())
	defer func() {
		if b.manager != nil {
			b.manager.kill()
		}
		if keep || err != nil {
			fmt.Fprintln(os.Stderr, "logs:", b.keepLogs())
		}
		err = errors.Join(err, b.stop())
	}()
	done := 0
	for _, f := range faults {
		if !strings.Contains(f.name, only) {
			continue
		}
		fmt.Println(f.name)
		if err := b.befall(ctx, f); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		done++
	}
	return b.tally(done)
}

// tally sums up. What was found makes it an error.
func (b *bench) tally(faults int) error {
	of := func(kinds ...string) int {
		n := 0
		for _, f := range b.found {
			if slices.Contains(kinds, f.kind) {
				n++
			}
		}
		return n
	}
	line := fmt.Sprintf("chaos: %d faults, %d kills, %d routes audited, %d lost or wrong, %d left over, %d foreign touched, %d untrue, %d dangling, %d hasty, %d hot, %.1f writes an act",
		faults, b.killed, b.audited, of(lost, wrong), of(leftOver), of(foreignTouched), of(untrue), of(dangling), of(hasty), of(hot), float64(b.written)/float64(max(1, b.acts)))
	fmt.Println(line)
	if len(b.found) > 0 {
		return fmt.Errorf("%d findings, with seed %d", len(b.found), b.seed)
	}
	return nil
}
