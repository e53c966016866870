package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/util/version"
	"sigs.k8s.io/controller-runtime/tools/setup-envtest/remote"
	"sigs.k8s.io/controller-runtime/tools/setup-envtest/store"
	"sigs.k8s.io/controller-runtime/tools/setup-envtest/versions"
)

// The binaries of a control plane. All but the controllers are in the archives of setup-envtest.
const (
	apiServer   = "kube-apiserver"
	etcd        = "etcd"
	kubectl     = "kubectl"
	controllers = "controllers"
)

var (
	binaries  = []string{apiServer, etcd, kubectl, controllers}
	published = []string{apiServer, etcd, kubectl}
)

// config is where binaries may be, and which versions fit.
type config struct {
	kubernetes, etcd *version.Version
	assets           string // KUBEBUILDER_ASSETS
	cache            string // what this command compiled
	store            string // what setup-envtest downloaded; empty without a home
	index            string // what setup-envtest may download
	installedOnly    bool
	// patience is how long an index or a program may take to answer, and limit how long a download may take.
	patience, limit time.Duration
	log             io.Writer
}

func (c config) logf(format string, args ...any) { fmt.Fprintf(c.log, format+"\n", args...) }

// paths are the binaries that were found, by name.
type paths map[string]string

func (p paths) missing(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return p[name] != "" })
}

// take adds what was not found before.
func (p paths) take(others paths) {
	for name, path := range others {
		if p[name] == "" {
			p[name] = path
		}
	}
}

// find looks for the binaries, nearest first. What the user names with KUBEBUILDER_ASSETS is used whatever its version.
func find(ctx context.Context, c config) (paths, error) {
	found := paths{}
	if c.assets != "" {
		found = inFolder(c.assets, binaries)
		if missing := found.missing([]string{apiServer, etcd}); len(missing) > 0 {
			return nil, fmt.Errorf("KUBEBUILDER_ASSETS is %s, which has no executable %v: unset it, or let it name a folder of setup-envtest", c.assets, missing)
		}
	}
	found.take(inFolder(c.cache, binaries))
	for _, look := range []func(context.Context, config) paths{inPath, inStore, downloaded} {
		if len(found.missing(published)) == 0 {
			break
		}
		found.take(fitting(ctx, c, look(ctx, c)))
	}
	return found, nil
}

func inFolder(folder string, names []string) paths {
	found := paths{}
	for _, name := range names {
		if path, err := exec.LookPath(filepath.Join(folder, name)); err == nil {
			found[name] = path
		}
	}
	return found
}

func inPath(context.Context, config) paths {
	found := paths{}
	for _, name := range published {
		if path, err := exec.LookPath(name); err == nil {
			found[name] = path
		}
	}
	return found
}

// fitting are the binaries that print a version that fits, and do so soon: a wrapper may want to download first.
func fitting(ctx context.Context, c config, found paths) paths {
	good := maps.Clone(found)
	maps.DeleteFunc(good, func(name, path string) bool {
		args := []string{"--version"}
		if name == kubectl {
			args = []string{"version", "--client"}
		}
		ctx, cancel := context.WithTimeout(ctx, c.patience)
		defer cancel()
		output, err := exec.CommandContext(ctx, path, args...).Output()
		return err != nil || !fits(c, name, string(output))
	})
	return good
}

var versionInOutput = regexp.MustCompile(`\d+\.\d+\.\d+`)

// fits says whether a binary that prints this as its version can be used: kubectl may be one minor version older or newer than the API server, as
// Kubernetes' version skew policy allows; the others must be of the minor version that go.mod requires.
func fits(c config, name, output string) bool {
	got, err := version.ParseGeneric(versionInOutput.FindString(output))
	if err != nil {
		return false
	}
	want, skew := c.kubernetes, uint(0)
	switch name {
	case etcd:
		want = c.etcd
	case kubectl:
		skew = 1
	}
	return got.Major() == want.Major() && got.Minor() <= want.Minor()+skew && want.Minor() <= got.Minor()+skew
}

// selector selects the patch versions of the Kubernetes version that go.mod requires.
func (c config) selector() versions.PatchSelector {
	return versions.PatchSelector{Major: int(c.kubernetes.Major()), Minor: int(c.kubernetes.Minor()), Patch: versions.AnyPoint} //nolint:gosec // small
}

var platform = versions.Platform{OS: runtime.GOOS, Arch: runtime.GOARCH}

// inStore are binaries that setup-envtest downloaded earlier.
func inStore(ctx context.Context, c config) paths {
	if c.store == "" {
		return nil
	}
	ctx = logr.NewContext(ctx, logr.Discard())
	stored := store.NewAt(c.store)
	items, err := stored.List(ctx, store.Filter{Version: versions.Spec{Selector: c.selector()}, Platform: platform})
	if err != nil || len(items) == 0 { // there is an error if setup-envtest has never run
		return nil
	}
	folder, err := stored.Path(items[0])
	if err != nil {
		return nil
	}
	return inFolder(folder, published)
}

// downloaded downloads binaries into the store of setup-envtest. Without a network it gives up within seconds: what fails here is compiled instead.
func downloaded(ctx context.Context, c config) paths {
	if c.installedOnly || c.store == "" {
		return nil
	}
	c.logf("Looking for prebuilt binaries of Kubernetes %d.%d ...", c.kubernetes.Major(), c.kubernetes.Minor())
	if err := download(logr.NewContext(ctx, logr.Discard()), c); err != nil {
		c.logf("  none could be downloaded: %v", err)
		return nil
	}
	return inStore(ctx, c)
}

func download(ctx context.Context, c config) (err error) {
	client := &remote.HTTPClient{Log: logr.Discard(), IndexURL: c.index}
	item, hash, err := newest(ctx, c, client)
	if err != nil {
		return err
	}
	archive, err := os.CreateTemp("", "controlplane-*.tar.gz")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, archive.Close(), os.Remove(archive.Name())) }()
	ctx, cancel := context.WithTimeoutCause(ctx, c.limit, fmt.Errorf("the download took longer than %s", c.limit))
	defer cancel()
	c.logf("  downloading Kubernetes %s for %s", item.Version, item.Platform)
	if err := client.GetVersion(ctx, item.Version, versions.PlatformItem{Platform: item.Platform, Hash: hash}, archive); err != nil {
		return reason(ctx, err)
	}
	if _, err := archive.Seek(0, io.SeekStart); err != nil {
		return err
	}
	stored := store.NewAt(c.store)
	if err := stored.Initialize(ctx); err != nil {
		return err
	}
	return stored.Add(ctx, item, archive)
}

// newest is the newest archive of the index that fits, and its checksum.
func newest(ctx context.Context, c config, client remote.Client) (store.Item, *versions.Hash, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.patience, fmt.Errorf("the index did not answer within %s", c.patience))
	defer cancel()
	sets, err := client.ListVersions(ctx)
	if err != nil {
		return store.Item{}, nil, reason(ctx, err)
	}
	for _, set := range sets {
		for _, p := range set.Platforms {
			if c.selector().Matches(set.Version) && platform.Matches(p.Platform) {
				return store.Item{Version: set.Version, Platform: p.Platform}, p.Hash, nil
			}
		}
	}
	return store.Item{}, nil, fmt.Errorf("the index has no Kubernetes %s for %s", c.selector(), platform)
}

// reason is why the context ended, if it did: the error of a call that it cut off does not say so.
func reason(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
