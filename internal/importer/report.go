package importer

import (
	"fmt"
	"slices"
	"strings"

	"github.com/externalroute/externalroute/internal/translate"
)

// Report is what Import has found, for people.
func (r Result) Report() string {
	var text strings.Builder
	line := func(indent int, format string, args ...any) {
		text.WriteString(strings.Repeat("  ", indent) + fmt.Sprintf(format, args...) + "\n")
	}
	for n, i := range r.Routes {
		if n > 0 {
			text.WriteString("\n")
		}
		line(0, "ExternalRoute %s/%s", i.Route.Namespace, i.Route.Name)
		for _, object := range i.Replaces {
			line(1, "replaces %s", translate.KeyOf(object))
		}
		for _, difference := range i.Differences {
			if difference.Decide {
				line(1, "DECIDE %s", difference)
				line(2, "%s", difference.Why)
			}
		}
		for _, note := range i.Notes {
			line(1, "NOTE %s", note)
		}
		line(1, "%d properties mean the same", i.Same)
		for _, same := range i.justified() {
			more := ""
			if n := len(same) - 1; n > 0 {
				more = fmt.Sprintf(" (and %d more)", n)
			}
			line(1, "%s%s", same[0], more)
			line(2, "%s", same[0].Why)
		}
	}
	for _, stay := range r.Stays {
		if text.Len() > 0 {
			text.WriteString("\n")
		}
		line(0, "%s %s/%s stays", stay.Kind, stay.Namespace, stay.Name)
		for _, reason := range stay.Reasons {
			line(1, "%s", reason)
		}
	}
	return text.String()
}

// justified are the differences that nobody has to decide about, by their justification.
func (i *Imported) justified() (groups [][]Difference) {
	for _, difference := range i.Differences {
		if difference.Decide {
			continue
		}
		at := slices.IndexFunc(groups, func(same []Difference) bool { return same[0].Why == difference.Why })
		if at < 0 {
			groups = append(groups, []Difference{difference})
			continue
		}
		groups[at] = append(groups[at], difference)
	}
	return groups
}
