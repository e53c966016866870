//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/externalroute/externalroute/test/controlplane"
	"github.com/externalroute/externalroute/test/e2e/bench"
)

// textbook are the objects of the article with its Service, and hidden what Istio's documents write for TLS origination without a VirtualService.
const (
	textbook = `{apiVersion: v1, kind: Service, metadata: {name: webserver}, spec: {ports: [{name: http, port: 80}]}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: external-website}, spec: {hosts: [%[1]s], location: MESH_EXTERNAL,
	ports: [{number: 443, name: https, protocol: TLS}], resolution: DNS}}
---
{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: external-tls}, spec: {host: %[1]s, trafficPolicy: {tls: {mode: SIMPLE}}}}
---
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: webserver}, spec: {hosts: [webserver], http: [{match: [{uri: {regex: ".*"}}],
	rewrite: {uri: /textbook.txt, authority: %[1]s}, route: [{destination: {host: %[1]s, port: {number: 443}}}]}]}}
`
	hidden = `{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: website}, spec: {hosts: [%[1]s], location: MESH_EXTERNAL,
	ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}, {number: 443, name: https, protocol: HTTPS}], resolution: DNS}}
---
{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: website}, spec: {host: %[1]s,
	trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}}}
`
)

// Three commands take objects written by hand to a route, and lose no request. eject and two commands lead back, and lose none either.
func TestImportAndEjectLoseNoRequest(t *testing.T) {
	for _, c := range []struct {
		name, namespace, old, called, path string
		live                               bool
	}{
		{name: "the article's objects from files", namespace: "import-files", old: textbook, called: "webserver", path: "/textbook.txt"},
		{name: "the article's objects from the cluster", namespace: "import-live", old: textbook, called: "webserver", path: "/textbook.txt", live: true},
		{name: "TLS origination without a VirtualService", namespace: "import-hidden", old: hidden, path: "/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := c.namespace + ".example.com"
			upstream := mesh.Serve(t, &bench.Upstream{Host: host})
			mesh.DNS.Set(host, 5*time.Second, 0, upstream.Address)
			app := begin(t, c.namespace)
			old := fmt.Sprintf(c.old, host)
			applyText(t, c.namespace, old)
			url, answer := "http://"+c.called+"/", host+" GET "+c.path
			if c.called == "" {
				url = "http://" + host + "/"
			}
			answers(t, app, url, answer)

			load := app.Load(url)
			more(t, load)
			takeOver(t, c.namespace, old, c.live)
			arrived(t, app)
			lostNothing(t, load, host)
			same(t, "old objects", strings.Join(oldObjects(t, c.namespace), " "), "")

			load = app.Load(url)
			more(t, load)
			leave(t, c.namespace)
			arrived(t, app)
			lostNothing(t, load, host)
			answers(t, app, url, answer)
			encrypted(t, upstream)
		})
	}
}

// takeOver is what a user does with import.
func takeOver(t *testing.T, namespace, old string, live bool) {
	t.Helper()
	from := []string{"--namespace", namespace}
	if !live {
		file := filepath.Join(t.TempDir(), "old.yaml")
		if err := os.WriteFile(file, []byte(old), 0o600); err != nil {
			t.Fatal(err)
		}
		from = append(from, "-f", file)
	}
	routes := externalroute(t, append([]string{"import"}, from...)...)
	kubectl(t, routes, "apply", "-f", "-")
	adopted := externalroute(t, append([]string{"import", "--adopt"}, from...)...)
	if !live {
		kubectl(t, adopted, "apply", "-f", "-")
	}
	ready(t, namespace)
	await(t, "the old objects to go", func() (string, bool) {
		left := oldObjects(t, namespace)
		return fmt.Sprint(left), len(left) == 0
	})
}

// oldObjects are those of textbook and hidden that a route does not take over under their names.
func oldObjects(t *testing.T, namespace string) []string {
	t.Helper()
	all := strings.Fields(kubectl(t, "", "get", "serviceentries,destinationrules", "--namespace", namespace, "-o", "name"))
	return slices.DeleteFunc(all, func(name string) bool {
		_, name, _ = strings.Cut(name, "/")
		return !slices.Contains([]string{"external-website", "external-tls", "website"}, name)
	})
}

// leave is what a user does with eject.
func leave(t *testing.T, namespace string) {
	t.Helper()
	plain := externalroute(t, "eject", "--namespace", namespace)
	kubectl(t, "", "delete", "externalroutes", "--all", "--namespace", namespace, "--cascade=orphan")
	kubectl(t, plain, "apply", "-f", "-")
	if owners := kubectl(t, "", "get", "services,serviceentries,destinationrules,virtualservices", "--namespace", namespace,
		"-o", "jsonpath={.items[*].metadata.ownerReferences}"); owners != "" {
		t.Errorf("objects have owners: %s", owners)
	}
}

var plugin = sync.OnceValues(func() (string, error) {
	repository, err := controlplane.Repository()
	if err != nil {
		return "", err
	}
	program := filepath.Join(mesh.Dir, "kubectl-externalroute")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, "./cmd/kubectl-externalroute")
	build.Dir = repository
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the plugin: %w: %s", err, output)
	}
	return program, nil
})

// externalroute runs the plugin as the admin.
func externalroute(t *testing.T, args ...string) string {
	t.Helper()
	program, err := plugin()
	if err != nil {
		t.Fatal(err)
	}
	like := mesh.Kubectl(t.Context(), args...)
	command := exec.CommandContext(t.Context(), program, like.Args[1:]...)
	command.Env = like.Env
	var problems bytes.Buffer
	command.Stderr = &problems
	output, err := command.Output()
	if err != nil {
		t.Fatalf("externalroute %s: %v: %s", strings.Join(args, " "), err, problems.String())
	}
	return string(output)
}
