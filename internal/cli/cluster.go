package cli

import (
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/resource"
)

// fromCluster is the source of objects that the API server returned.
const fromCluster = "cluster"

// chunk is how many objects one answer of the API server holds, as in kubectl.
const chunk = 500

// resources are those that decide about a route, and whether a cluster may lack them.
var resources = []struct {
	name     string
	optional bool
}{
	{name: "externalroutes.networking.externalroute.io"},
	{name: "externalroutepolicies.networking.externalroute.io"},
	{name: "namespaces"},
	{name: "services"},
	{name: "serviceentries.networking.istio.io"},
	{name: "destinationrules.networking.istio.io"},
	{name: "virtualservices.networking.istio.io"},
	{name: "gateways.networking.istio.io"},
	{name: "httproutes.gateway.networking.k8s.io", optional: true},
}

// gap is what the commands did not see of the cluster.
type gap struct {
	resource string
	// elsewhere says that the objects of one namespace were read.
	elsewhere bool
	err       error
}

func (g gap) String() string {
	where := ""
	if g.elsewhere {
		where = " of other namespaces"
	}
	return fmt.Sprintf("%s%s were not read: %v", g.resource, where, g.err)
}

// readCluster reads everything that decides about routes, with the user's own rights. What the user may not list in all namespaces is listed in one.
func (i *input) readCluster() (manifests []manifest, gaps []gap, err error) {
	for _, r := range resources {
		found, gap, err := i.list(r.name)
		switch {
		case meta.IsNoMatchError(err) && r.optional:
		case err != nil:
			return nil, nil, fmt.Errorf("list %s: %w", r.name, err)
		}
		manifests = append(manifests, found...)
		if gap != nil {
			gaps = append(gaps, *gap)
		}
	}
	return manifests, gaps, nil
}

// list lists a resource in all namespaces, or as far as the user may.
func (i *input) list(name string) ([]manifest, *gap, error) {
	found, err := i.get(name, true)
	if !apierrors.IsForbidden(err) {
		return found, nil, err
	}
	missing := &gap{resource: name, err: err}
	if found, err = i.get(name, false); apierrors.IsForbidden(err) {
		return nil, missing, nil
	}
	missing.elsewhere = true
	return found, missing, err
}

// get gets the named objects of a resource, or all without names, in the namespace or in every one.
func (i *input) get(name string, everywhere bool, names ...string) ([]manifest, error) {
	result := resource.NewBuilder(i.config).
		Unstructured().
		NamespaceParam(i.namespace).DefaultNamespace().AllNamespaces(everywhere).
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
	namespace, _, err := i.config.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		if !i.local() {
			return err
		}
		namespace = "default"
	}
	i.namespace = namespace
	return nil
}

// local reports whether the input is files, not a cluster.
func (i *input) local() bool { return len(i.files.Filenames) > 0 || i.files.Kustomize != "" }
