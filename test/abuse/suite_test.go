// Package abuse_test attacks a cluster as a tenant: with the editor role that is shipped, in one namespace, and no other right. The API server and its RBAC are
// real, and the operator has the rights of its own account. Whatever the tenant writes, nothing outside of its namespace may change.
package abuse_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/api/v1alpha1"
	clusters "github.com/externalroute/externalroute/internal/cluster"
	"github.com/externalroute/externalroute/internal/controller"
	"github.com/externalroute/externalroute/internal/policy"
	"github.com/externalroute/externalroute/internal/translate"
	"github.com/externalroute/externalroute/test/controlplane"
)

// The namespaces: the attacker's, that of another team, and that of the gateways.
const (
	home   = "tenant"
	victim = "victim"
	edge   = "gateways"
)

const roles = "../../config/rbac"

var (
	plane  *controlplane.ControlPlane
	admin  client.Client
	tenant client.Client
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if plane, err = controlplane.Start(controlplane.Options{ExternalRoute: true, Istio: true}); err != nil {
		return 1, err
	}
	defer func() {
		if code != 0 {
			fmt.Fprintln(os.Stderr, plane.Logs())
		}
		err = errors.Join(err, plane.Stop())
	}()
	ctx, end := context.WithCancel(context.Background())
	stopped, err := start(ctx)
	defer func() {
		end()
		if stopped != nil {
			err = errors.Join(err, <-stopped)
		}
	}()
	if err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// start creates what stands in the cluster, and starts the operator.
func start(ctx context.Context) (stopped chan error, err error) {
	if admin, err = client.New(plane.Config, client.Options{Scheme: scheme()}); err != nil {
		return nil, err
	}
	if err := createAll(ctx, ground); err != nil {
		return nil, err
	}
	account, err := user(ctx, "system:serviceaccount:externalroute-system:externalroute", "role.yaml", "")
	if err != nil {
		return nil, err
	}
	attacker, err := user(ctx, "attacker", "externalroute_editor_role.yaml", home)
	if err != nil {
		return nil, err
	}
	if tenant, err = client.New(attacker, client.Options{Scheme: scheme()}); err != nil {
		return nil, err
	}
	return operate(ctx, account)
}

func scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, networkingv1.AddToScheme} {
		if err := add(s); err != nil {
			panic(err)
		}
	}
	return s
}

// createAll creates the objects of a file of manifests.
func createAll(ctx context.Context, manifests string) error {
	for manifest := range strings.SplitSeq(manifests, "\n---\n") {
		object, err := parse(manifest)
		if err != nil {
			return err
		}
		if err := admin.Create(ctx, object); err != nil {
			return err
		}
	}
	return nil
}

// user is a user with a role that is shipped, in a namespace or everywhere.
func user(ctx context.Context, name, file, namespace string) (*rest.Config, error) {
	content, err := os.ReadFile(filepath.Join(roles, file))
	if err != nil {
		return nil, err
	}
	role := &rbacv1.ClusterRole{}
	if err := yaml.UnmarshalStrict(content, role); err != nil {
		return nil, err
	}
	subjects := []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: name, APIGroup: rbacv1.GroupName}}
	ref := rbacv1.RoleRef{Kind: "ClusterRole", Name: role.Name, APIGroup: rbacv1.GroupName}
	meta := metav1.ObjectMeta{Name: role.Name, Namespace: namespace}
	binding := client.Object(&rbacv1.RoleBinding{ObjectMeta: meta, Subjects: subjects, RoleRef: ref})
	if namespace == "" {
		binding = &rbacv1.ClusterRoleBinding{ObjectMeta: meta, Subjects: subjects, RoleRef: ref}
	}
	if err := errors.Join(admin.Create(ctx, role), admin.Create(ctx, binding)); err != nil {
		return nil, err
	}
	kubeconfig, err := plane.Kubeconfig(name)
	if err != nil {
		return nil, err
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	return config, nil
}

// operate starts the operator with its defaults, but without a settle time: nothing here watches traffic.
func operate(ctx context.Context, account *rest.Config) (stopped chan error, err error) {
	mgr, err := ctrl.NewManager(account, ctrl.Options{
		Scheme: scheme(), Cache: clusters.CacheOptions(labels.Everything(), nil), Metrics: metricsserver.Options{BindAddress: "0"},
	})
	if err != nil {
		return nil, err
	}
	options := controller.Options{ClusterDomain: translate.DefaultClusterDomain, Concurrency: 8, DefaultPolicy: policy.Allow}
	if err := controller.Setup(ctx, mgr, options); err != nil {
		return nil, err
	}
	stopped = make(chan error, 1)
	go func() { stopped <- mgr.Start(ctx) }()
	return stopped, nil
}

// ground is what others have. In the tenant's namespace, the platform team has objects that the tenant cannot change.
const ground = `
{apiVersion: v1, kind: Namespace, metadata: {name: tenant}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: victim}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: gateways}}
---
{apiVersion: v1, kind: Service, metadata: {name: shop, namespace: victim}, spec: {selector: {app: shop}, ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: db, namespace: victim}, spec: {clusterIP: None, selector: {app: db}, ports: [{name: tcp, port: 5432}]}}
---
{apiVersion: v1, kind: Secret, metadata: {name: key, namespace: victim}, stringData: {tls.key: secret}}
---
{apiVersion: v1, kind: Secret, metadata: {name: key, namespace: tenant}, stringData: {tls.key: secret}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: ca, namespace: victim}, data: {ca.crt: certificate}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: stripe, namespace: victim}
spec: {hosts: [api.stripe.com], exportTo: ["."], location: MESH_EXTERNAL, resolution: DNS, ports: [{name: https, number: 443, protocol: TLS}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: victim}
spec: {hosts: [shop], http: [{route: [{destination: {host: shop}}]}]}
---
apiVersion: networking.externalroute.io/v1alpha1
kind: ExternalRoute
metadata: {name: web, namespace: victim}
spec: {hosts: [web, api.example.com], destinations: [{url: "https://api.example.com"}]}
---
{apiVersion: v1, kind: Service, metadata: {name: ingress, namespace: gateways}, spec: {type: LoadBalancer, selector: {istio: ingress}, ports: [{name: https, port: 443}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: edge, namespace: gateways}, spec: {selector: {istio: edge}, ports: [{name: https, port: 443}]}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: storefront, namespace: victim}
spec:
  selector: {istio: edge}
  servers:
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: ["*.storefront.example"], tls: {mode: SIMPLE, credentialName: key}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: taken, namespace: tenant}
spec: {hosts: [taken], exportTo: ["."], http: [{route: [{destination: {host: pods}}]}]}
---
{apiVersion: v1, kind: Service, metadata: {name: pods, namespace: tenant}, spec: {type: ExternalName, externalName: pods.example.org}}
`
