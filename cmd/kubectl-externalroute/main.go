// Command kubectl-externalroute is the kubectl plugin: `kubectl externalroute render -f route.yaml`.
package main

import (
	"os"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/externalroute/externalroute/internal/cli"
)

// version is set by the linker.
var version = "dev"

func main() {
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	os.Exit(cli.ExitCode(cli.New(streams, version).Execute()))
}
