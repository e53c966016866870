package main

import (
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/externalroute/externalroute/internal/controller"
	"github.com/externalroute/externalroute/internal/policy"
	"github.com/externalroute/externalroute/internal/translate"
)

type flags struct {
	version bool

	watchLabels string
	routes      labels.Selector
	controller  controller.Options

	leaderElect   bool
	leaderNS      string
	leaseDuration time.Duration
	renewDeadline time.Duration

	probeAddress string
	pprofAddress string
	log          zap.Options

	metricsAddress  string
	metricsSecure   bool
	metricsCertPath string
	metricsCertName string
	metricsCertKey  string
	http2           bool
}

// namespaces is a list on the command line, separated by commas.
type namespaces []string

func (n *namespaces) String() string { return strings.Join(*n, ",") }

func (n *namespaces) Set(list string) error {
	*n = nil
	if list == "" {
		return nil
	}
	*n = strings.Split(list, ",")
	return nil
}

// readFlags reads the command line. --kubeconfig is registered by controller-runtime.
func readFlags(set *flag.FlagSet, args []string) (*flags, error) {
	f := &flags{}
	set.BoolVar(&f.version, "version", false, "Print the version and exit.")
	set.Var((*namespaces)(&f.controller.Namespaces), "watch-namespaces", "Namespaces whose routes the operator reconciles, separated by commas. Defaults to all.")
	set.StringVar(&f.watchLabels, "watch-label-selector", "",
		"Label selector of the routes that the operator reconciles, such as shard=a, so that several operators share a cluster. "+
			"All routes of a namespace need the same labels. Defaults to all.")
	set.StringVar(&f.controller.ClusterDomain, "cluster-domain", translate.DefaultClusterDomain, "The cluster's DNS domain.")
	set.DurationVar(&f.controller.Settle, "settle", 3*time.Second,
		"How long new upstreams exist before traffic moves to them, and old ones after it. Longer than the mesh needs to distribute a change.")
	set.StringVar((*string)(&f.controller.DefaultPolicy), "default-policy", string(policy.Allow),
		"What routes may reach in a namespace that no ExternalRoutePolicy selects: Allow is every host, Deny is none.")
	set.IntVar(&f.controller.Concurrency, "concurrency", 8, "Number of routes reconciled in parallel.")
	set.BoolVar(&f.leaderElect, "leader-elect", false, "Enable leader election, so that only one replica reconciles.")
	set.StringVar(&f.leaderNS, "leader-election-namespace", "", "Namespace of the leader election lease, "+
		"whose name follows from --watch-namespaces and --watch-label-selector. Defaults to the pod's own.")
	set.DurationVar(&f.leaseDuration, "leader-elect-lease-duration", 15*time.Second,
		"How long a standby waits after the last renewal of the lease before it takes over.")
	set.DurationVar(&f.renewDeadline, "leader-elect-renew-deadline", 10*time.Second, "How long the leader retries to renew the lease before it exits.")
	set.StringVar(&f.probeAddress, "health-probe-bind-address", ":8081", "Address of /healthz and /readyz.")
	set.StringVar(&f.pprofAddress, "pprof-bind-address", "", "Address of the pprof endpoint, such as localhost:6060. Defaults to none.")
	set.StringVar(&f.metricsAddress, "metrics-bind-address", "0", "Address of the metrics endpoint, such as :8443; 0 disables it.")
	set.BoolVar(&f.metricsSecure, "metrics-secure", true, "Serve metrics over HTTPS, with authentication and authorization by the API server.")
	set.StringVar(&f.metricsCertPath, "metrics-cert-path", "",
		"Directory of the certificate of the metrics endpoint, reloaded when it changes. Defaults to a self-signed certificate.")
	set.StringVar(&f.metricsCertName, "metrics-cert-name", "tls.crt", "File name of the certificate in --metrics-cert-path.")
	set.StringVar(&f.metricsCertKey, "metrics-cert-key", "tls.key", "File name of the key in --metrics-cert-path.")
	set.BoolVar(&f.http2, "enable-http2", false, "Enable HTTP/2 on the metrics endpoint.")
	f.log.BindFlags(set)
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	if err := f.check(); err != nil {
		return nil, err
	}
	return f, nil
}

// leaseName is the lease of an operator that serves all routes. Alerts and runbooks know the names that begin with it.
const leaseName = "externalroute.networking.externalroute.io"

// lease is the name of the lease for which replicas compete: those that serve the same routes. Two installations that share the routes of a cluster must
// both lead, whatever namespace their leases are in.
func (f *flags) lease() string {
	if f.routes.Empty() && len(f.controller.Namespaces) == 0 {
		return leaseName
	}
	h := fnv.New32a()
	h.Write([]byte(canonical(f.routes)))
	if namespaces := slices.Compact(slices.Sorted(slices.Values(f.controller.Namespaces))); len(namespaces) > 0 {
		h.Write([]byte(";" + strings.Join(namespaces, ","))) // no label selector has a semicolon
	}
	return fmt.Sprintf("%s-%08x", leaseName, h.Sum32())
}

// canonical writes a selector in the same way, in whatever order its requirements were given.
func canonical(selector labels.Selector) string {
	requirements, _ := selector.Requirements()
	var all []string
	for _, requirement := range requirements {
		all = append(all, requirement.String())
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}

// allowsNothing reports whether the operator refuses every route: policies and namespaces are cluster-scoped, and one of some namespaces cannot read them.
func (f *flags) allowsNothing() bool {
	return len(f.controller.Namespaces) > 0 && f.controller.DefaultPolicy == policy.Deny
}

func (f *flags) check() error {
	var mistakes []error
	for _, namespace := range f.controller.Namespaces {
		if messages := validation.IsDNS1123Label(namespace); len(messages) > 0 {
			mistakes = append(mistakes, fmt.Errorf("--watch-namespaces %q: %s", namespace, strings.Join(messages, "; ")))
		}
	}
	var err error
	if f.routes, err = labels.Parse(f.watchLabels); err != nil {
		mistakes = append(mistakes, fmt.Errorf("--watch-label-selector: %w", err))
	}
	if messages := validation.IsDNS1123Subdomain(f.controller.ClusterDomain); len(messages) > 0 {
		mistakes = append(mistakes, fmt.Errorf("--cluster-domain %q: %s", f.controller.ClusterDomain, strings.Join(messages, "; ")))
	}
	if !slices.Contains([]policy.Default{policy.Allow, policy.Deny}, f.controller.DefaultPolicy) {
		mistakes = append(mistakes, fmt.Errorf("--default-policy %q: must be Allow or Deny", f.controller.DefaultPolicy))
	}
	if f.controller.Settle < 0 {
		mistakes = append(mistakes, fmt.Errorf("--settle %s: must not be negative", f.controller.Settle))
	}
	if f.controller.Concurrency < 1 {
		mistakes = append(mistakes, fmt.Errorf("--concurrency %d: must be at least 1", f.controller.Concurrency))
	}
	return errors.Join(append(mistakes, f.checkCertificate())...)
}

// A metrics server that finds no certificate would silently sign one for itself.
func (f *flags) checkCertificate() error {
	if f.metricsCertPath == "" {
		return nil
	}
	var mistakes []error
	for _, file := range []string{f.metricsCertName, f.metricsCertKey} {
		if _, err := os.Stat(filepath.Join(f.metricsCertPath, file)); err != nil {
			mistakes = append(mistakes, fmt.Errorf("--metrics-cert-path: %w", err))
		}
	}
	return errors.Join(mistakes...)
}
