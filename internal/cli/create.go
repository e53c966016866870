package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

const createLong = `Create an ExternalRoute.

The flags set the fields that most routes need. For other fields, write the manifest with --dry-run=client -o yaml, and edit it. Before anything is sent, the
route is judged by the same rules as at the API server, and by the same translation as in the operator. Conflicts with other objects are in the status later.

Workloads call --host, which defaults to NAME: an alias in the namespace. The host of a --url is upgraded in place: workloads keep calling http://HOST.
With --pass-through, workloads originate TLS to each --host themselves.

Digits after the last = of a --url are its weight, as in https://api.example.com/v1=90. Only the path of a single --url may end like that:
--url https://api.example.com/v=2 has no weight. Of several, give each a weight: https://api.example.com/v=2=90.

Exits with 0 if the route is created, 1 if it is refused or the API server returns an error, and 2 for wrong flags.`

const createExample = `  # http://webserver in the namespace becomes https://www.example.com/v1
  kubectl externalroute create webserver --url https://www.example.com/v1

  # a manifest for Git
  kubectl externalroute create webserver --url https://www.example.com/v1 --dry-run=client -o yaml > route.yaml

  # 90% and 10% of the requests, each within 5 seconds
  kubectl externalroute create payments --url https://a.example.com=90 --url https://b.example.com=10 --timeout 5s

  # workloads keep calling http://api.example.com, through an egress gateway
  kubectl externalroute create api --url https://api.example.com --host api.example.com --egress-gateway istio-egress/istio-egressgateway

  # let workloads call a host over TLS of their own
  kubectl externalroute create packages --pass-through --host pypi.org --host "*.pythonhosted.org"`

// The values of --dry-run, as kubectl has them.
const (
	dryRunNone   = "none"
	dryRunClient = "client"
	dryRunServer = "server"
)

var dryRuns = []string{dryRunNone, dryRunClient, dryRunServer}

// creator is the create command with its flags.
type creator struct {
	environment
	urls          []string
	hosts         []string
	port          int32
	passThrough   bool
	timeout       string
	egressGateway string
	waypoint      string
	clusterDomain string
	dryRun        string
	print         *genericclioptions.PrintFlags
}

func newCreate(e environment) *cobra.Command {
	c := &creator{environment: e, print: genericclioptions.NewPrintFlags("created")}
	command := &cobra.Command{
		Use:     "create NAME (--url URL[=WEIGHT]... [--host HOST]... | --pass-through --host HOST...)",
		Short:   "Create an ExternalRoute",
		Long:    createLong,
		Example: createExample,
		Args: func(cmd *cobra.Command, args []string) error {
			if strings.HasPrefix(c.dryRun, "-") { // the flag has swallowed the next one, whose value counts as an argument
				return usage{fmt.Errorf("--dry-run %q: write --dry-run=client or --dry-run=server", c.dryRun)}
			}
			if err := cobra.ExactArgs(1)(cmd, args); err != nil {
				return usage{errors.New("exactly one NAME is required")}
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args[0]) },
	}
	flags := command.Flags()
	flags.StringArrayVar(&c.urls, "url", nil, "address of a destination, such as https://api.example.com/v1. URL=WEIGHT gives it a share of the traffic.")
	flags.StringArrayVar(&c.hosts, "host", nil, "name that workloads call. Defaults to NAME.")
	flags.Int32Var(&c.port, "port", 0, "port on which workloads call the hosts. Defaults to 80, to that of the URL for TCP, and to 443 with --pass-through.")
	flags.BoolVar(&c.passThrough, "pass-through", false, "let workloads call the hosts over TLS that they originate themselves")
	flags.StringVar(&c.timeout, "timeout", "", "timeout of requests, retries included, such as 15s")
	flags.StringVar(&c.egressGateway, "egress-gateway", "", "NAMESPACE/NAME of the Service of an egress gateway")
	flags.StringVar(&c.waypoint, "waypoint", "", "NAMESPACE/NAME of the Gateway of a waypoint, for pods in ambient mode")
	flags.StringVar(&c.clusterDomain, "cluster-domain", translate.DefaultClusterDomain, "the cluster's DNS domain")
	flags.StringVar(&c.dryRun, "dry-run", dryRunNone, "none, client (print the route without sending it) or server (send it without storing it)")
	c.print.AddFlags(command)
	for flag, values := range map[string][]string{"dry-run": dryRuns, "output": c.print.AllowedFormats()} {
		if err := command.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
			panic(err) // the flags are defined above
		}
	}
	return command
}

func (c *creator) run(ctx context.Context, name string) error {
	if err := c.check(); err != nil {
		return usage{err}
	}
	switch c.dryRun {
	case dryRunClient:
		_ = c.print.Complete("%s (dry run)") // never fails
	case dryRunServer:
		_ = c.print.Complete("%s (server dry run)")
	}
	printer, err := c.print.ToPrinter()
	if err != nil {
		return usage{err}
	}
	route, err := c.route(name)
	if err != nil {
		return usage{err}
	}
	namespace, named, err := c.config.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return err
	}
	if named {
		route.SetNamespace(namespace)
	}
	if err := c.judge(ctx, route, namespace); err != nil {
		return err
	}
	if c.dryRun != dryRunClient {
		if route, err = c.create(ctx, route, namespace); err != nil {
			return err
		}
	}
	return printer.PrintObj(route, c.Out)
}

func (c *creator) check() error {
	switch {
	case !slices.Contains(dryRuns, c.dryRun):
		return fmt.Errorf("--dry-run %q: must be one of %s", c.dryRun, strings.Join(dryRuns, ", "))
	case len(c.urls) > 0 && c.passThrough:
		return errors.New("--pass-through excludes --url: such a route has no destinations")
	case len(c.urls) == 0 && !c.passThrough:
		return errors.New("one of --url and --pass-through is required")
	case c.passThrough && len(c.hosts) == 0:
		return errors.New("--pass-through needs --host: name the external hosts")
	}
	return checkClusterDomain(c.clusterDomain)
}

// route is what the flags ask for. It has no defaults.
func (c *creator) route(name string) (*unstructured.Unstructured, error) {
	route := &v1alpha1.ExternalRoute{}
	route.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind(routeKind.Kind))
	route.Name = name
	route.Spec.Port, route.Spec.Timeout = c.port, v1alpha1.Duration(c.timeout)
	for _, host := range c.hosts {
		route.Spec.Hosts = append(route.Spec.Hosts, v1alpha1.RouteHost(host))
	}
	if len(c.hosts) == 0 {
		route.Spec.Hosts = []v1alpha1.RouteHost{v1alpha1.RouteHost(name)}
	}
	for i, address := range c.urls {
		destination, err := destinationOf(address, len(c.urls) == 1)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			destination.Name = fmt.Sprintf("destination-%d", i+1)
		}
		route.Spec.Destinations = append(route.Spec.Destinations, destination)
	}
	var err error
	if route.Spec.EgressGateway, err = referenceTo("--egress-gateway", c.egressGateway); err != nil {
		return nil, err
	}
	if route.Spec.Waypoint, err = referenceTo("--waypoint", c.waypoint); err != nil {
		return nil, err
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(route)
	if err != nil {
		return nil, err
	}
	delete(content, "status")
	return &unstructured.Unstructured{Object: content}, nil
}

// destinationOf reads URL or URL=WEIGHT. Only digits at the end are a weight, and not those of the path of a single destination, which needs no weight.
func destinationOf(address string, single bool) (destination v1alpha1.Destination, err error) {
	destination.URL = v1alpha1.URL(address)
	i := strings.LastIndex(address, "=")
	if i < 0 || i == len(address)-1 || strings.Trim(address[i+1:], "0123456789") != "" || single && hasPath(address) {
		return destination, nil
	}
	weight, err := strconv.ParseInt(address[i+1:], 10, 32)
	if err != nil {
		return destination, fmt.Errorf("--url %q: the weight must be 0 to 1000000", address)
	}
	destination.URL, destination.Weight = v1alpha1.URL(address[:i]), new(int32(weight))
	return destination, nil
}

// hasPath reports whether anything follows the host of a URL.
func hasPath(address string) bool {
	_, rest, _ := strings.Cut(address, "://")
	return strings.ContainsAny(rest, "/?")
}

func referenceTo(flag, value string) (*v1alpha1.GatewayReference, error) {
	if value == "" {
		return nil, nil
	}
	namespace, name, found := strings.Cut(value, "/")
	if !found || namespace == "" || name == "" || strings.Contains(name, "/") {
		return nil, fmt.Errorf("%s %q: must be NAMESPACE/NAME", flag, value)
	}
	return &v1alpha1.GatewayReference{Namespace: v1alpha1.DNSLabel(namespace), Name: v1alpha1.DNSLabel(name)}, nil
}

// judge judges a route as far as that needs no cluster. What it does not know of the cluster is taken to be as the route needs it.
func (c *creator) judge(ctx context.Context, created *unstructured.Unstructured, namespace string) error {
	m := manifest{Unstructured: created.DeepCopy()}
	m.SetNamespace(namespace)
	w, err := newWorld(nil, c.clusterDomain)
	if err != nil {
		return err
	}
	route, refusal := w.admit(ctx, m)
	if refusal == nil {
		_, refusal = w.translate(route)
	}
	if refusal == nil || refusal.Reason == v1alpha1.ReasonGatewayNotUsable { // only the cluster has the gateway
		return nil
	}
	return refused(m, refusal)
}

// create sends the route with the user's own rights.
func (c *creator) create(ctx context.Context, route *unstructured.Unstructured, namespace string) (*unstructured.Unstructured, error) {
	if err := c.checkConfig(); err != nil {
		return nil, err
	}
	config, err := c.config.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	config.WarningHandler = rest.NewWarningWriter(c.ErrOut, rest.WarningWriterOptions{})
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	options := metav1.CreateOptions{FieldManager: "kubectl-create", FieldValidation: metav1.FieldValidationStrict}
	if c.dryRun == dryRunServer {
		options.DryRun = []string{metav1.DryRunAll}
	}
	routes := v1alpha1.SchemeGroupVersion.WithResource("externalroutes")
	created, err := client.Resource(routes).Namespace(namespace).Create(ctx, route, options)
	if apierrors.IsNotFound(err) && !isNamed(err) {
		return nil, fmt.Errorf("the cluster serves no externalroutes.%s: install ExternalRoute in it (%w)", v1alpha1.SchemeGroupVersion.Group, err)
	}
	return created, err
}

// isNamed reports whether an answer of the API server is about an object, such as a namespace that does not exist, and not about the whole resource.
func isNamed(err error) bool {
	var answer apierrors.APIStatus
	return errors.As(err, &answer) && answer.Status().Details != nil && answer.Status().Details.Name != ""
}
