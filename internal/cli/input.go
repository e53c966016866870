package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/resource"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

var (
	routeKind     = v1alpha1.SchemeGroupVersion.WithKind("ExternalRoute").GroupKind()
	policyKind    = v1alpha1.SchemeGroupVersion.WithKind("ExternalRoutePolicy").GroupKind()
	namespaceKind = corev1.SchemeGroupVersion.WithKind("Namespace").GroupKind()
)

// stdin is the source of what standard input holds.
const stdin = "stdin"

// input is what the commands read: files, folders, kustomizations and standard input, with routes and with facts about the cluster.
type input struct {
	environment
	files         resource.FilenameOptions
	namespace     string
	clusterDomain string
}

// manifest is an object of the input, and where it is.
type manifest struct {
	*unstructured.Unstructured
	position
}

func (i *input) addFlags(command *cobra.Command) {
	flags := command.Flags()
	i.addFiles(flags)
	flags.StringVar(&i.clusterDomain, "cluster-domain", translate.DefaultClusterDomain, "the cluster's DNS domain")
	command.PreRunE = func(*cobra.Command, []string) error {
		if !i.local() {
			return usage{errNoInput}
		}
		if i.files.Kustomize != "" && (len(i.files.Filenames) > 0 || i.files.Recursive) {
			return usage{errors.New("-k excludes -f and -R")}
		}
		return i.resolve()
	}
}

func (i *input) addFiles(flags *pflag.FlagSet) {
	flags.StringSliceVarP(&i.files.Filenames, "filename", "f", nil, "file, folder or - (standard input) with ExternalRoutes")
	flags.StringVarP(&i.files.Kustomize, "kustomize", "k", "", "folder with a kustomization")
	flags.BoolVarP(&i.files.Recursive, "recursive", "R", false, "go into the folders of a folder")
}

// read reads all objects of the input.
func (i *input) read() ([]manifest, error) {
	builder := resource.NewLocalBuilder().
		Unstructured().
		ContinueOnError().
		NamespaceParam(i.namespace).DefaultNamespace().
		Flatten()
	places := positions{}
	files := i.files
	if files.Filenames = slices.DeleteFunc(slices.Clone(files.Filenames), func(f string) bool { return f == "-" }); len(files.Filenames) < len(i.files.Filenames) {
		text, err := io.ReadAll(i.In)
		if err != nil {
			return nil, err
		}
		places.index(stdin, text)
		builder.Stream(bytes.NewReader(text), stdin)
	}
	if len(files.Filenames) > 0 || files.Kustomize != "" {
		builder.FilenameParam(false, &files)
	}
	infos, err := builder.Do().Infos()
	if err != nil {
		return nil, err
	}
	var manifests []manifest
	for _, info := range infos {
		object, ok := info.Object.(*unstructured.Unstructured)
		if !ok {
			return nil, fmt.Errorf("%s: %T is no manifest", info.Source, info.Object)
		}
		if !places.indexed(info.Source) { // a URL or a kustomization has no lines
			text, _ := os.ReadFile(info.Source)
			places.index(info.Source, text)
		}
		found := manifest{Unstructured: object, position: places.take(info.Source, object)}
		if object.GetNamespace() == "" && !clusterScoped(object.GroupVersionKind().GroupKind()) {
			object.SetNamespace(i.namespace)
		}
		manifests = append(manifests, found)
	}
	return manifests, nil
}

// clusterScoped reports whether objects of a kind that the commands judge have no namespace.
func clusterScoped(kind schema.GroupKind) bool { return kind == policyKind || kind == namespaceKind }

// ofKind are the manifests of a kind, whatever their version.
func ofKind(manifests []manifest, kind schema.GroupKind) []manifest {
	return slices.DeleteFunc(slices.Clone(manifests), func(m manifest) bool { return m.GroupVersionKind().GroupKind() != kind })
}
