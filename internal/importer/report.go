package importer

import (
	"fmt"
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
		line(1, "%d properties mean the same", i.Same)
		for _, difference := range i.Differences {
			if !difference.Decide {
				line(1, "%s", difference)
				line(2, "%s", difference.Why)
			}
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
