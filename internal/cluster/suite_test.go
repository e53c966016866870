package cluster_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/cluster"
	"github.com/externalroute/externalroute/internal/translate"
	"github.com/externalroute/externalroute/test/controlplane"
)

// patience is how long a test waits for what must happen.
const patience = 2 * time.Minute

// plane is a control plane whose CRDs of Istio accept any spec, as those of a newer Istio may; admin is its administrator's client.
var (
	plane *controlplane.ControlPlane
	admin client.Client
	crds  []*apiextensionsv1.CustomResourceDefinition
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(zap.New(zap.WriteTo(io.Discard)))
	os.Exit(run(m))
}

func run(m *testing.M) int {
	err := func() (err error) {
		if plane, err = controlplane.Start(controlplane.Options{ExternalRoute: true}); err != nil {
			return err
		}
		if crds, err = permissive(); err != nil {
			return err
		}
		if err := installCRDs(); err != nil {
			return err
		}
		admin, err = client.New(plane.Config, client.Options{Scheme: scheme()})
		return err
	}()
	if plane != nil {
		defer func() { _ = plane.Stop() }()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// permissive returns Istio's CRDs without the schemas of their specs.
func permissive() ([]*apiextensionsv1.CustomResourceDefinition, error) {
	content, err := controlplane.IstioCRDs()
	if err != nil {
		return nil, err
	}
	var all []*apiextensionsv1.CustomResourceDefinition
	for document := range strings.SplitSeq("\n"+string(content), "\n---\n") {
		definition := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.Unmarshal([]byte(document), definition); err != nil {
			return nil, err
		}
		if definition.Spec.Group != "networking.istio.io" {
			continue
		}
		for _, version := range definition.Spec.Versions {
			version.Schema.OpenAPIV3Schema.Properties["spec"] = apiextensionsv1.JSONSchemaProps{XPreserveUnknownFields: new(true)}
		}
		all = append(all, definition)
	}
	return all, nil
}

func installCRDs() error {
	var fresh []*apiextensionsv1.CustomResourceDefinition
	for _, definition := range crds {
		fresh = append(fresh, definition.DeepCopy())
	}
	_, err := envtest.InstallCRDs(plane.Config, envtest.CRDInstallOptions{CRDs: fresh, MaxTime: time.Minute})
	return err
}

func scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(s); err != nil {
			panic(err)
		}
	}
	return s
}

// operator is a cluster as an operator sees it, whose controller only notes the routes that it should reconcile.
type operator struct {
	*testing.T
	*cluster.Cluster
	namespace string

	mu     sync.Mutex
	passes []string
}

// namespaceFor creates a namespace for a test.
func namespaceFor(t *testing.T) string {
	t.Helper()
	namespace := &corev1.Namespace{}
	namespace.GenerateName = "test-"
	if err := admin.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Delete(context.Background(), namespace) })
	return namespace.Name
}

// start starts an operator and returns when its controller has started.
func start(t *testing.T, namespace string, wrap func(http.RoundTripper) http.RoundTripper) *operator {
	t.Helper()
	o := &operator{T: t, namespace: namespace}
	cfg := rest.CopyConfig(plane.Config)
	cfg.QPS = -1
	if wrap != nil {
		cfg.Wrap(wrap)
	}
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme: scheme(), Cache: cluster.CacheOptions(labels.Everything(), nil),
		Metrics: metricsserver.Options{BindAddress: "0"}, Controller: config.Controller{SkipNameValidation: new(true)},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	if o.Cluster, err = cluster.New(ctx, mgr, cluster.Options{ClusterDomain: translate.DefaultClusterDomain}); err != nil {
		t.Fatal(err)
	}
	built, err := builder.ControllerManagedBy(mgr).For(&v1alpha1.ExternalRoute{}, builder.WithPredicates(never())).
		WithOptions(controller.Options{EnableWarmup: new(true)}).Build(reconcile.Func(o.note))
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Watch(ctx, mgr, built); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		end()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	o.until("the controller should start", func() string {
		select {
		case err := <-done:
			done <- err
			t.Fatal("the operator has ended")
		default:
		}
		if !o.HasLooked() {
			return "it does not"
		}
		return ""
	})
	return o
}

func (o *operator) note(_ context.Context, r reconcile.Request) (reconcile.Result, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.passes = append(o.passes, r.String())
	return reconcile.Result{}, nil
}

// key is a name in the test's namespace.
func (o *operator) key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: o.namespace, Name: name}
}

func (o *operator) until(what string, check func() string) {
	o.Helper()
	eventually(o.T, what, check)
}

// eventually waits until a check has no complaint.
func eventually(t *testing.T, what string, check func() string) {
	t.Helper()
	var complaint string
	err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, patience, true, func(context.Context) (bool, error) {
		complaint = check()
		return complaint == "", nil
	})
	if err != nil {
		t.Fatalf("%s: %s", what, complaint)
	}
}

// create creates an object from its manifest, and waits until the operator sees it.
func (o *operator) create(manifest string) *unstructured.Unstructured {
	o.Helper()
	object := parse(o.T, o.namespace, manifest)
	o.Expect(keyOf(object))
	if err := admin.Create(o.Context(), object); err != nil {
		o.Fatal(err)
	}
	o.sees(object)
	return object
}

func keyOf(object client.Object) translate.Key {
	return translate.Key{Kind: object.GetObjectKind().GroupVersionKind().Kind, NamespacedName: client.ObjectKeyFromObject(object)}
}

func parse(t *testing.T, namespace, manifest string) *unstructured.Unstructured {
	t.Helper()
	object := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(manifest), &object.Object); err != nil {
		t.Fatal(err)
	}
	object.SetNamespace(namespace)
	return object
}

func create(t *testing.T, namespace, manifest string) {
	t.Helper()
	if err := admin.Create(t.Context(), parse(t, namespace, manifest)); err != nil {
		t.Fatal(err)
	}
}

// sees waits until the operator sees a route, or an object that it expects, in its version.
func (o *operator) sees(object client.Object) {
	o.Helper()
	kind := object.GetObjectKind().GroupVersionKind().Kind
	o.until(fmt.Sprintf("the operator should see %s %s", kind, object.GetName()), func() string {
		if kind == "ExternalRoute" {
			route, err := o.Route(o.Context(), client.ObjectKeyFromObject(object))
			if err != nil || route == nil || route.ResourceVersion != object.GetResourceVersion() {
				return fmt.Sprint(route, err)
			}
			return ""
		}
		if !o.HasSeen(keyOf(object), object.GetResourceVersion()) {
			return "it does not"
		}
		return ""
	})
}

// route creates a route, and returns it as the operator sees it.
func (o *operator) route(name, spec string) *v1alpha1.ExternalRoute {
	o.Helper()
	o.create("{apiVersion: networking.externalroute.io/v1alpha1, kind: ExternalRoute, metadata: {name: " + name + "}, spec: " + spec + "}")
	route, err := o.Route(o.Context(), o.key(name))
	if err != nil {
		o.Fatal(err)
	}
	return route
}

// istio is the manifest of an object of Istio's, controlled by a route unless that is nil.
func istio(kind, name string, owner *v1alpha1.ExternalRoute, spec string) string {
	return manifest("networking.istio.io/v1", kind, name, owner, spec)
}

func manifest(version, kind, name string, owner *v1alpha1.ExternalRoute, spec string) string {
	owners := "[]"
	if owner != nil {
		owners = fmt.Sprintf("[{apiVersion: networking.externalroute.io/v1alpha1, kind: ExternalRoute, name: %s, uid: %q, controller: true}]", owner.Name, owner.UID)
	}
	return fmt.Sprintf("{apiVersion: %s, kind: %s, metadata: {name: %s, ownerReferences: %s}, spec: %s}", version, kind, name, owners, spec)
}

// wakes waits until a change has triggered passes over routes of the test's namespace.
func (o *operator) wakes(change func(), routes ...string) {
	o.Helper()
	o.mu.Lock()
	o.passes = nil
	o.mu.Unlock()
	change()
	o.until("the routes should be reconciled", func() string { return cmp.Diff(routes, o.passesSoFar()) })
}

// passesSoFar are the names of the namespace's routes over which passes have been triggered.
func (o *operator) passesSoFar() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var names []string
	for _, pass := range o.passes {
		if name, ours := strings.CutPrefix(pass, o.namespace+"/"); ours {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// woken returns the routes over which a change has triggered a pass. The change is followed by one of the same kind that triggers a pass over the sentinel: a
// watch and the queue keep the order.
func (o *operator) woken(sentinel string, change, signal func()) []string {
	o.Helper()
	o.mu.Lock()
	o.passes = nil
	o.mu.Unlock()
	change()
	signal()
	var names []string
	o.until("the sentinel should be reconciled", func() string {
		o.mu.Lock()
		defer o.mu.Unlock()
		i := slices.Index(o.passes, o.key(sentinel).String())
		if i < 0 {
			return fmt.Sprint(o.passes)
		}
		names = nil
		for _, pass := range o.passes[:i] {
			names = append(names, strings.TrimPrefix(pass, o.namespace+"/"))
		}
		return ""
	})
	slices.Sort(names)
	return slices.Compact(names)
}
