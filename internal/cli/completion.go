package cli

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// completeScript is what kubectl runs to complete a plugin.
//
//go:embed kubectl_complete-externalroute
var completeScript []byte

const completionLong = `Print a completion script.

kubectl completes a plugin by a program on the PATH: with kubectl, the command prints that program, and kubectl's own completion does the rest. With the name of
a shell, the command prints a script that completes kubectl-externalroute, the plugin's program, without kubectl.

Exits with 0 if the script is printed, and 2 for wrong arguments.`

const completionExample = `  # complete kubectl externalroute, in every shell that completes kubectl
  kubectl externalroute completion kubectl > ~/.local/bin/kubectl_complete-externalroute
  chmod +x ~/.local/bin/kubectl_complete-externalroute

  # complete kubectl-externalroute in this bash
  source <(kubectl-externalroute completion bash)

  # complete kubectl-externalroute in every zsh
  kubectl-externalroute completion zsh > "${fpath[1]}/_kubectl-externalroute"`

// completions write the script of each shell, and kubectl's.
var completions = map[string]func(root *cobra.Command, out io.Writer) error{
	"bash":       func(root *cobra.Command, out io.Writer) error { return root.GenBashCompletionV2(out, true) },
	"fish":       func(root *cobra.Command, out io.Writer) error { return root.GenFishCompletion(out, true) },
	"powershell": (*cobra.Command).GenPowerShellCompletionWithDesc,
	"zsh":        (*cobra.Command).GenZshCompletion,
	"kubectl": func(_ *cobra.Command, out io.Writer) error {
		_, err := out.Write(completeScript)
		return err
	},
}

// addCompletions completes what the commands have in common: kubectl's flags, and no files as arguments.
func addCompletions(root *cobra.Command, e environment) {
	for flag, complete := range map[string]cobra.CompletionFunc{
		"namespace": completeNamespaces(e),
		"context":   completeConfig(e, func(c clientcmdapi.Config) []string { return slices.Collect(maps.Keys(c.Contexts)) }),
		"cluster":   completeConfig(e, func(c clientcmdapi.Config) []string { return slices.Collect(maps.Keys(c.Clusters)) }),
		"user":      completeConfig(e, func(c clientcmdapi.Config) []string { return slices.Collect(maps.Keys(c.AuthInfos)) }),
	} {
		if err := root.RegisterFlagCompletionFunc(flag, complete); err != nil {
			panic(err) // kubectl's flags are defined before
		}
	}
	for _, command := range root.Commands() {
		if command.ValidArgsFunction == nil && len(command.ValidArgs) == 0 {
			command.ValidArgsFunction = cobra.NoFileCompletions
		}
	}
}

// completeConfig completes a flag with names of the kubeconfig.
func completeConfig(e environment, names func(clientcmdapi.Config) []string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		config, err := e.config.ToRawKubeConfigLoader().RawConfig()
		if err != nil {
			cobra.CompDebugln(err.Error(), false)
		}
		return slices.Sorted(slices.Values(names(config))), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeSenders completes --from: the namespaces of the cluster, and the pods of one that is typed with its slash.
func (i *input) completeSenders(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	namespace, _, pods := strings.Cut(typed, "/")
	switch {
	case i.local() || pods && namespace == "":
		return nil, cobra.ShellCompDirectiveNoFileComp
	case !pods:
		names, directive := i.completions(namespaceResource, nil)
		return names, directive | cobra.ShellCompDirectiveNoSpace
	}
	found, err := i.getIn(namespace, "pods")
	if err != nil {
		cobra.CompDebugln(err.Error(), false)
	}
	var names []cobra.Completion
	for _, m := range found {
		names = append(names, namespace+"/"+m.GetName())
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// newCompletion takes the place of cobra's own command, which does not know kubectl.
func newCompletion(e environment) *cobra.Command {
	names := slices.Sorted(maps.Keys(completions))
	return &cobra.Command{
		Use:       "completion (" + strings.Join(names, " | ") + ")",
		Short:     "Print a completion script",
		Long:      completionLong,
		Example:   completionExample,
		ValidArgs: names,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.ExactArgs(1)(cmd, args); err != nil {
				return usage{errors.New("exactly one of " + strings.Join(names, ", ") + " is required")}
			}
			if !slices.Contains(names, args[0]) {
				return usage{fmt.Errorf("%q: must be one of %s", args[0], strings.Join(names, ", "))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return completions[args[0]](cmd.Root(), e.Out) },
	}
}
