//go:build linux

// Command demo shows the end result on a terminal: an app with a real sidecar calls http://webserver/ before and after a manifest is applied, and the
// server that answers says what it saw. It shares the bench of the e2e tests, and starts and ends everything itself.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/externalroute/externalroute/hack/demo/teller"
	"github.com/externalroute/externalroute/test/controlplane"
	"github.com/externalroute/externalroute/test/e2e/bench"
)

func main() {
	began := time.Now()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := prepare()
	if err == nil {
		err = run(ctx)
	}
	if err != nil && ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo-mesh:", err)
		os.Exit(1)
	}
	t := teller.New()
	t.Heading("That was it, in %d seconds", int(time.Since(began).Seconds()))
}

// prepare finds what the story needs before it says a word: as an ordinary user, the program begins anew here.
func prepare() error {
	if _, err := exec.LookPath("curl"); err != nil {
		return errors.New("the app of this story is curl: apt-get install curl")
	}
	repository, err := controlplane.Repository()
	if err != nil {
		return err
	}
	if err := os.Chdir(repository); err != nil { // the paths of the story begin there
		return err
	}
	return bench.Enter()
}

func run(ctx context.Context) (err error) {
	t := &story{Teller: teller.New()}
	t.Heading("A mesh starts on this machine. Every part is the real one, save the outside world")
	if t.mesh, err = bench.Start(t.started); err != nil {
		return err
	}
	defer func() {
		failed := err != nil && ctx.Err() == nil
		err = errors.Join(err, t.mesh.Stop(failed))
		if failed {
			err = fmt.Errorf("%w\nlogs: %s", err, t.mesh.Dir)
		}
	}()
	end, err := t.populate(ctx)
	defer end()
	if err != nil {
		return err
	}
	for _, chapter := range []func(context.Context){t.before, t.manifest, t.after, t.seen, t.impostor, t.edit, t.removal} {
		chapter(ctx)
		if t.Err != nil {
			return t.Err
		}
	}
	return t.app.Stop()
}
