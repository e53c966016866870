// Package cli_test runs the command line against a real API server, in which the operator runs.
package cli_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/cli"
	"github.com/externalroute/externalroute/internal/cluster"
	"github.com/externalroute/externalroute/internal/controller"
	"github.com/externalroute/externalroute/internal/translate"
	"github.com/externalroute/externalroute/test/controlplane"
)

func TestMain(m *testing.M) {
	testscript.Main(suite{m}, map[string]func(){"externalroute": func() {
		streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
		os.Exit(cli.ExitCode(cli.New(streams, "dev").Execute()))
	}})
}

// live is a control plane with the operator and Istio's CRDs, and bare has neither.
var live, bare *controlplane.ControlPlane

// suite starts the control planes around the tests.
type suite struct{ testscript.TestingM }

func (s suite) Run() int {
	code, err := s.run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func (s suite) run() (code int, err error) {
	ctrl.SetLogger(zap.New(zap.WriteTo(io.Discard)))
	if live, err = controlplane.Start(controlplane.Options{ExternalRoute: true, Istio: true}); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, live.Stop()) }()
	if bare, err = controlplane.Start(controlplane.Options{}); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, bare.Stop()) }()
	end, err := startOperator()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, end()) }()
	return s.TestingM.Run(), nil
}

// startOperator starts the operator in this process and returns when its caches are filled.
func startOperator() (end func() error, err error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, networkingv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	seen, err := labels.Parse("!unseen") // routes with the label are as in a cluster without the operator
	if err != nil {
		return nil, err
	}
	mgr, err := ctrl.NewManager(live.Config, ctrl.Options{
		Scheme: scheme, Cache: cluster.CacheOptions(seen, nil), Metrics: metricsserver.Options{BindAddress: "0"},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	options := controller.Options{ClusterDomain: translate.DefaultClusterDomain, Settle: time.Second, Concurrency: 4, DefaultPolicy: "Allow"}
	if err := controller.Setup(ctx, mgr, options); err != nil {
		cancel()
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	end = func() error {
		cancel()
		return <-done
	}
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		return nil, errors.Join(errors.New("the operator's caches were not filled"), end())
	}
	return end, nil
}

// Every script is what a user types at the prompt, as the cluster's admin or, with --kubeconfig $USER, as a user without rights. Scripts share the cluster:
// each has namespaces and hosts of its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "", RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "until": until},
		Setup: func(env *testscript.Env) error {
			user := filepath.Base(env.WorkDir)
			kubeconfig, err := live.Kubeconfig(user)
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("PATH", env.Getenv("PATH")+string(os.PathListSeparator)+live.Assets)
			env.Setenv("KUBECONFIG", live.KubeconfigFile)
			env.Setenv("BARE", bare.KubeconfigFile)
			env.Setenv("USER", user)
			env.Setenv("USERCONFIG", kubeconfig)
			return err
		},
	})
}

// exits runs a command and compares its exit code: exits CODE COMMAND ARGUMENTS.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARGUMENTS")
	}
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if got := strconv.Itoa(code); got != args[0] {
		ts.Fatalf("exits with %s instead of %s", got, args[0])
	}
}

// until repeats a command until it succeeds: what one request writes, another component may see a moment later.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: until COMMAND ARGUMENTS")
	}
	deadline := time.Now().Add(patience)
	for {
		err := ts.Exec(args[0], args[1:]...)
		switch {
		case err == nil:
			return
		case time.Now().After(deadline):
			ts.Fatalf("does not succeed within %s: %v", patience, err)
		}
	}
}

// patience is how long a test waits before it fails.
const patience = time.Minute
