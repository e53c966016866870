package cli

import (
	"cmp"
	"context"
	"fmt"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

const ejectLong = `Print ExternalRoutes as plain Istio objects: without owner reference, and without the operator's label and annotations.

The objects have the names of the generated ones. To leave the operator, delete the route with --cascade=orphan, which leaves its objects alone, and apply what
eject has printed. No request is lost, since no object changes.

Without -f and -k, the routes are those of the cluster, and must be ready: an object that is about to move would change. Services that a route uses and did not
create are not printed.

Exits with 1 when a route is refused or not ready, and with 2 for wrong flags.`

const ejectExample = `  # leave the operator
  kubectl externalroute eject web -n shop > web.yaml
  kubectl delete externalroute web -n shop --cascade=orphan
  kubectl apply -f web.yaml

  # what routes in files become
  kubectl externalroute eject -f routes/`

// eject is the eject command with its flags.
type eject struct {
	input
	output *genericclioptions.PrintFlags
}

func newEject(e environment) *cobra.Command {
	j := &eject{input{environment: e}, objectFormats()}
	command := &cobra.Command{
		Use:     "eject [NAME ...] [-f FILE|DIR|- | -k DIR]",
		Short:   "Print ExternalRoutes as plain Istio objects without an owner",
		Long:    ejectLong,
		Example: ejectExample,
		RunE:    func(cmd *cobra.Command, names []string) error { return j.run(cmd.Context(), names) },
	}
	j.addFlags(command)
	addFormats(command, j.output)
	command.ValidArgsFunction = j.completeRoutes
	return command
}

func (j *eject) run(ctx context.Context, names []string) error {
	printer, err := j.output.ToPrinter()
	if err != nil {
		return usage{err}
	}
	return j.eachTranslation(ctx, names, func(m manifest, t *translate.Translation) error {
		if !j.local() {
			if err := j.settled(m); err != nil {
				return err
			}
		}
		return j.print(printer, t.Objects)
	})
}

// settled is an error if the objects of a route of a cluster may not be those that its spec asks for.
func (j *eject) settled(m manifest) error {
	route, err := summaryOf(m)
	if err != nil {
		return err
	}
	switch route.State {
	case status.CurrentStatus:
	case status.TerminatingStatus:
		return fmt.Errorf("ExternalRoute %s/%s is being deleted, and its objects with it", m.GetNamespace(), m.GetName())
	default:
		return fmt.Errorf("ExternalRoute %s/%s is not ready (%s): eject it when it is", m.GetNamespace(), m.GetName(), cmp.Or(route.Reason, v1alpha1.ReasonPending))
	}
	if unreadIn(j.gaps, serviceResource, m.GetNamespace()) {
		return fmt.Errorf("ExternalRoute %s/%s: the Services of its namespace were not read, so eject does not know which of them are yours: "+
			"get the right to list them", m.GetNamespace(), m.GetName())
	}
	return nil
}

// print prints objects as a user could have written them.
func (j *eject) print(printer printers.ResourcePrinter, objects translate.Objects) error {
	for _, object := range objects {
		manifest, err := translate.Manifest(object)
		if err != nil {
			return err
		}
		labels := manifest.GetLabels()
		delete(labels, v1alpha1.ManagedByLabel)
		manifest.SetLabels(labels)
		annotations := manifest.GetAnnotations()
		delete(annotations, v1alpha1.WaypointAnnotation)
		manifest.SetAnnotations(annotations)
		if len(labels) == 0 {
			unstructured.RemoveNestedField(manifest.Object, "metadata", "labels")
		}
		if len(annotations) == 0 {
			unstructured.RemoveNestedField(manifest.Object, "metadata", "annotations")
		}
		if err := printer.PrintObj(manifest, j.Out); err != nil {
			return err
		}
	}
	return nil
}
