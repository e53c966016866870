package cli_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/externalroute/externalroute/internal/cli"
)

// render runs the command as a shell would and returns what it prints.
func render(stdin string, args ...string) (out, problems string, err error) {
	var stdout, stderr bytes.Buffer
	root := cli.New(genericiooptions.IOStreams{In: strings.NewReader(stdin), Out: &stdout, ErrOut: &stderr}, "dev")
	root.SetArgs(append([]string{"render"}, args...))
	err = root.Execute()
	return stdout.String(), stderr.String(), err
}

// The command line says what the operator does: every golden case that is accepted renders to its golden objects.
func TestRenderPrintsTheGoldenObjects(t *testing.T) {
	wanted, err := filepath.Glob("../translate/testdata/*/want.yaml")
	if err != nil || len(wanted) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range wanted {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			out, problems, err := render("", "-f", filepath.Join(filepath.Dir(file), "route.yaml"))
			if err != nil {
				t.Fatal(problems)
			}
			if diff := cmp.Diff(string(want), out); diff != "" {
				t.Error(diff)
			}
		})
	}
}

const good = `
apiVersion: networking.externalroute.io/v1alpha1
kind: ExternalRoute
metadata: {name: web}
spec:
  hosts: [web]
  destinations: [{url: "https://api.example.com"}]
`

const allowsOther = `
---
apiVersion: networking.externalroute.io/v1alpha1
kind: ExternalRoutePolicy
metadata: {name: other}
spec: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: default}}, allow: [{hosts: [other.example.com]}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: default}
`

func TestRender(t *testing.T) {
	bad := strings.ReplaceAll(strings.ReplaceAll(good, "name: web", "name: bad"), "https://api.example.com", "https://10.0.0.1")
	for sentence, c := range map[string]struct {
		stdin    string
		args     []string
		fails    bool
		out      []string
		problems []string
	}{
		"a manifest without a namespace goes to default":               {stdin: good, out: []string{"namespace: default"}},
		"a manifest without a namespace goes to that of the flag":      {stdin: good, args: []string{"-n", "shop"}, out: []string{"namespace: shop"}},
		"a manifest's own namespace stays":                             {stdin: strings.ReplaceAll(good, "{name: web}", "{name: web, namespace: own}"), args: []string{"-n", "own"}, out: []string{"namespace: own"}},
		"a mistake is reported with its field and exits with an error": {stdin: bad, fails: true, problems: []string{"default/bad", "spec.destinations[0].url"}},
		"a policy of the input refuses a route":                        {stdin: good + allowsOther, fails: true, problems: []string{"(NotAllowedByPolicy)", "allows https://other.example.com:443"}},
		"... and none of a namespace that it does not select":          {stdin: good + allowsOther, args: []string{"-n", "shop"}, out: []string{"kind: VirtualService"}},
		"the good one of two is printed all the same":                  {stdin: good + "---" + bad, fails: true, out: []string{"kind: VirtualService"}, problems: []string{"default/bad"}},
		"an unknown field is a mistake":                                {stdin: good + "  host: web\n", fails: true, problems: []string{"spec.host", "unknown field"}},
		"what only the translation can say is a mistake, too": {
			stdin: strings.ReplaceAll(good, "[web]", "[web.other.svc]"), fails: true, problems: []string{"spec.hosts[0]", "Invalid"},
		},
		"a route that may not create Services takes them to exist": {stdin: good + "  serviceCreationPolicy: Never\n", out: []string{"kind: ServiceEntry"}},
		"a destination that looks like a Service is none for a route that may not create Services": {
			stdin: strings.ReplaceAll(good, "api.example.com", "example.default") + "  serviceCreationPolicy: Never\n", out: []string{"kind: ServiceEntry"},
		},
		"another version of the API is a mistake": {stdin: strings.ReplaceAll(good, "v1alpha1", "v7"), fails: true, problems: []string{"apiVersion"}},
		"nothing to render is a mistake":          {stdin: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n", fails: true, problems: []string{"no ExternalRoute"}},
		"what is no YAML is a mistake":            {stdin: "{", fails: true, problems: []string{"error"}},
		"another cluster domain is refused as a destination": {
			stdin: strings.ReplaceAll(good, "api.example.com", "api.corp.example"), args: []string{"--cluster-domain", "corp.example"},
			fails: true, problems: []string{"spec.destinations[0].url", "corp.example"},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			out, problems, err := render(c.stdin, append(c.args, "-f", "-")...)
			if (err != nil) != c.fails {
				t.Errorf("error %v", err)
			}
			for _, want := range c.out {
				if !strings.Contains(out, want) {
					t.Errorf("%q is not in:\n%s", want, out)
				}
			}
			for _, want := range c.problems {
				if !strings.Contains(problems, want) {
					t.Errorf("%q is not in:\n%s", want, problems)
				}
			}
		})
	}
}

func TestRenderReadsAFolder(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"one", "two"} {
		manifest := strings.ReplaceAll(good, "web", name)
		if err := os.WriteFile(filepath.Join(folder, name+".yaml"), []byte(manifest), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, problems, err := render("", "-f", folder)
	if err != nil {
		t.Fatal(problems)
	}
	if n := strings.Count(out, "kind: VirtualService"); n != 2 {
		t.Errorf("%d VirtualServices in:\n%s", n, out)
	}
}
