// Package controlplane starts a real Kubernetes control plane on this machine for tests and the demo: etcd, kube-apiserver, and the controllers of
// Kubernetes that make deletion real. It knows nothing of routes but their CRD.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/config/crd"
)

// Options say what stands in the control plane from the start.
type Options struct {
	// ExternalRoute installs the CRDs of this project, Istio those of Istio. What is installed later works at once too, but the garbage collector
	// sees it only within half a minute.
	ExternalRoute, Istio bool
	// Address is where the API server listens. Defaults to a loopback address.
	Address string
	// Dir is a folder for kubeconfigs and logs, which stays. Defaults to a temporary one, which Stop removes.
	Dir string
}

// ControlPlane is a control plane that runs.
type ControlPlane struct {
	Config         *rest.Config // the admin's
	KubeconfigFile string       // the admin's, for other processes
	Assets         string       // the folder of kube-apiserver, etcd, kubectl and the controllers
	Dir            string       // kubeconfigs and logs
	Etcd           string       // etcd's URL

	environment envtest.Environment
	controllers *exec.Cmd
	lifeline    *os.File
	temporary   bool
}

// Start starts a control plane and returns when its API answers, its controllers run and the CRDs asked for are served. Everything that it started
// ends with Stop, with a Start that fails, and with this process, however it dies.
func Start(o Options) (*ControlPlane, error) {
	c := &ControlPlane{Dir: o.Dir, temporary: o.Dir == ""}
	if err := c.start(o); err != nil {
		return nil, errors.Join(fmt.Errorf("start the control plane: %w\n%s", err, c.Logs()), c.Stop())
	}
	return c, nil
}

func (c *ControlPlane) start(o Options) error {
	if err := c.prepare(); err != nil {
		return err
	}
	if err := c.startAPIServer(o.Address); err != nil {
		return err
	}
	var definitions [][]byte
	if o.ExternalRoute {
		definitions = append(definitions, crd.ExternalRoutes, crd.ExternalRoutePolicies)
	}
	if o.Istio {
		istio, err := IstioCRDs()
		if err != nil {
			return err
		}
		definitions = append(definitions, istio)
	}
	if err := c.InstallCRDs(definitions...); err != nil {
		return err
	}
	return c.startControllers() // last: the garbage collector looks for new kinds twice a minute only
}

func (c *ControlPlane) prepare() (err error) {
	if c.Assets, err = assets(); err != nil {
		return err
	}
	if c.temporary {
		c.Dir, err = os.MkdirTemp("", "externalroute-controlplane-")
	} else {
		err = os.MkdirAll(c.Dir, 0o755)
	}
	if err != nil {
		return err
	}
	return c.holdLifeline()
}

// Stop ends all processes and removes what they left, save a folder that the caller chose.
func (c *ControlPlane) Stop() error {
	problems := []error{c.stopControllers(), c.environment.Stop()}
	if c.lifeline != nil {
		problems = append(problems, c.lifeline.Close())
	}
	if c.temporary && c.Dir != "" {
		problems = append(problems, os.RemoveAll(c.Dir))
	}
	return errors.Join(problems...)
}

// Kubeconfig writes a kubeconfig for a user who may do what RBAC allows and returns the file. A ServiceAccount is the user
// system:serviceaccount:NAMESPACE:NAME.
func (c *ControlPlane) Kubeconfig(user string, groups ...string) (string, error) {
	account, err := c.environment.AddUser(envtest.User{Name: user, Groups: groups}, nil)
	if err != nil {
		return "", fmt.Errorf("add user %q: %w", user, err)
	}
	kubeconfig, err := account.KubeConfig()
	if err != nil {
		return "", fmt.Errorf("make a kubeconfig for %q: %w", user, err)
	}
	file := filepath.Join(c.Dir, strings.ReplaceAll(user, ":", "-")+".kubeconfig")
	return file, os.WriteFile(file, kubeconfig, 0o600)
}

// Kubectl prepares a call of kubectl as the admin.
func (c *ControlPlane) Kubectl(ctx context.Context, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, filepath.Join(c.Assets, "kubectl"), args...)
	command.Env = append(os.Environ(), "KUBECONFIG="+c.KubeconfigFile)
	return command
}

// InstallCRDs creates or updates the CustomResourceDefinitions of some YAML files and waits until they are served.
func (c *ControlPlane) InstallCRDs(files ...[]byte) error {
	var definitions []*apiextensionsv1.CustomResourceDefinition
	for _, file := range files {
		for document := range strings.SplitSeq("\n"+string(file), "\n---\n") {
			definition := &apiextensionsv1.CustomResourceDefinition{}
			if err := yaml.Unmarshal([]byte(document), definition); err != nil {
				return fmt.Errorf("parse a CRD: %w", err)
			}
			if definition.Name != "" {
				definitions = append(definitions, definition)
			}
		}
	}
	_, err := envtest.InstallCRDs(c.Config, envtest.CRDInstallOptions{CRDs: definitions, MaxTime: time.Minute})
	return err
}

// Logs returns the last lines of every process's log, for a test that failed.
func (c *ControlPlane) Logs() string {
	const lines = 20
	var all strings.Builder
	files, _ := filepath.Glob(filepath.Join(c.Dir, "*.log")) // the pattern is a good one
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			content = []byte(err.Error())
		}
		end := strings.Split(strings.TrimSpace(string(content)), "\n")
		fmt.Fprintf(&all, "--- %s\n%s\n", file, strings.Join(end[max(0, len(end)-lines):], "\n"))
	}
	return all.String()
}
