package cli

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/resource"
)

// fromCluster is the source of objects that the API server returned.
const fromCluster = "cluster"

// chunk is how many objects one answer of the API server holds, as in kubectl.
const chunk = 500

// resources are those that decide about a route. What the cluster does not serve has no objects.
var resources = []string{
	routeResource,
	policyResource,
	namespaceResource,
	serviceResource,
	generatedResources["ServiceEntry"],
	generatedResources["DestinationRule"],
	generatedResources["VirtualService"],
	generatedResources["Gateway"],
	"httproutes.gateway.networking.k8s.io",
	"grpcroutes.gateway.networking.k8s.io",
	waypointResource,
	"xbackends.gateway.networking.x-k8s.io",
}

const (
	routeResource     = "externalroutes.networking.externalroute.io"
	policyResource    = "externalroutepolicies.networking.externalroute.io"
	namespaceResource = "namespaces"
	serviceResource   = "services"
	// A waypoint is a Gateway of the Gateway API.
	waypointResource = "gateways.gateway.networking.k8s.io"
)

// generatedResources are those of the generated objects, by kind.
var generatedResources = map[string]string{
	"Service":         serviceResource,
	"ServiceEntry":    "serviceentries.networking.istio.io",
	"DestinationRule": "destinationrules.networking.istio.io",
	"VirtualService":  "virtualservices.networking.istio.io",
	"Gateway":         "gateways.networking.istio.io",
}

// gap is what the commands did not see of the cluster.
type gap struct {
	resource string
	// readIn are the namespaces of which the objects were read.
	readIn []string
	err    error
}

// covers reports whether the objects of a resource in a namespace are among what was not read.
func (g gap) covers(resource, namespace string) bool {
	return g.resource == resource && !slices.Contains(g.readIn, namespace)
}

// unreadIn reports whether the objects of a resource in a namespace were not read.
func unreadIn(gaps []gap, resource, namespace string) bool {
	return slices.ContainsFunc(gaps, func(g gap) bool { return g.covers(resource, namespace) })
}

// warn says what was not read. A user of one namespace lacks many resources of the others, in one line.
func (i *input) warn(gaps []gap) {
	elsewhere := map[string][]string{}
	for _, g := range gaps {
		if len(g.readIn) == 0 {
			fmt.Fprintf(i.ErrOut, "warning: %s were not read: %v\n", g.resource, g.err)
			continue
		}
		readIn := strings.Join(g.readIn, ", ")
		elsewhere[readIn] = append(elsewhere[readIn], g.resource)
	}
	for _, readIn := range slices.Sorted(maps.Keys(elsewhere)) {
		fmt.Fprintf(i.ErrOut, "warning: %s of other namespaces were not read: you may list them in namespace %s only\n",
			strings.Join(elsewhere[readIn], ", "), readIn)
	}
}

// readCluster reads everything that decides about routes, with the user's own rights. What the user may not list in all namespaces is listed in those
// that the command is about.
func (i *input) readCluster() (manifests []manifest, gaps []gap, err error) {
	if err := i.checkCluster(); err != nil {
		return nil, nil, err
	}
	for _, name := range resources {
		served, err := i.serves(name)
		switch {
		case err != nil:
			return nil, nil, err
		case !served:
			continue
		}
		found, gap, err := i.list(name)
		if err != nil {
			return nil, nil, fmt.Errorf("list %s: %w", name, err)
		}
		manifests = append(manifests, found...)
		if gap != nil {
			gaps = append(gaps, *gap)
		}
	}
	return manifests, gaps, nil
}

var (
	errNotInstalled = errors.New("the cluster serves no " + routeResource + ": install ExternalRoute in it, or read files with -f or -k")
	errNoCluster    = errors.New("no kubeconfig names a cluster: set KUBECONFIG or --kubeconfig, or read files with -f or -k")
)

// checkConfig finds out whether the flags and the kubeconfig name a cluster. Without any, client-go asks localhost:8080.
func (e environment) checkConfig() error {
	raw, err := e.config.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return err
	}
	inPod := os.Getenv("KUBERNETES_SERVICE_HOST") != ""
	if len(raw.Clusters) == 0 && *e.config.APIServer == "" && !inPod {
		return errNoCluster
	}
	return nil
}

// checkCluster finds out whether there is a cluster, and whether it has routes.
func (i *input) checkCluster() error {
	if err := i.checkConfig(); err != nil {
		return err
	}
	served, err := i.serves(routeResource)
	if err == nil && !served {
		return errNotInstalled
	}
	return err
}

// serves reports whether the cluster has a resource, written as in kubectl get.
func (i *input) serves(name string) (bool, error) {
	mapper, err := i.config.ToRESTMapper()
	if err != nil {
		return false, err
	}
	_, err = mapper.ResourceFor(schema.ParseGroupResource(name).WithVersion(""))
	if meta.IsNoMatchError(err) {
		return false, nil
	}
	return err == nil, err
}

// list lists a resource in all namespaces, or as far as the user may. Routes of one namespace are the least that a command needs.
func (i *input) list(name string) ([]manifest, *gap, error) {
	all, err := i.get(name, true)
	if !apierrors.IsForbidden(err) {
		return all, nil, err
	}
	missing := &gap{resource: name, err: err}
	for _, namespace := range i.namespaces() {
		found, err := i.listIn(namespace, name)
		if apierrors.IsForbidden(err) {
			missing.err = err
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		all, missing.readIn = append(all, found...), append(missing.readIn, namespace)
	}
	if name == routeResource && len(missing.readIn) == 0 {
		return nil, nil, missing.err
	}
	return all, missing, nil
}

// namespaces are those that the command is about.
func (i *input) namespaces() []string {
	if len(i.reads) == 0 {
		return []string{i.namespace}
	}
	return i.reads
}

// listIn lists a resource in a namespace. A user of one namespace may get that.
func (i *input) listIn(namespace, name string) ([]manifest, error) {
	if name != namespaceResource {
		return i.getIn(namespace, name)
	}
	found, err := i.getIn(namespace, name, namespace)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return found, err
}

// checkRoutes refuses to judge without the routes of the namespaces.
func (i *input) checkRoutes(namespaces ...string) error {
	for _, namespace := range namespaces {
		if unreadIn(i.gaps, routeResource, namespace) {
			return fmt.Errorf("the routes of namespace %s were not read: get the right to list %s there", namespace, routeResource)
		}
	}
	return nil
}

// get gets all objects of a resource, in the namespace or in every one.
func (i *input) get(name string, everywhere bool) ([]manifest, error) {
	if everywhere {
		return i.getIn("", name)
	}
	return i.getIn(i.namespace, name)
}

// getIn gets the named objects of a resource, or all without names, in a namespace, or in all if it is empty.
func (i *input) getIn(namespace, name string, names ...string) ([]manifest, error) {
	result := resource.NewBuilder(i.config).
		Unstructured().
		NamespaceParam(namespace).DefaultNamespace().AllNamespaces(namespace == "").
		ResourceTypeOrNameArgs(true, append([]string{name}, names...)...).
		RequestChunksOf(chunk).
		Latest().
		Flatten().
		Do()
	infos, err := result.Infos()
	if err != nil {
		return nil, err
	}
	manifests := make([]manifest, len(infos))
	for n, info := range infos {
		object, ok := info.Object.(*unstructured.Unstructured)
		if !ok {
			return nil, fmt.Errorf("%s: %T is no object", info.Name, info.Object)
		}
		manifests[n] = manifest{Unstructured: object, position: position{source: fromCluster}}
	}
	return manifests, nil
}

var errNoInput = errors.New("one of -f and -k is required")

// resolve reads the flags of the cluster. A kubeconfig that cannot be read is no error for files.
func (i *input) resolve() error {
	namespace, named, err := i.config.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		if !i.local() {
			return err
		}
		namespace, named = cmp.Or(*i.config.Namespace, metav1.NamespaceDefault), *i.config.Namespace != ""
	}
	i.namespace, i.named = namespace, named
	return nil
}

// local reports whether the input is files, not a cluster.
func (i *input) local() bool { return len(i.files.Filenames) > 0 || i.files.Kustomize != "" }

// completeRoutes completes the names of routes of the cluster that are not among the arguments yet.
func (i *input) completeRoutes(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if i.local() || i.resolve() != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return i.completions(routeResource, args)
}

// completeNamespaces completes -n.
func completeNamespaces(e environment) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return (&input{environment: e}).completions(namespaceResource, nil)
	}
}

// completions are the names of all objects of a resource, but some. What cannot be read completes nothing.
func (i *input) completions(resource string, but []string) (names []cobra.Completion, directive cobra.ShellCompDirective) {
	found, err := i.get(resource, i.everywhere)
	if err != nil {
		cobra.CompDebugln(err.Error(), false)
	}
	for _, m := range found {
		if !slices.Contains(but, m.GetName()) {
			names = append(names, m.GetName())
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
