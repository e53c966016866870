// Command controlplane prints a folder with the binaries of a real Kubernetes control plane: kube-apiserver, etcd, kubectl and a few controllers. It uses
// what is there (KUBEBUILDER_ASSETS, its own cache, PATH, the store of setup-envtest), downloads what setup-envtest would, and compiles only what is
// missing from the modules that go.mod names. It runs in its own folder: build.sh calls it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/version"
	"sigs.k8s.io/controller-runtime/tools/setup-envtest/remote"
	"sigs.k8s.io/controller-runtime/tools/setup-envtest/store"
)

func main() {
	c := config{assets: os.Getenv("KUBEBUILDER_ASSETS"), patience: 10 * time.Second, limit: 3 * time.Minute, log: os.Stderr}
	flag.StringVar(&c.index, "index", remote.DefaultIndexURL, "The index of prebuilt binaries, as setup-envtest reads it.")
	flag.BoolVar(&c.installedOnly, "installed-only", os.Getenv("ENVTEST_INSTALLED_ONLY") != "", "Download no prebuilt binaries.")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	folder, err := run(ctx, c)
	if err != nil {
		fmt.Fprintln(os.Stderr, "controlplane:", err)
		os.Exit(1)
	}
	fmt.Println(folder)
}

func run(ctx context.Context, c config) (folder string, err error) {
	began := time.Now()
	if c.kubernetes, err = required(ctx, "k8s.io/kubernetes"); err != nil {
		return "", err
	}
	if c.etcd, err = required(ctx, "go.etcd.io/etcd/server/v3"); err != nil {
		return "", err
	}
	if c.cache, err = cacheFolder(c.kubernetes); err != nil {
		return "", err
	}
	c.store, _ = store.DefaultStoreDir() // without a home there is none
	found, err := find(ctx, c)
	if err != nil {
		return "", err
	}
	if missing := found.missing(binaries); len(missing) > 0 {
		if err := build(ctx, c, missing); err != nil {
			return "", err
		}
		found.take(inFolder(c.cache, missing))
	}
	folder, err = collect(found, c.cache)
	if took := time.Since(began); err == nil && took > 5*time.Second {
		c.logf("The binaries of the control plane are ready after %s.", rounded(took))
	}
	return folder, err
}

// required is the version of a module that go.mod requires.
func required(ctx context.Context, module string) (*version.Version, error) {
	command := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", module)
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("find the version of %s: %w", module, err)
	}
	return version.ParseSemantic(strings.TrimSpace(string(output)))
}
