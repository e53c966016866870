package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/externalroute/externalroute/internal/lint"
	"github.com/externalroute/externalroute/internal/policy"
	"github.com/externalroute/externalroute/internal/translate"
)

const lintLong = `Report everything that the API server and the operator would refuse in ExternalRoutes and ExternalRoutePolicies, conflicts among the files
included, and give advice about valid routes.

With -f or -k, no cluster is asked. Other objects of the same input count as existing: Services, Namespaces with their labels, ExternalRoutePolicies, and the
ServiceEntries, VirtualServices, DestinationRules and Gateways of Istio, and the HTTPRoutes, GRPCRoutes, XBackends and waypoints of the Gateway API.
ConfigMaps, and waypoints that the input does not hold, are taken to exist.
Policies apply to routes whose Namespace is in the input; --default-policy applies if the input holds no policy.
Of two routes that conflict, the older one has the host; routes without creationTimestamp are ordered by name.

Without -f and -k, the routes are those of a namespace of the cluster (-n) or of all namespaces (-A). They are judged as the operator judges them, among all
other objects of the cluster that you may list, and a route keeps the hosts that it has. What only the operator knows, such as a ConfigMap that is missing, is
what the status says.

What is refused is an error, and advice is a warning. Each finding has its file, line and field. Kustomizations, URLs and clusters have no lines.

Exits with 0 if nothing of the severity of --fail-on is found, 1 if something is found or the input cannot be read, and 2 for wrong flags.`

const lintExample = `  # one manifest
  kubectl externalroute lint -f route.yaml

  # a folder with its subfolders, and warnings fail too
  kubectl externalroute lint -R -f routes/ --fail-on warning

  # annotations in a pull request on GitHub
  kubectl externalroute lint -f routes/ -o github

  # a report for code scanning
  kubectl externalroute lint -f routes/ -o sarif > lint.sarif

  # what is wrong in the cluster
  kubectl externalroute lint -A`

// linter is the lint command with its flags.
type linter struct {
	input
	output    string
	failOn    string
	otherwise string
}

func newLint(e environment) *cobra.Command {
	l := &linter{input: input{environment: e}}
	command := &cobra.Command{
		Use:     "lint [-f FILE|DIR|- | -k DIR]",
		Short:   "Report mistakes in ExternalRoutes and policies, and give advice",
		Long:    lintLong,
		Example: lintExample,
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return l.run(cmd.Context()) },
	}
	l.addFlags(command)
	flags := command.Flags()
	flags.StringVarP(&l.output, "output", "o", "text", "format of the findings: "+strings.Join(formatNames(), ", "))
	flags.StringVar(&l.failOn, "fail-on", string(severityError), "severity from which findings exit with 1: error or warning")
	flags.StringVar(&l.otherwise, "default-policy", "", "the operator's --default-policy: Allow or Deny")
	for flag, values := range map[string][]string{
		"output": formatNames(), "fail-on": {string(severityError), string(severityWarning)}, "default-policy": {string(policy.Allow), string(policy.Deny)},
	} {
		if err := command.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
			panic(err) // the flags are defined above
		}
	}
	return command
}

func (l *linter) run(ctx context.Context) error {
	write, found := formats[l.output]
	if !found {
		return usage{fmt.Errorf("--output %q: must be one of %s", l.output, strings.Join(formatNames(), ", "))}
	}
	if !slices.Contains([]string{string(severityError), string(severityWarning)}, l.failOn) {
		return usage{fmt.Errorf("--fail-on %q: must be error or warning", l.failOn)}
	}
	if err := checkDefault(l.otherwise); err != nil {
		return err
	}
	manifests, err := l.readAny()
	unread, err := unreadFiles(err)
	if err != nil {
		return err
	}
	if l.local() && len(unread) == 0 && !slices.ContainsFunc(manifests, ours) {
		return errors.New("the input holds no ExternalRoute and no ExternalRoutePolicy")
	}
	w, err := l.world(manifests)
	if err != nil {
		return err
	}
	if len(l.concerned(ofKind(manifests, routeKind))) == 0 && (!l.local() || l.labels != "") {
		fmt.Fprintf(l.ErrOut, "%s\n", l.nothing())
	}
	w.otherwise = policy.Default(l.otherwise)
	findings := inOrder(append(unread, findingsOf(ctx, w, manifests, l.concerns)...))
	if err := write(findings, l.Out); err != nil {
		return err
	}
	return l.verdict(findings)
}

func checkDefault(otherwise string) error {
	if !slices.Contains([]policy.Default{"", policy.Allow, policy.Deny}, policy.Default(otherwise)) {
		return usage{fmt.Errorf("--default-policy %q: must be Allow or Deny", otherwise)}
	}
	return nil
}

// verdict is the error with which the command exits, nil if nothing is as severe as that.
func (l *linter) verdict(findings []finding) error {
	count := map[severity]int{}
	for _, f := range findings {
		count[f.Severity]++
	}
	if count[severityError] == 0 && (l.failOn == string(severityError) || count[severityWarning] == 0) {
		return nil
	}
	return fmt.Errorf("errors: %d, warnings: %d", count[severityError], count[severityWarning])
}

// findingsOf are the findings about some routes and about all policies.
func findingsOf(ctx context.Context, w *world, manifests []manifest, about func(route manifest) bool) []finding {
	r := &report{}
	r.written(manifests)
	for _, m := range manifests {
		r.refused(m, unknownKind(m))
	}
	for _, m := range ofKind(manifests, policyKind) {
		r.refused(m, w.admitPolicy(ctx, m))
	}
	for _, j := range w.judgeRoutes(ctx, manifests) {
		if !about(j.manifest) {
			continue
		}
		if j.route != nil {
			for _, advice := range lint.Advise(j.route) {
				r.add(j.manifest, severityWarning, advice.Rule, advice.Path.String(), advice.Message)
			}
		}
		for _, path := range slices.Sorted(maps.Keys(j.missing)) {
			r.add(j.manifest, severityWarning, notInInput, path, j.missing[path])
		}
		r.refused(j.manifest, w.verdict(j))
	}
	return r.findings
}

// verdict is why a route is refused, nil if it is not. The operator may know of more than the commands read.
func (w *world) verdict(j *judged) *translate.Refusal {
	if w.live && (j.refusal == nil || notJudged(j.refusal)) {
		return cmp.Or(refusedBy(j.manifest), j.refusal)
	}
	return j.refusal
}

// report collects findings.
type report struct{ findings []finding }

func (r *report) add(m manifest, s severity, rule, path, message string) {
	r.findings = append(r.findings, finding{
		Severity: s, Rule: rule, Kind: m.GetKind(), Namespace: m.GetNamespace(), Name: m.GetName(), File: m.source, Line: m.line(path), Field: path, Message: message,
	})
}

// refused adds each problem of a refusal, if there is one.
func (r *report) refused(m manifest, refusal *translate.Refusal) {
	if refusal == nil {
		return
	}
	level := severityError
	if notJudged(refusal) {
		level = severityWarning
	}
	for _, problem := range refusal.Problems {
		message := problem.ErrorBody()
		if problem.Type == field.ErrorTypeForbidden {
			message = problem.Detail
		}
		r.add(m, level, refusal.Reason, problem.Field, message)
	}
}

// written adds what is wrong with the way the objects are written: keys that a map has twice, and objects that the input has twice.
func (r *report) written(manifests []manifest) {
	first := namesakes{}
	for _, m := range slices.Concat(ofKind(manifests, policyKind), ofKind(manifests, routeKind)) {
		for _, d := range duplicates(m.node) {
			r.add(m, severityError, "DuplicateKey", d.key, "is written twice in one map: remove one of the two")
			r.findings[len(r.findings)-1].Line = d.line
		}
		if message := first.taken(m); message != "" {
			r.add(m, severityError, "DuplicateObject", nameField, message)
		}
	}
}

func formatNames() []string { return slices.Sorted(maps.Keys(formats)) }
