package main

import (
	"flag"
	"slices"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/test/controlplane"
)

func leaseOf(t *testing.T, args ...string) string {
	t.Helper()
	f, err := readFlags(flag.NewFlagSet("manager", flag.ContinueOnError), args)
	if err != nil {
		t.Fatal(err)
	}
	return f.lease()
}

// Replicas that serve the same routes share one lease, and no others do.
func TestLeaseNameFollowsFromTheRoutesServed(t *testing.T) {
	groups := map[string][][]string{
		"all routes":               {nil, {"--watch-namespaces="}, {"--watch-label-selector="}},
		"one namespace":            {{"--watch-namespaces=a"}, {"--watch-namespaces=a,a"}},
		"two namespaces":           {{"--watch-namespaces=a,b"}, {"--watch-namespaces=b,a"}},
		"a namespace named so":     {{"--watch-namespaces=a-b"}},
		"one shard":                {{"--watch-label-selector=shard=a"}},
		"another shard":            {{"--watch-label-selector=shard=b"}},
		"a shard of two labels":    {{"--watch-label-selector=shard=a,tier!=x,tier!=y"}, {"--watch-label-selector=tier!=y,shard=a,tier!=x"}},
		"a shard of a namespace":   {{"--watch-label-selector=shard=a", "--watch-namespaces=a"}, {"--watch-namespaces=a", "--watch-label-selector=shard=a"}},
		"a label like a namespace": {{"--watch-label-selector=a"}},
	}
	owner := map[string]string{}
	for group, commandLines := range groups {
		want := leaseOf(t, commandLines[0]...)
		for _, args := range commandLines {
			got := leaseOf(t, args...)
			if got != want {
				t.Errorf("%s: %q has the lease %s, and %q has %s", group, commandLines[0], want, args, got)
			}
			if problems := validation.IsDNS1123Subdomain(got); len(problems) > 0 {
				t.Errorf("%q: %s is not a name for a lease: %v", args, got, problems)
			}
		}
		if other, taken := owner[want]; taken {
			t.Errorf("%s and %s share the lease %s", group, other, want)
		}
		owner[want] = group
	}
	if owner[leaseName] != "all routes" {
		t.Errorf("%q has the lease %s, which an installation without either flag has always had", owner[leaseName], leaseName)
	}
}

// Two installations whose leases are in one namespace both lead, if they serve different routes: one per set of namespaces, and one per shard.
func TestInstallationsThatShareTheRoutesBothLead(t *testing.T) {
	plane, err := controlplane.Start(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := plane.Stop(); err != nil {
			t.Error(err)
		}
	})
	cluster, err := client.New(plane.Config, client.Options{Scheme: newScheme()})
	if err != nil {
		t.Fatal(err)
	}
	program := build(t)
	for name, installations := range map[string][]string{
		"namespaces": {"--watch-namespaces=one,three", "--watch-namespaces=two"},
		"shards":     {"--watch-label-selector=shard=one", "--watch-label-selector=shard=two"},
	} {
		t.Run(name, func(t *testing.T) {
			namespace := "leases-of-" + name
			createNamespaces(t, cluster, namespace)
			var want []string
			for _, watched := range installations {
				m := start(t, program, "--kubeconfig="+plane.KubeconfigFile, "--leader-elect", "--leader-election-namespace="+namespace, watched)
				eventually(t, watched+" leads", func() bool { return m.logged("Starting workers") })
				want = append(want, leaseOf(t, watched))
			}
			if got := leasesHeld(t, cluster, namespace); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
				t.Errorf("the leases %q are held, want %q", got, want)
			}
			if name == "namespaces" {
				createNamespaces(t, cluster, "one", "two")
				for _, watched := range []string{"one", "two"} {
					eventually(t, "the route in namespace "+watched+" is ready", routeIsReady(t, cluster, watched))
				}
			}
		})
	}
}

func createNamespaces(t *testing.T, cluster client.Client, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := cluster.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
}

func leasesHeld(t *testing.T, cluster client.Client, namespace string) []string {
	t.Helper()
	var leases coordinationv1.LeaseList
	if err := cluster.List(t.Context(), &leases, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, lease := range leases.Items {
		if lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity != "" {
			names = append(names, lease.Name)
		}
	}
	slices.Sort(names)
	return names
}

// routeIsReady creates a route and returns the question whether it is ready.
func routeIsReady(t *testing.T, cluster client.Client, namespace string) func() bool {
	t.Helper()
	route := &v1alpha1.ExternalRoute{Spec: v1alpha1.ExternalRouteSpec{
		Hosts: []v1alpha1.RouteHost{"web"}, Destinations: []v1alpha1.Destination{{URL: "https://web.example.com"}},
	}}
	route.Namespace, route.Name = namespace, "web"
	if err := cluster.Create(t.Context(), route); err != nil {
		t.Fatal(err)
	}
	return func() bool {
		if err := cluster.Get(t.Context(), client.ObjectKeyFromObject(route), route); err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(route.Status.Conditions, func(c metav1.Condition) bool {
			return c.Type == v1alpha1.ConditionReady && c.Status == metav1.ConditionTrue
		})
	}
}
