package docs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/externalroute/externalroute/test/controlplane"
)

// Every command of the documents is run as it stands, or says why not. A page is a session of its own: one shell in a copy of the repository, and one
// namespace, on a real control plane with the operator in it.
func TestEveryCommandRuns(t *testing.T) {
	s := newStage(t)
	t.Run("pages", func(t *testing.T) { // ends when all of them have
		for _, page := range documents(t) {
			if steps := stepsOf(t, page); len(steps) > 0 {
				t.Run(page, func(t *testing.T) {
					t.Parallel()
					s.play(t, page, steps)
				})
			}
		}
	})
}

// step is a command, or some of them, and what is to come of it.
type step struct {
	line    int
	command string
	want    string
	silent  bool // any output will do
}

const prompt = "$ "

func stepsOf(t *testing.T, page string) []step {
	t.Helper()
	var steps []step
	for _, b := range blocks(t, page) {
		switch {
		case b.notRun != "":
		case b.file != "":
			steps = append(steps, step{line: b.line, command: "cat >" + b.file + " <<'END'\n" + b.text + "END\n", silent: true})
		case b.language == "sh":
			steps = append(steps, step{line: b.line, command: b.text, silent: true})
		case b.language == "console":
			if !strings.HasPrefix(b.text, prompt) {
				t.Fatalf("%s:%d: want a command first, behind %q", page, b.line, prompt)
			}
			unfinished := false // the command goes on, after a backslash
			for i, line := range strings.SplitAfter(b.text, "\n") {
				command, ok := strings.CutPrefix(line, prompt)
				switch {
				case unfinished:
					steps[len(steps)-1].command += line
				case ok:
					steps = append(steps, step{line: b.line + i, command: command})
				default:
					steps[len(steps)-1].want += line
				}
				unfinished = (ok || unfinished) && strings.HasSuffix(line, "\\\n")
			}
		}
	}
	return steps
}

// stage is what all pages share.
type stage struct {
	plane    *controlplane.ControlPlane
	programs string // folder of the manager and the plugin
	cache    string // kubectl's
}

func newStage(t *testing.T) *stage {
	t.Helper()
	plane, err := controlplane.Start(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := plane.Stop(); err != nil {
			t.Error(err)
		}
	})
	s := &stage{plane: plane, programs: t.TempDir(), cache: t.TempDir()}
	s.must(t, exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", s.programs, "../../cmd/..."))
	s.must(t, plane.Kubectl(t.Context(), "apply", "--server-side", "-k", root+"/config/default"))
	s.must(t, plane.Kubectl(t.Context(), "create", "namespace", "istio-egress")) // which several pages share
	s.startOperator(t)
	s.must(t, plane.Kubectl(t.Context(), "wait", "--for=create", "--timeout=5m", // some pages look at it
		"--namespace=externalroute-system", "lease/externalroute.networking.externalroute.io"))
	return s
}

func (s *stage) must(t *testing.T, command *exec.Cmd) {
	t.Helper()
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, output)
	}
}

// The manager ends with this process, however that dies: a few lines of shell wait at a pipe that only this process holds open.
const leash = `(read -r _ <&3; kill $$) & exec "$@" 3<&-`

// startOperator starts the manager with the rights of its ServiceAccount; there are no nodes that could run it as a pod.
func (s *stage) startOperator(t *testing.T) {
	t.Helper()
	const namespace = "externalroute-system"
	kubeconfig, err := s.plane.Kubeconfig("system:serviceaccount:"+namespace+":externalroute",
		"system:serviceaccounts", "system:serviceaccounts:"+namespace)
	if err != nil {
		t.Fatal(err)
	}
	waiting, lifeline, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	log, err := os.Create(filepath.Join(s.plane.Dir, "manager.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	manager := exec.Command("sh", "-c", leash, "sh", filepath.Join(s.programs, "manager"),
		"--kubeconfig="+kubeconfig, "--health-probe-bind-address=0", "--leader-elect", "--leader-election-namespace="+namespace)
	manager.Stdout, manager.Stderr = log, log
	manager.ExtraFiles = []*os.File{waiting}
	manager.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := manager.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.plane.Logs())
		}
		_ = lifeline.Close() // the shell at the other end kills it
		_ = manager.Wait()   // by a signal, which Wait calls an error
	})
}

// mark stands between the outputs of two steps.
const mark = "\x1e"

var noNameCharacters = regexp.MustCompile(`[^a-z0-9]+`)

func (s *stage) play(t *testing.T, page string, steps []step) {
	t.Helper()
	namespace := "page-" + noNameCharacters.ReplaceAllString(strings.ToLower(strings.TrimSuffix(page, ".md")), "-")
	folder := t.TempDir()
	kubeconfig, err := os.ReadFile(s.plane.KubeconfigFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(folder+"/kubeconfig", kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}
	script := strings.Builder{}
	fmt.Fprintf(&script, `set -euo pipefail
files() { # a source archive has no history, and git does not read that of another user
  if git rev-parse --git-dir >/dev/null 2>&1; then git ls-files -z --cached --others --exclude-standard; else find . -path ./bin -prune -o -type f -print0; fi
}
files | tar --null -T - -cf - | (mkdir %[1]q/repository; tar -xf - -C %[1]q/repository)
cd %[1]q/repository
kubectl() { # on a busy machine, waiting may take longer than a reader would wait
  if [[ $1 == wait ]]; then set -- "$@" --timeout=5m; fi
  command kubectl "$@"
}
kubectl create namespace %[2]q
kubectl label namespace %[2]q istio-injection=enabled
kubectl config set-context --current --namespace %[2]q
`, folder, namespace)
	for _, step := range steps {
		fmt.Fprintf(&script, "printf '%s'\n%s\n", mark, step.command)
	}
	if err := os.WriteFile(folder+"/script", []byte(script.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	shell := exec.CommandContext(t.Context(), "bash", folder+"/script")
	shell.Dir = root
	shell.Env = append(os.Environ(), "KUBECONFIG="+folder+"/kubeconfig", "KUBECACHEDIR="+s.cache,
		"PATH="+strings.Join([]string{s.programs, s.plane.Assets, os.Getenv("PATH")}, string(os.PathListSeparator)))
	output, err := shell.CombinedOutput()

	outputs := strings.Split(string(output), mark)
	if err != nil {
		failed := step{command: "what comes before the first command"}
		if len(outputs) > 1 {
			failed = steps[len(outputs)-2]
		}
		t.Errorf("%s:%d: %v\n%s\n%s", page, failed.line, err, failed.command, outputs[len(outputs)-1])
		outputs = outputs[:len(outputs)-1]
	} else if len(outputs) != len(steps)+1 {
		t.Errorf("%s: the shell ended after %d of %d commands", page, len(outputs)-1, len(steps))
	}
	for i, got := range outputs[1:] {
		got = strings.ReplaceAll(got, namespace, "default") // where a reader would be
		if want := steps[i]; !want.silent && !pattern(want.want).MatchString(normal(got)) {
			t.Errorf("%s:%d: %s-want +got:\n%s", page, want.line, want.command, cmp.Diff(normal(want.want), normal(got)))
		}
	}
}

// pattern matches an output that is as the page says. Dots alone on a line stand for any lines.
func pattern(want string) *regexp.Regexp {
	const anyLines = "..."
	expression := strings.Builder{}
	for line := range strings.Lines(normal(want)) {
		if strings.TrimSpace(line) == anyLines {
			expression.WriteString(`(?:.*\n)*`)
		} else {
			expression.WriteString(regexp.QuoteMeta(line))
		}
	}
	return regexp.MustCompile(`^` + expression.String() + `$`)
}

// What differs from run to run, or from namespace to namespace.
var (
	spaces    = regexp.MustCompile(`[ \t]+`)
	times     = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z|\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}`)
	uids      = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	hashes    = regexp.MustCompile(`\b[0-9a-f]{10}\b`)
	addresses = regexp.MustCompile(`\b10\.96\.\d+\.\d+\b`)
	aged      = regexp.MustCompile(`(^|\s)(AGE|Age|LAST SEEN)(\s|$)`) // the head of a table
	age       = regexp.MustCompile(`(^| )(\d+[smhd])+( |$)`)
)

// normal returns an output without what differs from run to run.
func normal(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	table := false
	for i, line := range lines {
		table = line != "" && (table || aged.MatchString(line))
		line = strings.TrimSpace(spaces.ReplaceAllString(line, " "))
		if table {
			line = age.ReplaceAllString(line, "${1}AGE$3")
		}
		lines[i] = line
	}
	text := strings.Join(lines, "\n") + "\n"
	for _, one := range []*regexp.Regexp{times, uids, hashes, addresses} {
		text = one.ReplaceAllString(text, "VARIES")
	}
	return text
}
