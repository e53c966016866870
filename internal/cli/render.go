package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

const renderLong = `Print the Istio objects that ExternalRoutes become, in the order in which they are applied.

With -f or -k, no cluster is asked: the manifest is judged by the same rules as at the API server, and translated by the same function as in the operator.
Services in the same input count as existing in the cluster; every other alias gets a Service. ConfigMaps, and waypoints that the input does not hold, are
taken to exist. A Namespace in the input gives its labels, and policies of the input apply to its routes. Owner references, which only a cluster can give, are
left out.

Without -f and -k, the routes, the Services, the Namespaces and the policies are those of the cluster. Without names, all routes of the namespace are printed.

Exits with 1 when a route is refused, after naming the fields; the other routes are printed all the same. Exits with 2 for wrong flags.`

const renderExample = `  # what one manifest becomes
  kubectl externalroute render -f route.yaml

  # what a pull request changes, folder by folder
  kubectl externalroute render -f routes/ > rendered.yaml

  # what a route of the cluster becomes
  kubectl externalroute render webserver -n shop

  # the names of the objects that the routes of a team become
  kubectl externalroute render -A -l team=shop -o name`

// render is the render command with its flags.
type render struct {
	input
	output *genericclioptions.PrintFlags
}

func newRender(e environment) *cobra.Command {
	r := &render{input{environment: e}, objectFormats()}
	command := &cobra.Command{
		Use:     "render [NAME]... [-f FILE|DIR|- | -k DIR]",
		Short:   "Print the Istio objects that ExternalRoutes become",
		Long:    renderLong,
		Example: renderExample,
		RunE:    func(cmd *cobra.Command, names []string) error { return r.run(cmd.Context(), names) },
	}
	r.addFlags(command)
	addFormats(command, r.output)
	command.ValidArgsFunction = r.completeRoutes
	return command
}

// objectFormats are kubectl's formats for objects.
func objectFormats() *genericclioptions.PrintFlags {
	return genericclioptions.NewPrintFlags("").WithDefaultOutput("yaml")
}

func addFormats(command *cobra.Command, output *genericclioptions.PrintFlags) {
	output.AddFlags(command)
	_ = command.Flags().MarkHidden("show-managed-fields") // what is printed has none
	if err := command.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(output.AllowedFormats(), cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is defined above
	}
}

func (r *render) run(ctx context.Context, names []string) error {
	printer, err := r.output.ToPrinter()
	if err != nil {
		return usage{err}
	}
	return r.eachTranslation(ctx, names, func(_ manifest, t *translate.Translation) error { return printObjects(printer, t.Objects, r.Out) })
}

// eachTranslation calls a function with what each chosen route becomes, and returns what is wrong with the others.
func (i *input) eachTranslation(ctx context.Context, names []string, do func(manifest, *translate.Translation) error) error {
	manifests, err := i.read()
	if err != nil {
		return err
	}
	routes, err := i.chosen(ofKind(manifests, routeKind), names)
	if err != nil {
		return err
	}
	w, err := i.world(manifests)
	if err != nil {
		return err
	}
	var mistakes []error
	for _, m := range ofKind(manifests, policyKind) {
		if refusal := w.admitPolicy(ctx, m); refusal != nil {
			mistakes = append(mistakes, refused(m, refusal))
		}
	}
	for _, m := range routes {
		route, refusal := w.admit(ctx, m)
		var translation *translate.Translation
		if refusal == nil {
			translation, refusal = w.translate(route)
			refusal = w.grounded(route, refusal)
		}
		if refusal != nil {
			mistakes = append(mistakes, refused(m, refusal))
			continue
		}
		mistakes = append(mistakes, do(m, translation))
	}
	return errors.Join(mistakes...)
}

// refused lists each problem on its own line.
func refused(m manifest, refusal *translate.Refusal) error {
	verb := "is refused"
	if notJudged(refusal) {
		verb = "is not judged"
	}
	lines := []string{fmt.Sprintf("%s %s %s (%s):", m.GetKind(), strings.TrimPrefix(m.GetNamespace()+"/"+m.GetName(), "/"), verb, refusal.Reason)}
	for _, problem := range refusal.Problems {
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
