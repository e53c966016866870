// Command words fails on phrases that docs/glossary.md strikes out (~~phrase~~), in every file that git tracks: code, documents, charts and CRDs use the
// same terms. A phrase that is struck out itself is a quotation and no hit.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

const glossary = "docs/glossary.md"

func main() {
	hits, err := run()
	for _, h := range hits {
		fmt.Println(h)
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "words:", err)
		os.Exit(1)
	case len(hits) > 0:
		fmt.Fprintf(os.Stderr, "words: %d phrases that %s strikes out: use the term beside them\n", len(hits), glossary)
		os.Exit(1)
	}
}

func run() ([]hit, error) {
	page, err := os.ReadFile(glossary)
	if err != nil {
		return nil, fmt.Errorf("read glossary: %w", err)
	}
	forbidden, err := compile(string(page))
	if err != nil {
		return nil, err
	}
	files, err := exec.Command("git", "ls-files", "-z").Output()
	if err != nil {
		return nil, fmt.Errorf("list files (is this a git checkout that git trusts?): %w", err)
	}
	return search(os.DirFS("."), strings.FieldsFunc(string(files), func(r rune) bool { return r == 0 }), forbidden)
}

// search returns the hits in files, in their order.
func search(root fs.FS, files []string, forbidden *regexp.Regexp) ([]hit, error) {
	var hits []hit
	for _, name := range files {
		content, err := fs.ReadFile(root, name)
		switch {
		case errors.Is(err, fs.ErrNotExist), err == nil && slices.Contains(content, 0): // deleted and not committed; binary
		case err != nil:
			return hits, fmt.Errorf("read file: %w", err)
		default:
			hits = append(hits, find(name, content, forbidden)...)
		}
	}
	return hits, nil
}

type hit struct {
	file   string
	line   int
	phrase string
}

func (h hit) String() string { return fmt.Sprintf("%s:%d: %q", h.file, h.line, h.phrase) }

var (
	struck = regexp.MustCompile(`~~[^~\n]+~~`)
	// A phrase may go on in the next line of a comment.
	gap    = `(?:[ \t]+|[ \t]*\n[ \t]*(?:(?://|#|\*|--)[ \t]*)?)`
	spaces = regexp.MustCompile(`[\s/#*-]+`)
)

// compile returns an expression for all phrases that a page strikes out.
func compile(page string) (*regexp.Regexp, error) {
	var phrases []string
	for _, phrase := range struck.FindAllString(page, -1) {
		var words []string
		for word := range strings.FieldsSeq(strings.Trim(phrase, "~")) {
			words = append(words, regexp.QuoteMeta(word))
		}
		phrases = append(phrases, strings.Join(words, gap))
	}
	if len(phrases) == 0 {
		return nil, errors.New("the glossary strikes out no phrase")
	}
	return regexp.Compile(`(?i)\b(?:` + strings.Join(phrases, "|") + `)\b`)
}

func find(name string, content []byte, forbidden *regexp.Regexp) []hit {
	blank := func(quotation []byte) []byte { return bytes.Repeat([]byte(" "), len(quotation)) }
	content = struck.ReplaceAllFunc(content, blank)
	var hits []hit
	for _, at := range forbidden.FindAllIndex(content, -1) {
		phrase := spaces.ReplaceAllString(string(content[at[0]:at[1]]), " ")
		hits = append(hits, hit{file: name, line: 1 + bytes.Count(content[:at[0]], []byte("\n")), phrase: phrase})
	}
	return hits
}
