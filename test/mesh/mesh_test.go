package mesh

import (
	"strings"
	"testing"
)

// Every golden folder: Istio accepts its objects, and sidecars do what the manifest promises.
func TestGolden(t *testing.T) {
	folders := readFolders(t)
	used := map[string]bool{}
	ran := 0
	for _, f := range folders {
		t.Run(f.name, func(t *testing.T) {
			ran++
			if !f.accepted {
				if len(f.generated) > 0 {
					t.Errorf("the route is refused, and there are %d objects", len(f.generated))
				}
				return
			}
			check(t, used, f)
		})
	}
	for _, e := range explained {
		if ran == len(folders) && !used[e.contains] {
			t.Errorf("Istio no longer says %q (%s): take it off the list", e.contains, e.because)
		}
	}
}

func check(t *testing.T, used map[string]bool, folders ...*folder) {
	t.Helper()
	errors, remarks := complaints(t, folders...)
	for _, e := range errors {
		t.Errorf("Istio refuses: %s", e)
	}
remarks:
	for _, r := range remarks {
		for _, e := range explained {
			if strings.Contains(r, e.contains) {
				used[e.contains] = true
				continue remarks
			}
		}
		t.Errorf("Istio remarks: %s", r)
	}
	for _, finding := range inspect(t, folders...) {
		t.Error(finding)
	}
}
