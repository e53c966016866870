package abuse_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// The editor role gives a tenant no way around the operator.
func TestRights(t *testing.T) {
	at := func(namespace, name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: namespace, Name: name}
	}
	adopt := client.RawPatch(types.MergePatchType, []byte(`{"metadata": {"annotations": {"networking.externalroute.io/adopt": "attack"}}}`))
	accepted := client.RawPatch(types.MergePatchType, []byte(`{"status": {"observedGeneration": 9}}`))
	web := attack{spec: to("https://evil.example")}.route(t)
	elsewhere := web.DeepCopy()
	elsewhere.SetNamespace(victim)
	for sentence, act := range map[string]func(context.Context) error{
		"a route in another namespace": func(ctx context.Context) error { return tenant.Create(ctx, elsewhere) },
		"another team's route": func(ctx context.Context) error {
			return tenant.Delete(ctx, &v1alpha1.ExternalRoute{ObjectMeta: at(victim, "web")})
		},
		"the status of a route": func(ctx context.Context) error { return tenant.Status().Patch(ctx, web.DeepCopy(), accepted) },
		"a policy": func(ctx context.Context) error {
			return tenant.Create(ctx, &v1alpha1.ExternalRoutePolicy{ObjectMeta: at("", "mine")})
		},
		"an object of Istio": func(ctx context.Context) error {
			return tenant.Create(ctx, &networkingv1.ServiceEntry{ObjectMeta: at(home, "mine")})
		},
		"the adoption of an object": func(ctx context.Context) error {
			return tenant.Patch(ctx, &networkingv1.VirtualService{ObjectMeta: at(home, "taken")}, adopt)
		},
		"a Service": func(ctx context.Context) error {
			return tenant.Create(ctx, &corev1.Service{ObjectMeta: at(home, "mine")})
		},
		"a Secret of the own namespace, read": func(ctx context.Context) error {
			return tenant.Get(ctx, types.NamespacedName{Namespace: home, Name: "key"}, &corev1.Secret{})
		},
		"the label of a namespace for policies": func(ctx context.Context) error {
			return tenant.Patch(ctx, &corev1.Namespace{ObjectMeta: at("", home)}, adopt)
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			if err := act(t.Context()); !apierrors.IsForbidden(err) {
				t.Errorf("got %v, want that it is forbidden", err)
			}
		})
	}
}

// An object of others that has the name of one that the operator would generate stays what it is.
func TestNamesOfGeneratedObjects(t *testing.T) {
	route := attack{spec: to("https://evil.example")}
	first := route.route(t)
	if err := tenant.Create(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	becomes(t, home, first.GetName(), v1alpha1.ReasonProgrammed)
	entries := &networkingv1.ServiceEntryList{}
	if err := admin.List(t.Context(), entries, client.InNamespace(home)); err != nil || len(entries.Items) != 1 {
		t.Fatalf("%d ServiceEntries, %v", len(entries.Items), err)
	}
	if err := tenant.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	until(t, "the objects of the route are gone", func() string { return strings.Join(generated(t), " ") })

	theirs := entries.Items[0]
	theirs.ObjectMeta = metav1.ObjectMeta{Namespace: home, Name: theirs.Name}
	theirs.Spec.Hosts = []string{"theirs.example.org"}
	if err := admin.Create(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Delete(context.Background(), theirs) })
	before := ofOthers(t)
	attack{spec: route.spec, reason: v1alpha1.ReasonNameConflict, says: "ServiceEntry " + theirs.Name + " of namespace tenant exists"}.run(t)
	if after := ofOthers(t); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("objects of others: before %v, after %v", before, after)
	}
}

// A tenant that edits a route as fast as it can, and has many that compete for one host, keeps nobody else waiting: the operator reconciles the route of another
// team while that goes on.
func TestATenantDoesNotBlockOthers(t *testing.T) {
	const rivals = 60
	for i := range rivals {
		a := attack{name: fmt.Sprintf("rival-%d", i), spec: to("https://evil.example")}
		if err := tenant.Create(t.Context(), a.route(t)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	edits, done := atomic.Int64{}, make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			n := edits.Add(1)
			patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec": {"timeout": "%dms"}}`, n))
			if err := tenant.Patch(ctx, attack{name: "rival-0"}.route(t), patch); err != nil && ctx.Err() == nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	until(t, "the tenant edits", func() string {
		if edits.Load() < 10 {
			return "not yet"
		}
		return ""
	})
	begun := edits.Load()
	theirs := attack{name: "late", spec: "hosts: [late], destinations: [{url: 'https://late.example.com'}]"}.route(t)
	theirs.SetNamespace(victim)
	if err := admin.Create(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	becomes(t, victim, "late", v1alpha1.ReasonProgrammed)
	during := edits.Load() - begun
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if during == 0 {
		t.Error("the tenant did not edit meanwhile")
	}
	becomes(t, home, "rival-0", v1alpha1.ReasonProgrammed)
	for i := 1; i < rivals; i++ {
		becomes(t, home, fmt.Sprintf("rival-%d", i), v1alpha1.ReasonHostConflict)
	}
	t.Cleanup(func() { _ = admin.Delete(context.Background(), theirs) })
	if err := tenant.DeleteAllOf(t.Context(), &v1alpha1.ExternalRoute{}, client.InNamespace(home)); err != nil {
		t.Fatal(err)
	}
	until(t, "the objects of the routes are gone", func() string { return strings.Join(generated(t), " ") })
}
