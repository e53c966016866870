package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// allowed are the licences whose only conditions are that their texts are handed on. Anything else is a decision.
var allowed = map[string]bool{
	"0BSD": true, "Apache-2.0": true, "BSD-2-Clause": true, "BSD-3-Clause": true, "ISC": true, "MIT": true, "Unlicense": true,
}

// enough is how much of a licence file must be the licence, in percent: the rest is names and years.
const enough = 75

// judge says why the module may not be shipped, or nothing.
func (m *module) judge() error {
	if len(m.licences) == 0 {
		return fmt.Errorf("%s %s: no licence was found", m.path, m.version)
	}
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(m.licences)) {
		coverage := licensecheck.Scan(m.licences[name])
		if coverage.Percent < enough {
			problems = append(problems, fmt.Errorf("%s %s: %s is a known licence by %.0f %% only", m.path, m.version, name, coverage.Percent))
		}
		for _, match := range coverage.Match {
			if !allowed[match.ID] {
				problems = append(problems, fmt.Errorf("%s %s: %s holds the licence %s, which is not an allowed one", m.path, m.version, name, match.ID))
			}
		}
	}
	return errors.Join(problems...)
}

// ids are the licences of the module, sorted.
func (m *module) ids() []string {
	found := map[string]bool{}
	for _, text := range m.licences {
		for _, match := range licensecheck.Scan(text).Match {
			found[match.ID] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// summary counts modules by licence.
func summary(modules []*module) string {
	counts := map[string]int{}
	for _, m := range modules {
		counts[strings.Join(m.ids(), " and ")]++
	}
	var b strings.Builder
	for _, licence := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&b, "%4d %s\n", counts[licence], licence)
	}
	fmt.Fprintf(&b, "%4d modules, all with allowed licences\n", len(modules))
	return b.String()
}

// notices are the texts of all licences and notices, each once, below the modules that they belong to.
func notices(modules []*module) string {
	owners := map[string][]string{}
	var texts []string
	for _, m := range modules {
		for _, files := range []map[string][]byte{m.licences, m.notices} {
			for _, name := range slices.Sorted(maps.Keys(files)) {
				text := strings.TrimSpace(strings.ReplaceAll(string(files[name]), "\r\n", "\n"))
				if owners[text] == nil {
					texts = append(texts, text)
				}
				owners[text] = append(owners[text], strings.Join(strings.Fields(m.path+" "+m.version+" "+name), " "))
			}
		}
	}
	var b strings.Builder
	b.WriteString("ExternalRoute's binaries contain the modules below, under the licences that follow their names.\n")
	for _, text := range texts {
		fmt.Fprintf(&b, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 80), strings.Join(owners[text], "\n"), text)
	}
	return b.String()
}
