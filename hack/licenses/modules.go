package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// standardLibrary is the name that Go's own module has in version stamps.
const standardLibrary = "std"

// module is a part of the shipped binaries, with the files of it that speak of its licence.
type module struct {
	path, version string
	licences      map[string][]byte
	notices       map[string][]byte
}

// shipped returns the modules that the module's commands are built from, sorted by path, and Go's standard library first.
func shipped(root string, platforms []string) ([]*module, error) {
	found := map[string]*module{}
	for _, platform := range platforms {
		system, architecture, _ := strings.Cut(platform, "/")
		list := exec.Command("go", "list", "-deps", "-json=Dir,Root,Standard,Module", "./cmd/...")
		list.Dir = root
		list.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+architecture)
		list.Stderr = os.Stderr
		output, err := list.Output()
		if err != nil {
			return nil, fmt.Errorf("list packages for %s: %w", platform, err)
		}
		if err := gather(strings.NewReader(string(output)), found); err != nil {
			return nil, fmt.Errorf("read packages for %s: %w", platform, err)
		}
	}
	if len(found) == 0 {
		return nil, errors.New("no dependency was found")
	}
	return slices.SortedFunc(maps.Values(found), func(a, b *module) int {
		if (a.path == standardLibrary) != (b.path == standardLibrary) {
			return map[bool]int{true: -1, false: 1}[a.path == standardLibrary]
		}
		return strings.Compare(a.path, b.path)
	}), nil
}

// gather adds the packages that go list printed. A package may bring a licence of its own, anywhere between its folder and its module's.
func gather(list io.Reader, found map[string]*module) error {
	for decoder := json.NewDecoder(list); ; {
		var p struct {
			Dir, Root string
			Standard  bool
			Module    *struct {
				Path, Version, Dir string
				Main               bool
			}
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		key := module{path: standardLibrary}
		top, folder := p.Root, p.Root // Go's own licence lies above all its packages
		switch {
		case p.Module != nil && p.Module.Main:
			continue
		case p.Module != nil:
			key = module{path: p.Module.Path, version: p.Module.Version}
			top, folder = p.Module.Dir, p.Dir
		case !p.Standard:
			return fmt.Errorf("%s is in no module", p.Dir)
		}
		m := found[key.path]
		if m == nil {
			m = &key
			m.licences, m.notices = map[string][]byte{}, map[string][]byte{}
			found[key.path] = m
		}
		if err := m.read(top, folder); err != nil {
			return err
		}
	}
}

var (
	licenceName = regexp.MustCompile(`(?i)^(licen[cs]e|copying|unlicense)([-._].*)?$`)
	noticeName  = regexp.MustCompile(`(?i)^(notice|patents)(\.(txt|md))?$`)
)

// read takes in what lies in the folder and in those above it, up to the module's.
func (m *module) read(top, folder string) error {
	for ; ; folder = filepath.Dir(folder) {
		entries, err := os.ReadDir(folder)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			texts := m.licences
			switch {
			case entry.IsDir() || strings.HasSuffix(entry.Name(), ".go"):
				continue
			case noticeName.MatchString(entry.Name()):
				texts = m.notices
			case !licenceName.MatchString(entry.Name()):
				continue
			}
			name, err := filepath.Rel(top, filepath.Join(folder, entry.Name()))
			if err != nil {
				return err
			}
			if texts[name], err = os.ReadFile(filepath.Join(folder, entry.Name())); err != nil {
				return err
			}
		}
		if folder == top || len(folder) <= len(top) {
			return nil
		}
	}
}
