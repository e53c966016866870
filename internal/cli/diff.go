package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pmezard/go-difflib/difflib"
	"github.com/spf13/cobra"
	"golang.org/x/term"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/resource"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/internal/policy"
	"github.com/externalroute/externalroute/internal/translate"
)

const diffLong = `Print what a change of manifests does to the Istio objects of ExternalRoutes, and in which steps the operator does it.

Without --base, the change is an apply of -f or -k to the cluster. Routes that the files do not name stay, as with kubectl apply; with --prune, those of the
files' namespaces are deleted. Manifests of another namespace than -n are refused, as by kubectl apply. Services, Namespaces, ExternalRoutePolicies and Istio
objects are those of the cluster, and of the files if they have one of the same name. A route that the operator has accepted counts as settled: what differs
from its spec in the cluster is only mentioned, since the operator repairs it anyway. Of any other route, the objects that stand are compared.

With --base, no cluster is asked. --base has the manifests before the change, and -f or -k those after it; with -k, --base is a folder with a kustomization
too. The objects of the base count as existing and settled. Services, Namespaces, ExternalRoutePolicies and Istio objects of either input count as existing on
its side. A route of the base that the other input lacks is deleted, as a GitOps tool with pruning does.

The operator's own plan is driven from the objects before the change to those after it. Of a route that is refused, the objects stay, unless a policy forbids
them.

A route whose egress gateway is a Service that the input does not hold, or that you may not read, is not judged. Neither is one that is suspended or
not accepted, if you may not list its objects, or what the operator refuses it for. Its objects are unknown, and it differs if its spec does.

Exits with 0 if no generated object differs, 1 if one differs, and 2 if the change has a refused route or policy, cannot be read, or a flag is wrong.`

const diffExample = `  # what an apply changes in the cluster
  kubectl externalroute diff -f routes/

  # what a GitOps tool changes there, which deletes what its folder does not hold
  kubectl externalroute diff -f routes/ --prune -l team=shop

  # what a pull request changes
  git worktree add /tmp/base origin/main
  kubectl externalroute diff --base /tmp/base/routes -f routes/

  # the steps alone
  kubectl externalroute diff --base /tmp/base/routes -f routes/ --objects=false

  # what the first route of a repository adds
  kubectl externalroute diff --base /dev/null -f route.yaml`

// errDiffers says that objects differ. It is not printed.
var errDiffers = errors.New("generated objects differ")

// differ is the diff command with its flags.
type differ struct {
	input
	base      []string
	otherwise string
	settle    time.Duration
	objects   bool
	prune     bool
}

func newDiff(e environment) *cobra.Command {
	d := &differ{input: input{environment: e}}
	command := &cobra.Command{
		Use:     "diff [--base FILE|DIR] (-f FILE|DIR|- | -k DIR)",
		Short:   "Print what a change does to the Istio objects, and in which steps",
		Long:    diffLong,
		Example: diffExample,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := d.run(cmd.Context())
			switch {
			case errors.Is(err, errDiffers):
				cmd.SilenceErrors = true
			case err != nil:
				err = trouble{err}
			}
			return err
		},
	}
	d.addSources(command)
	flags := command.Flags()
	flags.StringSliceVar(&d.base, "base", nil, "file or folder with the manifests before the change. Defaults to the cluster.")
	flags.BoolVar(&d.prune, "prune", false, "routes of the cluster that the files lack, in the namespaces of the files' routes, are deleted")
	flags.StringVarP(&d.labels, "selector", "l", "", "with --prune: only routes with these labels are deleted, such as team=shop")
	flags.StringVar(&d.otherwise, "default-policy", "", "the operator's --default-policy: Allow or Deny")
	flags.DurationVar(&d.settle, "settle", 3*time.Second, "the operator's --settle")
	flags.BoolVar(&d.objects, "objects", true, "print the differences of the objects after the steps")
	values := cobra.FixedCompletions([]string{string(policy.Allow), string(policy.Deny)}, cobra.ShellCompDirectiveNoFileComp)
	if err := command.RegisterFlagCompletionFunc("default-policy", values); err != nil {
		panic(err) // the flag is defined above
	}
	return command
}

func (d *differ) check() error {
	switch {
	case !d.local():
		return usage{errNoInput}
	case len(d.base) > 0 && d.prune:
		return usage{errors.New("--prune is for a cluster: what --base has and the change lacks is deleted anyway")}
	case d.labels != "" && !d.prune:
		return usage{errors.New("--selector needs --prune")}
	case d.files.Kustomize != "" && len(d.base) > 1:
		return usage{errors.New("-k needs one --base, a folder with a kustomization")}
	case slices.Contains(d.base, "-") && slices.Contains(d.files.Filenames, "-"):
		return usage{errors.New("only one of --base and -f can be standard input")}
	case d.settle < 0:
		return usage{fmt.Errorf("--settle %s: must not be negative", d.settle)}
	}
	return checkDefault(d.otherwise)
}

func (d *differ) run(ctx context.Context) error {
	if err := d.check(); err != nil {
		return err
	}
	base, head, err := d.revisions(ctx)
	if err != nil {
		return err
	}
	if len(base.routes)+len(head.routes) == 0 {
		return errors.New("neither input holds an ExternalRoute")
	}
	differs, err := d.compare(base, head)
	switch {
	case err != nil || len(head.refused) > 0:
		return errors.Join(append(head.refused, err)...)
	case differs:
		return errDiffers
	}
	return nil
}

// revisions are the states before and after the change.
func (d *differ) revisions(ctx context.Context) (base, head *revision, err error) {
	if len(d.base) == 0 {
		return d.live(ctx)
	}
	before := d.input
	if before.files.Filenames = d.base; d.files.Kustomize != "" {
		before.files.Filenames, before.files.Kustomize = nil, d.base[0]
	}
	old, err := before.readAny() // the change may correct a kind that is misspelt, and an object that the base has twice
	if err == nil {
		base, err = d.judge(ctx, old, &revision{})
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read --base: %w", err)
	}
	files, err := d.read()
	if err != nil {
		return nil, nil, err
	}
	head, err = d.judge(ctx, files, base)
	return base, head, err
}

// live are the cluster, and the cluster after an apply of the files.
func (d *differ) live(ctx context.Context) (base, head *revision, err error) {
	files, err := d.read()
	if err != nil {
		return nil, nil, err
	}
	if len(ofKind(files, routeKind))+len(ofKind(files, policyKind)) == 0 {
		return nil, nil, errors.New("the input holds no ExternalRoute and no ExternalRoutePolicy")
	}
	if err := d.checkNamespace(files); err != nil {
		return nil, nil, err
	}
	from := d.input
	from.files, from.reads = resource.FilenameOptions{}, namespacesOf(files)
	cluster, err := from.read()
	if err == nil {
		err = from.checkRead(files)
	}
	if err != nil {
		return nil, nil, err
	}
	otherwise := policy.Default(d.otherwise)
	if base, err = liveRevision(ctx, &from, cluster, otherwise); err != nil {
		return nil, nil, err
	}
	if d.prune {
		cluster = pruned(cluster, files, d.selector)
	}
	head, err = newRevision(ctx, applied(withoutGenerated(cluster), files), base, d.clusterDomain, otherwise)
	return base, head, err
}

// checkRead refuses to judge files without what decides about them: the routes of their namespaces, and for a policy all others.
func (i *input) checkRead(files []manifest) error {
	if len(ofKind(files, policyKind)) > 0 && unreadIn(i.gaps, policyResource, "") {
		return fmt.Errorf("the policies of the cluster were not read, and count beside those of the files: get the right to list %s", policyResource)
	}
	return i.checkRoutes(namespacesOf(ofKind(files, routeKind))...)
}

// namespacesOf are those that manifests are in, each once.
func namespacesOf(manifests []manifest) (all []string) {
	for _, m := range manifests {
		if namespace := m.GetNamespace(); namespace != "" && !slices.Contains(all, namespace) {
			all = append(all, namespace)
		}
	}
	return all
}

// checkNamespace refuses what kubectl apply refuses: -n, and a manifest of another namespace.
func (d *differ) checkNamespace(files []manifest) error {
	for _, m := range files {
		if namespace := m.GetNamespace(); d.named && namespace != "" && namespace != d.namespace {
			return usage{fmt.Errorf("%s %s is of namespace %s, and kubectl apply would refuse it with -n %s: use -n %s, or no -n",
				m.GetKind(), m.GetName(), namespace, d.namespace, namespace)}
		}
	}
	return nil
}

func (d *differ) judge(ctx context.Context, manifests []manifest, before *revision) (*revision, error) {
	return newRevision(ctx, manifests, before, d.clusterDomain, policy.Default(d.otherwise))
}

// compare prints what becomes of each route, and reports whether an object differs.
func (d *differ) compare(base, head *revision) (differs bool, err error) {
	all := map[types.NamespacedName]bool{}
	for _, key := range slices.Concat(base.keys(), head.keys()) {
		all[key] = true
	}
	for _, key := range slices.SortedFunc(maps.Keys(all), compareNames) {
		was, is := base.routes[key], head.routes[key]
		if was.pending(is) {
			continue
		}
		before := was.objects()
		steps, after := deletion(before), objects{}
		if is != nil {
			if steps, after, err = is.steps(before, d.settle); err != nil {
				return false, err
			}
		}
		notes := slices.Concat(notes(was, is, len(before) > 0), head.unjudged(is))
		changes, err := changesOf(before, after)
		if err != nil {
			return false, err
		}
		differs = differs || len(changes) > 0 || differsUnjudged(was, is)
		untouched := is != nil && is.source == fromCluster && len(steps)+len(changes) == 0
		if verb := verbFor(was, is, len(changes) > 0); !untouched && (verb != unchanged || len(steps)+len(notes) > 0) {
			if err := d.print(key, verb, slices.Concat(notes, steps), changes); err != nil {
				return false, err
			}
		}
	}
	return differs, nil
}

// unjudged says what the judgement of a route lacks.
func (r *revision) unjudged(j *judgement) (notes []string) {
	if j == nil || j.route == nil {
		return nil
	}
	missing := r.unknown(j.route)
	if notJudged(j.refusal) {
		for _, problem := range j.refusal.Problems {
			missing[problem.Field] = problem.Detail
		}
	}
	for _, path := range slices.Sorted(maps.Keys(missing)) {
		notes = append(notes, path+": "+missing[path])
	}
	return notes
}

// pending reports that the operator has something to do for a route of the cluster, and that the change makes no difference to it.
func (j *judgement) pending(after *judgement) bool {
	if j == nil || j.standing == nil || after == nil || after.source != fromCluster {
		return false
	}
	lifted := j.refusal != nil && after.refusal == nil
	forbidden := j.refusal == nil && after.refusal != nil && accepts(j.manifest)
	return !lifted && !forbidden
}

// differsUnjudged reports whether the objects of a route that was not judged may differ, since its spec does.
func differsUnjudged(was, is *judgement) bool {
	if (was == nil || !notJudged(was.refusal)) && (is == nil || !notJudged(is.refusal)) {
		return false
	}
	return was == nil || is == nil || was.route == nil || is.route == nil || !equality.Semantic.DeepEqual(was.route.Spec, is.route.Spec)
}

const unchanged = "is unchanged"

func verbFor(was, is *judgement, differs bool) string {
	switch {
	case is == nil:
		return "is deleted"
	case is.rejected == nil && notJudged(is.refusal):
		return "is not judged"
	case is.rejected != nil || is.refusal != nil:
		return "is refused"
	case was == nil:
		return "is created"
	case differs:
		return "is updated"
	}
	return unchanged
}

// notes say why the objects do not become what the manifests ask for, or what they would have been.
func notes(was, is *judgement, stands bool) []string {
	all := was.unlike(is)
	if was != nil {
		all = append(all, was.remarks...)
	}
	if was != nil && was.standing == nil && was.route != nil && was.route.Spec.Suspend {
		all = append(all, "the base is suspended: its objects are taken to be as its spec asks")
	}
	if is == nil {
		return all
	}
	switch {
	case is.rejected == nil:
	case is.route == nil:
		return append(all, "the API server rejects the manifest")
	default:
		all = append(all, "the API server rejects the manifest, and the route of the base stays")
	}
	if note := is.note(stands); note != "" {
		all = append(all, note)
	}
	return all
}

// unlike says why the objects of the base are not as its manifest asks. What is not judged on either side needs no second word.
func (j *judgement) unlike(after *judgement) []string {
	switch {
	case j == nil || j.standing != nil:
	case j.rejected != nil || j.refusal != nil && !notJudged(j.refusal):
		return []string{"the base is refused, and counts as a route without objects"}
	case j.refusal != nil && (after == nil || !notJudged(after.refusal)):
		return []string{"the base is not judged, and counts as a route without objects: its egress gateway is not in the input"}
	}
	return nil
}

// note says what the operator makes of a route that it does not program at once.
func (j *judgement) note(stands bool) string {
	switch {
	case j.refusal != nil && !stands, notJudged(j.refusal):
		return ""
	case j.refusal != nil && j.refusal.Effect == translate.Withdraw:
		return "the route is not allowed any more, and the operator deletes its objects"
	case j.refusal != nil:
		return "the objects of the base stay, and the operator does not repair them"
	case j.waits:
		return "the route waits until other routes have given up what it asks for, and then:"
	case j.route.Spec.Suspend:
		return "the route is suspended, and the operator writes nothing"
	}
	return ""
}

// deletion is what becomes of the objects of a route that is deleted.
func deletion(before objects) []string {
	if len(before) == 0 {
		return nil
	}
	var names []string
	for _, object := range sorted(before) {
		names = append(names, translate.KeyOf(object).String())
	}
	return []string{"at once: the garbage collector deletes " + strings.Join(names, ", ")}
}

// changesOf are the unified diffs of the objects that differ.
func changesOf(before, after objects) (changes []string, err error) {
	both := maps.Clone(before)
	maps.Copy(both, after)
	for _, object := range sorted(both) {
		key := translate.KeyOf(object)
		old, err := yamlOf(before[key])
		if err != nil {
			return nil, err
		}
		now, err := yamlOf(after[key])
		if err != nil {
			return nil, err
		}
		path := key.Namespace + "/" + strings.ToLower(key.Kind) + "/" + key.Name
		unified := difflib.UnifiedDiff{
			A: slices.Collect(strings.Lines(old)), FromFile: "base/" + path,
			B: slices.Collect(strings.Lines(now)), ToFile: "head/" + path, Context: 3,
		}
		if old == "" {
			unified.FromFile = os.DevNull
		}
		if now == "" {
			unified.ToFile = os.DevNull
		}
		change, err := difflib.GetUnifiedDiffString(unified)
		if err != nil {
			return nil, err
		}
		if change != "" {
			changes = append(changes, change)
		}
	}
	return changes, nil
}

// yamlOf is the YAML of an object, without what only a cluster gives it.
func yamlOf(object translate.Object) (string, error) {
	if object == nil {
		return "", nil
	}
	manifest, err := translate.Manifest(object)
	if err != nil {
		return "", err
	}
	manifest.SetUID("")
	raw, err := yaml.Marshal(manifest.Object)
	return string(raw), err
}

func (d *differ) print(key types.NamespacedName, verb string, remarks, changes []string) error {
	text := &strings.Builder{}
	fmt.Fprintf(text, "ExternalRoute %s %s\n", key, verb)
	for _, remark := range remarks {
		fmt.Fprintf(text, "  %s\n", remark)
	}
	if d.objects {
		colours := isTerminal(d.Out)
		for _, change := range changes {
			if colours {
				change = coloured(change)
			}
			text.WriteString(change)
		}
	}
	_, err := io.WriteString(d.Out, text.String())
	return err
}

func isTerminal(out io.Writer) bool {
	file, is := out.(*os.File)
	return is && os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(file.Fd()))
}

// coloured is a diff in the colours of git.
func coloured(change string) string {
	var b strings.Builder
	for line := range strings.Lines(change) {
		colour := ""
		switch line[0] {
		case '+':
			colour = "\x1b[32m"
		case '-':
			colour = "\x1b[31m"
		case '@':
			colour = "\x1b[36m"
		}
		if colour != "" {
			line = colour + strings.TrimSuffix(line, "\n") + "\x1b[0m\n"
		}
		b.WriteString(line)
	}
	return b.String()
}
