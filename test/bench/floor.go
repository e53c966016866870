//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// apply is one server-side apply, ready to be sent.
type apply struct {
	path string
	body []byte
}

// floor is a bare client with the operator's account. It knows beforehand what it will write, and reads nothing.
type floor struct {
	host   string
	client *http.Client
}

func (b *bench) newFloor() (*floor, error) {
	config, err := clientcmd.BuildConfigFromFlags("", b.account)
	if err != nil {
		return nil, err
	}
	client, err := rest.HTTPClientFor(config)
	return &floor{host: config.Host, client: client}, err
}

func (f *floor) write(ctx context.Context, a apply, force bool) error {
	query := url.Values{"fieldManager": {"externalroute"}}
	if force {
		query.Set("force", "true")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPatch, f.host+a.path+"?"+query.Encode(), bytes.NewReader(a.body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", string(types.ApplyPatchType))
	response, err := f.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("%s: %s: %s", a.path, response.Status, answer)
	}
	return err
}

// writeAll writes a route's objects and then its status.
func (f *floor) writeAll(ctx context.Context, applies []apply) error {
	for i, a := range applies {
		if err := f.write(ctx, a, i == len(applies)-1); err != nil {
			return err
		}
	}
	return nil
}

func allApplies(routes []*v1alpha1.ExternalRoute, existing bool) ([][]apply, error) {
	all := make([][]apply, len(routes))
	for i, route := range routes {
		var err error
		if all[i], err = appliesFor(route, existing); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// appliesFor are the writes of one route: its objects as the translation gives them, and its status, last, as the operator would report it.
func appliesFor(route *v1alpha1.ExternalRoute, serviceExists bool) ([]apply, error) {
	mesh := translate.Mesh{ClusterDomain: translate.DefaultClusterDomain, Services: map[types.NamespacedName]translate.Service{}}
	if serviceExists {
		key := types.NamespacedName{Namespace: route.Namespace, Name: string(route.Spec.Hosts[0])}
		mesh.Services[key] = translate.Service{Type: corev1.ServiceTypeClusterIP, Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}}
	}
	translation, refusal := translate.Translate(route, mesh)
	if refusal != nil {
		return nil, fmt.Errorf("route %s is refused: %s", route.Name, refusal.Reason)
	}
	var applies []apply
	status := v1alpha1.ExternalRouteStatus{ObservedGeneration: route.Generation, Hosts: translation.HostNames(), Conditions: translate.Conditions(translation, nil)}
	for _, object := range translation.Objects {
		manifest, err := translate.Manifest(object)
		if err != nil {
			return nil, err
		}
		manifest.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(route, v1alpha1.SchemeGroupVersion.WithKind("ExternalRoute"))})
		body, err := json.Marshal(manifest)
		if err != nil {
			return nil, err
		}
		gvk := manifest.GroupVersionKind()
		applies = append(applies, apply{path: pathOf(kindNamed(gvk.Kind), object), body: body})
		status.Resources = append(status.Resources, v1alpha1.GeneratedResource{APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind, Name: object.GetName()})
	}
	for _, condition := range []string{v1alpha1.ConditionProgrammed, v1alpha1.ConditionReady} {
		status.Conditions = append(status.Conditions, metav1.Condition{
			Type: condition, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonProgrammed, Message: fmt.Sprintf("All %d generated objects are in sync.", len(translation.Objects)),
		})
	}
	for i := range status.Conditions {
		status.Conditions[i].ObservedGeneration, status.Conditions[i].LastTransitionTime = route.Generation, metav1.Now()
	}
	body, err := json.Marshal(map[string]any{
		"apiVersion": v1alpha1.SchemeGroupVersion.String(), "kind": "ExternalRoute",
		"metadata": map[string]any{"name": route.Name, "namespace": route.Namespace, "uid": route.UID}, "status": status,
	})
	return append(applies, apply{path: pathOf(routeKind, route) + "/status", body: body}), err
}

func kindNamed(kind string) schema.GroupVersionResource {
	return map[string]schema.GroupVersionResource{
		"Service": serviceKind, "ServiceEntry": serviceEntryKind, "DestinationRule": destinationRuleKind, "VirtualService": virtualServiceKind,
	}[kind]
}

func pathOf(kind schema.GroupVersionResource, object metav1.Object) string {
	root := path.Join("/apis", kind.Group, kind.Version)
	if kind.Group == "" {
		root = path.Join("/api", kind.Version)
	}
	return path.Join(root, "namespaces", object.GetNamespace(), kind.Resource, object.GetName())
}

// measureFloor creates routes while no operator runs, writes what it would have written, and leaves nothing behind.
func (b *bench) measureFloor(ctx context.Context, name string, n int, existing bool) (*phase, error) {
	before, err := b.population(ctx, generatedKinds...)
	if err != nil {
		return nil, err
	}
	bare, err := b.newFloor()
	if err != nil {
		return nil, err
	}
	routes := routesFor("bulk", n)
	var creating time.Duration
	p, err := b.measure(ctx, name, n, nil, func(ctx context.Context) (time.Duration, error) {
		began := time.Now()
		if _, err := b.create(ctx, routes); err != nil {
			return 0, err
		}
		creating = time.Since(began)
		applies, err := allApplies(routes, existing)
		if err != nil {
			return 0, err
		}
		began = time.Now()
		err = b.parallel(ctx, n, func(ctx context.Context, i int) error { return bare.writeAll(ctx, applies[i]) })
		return creating + time.Since(began), err
	})
	if err != nil {
		return nil, err
	}
	p.Creating = creating.Seconds()
	// What the floor wrote is what the operator is to write: the watch agrees that every route is Ready.
	if _, err := b.seen.await(ctx, time.Minute, b.seen.ready, at(1, routes)); err != nil {
		return nil, err
	}
	return p, b.sweep(ctx, before, routes, !existing)
}

// warmUp lets the API server build what it builds at the first requests of a kind.
func (b *bench) warmUp(ctx context.Context) error {
	_, err := b.measureFloor(ctx, "warm up", 200, false)
	return err
}
