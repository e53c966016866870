// Package gitops_test runs the operator beside Flux's own controllers and Argo CD's engine: what they say of commits is true, they do not fight with the
// operator, and right after a sync they see no difference between a manifest and the stored object.
package gitops_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/argoproj/argo-cd/gitops-engine/pkg/diff"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/health"
	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/kube-openapi/pkg/util/proto"

	"github.com/externalroute/externalroute/test/argocd"
	"github.com/externalroute/externalroute/test/controlplane"
)

const (
	samples   = "../../config/samples"
	manager   = "argocd-controller"
	namespace = "default"
	// trackingID is the annotation by which Argo CD finds what it has synced.
	trackingID = "argocd.argoproj.io/tracking-id"
)

func TestArgoCDSeesNoDifferenceAfterASync(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t, controlplane.Options{ExternalRoute: true})
	for mode, c := range map[string]struct {
		sync    []string
		options []diff.Option
	}{
		"client-side apply and three-way diff": {nil, nil},
		"server-side apply and structured merge diff": {[]string{"--server-side"}, []diff.Option{
			diff.WithStructuredMergeDiff(true), diff.WithGVKParser(cluster.parser), diff.WithManager(manager),
		}},
		"server-side apply and server-side diff": {[]string{"--server-side"}, []diff.Option{
			diff.WithServerSideDiff(true), diff.WithGVKParser(cluster.parser), diff.WithManager(manager), diff.WithServerSideDryRunner(cluster),
		}},
	} {
		t.Run(mode, func(t *testing.T) {
			options := append([]diff.Option{diff.WithLogr(logr.Discard())}, c.options...)
			for _, file := range sampleFiles(t) {
				t.Run(file, func(t *testing.T) {
					for _, manifest := range manifests(t, file) {
						live := cluster.sync(t, manifest, c.sync...)
						result, err := compare(manifest, live, options...)
						if err != nil {
							t.Errorf("Argo CD cannot compare %s %s: %v", manifest.GetKind(), manifest.GetName(), err)
							continue
						}
						if difference := cmp.Diff(object(t, result.NormalizedLive), object(t, result.PredictedLive)); result.Modified || difference != "" {
							t.Errorf("%s %s is out of sync (modified: %t), live (-) and predicted (+):\n%s",
								manifest.GetKind(), manifest.GetName(), result.Modified, difference)
						}
						edited := manifest.DeepCopy()
						edited.SetAnnotations(map[string]string{trackingID: "an edit"})
						if result, err := compare(edited, live, options...); err != nil || !result.Modified {
							t.Errorf("Argo CD does not see an edit: %v", err)
						}
					}
				})
			}
		})
	}
}

// compare is what Argo CD does. Its engine panics if two objects cannot be merged.
func compare(manifest, live *unstructured.Unstructured, options ...diff.Option) (result *diff.DiffResult, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return diff.Diff(manifest, live, options...)
}

// cluster is what Argo CD's engine needs of one.
type cluster struct {
	*controlplane.ControlPlane
	parser *managedfields.GvkParser
}

func newCluster(t *testing.T, options controlplane.Options) *cluster {
	t.Helper()
	plane, err := controlplane.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := plane.Stop(); err != nil {
			t.Error(err)
		}
	})
	api, err := discovery.NewDiscoveryClientForConfig(plane.Config)
	if err != nil {
		t.Fatal(err)
	}
	document, err := api.OpenAPISchema()
	if err != nil {
		t.Fatal(err)
	}
	models, err := proto.NewOpenAPIData(document)
	if err != nil {
		t.Fatal(err)
	}
	parser, err := managedfields.NewGVKParser(models, false)
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{plane, parser}
}

// health is what Argo CD says of an object, with the health check that this project ships.
func (c *cluster) health(t *testing.T, object *unstructured.Unstructured) *health.HealthStatus {
	t.Helper()
	status, err := health.GetResourceHealth(object, shipped{})
	if err != nil {
		t.Fatal(err)
	}
	return status
}

type shipped struct{}

func (shipped) GetResourceHealth(object *unstructured.Unstructured) (*health.HealthStatus, error) {
	status, message, err := argocd.Health(object)
	return &health.HealthStatus{Status: health.HealthStatusCode(status), Message: message}, err
}

// apply applies a manifest as Argo CD does, which calls kubectl's code, and returns the object.
func (c *cluster) apply(ctx context.Context, manifest *unstructured.Unstructured, flags ...string) ([]byte, error) {
	content, err := manifest.MarshalJSON()
	if err != nil {
		return nil, err
	}
	kubectl := c.Kubectl(ctx, append([]string{"apply", "-f", "-", "-o", "json", "--show-managed-fields", "--field-manager", manager}, flags...)...)
	var problem bytes.Buffer
	kubectl.Stdin, kubectl.Stderr = bytes.NewReader(content), &problem
	applied, err := kubectl.Output()
	if err != nil {
		return nil, fmt.Errorf("apply %s %s: %w: %s", manifest.GetKind(), manifest.GetName(), err, problem.String())
	}
	return applied, nil
}

// Run predicts what a sync would store.
func (c *cluster) Run(ctx context.Context, manifest *unstructured.Unstructured, _ string) (string, error) {
	predicted, err := c.apply(ctx, manifest, "--server-side", "--force-conflicts", "--dry-run=server")
	return string(predicted), err
}

// sync applies a manifest, and returns what is stored until the test ends.
func (c *cluster) sync(t *testing.T, manifest *unstructured.Unstructured, flags ...string) *unstructured.Unstructured {
	t.Helper()
	stored, err := c.apply(t.Context(), manifest, flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		out, err := c.Kubectl(context.Background(), "delete", "-n", namespace, manifest.GetKind(), manifest.GetName()).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	live := &unstructured.Unstructured{}
	if err := live.UnmarshalJSON(stored); err != nil {
		t.Fatal(err)
	}
	return live
}

func object(t *testing.T, raw []byte) map[string]any {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(raw); err != nil {
		t.Fatal(err)
	}
	return u.Object
}

func sampleFiles(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(samples)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, entry := range entries {
		if name := entry.Name(); filepath.Ext(name) == ".yaml" && name != "kustomization.yaml" {
			files = append(files, name)
		}
	}
	if len(files) == 0 {
		t.Fatal("found no samples")
	}
	return files
}

// manifests are the objects of a sample as Argo CD syncs them: in the namespace of the application, with the annotation by which it finds them again.
func manifests(t *testing.T, name string) []*unstructured.Unstructured {
	t.Helper()
	file, err := os.Open(filepath.Join(samples, name))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	decoder := yaml.NewYAMLOrJSONDecoder(file, 4096)
	var all []*unstructured.Unstructured
	for {
		manifest := &unstructured.Unstructured{}
		if err := decoder.Decode(manifest); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		if len(manifest.Object) == 0 {
			continue
		}
		if manifest.GetKind() != "ExternalRoutePolicy" { // which is cluster-scoped
			manifest.SetNamespace(namespace)
		}
		annotations := manifest.GetAnnotations()
		if annotations == nil {
			annotations = map[string]string{}
		}
		gvk := manifest.GroupVersionKind()
		annotations[trackingID] = "samples:" + gvk.Group + "/" + gvk.Kind + ":" + namespace + "/" + manifest.GetName()
		manifest.SetAnnotations(annotations)
		all = append(all, manifest)
	}
}
