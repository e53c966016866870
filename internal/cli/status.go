package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/yaml"
)

const statusLong = `Show how routes of a cluster are.

Without names, the routes of the namespace (-n) or of all namespaces (-A) are listed. With names, the command shows what is in the way of each route, its
conditions, the generated objects and whether they are as the spec asks, and what else the route depends on: its egress gateway or waypoint, Services of others,
ConfigMaps and policies. A name may have its type before it, as in externalroute/web.

The states of an object: present, missing, different from what the spec asks for, left over from an earlier spec, kept while the present spec is not accepted,
and not read if you may not read it.

Exits with 0, with 1 if a named route is not ready or the cluster cannot be read, and with 2 for wrong flags.`

const statusExample = `  # the routes of a namespace
  kubectl externalroute status -n shop

  # what is wrong with one
  kubectl externalroute status payments -n shop

  # the routes that are not ready, for a script
  kubectl externalroute status -A -o json | jq '.[] | select(.state != "Current")'`

// statuses is the status command with its flags.
type statuses struct {
	input
	output string
}

var statusFormats = []string{"json", "text", "wide", "yaml"}

func newStatus(e environment) *cobra.Command {
	s := &statuses{input: input{environment: e}}
	command := &cobra.Command{
		Use:     "status [NAME]...",
		Short:   "Show how routes of a cluster are, and what is in their way",
		Long:    statusLong,
		Example: statusExample,
		RunE:    func(cmd *cobra.Command, names []string) error { return s.run(cmd.Context(), names) },
	}
	s.addClusterFlags(command)
	command.ValidArgsFunction = s.completeRoutes
	command.Flags().StringVarP(&s.output, "output", "o", "text", "format: "+strings.Join(statusFormats, ", "))
	if err := command.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(statusFormats, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is defined above
	}
	return command
}

func (s *statuses) run(ctx context.Context, names []string) error {
	if !slices.Contains(statusFormats, s.output) {
		return usage{fmt.Errorf("--output %q: must be one of %s", s.output, strings.Join(statusFormats, ", "))}
	}
	text := s.output == "text" || s.output == "wide"
	if len(names) == 0 && text {
		return s.list()
	}
	reports, err := s.reports(ctx, names)
	if err != nil {
		return err
	}
	switch s.output {
	case "json":
		err = encode(reports, s.Out)
	case "yaml":
		var raw []byte
		if raw, err = yaml.Marshal(reports); err == nil {
			_, err = s.Out.Write(raw)
		}
	default:
		err = printReports(reports, s.Out)
	}
	if err != nil || len(names) == 0 {
		return err
	}
	return notReady(reports)
}

// notReady is an error if a route is not ready.
func notReady(reports []routeReport) error {
	var problems []error
	for _, r := range reports {
		if !r.ready() {
			problems = append(problems, errors.New(r.headline()))
		}
	}
	return errors.Join(problems...)
}

// list prints the routes as kubectl get does.
func (s *statuses) list() error {
	if err := s.checkCluster(); err != nil {
		return err
	}
	routes, err := s.routes()
	if err != nil {
		return fmt.Errorf("list %s: %w", routeResource, err)
	}
	routes = s.concerned(routes)
	if len(routes) == 0 {
		fmt.Fprintln(s.ErrOut, s.nothing())
		return nil
	}
	w := printers.GetNewTabWriter(s.Out)
	columns := []string{"NAME", "HOSTS", "STATE", "REASON", "AGE"}
	if s.everywhere {
		columns = append([]string{"NAMESPACE"}, columns...)
	}
	if s.output == "wide" {
		columns = append(columns, "MESSAGE")
	}
	fmt.Fprintln(w, strings.Join(columns, "\t"))
	for _, m := range routes {
		r, err := summaryOf(m)
		if err != nil {
			return err
		}
		cells := []string{r.Name, strings.Join(hostsIn(m), ","), string(r.State), r.Reason, age(r.Created)}
		if s.everywhere {
			cells = append([]string{r.Namespace}, cells...)
		}
		if s.output == "wide" {
			cells = append(cells, strings.Join(problemsOf(&judged{manifest: m}), "; "))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// routes are those of the namespace, or of all namespaces as far as the user may list them.
func (s *statuses) routes() ([]manifest, error) {
	if !s.everywhere {
		return s.get(routeResource, false)
	}
	routes, missing, err := s.input.list(routeResource)
	if err == nil && missing != nil {
		s.warn([]gap{*missing})
	}
	return routes, err
}

// hostsIn are the hosts of a route as its spec writes them.
func hostsIn(m manifest) (hosts []string) {
	for _, host := range asWritten(m).Spec.Hosts {
		hosts = append(hosts, string(host))
	}
	return hosts
}

// printReports prints everything about some routes.
func printReports(reports []routeReport, out io.Writer) error {
	for n, r := range reports {
		if n > 0 {
			fmt.Fprintln(out)
		}
		if err := printReport(r, out); err != nil {
			return err
		}
	}
	return nil
}

func printReport(r routeReport, out io.Writer) error {
	fmt.Fprintf(out, "%s\n", r.headline())
	if len(r.Problems) > 0 {
		fmt.Fprintln(out, "In the way:")
	}
	for _, problem := range r.Problems {
		fmt.Fprintf(out, "  %s\n", problem)
	}
	table := printers.GetNewTabWriter(out)
	fmt.Fprintln(table, "\nCONDITION\tSTATUS\tREASON\tAGE")
	for _, c := range r.Conditions {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", c.Type, c.Status, c.Reason, age(c.LastTransitionTime))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if err := printRelatives("OBJECT", r.Objects, r.Namespace, out); err != nil {
		return err
	}
	return printRelatives("USES", r.Uses, r.Namespace, out)
}

// printRelatives prints a table of objects. Those of another namespace have its name.
func printRelatives(title string, all []relative, namespace string, out io.Writer) error {
	if len(all) == 0 {
		return nil
	}
	table := printers.GetNewTabWriter(out)
	fmt.Fprintf(table, "\n%s\tSTATE\tAGE\tFOR\n", title)
	for _, o := range all {
		name := o.Name
		if o.Namespace != "" && o.Namespace != namespace {
			name = o.Namespace + "/" + o.Name
		}
		fmt.Fprintf(table, "%s %s\t%s\t%s\t%s\n", o.Kind, name, o.State, age(o.Created), o.For)
	}
	return table.Flush()
}
