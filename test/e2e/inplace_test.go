//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/test/e2e/bench"
)

// inPlaceKinds are the objects of a route for a host in place, in the order of their names.
var inPlaceKinds = []string{"DestinationRule", "ServiceEntry", "VirtualService"}

// A host in place never gets plaintext, whichever of the route's objects are missing, and in whichever order they go, in a REGISTRY_ONLY mesh.
func TestInPlaceNeverSendsPlaintext(t *testing.T) {
	for _, c := range []struct {
		scope string
		away  func(*inPlace, *testing.T) // makes the operator leave deleted objects away
	}{
		{"Route", (*inPlace).suspend},
		{"Host", (*inPlace).stopOperator},
	} {
		t.Run("scope "+c.scope, func(t *testing.T) {
			s := newInPlace(t, "in-place-"+strings.ToLower(c.scope), c.scope)
			s.applyRoute(t)
			ready(t, s.namespace)
			answers(t, s.app, s.url, s.host()+" GET /")
			objects := s.objects(t)
			c.away(s, t)
			for _, order := range permutations(inPlaceKinds) {
				t.Run("without "+strings.Join(order, ", then "), func(t *testing.T) {
					s.underLoad(t, func() { s.loses(t, objects, order) })
					s.restores(t, objects)
				})
			}
			t.Run("the route is deleted", func(t *testing.T) {
				s.underLoad(t, func() {
					kubectl(t, "", "delete", "externalroute", "api", "--namespace", s.namespace)
					for _, kind := range inPlaceKinds {
						s.forgets(t, objects[kind])
					}
					s.fails(t)
				})
				s.waitUntil(t, "the garbage collector deletes the objects", func() error { return s.gone(t, objects) })
			})
		})
	}
	t.Run("an admission policy refuses the VirtualService", func(t *testing.T) {
		s := newInPlace(t, "in-place-refused", "Route")
		s.refuseVirtualServices(t)
		s.underLoad(t, func() {
			s.applyRoute(t)
			becomes(t, s.namespace, "api", "Programmed", "False ApplyFailed: ")
			answers(t, s.app, "https://"+s.host()+"/direct", s.host()+" GET /direct") // the ServiceEntry has arrived
			s.fails(t)                                                                // the plain port comes after the VirtualService
		})
	})
}

// inPlace is an app whose route upgrades a host in place, and that host, which answers plaintext too.
type inPlace struct {
	namespace, scope, url string
	app                   *bench.App
	encrypted, plain      *bench.Upstream
}

func newInPlace(t *testing.T, namespace, scope string) *inPlace {
	t.Helper()
	s := &inPlace{namespace: namespace, scope: scope}
	s.encrypted = mesh.Serve(t, &bench.Upstream{Host: namespace + ".example.com"})
	s.plain = mesh.Serve(t, &bench.Upstream{Host: s.host(), Plain: true, Address: s.encrypted.Address})
	s.url = "http://" + s.host() + "/"
	s.app = begin(t, namespace)
	apply(t, namespace, "registry-only.yaml")
	s.waitUntil(t, "the mesh is closed", func() error { return s.failure(s.app.Fresh(t.Context(), s.url)) })
	return s
}

func (s *inPlace) host() string { return s.encrypted.Host }

func (s *inPlace) applyRoute(t *testing.T) {
	t.Helper()
	applyText(t, s.namespace, fmt.Sprintf(`{apiVersion: networking.externalroute.io/v1alpha1, kind: ExternalRoute, metadata: {name: api},
		spec: {hosts: [%[1]s], destinations: [{url: "https://%[1]s", tls: {scope: %[2]s}}]}}`, s.host(), s.scope))
}

func (s *inPlace) suspend(t *testing.T) {
	t.Helper()
	kubectl(t, "", "patch", "externalroute", "api", "--namespace", s.namespace, "--type", "merge", "--patch", `{"spec": {"suspend": true}}`)
	becomes(t, s.namespace, "api", "Programmed", "True Suspended: ")
}

func (s *inPlace) stopOperator(t *testing.T) {
	t.Helper()
	mesh.Operator.Kill()
	t.Cleanup(func() {
		if err := mesh.Operator.Start(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// refuseVirtualServices makes the API server refuse new VirtualServices of the namespace.
func (s *inPlace) refuseVirtualServices(t *testing.T) {
	t.Helper()
	policy := fmt.Sprintf(`{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicy, metadata: {name: %[1]s}, spec: {
		matchConstraints: {
			namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %[1]s}},
			resourceRules: [{apiGroups: [networking.istio.io], apiVersions: ["*"], resources: [virtualservices], operations: [CREATE]}]},
		validations: [{expression: "false", message: "no VirtualServices here"}]}}
---
{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicyBinding, metadata: {name: %[1]s},
	spec: {policyName: %[1]s, validationActions: [Deny]}}`, s.namespace)
	kubectl(t, policy, "create", "-f", "-")
	t.Cleanup(func() {
		kinds := "validatingadmissionpolicies,validatingadmissionpolicybindings"
		if output, err := mesh.Kubectl(context.Background(), "delete", kinds, s.namespace).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, output)
		}
	})
	s.waitUntil(t, "the policy is in force", func() error {
		probe := istioObject("VirtualService", s.namespace, "probe")
		probe.Object["spec"] = map[string]any{"hosts": []any{"probe"}, "http": []any{map[string]any{"directResponse": map[string]any{"status": int64(200)}}}}
		err := mesh.Cluster.Create(t.Context(), probe, client.DryRunAll)
		if err != nil && strings.Contains(err.Error(), "no VirtualServices here") {
			return nil
		}
		return fmt.Errorf("a VirtualService is still created: %w", err)
	})
}

// underLoad calls the host all the time, and fails the test when a request leaves in plaintext.
func (s *inPlace) underLoad(t *testing.T, do func()) {
	t.Helper()
	before := s.plain.Total()
	load := s.app.Load(s.url)
	do()
	report := load.Stop()
	t.Logf("%d of %d failed", report.Failed, report.Total)
	if report.Failed == 0 {
		t.Error("no request failed, so that nothing was missing")
	}
	same(t, "requests in plaintext at port 80", s.plain.Total()-before, 0)
	encrypted(t, s.encrypted)
}

// loses deletes the objects in an order. After each of them requests fail, and in scope Route direct https works as long as the ServiceEntry is there.
func (s *inPlace) loses(t *testing.T, objects map[string]*unstructured.Unstructured, order []string) {
	t.Helper()
	known := true
	for _, kind := range order {
		if err := mesh.Cluster.Delete(t.Context(), objects[kind].DeepCopy()); err != nil {
			t.Fatal(err)
		}
		s.forgets(t, objects[kind])
		s.fails(t)
		known = known && kind != "ServiceEntry"
		if known && s.scope == "Route" {
			same(t, "direct https", s.app.Fresh(t.Context(), "https://"+s.host()+"/direct").String(), fmt.Sprintf("200 %q", s.host()+" GET /direct"))
		}
	}
}

// fails holds that a request does not succeed.
func (s *inPlace) fails(t *testing.T) {
	t.Helper()
	if err := s.failure(s.app.Fresh(t.Context(), s.url)); err != nil {
		t.Error(err)
	}
}

// failure returns an error when the answer is not a failure.
func (s *inPlace) failure(r bench.Response) error {
	if r.Err != nil || r.Status >= http.StatusInternalServerError {
		return nil
	}
	return fmt.Errorf("it is answered: %s", r)
}

// forgets waits until the app's Envoy no longer has what an object makes there.
func (s *inPlace) forgets(t *testing.T, o *unstructured.Unstructured) {
	t.Helper()
	page, trace := "clusters", "outbound|80||"+s.host()+"::"
	switch o.GetKind() {
	case "DestinationRule":
		subsets, _, _ := unstructured.NestedSlice(o.Object, "spec", "subsets")
		trace = fmt.Sprintf("outbound|443|%s|%s::", subsets[0].(map[string]any)["name"], s.host())
	case "VirtualService":
		page, trace = "config_dump?resource=dynamic_route_configs", "/virtual-service/"+o.GetName()+`"`
	}
	s.waitUntil(t, "Envoy forgets the "+o.GetKind(), func() error {
		if strings.Contains(s.app.Admin(t, page), trace) {
			return errors.New(trace + " is still there")
		}
		return nil
	})
}

// objects reads the route's objects by their kinds.
func (s *inPlace) objects(t *testing.T) map[string]*unstructured.Unstructured {
	t.Helper()
	objects := map[string]*unstructured.Unstructured{}
	for _, kind := range inPlaceKinds {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(istioObject(kind+"List", "", "").GroupVersionKind())
		if err := mesh.Cluster.List(t.Context(), list, client.InNamespace(s.namespace)); err != nil {
			t.Fatal(err)
		}
		if len(list.Items) != 1 {
			t.Fatalf("%d objects of kind %s", len(list.Items), kind)
		}
		objects[kind] = &list.Items[0]
	}
	return objects
}

// restores creates the objects again and waits until the route works.
func (s *inPlace) restores(t *testing.T, objects map[string]*unstructured.Unstructured) {
	t.Helper()
	for _, o := range objects {
		again := o.DeepCopy()
		again.SetResourceVersion("")
		if err := mesh.Cluster.Create(t.Context(), again); err != nil {
			t.Fatal(err)
		}
	}
	answers(t, s.app, s.url, s.host()+" GET /")
}

// gone returns an error while one of the objects exists.
func (s *inPlace) gone(t *testing.T, objects map[string]*unstructured.Unstructured) error {
	t.Helper()
	for _, o := range objects {
		if err := mesh.Cluster.Get(t.Context(), client.ObjectKeyFromObject(o), o.DeepCopy()); !apierrors.IsNotFound(err) {
			return fmt.Errorf("%s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return nil
}

func istioObject(kind, namespace, name string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "networking.istio.io/v1", "kind": kind}}
	o.SetNamespace(namespace)
	o.SetName(name)
	return o
}

// permutations are all orders of a list.
func permutations(list []string) [][]string {
	if len(list) == 0 {
		return [][]string{nil}
	}
	var all [][]string
	for i, first := range list {
		for _, rest := range permutations(slices.Concat(list[:i], list[i+1:])) {
			all = append(all, slices.Concat([]string{first}, rest))
		}
	}
	return all
}

// waitUntil waits until there is nothing to complain about.
func (s *inPlace) waitUntil(t *testing.T, what string, check func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}
