package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// template is the part of .goreleaser.yaml from which a release makes the manifest.
type template struct {
	Builds []struct {
		ID, Binary string
		Targets    []string
	}
	Krews []struct {
		Name, Homepage   string
		IDs              []string
		ShortDescription string `json:"short_description"`
		Description      string
		Caveats          string
	}
}

// render fills the template as goreleaser does, with archives of its own in a folder.
func render(t *testing.T, folder string) plugin {
	t.Helper()
	content, err := os.ReadFile("../../../.goreleaser.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var from template
	if err := yaml.Unmarshal(content, &from); err != nil {
		t.Fatal(err)
	}
	if len(from.Krews) != 1 {
		t.Fatalf("found %d manifests: want one", len(from.Krews))
	}
	var p plugin
	texts := from.Krews[0]
	p.APIVersion, p.Kind, p.Metadata.Name = apiVersion, "Plugin", texts.Name
	p.Spec.Version, p.Spec.Homepage, p.Spec.ShortDescription, p.Spec.Description, p.Spec.Caveats = "v1.2.3", texts.Homepage, texts.ShortDescription,
		texts.Description, texts.Caveats
	for _, build := range from.Builds {
		if build.ID != texts.IDs[0] {
			continue
		}
		for _, target := range build.Targets {
			system, machine, _ := strings.Cut(target, "_")
			name, binary, pack := build.Binary+"_"+target+".tar.gz", build.Binary, tarball
			if system == "windows" {
				name, binary, pack = build.Binary+"_"+target+".zip", build.Binary+".exe", zipped
			}
			archive := pack(t, binary, licence)
			write(t, filepath.Join(folder, name), archive)
			one := platform{URI: "https://example.com/" + name, Sha256: fmt.Sprintf("%x", sha256.Sum256(archive)), Bin: binary}
			if err := yaml.Unmarshal(fmt.Appendf(nil, "matchLabels: {os: %s, arch: %s}", system, machine), &one.Selector); err != nil {
				t.Fatal(err)
			}
			p.Spec.Platforms = append(p.Spec.Platforms, one)
		}
	}
	return p
}

func tarball(t *testing.T, files ...string) []byte {
	t.Helper()
	return archived(t, func(out io.Writer) io.Closer {
		zipper := gzip.NewWriter(out)
		w := tar.NewWriter(zipper)
		for _, file := range files {
			if err := w.WriteHeader(&tar.Header{Name: file}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return zipper
	})
}

func zipped(t *testing.T, files ...string) []byte {
	t.Helper()
	return archived(t, func(out io.Writer) io.Closer {
		w := zip.NewWriter(out)
		for _, file := range files {
			if _, err := w.Create(file); err != nil {
				t.Fatal(err)
			}
		}
		return w
	})
}

func archived(t *testing.T, fill func(io.Writer) io.Closer) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := fill(&out).Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func write(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// What a release makes of .goreleaser.yaml is what krew's index accepts.
func TestTheManifestIsAccepted(t *testing.T) {
	folder := t.TempDir()
	p := render(t, folder)
	if len(p.Spec.Platforms) == 0 {
		t.Fatal("found no platform: the test reads the wrong build")
	}
	if err := check(t, folder, p); err != nil {
		t.Error(err)
	}
}

func check(t *testing.T, folder string, p plugin) error {
	t.Helper()
	content, err := yaml.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "externalroute.yaml")
	write(t, file, content)
	return run([]string{file, folder})
}

func TestMistakesAreFound(t *testing.T) {
	for name, tt := range map[string]struct {
		mistake func(p *plugin, folder string)
		want    string
	}{
		"another version of the API": {func(p *plugin, _ string) { p.APIVersion = "krew.googlecontainertools.github.com/v1" }, "apiVersion: Unsupported value"},
		"another kind":               {func(p *plugin, _ string) { p.Kind = "Receipt" }, "kind: Unsupported value"},
		"another name than the file": {func(p *plugin, _ string) { p.Metadata.Name = "kubectl-externalroute" }, "metadata.name: Unsupported value"},
		"a version without v":        {func(p *plugin, _ string) { p.Spec.Version = "1.2.3" }, "spec.version: Invalid value"},
		"no homepage":                {func(p *plugin, _ string) { p.Spec.Homepage = "" }, "spec.homepage: Required value"},
		"a long short description":   {func(p *plugin, _ string) { p.Spec.ShortDescription = strings.Repeat("a", 51) }, "spec.shortDescription: Too long"},
		"a short description of two lines": {
			func(p *plugin, _ string) { p.Spec.ShortDescription = "a\nb" }, "spec.shortDescription: Invalid value",
		},
		"a long line":          {func(p *plugin, _ string) { p.Spec.Caveats = strings.Repeat("ab ", 27) + "c" }, "spec.caveats: Too long"},
		"no platform":          {func(p *plugin, _ string) { p.Spec.Platforms = nil }, "spec.platforms: Required value"},
		"a URI over plaintext": {func(p *plugin, _ string) { p.Spec.Platforms[0].URI = "http://example.com/a.tar.gz" }, "spec.platforms[0].uri: Invalid value"},
		"a short digest":       {func(p *plugin, _ string) { p.Spec.Platforms[1].Sha256 = "abc" }, "spec.platforms[1].sha256: Invalid value"},
		"no program":           {func(p *plugin, _ string) { p.Spec.Platforms[0].Bin = "" }, "spec.platforms[0].bin: Required value"},
		"no selector":          {func(p *plugin, _ string) { p.Spec.Platforms[0].Selector = nil }, "spec.platforms[0].selector: Invalid value"},
		"an unknown system": {
			func(p *plugin, _ string) { p.Spec.Platforms[0].Selector.MatchLabels["os"] = "plan9" }, "spec.platforms[0].selector: Invalid value",
		},
		"two archives for one":  {func(p *plugin, _ string) { delete(p.Spec.Platforms[0].Selector.MatchLabels, "arch") }, "selector: Duplicate value"},
		"another archive":       {func(p *plugin, _ string) { p.Spec.Platforms[0].Sha256 = strings.Repeat("0", 64) }, "spec.platforms[0]: sha256 is 000"},
		"an archive of no file": {func(p *plugin, _ string) { p.Spec.Platforms[0].URI += ".zip" }, "no such file"},
		"another program":       {func(p *plugin, _ string) { p.Spec.Platforms[0].Bin = "externalroute" }, "has no file externalroute"},
		"an archive without the licence": {func(p *plugin, folder string) {
			archive := tarball(t, p.Spec.Platforms[0].Bin)
			write(t, filepath.Join(folder, filepath.Base(p.Spec.Platforms[0].URI)), archive)
			p.Spec.Platforms[0].Sha256 = fmt.Sprintf("%x", sha256.Sum256(archive))
		}, "has no file LICENSE"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			p := render(t, folder)
			tt.mistake(&p, folder)
			if err := check(t, folder, p); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v: want %q", err, tt.want)
			}
		})
	}
}
