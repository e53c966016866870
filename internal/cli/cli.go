// Package cli is the command line. It reads manifests or a cluster, and prints what the operator's own functions make of them; it decides nothing itself.
package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"
)

// New returns the root command. Its errors are already printed when Execute returns them.
func New(streams genericiooptions.IOStreams, version string) *cobra.Command {
	e := environment{IOStreams: streams, config: genericclioptions.NewConfigFlags(true).WithWrapConfigFn(quick)}
	root := &cobra.Command{
		Use:          "kubectl-externalroute",
		Version:      version,
		Short:        "Work with ExternalRoutes",
		Annotations:  map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl externalroute"},
		SilenceUsage: true,
		Args:         noCommand,
		RunE:         func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	root.SetFlagErrorFunc(flagError)
	e.config.AddFlags(root.PersistentFlags())
	root.PersistentFlags().Lookup("cache-dir").DefValue = "$HOME/.kube/cache" // in generated pages, as kubectl's own say it
	root.AddCommand(
		newCompletion(e), newCreate(e), newDiff(e), newEject(e), newExplain(e), newImport(e), newLint(e), newRender(e), newStatus(e), newTree(e),
	)
	addHelp(root)
	addCompletions(root, e)
	return root
}

// environment is what every command has: its streams, and the way to a cluster that kubectl's own flags name.
type environment struct {
	genericiooptions.IOStreams
	config *genericclioptions.ConfigFlags
}

// quick leaves it to the API server to slow down a command: client-go's own limit is for controllers.
func quick(config *rest.Config) *rest.Config {
	config.QPS = -1
	return config
}

// usage is an error in how a command is called.
type usage struct{ error }

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage{fmt.Errorf("%s takes no arguments, and got %q: name files with -f", cmd.Name(), args[0])}
	}
	return nil
}

// trouble is an error of a command that exits with 1 for something else.
type trouble struct{ error }

// ExitCode is the code with which the program ends: 0 for success, 2 for wrong arguments and for trouble, and 1 for any other error.
func ExitCode(err error) int {
	var wrong usage
	var failed trouble
	switch {
	case err == nil:
		return 0
	case errors.As(err, &wrong), errors.As(err, &failed):
		return 2
	}
	return 1
}
