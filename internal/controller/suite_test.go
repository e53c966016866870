package controller_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/api/v1alpha1"
	clusters "github.com/externalroute/externalroute/internal/cluster"
	"github.com/externalroute/externalroute/internal/controller"
	"github.com/externalroute/externalroute/internal/policy"
	"github.com/externalroute/externalroute/internal/translate"
	"github.com/externalroute/externalroute/test/controlplane"
)

// settle is the settle time. Stories about what happens in between stop the clock.
const settle = time.Second

// suite is the control plane that most stories share, with the operator in it.
var suite *cluster

func TestMain(m *testing.M) {
	os.Exit(runSuite(m))
}

func runSuite(m *testing.M) int {
	ctrl.SetLogger(zap.New(zap.WriteTo(operatorLog)))
	return judgeLog(runStories(m))
}

func runStories(m *testing.M) int {
	var err error
	if suite, err = startCluster(controlplane.Options{ExternalRoute: true, Istio: true}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer suite.stop()
	if err := suite.startOperator(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// cluster is a real control plane with an operator that has its own account and the rights that are shipped, no more.
type cluster struct {
	plane    *controlplane.ControlPlane
	client   client.Client // the admin's
	operator *rest.Config
	requests *requests
	clock    *testClock
	// defaultPolicy is that of operators that start.
	defaultPolicy policy.Default

	end  context.CancelFunc
	done chan error
}

func startCluster(options controlplane.Options) (*cluster, error) {
	plane, err := controlplane.Start(options)
	if err != nil {
		return nil, err
	}
	c := &cluster{plane: plane, requests: &requests{}, clock: &testClock{}}
	if err := c.prepare(); err != nil {
		return nil, errors.Join(err, plane.Stop())
	}
	return c, nil
}

func (c *cluster) prepare() (err error) {
	if c.client, err = client.New(c.plane.Config, client.Options{Scheme: scheme()}); err != nil {
		return err
	}
	if err := c.client.Create(context.Background(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: sentinels}}); err != nil {
		return err
	}
	const account = "system:serviceaccount:externalroute-system:externalroute"
	if err := c.allow(account); err != nil {
		return err
	}
	kubeconfig, err := c.plane.Kubeconfig(account)
	if err != nil {
		return err
	}
	if c.operator, err = clientcmd.BuildConfigFromFlags("", kubeconfig); err != nil {
		return err
	}
	c.operator.QPS = -1
	c.operator.Wrap(c.requests.record)
	return nil
}

// allow gives an account the role that is shipped.
func (c *cluster) allow(account string) error {
	content, err := os.ReadFile("../../config/rbac/role.yaml")
	if err != nil {
		return err
	}
	role := &rbacv1.ClusterRole{}
	if err := yaml.UnmarshalStrict(content, role); err != nil {
		return err
	}
	binding := &rbacv1.ClusterRoleBinding{
		Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: account, APIGroup: rbacv1.GroupName}},
		RoleRef:  rbacv1.RoleRef{Kind: "ClusterRole", Name: role.Name, APIGroup: rbacv1.GroupName},
	}
	binding.Name = role.Name
	return errors.Join(c.client.Create(context.Background(), role), c.client.Create(context.Background(), binding))
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

// startOperator starts the operator in this process and returns when its caches are filled.
func (c *cluster) startOperator() (err error) {
	c.end, c.done, err = c.runOperator(labels.Everything(), nil)
	return err
}

// runOperator starts an operator for some routes, in some namespaces or all, with a client of its own or, where that is nil, the usual one.
func (c *cluster) runOperator(routes labels.Selector, newClient client.NewClientFunc, namespaces ...string,
) (end context.CancelFunc, done chan error, err error) {
	mgr, err := ctrl.NewManager(c.operator, ctrl.Options{
		Scheme:     scheme(),
		Cache:      clusters.CacheOptions(routes, namespaces),
		Metrics:    metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: new(true)},
		NewClient:  newClient,
	})
	if err != nil {
		return nil, nil, err
	}
	ctx, end := context.WithCancel(context.Background())
	options := controller.Options{
		ClusterDomain: translate.DefaultClusterDomain, Settle: settle, Concurrency: 4, Namespaces: namespaces, DefaultPolicy: c.defaultPolicy,
	}
	if err := controller.SetupWithClock(ctx, mgr, options, c.clock); err != nil {
		return end, nil, err
	}
	done = make(chan error, 1)
	go func() {
		err := mgr.Start(ctx)
		if err != nil {
			fmt.Fprintln(os.Stderr, "the operator stopped:", err)
		}
		done <- err
	}()
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		return end, done, errors.New("the operator's caches were not filled")
	}
	return end, done, nil
}

func (c *cluster) stopOperator() error {
	if c.end == nil {
		return nil
	}
	c.end()
	c.end = nil
	return <-c.done
}

func (c *cluster) stop() {
	if err := errors.Join(c.stopOperator(), c.plane.Stop()); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// story is a namespace of its own in a cluster.
type story struct {
	*testing.T
	*cluster
	namespace string
}

// sharedStory begins a story in a namespace of its own. Whatever happens in it, kstatus must agree with what the conditions say.
func sharedStory(t *testing.T) *story {
	t.Helper()
	return newStory(t, suite)
}

func newStory(t *testing.T, c *cluster) *story {
	t.Helper()
	namespace := &corev1.Namespace{}
	namespace.GenerateName = "story-"
	if err := c.client.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	s := &story{T: t, cluster: c, namespace: namespace.Name}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the operator's log:\n%s", operatorLog.of(s.namespace))
		}
		_ = c.client.Delete(context.Background(), namespace)
	})
	return s
}
