// Package cli is the command line. It reads manifests and prints what the translation makes of them; it decides nothing itself.
package cli

import (
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// New returns the root command. Its errors are already printed when Execute returns them.
func New(streams genericiooptions.IOStreams, version string) *cobra.Command {
	root := &cobra.Command{
		Use:          "kubectl-externalroute",
		Version:      version,
		Short:        "Work with ExternalRoutes",
		Annotations:  map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl externalroute"},
		SilenceUsage: true,
	}
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	root.AddCommand(newRender(streams))
	return root
}
