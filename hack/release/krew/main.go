// Command krew checks a manifest for krew as krew's index does, and the archives that it names.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: krew MANIFEST FOLDER-WITH-ARCHIVES")
	}
	content, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var p plugin
	if err := yaml.UnmarshalStrict(content, &p); err != nil {
		return fmt.Errorf("parse %s: %w", args[0], err)
	}
	name := strings.TrimSuffix(filepath.Base(args[0]), ".yaml")
	if problems := validate(name, &p); len(problems) > 0 {
		return problems.ToAggregate()
	}
	var mistakes []error
	for i, one := range p.Spec.Platforms {
		if err := checkArchive(args[1], one); err != nil {
			mistakes = append(mistakes, fmt.Errorf("spec.platforms[%d]: %w", i, err))
		}
	}
	return errors.Join(mistakes...)
}
