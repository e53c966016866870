package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// distance is how many letters a command may differ from what was typed, as in cobra.
const distance = 2

// noCommand rejects arguments of the root command: each is a command that does not exist.
func noCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("unknown command %q for %q", args[0], root.CommandPath())
	root.SuggestionsMinimumDistance = distance
	if similar := root.SuggestionsFor(args[0]); len(similar) > 0 {
		text += ": did you mean " + strings.Join(similar, " or ") + "?"
	}
	return usage{fmt.Errorf("%s (commands: %s --help)", text, root.CommandPath())}
}

// flagError is an error in the flags, or the command that does not exist and to which they belong.
func flagError(cmd *cobra.Command, err error) error {
	if cmd.HasParent() {
		return usage{err}
	}
	if wrong := noCommand(cmd, cmd.Flags().Args()); wrong != nil { // what was read before the flag
		return wrong
	}
	return usage{err}
}

// addHelp adds cobra's help command. Of a command that does not exist, it would print the help of the root command.
func addHelp(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	help, _, err := root.Find([]string{"help"})
	if err != nil {
		panic(err) // it was added above
	}
	help.Args = func(_ *cobra.Command, args []string) error {
		if command, _, err := root.Find(args); err == nil && command != root {
			return nil
		}
		return noCommand(root, args)
	}
}
