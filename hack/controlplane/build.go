package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/version"
)

// sources are the packages of the binaries, and what go build calls them.
var sources = map[string]struct{ pkg, output string }{
	apiServer:   {"k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver"},
	etcd:        {"go.etcd.io/etcd/server/v3", "server"},
	kubectl:     {"k8s.io/kubernetes/cmd/kubectl", "kubectl"},
	controllers: {"github.com/externalroute/externalroute/hack/controlplane/controllers", "controllers"},
}

// cacheFolder is where binaries of exactly these versions are kept. CONTROLPLANE_CACHE moves it.
func cacheFolder(kubernetes *version.Version) (string, error) {
	base := os.Getenv("CONTROLPLANE_CACHE")
	if base == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find a folder for compiled binaries: %w", err)
		}
		base = filepath.Join(user, "externalroute", "controlplane")
	}
	sum := sha256.New()
	for _, name := range []string{"go.mod", "go.sum", "controllers/main.go"} {
		content, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		sum.Write(content)
	}
	return filepath.Join(base, fmt.Sprintf("v%s-%s-%s-%x", kubernetes, runtime.GOOS, runtime.GOARCH, sum.Sum(nil)[:5])), nil
}

// build compiles binaries into the cache, all in one go, so that one is linked while another is compiled. Compiler flags, cgo among them, stay Go's own: the product
// compiles the same Kubernetes libraries and shares them through Go's build cache.
func build(ctx context.Context, c config, names []string) error {
	packages := make([]string, len(names))
	for i, name := range names {
		packages[i] = sources[name].pkg
	}
	c.logf("Compiling %s of Kubernetes %s: minutes on a cold cache, seconds on a warm one.", strings.Join(names, ", "), c.kubernetes)
	order, err := dependencies(ctx, packages)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.cache, 0o755); err != nil {
		return err
	}
	folder, err := os.MkdirTemp(c.cache, ".build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	if err := compile(ctx, c, folder, packages, newProgress(order)); err != nil {
		return err
	}
	for _, name := range names { // a rename, so that a build that is cut off leaves nothing that looks whole
		if err := os.Rename(filepath.Join(folder, sources[name].output), filepath.Join(c.cache, name)); err != nil {
			return err
		}
	}
	return nil
}

// dependencies are all packages that the named ones need, in about the order in which Go compiles them.
func dependencies(ctx context.Context, packages []string) ([]string, error) {
	command := exec.CommandContext(ctx, "go", append([]string{"list", "-deps"}, packages...)...)
	var problems strings.Builder
	command.Stderr = &problems
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("list the packages of the control plane: %w\n%s", err, problems.String())
	}
	return strings.Fields(string(output)), nil
}

func compile(ctx context.Context, c config, folder string, packages []string, p *progress) error {
	const stamp = "k8s.io/component-base/version."
	ldflags := fmt.Sprintf("-s -w -X %[1]sgitVersion=v%[2]s -X %[1]sgitMajor=%[3]d -X %[1]sgitMinor=%[4]d",
		stamp, c.kubernetes, c.kubernetes.Major(), c.kubernetes.Minor())
	command := exec.CommandContext(ctx, "go", append([]string{"build", "-v", "-buildvcs=false", "-ldflags", ldflags, "-o", folder + "/"}, packages...)...)
	output, err := command.StderrPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	stop := p.report(c)
	problems := p.follow(output)
	stop()
	if err := command.Wait(); err != nil {
		return fmt.Errorf("compile the control plane: %w\n%s", err, strings.Join(problems, "\n"))
	}
	return nil
}

// progress estimates how long a build still takes from the packages that it has compiled: they cost about the same, since reading their imports is most of it.
type progress struct {
	began time.Time
	place map[string]int

	mu sync.Mutex
	// compiled is how many packages were compiled, and reached how far the build is in the order of all packages: the cache has the others.
	compiled, reached int
}

func newProgress(order []string) *progress {
	p := &progress{began: time.Now(), place: make(map[string]int, len(order))}
	for i, pkg := range order {
		p.place[pkg] = i + 1
	}
	return p
}

// follow reads what go build -v prints, and returns what are no names of packages: errors.
func (p *progress) follow(output io.Reader) (problems []string) {
	for lines := bufio.NewScanner(output); lines.Scan(); {
		place, known := p.place[lines.Text()]
		switch {
		case known:
			p.mu.Lock()
			p.compiled, p.reached = p.compiled+1, max(p.reached, place)
			p.mu.Unlock()
		case !strings.HasPrefix(lines.Text(), "go: downloading "):
			problems = append(problems, lines.Text())
		}
	}
	return problems
}

// report prints every quarter of a minute how far the build is, until the function that it returns is called.
func (p *progress) report(c config) (stop func()) {
	ticker, done := time.NewTicker(15*time.Second), make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case now := <-ticker.C:
				p.mu.Lock()
				compiled, left := p.compiled, estimate(p.compiled, p.reached, len(p.place), now.Sub(p.began))
				p.mu.Unlock()
				c.logf("  %s: %d packages compiled%s", rounded(now.Sub(p.began)), compiled, left)
			}
		}
	}()
	return func() { ticker.Stop(); close(done) }
}

// estimate says how long the packages after the one that was reached take, at the pace so far: nothing while there is no pace yet, or only links are left.
func estimate(compiled, reached, total int, elapsed time.Duration) string {
	const few = 20
	if compiled < few || total-reached < few {
		return ""
	}
	return ", about " + rounded(elapsed/time.Duration(compiled)*time.Duration(total-reached)) + " left"
}

// rounded is a duration as a person says it.
func rounded(d time.Duration) string {
	d = d.Round(time.Second)
	if d < time.Minute {
		return fmt.Sprintf("%d s", int(d.Seconds()))
	}
	return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
}

// collect returns a folder that has all binaries: the cache, if all are there, else one of links beside it.
func collect(found paths, cache string) (string, error) {
	if len(inFolder(cache, binaries)) == len(binaries) && !slices.ContainsFunc(binaries, func(n string) bool { return filepath.Dir(found[n]) != cache }) {
		return cache, nil
	}
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(found)) {
		fmt.Fprintln(sum, name, found[name])
	}
	folder := filepath.Join(filepath.Dir(cache), fmt.Sprintf("links-%x", sum.Sum(nil)[:5]))
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	for name, path := range found {
		if err := os.Symlink(path, filepath.Join(folder, name)); err != nil && !errors.Is(err, os.ErrExist) {
			return "", err
		}
	}
	return folder, nil
}
