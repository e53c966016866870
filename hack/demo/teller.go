package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/externalroute/externalroute/test/controlplane"
)

// teller tells the story. Its first error ends it: what follows does nothing.
type teller struct {
	plane *controlplane.ControlPlane
	bold  bool
	err   error
}

func isTerminal(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (t *teller) print(text string) {
	if t.err == nil {
		fmt.Print(text)
	}
}

func (t *teller) say(format string, args ...any) {
	t.print(fmt.Sprintf(format, args...) + "\n")
}

func (t *teller) heading(format string, args ...any) {
	text := "# " + fmt.Sprintf(format, args...)
	if t.bold {
		text = "\x1b[1m" + text + "\x1b[0m"
	}
	t.print("\n" + text + "\n\n")
}

// file shows a manifest.
func (t *teller) file(path string) {
	content, err := os.ReadFile(path)
	t.err = firstOf(t.err, err)
	t.print(fmt.Sprintf("$ cat %s\n%s\n", path, content))
}

// kubectl shows a command and what it prints.
func (t *teller) kubectl(ctx context.Context, args ...string) {
	if t.show(ctx, args) != nil {
		t.err = firstOf(t.err, fmt.Errorf("kubectl %s failed", strings.Join(args, " ")))
	}
}

// refused is kubectl for a command that must fail.
func (t *teller) refused(ctx context.Context, args ...string) {
	if t.show(ctx, args) == nil {
		t.err = firstOf(t.err, fmt.Errorf("kubectl %s should have failed", strings.Join(args, " ")))
	}
}

func (t *teller) show(ctx context.Context, args []string) error {
	if t.err != nil {
		return t.err
	}
	t.say("$ kubectl %s", shellWords(args))
	command := t.plane.Kubectl(ctx, args...)
	command.Stdout, command.Stderr = os.Stdout, os.Stdout
	err := command.Run()
	t.print("\n")
	return err
}

// quietly runs kubectl for what is no part of the story.
func (t *teller) quietly(ctx context.Context, args ...string) {
	if t.err != nil {
		return
	}
	if output, err := t.plane.Kubectl(ctx, args...).CombinedOutput(); err != nil {
		t.err = fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, output)
	}
}

// read runs kubectl and decodes its JSON.
func (t *teller) read(ctx context.Context, into *unstructured.UnstructuredList, args ...string) {
	if t.err != nil {
		return
	}
	output, err := t.plane.Kubectl(ctx, args...).Output()
	if failed := (&exec.ExitError{}); errors.As(err, &failed) {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(failed.Stderr))
	}
	if err == nil {
		into.Items = nil
		err = json.Unmarshal(output, into)
	}
	t.err = err
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
