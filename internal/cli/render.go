package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/cli-runtime/pkg/resource"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/admission"
	"github.com/externalroute/externalroute/internal/policy"
	"github.com/externalroute/externalroute/internal/translate"
)

const renderLong = `Print the Istio objects that ExternalRoutes become, as YAML, in the order in which they are applied.

No cluster is asked: the manifest is judged by the same rules as at the API server, and translated by the same function as in the operator.
Services in the same input count as existing in the cluster; every other alias gets a Service. ConfigMaps and waypoints are taken to exist. A Namespace in
the input gives its labels. ExternalRoutePolicies in the input limit the routes and set their egress gateway; without any, every route is allowed. Owner
references, which only a cluster can give, are left out.

Exits with 1 when a route is refused, after naming the fields; the other routes are printed all the same.`

const renderExample = `  # what one manifest becomes
  kubectl externalroute render -f route.yaml

  # what a pull request changes, folder by folder
  kubectl externalroute render -f routes/ > rendered.yaml`

// render is the render command with its flags.
type render struct {
	genericiooptions.IOStreams
	files         resource.FilenameOptions
	namespace     string
	clusterDomain string
}

func newRender(streams genericiooptions.IOStreams) *cobra.Command {
	r := &render{IOStreams: streams}
	command := &cobra.Command{
		Use:     "render -f FILE|DIR|-",
		Short:   "Print the Istio objects that ExternalRoutes become",
		Long:    renderLong,
		Example: renderExample,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return r.run(cmd.Context()) },
	}
	flags := command.Flags()
	flags.StringSliceVarP(&r.files.Filenames, "filename", "f", nil, "file, folder or - (standard input) with ExternalRoutes")
	flags.BoolVarP(&r.files.Recursive, "recursive", "R", false, "go into the folders of a folder")
	flags.StringVarP(&r.namespace, "namespace", "n", "default", "namespace of manifests that name none")
	flags.StringVar(&r.clusterDomain, "cluster-domain", translate.DefaultClusterDomain, "the cluster's DNS domain")
	if err := command.MarkFlagRequired("filename"); err != nil {
		panic(err) // the flag is defined above
	}
	return command
}

func (r *render) run(ctx context.Context) error {
	judge, err := admission.New()
	if err != nil {
		return err
	}
	manifests, err := r.read()
	if err != nil {
		return err
	}
	services, err := servicesOf(manifests)
	if err != nil {
		return err
	}
	policies, err := policiesOf(manifests)
	if err != nil {
		return err
	}
	var mistakes []error
	found := false
	printer := &printers.YAMLPrinter{}
	for _, manifest := range manifests {
		if manifest.GroupVersionKind().GroupKind() != v1alpha1.SchemeGroupVersion.WithKind("ExternalRoute").GroupKind() {
			continue
		}
		found = true
		mesh := translate.Mesh{ClusterDomain: r.clusterDomain, Services: services, NamespaceLabels: namespaceLabels(manifests, manifest.GetNamespace())}
		objects, err := r.translate(ctx, judge, policies, manifest, mesh)
		if err != nil {
			mistakes = append(mistakes, err)
			continue
		}
		if err := printObjects(printer, objects, r.Out); err != nil {
			return err
		}
	}
	if !found {
		return errors.New("the input holds no ExternalRoute")
	}
	return errors.Join(mistakes...)
}

// read reads all objects of the input.
func (r *render) read() ([]*unstructured.Unstructured, error) {
	builder := resource.NewLocalBuilder().
		Unstructured().
		ContinueOnError().
		NamespaceParam(r.namespace).DefaultNamespace().
		Flatten()
	files := r.files
	if files.Filenames = slices.DeleteFunc(slices.Clone(files.Filenames), func(f string) bool { return f == "-" }); len(files.Filenames) < len(r.files.Filenames) {
		builder.Stream(r.In, "standard input")
	}
	if len(files.Filenames) > 0 {
		builder.FilenameParam(false, &files)
	}
	infos, err := builder.Do().Infos()
	if err != nil {
		return nil, err
	}
	var manifests []*unstructured.Unstructured
	for _, info := range infos {
		manifest, ok := info.Object.(*unstructured.Unstructured)
		if !ok {
			return nil, fmt.Errorf("%s: %T is no manifest", info.Source, info.Object)
		}
		if manifest.GetNamespace() == "" {
			manifest.SetNamespace(r.namespace)
		}
		manifests = append(manifests, manifest)
	}
	return manifests, nil
}

// servicesOf are the Services of the input.
func servicesOf(manifests []*unstructured.Unstructured) (map[types.NamespacedName]translate.Service, error) {
	services := map[types.NamespacedName]translate.Service{}
	for _, manifest := range manifests {
		if manifest.GroupVersionKind() != corev1.SchemeGroupVersion.WithKind("Service") {
			continue
		}
		service := &corev1.Service{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(manifest.Object, service); err != nil {
			return nil, fmt.Errorf("read Service %s: %w", manifest.GetName(), err)
		}
		services[types.NamespacedName{Namespace: manifest.GetNamespace(), Name: manifest.GetName()}] = translate.ServiceFacts(service, nil)
	}
	return services, nil
}

// policiesOf are the ExternalRoutePolicies of the input.
func policiesOf(manifests []*unstructured.Unstructured) (*policy.Policies, error) {
	policies := &policy.Policies{}
	for _, manifest := range manifests {
		if manifest.GroupVersionKind() != v1alpha1.SchemeGroupVersion.WithKind("ExternalRoutePolicy") {
			continue
		}
		one := &v1alpha1.ExternalRoutePolicy{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(manifest.Object, one); err != nil {
			return nil, fmt.Errorf("read ExternalRoutePolicy %s: %w", manifest.GetName(), err)
		}
		policies.Put(one)
	}
	return policies, nil
}

// namespaceLabels are those of a namespace of the input, nil if it is not there.
func namespaceLabels(manifests []*unstructured.Unstructured, name string) map[string]string {
	for _, manifest := range manifests {
		if manifest.GroupVersionKind() == corev1.SchemeGroupVersion.WithKind("Namespace") && manifest.GetName() == name {
			labels := maps.Clone(manifest.GetLabels())
			if labels == nil {
				labels = map[string]string{}
			}
			labels[corev1.LabelMetadataName] = name // as the API server does
			return labels
		}
	}
	return nil
}

func (r *render) translate(
	ctx context.Context, judge *admission.Admission, policies *policy.Policies, manifest *unstructured.Unstructured, mesh translate.Mesh,
) (translate.Objects, error) {
	name := manifest.GetNamespace() + "/" + manifest.GetName()
	if got, served := manifest.GetAPIVersion(), v1alpha1.SchemeGroupVersion.String(); got != served {
		return nil, refused(name, v1alpha1.ReasonInvalid, field.ErrorList{field.NotSupported(field.NewPath("apiVersion"), got, []string{served})})
	}
	route, problems := judge.Admit(ctx, manifest)
	if len(problems) > 0 {
		return nil, refused(name, v1alpha1.ReasonInvalid, problems)
	}
	if policies.Len() > 0 {
		scope := policies.For(route.Namespace, mesh.NamespaceLabels)
		route, mesh.RoadPolicies = scope.Lead(route)
		if denied := scope.Judge(route, policy.Allow); denied != nil {
			return nil, refused(name, denied.Reason, denied.Problems)
		}
	}
	if route.Spec.ServiceCreationPolicy == v1alpha1.ServiceCreationNever {
		mesh.Services = withAliases(route, mesh.Services)
	}
	translation, refusal := translate.Translate(route, mesh)
	if refusal != nil {
		return nil, refused(name, refusal.Reason, refusal.Problems)
	}
	return translation.Objects, nil
}

// refused lists each problem on its own line.
func refused(name, reason string, problems field.ErrorList) error {
	lines := []string{fmt.Sprintf("ExternalRoute %s is refused (%s):", name, reason)}
	for _, problem := range problems {
		lines = append(lines, "  "+translate.Text(problem))
	}
	return errors.New(strings.Join(lines, "\n"))
}

// withAliases assumes that Services exist if the route may not create them.
func withAliases(route *v1alpha1.ExternalRoute, services map[types.NamespacedName]translate.Service) map[types.NamespacedName]translate.Service {
	all := map[types.NamespacedName]translate.Service{}
	for _, key := range translate.ReferencesOf(route).Aliases {
		all[key] = translate.Service{
			Ports: []corev1.ServicePort{{Name: "http", Port: translate.PortOf(route)}}, WaypointLabels: translate.ServiceLabels(route),
		}
	}
	maps.Copy(all, services)
	return all
}

func printObjects(printer printers.ResourcePrinter, objects translate.Objects, out io.Writer) error {
	for _, object := range objects {
		manifest, err := translate.Manifest(object)
		if err != nil {
			return err
		}
		if err := printer.PrintObj(manifest, out); err != nil {
			return err
		}
	}
	return nil
}
