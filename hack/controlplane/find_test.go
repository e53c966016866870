package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/version"
	"sigs.k8s.io/yaml"
)

func TestFits(t *testing.T) {
	c := config{kubernetes: version.MustParseSemantic("1.37.2"), etcd: version.MustParseSemantic("3.7.3")}
	for name, test := range map[string]struct {
		binary, output string
		want           bool
	}{
		"the API server that go.mod requires":                    {apiServer, "Kubernetes v1.37.2", true},
		"an API server of another patch version":                 {apiServer, "Kubernetes v1.37.0-dirty", true},
		"an API server of an older minor version":                {apiServer, "Kubernetes v1.36.9", false},
		"an API server that prints no version":                   {apiServer, "Kubernetes", false},
		"the etcd that go.mod requires":                          {etcd, "etcd Version: 3.7.3\nGit SHA: Not provided", true},
		"an etcd of an older minor version":                      {etcd, "etcd Version: 3.5.21", false},
		"a kubectl that is one minor version newer":              {kubectl, "Client Version: v1.38.1\nKustomize Version: v5.8.1", true},
		"a kubectl that is one minor version older":              {kubectl, "Client Version: v1.36.0", true},
		"a kubectl outside of Kubernetes' version skew":          {kubectl, "Client Version: v1.32.4-dispatcher\nKustomize Version: v5.5.0", false},
		"a kubectl of another major version with that minor one": {kubectl, "Client Version: v2.37.0", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fits(c, test.binary, test.output); got != test.want {
				t.Errorf("got %t, want %t", got, test.want)
			}
		})
	}
}

func TestEstimate(t *testing.T) {
	for name, test := range map[string]struct {
		compiled, reached, total int
		elapsed                  time.Duration
		want                     string
	}{
		"at the begin there is no pace":                     {5, 5, 2000, 10 * time.Second, ""},
		"a tenth of the way":                                {200, 200, 2000, 30 * time.Second, ", about 4 min 30 s left"},
		"what the cache has counts as reached, not as pace": {100, 1900, 2000, 20 * time.Second, ", about 20 s left"},
		"only links are left":                               {2000, 1995, 2000, time.Minute, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := estimate(test.compiled, test.reached, test.total, test.elapsed); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestProgressKeepsWhatIsNoPackage(t *testing.T) {
	p := newProgress([]string{"errors", "io", "example.com/a"})
	problems := p.follow(strings.NewReader("errors\ngo: downloading example.com/a v1.0.0\nexample.com/a\n# example.com/a\na.go:1: undefined: b\n"))
	if diff := cmp.Diff([]string{"# example.com/a", "a.go:1: undefined: b"}, problems); diff != "" {
		t.Error(diff)
	}
	if p.compiled != 2 || p.reached != 3 {
		t.Errorf("%d packages compiled, %d reached: want 2 and 3", p.compiled, p.reached)
	}
}

func TestAssetsOfTheUserAreUsedWhateverTheirVersion(t *testing.T) {
	c := testConfig(t)
	c.assets = fakeFolder(t, "exit 1", apiServer, etcd)
	found, err := find(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if got := filepath.Dir(found[apiServer]); got != c.assets {
		t.Errorf("the API server is from %q, want %q", got, c.assets)
	}
	if diff := cmp.Diff([]string{kubectl, controllers}, found.missing(binaries)); diff != "" {
		t.Errorf("what is to be built:\n%s", diff)
	}
}

func TestAssetsWithoutAnAPIServerAreAnError(t *testing.T) {
	c := testConfig(t)
	c.assets = fakeFolder(t, "exit 0", etcd)
	_, err := find(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "KUBEBUILDER_ASSETS is "+c.assets+", which has no executable [kube-apiserver]") {
		t.Errorf("got %v", err)
	}
}

func TestOnlyFittingBinariesOfPATHAreUsed(t *testing.T) {
	c := testConfig(t)
	folder := fakeFolder(t, "echo v1.37.9", apiServer, kubectl)
	t.Setenv("PATH", folder)
	writeScript(t, filepath.Join(folder, etcd), "echo etcd Version: 3.3.0")
	found, err := find(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	want := paths{apiServer: filepath.Join(folder, apiServer), kubectl: filepath.Join(folder, kubectl)}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Error(diff)
	}
}

// The archive holds real binaries, and the index is served as the published one is.
func TestAnArchiveIsDownloadedOnceAndUsed(t *testing.T) {
	c, archive := testConfig(t), archiveOf(t, realAssets(t))
	server := serveIndex(t, c, archive, fmt.Sprintf("%x", sha512.Sum512(archive)))
	c.index, c.installedOnly = server.URL+"/index.yaml", false
	found, err := find(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if missing := found.missing(published); len(missing) > 0 {
		t.Fatalf("%v are missing", missing)
	}
	if !strings.HasPrefix(found[apiServer], c.store) {
		t.Errorf("the API server is %s, want one in %s", found[apiServer], c.store)
	}
	server.Close()
	again, err := find(t.Context(), c)
	if diff := cmp.Diff(found, again); diff != "" || err != nil {
		t.Errorf("the second time, without a server: %v\n%s", err, diff)
	}
}

func TestAnArchiveWithAnotherChecksumIsNotUsed(t *testing.T) {
	c := testConfig(t)
	var log bytes.Buffer
	archive := archiveOf(t, fakeFolder(t, "echo v1.37.2", apiServer))
	c.index, c.installedOnly, c.log = serveIndex(t, c, archive, fmt.Sprintf("%x", sha512.Sum512([]byte("another")))).URL+"/index.yaml", false, &log
	found, err := find(t.Context(), c)
	if err != nil || len(found) > 0 {
		t.Errorf("found %v, %v", found, err)
	}
	if !strings.Contains(log.String(), "checksum mismatch") {
		t.Errorf("the log does not say why:\n%s", log.String())
	}
}

func TestAnIndexThatDoesNotAnswerIsGivenUp(t *testing.T) {
	c := testConfig(t)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0") // connections are taken, and nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var log bytes.Buffer
	c.index, c.installedOnly, c.log, c.patience = "http://"+listener.Addr().String(), false, &log, 50*time.Millisecond
	if found, err := find(t.Context(), c); err != nil || len(found) > 0 {
		t.Errorf("found %v, %v", found, err)
	}
	if !strings.Contains(log.String(), "the index did not answer within 50ms") {
		t.Errorf("the log does not say why:\n%s", log.String())
	}
}

func TestBinariesFromSeveralPlacesAreCollected(t *testing.T) {
	cache := fakeFolder(t, "exit 0", controllers, kubectl)
	others := fakeFolder(t, "exit 0", apiServer, etcd)
	found := inFolder(others, binaries)
	found.take(inFolder(cache, binaries))
	for range 2 { // the second time the links are there
		folder, err := collect(found, cache)
		if err != nil {
			t.Fatal(err)
		}
		if missing := inFolder(folder, binaries).missing(binaries); len(missing) > 0 || folder == cache {
			t.Errorf("%s lacks %v", folder, missing)
		}
	}
}

// testConfig finds nothing: no PATH, no store, no network.
func testConfig(t *testing.T) config {
	t.Helper()
	t.Setenv("PATH", t.TempDir())
	return config{
		kubernetes: version.MustParseSemantic("1.37.2"), etcd: version.MustParseSemantic("3.7.3"),
		cache: t.TempDir(), store: filepath.Join(t.TempDir(), "store"), installedOnly: true, patience: time.Minute, limit: 10 * time.Minute, log: t.Output(),
	}
}

func realAssets(t *testing.T) string {
	t.Helper()
	folder := os.Getenv("KUBEBUILDER_ASSETS")
	if folder == "" {
		t.Skip("KUBEBUILDER_ASSETS is not set: make test sets it")
	}
	return folder
}

func fakeFolder(t *testing.T, script string, names ...string) string {
	t.Helper()
	folder := t.TempDir()
	for _, name := range names {
		writeScript(t, filepath.Join(folder, name), script)
	}
	return folder
}

func writeScript(t *testing.T, path, script string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil { //nolint:gosec // it must be executable
		t.Fatal(err)
	}
}

// archiveOf packs the published binaries of a folder as setup-envtest expects them.
func archiveOf(t *testing.T, folder string) []byte {
	t.Helper()
	var archive bytes.Buffer
	zipped, err := gzip.NewWriterLevel(&archive, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	packed := tar.NewWriter(zipped)
	for name, path := range inFolder(folder, published) {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: "controller-tools/envtest/" + name, Mode: 0o755, Size: int64(len(content))}
		if err := packed.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := packed.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	for _, end := range []io.Closer{packed, zipped} {
		if err := end.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return archive.Bytes()
}

// serveIndex serves an index with two versions, of which one fits.
func serveIndex(t *testing.T, c config, archive []byte, checksum string) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	entry := func(v string) map[string]any {
		return map[string]any{fmt.Sprintf("envtest-v%s-%s-%s.tar.gz", v, platform.OS, platform.Arch): map[string]string{
			"hash": checksum, "selfLink": server.URL + "/archive-" + v,
		}}
	}
	index, err := yaml.Marshal(map[string]any{"releases": map[string]any{"v1.38.0": entry("1.38.0"), "v" + c.kubernetes.String(): entry(c.kubernetes.String())}})
	if err != nil {
		t.Fatal(err)
	}
	mux.HandleFunc("/index.yaml", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(index) })
	mux.HandleFunc("/archive-"+c.kubernetes.String(), func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(archive) })
	return server
}
