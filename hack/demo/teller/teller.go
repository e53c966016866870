// Package teller tells a story on a terminal: headings, manifests, and commands with what they print. Every command that it shows is run as it stands.
package teller

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/externalroute/externalroute/test/controlplane"
)

// Teller tells the story. Its first error ends it: what follows does nothing.
type Teller struct {
	Plane *controlplane.ControlPlane // whose kubectl runs
	Err   error

	bold bool
}

// New makes a teller for the terminal.
func New() *Teller {
	info, err := os.Stdout.Stat()
	return &Teller{bold: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

// Check ends the story with an error, if it is one and the first.
func (t *Teller) Check(err error) {
	if t.Err == nil {
		t.Err = err
	}
}

// Print prints text as it is.
func (t *Teller) Print(text string) {
	if t.Err == nil {
		fmt.Print(text)
	}
}

// Say prints a line.
func (t *Teller) Say(format string, args ...any) {
	t.Print(fmt.Sprintf(format, args...) + "\n")
}

// Heading begins a chapter.
func (t *Teller) Heading(format string, args ...any) {
	text := "# " + fmt.Sprintf(format, args...)
	if t.bold {
		text = "\x1b[1m" + text + "\x1b[0m"
	}
	t.Print("\n" + text + "\n\n")
}

// File shows a manifest.
func (t *Teller) File(path string) {
	content, err := os.ReadFile(path)
	t.Check(err)
	t.Print(fmt.Sprintf("$ cat %s\n%s\n", path, content))
}

// Kubectl shows a command and what it prints.
func (t *Teller) Kubectl(ctx context.Context, args ...string) {
	if _, err := t.Show(t.Plane.Kubectl(ctx, args...), "kubectl", args...); err != nil {
		t.Check(fmt.Errorf("kubectl %s failed", strings.Join(args, " ")))
	}
}

// Refused is Kubectl for a command that must fail.
func (t *Teller) Refused(ctx context.Context, args ...string) {
	if _, err := t.Show(t.Plane.Kubectl(ctx, args...), "kubectl", args...); err == nil {
		t.Check(fmt.Errorf("kubectl %s should have failed", strings.Join(args, " ")))
	}
}

// Show runs a command that was prepared elsewhere, shows the words that a user would type for it, and returns what it printed.
func (t *Teller) Show(command *exec.Cmd, program string, args ...string) (output string, err error) {
	if t.Err != nil {
		return "", t.Err
	}
	t.Say("$ %s %s", program, shellWords(args))
	var printed bytes.Buffer
	command.Stdout = io.MultiWriter(os.Stdout, &printed)
	command.Stderr = command.Stdout
	err = command.Run()
	t.Print("\n")
	return printed.String(), err
}

// Quietly runs kubectl for what is no part of the story.
func (t *Teller) Quietly(ctx context.Context, args ...string) {
	if t.Err != nil {
		return
	}
	if output, err := t.Plane.Kubectl(ctx, args...).CombinedOutput(); err != nil {
		t.Err = fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, output)
	}
}

// Read runs kubectl and decodes its JSON.
func (t *Teller) Read(ctx context.Context, into *unstructured.UnstructuredList, args ...string) {
	if t.Err != nil {
		return
	}
	output, err := t.Plane.Kubectl(ctx, args...).Output()
	if failed := (&exec.ExitError{}); errors.As(err, &failed) {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(failed.Stderr))
	}
	if err == nil {
		into.Items = nil
		err = json.Unmarshal(output, into)
	}
	t.Err = err
}

func shellWords(args []string) string {
	words := make([]string, len(args))
	for i, word := range args {
		if strings.ContainsAny(word, " {}$*\"") {
			word = "'" + word + "'"
		}
		words[i] = word
	}
	return strings.Join(words, " ")
}
