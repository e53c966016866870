package chart_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/test/controlplane"
)

const (
	argoCD           = "system:serviceaccount:argocd:argocd-application-controller"
	garbageCollector = "system:serviceaccount:kube-system:generic-garbage-collector"
	// developers may write all of Istio's objects and routes, where a RoleBinding says so.
	developer = "developer"
)

// exceptions are the values that lockdown is tried with.
var exceptions = []string{
	"--set=lockdown.enabled=true", "--set=lockdown.users={alice}", "--set=lockdown.groups={platform}",
	"--set=lockdown.serviceAccounts[0].namespace=argocd,lockdown.serviceAccounts[0].name=argocd-application-controller",
}

// Lockdown as a platform team has it: the namespace shop is locked down, elsewhere is not, and developers have rights in both.
func TestLockdown(t *testing.T) {
	c := startCluster(t, controlplane.Options{Istio: true})
	c.namespace(t, "operators", "shop", "elsewhere", "argocd")
	c.kubectl(t, "label", "namespace", "shop", "networking.externalroute.io/lockdown=enabled")
	c.installGatewayAPI(t)
	first := freePorts(t)
	c.helm(t, c.KubeconfigFile, append(append([]string{
		"install", "first", chart, "--namespace=operators", "--wait", "--set=fullnameOverride=externalroute,watchLabelSelector=shard notin (second)",
	}, exceptions...), first.values()...)...)
	c.grantDevelopers(t)
	all := objects(t, read(t, "test/chart/testdata/lockdown.yaml"))
	eventually(t, "lockdown is in force", func() bool {
		return apierrors.IsForbidden(c.as(t, developer).Create(t.Context(), in("shop", all[0]), client.DryRunAll))
	})
	for _, object := range all {
		t.Run(object.GetKind()+" "+object.GetName(), func(t *testing.T) { c.isLockedDown(t, object) })
	}
	t.Run("exceptions", func(t *testing.T) { c.exceptionsMayWrite(t, all[0]) })
	t.Run("gateways", c.routesOfGatewaysAreFree)

	manager := c.runManager(t, client.ObjectKey{Namespace: "operators", Name: "externalroute"}, first)
	t.Run("operator", c.operatorWorksUnderLockdown)
	t.Run("orphans", c.routesAreNotOrphaned)
	t.Run("renamed", func(t *testing.T) { c.operatorIsRenamed(t, manager) })
	t.Run("second", c.secondRelease)
}

func (c *cluster) installGatewayAPI(t *testing.T) {
	t.Helper()
	folder, err := controlplane.LastLine("go", "-C", "hack/istiod", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"k8s.io_httproutes", "k8s.io_grpcroutes", "k8s.io_tlsroutes", "k8s.io_tcproutes", "k8s.io_backendtlspolicies", "x-k8s.io_xbackends"} {
		definition, err := os.ReadFile(filepath.Join(folder, "config", "crd", "experimental", "gateway.networking."+kind+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.InstallCRDs(definition); err != nil {
			t.Fatal(err)
		}
	}
}

// grantDevelopers gives all users of these tests the rights that lockdown restricts, in both namespaces.
func (c *cluster) grantDevelopers(t *testing.T) {
	t.Helper()
	c.create(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "argocd", Name: "argocd-application-controller"}})
	c.create(t, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "mesh-editor"}, Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{
			"networking.istio.io", "extensions.istio.io", "gateway.networking.k8s.io", "gateway.networking.x-k8s.io", "networking.externalroute.io",
		},
		Resources: []string{"*"}, Verbs: []string{"*"},
	}}})
	for _, namespace := range []string{"shop", "elsewhere"} {
		c.kubectl(t, "create", "rolebinding", "mesh-editors", "--clusterrole=mesh-editor", "--namespace="+namespace,
			"--user="+developer, "--user=alice", "--group=platform", "--user="+argoCD)
	}
}

// as returns a client of a user.
func (c *cluster) as(t *testing.T, user string, groups ...string) client.Client {
	t.Helper()
	config := rest.CopyConfig(c.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: groups}
	return c.clientOf(t, config)
}

func (c *cluster) clientOf(t *testing.T, config *rest.Config) client.Client {
	t.Helper()
	own, err := client.New(config, client.Options{Scheme: c.client.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	return own
}

// in returns a copy of an object for a namespace.
func in(namespace string, object *unstructured.Unstructured) *unstructured.Unstructured {
	copied := object.DeepCopy()
	copied.SetNamespace(namespace)
	return copied
}

// A developer may neither create nor change an object in a namespace that is locked down, and may do both elsewhere. Deletion stays possible.
func (c *cluster) isLockedDown(t *testing.T, object *unstructured.Unstructured) {
	t.Helper()
	developers := c.as(t, developer)
	if err := errors.Join(
		c.as(t, argoCD).Create(t.Context(), in("shop", object)), developers.Create(t.Context(), in("elsewhere", object)),
	); err != nil {
		t.Fatal(err)
	}
	message := "ValidatingAdmissionPolicy 'externalroute-lockdown' with binding 'externalroute-lockdown' denied request: developer may not write objects of kind " +
		object.GetKind() + " in namespace shop, which is locked down: only ExternalRoutes lead outside. Write an ExternalRoute, or ask the platform team " +
		"for an exception (lockdown.users, lockdown.groups or lockdown.serviceAccounts of the operator's chart)"
	if guide := string(read(t, "docs/guides/lockdown.md")); object.GetKind() == "ServiceEntry" && !strings.Contains(guide, message) {
		t.Errorf("the guide does not show the message: %s", message)
	}
	for how, err := range c.writes(t, developers, in("shop", object)) {
		if !apierrors.IsForbidden(err) || !strings.HasSuffix(err.Error(), message) {
			t.Errorf("%s: %v, want: %s", how, err, message)
		}
	}
	for how, err := range c.writes(t, developers, in("elsewhere", object)) {
		if err != nil {
			t.Errorf("%s elsewhere: %v", how, err)
		}
	}
	if err := developers.Delete(t.Context(), in("shop", object)); err != nil {
		t.Errorf("delete: %v", err)
	}
}

// writes writes an object that exists in every way that the API server knows, and returns what it answers.
func (c *cluster) writes(t *testing.T, user client.Client, object *unstructured.Unstructured) map[string]error {
	t.Helper()
	ctx := t.Context()
	replaced := object.DeepCopy()
	if err := c.client.Get(ctx, client.ObjectKeyFromObject(object), replaced); err != nil {
		t.Fatal(err)
	}
	replaced.SetAnnotations(map[string]string{"updated": "yes"})
	created, dry := object.DeepCopy(), object.DeepCopy()
	created.SetName(object.GetName() + "-created")
	dry.SetName(object.GetName() + "-dry")
	return map[string]error{
		"create":          user.Create(ctx, created),
		"create, dry run": user.Create(ctx, dry, client.DryRunAll),
		"update":          user.Update(ctx, replaced),
		"patch":           user.Patch(ctx, object.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"patched":"yes"}}}`))),
		"apply": user.Apply(ctx, client.ApplyConfigurationFromUnstructured(object.DeepCopy()),
			client.FieldOwner("kubectl"), client.ForceOwnership),
	}
}

func (c *cluster) exceptionsMayWrite(t *testing.T, object *unstructured.Unstructured) {
	t.Helper()
	token, err := clientcmd.BuildConfigFromFlags("", c.kubeconfigOf(t, "argocd", "argocd-application-controller"))
	if err != nil {
		t.Fatal(err)
	}
	for who, user := range map[string]client.Client{
		"a user": c.as(t, "alice"), "a member of a group": c.as(t, "bob", "staff", "platform"), "a ServiceAccount": c.clientOf(t, token),
	} {
		if err := user.Create(t.Context(), in("shop", object), client.DryRunAll); err != nil {
			t.Errorf("%s: %v", who, err)
		}
	}
	if err := c.client.Create(t.Context(), in("shop", object), client.DryRunAll); !apierrors.IsForbidden(err) {
		t.Errorf("an administrator whom nobody has listed: %v", err)
	}
}

// What concerns gateways alone is the application team's.
func (c *cluster) routesOfGatewaysAreFree(t *testing.T) {
	for _, object := range objects(t, []byte(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: free}
spec:
  parentRefs: [{name: edge}, {group: gateway.networking.k8s.io, kind: ListenerSet, name: edge}]
  rules: [{backendRefs: [{name: orders, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: free}
spec:
  targetRefs: [{group: "", kind: Service, name: orders}]
  validation: {hostname: orders.example.com, wellKnownCACertificates: System}
`)) {
		if err := c.as(t, developer).Create(t.Context(), in("shop", object), client.DryRunAll); err != nil {
			t.Errorf("%s: %v", object.GetKind(), err)
		}
	}
}

// The operator programs a route, and repairs its objects, where nobody else may write them.
func (c *cluster) operatorWorksUnderLockdown(t *testing.T) {
	c.kubectl(t, "apply", "--as="+developer, "--namespace=shop", "--filename="+root+"/config/samples/smallest.yaml")
	c.kubectl(t, "wait", "--namespace=shop", "--for=condition=Ready", "--timeout=5m", "externalroute/webserver")
	entry := c.generated(t, "shop", "webserver", "ServiceEntry")
	spec := entry.Object["spec"]
	current := func() *unstructured.Unstructured {
		object := entry.DeepCopy()
		if err := client.IgnoreNotFound(c.client.Get(t.Context(), client.ObjectKeyFromObject(entry), object)); err != nil {
			t.Fatal(err)
		}
		return object
	}
	edit := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"hosts":["evil.example.com"]}}`))
	if err := c.as(t, developer).Patch(t.Context(), entry.DeepCopy(), edit); !apierrors.IsForbidden(err) {
		t.Errorf("a developer edits a generated object: %v", err)
	}
	if err := c.as(t, developer).Status().Patch(t.Context(), entry.DeepCopy(), edit); err != nil || !cmp.Equal(spec, current().Object["spec"]) {
		t.Errorf("a status configures the mesh: %v", err)
	}
	if err := c.as(t, "alice").Patch(t.Context(), entry.DeepCopy(), edit); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the operator repairs an edit", func() bool { return cmp.Equal(spec, current().Object["spec"]) })
	if err := c.as(t, developer).Delete(t.Context(), entry.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the operator creates a deleted object", func() bool {
		object := current()
		return object.GetUID() != entry.GetUID() && cmp.Equal(spec, object.Object["spec"])
	})
}

// generated returns an object of a route that is Ready.
func (c *cluster) generated(t *testing.T, namespace, name, kind string) *unstructured.Unstructured {
	t.Helper()
	route := &v1alpha1.ExternalRoute{}
	if err := c.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, route); err != nil {
		t.Fatal(err)
	}
	for _, resource := range route.Status.Resources {
		if resource.Kind != kind {
			continue
		}
		object := &unstructured.Unstructured{}
		object.SetGroupVersionKind(schema.FromAPIVersionAndKind(resource.APIVersion, resource.Kind))
		if err := c.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: resource.Name}, object); err != nil {
			t.Fatal(err)
		}
		return object
	}
	t.Fatalf("the route %s has no %s", name, kind)
	return nil
}

// Objects that outlive their route would be outside of every policy. The garbage collector still works for routes that are deleted in other ways.
func (c *cluster) routesAreNotOrphaned(t *testing.T) {
	ctx, developers := t.Context(), c.as(t, developer)
	route := &v1alpha1.ExternalRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "webserver"}}
	patch := func(content string) error {
		return developers.Patch(ctx, route.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(content)))
	}
	for how, err := range map[string]error{
		"--cascade=orphan": developers.Delete(ctx, route.DeepCopy(), client.PropagationPolicy(metav1.DeletePropagationOrphan)),
		"orphanDependents": developers.Delete(ctx, route.DeepCopy(), &client.DeleteOptions{Raw: &metav1.DeleteOptions{OrphanDependents: new(true)}}), //nolint:staticcheck // still works
		"all of a kind":    developers.DeleteAllOf(ctx, route.DeepCopy(), client.InNamespace("shop"), client.PropagationPolicy(metav1.DeletePropagationOrphan)),
		"a finalizer":      patch(`{"metadata":{"finalizers":["orphan"]}}`),
	} {
		want := "developer may not orphan the objects of an ExternalRoute in namespace shop, which is locked down: nothing would govern them. " +
			"Delete the route without --cascade=orphan, and remove the finalizer orphan"
		if !apierrors.IsForbidden(err) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v, want: %s", how, err, want)
		}
	}
	if err := patch(`{"metadata":{"finalizers":["example.com/other"]}}`); err != nil {
		t.Error(err)
	}
	if err := patch(`{"metadata":{"finalizers":null}}`); err != nil {
		t.Error(err)
	}
	if err := c.as(t, "alice").Delete(ctx, route.DeepCopy(), client.DryRunAll, client.PropagationPolicy(metav1.DeletePropagationOrphan)); err != nil {
		t.Errorf("an exception orphans: %v", err)
	}
	entry := c.generated(t, "shop", "webserver", "ServiceEntry")
	collect := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"ownerReferences":null}}`))
	if err := c.as(t, garbageCollector).Patch(ctx, entry.DeepCopy(), collect, client.DryRunAll); err != nil {
		t.Errorf("the garbage collector: %v", err)
	}
	if err := developers.Delete(ctx, route.DeepCopy(), client.PropagationPolicy(metav1.DeletePropagationForeground)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the route and its objects are gone", func() bool {
		return apierrors.IsNotFound(c.client.Get(ctx, client.ObjectKeyFromObject(route), route.DeepCopy())) &&
			apierrors.IsNotFound(c.client.Get(ctx, client.ObjectKeyFromObject(entry), entry.DeepCopy()))
	})
}

// An upgrade renames the operator's ServiceAccount: lockdown, like the roles, follows.
func (c *cluster) operatorIsRenamed(t *testing.T, before *process) {
	t.Helper()
	p := freePorts(t)
	c.helm(t, c.KubeconfigFile, append([]string{
		"upgrade", "first", chart, "--namespace=operators", "--wait", "--reuse-values", "--set=serviceAccount.name=renamed",
	}, p.values()...)...)
	before.stop()
	c.runManager(t, client.ObjectKey{Namespace: "operators", Name: "externalroute"}, p)
	c.kubectl(t, "apply", "--as="+developer, "--namespace=shop", "--filename="+root+"/config/samples/base-path.yaml")
	c.kubectl(t, "wait", "--namespace=shop", "--for=condition=Ready", "--timeout=5m", "externalroute/"+routeOf(t, "base-path.yaml"))
}

// Another release, which lockdown does not know, says so in its routes, and recovers when it is listed.
func (c *cluster) secondRelease(t *testing.T) {
	p := freePorts(t)
	c.helm(t, c.KubeconfigFile, append([]string{
		"install", "second", chart, "--namespace=operators", "--wait", "--set=watchLabelSelector=shard=second",
	}, p.values()...)...)
	c.runManager(t, client.ObjectKey{Namespace: "operators", Name: "second-externalroute"}, p)
	route := &v1alpha1.ExternalRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "second", Labels: map[string]string{"shard": "second"}}}
	route.Spec.Hosts = []v1alpha1.RouteHost{"second"}
	route.Spec.Destinations = []v1alpha1.Destination{{URL: "https://second.example.com"}}
	c.create(t, route)
	eventually(t, "the route says that lockdown refuses its operator", func() bool {
		if err := c.client.Get(t.Context(), client.ObjectKeyFromObject(route), route); err != nil {
			t.Fatal(err)
		}
		ready := meta.FindStatusCondition(route.Status.Conditions, v1alpha1.ConditionReady)
		return ready != nil && ready.Reason == v1alpha1.ReasonApplyFailed &&
			strings.Contains(ready.Message, "system:serviceaccount:operators:second-externalroute may not write objects of kind ")
	})
	c.helm(t, c.KubeconfigFile, "upgrade", "first", chart, "--namespace=operators", "--wait", "--reuse-values",
		"--set=lockdown.serviceAccounts[0].namespace=operators,lockdown.serviceAccounts[0].name=second-externalroute")
	c.kubectl(t, "wait", "--namespace=shop", "--for=condition=Ready", "--timeout=5m", "externalroute/second")
}

// The component of config gives the same as the chart's one value, and follows the ServiceAccount of the layer below. Its files as they stand are for
// config/default.
func TestLockdownOfConfigIsThatOfTheChart(t *testing.T) {
	folder := t.TempDir()
	if err := os.CopyFS(filepath.Join(folder, "config"), os.DirFS(root+"/config")); err != nil {
		t.Fatal(err)
	}
	for layer, content := range map[string]string{
		"locked":        "resources: [../config/default]\ncomponents: [../config/lockdown]\n",
		"renamed":       "resources: [../config/default]\nnamespace: egress\nnamePrefix: our-\n",
		"renamedLocked": "resources: [../renamed]\ncomponents: [../config/lockdown]\n",
	} {
		file := filepath.Join(folder, layer, "kustomization.yaml")
		if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	files := append(objects(t, read(t, "config/lockdown/policy.yaml")), objects(t, read(t, "config/lockdown/binding.yaml"))...)
	for layer, args := range map[string][]string{
		"files":         {"--namespace=externalroute-system"},
		"locked":        {"--namespace=externalroute-system"},
		"renamedLocked": {"--namespace=egress", "--set=serviceAccount.name=our-externalroute"},
	} {
		want := objects(t, render(t, append(args, "--set=lockdown.enabled=true")...))
		got := files
		if layer != "files" {
			got = objects(t, kustomize(t, filepath.Join(folder, layer)))
		}
		for _, kind := range []string{"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"} {
			if diff := cmp.Diff(find(t, want, kind, "externalroute-lockdown").Object["spec"], find(t, got, kind, "externalroute-lockdown").Object["spec"]); diff != "" {
				t.Errorf("%s: chart (-) and config (+):\n%s", layer, diff)
			}
		}
	}
}
