package cli

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/externalroute/externalroute/internal/explain"
)

// headlines say in a sentence what becomes of a request.
var headlines = map[explain.Outcome]string{
	explain.Forwarded:     "The mesh forwards it.",
	explain.Answered:      "The mesh answers it itself.",
	explain.PassedThrough: "It leaves over the workload's own TLS.",
	explain.Kept:          "The objects in the cluster serve it.",
	explain.NoRule:        "The mesh answers 404.",
	explain.NotSelected:   "The route does not apply to the pod.",
	explain.NotServed:     "No route takes it.",
}

// printAnswer prints an answer for people: what, then why.
func printAnswer(a explain.Answer, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s:\t%s\n", name, value)
		}
	}
	if _, err := fmt.Fprintf(out, "%s from %s: %s\n\n", a.Request, a.From, headlines[a.Outcome]); err != nil {
		return err
	}
	for _, why := range a.Why {
		line("Why", why)
	}
	line("Closest hosts", strings.Join(a.Closest, ", "))
	if a.Route != "" {
		line("Route", fmt.Sprintf("%s, for %s", a.Route, a.Host))
	}
	line("Rule", a.Rule)
	for _, s := range a.Skipped {
		matches := make([]string, len(s.Why))
		for i, conditions := range s.Why {
			matches[i] = strings.Join(conditions, " and ")
		}
		line("Not "+s.Rule, strings.Join(matches, "; or "))
	}
	if a.Status != 0 {
		line("Answer", strings.TrimSpace(fmt.Sprintf("%d %s", a.Status, a.Body)))
	}
	if a.Road != nil {
		line("Road", roadText(a.Road))
	}
	line("Path", a.Path)
	line("Timeout", a.Timeout)
	line("Retries", a.Retries)
	line("Fault", a.Fault)
	for _, d := range a.Destinations {
		line("Destination", strings.TrimSpace(strings.Join([]string{d.Name, d.URL, d.Share}, " ")))
		line("  Authority", d.Authority)
		line("  Dials", strings.Join(d.Addresses, ", "))
		line("  SNI", d.SNI)
		line("  Verified", d.Verified)
		line("  Shows", d.ClientCertificate)
		line("  Cluster", d.Cluster)
	}
	for i, object := range a.Objects {
		fmt.Fprintf(w, "%s\t%s\n", []string{"Objects:", ""}[min(i, 1)], object)
	}
	for _, note := range a.Notes {
		line("Note", note)
	}
	return w.Flush()
}

func roadText(r *explain.Road) string {
	switch r.Kind {
	case "EgressGateway":
		return fmt.Sprintf("egress gateway %s (%s), by cluster %s", r.Name, r.By, r.Cluster)
	case "Waypoint":
		return fmt.Sprintf("waypoint %s (%s)", r.Name, r.By)
	}
	return strings.ToLower(cmp.Or(r.Kind, "none"))
}
