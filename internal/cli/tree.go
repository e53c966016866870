package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/printers"
)

const treeLong = `Show what belongs to routes of a cluster, as a tree: the generated objects of each route, then what else the route depends on. Each line says
whether the object is as the spec asks (status --help lists the states), how old it is, and what it is for.

Without names, the routes of the namespace (-n) or of all namespaces (-A) are shown.

Exits with 0, with 1 if the cluster cannot be read or a named route does not exist, and with 2 for wrong flags.`

const treeExample = `  kubectl externalroute tree payments -n shop`

func newTree(e environment) *cobra.Command {
	i := &input{environment: e}
	command := &cobra.Command{
		Use:     "tree [NAME]...",
		Short:   "Show the objects that belong to routes of a cluster",
		Long:    treeLong,
		Example: treeExample,
		RunE:    func(cmd *cobra.Command, names []string) error { return i.tree(cmd.Context(), names) },
	}
	i.addClusterFlags(command)
	command.ValidArgsFunction = i.completeRoutes
	return command
}

func (i *input) tree(ctx context.Context, names []string) error {
	reports, err := i.reports(ctx, names)
	if err != nil || len(reports) == 0 {
		return err
	}
	w := printers.GetNewTabWriter(i.Out)
	fmt.Fprintln(w, "NAMESPACE\tNAME\tSTATE\tAGE\tFOR")
	for _, r := range reports {
		fmt.Fprintf(w, "%s\tExternalRoute/%s\t%s\t%s\t%s\n", r.Namespace, r.Name, r.State, age(r.Created), serves(r))
		all := slices.Concat(r.Objects, r.Uses)
		for n, o := range all {
			branch := "├─"
			if n == len(all)-1 {
				branch = "└─"
			}
			fmt.Fprintf(w, "%s\t%s %s/%s\t%s\t%s\t%s\n", o.Namespace, branch, o.Kind, o.Name, o.State, age(o.Created), o.For)
		}
	}
	return w.Flush()
}

func serves(r routeReport) string {
	if len(r.Hosts) == 0 {
		return ""
	}
	return "serves " + strings.Join(r.Hosts, ", ")
}
