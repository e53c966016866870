// Package random draws ExternalRoutes from the CRD's own schema, and meshes around them: whatever the API server may admit, with a taste for the edges.
// What it draws depends on the seed, the schema and this package alone.
package random

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"pgregory.net/rapid"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/admission"
	"github.com/externalroute/externalroute/internal/translate"
)

// Generator draws routes.
type Generator struct {
	// Namespace is that of all routes. Defaults to one for each.
	Namespace string

	spec  *node
	judge *admission.Admission
}

// New reads the CRD that this module ships.
func New() (*Generator, error) {
	definition, err := admission.Definition()
	if err != nil {
		return nil, err
	}
	openAPI := definition.Spec.Validation
	if openAPI == nil {
		openAPI = definition.Spec.Versions[0].Schema
	}
	structural, err := schema.NewStructural(openAPI.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	judge, err := admission.New()
	if err != nil {
		return nil, err
	}
	spec := structural.Properties["spec"]
	return &Generator{spec: newNode(&spec), judge: judge}, nil
}

// Manifests draws manifests, most of which the API server admits.
func (g *Generator) Manifests() *rapid.Generator[*unstructured.Unstructured] {
	return rapid.Custom(func(t *rapid.T) *unstructured.Unstructured {
		_, manifest := g.drawManifest(t)
		return manifest
	})
}

func (g *Generator) drawManifest(t *rapid.T) (*drawing, *unstructured.Unstructured) {
	d := &drawing{t: t, namespace: g.Namespace, seen: map[string][]string{}}
	d.plenty = []int{1, 2, 2, 3, 3, 4, 6, 12}[d.below(8)]
	if d.namespace == "" {
		d.namespace = d.one("demo", "demo", "a", strings.Repeat("n", 63))
	}
	manifest := &unstructured.Unstructured{Object: map[string]any{"apiVersion": v1alpha1.SchemeGroupVersion.String(), "kind": "ExternalRoute"}}
	manifest.SetName(d.text("metadata.name"))
	manifest.SetNamespace(d.namespace)
	if spec, ok := g.spec.draw(d, "spec"); ok {
		if route, is := spec.(map[string]any); is {
			along(d, route)
		}
		manifest.Object["spec"] = spec
	}
	return d, manifest
}

// Admit judges a manifest as the API server would.
func (g *Generator) Admit(manifest *unstructured.Unstructured) (*v1alpha1.ExternalRoute, field.ErrorList) {
	return g.judge.Admit(context.Background(), manifest)
}

// Meshes draws what may be around a route.
func Meshes(route *v1alpha1.ExternalRoute) *rapid.Generator[translate.Mesh] {
	return rapid.Custom(func(t *rapid.T) translate.Mesh {
		d := &drawing{t: t, namespace: route.Namespace}
		mesh := translate.Mesh{
			ClusterDomain:     translate.DefaultClusterDomain,
			Services:          map[types.NamespacedName]translate.Service{},
			MissingConfigMaps: map[string]bool{},
		}
		if d.chance(1) {
			mesh.ClusterDomain = d.one("example.org", "k8s.example", "com")
		}
		references := translate.ReferencesOf(route)
		for _, name := range references.Services {
			switch g := route.Spec.EgressGateway; {
			case g != nil && name == translate.GatewayService(g):
				mesh.GatewayUnwatched = d.chance(1)
				if d.chance(14) {
					mesh.Services[name] = gatewayService(d, route)
				}
			case d.chance(2):
				mesh.Services[name] = service(d, route)
			}
		}
		if references.Waypoint != nil {
			mesh.Waypoints = waypoints(d, *references.Waypoint)
			mesh.NamespaceLabels = map[string]string{"team": "a"}
		}
		for _, name := range references.ConfigMaps {
			mesh.MissingConfigMaps[name] = d.chance(2)
		}
		return mesh
	})
}

func service(d *drawing, route *v1alpha1.ExternalRoute) translate.Service {
	s := translate.Service{
		Type:        corev1.ServiceType(d.one("ClusterIP", "ClusterIP", "ClusterIP", "ClusterIP", "NodePort", "LoadBalancer", "ExternalName")),
		Headless:    d.chance(1),
		HasSelector: d.chance(6),
		Generated:   d.chance(2),
	}
	if s.HasSelector {
		s.Selector = map[string]string{"app": label(d)}
	}
	if d.chance(12) {
		s.WaypointLabels = translate.ServiceLabels(route)
	}
	for range d.below(4) {
		port := corev1.ServicePort{
			Name:     d.one("http", "", "web", "grpc", "tcp-x", "https", "http-admin", "redis"),
			Port:     int32([]int{80, 443, 3306, 8080, 9090}[d.below(5)]),
			Protocol: corev1.Protocol(d.one("TCP", "TCP", "TCP", "UDP", "SCTP")),
		}
		if d.chance(12) {
			port.Port = translate.PortOf(route)
		}
		if d.chance(4) {
			port.AppProtocol = new(d.one("http", "kubernetes.io/h2c", "kubernetes.io/wss", "https", "grpc", "tcp"))
		}
		s.Ports = append(s.Ports, port)
	}
	return s
}

// Translate returns what the route becomes, or why it becomes nothing. The error tells what the translation must never do.
func Translate(route *v1alpha1.ExternalRoute, mesh translate.Mesh) ([]*unstructured.Unstructured, *translate.Refusal, error) {
	translation, refusal := translate.Translate(route, mesh)
	again, refusedAgain := translate.Translate(route.DeepCopy(), mesh)
	switch {
	case refusal != nil && translation != nil:
		return nil, nil, errors.New("the route is refused, and there are objects")
	case refusal == nil && translation == nil:
		return nil, nil, errors.New("the route is not refused, and there are no objects")
	case refusal != nil:
		if diff := cmp.Diff(refusal, refusedAgain); diff != "" {
			return nil, nil, fmt.Errorf("refused in another way the second time: %s", diff)
		}
		return nil, refusal, checkRefusal(route, refusal)
	case again == nil:
		return nil, nil, fmt.Errorf("refused the second time: %s", refusedAgain.Message())
	}
	manifests, first, err := manifestsOf(translation.Objects)
	if err != nil {
		return nil, nil, err
	}
	_, second, err := manifestsOf(again.Objects)
	if diff := cmp.Diff(first, second); diff != "" {
		err = errors.Join(err, fmt.Errorf("something else the second time: %s", diff))
	}
	return manifests, nil, err
}

func manifestsOf(objects translate.Objects) (manifests []*unstructured.Unstructured, text string, err error) {
	for _, object := range objects {
		manifest, err := translate.Manifest(object)
		if err != nil {
			return nil, "", err
		}
		raw, err := manifest.MarshalJSON()
		if err != nil {
			return nil, "", err
		}
		manifests = append(manifests, manifest)
		text += string(raw)
	}
	return manifests, text, nil
}

// checkRefusal says whether a user can find every problem: it names a field that the route has.
func checkRefusal(route *v1alpha1.ExternalRoute, refusal *translate.Refusal) error {
	if refusal.Reason == "" || len(refusal.Problems) == 0 {
		return errors.New("refused for no reason")
	}
	explicit := route.DeepCopy()
	explicit.Spec.Port = translate.PortOf(route) // its default can be wrong, too
	object, err := plain(explicit)
	if err != nil {
		return err
	}
	for _, problem := range refusal.Problems {
		if !strings.HasPrefix(problem.Field, "spec.") || !leads(object, "."+problem.Field) {
			return fmt.Errorf("the route has no field %q: %w", problem.Field, problem)
		}
		if problem.Detail == "" && problem.Type != field.ErrorTypeNotFound {
			return fmt.Errorf("%s says nothing", problem.Field)
		}
	}
	return nil
}

// leads says whether a path leads somewhere.
func leads(value any, path string) bool {
	if path == "" {
		return true
	}
	switch typed := value.(type) {
	case map[string]any:
		for key, child := range typed {
			for _, step := range []string{"." + key, "[" + key + "]"} {
				if rest, here := strings.CutPrefix(path, step); here && leads(child, rest) {
					return true
				}
			}
		}
	case []any:
		for i, child := range typed {
			if rest, here := strings.CutPrefix(path, fmt.Sprintf("[%d]", i)); here && leads(child, rest) {
				return true
			}
		}
	}
	return false
}

func plain(route *v1alpha1.ExternalRoute) (map[string]any, error) {
	manifest, err := toUnstructured(route)
	if err != nil {
		return nil, err
	}
	return manifest.Object, nil
}

func toUnstructured(route *v1alpha1.ExternalRoute) (*unstructured.Unstructured, error) {
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(route)
	delete(object, "status")
	return &unstructured.Unstructured{Object: object}, err
}
