//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// planted is a fault that was put into a namespace whose routes work, and what must be found then, and nothing else.
type planted struct {
	plant func(ctx context.Context, r *run) error
	found []finding // their beginnings
}

// The route that the faults are about has an alias of its own; route-00 serves the Service taken-00.
const patient = "route-02"

var plantedFaults = map[string]planted{
	"nothing": {},
	"an object is gone": {
		func(ctx context.Context, r *run) error { return r.Delete(ctx, virtualServiceOf(r)) },
		[]finding{{lost, "VirtualService route-02 of route"}},
	},
	"a ServiceEntry says something else": {
		func(ctx context.Context, r *run) error {
			return r.patchAll(ctx, "ServiceEntry", `{"spec":{"resolution":"NONE"}}`)
		},
		[]finding{{wrong, "ServiceEntry route-02"}},
	},
	"a DestinationRule says more": {
		func(ctx context.Context, r *run) error {
			return r.patchAll(ctx, "DestinationRule", `{"spec":{"trafficPolicy":{"tls":{"mode":"DISABLE"}}}}`)
		},
		[]finding{{wrong, "DestinationRule route-02"}},
	},
	"a Service has another port": {
		func(ctx context.Context, r *run) error {
			return r.patchAll(ctx, "Service", `{"spec":{"ports":[{"name":"http","port":80},{"name":"more","port":81}]}}`)
		},
		[]finding{{wrong, "Service route-02 of route"}},
	},
	"a label is gone": {
		func(ctx context.Context, r *run) error {
			return r.patchAll(ctx, "VirtualService", `{"metadata":{"labels":{"app.kubernetes.io/managed-by":null}}}`)
		},
		[]finding{{wrong, "VirtualService route-02 of route"}},
	},
	"a label too many": {
		func(ctx context.Context, r *run) error {
			return r.patchAll(ctx, "ServiceEntry", `{"metadata":{"labels":{"more":"one"}}}`)
		},
		[]finding{{wrong, "ServiceEntry route-02"}},
	},
	"an annotation too many": {
		func(ctx context.Context, r *run) error {
			return r.patchAll(ctx, "VirtualService", `{"metadata":{"annotations":{"more":"one"}}}`)
		},
		[]finding{{wrong, "VirtualService route-02 of route"}},
	},
	"an owner is gone": { // the label still tells whose it is
		func(ctx context.Context, r *run) error {
			return r.patchAll(ctx, "VirtualService", `{"metadata":{"ownerReferences":null}}`)
		},
		[]finding{{wrong, "VirtualService route-02 of route"}},
	},
	"a finalizer keeps an object": {
		func(ctx context.Context, r *run) error {
			return r.patchAll(ctx, "VirtualService", `{"metadata":{"finalizers":["example.org/keep"]}}`)
		},
		[]finding{{wrong, "VirtualService route-02 of route"}},
	},
	"an orphan, by its label": {
		func(ctx context.Context, r *run) error {
			orphan := &networkingv1.DestinationRule{Spec: istio.DestinationRule{Host: "orphan.example.com"}}
			orphan.Namespace, orphan.Name = r.namespace, "orphan"
			orphan.Labels = map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}
			return r.Create(ctx, orphan)
		},
		[]finding{{leftOver, "DestinationRule orphan"}},
	},
	"an object of a route that no longer wants it": {
		func(ctx context.Context, r *run) error {
			var route v1alpha1.ExternalRoute
			if err := r.Get(ctx, client.ObjectKey{Namespace: r.namespace, Name: patient}, &route); err != nil {
				return err
			}
			old := &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
			old.Namespace, old.Name = r.namespace, "old"
			old.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(&route, v1alpha1.SchemeGroupVersion.WithKind("ExternalRoute"))}
			return r.Create(ctx, old)
		},
		[]finding{{leftOver, "Service old"}},
	},
	"a route is gone": {
		func(ctx context.Context, r *run) error {
			route := &v1alpha1.ExternalRoute{ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: "route-01"}}
			if err := r.Delete(ctx, route); err != nil {
				return err
			}
			return r.await(ctx, "its objects to be collected", func(ctx context.Context) (bool, error) {
				objects, err := r.list(ctx, client.InNamespace(r.namespace))
				return !slices.ContainsFunc(objects, func(o client.Object) bool {
					owner := metav1.GetControllerOfNoCopy(o)
					return owner != nil && owner.Name == route.Name
				}), err
			})
		},
		[]finding{{lost, "ExternalRoute"}},
	},
	"a route that nobody made": {
		func(_ context.Context, r *run) error {
			delete(r.routes, "route-01")
			return nil
		},
		[]finding{{leftOver, "ExternalRoute"}},
	},
	"another client's object is changed": {
		func(ctx context.Context, r *run) error {
			return r.patchForeign(ctx, `{"spec":{"hosts":["other.example.org"]}}`)
		},
		[]finding{{foreignTouched, "VirtualService"}},
	},
	"another client's object is changed and changed back": {
		func(ctx context.Context, r *run) error {
			if err := r.patchForeign(ctx, `{"metadata":{"labels":{"passing":"by"}}}`); err != nil {
				return err
			}
			return r.patchForeign(ctx, `{"metadata":{"labels":{"passing":null}}}`)
		},
		[]finding{{foreignTouched, "VirtualService"}},
	},
	"another client's object is deleted": {
		func(ctx context.Context, r *run) error {
			return r.Delete(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: "route-90"}})
		},
		[]finding{{foreignTouched, "Service"}},
	},
	"another client's object is taken for ours": {
		func(ctx context.Context, r *run) error {
			return r.patchForeign(ctx, `{"metadata":{"labels":{"app.kubernetes.io/managed-by":"externalroute"}}}`)
		},
		[]finding{{foreignTouched, "VirtualService"}, {leftOver, "VirtualService route-90"}},
	},
	"a status tells of an earlier spec": {
		func(ctx context.Context, r *run) error {
			return r.patchStatus(ctx, `{"status":{"observedGeneration":0}}`)
		},
		[]finding{{untrue, "ExternalRoute"}},
	},
	"a status lists an object too few": {
		func(ctx context.Context, r *run) error { return r.patchStatus(ctx, `{"status":{"resources":[]}}`) },
		[]finding{{untrue, "ExternalRoute"}},
	},
	"a status names another host": {
		func(ctx context.Context, r *run) error { return r.patchStatus(ctx, `{"status":{"hosts":["else"]}}`) },
		[]finding{{untrue, "ExternalRoute"}},
	},
	"a status without conditions": {
		func(ctx context.Context, r *run) error { return r.patchStatus(ctx, `{"status":{"conditions":[]}}`) },
		[]finding{{untrue, "ExternalRoute"}, {untrue, "ExternalRoute"}, {untrue, "ExternalRoute"}},
	},
	"a VirtualService leads nowhere": {
		func(ctx context.Context, r *run) error {
			b, err := r.books(ctx, r.namespace)
			if err != nil {
				return err
			}
			for _, object := range b.objects {
				if kindOf(object) == "DestinationRule" && owner(object) == patient {
					return r.Delete(ctx, object)
				}
			}
			return nil
		},
		[]finding{{dangling, "VirtualService route-02 leads to subset"}, {lost, "DestinationRule route-02"}},
	},
	"the operator leads traffic to what has not settled": {
		func(ctx context.Context, r *run) error { return r.moveAtOnceAsOperator(ctx) },
		[]finding{{hasty, "virtualservices/route-02 leads to subset early of "}, {wrong, "DestinationRule route-02"}, {wrong, "VirtualService route-02 of route"}},
	},
	"the operator writes again and again": {
		func(ctx context.Context, r *run) error { return r.writeSlowlyAsOperator(ctx) },
		[]finding{{hot, ""}},
	},
	"the operator wrote too much before": {
		func(ctx context.Context, r *run) error { return r.writeMuchAsOperator(ctx) },
		[]finding{{hot, "2"}, {hot, "planted-"}},
	},
}

func TestTheAuditorFindsWhatIsPlanted(t *testing.T) {
	ctrl.SetLogger(logr.Discard())
	c, err := startCluster(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.stop(); err != nil {
			t.Error(err)
		}
	})
	b := &bench{cluster: c, seed: 1, patience: 5 * time.Minute}
	if b.manager, err = c.startManager(c.wire.config); err != nil {
		t.Fatal(err)
	}
	runs := map[string]*run{}
	var preparing errgroup.Group
	for name := range plantedFaults {
		r := &run{bench: b, chance: b.randomOf(name)}
		r.user = &user{Client: c.Client, namespace: fmt.Sprintf("planted-%d", len(runs)), random: b.randomOf(name), routes: map[string]bool{}, most: 3}
		preparing.Go(func() error { return r.prepare(t.Context()) })
		runs[name] = r
	}
	if err := preparing.Wait(); err != nil {
		t.Fatal(err)
	}
	b.manager.kill() // it would repair what is planted
	for name, p := range plantedFaults {
		t.Run(name, func(t *testing.T) {
			r := runs[name]
			if p.plant != nil {
				if err := p.plant(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
			defer r.writes.close()
			found := r.lookAround(t)
			if len(found) != len(p.found) {
				t.Fatalf("found %v, not %v", found, p.found)
			}
			for i, want := range p.found {
				if found[i].kind != want.kind || !strings.HasPrefix(found[i].what, want.what) {
					t.Errorf("found %v, not %v", found[i], want)
				}
			}
		})
	}
}

// lookAround is what every part of the auditor finds, by kind.
func (r *run) lookAround(t *testing.T) []finding {
	t.Helper()
	found, err := r.audit(t.Context(), r.namespace, r.routes)
	if err != nil {
		t.Fatal(err)
	}
	b, err := r.books(t.Context(), r.namespace)
	if err != nil {
		t.Fatal(err)
	}
	found = append(found, b.auditWay()...)
	after, err := r.foreign(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.before.touched(after) {
		if strings.Contains(f.what, " "+r.namespace+"/") { // the others are planted, too
			found = append(found, f)
		}
	}
	if err := r.auditMoves(); err != nil {
		t.Fatal(err)
	}
	found = append(found, r.findings...)
	r.findings = nil
	if len(found) == 0 { // it takes a while
		if err := r.watchRest(t.Context()); err != nil { // there is no operator that could come to rest
			t.Fatal(err)
		}
	}
	found = append(found, r.findings...)
	return inOrder(found)
}

func owner(object client.Object) string {
	if controller := metav1.GetControllerOfNoCopy(object); controller != nil {
		return controller.Name
	}
	return ""
}

func virtualServiceOf(r *run) client.Object {
	return &networkingv1.VirtualService{ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: patient}}
}

// patchAll patches the first object of a kind that the route has.
func (r *run) patchAll(ctx context.Context, kind, patch string) error {
	objects, err := r.list(ctx, client.InNamespace(r.namespace))
	if err != nil {
		return err
	}
	for _, object := range objects {
		if kindOf(object) == kind && owner(object) == patient {
			return r.Patch(ctx, object, client.RawPatch(types.MergePatchType, []byte(patch)))
		}
	}
	return fmt.Errorf("%s has no %s", patient, kind)
}

func (r *run) patchForeign(ctx context.Context, patch string) error {
	object := &networkingv1.VirtualService{ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: "route-90"}}
	return r.Patch(ctx, object, client.RawPatch(types.MergePatchType, []byte(patch)))
}

func (r *run) patchStatus(ctx context.Context, patch string) error {
	route := &v1alpha1.ExternalRoute{ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: patient}}
	return r.Status().Patch(ctx, route, client.RawPatch(types.MergePatchType, []byte(patch)))
}

// writeSlowlyAsOperator writes with the operator's account until the test ends, less often than is too often.
func (r *run) writeSlowlyAsOperator(ctx context.Context) error {
	write, err := r.operatorsWrite()
	if err != nil {
		return err
	}
	go func() {
		for write(ctx) == nil && sleep(ctx, 300*time.Millisecond) == nil { // the end of the test ends it
		}
	}()
	return nil
}

// writeMuchAsOperator writes with the operator's account as fast as the machine can.
func (r *run) writeMuchAsOperator(ctx context.Context) error {
	write, err := r.operatorsWrite()
	if err != nil {
		return err
	}
	const writers, times = 20, 10
	var all errgroup.Group
	for range writers {
		all.Go(func() error {
			for range times {
				if err := write(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return all.Wait()
}

// moveAtOnceAsOperator adds a subset and leads traffic there, with the operator's account.
func (r *run) moveAtOnceAsOperator(ctx context.Context) error {
	operator, err := r.operatorsClient()
	if err != nil {
		return err
	}
	objects, err := r.list(ctx, client.InNamespace(r.namespace))
	if err != nil {
		return err
	}
	service := objects[slices.IndexFunc(objects, func(o client.Object) bool { return kindOf(o) == "VirtualService" && owner(o) == patient })].(*networkingv1.VirtualService)
	host := service.Spec.Http[0].Route[0].Destination.Host
	for _, object := range objects {
		rule, is := object.(*networkingv1.DestinationRule)
		if !is || owner(rule) != patient || rule.Spec.Host != host {
			continue
		}
		subset := client.RawPatch(types.JSONPatchType, []byte(`[{"op": "add", "path": "/spec/subsets/-", "value": {"name": "early"}}]`))
		if err := operator.Patch(ctx, rule, subset); err != nil {
			return err
		}
		return operator.Patch(ctx, service, client.RawPatch(types.JSONPatchType,
			[]byte(`[{"op": "replace", "path": "/spec/http/0/route/0/destination/subset", "value": "early"}]`)))
	}
	return fmt.Errorf("%s has no DestinationRule for %s", patient, host)
}

func (r *run) operatorsClient() (client.Client, error) {
	config := rest.CopyConfig(r.operator)
	config.QPS = -1
	return client.New(config, client.Options{Scheme: newScheme()})
}

// operatorsWrite prepares a write with the operator's account.
func (r *run) operatorsWrite() (write func(context.Context) error, err error) {
	operator, err := r.operatorsClient()
	return func(ctx context.Context) error {
		return operator.Patch(ctx, virtualServiceOf(r), client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{}}}`)))
	}, err
}
