package abuse_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// patience is how long a busy machine may take.
const patience = 2 * time.Minute

// rejected is the reason of what the API server does not even store.
const rejected = "rejected"

func parse(manifest string) (*unstructured.Unstructured, error) {
	object := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(manifest), &object.Object); err != nil {
		return nil, fmt.Errorf("%w in %s", err, manifest)
	}
	return object, nil
}

// attack is a route that the tenant writes in its namespace.
type attack struct {
	name string // of the route; defaults to attack
	spec string
	// metadata is more of it than the name.
	metadata string
	// reason is that of Ready, or rejected; says is part of the message.
	reason, says string
}

func (a attack) route(t *testing.T) *unstructured.Unstructured {
	t.Helper()
	route, err := parse("apiVersion: " + v1alpha1.SchemeGroupVersion.String() + "\nkind: ExternalRoute\nmetadata: {" + a.metadata + "}\nspec: {" + a.spec + "}")
	if err != nil {
		t.Fatal(err)
	}
	route.SetNamespace(home)
	route.SetName(cmp.Or(a.name, "attack"))
	return route
}

// to is a spec that leads an alias to a URL.
func to(url string) string { return fmt.Sprintf("hosts: [web], destinations: [{url: %q}]", url) }

// dials is a spec whose destination connects to an address.
func dials(address string) string {
	return fmt.Sprintf("hosts: [web], destinations: [{url: 'https://api.example.com', endpoints: [{address: %q}]}]", address)
}

// What a manifest of the tenant becomes, and that nothing of others changes.
func TestManifests(t *testing.T) {
	becomes(t, victim, "web", v1alpha1.ReasonProgrammed)
	attacks := map[string]attack{
		"a Service of another namespace as an alias": {
			spec:   "hosts: [shop.victim.svc.cluster.local], destinations: [{url: 'https://evil.example'}]",
			reason: v1alpha1.ReasonInvalid, says: "is a name of namespace victim",
		},
		"a Service of another namespace by its short name": {
			spec: "hosts: [shop.victim], destinations: [{url: 'https://evil.example'}]", reason: rejected, says: "each host must be a short name",
		},
		"a Service of another namespace as a destination":  {spec: to("http://shop.victim"), reason: v1alpha1.ReasonInvalid, says: "is Service shop of namespace victim"},
		"a pod of another namespace as a destination":      {spec: to("http://db-0.db.victim:5432"), reason: v1alpha1.ReasonInvalid, says: "is Service db of namespace victim"},
		"a Service of another namespace as an endpoint":    {spec: dials("shop.victim"), reason: v1alpha1.ReasonInvalid, says: "is Service shop of namespace victim"},
		"a Service of another namespace passed through":    {spec: "hosts: [shop.victim]", reason: v1alpha1.ReasonInvalid, says: "is Service shop of namespace victim"},
		"all Services of another namespace passed through": {spec: "hosts: ['*.victim.svc']", reason: rejected, says: "the name of a cluster service"},
		"all Services passed through":                      {spec: "hosts: ['*.svc.cluster.local']", reason: rejected, says: "the name of a cluster service"},
		"all hosts passed through":                         {spec: "hosts: ['*']", reason: rejected, says: "a wildcard must be"},
		"a top-level domain passed through":                {spec: "hosts: ['*.com']", reason: rejected, says: "a wildcard must be"},
		"the API server as a destination":                  {spec: to("https://kubernetes.default"), reason: rejected, says: "must be outside the cluster"},
		"istiod as a destination":                          {spec: to("https://istiod.istio-system.svc:15012"), reason: rejected, says: "must be outside the cluster"},
		"an upstream of another route as a destination":    {spec: to("https://abc.victim.externalroute.internal"), reason: rejected, says: "must be outside the cluster"},
		"the metadata service by the DNS name of a pod":    {spec: to("http://169-254-169-254.victim.pod"), reason: v1alpha1.ReasonInvalid, says: "the address of a pod"},
		"loopback by the DNS name of a pod":                {spec: dials("127-0-0-1.victim.pod"), reason: v1alpha1.ReasonInvalid, says: "the address of a pod"},
		"the metadata service by its name":                 {spec: to("http://metadata.google.internal"), reason: rejected, says: "metadata service"},
		"the metadata service by a wildcard":               {spec: "hosts: ['*.google.internal']", reason: rejected, says: "metadata service"},
		"a port of the sidecar in a URL":                   {spec: to("http://evil.example:15090"), reason: rejected, says: "Istio's own"},
		"a port of the sidecar":                            {spec: "port: 15006, " + to("https://evil.example"), reason: rejected, says: "Istio's own"},
		"the administration interface of Envoy, by a name that resolves to loopback": {
			spec:   "hosts: [web], destinations: [{url: 'http://evil.example', endpoints: [{address: loopback.evil.example, port: 15000}]}]",
			reason: rejected, says: "Istio's own",
		},
		"a CA of another namespace":                           {spec: "hosts: [web], destinations: [{url: 'https://evil.example', tls: {caCertificateRefs: [{name: victim/ca}]}}]", reason: rejected, says: "must be the name of an object"},
		"a client certificate of another namespace":           {spec: "hosts: [web], workloadSelector: {matchLabels: {app: a}}, destinations: [{url: 'https://evil.example', tls: {clientCertificateRef: {name: 'kubernetes-gateway://victim/key'}}}]", reason: rejected, says: "must be the name of an object"},
		"no check of the server's certificate":                {spec: "hosts: [web], destinations: [{url: 'https://evil.example', tls: {insecureSkipVerify: true}}]", reason: v1alpha1.ReasonNotAllowedByPolicy, says: "insecureSkipVerify"},
		"an ingress gateway":                                  {spec: "hosts: [api.storefront.example], egressGateway: {name: ingress, namespace: gateways}", reason: v1alpha1.ReasonGatewayNotUsable, says: "LoadBalancer"},
		"a host of another team's Gateway":                    {spec: "hosts: [api.storefront.example], egressGateway: {name: edge, namespace: gateways}", reason: v1alpha1.ReasonDestinationConflict, says: "Gateway victim/storefront terminates TLS"},
		"the name of an object of others":                     {name: "taken", spec: to("https://evil.example"), reason: v1alpha1.ReasonNameConflict, says: "does not belong to this route"},
		"... with the annotation that hands an object over":   {name: "taken", metadata: "annotations: {networking.externalroute.io/adopt: taken}", spec: to("https://evil.example"), reason: v1alpha1.ReasonNameConflict, says: "does not belong to this route"},
		"... with the labels of a generated object":           {name: "taken", metadata: "labels: {app.kubernetes.io/managed-by: externalroute}", spec: to("https://evil.example"), reason: v1alpha1.ReasonNameConflict, says: "does not belong to this route"},
		"a host that a VirtualService of others serves":       {spec: "hosts: [taken], destinations: [{url: 'https://evil.example'}]", reason: v1alpha1.ReasonHostConflict, says: "is served by VirtualService tenant/taken"},
		"a Service of others that cannot carry a route":       {spec: "hosts: [pods], destinations: [{url: 'https://evil.example'}]", reason: v1alpha1.ReasonServiceNotUsable, says: "ExternalName"},
		"a header that Envoy would take for a command":        {spec: to("https://evil.example") + ", rules: [{headers: {request: {set: {x-a: '%FOO(%BAR%)%'}}}}]", reason: v1alpha1.ReasonProgrammed},
		"a regular expression that Envoy refuses":             {spec: to("https://evil.example") + ", rules: [{match: [{uri: {regex: '/((a{1,30}){1,30}){1,30}'}}]}]", reason: rejected, says: "regular expression"},
		"the name of another team's route":                    {name: "web", spec: to("https://evil.example"), reason: v1alpha1.ReasonProgrammed},
		"the host that another team has in place, in place":   {spec: "hosts: [api.example.com], destinations: [{url: 'https://api.example.com'}]", reason: v1alpha1.ReasonProgrammed},
		"the host of another team's ServiceEntry, in place":   {spec: "hosts: [api.stripe.com], destinations: [{url: 'https://api.stripe.com', tls: {scope: Host}}]", reason: v1alpha1.ReasonProgrammed},
		"the host that another team has in place, as a name":  {spec: "hosts: [api.example.com], port: 80", reason: v1alpha1.ReasonProgrammed},
		"another team's host at another address":              {spec: "hosts: [web], destinations: [{url: 'https://api.example.com', endpoints: [{address: 203.0.113.9}]}]", reason: v1alpha1.ReasonProgrammed},
		"a port that many others use":                         {spec: "hosts: [mysql], destinations: [{url: 'tcp://evil.example:3306'}]", reason: v1alpha1.ReasonProgrammed},
		"a name so long that it is cut, with objects of both": {name: strings.Repeat("long", 20), spec: to("https://evil.example"), reason: v1alpha1.ReasonProgrammed},
	}
	for _, address := range []string{
		"10.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "127.0.0.1", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "[fd00:ec2::254]", "localhost",
	} {
		attacks["the URL's host is "+address] = attack{spec: to("http://" + address), reason: rejected, says: "the host must be"}
	}
	for _, address := range []string{
		"127.0.0.1", "127.255.255.254", "0.0.0.0", "0.0.0.1", "169.254.169.254", "100.100.100.200", "168.63.129.16", "224.0.0.1", "255.255.255.255",
		"::", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "fe80::1", "fe80::1%eth0", "ff02::1", "fd00:ec2::254",
		"127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "a.localhost", "kubernetes.default", "shop.victim.svc", "metadata.google.internal",
	} {
		attacks["an endpoint is "+address] = attack{spec: dials(address), reason: rejected, says: "must"}
	}
	runAll(t, attacks)
}

// A policy that says nothing about exports keeps the routes of the tenant in its namespace. Without a policy they may go anywhere.
func TestExports(t *testing.T) {
	policy, err := parse("apiVersion: " + v1alpha1.SchemeGroupVersion.String() + "\nkind: ExternalRoutePolicy\nmetadata: {name: tenant}\n" +
		"spec: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: " + home + "}}, allow: [{hosts: [evil.example, '*.example.com'], ports: [443, 3306], " +
		"schemes: [https, passthrough]}]}")
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.Create(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := admin.Delete(context.WithoutCancel(t.Context()), policy); err != nil {
			t.Error(err)
		}
	})
	until(t, "the operator knows the policy", func() string {
		known := &v1alpha1.ExternalRoutePolicy{}
		if err := admin.Get(t.Context(), client.ObjectKeyFromObject(policy), known); err != nil {
			return err.Error()
		}
		if !meta.IsStatusConditionTrue(known.Status.Conditions, v1alpha1.ConditionReady) {
			return fmt.Sprint(known.Status.Conditions)
		}
		return ""
	})
	runAll(t, map[string]attack{
		"to all namespaces":                           {spec: "exportTo: ['*'], " + to("https://evil.example:3306"), reason: v1alpha1.ReasonNotAllowedByPolicy, says: "spec.exportTo: * is not allowed"},
		"to another namespace":                        {spec: "exportTo: ['.', victim], " + to("https://evil.example"), reason: v1alpha1.ReasonNotAllowedByPolicy, says: "spec.exportTo: ., victim is not allowed"},
		"a host of others, passed through everywhere": {spec: "hosts: ['*.example.com'], exportTo: ['*']", reason: v1alpha1.ReasonNotAllowedByPolicy, says: "spec.exportTo: * is not allowed"},
		"to the own namespace":                        {spec: to("https://evil.example"), reason: v1alpha1.ReasonProgrammed},
	})
}

// runAll holds attacks to leave all objects of others as they are.
func runAll(t *testing.T, attacks map[string]attack) {
	t.Helper()
	before := ofOthers(t)
	for name, a := range attacks {
		t.Run(name, func(t *testing.T) {
			a.run(t)
			if diff := gocmp.Diff(before, ofOthers(t)); diff != "" {
				t.Errorf("objects of others (-before +after):\n%s", diff)
			}
		})
	}
}

// run lets the tenant create the route, and returns when it is gone again with its objects.
func (a attack) run(t *testing.T) {
	t.Helper()
	route := a.route(t)
	err := tenant.Create(t.Context(), route)
	if a.reason == rejected {
		if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), a.says) {
			t.Errorf("the API server says %v, want %q", err, a.says)
		}
	} else if err != nil {
		t.Fatal(err)
	}
	if err != nil {
		return
	}
	t.Cleanup(func() { _ = tenant.Delete(context.WithoutCancel(t.Context()), route) }) // if the attack goes wrong, the next one is on its own
	if said := becomes(t, home, route.GetName(), a.reason); !strings.Contains(said, a.says) {
		t.Errorf("the status says %q, want %q", said, a.says)
	}
	if a.reason == v1alpha1.ReasonProgrammed {
		stayAtHome(t)
	} else if left := generated(t); len(left) > 0 {
		t.Errorf("a route that is refused has %v", left)
	}
	if err := tenant.Delete(t.Context(), route); err != nil {
		t.Fatal(err)
	}
	until(t, "the objects of the route are gone", func() string { return strings.Join(generated(t), " ") })
}

// becomes waits until Ready has a reason, and returns its message.
func becomes(t *testing.T, namespace, name, reason string) (message string) {
	t.Helper()
	until(t, fmt.Sprintf("%s/%s becomes %s", namespace, name, reason), func() string {
		route := &v1alpha1.ExternalRoute{}
		if err := admin.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, route); err != nil {
			return err.Error()
		}
		ready := meta.FindStatusCondition(route.Status.Conditions, v1alpha1.ConditionReady)
		if ready == nil || ready.ObservedGeneration != route.Generation || ready.Reason != reason {
			return fmt.Sprintf("generation %d: %+v", route.Generation, route.Status.Conditions)
		}
		message = ready.Message
		return ""
	})
	return message
}

func until(t *testing.T, what string, check func() string) {
	t.Helper()
	var complaint string
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, patience, true, func(context.Context) (bool, error) {
		complaint = check()
		return complaint == "", nil
	})
	if err != nil {
		t.Fatalf("%s: %s", what, complaint)
	}
}

// kinds are those that the operator may write, and those that a route names.
var kinds = []schema.GroupVersionKind{
	{Version: "v1", Kind: "Service"},
	{Version: "v1", Kind: "Secret"},
	{Version: "v1", Kind: "ConfigMap"},
	{Version: "v1", Kind: "Namespace"},
	{Group: "networking.istio.io", Version: "v1", Kind: "ServiceEntry"},
	{Group: "networking.istio.io", Version: "v1", Kind: "VirtualService"},
	{Group: "networking.istio.io", Version: "v1", Kind: "DestinationRule"},
	{Group: "networking.istio.io", Version: "v1", Kind: "Gateway"},
	v1alpha1.SchemeGroupVersion.WithKind("ExternalRoute"),
}

func objects(t *testing.T) (all []unstructured.Unstructured) {
	t.Helper()
	for _, kind := range kinds {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind)
		if err := admin.List(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		all = append(all, list.Items...)
	}
	return all
}

func isOwned(o *unstructured.Unstructured) bool {
	owner := metav1.GetControllerOf(o)
	return o.GetNamespace() == home && owner != nil && owner.Kind == "ExternalRoute"
}

func title(o *unstructured.Unstructured) string {
	return o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
}

// ofOthers are all objects but those of the tenant, each with its version: one write shows.
func ofOthers(t *testing.T) map[string]string {
	t.Helper()
	versions := map[string]string{}
	for _, o := range objects(t) {
		if !isOwned(&o) && (o.GetKind() != "ExternalRoute" || o.GetNamespace() != home) {
			versions[title(&o)] = string(o.GetUID()) + " " + o.GetResourceVersion()
		}
	}
	return versions
}

// generated are the objects of the tenant's routes.
func generated(t *testing.T) (titles []string) {
	t.Helper()
	for _, o := range objects(t) {
		if isOwned(&o) {
			titles = append(titles, title(&o))
		}
	}
	return titles
}

// stayAtHome holds the generated objects to what keeps them out of other namespaces: only their own sees them, and none has a name of the cluster.
func stayAtHome(t *testing.T) {
	t.Helper()
	for _, o := range objects(t) {
		if !isOwned(&o) {
			continue
		}
		exportTo, _, _ := unstructured.NestedStringSlice(o.Object, "spec", "exportTo")
		if o.GetKind() == "Service" {
			exportTo = []string{o.GetAnnotations()["networking.istio.io/exportTo"]}
		}
		if !slices.Equal(exportTo, []string{"."}) {
			t.Errorf("%s is exported to %q", title(&o), exportTo)
		}
		hosts, _, _ := unstructured.NestedStringSlice(o.Object, "spec", "hosts")
		host, _, _ := unstructured.NestedString(o.Object, "spec", "host")
		for _, h := range append(hosts, host) {
			if strings.HasSuffix(h, ".cluster.local") && !strings.HasSuffix(h, "."+home+".svc.cluster.local") {
				t.Errorf("%s has the host %s", title(&o), h)
			}
		}
	}
}
