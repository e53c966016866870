// Command licenses says what the shipped binaries are made of. It asks Go which packages they are built from on each platform, and reads the licences
// that lie beside those packages.
//
//	licenses check               fails where a licence is missing or is not an allowed one
//	licenses notices FILE        writes the texts that those licences ask to be handed on
//	licenses sbom BINARY FILE    writes a CycloneDX bill of materials of one binary
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
)

func main() {
	root := flag.String("C", ".", "Folder of the module whose binaries are shipped.")
	platforms := flag.String("platforms", "linux/amd64,linux/arm64,darwin/amd64,darwin/arm64,windows/amd64", "What they are shipped for.")
	flag.Parse()
	if err := run(*root, strings.Split(*platforms, ","), flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "licenses:", err)
		os.Exit(1)
	}
}

func run(root string, platforms, arguments []string) error {
	modules, err := shipped(root, platforms)
	if err != nil {
		return err
	}
	switch {
	case len(arguments) == 1 && arguments[0] == "check":
		var problems []error
		for _, m := range modules {
			problems = append(problems, m.judge())
		}
		if err := errors.Join(problems...); err != nil {
			return err
		}
		fmt.Print(summary(modules))
		return nil
	case len(arguments) == 2 && arguments[0] == "notices":
		return os.WriteFile(arguments[1], []byte(notices(modules)), 0o644)
	case len(arguments) == 3 && arguments[0] == "sbom":
		return writeSBOM(modules, arguments[1], arguments[2])
	}
	return errors.New("want: check, notices FILE, or sbom BINARY FILE")
}
