// Command manager is the operator: flags and wiring, no logic.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/controller"
	"github.com/externalroute/externalroute/internal/translate"
)

type flags struct {
	metricsAddress string
	metricsSecure  bool
	probeAddress   string
	leaderElect    bool
	leaderNS       string
	http2          bool
	log            zap.Options
	controller     controller.Options
}

// readFlags reads the command line. --kubeconfig is registered by controller-runtime.
func readFlags() *flags {
	f := &flags{}
	flag.StringVar(&f.metricsAddress, "metrics-bind-address", "0", "Address of the metrics endpoint, such as :8443; 0 turns it off.")
	flag.BoolVar(&f.metricsSecure, "metrics-secure", true, "Serve metrics over HTTPS, to those whom the API server allows.")
	flag.StringVar(&f.probeAddress, "health-probe-bind-address", ":8081", "Address of /healthz and /readyz.")
	flag.BoolVar(&f.leaderElect, "leader-elect", false, "Let one replica at a time work.")
	flag.StringVar(&f.leaderNS, "leader-election-namespace", "", "Namespace of the leader's lease. If left out, the pod's own.")
	flag.BoolVar(&f.http2, "enable-http2", false, "Speak HTTP/2 on the metrics endpoint.")
	flag.StringVar(&f.controller.ClusterDomain, "cluster-domain", translate.DefaultClusterDomain, "The cluster's DNS domain.")
	flag.DurationVar(&f.controller.Settle, "settle", 3*time.Second,
		"How long new upstreams stand beside the old ones before traffic moves over, and the old ones after it.")
	flag.IntVar(&f.controller.Concurrency, "concurrency", 8, "How many routes are reconciled at once.")
	f.log.BindFlags(flag.CommandLine)
	flag.Parse()
	return f
}

func (f *flags) check() error {
	if f.controller.Settle < 0 {
		return fmt.Errorf("--settle %s: must not be negative", f.controller.Settle)
	}
	if messages := validation.IsDNS1123Subdomain(f.controller.ClusterDomain); len(messages) > 0 {
		return fmt.Errorf("--cluster-domain %q: %s", f.controller.ClusterDomain, strings.Join(messages, "; "))
	}
	if f.controller.Concurrency < 1 {
		return fmt.Errorf("--concurrency %d: must be at least 1", f.controller.Concurrency)
	}
	return nil
}

func main() {
	f := readFlags()
	setLogger(zap.New(zap.UseFlagOptions(&f.log)))
	if err := run(ctrl.SetupSignalHandler(), f); err != nil {
		ctrl.Log.Error(err, "Stopped")
		os.Exit(1)
	}
}

// setLogger makes everybody in this process write to one log in one form: what does not find a logger in its context, and the servers of the standard
// library, have others by default.
func setLogger(log logr.Logger) {
	ctrl.SetLogger(log)
	klog.SetLogger(log.WithName("client-go"))
	slog.SetDefault(slog.New(logr.ToSlogHandler(log.WithName("net"))))
}

func run(ctx context.Context, f *flags) error {
	if err := f.check(); err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the cluster: %w", err)
	}
	config.QPS = -1 // the API server's own priority and fairness is the limit
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                        newScheme(),
		Cache:                         controller.CacheOptions(),
		Metrics:                       metricsOptions(f),
		HealthProbeBindAddress:        f.probeAddress,
		LeaderElection:                f.leaderElect,
		LeaderElectionID:              "externalroute.networking.externalroute.io",
		LeaderElectionNamespace:       f.leaderNS,
		LeaderElectionReleaseOnCancel: true, // the process ends when the manager does
	})
	if err != nil {
		return fmt.Errorf("make the manager: %w", err)
	}
	if err := mgr.AddHealthzCheck("healthz", healthz.Ping); err != nil {
		return err
	}
	if err := mgr.AddReadyzCheck("readyz", healthz.Ping); err != nil {
		return err
	}
	if err := controller.Setup(ctx, mgr, f.controller); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, networkingv1.AddToScheme} {
		if err := add(scheme); err != nil {
			panic(err) // two types of one name: a mistake of ours
		}
	}
	return scheme
}

func metricsOptions(f *flags) metricsserver.Options {
	options := metricsserver.Options{BindAddress: f.metricsAddress, SecureServing: f.metricsSecure}
	if f.metricsSecure {
		options.FilterProvider = filters.WithAuthenticationAndAuthorization
	}
	if !f.http2 { // rapid reset
		options.TLSOpts = []func(*tls.Config){func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }}
	}
	return options
}
