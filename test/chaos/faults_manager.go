//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// managerKilled kills the manager at random points while a user works: after so many of its writes, and a moment.
func managerKilled(ctx context.Context, r *run) error {
	const audits = 25 // kills between two audits in the middle
	for done := 0; done < r.kills; done += audits {
		if err := r.meanwhile(ctx, 3*busily, func() error {
			for range min(audits, r.kills-done) {
				if err := r.killSomewhere(ctx); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
		if err := r.settled(ctx); err != nil {
			return fmt.Errorf("after %d kills: %w", min(done+audits, r.kills), err)
		}
		r.audited += len(r.routes)
	}
	return nil
}

func (r *run) killSomewhere(ctx context.Context) error {
	writes, err := r.writesFromNow()
	if err != nil {
		return err
	}
	defer writes.close()
	after, seen := r.chance.IntN(8), 0
	for deadline := time.Now().Add(4 * time.Second); seen <= after && time.Now().Before(deadline); {
		more, _, err := writes.next(r.namespace)
		if err != nil {
			return err
		}
		seen += len(more)
		if err := sleep(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
	if err := sleep(ctx, r.upTo(15*time.Millisecond)); err != nil {
		return err
	}
	r.manager.kill()
	r.killed++
	b, err := r.books(ctx, r.namespace)
	if err != nil {
		return err
	}
	r.findings = append(r.findings, b.auditWay()...)
	r.repairs++
	r.manager, err = r.startManager(r.wire.config)
	return err
}

// leaderKilled lets one of two managers die, and then one end in order, and tells how long nobody leads.
func leaderKilled(ctx context.Context, r *run) error {
	flags := []string{"--leader-elect", "--leader-election-namespace=" + operatorNamespace}
	if err := r.replaceManager(r.wire.config, flags...); err != nil {
		return err
	}
	r.atEnd(func() { r.manager.kill() }) // the next fault is for one that leads without an election
	leader, err := r.nextLeader(ctx, "")
	if err != nil {
		return err
	}
	for range r.times(1, 3) {
		for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
			standby, err := r.startManager(r.wire.config, flags...)
			if err != nil {
				return err
			}
			if err := sleep(ctx, 3*time.Second); err != nil { // it fills its caches
				return err
			}
			end := time.Now()
			r.manager.end(signal)
			r.manager = standby
			r.killed++
			r.repairs += r.most
			route := r.draw(r.chance.IntN(r.most))
			if err := r.put(ctx, route); err != nil {
				return err
			}
			if leader, err = r.nextLeader(ctx, leader); err != nil {
				return err
			}
			leads := time.Since(end)
			if err := r.await(ctx, "the next leader's work", func(ctx context.Context) (bool, error) {
				if err := r.Get(ctx, client.ObjectKeyFromObject(route), route); err != nil {
					return false, err
				}
				ready := meta.FindStatusCondition(route.Status.Conditions, v1alpha1.ConditionReady)
				return ready != nil && ready.Status == "True" && ready.ObservedGeneration == route.Generation, nil
			}); err != nil {
				return err
			}
			r.say("leader %s: the next one led after %.1f s, and a route that was edited meanwhile was ready after %.1f s", signal, leads.Seconds(), time.Since(end).Seconds())
		}
	}
	return nil
}

// nextLeader waits until another replica leads.
func (r *run) nextLeader(ctx context.Context, last string) (holder string, err error) {
	err = r.await(ctx, "a leader", func(ctx context.Context) (bool, error) {
		var leases coordinationv1.LeaseList
		if err := r.List(ctx, &leases, client.InNamespace(operatorNamespace)); err != nil {
			return false, err
		}
		for _, lease := range leases.Items {
			holder = ptr.Deref(lease.Spec.HolderIdentity, "")
		}
		return holder != "" && holder != last, nil
	})
	return holder, err
}

// rightsMissing takes rights from the operator, as an administrator does who finds them too many: to look at ConfigMaps, and to write DestinationRules.
func rightsMissing(ctx context.Context, r *run) error {
	role := &rbacv1.ClusterRole{}
	if err := r.Get(ctx, client.ObjectKey{Name: "externalroute-manager"}, role); err != nil {
		return err
	}
	whole := role.DeepCopy()
	for i := range role.Rules {
		rule := &role.Rules[i]
		rule.Resources = slices.DeleteFunc(rule.Resources, func(resource string) bool {
			return resource == "configmaps" || (resource == "destinationrules" && slices.Contains(rule.Verbs, "patch"))
		})
	}
	role.Rules = append(slices.DeleteFunc(role.Rules, func(rule rbacv1.PolicyRule) bool { return len(rule.Resources) == 0 && len(rule.NonResourceURLs) == 0 }),
		rbacv1.PolicyRule{APIGroups: []string{"networking.istio.io"}, Resources: []string{"destinationrules"}, Verbs: []string{"list", "watch"}})
	if err := r.Update(ctx, role); err != nil {
		return err
	}
	if err := r.replaceManager(r.wire.config); err != nil {
		return err
	}
	began := time.Now()
	// More routes than are worked at at once ask for a ConfigMap, which nobody can look for. One asks for a DestinationRule, and one for neither.
	for i := r.most; i < 2*r.most+4; i++ {
		if i%kinds == 0 { // it needs a Service that is not there
			continue
		}
		route := r.draw(i)
		route.Spec.Destinations = []v1alpha1.Destination{{
			Name: "to-0", URL: v1alpha1.URL("https://" + nameOf(i) + ".example.net"),
			TLS: &v1alpha1.TLS{CACertificateRefs: []v1alpha1.CACertificateRef{{Name: "ca"}}},
		}}
		if err := r.put(ctx, route); err != nil {
			return err
		}
	}
	route := r.draw(2*r.most + 5)
	route.Spec.Destinations = []v1alpha1.Destination{{Name: "to-0", URL: v1alpha1.URL("https://" + route.Name + ".example.net")}}
	if err := r.put(ctx, route); err != nil {
		return err
	}
	if err := r.says(ctx, route.Name, v1alpha1.ReasonApplyFailed, "forbidden"); err != nil {
		return err
	}
	r.say("a route that was refused said so after %.1f s", time.Since(began).Seconds())
	for i := r.most; i < 2*r.most+4; i++ {
		if i%kinds == 0 {
			continue
		}
		if err := r.says(ctx, nameOf(i), v1alpha1.ReasonPending, ""); err != nil {
			return err
		}
	}
	r.repairs += 10 * r.most // tries with growing pauses
	if err := r.Get(ctx, client.ObjectKeyFromObject(role), role); err != nil {
		return err
	}
	role.Rules = whole.Rules
	return r.Update(ctx, role)
}
