package cli_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/externalroute/externalroute/internal/cli"
)

// The examples in the help of a command are calls that the command takes.
func TestEveryCommandHasExamples(t *testing.T) {
	commands := commandsBelow(cli.New(genericiooptions.NewTestIOStreamsDiscard(), ""))
	if len(commands) == 0 {
		t.Fatal("found no command: the test reads the wrong tree")
	}
	for _, command := range commands {
		examples := invocations(command.Example)
		if len(examples) == 0 {
			t.Errorf("%s has no example", command.CommandPath())
		}
		if !strings.Contains(command.Long, "Exits with ") {
			t.Errorf("%s does not document its exit codes", command.CommandPath())
		}
		for _, example := range examples {
			words := strings.Fields(example)
			found, arguments, err := command.Root().Find(words)
			if err != nil || found != command {
				t.Errorf("%s has an example of another command: %s", command.CommandPath(), example)
				continue
			}
			if err := found.ParseFlags(arguments); err != nil {
				t.Errorf("%s: %s: %v", command.CommandPath(), example, err)
			}
		}
	}
}

func commandsBelow(parent *cobra.Command) (all []*cobra.Command) {
	for _, command := range parent.Commands() {
		if command.IsAvailableCommand() && !command.IsAdditionalHelpTopicCommand() {
			all = append(append(all, command), commandsBelow(command)...)
		}
	}
	return all
}

// invocation is a call of the plugin in a line of shell, up to where the shell does something else.
var invocation = regexp.MustCompile(`(?m)^[^#\n]*kubectl[ -]externalroute ([^|<>()\n]+)`)

func invocations(example string) (all []string) {
	for _, match := range invocation.FindAllStringSubmatch(example, -1) {
		all = append(all, match[1])
	}
	return all
}
