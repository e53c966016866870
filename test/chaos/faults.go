//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/test/controlplane"
)

// The faults of the control plane itself and of the way to it.
var faults = []fault{
	{"api server killed", apiServerKilled},
	{"etcd stopped", etcdStopped},
	{"slow connections", slowConnections},
	{"connections cut", connectionsCut},
	{"half-open connections", halfOpenConnections},
	{"refused requests", refusedRequests},
	{"late answers", lateAnswers},
	{"answers lost", answersLost},
	{"routes out of sight", routesOutOfSight},
	{"rights missing", rightsMissing},
	{"fighting writer", fightingWriter},
	{"stubborn writer", stubbornWriter},
	{"quota", quota},
	{"admission refuses one", admissionRefusesOne},
	{"istio removed", istioRemoved},
	{"recreated at once", recreatedAtOnce},
	{"namespace deleted", namespaceDeleted},
	{"leader killed", leaderKilled},
	{"manager killed", managerKilled},
}

const busily = 50 * time.Millisecond

// A burst is on when the API server dies, and goes on when it is back. Its controllers die with it, as those on one node do. (A garbage collector that
// lives on may ask the new API server before that serves our kinds, and then misses for good that routes were deleted: what they generated was there
// after minutes.)
func apiServerKilled(ctx context.Context, r *run) error {
	return r.meanwhile(ctx, busily, func() error {
		for range r.times(1, 4) {
			if err := sleep(ctx, r.upTo(2*time.Second)); err != nil {
				return err
			}
			startControllers, err := r.Kill(controlplane.Controllers)
			if err != nil {
				return err
			}
			startAPI, err := r.Kill(controlplane.APIServer)
			if err != nil {
				return err
			}
			if err := sleep(ctx, r.upTo(3*time.Second)); err != nil {
				return err
			}
			if err := errors.Join(startAPI(), startControllers()); err != nil {
				return err
			}
			r.repairs += r.most
			if err := r.auditMoves(); err != nil { // the log lacks what was committed last
				return err
			}
		}
		return nil
	})
}

func etcdStopped(ctx context.Context, r *run) error {
	return r.meanwhile(ctx, busily, func() error {
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
		resume, err := r.Pause(controlplane.Etcd)
		if err != nil {
			return err
		}
		err = sleep(ctx, r.either(4*time.Second, time.Minute))
		return errors.Join(err, resume())
	})
}

func slowConnections(ctx context.Context, r *run) error {
	return r.disturbed(ctx, r.either(4*time.Second, 20*time.Second),
		toxic{Type: "latency", Stream: "upstream", Toxicity: 1, Attributes: map[string]int64{"latency": 150, "jitter": 100}},
		toxic{Type: "latency", Stream: "downstream", Toxicity: 1, Attributes: map[string]int64{"latency": 150, "jitter": 100}})
}

// Watches are cut at random moments, and half of the new connections are reset.
func connectionsCut(ctx context.Context, r *run) error {
	if err := r.meanwhile(ctx, busily, func() error {
		for range r.times(4, 20) {
			if err := sleep(ctx, r.upTo(time.Second)); err != nil {
				return err
			}
			if err := r.wire.cut(); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	return r.disturbed(ctx, r.either(2*time.Second, 20*time.Second),
		toxic{Type: "reset_peer", Stream: "downstream", Toxicity: 0.5, Attributes: map[string]int64{"timeout": 100}})
}

// Connections stay open, and nothing comes through any more in either direction. In the long form that lasts longer than a client needs to notice.
func halfOpenConnections(ctx context.Context, r *run) error {
	return r.disturbed(ctx, r.either(5*time.Second, 75*time.Second),
		toxic{Type: "timeout", Stream: "upstream", Toxicity: 1, Attributes: map[string]int64{"timeout": 0}},
		toxic{Type: "timeout", Stream: "downstream", Toxicity: 1, Attributes: map[string]int64{"timeout": 0}})
}

// disturbed lets the user work while connections are disturbed.
func (r *run) disturbed(ctx context.Context, during time.Duration, toxics ...toxic) error {
	return r.meanwhile(ctx, busily, func() error {
		restore, err := r.wire.disturb(toxics...)
		if err != nil {
			return err
		}
		defer restore()
		return sleep(ctx, during)
	})
}

// upTo is a random time.
func (r *run) upTo(most time.Duration) time.Duration {
	return time.Duration(r.chance.Int64N(int64(most)))
}

// refusedRequests lets an overloaded or broken API server refuse a third of what the operator asks, with 429 and 5xx.
func refusedRequests(ctx context.Context, r *run) error {
	proxy, err := r.behindProxy(ctx)
	if err != nil {
		return err
	}
	proxy.Refuse(1.0 / 3)
	err = r.meanwhile(ctx, busily, func() error { return sleep(ctx, r.either(6*time.Second, 30*time.Second)) })
	proxy.Refuse(0)
	r.repairs += int(proxy.Refused.Load()) // each may be tried again
	r.say("%d requests refused", proxy.Refused.Load())
	return err
}

// lateAnswers lets the answers to the operator's writes come later than the news of what became of the object: another client deletes it at once.
func lateAnswers(ctx context.Context, r *run) error {
	proxy, err := r.behindProxy(ctx)
	if err != nil {
		return err
	}
	proxy.AnswerLate(200 * time.Millisecond)
	defer proxy.AnswerLate(0)
	for end := time.Now().Add(r.either(4*time.Second, 20*time.Second)); time.Now().Before(end); {
		objects, err := r.list(ctx, client.InNamespace(r.namespace))
		if err != nil {
			return err
		}
		for _, object := range objects {
			if !isGenerated(object) {
				continue
			}
			if err := client.IgnoreNotFound(r.Delete(ctx, object)); err != nil {
				return err
			}
			r.repairs++
		}
		if err := sleep(ctx, r.upTo(50*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

// answersLost commits the operator's writes and closes the connection before it learns so: a share of all writes, and then all writes of one resource at a
// time, in the middle of moves.
func answersLost(ctx context.Context, r *run) error {
	proxy, err := r.behindProxy(ctx)
	if err != nil {
		return err
	}
	defer proxy.Lose(0, "")
	for _, c := range []struct {
		share    float64
		resource string
	}{
		{1.0 / 3, ""}, {1, "/virtualservices/"}, {1, "/destinationrules/"}, {1, "/serviceentries/"}, {1, "/services/"}, {1, "/externalroutes/"},
	} {
		proxy.Lost.Store(0)
		proxy.Lose(c.share, c.resource)
		if err := r.meanwhile(ctx, 3*busily, func() error { return sleep(ctx, r.either(3*time.Second, 20*time.Second)) }); err != nil {
			return err
		}
		proxy.Lose(0, "")
		lost := int(proxy.Lost.Load())
		if lost == 0 {
			return fmt.Errorf("no answer was lost of the writes of %q", c.resource)
		}
		r.repairs += lost // each may be tried again
		r.say("%d answers lost of writes of %q", lost, c.resource)
		if err := r.settled(ctx); err != nil {
			return err
		}
	}
	return nil
}

// routesOutOfSight lets the operator see its objects, but not its routes, while routes are deleted and created anew.
func routesOutOfSight(ctx context.Context, r *run) error {
	proxy, err := r.behindProxy(ctx)
	if err != nil {
		return err
	}
	proxy.Hide("/externalroutes")
	defer proxy.Hide("")
	if err := sleep(ctx, 2*time.Second); err != nil { // the other watches are back
		return err
	}
	if _, _, err := r.count(); err != nil {
		return err
	}
	for i := range r.most / 2 {
		if err := r.remove(ctx, nameOf(i)); err != nil {
			return err
		}
		if i%2 == 0 {
			if err := r.put(ctx, r.draw(i)); err != nil {
				return err
			}
		}
	}
	if err := sleep(ctx, r.either(3*time.Second, 20*time.Second)); err != nil {
		return err
	}
	wrote, _, err := r.count()
	times := map[string]int{}
	for _, w := range wrote {
		times[w.object]++
	}
	for object, n := range times {
		if n > often {
			r.findings = append(r.findings, finding{hot, fmt.Sprintf("%s/%s was written %d times, though its route is gone", r.namespace, object, n)})
		}
	}
	return err
}

// behindProxy runs the manager against a proxy, which does nothing yet, until the end of this run.
func (r *run) behindProxy(ctx context.Context) (*controlplane.Proxy, error) {
	proxy, err := controlplane.NewProxy(r.operator, r.randomOf("proxy"))
	if err != nil {
		return nil, err
	}
	r.atEnd(proxy.Close)
	if err := r.replaceManager(proxy.Config); err != nil {
		return nil, err
	}
	r.atEnd(r.manager.kill)                              // before its API server goes
	if err := r.put(ctx, r.draw(r.most+3)); err != nil { // something that it has to do: then it is at work
		return nil, err
	}
	return proxy, r.settled(ctx)
}

// replaceManager ends the manager and runs another one.
func (r *run) replaceManager(target *rest.Config, flags ...string) (err error) {
	r.manager.kill()
	r.repairs += r.most
	r.manager, err = r.startManager(target, flags...)
	return err
}
