//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// fault is something that befalls the cluster while a user works with routes.
type fault struct {
	name string
	do   func(ctx context.Context, r *run) error
}

// run is one fault in a namespace of its own.
type run struct {
	*bench
	*user
	chance *rand.Rand // the fault's own: the user's is at work meanwhile
	before snapshot
	writes *writes
	wrote  int // by the operator
	// repairs is how often another client broke something or the operator restarted; each may cost writes.
	repairs  int
	findings []finding
	ends     []func()
}

// atEnd does something when the run is over, the last said first.
func (r *run) atEnd(do func()) { r.ends = append(r.ends, do) }

func (r *run) end() {
	for _, do := range slices.Backward(r.ends) {
		do()
	}
}

func (r *run) say(format string, args ...any) { fmt.Printf("  "+format+"\n", args...) }

// bench is a cluster with an operator in it, and what was found so far.
type bench struct {
	*cluster
	manager *manager
	long    bool
	seed    uint64
	kills   int
	// patience is how long the cluster may take to heal.
	patience time.Duration

	killed, audited, acts, written int
	found                          []finding
}

// randomOf is a source of its own for everything that happens at the same time as something else.
func (b *bench) randomOf(what string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(what))
	return rand.New(rand.NewPCG(b.seed, h.Sum64())) //nolint:gosec // to be repeated, not secret
}

// befall lets one fault befall the cluster, and looks what became of it.
func (b *bench) befall(ctx context.Context, f fault) error {
	r := &run{bench: b}
	namespace := "chaos-" + strings.ReplaceAll(f.name, " ", "-")
	r.chance = b.randomOf(f.name)
	r.user = &user{Client: b.Client, namespace: namespace, random: b.randomOf(f.name + " user"), routes: map[string]bool{}, most: 8}
	if b.long {
		r.most = 16
	}
	began := time.Now()
	if err := r.prepare(ctx); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	defer r.writes.close()
	defer r.end()
	struck := time.Now()
	if err := f.do(ctx, r); err != nil {
		return err
	}
	over := time.Now()
	healed, err := r.heal(ctx)
	if err != nil {
		return err
	}
	if err := r.conclude(ctx); err != nil {
		return err
	}
	fmt.Printf("  %d routes, %d acts, %d writes; prepared in %.1f s, the fault took %.1f s, healed in %.1f s, all %.1f s\n", r.most, r.user.acts, r.wrote,
		struck.Sub(began).Seconds(), over.Sub(struck).Seconds(), healed.Seconds(), time.Since(began).Seconds())
	for _, finding := range r.findings {
		fmt.Println("  FOUND", finding)
	}
	b.found = append(b.found, r.findings...)
	b.acts += r.user.acts
	b.written += r.wrote
	return nil
}

// prepare makes a namespace in which routes work, beside objects of other people's.
func (r *run) prepare(ctx context.Context) (err error) {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.namespace}}
	if err := r.Create(ctx, namespace); err != nil {
		return err
	}
	if err := r.plantForeign(ctx, r.namespace, r.random, r.most); err != nil {
		return err
	}
	if r.writes, err = r.writesFromNow(); err != nil {
		return err
	}
	if r.manager == nil || r.manager.died() {
		if r.manager, err = r.startManager(r.wire.config); err != nil {
			return err
		}
	}
	if err := r.create(ctx); err != nil {
		return err
	}
	if err := r.settled(ctx); err != nil {
		return err
	}
	r.before, err = r.foreign(ctx)
	return err
}

// settled waits until the namespace is as its routes ask for, and notes what is not in the end.
func (r *run) settled(ctx context.Context) error {
	var findings []finding
	began, reported := time.Now(), false
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, r.patience, true, func(ctx context.Context) (bool, error) {
		now, err := r.audit(ctx, r.namespace, r.routes)
		if err != nil {
			return false, nil //nolint:nilerr // the API server may still be on its way
		}
		findings = now
		if !reported && len(findings) > 0 && time.Since(began) > 40*time.Second { // longer than the operator's longest pause
			reported = true
			r.say("after %.0f s not yet: %v", time.Since(began).Seconds(), findings)
		}
		return len(findings) == 0, nil
	})
	if wait.Interrupted(err) && ctx.Err() == nil {
		r.findings = append(r.findings, findings...)
		return nil
	}
	return err
}

// heal waits until everything is as it should be, and notes what is not in the end. Then the operator must be quiet.
func (r *run) heal(ctx context.Context) (took time.Duration, err error) {
	began := time.Now()
	if err := r.settled(ctx); err != nil {
		return 0, err
	}
	took = time.Since(began)
	r.audited += len(r.routes)
	after, err := r.foreign(ctx)
	if err != nil {
		return 0, err
	}
	r.findings = append(r.findings, r.before.touched(after)...)
	if err := r.quiet(ctx); err != nil {
		return 0, err
	}
	return took, r.auditMoves()
}

// auditMoves judges what was written since the last call, and knows nothing of what was before.
func (r *run) auditMoves() error {
	if _, _, err := r.count(); err != nil {
		return err
	}
	r.findings = append(r.findings, auditMoves(r.writes.changes, settle)...)
	r.writes.changes = nil
	return nil
}

// quiet brings the operator to rest, and watches it then.
func (r *run) quiet(ctx context.Context) error {
	if err := r.pass(ctx); err != nil {
		return err
	}
	return r.watchRest(ctx)
}

// pass waits until the operator has reconciled every route once more: what it had to do when the cluster was as its routes ask for is done then.
func (r *run) pass(ctx context.Context) error {
	var routes v1alpha1.ExternalRouteList
	if err := r.List(ctx, &routes, client.InNamespace(r.namespace)); err != nil {
		return err
	}
	for i := range routes.Items {
		route := &routes.Items[i]
		for _, value := range []string{"false", "null"} { // one of the two is an edit that means nothing
			before := route.Generation
			patch := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"suspend":`+value+`}}`))
			if err := r.Patch(ctx, route, patch); err != nil {
				return err
			}
			if route.Generation > before {
				break
			}
		}
	}
	return r.settled(ctx)
}

// watchRest finds what the operator writes although no other client does, and whether it wrote too much before.
func (r *run) watchRest(ctx context.Context) error {
	if _, _, err := r.count(); err != nil {
		return err
	}
	if err := sleep(ctx, r.either(1500*time.Millisecond, 10*time.Second)); err != nil {
		return err
	}
	operators, others, err := r.count()
	if err != nil {
		return err
	}
	if len(others) > 0 { // the garbage collector, say
		r.say("another client wrote, although the user did nothing: %v", others)
		return r.watchRest(ctx)
	}
	times := map[write]int{}
	for _, w := range operators {
		times[w]++
	}
	for w, n := range times {
		r.findings = append(r.findings, finding{hot, fmt.Sprintf("%d times %s %s/%s (%d) although nothing happened", n, w.verb, w.namespace, w.object, w.code)})
	}
	for object, writes := range r.writes.paces {
		if n := (pace{writes, r.writes.acts[subject(object)]}).hottest(); n > 0 {
			r.findings = append(r.findings, finding{hot, fmt.Sprintf("%s/%s was written %d times within a second", r.namespace, object, n)})
		}
	}
	// A move costs most: two objects per destination, as many to be deleted, the VirtualService, and a status for each of the three steps.
	if bound := 20*(r.user.acts+r.repairs) + 50; r.wrote > bound {
		r.findings = append(r.findings, finding{hot, fmt.Sprintf("%d writes for %d acts of the user and %d repairs: more than %d", r.wrote, r.user.acts, r.repairs, bound)})
	}
	return nil
}

// count reads what was written since the last call.
func (r *run) count() (operators, others []write, err error) {
	operators, others, err = r.writes.next(r.namespace)
	r.wrote += len(operators)
	return operators, others, err
}

// conclude deletes all routes and looks whether anything stays.
func (r *run) conclude(ctx context.Context) error {
	acts := r.user.acts
	if err := r.clear(ctx); err != nil {
		return err
	}
	r.user.acts = acts
	err := r.settled(ctx)
	if r.manager != nil && r.manager.died() {
		r.findings = append(r.findings, finding{lost, "the manager: it ended by itself"})
	}
	return err // the namespace stays, and what other people have in it
}

// meanwhile does something while the user works.
func (r *run) meanwhile(ctx context.Context, pause time.Duration, do func() error) error {
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() { stopped <- r.busy(ctx, stop, pause) }()
	err := do()
	close(stop)
	return errors.Join(err, <-stopped)
}

// either is the first in the short form and the second in the long one.
func (b *bench) either(short, long time.Duration) time.Duration {
	if b.long {
		return long
	}
	return short
}

func (b *bench) times(short, long int) int {
	if b.long {
		return long
	}
	return short
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
