package cli

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDiffHasTheColoursOfGit(t *testing.T) {
	want := "\x1b[31m--- a\x1b[0m\n\x1b[32m+++ b\x1b[0m\n\x1b[36m@@ -1 +1 @@\x1b[0m\n same\n\x1b[31m-old\x1b[0m\n\x1b[32m+new\x1b[0m\n"
	if diff := cmp.Diff(want, coloured("--- a\n+++ b\n@@ -1 +1 @@\n same\n-old\n+new\n")); diff != "" {
		t.Error(diff)
	}
}
