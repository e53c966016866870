//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is everything that a bench found out.
type report struct {
	When      time.Time `json:"when"`
	Revision  string    `json:"revision"`
	Go        string    `json:"go"`
	Cores     int       `json:"cores"`
	Arguments string    `json:"managerArguments"`
	Runs      []*oneRun `json:"runs"`
	Foreign   *foreign  `json:"foreign,omitempty"`
	Bars      []bar     `json:"bars"`
}

// What Services says of a run.
const (
	servicesExist   = "there before"
	servicesCreated = "created by the operator"
)

// oneRun is a number of routes, with Services of one sort.
type oneRun struct {
	Routes     int      `json:"routes"`
	Services   string   `json:"services"`
	Floor      *phase   `json:"floor"`
	FloorAgain *phase   `json:"floorAgain"`
	Phases     []*phase `json:"phases"`
	// Failover is from the end of the leader's process until the other has made a route Ready that was edited then, Ending how long the process took to end.
	Failover *spans `json:"failover,omitempty"`
	Ending   *spans `json:"ending,omitempty"`

	// Some of Phases, by name.
	Empty, Lone, EditFew, ServiceFew, Bulk, Idle, EditAll, ServiceAll, Restart *phase `json:"-"`
}

// bar is a promise about the cost of routes, and what came of it.
type bar struct {
	Run  string  `json:"run"`
	What string  `json:"what"`
	Want float64 `json:"want"`
	Got  float64 `json:"got"`
	// AtLeast says that more is better.
	AtLeast bool `json:"atLeast"`
	Held    bool `json:"held"`
}

func newReport(s *settings) *report {
	r := &report{When: time.Now().UTC(), Go: runtime.Version(), Cores: runtime.NumCPU(), Arguments: s.arguments, Revision: "unknown"}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				r.Revision = setting.Value
			}
		}
	}
	return r
}

func (r *report) bar(run fmt.Stringer, what string, got, want float64, atLeast bool) {
	held := got <= want
	if atLeast {
		held = got >= want
	}
	r.Bars = append(r.Bars, bar{Run: run.String(), What: what, Want: want, Got: got, AtLeast: atLeast, Held: held})
}

// floor is routes each second without a controller, the creation of the routes included: the mean of before and after the operator.
func (r *oneRun) floor() float64 { return (r.Floor.perSecond() + r.FloorAgain.perSecond()) / 2 }

func (r *oneRun) ratio() float64 { return r.Bulk.perSecond() / r.floor() }

func (r *oneRun) String() string { return fmt.Sprintf("%d routes, Services %s", r.Routes, r.Services) }

func (r *oneRun) existing() bool { return r.Services == servicesExist }

// kilobytes is what a route adds to the resident memory of an operator at rest.
func (r *oneRun) kilobytes() float64 {
	return (r.Idle.Rest[operatorName] - r.Empty.Rest[operatorName]) * 1000 / float64(r.Routes)
}

// work is the CPU time of all processes together for each route, as a share of the floor's: on a machine that others use too, it says more than a clock.
func (r *oneRun) work() float64 {
	floor := (total(r.Floor) + total(r.FloorAgain)) / 2
	return total(r.Bulk) / floor
}

func total(p *phase) float64 {
	var sum float64
	for _, seconds := range p.CPU {
		sum += seconds
	}
	return sum
}

func (r *report) judge() {
	for _, run := range r.Runs {
		r.judgeBulk(run)
		r.judgeChanges(run)
		if run.Lone != nil {
			r.bar(run, "one apply to Ready, p50 ms", run.Lone.ToReady.P50, 30, false)
			r.bar(run, "one apply to Ready, p99 ms", run.Lone.ToReady.P99, 100, false)
		}
		if run.Restart != nil {
			r.bar(run, "writes after a restart", run.Restart.Writes, 0, false)
			r.bar(run, "restart, s", run.Restart.Seconds, 10, false)
		}
		if run.Failover != nil {
			r.bar(run, "failover, at most s", run.Failover.Max/1000, 2, false)
		}
	}
	if f := r.Foreign; f != nil {
		r.bar(f, "resident bytes of each", f.each(f.With.Rest[operatorName], f.Without.Rest[operatorName]), 2000, false)
	}
}

func (r *report) judgeBulk(run *oneRun) {
	writes := 5.0
	if run.existing() {
		writes = 4
	}
	r.bar(run, "bulk, as a share of the floor", run.ratio(), 0.8, true)
	r.bar(run, "writes a route", run.Bulk.each(run.Bulk.Writes), writes, false)
	r.bar(run, "reads a route", run.Bulk.each(run.Bulk.Reads), 1, false)
	if run.Idle != nil {
		r.bar(run, "writes at rest", run.Idle.Writes, 0, false)
		r.bar(run, "resident KB a route", run.kilobytes(), 40, false)
	}
}

func (r *report) judgeChanges(run *oneRun) {
	if run.EditFew != nil && run.EditAll != nil {
		r.bar(run, "requests of one edit among all, against few", requests(run.EditAll)/requests(run.EditFew), 1.1, false)
		r.bar(run, "operator's CPU of one edit among all, against few", run.EditAll.CPU[operatorName]/run.EditFew.CPU[operatorName], 2, false)
	}
	if run.ServiceFew != nil && run.ServiceAll != nil {
		r.bar(run, "requests of one Service change among all, against few", requests(run.ServiceAll)/requests(run.ServiceFew), 1.1, false)
	}
}

// requests are those that are about routes, for each thing done.
func requests(p *phase) float64 { return p.each(p.Writes + p.Reads) }

// print shows a run as two tables: how long things took and what was asked of the API server, and what that cost the processes.
func (r *oneRun) print(out io.Writer) {
	fmt.Fprintf(out, "\n%s: %.0f routes/s, floor %.0f (%.0f before, %.0f after): ratio %.2f; CPU of all processes for each route, against the floor: %.2f\n\n", r,
		r.Bulk.perSecond(), r.floor(), r.Floor.perSecond(), r.FloorAgain.perSecond(), r.ratio(), r.work())
	r.printPhases(out)
	if r.Failover != nil {
		fmt.Fprintf(out, "failover: p50 %.0f ms, at most %.0f, after a stop of p50 %.0f ms\n", r.Failover.P50, r.Failover.Max, r.Ending.P50)
	}
	fmt.Fprintf(out, "requests for each route of the bulk:%s\n\n", r.Bulk.requestsEach())
}

// printPhases prints what was measured, in a run that failed too.
func (r *oneRun) printPhases(out io.Writer) {
	phases := slices.DeleteFunc(slices.Concat([]*phase{r.Floor}, r.Phases, []*phase{r.FloorAgain}), func(p *phase) bool { return p == nil })
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tn\ts\tn/s\tobjects, ms: p50\tp95\tp99\tReady, ms: p50\tp95\tp99\twrites/n\treads/n\tevents/n\t")
	for _, p := range phases {
		fmt.Fprintf(w, "%s\t%d\t%.2f\t%.1f\t%s\t%s\t%.2f\t%.2f\t%.2f\t\n", p.Name, p.Count, p.Seconds, p.perSecond(), p.ToObjects, p.ToReady,
			p.each(p.Writes), p.each(p.Reads), p.each(p.Events))
	}
	fmt.Fprintf(w, "\t\n\tCPU, s: %s\tpeak RSS, MB: %s\toperator at rest, MB: RSS\theap\t\n", strings.Join(measured, "\t"), strings.Join(measured, "\t"))
	for _, p := range phases {
		fmt.Fprintf(w, "%s\t%s\t%s\t%.1f\t%.1f\t\n", p.Name, columns(p.CPU), columns(p.Peak), p.Rest[operatorName], p.Heap)
	}
	_ = w.Flush()
	fmt.Fprintln(out)
}

// String is for a row of the table.
func (s *spans) String() string {
	if s == nil {
		return "\t\t"
	}
	return fmt.Sprintf("%.0f\t%.0f\t%.0f", s.P50, s.P95, s.P99)
}

func columns(by map[string]float64) string {
	var texts []string
	for _, process := range measured {
		texts = append(texts, fmt.Sprintf("%.1f", by[process]))
	}
	return strings.Join(texts, "\t")
}

func (p *phase) requestsEach() string {
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(p.Requests)) {
		if n := p.each(p.Requests[key]); n >= 0.01 {
			fmt.Fprintf(&text, " %s %.2f;", key, n)
		}
	}
	return strings.TrimSuffix(text.String(), ";")
}

// publish judges, shows the bars, and writes the figures to a file. Its last line is the verdict.
func (r *report) publish(out io.Writer, file string) error {
	r.judge()
	if f := r.Foreign; f != nil {
		fmt.Fprintf(out, "%d foreign objects: %.0f resident bytes each at rest, %.0f at most, %.0f of live heap\n\n", f.Objects,
			f.each(f.With.Rest[operatorName], f.Without.Rest[operatorName]), f.each(f.With.Peak[operatorName], f.Without.Peak[operatorName]), f.each(f.With.Heap, f.Without.Heap))
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	missed := 0
	for _, b := range r.Bars {
		verdict, limit := "held", "at most"
		if !b.Held {
			verdict = "MISSED"
			missed++
		}
		if b.AtLeast {
			limit = "at least"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.2f\t(%s %g)\n", verdict, b.Run, b.What, b.Got, limit, b.Want)
	}
	_ = w.Flush()
	if file != "" {
		content, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, append(content, '\n'), 0o600); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "verdict: %d of %d bars held;%s\n", len(r.Bars)-missed, len(r.Bars), r.lastLine())
	return nil
}

func (r *report) lastLine() string {
	var parts []string
	for _, run := range r.Runs {
		part := fmt.Sprintf(" %s: %.2f of the floor, %.2f writes and %.2f reads a route", run, run.ratio(), run.Bulk.each(run.Bulk.Writes), run.Bulk.each(run.Bulk.Reads))
		if run.Idle != nil {
			part += fmt.Sprintf(", %.0f writes at rest", run.Idle.Writes)
		}
		if run.Lone != nil {
			part += fmt.Sprintf(", one apply Ready in p50 %.0f ms and p99 %.0f ms", run.Lone.ToReady.P50, run.Lone.ToReady.P99)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ";")
}
