package docs_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"text/template"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/flags.md anew")

const flagsFile = "docs/flags.md"

var flagsPage = template.Must(template.New(flagsFile).Parse(`# Flags

The flags of the operator. One without a default is off or empty. (Made by ` + "`go test ./test/docs -run TestFlags -update`" + `.) Those of the plugin are on the
[pages of its commands](commands/README.md).

` + "`manager`" + ` takes one dash or two. The Helm chart's [values](../charts/externalroute/README.md#values) set most of these, and its ` + "`extraArgs`" + ` the others.

| flag | default | meaning |
|---|---|---|
{{range .Manager}}| ` + "`--{{.Name}}`" + ` | {{with .Default}}` + "`{{.}}`" + `{{end}} | {{.Meaning}} |
{{end}}`))

type programFlag struct{ Name, Default, Meaning string }

// A flag that comes, goes or gets another default does so in the page, too.
func TestFlags(t *testing.T) {
	var page strings.Builder
	if err := flagsPage.Execute(&page, map[string]any{"Manager": managerFlags(t)}); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(filepath.Join(root, flagsFile), []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(read(t, flagsFile), page.String()); diff != "" {
		t.Errorf("%s is not what the programs say (go test ./test/docs -run TestFlags -update):\n%s", flagsFile, diff)
	}
}

// One flag as package flag prints it: its name, perhaps its type, its meaning on the next line, perhaps its default.
var printedFlag = regexp.MustCompile(`(?m)^  -(\S+)(?: \S+)?\n    \t(.*?)(?: \(default "?(.*?)"?\))?$`)

// managerFlags asks the program, since libraries add flags of their own to it.
func managerFlags(t *testing.T) []programFlag {
	t.Helper()
	help, err := exec.CommandContext(t.Context(), "go", "run", root+"/cmd/manager", "--help").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, help)
	}
	var flags []programFlag
	for _, match := range printedFlag.FindAllStringSubmatch(string(help), -1) {
		flags = append(flags, programFlag{Name: match[1], Meaning: cell(match[2]), Default: match[3]})
	}
	if printed := strings.Count(string(help), "\n  -"); len(flags) != printed || printed == 0 {
		t.Fatalf("read %d flags of %d in\n%s", len(flags), printed, help)
	}
	return flags
}

// cell returns a text as a cell of a table can hold it.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
