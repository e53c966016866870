package gitops_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/argoproj/argo-cd/gitops-engine/pkg/diff"
	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// health is what Argo CD says of the routes in the cluster, by their names.
func (s *story) health() map[string]string {
	s.Helper()
	health := map[string]string{}
	for _, route := range s.list(routes, "shop") {
		health[route.GetName()] = string(s.argo.health(s.T, &route).Status)
	}
	return health
}

// outOfSync are the routes and policies of the working copy that differ, in Argo CD's eyes, from what is in the cluster. It has two ways to compare, which
// must agree.
func (s *story) outOfSync() []string {
	s.Helper()
	files, err := filepath.Glob(filepath.Join(s.repository.folder, "routes", "*.yaml"))
	if err != nil || len(files) == 0 {
		s.Fatalf("found %d manifests: %v", len(files), err)
	}
	names := map[string]bool{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			s.Fatal(err)
		}
		manifest := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(content, &manifest.Object); err != nil {
			s.Fatal(err)
		}
		live := s.get(manifest.GroupVersionKind(), manifest.GetNamespace(), manifest.GetName())
		for mode, options := range map[string][]diff.Option{
			"three-way": nil,
			"server-side": {
				diff.WithServerSideDiff(true), diff.WithGVKParser(s.argo.parser), diff.WithManager(manager), diff.WithServerSideDryRunner(s.argo),
			},
		} {
			result, err := compare(manifest, live, append(options, diff.WithLogr(logr.Discard()))...)
			switch {
			case err != nil && manifest.GetKind() == routes.Kind: // the API server refuses it
				s.Logf("%s diff of %s: %v", mode, manifest.GetName(), err)
				names[manifest.GetName()] = true
			case err != nil:
				s.Fatal(err)
			case result.Modified:
				names[manifest.GetName()] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}
