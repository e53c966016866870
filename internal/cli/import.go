package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/cli-runtime/pkg/resource"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/conflict"
	"github.com/externalroute/externalroute/internal/importer"
	"github.com/externalroute/externalroute/internal/translate"
)

const importLong = `Write the ExternalRoutes that do what ServiceEntries, VirtualServices and DestinationRules written by hand do.

Without files, the objects are those of the cluster in the current namespace. Services count as existing.

Standard output has the routes, ready for kubectl apply. Standard error has the proof: each route is translated by the operator's own function, and compared
with the old objects in what they mean. The report justifies every difference, and marks with DECIDE those that change what some requests do. An object that
a route cannot express stays, with the reason.

--adopt hands the old objects over to the routes, which it does not print again. With files, it prints the old manifests, with the annotation
networking.externalroute.io/adopt. In a cluster it sets the annotation, with your rights, and prints what it has annotated. The operator then moves the
traffic without losing a request, takes the VirtualService over, and deletes the old ServiceEntries and DestinationRules. Nothing is handed over that an
object of the input still needs.

Exits with 1 when an object stays; the routes are printed all the same. Exits with 2 for wrong flags.`

const importExample = `  # write the routes, and read the report
  kubectl externalroute import -f istio/ > routes.yaml

  # create them, and hand the old objects over
  kubectl apply -f routes.yaml
  kubectl externalroute import -f istio/ --adopt | kubectl apply -f -

  # the same in a namespace of the cluster
  kubectl externalroute import -n shop > routes.yaml
  kubectl apply -f routes.yaml
  kubectl externalroute import -n shop --adopt`

// importCommand is the import command with its flags.
type importCommand struct {
	input
	adopt  bool
	output string
}

func newImport(e environment) *cobra.Command {
	i := &importCommand{input: input{environment: e}}
	command := &cobra.Command{
		Use:     "import [-f FILE|DIR|- | -k DIR]",
		Short:   "Write the ExternalRoutes that do what Istio objects written by hand do",
		Long:    importLong,
		Example: importExample,
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return i.run(cmd.Context()) },
	}
	flags := command.Flags()
	i.addFiles(flags)
	flags.Lookup("filename").Usage = "file, folder or - (standard input) with objects of Istio and Services"
	flags.StringVar(&i.clusterDomain, "cluster-domain", translate.DefaultClusterDomain, "the cluster's DNS domain")
	flags.BoolVar(&i.adopt, "adopt", false, "hand the old objects over to the routes")
	flags.StringVarP(&i.output, "output", "o", "yaml", "what standard output has: yaml (the routes) or report")
	command.PreRunE = func(*cobra.Command, []string) error {
		switch {
		case i.output != "yaml" && i.output != "report":
			return usage{fmt.Errorf("--output %q: must be yaml or report", i.output)}
		case i.output == "report" && i.adopt:
			return usage{errors.New("--adopt excludes -o report")}
		}
		return i.prepare()
	}
	if err := command.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"yaml", "report"}, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is defined above
	}
	return command
}

func (i *importCommand) run(ctx context.Context) error {
	manifests, err := i.old()
	if err != nil {
		return err
	}
	judge, err := routeJudge()
	if err != nil {
		return err
	}
	objects, unread := typedObjects(manifests)
	if len(objects)+len(unread) == 0 {
		where := "the input"
		if !i.local() {
			where = "namespace " + i.namespace
		}
		return fmt.Errorf("%s holds no ServiceEntry, VirtualService or DestinationRule of yours", where)
	}
	result := importer.Import(objects, importer.Options{
		ClusterDomain: i.clusterDomain, Unread: unread, Working: working(manifests),
		Admit: func(route *v1alpha1.ExternalRoute) (*v1alpha1.ExternalRoute, field.ErrorList) {
			object, err := manifestOf(route)
			if err != nil {
				return nil, field.ErrorList{field.InternalError(nil, err)}
			}
			return judge.Admit(ctx, object)
		},
	})
	report := i.ErrOut
	if i.output == "report" {
		report = i.Out
	}
	if _, err := io.WriteString(report, result.Report()); err != nil {
		return err
	}
	if err := i.write(ctx, result, manifests); err != nil {
		return err
	}
	if n := len(result.Stays); n > 0 {
		return fmt.Errorf("objects that stay: %d", n)
	}
	return nil
}

// old reads the objects written by hand, from files or from one namespace of a cluster.
func (i *importCommand) old() (manifests []manifest, err error) {
	if i.local() {
		return i.readFiles()
	}
	if err := i.checkConfig(); err != nil {
		return nil, err
	}
	for _, name := range []string{
		"services", "serviceentries." + istioGroup, "destinationrules." + istioGroup, "virtualservices." + istioGroup, "gateways." + istioGroup,
	} {
		found, err := i.get(name, false)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", name, err)
		}
		manifests = append(manifests, found...)
	}
	return manifests, nil
}

const istioGroup = "networking.istio.io"

// typedObjects are the objects that a route can replace, and its facts. Those that cannot be read as a whole, and other kinds of Istio's, stay.
func typedObjects(manifests []manifest) (objects []translate.Object, unread []importer.Unread) {
	stay := func(m manifest, reason string) {
		hosts, _, _ := unstructured.NestedStringSlice(m.Object, "spec", "hosts")
		if host, _, _ := unstructured.NestedString(m.Object, "spec", "host"); host != "" {
			hosts = []string{host}
		}
		if m.GetKind() == translate.VirtualServiceKind.GVK.Kind {
			hosts = nil // what it refers to counts, too
		}
		unread = append(unread, importer.Unread{Stay: importer.Stay{Key: keyOf(m), Reasons: []string{reason}}, Hosts: hosts})
	}
	for _, m := range manifests {
		group := m.GroupVersionKind().Group
		kind, found := translate.KindNamed(m.GetKind())
		switch {
		case conflict.IsRoute(metav1.GetControllerOf(m)):
		case found && kind.GVK.Group == group:
			object := kind.New()
			raw, err := m.MarshalJSON()
			if err == nil {
				err = json.Unmarshal(raw, object)
			}
			if err == nil {
				err = checkWhole(m, object)
			}
			if err != nil {
				stay(m, err.Error())
				continue
			}
			objects = append(objects, object)
		case group == istioGroup:
			stay(m, "its kind has no counterpart in an ExternalRoute")
		}
	}
	return objects, unread
}

// working are the routes that have a VirtualService.
func working(manifests []manifest) map[types.NamespacedName]bool {
	found := map[types.NamespacedName]bool{}
	for _, m := range ofKind(manifests, translate.VirtualServiceKind.GVK.GroupKind()) {
		if owner := metav1.GetControllerOf(m); conflict.IsRoute(owner) {
			found[types.NamespacedName{Namespace: m.GetNamespace(), Name: owner.Name}] = true
		}
	}
	return found
}

func keyOf(m manifest) translate.Key {
	return translate.Key{Kind: m.GetKind(), NamespacedName: types.NamespacedName{Namespace: m.GetNamespace(), Name: m.GetName()}}
}

// protobufPlace is how an error of protobuf begins, with spaces that vary on purpose, and a place in JSON that nobody has written.
var protobufPlace = regexp.MustCompile(`^proto:[\s\x{a0}]*(\(line \d+:\d+\):)?[\s\x{a0}]*`)

// checkWhole finds fields that this program does not know, and would drop.
func checkWhole(m manifest, object translate.Object) error {
	var into proto.Message
	switch o := object.(type) {
	case *networkingv1.ServiceEntry:
		into = proto.Clone(&o.Spec)
	case *networkingv1.DestinationRule:
		into = proto.Clone(&o.Spec)
	case *networkingv1.VirtualService:
		into = proto.Clone(&o.Spec)
	case *networkingv1.Gateway:
		into = proto.Clone(&o.Spec)
	default:
		return nil
	}
	raw, err := json.Marshal(m.Object["spec"])
	if err != nil {
		return err
	}
	if err := protojson.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("spec cannot be read: %s", protobufPlace.ReplaceAllString(err.Error(), ""))
	}
	return nil
}

// write prints the routes, and hands the old objects over.
func (i *importCommand) write(ctx context.Context, result importer.Result, manifests []manifest) error {
	if i.output == "report" {
		return nil
	}
	printer := &printers.YAMLPrinter{}
	for _, imported := range result.Routes {
		if i.adopt {
			break // they were applied before, and perhaps edited
		}
		object, err := manifestOf(imported.Route)
		if err != nil {
			return err
		}
		if err := printer.PrintObj(object, i.Out); err != nil {
			return err
		}
	}
	if !i.adopt {
		return nil
	}
	for _, imported := range result.Routes {
		replaced := slices.Clone(imported.Replaces) // the VirtualService last: the operator begins when it has all
		slices.SortStableFunc(replaced, func(a, b translate.Object) int {
			return translate.Rank(translate.KeyOf(a).Kind) - translate.Rank(translate.KeyOf(b).Kind)
		})
		for _, object := range replaced {
			at := slices.IndexFunc(manifests, func(m manifest) bool {
				return translate.KeyOf(object) == keyOf(m) && m.GroupVersionKind().Group == istioGroup
			})
			if err := i.handOver(ctx, manifests[at], imported.Route.Name, printer); err != nil {
				return err
			}
		}
	}
	return nil
}

// handOver annotates an old object: its manifest, or in the cluster.
func (i *importCommand) handOver(ctx context.Context, m manifest, route string, printer printers.ResourcePrinter) error {
	if i.local() {
		annotated := m.DeepCopy()
		annotations := annotated.GetAnnotations()
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[v1alpha1.AdoptAnnotation] = route
		annotated.SetAnnotations(annotations)
		return printer.PrintObj(annotated, i.Out)
	}
	annotation := &unstructured.Unstructured{}
	annotation.SetGroupVersionKind(m.GroupVersionKind())
	annotation.SetNamespace(m.GetNamespace())
	annotation.SetName(m.GetName())
	annotation.SetUID(m.GetUID()) // and no other object of that name
	annotation.SetAnnotations(map[string]string{v1alpha1.AdoptAnnotation: route})
	patch, err := annotation.MarshalJSON()
	if err != nil {
		return err
	}
	infos, err := resource.NewBuilder(i.config).Unstructured().NamespaceParam(m.GetNamespace()).
		ResourceTypeOrNameArgs(true, strings.ToLower(m.GetKind())+"."+istioGroup, m.GetName()).Latest().Do().Infos()
	if err != nil {
		return err
	}
	for _, info := range infos {
		helper := resource.NewHelper(info.Client, info.Mapping).WithFieldManager("kubectl-externalroute")
		if _, err := helper.Patch(info.Namespace, info.Name, types.ApplyPatchType, patch, &metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("annotate %s %s: %w", m.GetKind(), m.GetName(), err)
		}
		if _, err := fmt.Fprintf(i.Out, "%s.%s/%s handed over to ExternalRoute %s\n", strings.ToLower(m.GetKind()), istioGroup, info.Name, route); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// manifestOf is a route as a manifest, without status.
func manifestOf(route *v1alpha1.ExternalRoute) (*unstructured.Unstructured, error) {
	named := route.DeepCopy()
	named.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind(routeKind.Kind))
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(named)
	if err != nil {
		return nil, err
	}
	delete(content, "status")
	return &unstructured.Unstructured{Object: content}, nil
}
