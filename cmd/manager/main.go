// Command manager is the operator: flags and wiring, no logic.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/go-logr/logr"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/cluster"
	"github.com/externalroute/externalroute/internal/controller"
)

func main() {
	f, err := readFlags(flag.CommandLine, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if f.version {
		fmt.Println(versionLine())
		return
	}
	setLogger(zap.New(zap.UseFlagOptions(&f.log)))
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // the operator is at rest for most of its life, and memory is worth more than a little CPU
	}
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
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the cluster: %w", err)
	}
	config.QPS = -1                  // the API server's own priority and fairness is the limit
	config.DisableCompression = true // a cluster's network is faster than gzip
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                        newScheme(),
		Cache:                         cluster.CacheOptions(f.routes, f.controller.Namespaces),
		Metrics:                       metricsOptions(f),
		HealthProbeBindAddress:        f.probeAddress,
		PprofBindAddress:              f.pprofAddress,
		LeaderElection:                f.leaderElect,
		LeaderElectionID:              f.lease(),
		LeaderElectionNamespace:       f.leaderNS,
		LeaseDuration:                 &f.leaseDuration,
		RenewDeadline:                 &f.renewDeadline,
		RetryPeriod:                   new(retryPeriod),
		LeaderElectionReleaseOnCancel: true, // the process ends when the manager does
	})
	if err != nil {
		return fmt.Errorf("make the manager: %w", err)
	}
	if err := errors.Join(addChecks(mgr), controller.Setup(ctx, mgr, f.controller)); err != nil {
		return err
	}
	ctrl.Log.Info("Started", "version", versionLine(), "watchNamespaces", f.controller.Namespaces, "watchLabelSelector", f.watchLabels,
		"defaultPolicy", f.controller.DefaultPolicy, "lease", f.lease())
	if f.allowsNothing() {
		ctrl.Log.Info("Every route is refused: with --watch-namespaces no ExternalRoutePolicy is read, and without one --default-policy=Deny allows nothing")
	}
	return mgr.Start(ctx)
}

// retryPeriod is how often a standby asks for the lease. client-go adds up to 120 % to it, and a leader that stops gives the lease back: so it takes over
// within two seconds.
const retryPeriod = 750 * time.Millisecond

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
	options := metricsserver.Options{
		BindAddress:   f.metricsAddress,
		SecureServing: f.metricsSecure,
		CertDir:       f.metricsCertPath,
		CertName:      f.metricsCertName,
		KeyName:       f.metricsCertKey,
	}
	if f.metricsSecure {
		options.FilterProvider = filters.WithAuthenticationAndAuthorization
	}
	if !f.http2 { // rapid reset
		options.TLSOpts = []func(*tls.Config){func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }}
	}
	return options
}
