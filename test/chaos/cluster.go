//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/test/controlplane"
)

const (
	operatorNamespace = "externalroute-system"
	operatorAccount   = "system:serviceaccount:" + operatorNamespace + ":externalroute"
)

// cluster is a control plane that writes down what the operator asks it to write, with the operator's rights in it as users install them.
type cluster struct {
	*controlplane.ControlPlane
	client.Client              // the admin's
	operator      *rest.Config // the operator's
	wire          *wire
	auditLog      string // the API server's audit log of the operator's writes
	binary        string // the manager
}

// auditPolicy logs who writes routes and what may be generated for them, whether it succeeds or not, and what becomes of Istio's objects.
const auditPolicy = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: RequestResponse
  verbs: [create, update, patch, delete, deletecollection]
  resources: [{group: networking.istio.io}]
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
  resources: [{group: networking.externalroute.io}, {group: "", resources: [services, services/status]}]
`

func startCluster(ctx context.Context) (*cluster, error) {
	plane, err := controlplane.Start(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		return nil, err
	}
	c := &cluster{ControlPlane: plane, auditLog: filepath.Join(plane.Dir, "audit.jsonl"), binary: filepath.Join(plane.Dir, "manager")}
	if err := c.prepare(ctx); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

func (c *cluster) prepare(ctx context.Context) (err error) {
	policy := filepath.Join(c.Dir, "audit-policy.yaml")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(c.auditLog, nil, 0o600); err != nil { // there is one to read from the start
		return err
	}
	restart, err := c.Kill(controlplane.APIServer)
	if err != nil {
		return err
	}
	if err := restart("--audit-policy-file="+policy, "--audit-log-path="+c.auditLog, "--audit-log-maxsize=100000"); err != nil {
		return err
	}
	if c.Client, err = client.New(c.Config, client.Options{Scheme: newScheme()}); err != nil {
		return err
	}
	root, err := controlplane.Repository()
	if err != nil {
		return err
	}
	install := c.Kubectl(ctx, "apply", "--server-side", "--force-conflicts", "-k", filepath.Join(root, "config", "default"))
	if output, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("install the operator: %w: %s", err, output)
	}
	if _, err := controlplane.Run("go", "build", "-buildvcs=false", "-o", c.binary, "./cmd/manager"); err != nil {
		return err
	}
	kubeconfig, err := c.Kubeconfig(operatorAccount, "system:serviceaccounts", "system:serviceaccounts:"+operatorNamespace)
	if err != nil {
		return err
	}
	if c.operator, err = clientcmd.BuildConfigFromFlags("", kubeconfig); err != nil {
		return err
	}
	if c.wire, err = newWire(c.operator); err != nil {
		return err
	}
	return c.plantGateways(ctx)
}

func (c *cluster) stop() error {
	if c.wire != nil {
		c.wire.stop()
	}
	return c.Stop()
}

// keepLogs copies the logs to where they stay.
func (c *cluster) keepLogs() string {
	folder, err := os.MkdirTemp("", "externalroute-chaos-")
	if err != nil {
		return err.Error()
	}
	logs, err := filepath.Glob(filepath.Join(c.Dir, "*.[lj]*[gl]")) // .log and .jsonl
	if err != nil {
		return err.Error()
	}
	for _, log := range logs {
		if err := os.Rename(log, filepath.Join(folder, filepath.Base(log))); err != nil {
			return err.Error()
		}
	}
	return folder
}

func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, networkingv1.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			panic(err) // two types of one name
		}
	}
	return scheme
}
