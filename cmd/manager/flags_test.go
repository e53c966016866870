package main

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/externalroute/externalroute/internal/cluster"
)

func TestFlags(t *testing.T) {
	empty, certified := t.TempDir(), t.TempDir()
	for _, file := range []string{"tls.crt", "tls.key"} {
		if err := os.WriteFile(filepath.Join(certified, file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		args []string
		want []string // one mistake a line, by its beginning
	}{
		"none are needed":                              {},
		"an empty list of namespaces means all":        {args: []string{"--watch-namespaces="}},
		"a namespace is a DNS label":                   {args: []string{"--watch-namespaces=a,B"}, want: []string{`--watch-namespaces "B": `}},
		"a comma at the end is a mistake":              {args: []string{"--watch-namespaces=a,"}, want: []string{`--watch-namespaces "": `}},
		"time does not run backwards":                  {args: []string{"--settle=-1s"}, want: []string{"--settle -1s: "}},
		"at least one worker":                          {args: []string{"--concurrency=0"}, want: []string{"--concurrency 0: "}},
		"a domain has no dot at its end":               {args: []string{"--cluster-domain=cluster.local."}, want: []string{`--cluster-domain "cluster.local.": `}},
		"a certificate is there with its key":          {args: []string{"--metrics-cert-path=" + certified}},
		"a certificate that is missing is a mistake":   {args: []string{"--metrics-cert-path=" + empty}, want: []string{"--metrics-cert-path: ", "--metrics-cert-path: "}},
		"a key of another name is a mistake":           {args: []string{"--metrics-cert-path=" + certified, "--metrics-cert-key=k"}, want: []string{"--metrics-cert-path: "}},
		"all mistakes are reported":                    {args: []string{"--settle=-1s", "--concurrency=0"}, want: []string{"--settle -1s: ", "--concurrency 0: "}},
		"what the chart and the manifests say is fine": {args: []string{"--leader-elect", "--health-probe-bind-address=:8081", "--metrics-bind-address=:8443"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readFlags(flag.NewFlagSet("manager", flag.ContinueOnError), c.args)
			var got []string
			if err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if !slices.EqualFunc(got, c.want, strings.HasPrefix) {
				t.Errorf("got %q, want what begins with %q", got, c.want)
			}
		})
	}
}

func TestFlagsThatAllowNothing(t *testing.T) {
	for args, want := range map[string]bool{
		"":                      false,
		"--default-policy=Deny": false,
		"--watch-namespaces=a":  false,
		"--watch-namespaces=a --default-policy=Deny": true,
	} {
		f, err := readFlags(flag.NewFlagSet("manager", flag.ContinueOnError), strings.Fields(args))
		if err != nil {
			t.Fatal(err)
		}
		if got := f.allowsNothing(); got != want {
			t.Errorf("%q: %v", args, got)
		}
	}
}

func TestTheCacheHoldsTheNamespacesWatched(t *testing.T) {
	for list, want := range map[string][]string{"": nil, "a": {"a"}, "b,a": {"a", "b"}} {
		f, err := readFlags(flag.NewFlagSet("manager", flag.ContinueOnError), []string{"--watch-namespaces=" + list})
		if err != nil {
			t.Fatal(err)
		}
		options := cluster.CacheOptions(f.routes, f.controller.Namespaces)
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(options.DefaultNamespaces))); diff != "" {
			t.Errorf("%q: %s", list, diff)
		}
		if options.DefaultTransform == nil {
			t.Errorf("%q: the cache keeps what nobody reads", list)
		}
	}
}
