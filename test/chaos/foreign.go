//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const takenPrefix = "taken-"

// The namespace of the egress gateways, and their Services.
const gatewayNamespace = "egress"

var gateways = []string{"gateway-a", "gateway-b"}

// plantGateways creates the Services of egress gateways, which all routes share.
func (c *cluster) plantGateways(ctx context.Context) error {
	if err := c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: gatewayNamespace}}); err != nil {
		return err
	}
	for _, name := range gateways {
		if err := c.Create(ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: gatewayNamespace, Name: name},
			Spec:       corev1.ServiceSpec{Selector: map[string]string{"istio": name}, Ports: []corev1.ServicePort{{Name: "https", Port: 443}}},
		}); err != nil {
			return err
		}
	}
	return nil
}

// takenService is the Service of another user that a route serves.
func takenService(i int) string { return fmt.Sprintf(takenPrefix+"%02d", i) }

// plantForeign puts objects of other people's into a namespace: those that routes refer to, and others of the kinds that the operator writes, with
// names, hosts and labels like its own.
func (c *cluster) plantForeign(ctx context.Context, namespace string, random *rand.Rand, routes int) error {
	meta := func(name string) metav1.ObjectMeta {
		m := metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"team": fmt.Sprintf("t%d", random.IntN(1000))}}
		if random.IntN(2) == 0 {
			m.Labels["app.kubernetes.io/managed-by"] = "another-client"
		}
		if random.IntN(2) == 0 {
			m.Annotations = map[string]string{"note": fmt.Sprint(random.Uint64())}
		}
		return m
	}
	objects := []client.Object{&corev1.ConfigMap{ObjectMeta: meta("ca"), Data: map[string]string{"ca.crt": "a certificate"}}}
	for i := 0; i < routes; i += kinds {
		objects = append(objects, &corev1.Service{ObjectMeta: meta(takenService(i)), Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": fmt.Sprint(random.IntN(1000))}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}},
		}})
	}
	for i := range 3 {
		host := fmt.Sprintf("foreign-%d.example.org", i)
		objects = append(objects,
			&corev1.Service{ObjectMeta: meta(fmt.Sprintf("route-9%d", i)), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80 + random.Int32N(100)}}}},
			&networkingv1.ServiceEntry{ObjectMeta: meta(fmt.Sprintf("route-9%d-0123456789", i)), Spec: istio.ServiceEntry{
				Hosts: []string{host}, Location: istio.ServiceEntry_MESH_EXTERNAL, Resolution: istio.ServiceEntry_DNS,
				Ports: []*istio.ServicePort{{Number: 80 + random.Uint32N(1000), Name: "http", Protocol: "HTTP"}},
			}},
			&networkingv1.DestinationRule{ObjectMeta: meta(fmt.Sprintf("route-9%d-0123456789", i)), Spec: istio.DestinationRule{
				Host: host, Subsets: []*istio.Subset{{Name: fmt.Sprintf("s%d", random.IntN(1000))}},
			}},
			&networkingv1.VirtualService{ObjectMeta: meta(fmt.Sprintf("route-9%d", i)), Spec: istio.VirtualService{
				Hosts: []string{host}, Http: []*istio.HTTPRoute{{Route: []*istio.HTTPRouteDestination{{Destination: &istio.Destination{Host: host}}}}},
			}},
		)
	}
	for _, object := range objects {
		if err := insist(ctx, func() error {
			object.SetResourceVersion("")
			err := c.Create(ctx, object)
			if apierrors.IsAlreadyExists(err) {
				return nil
			}
			return err
		}); err != nil {
			return fmt.Errorf("create %T %s: %w", object, object.GetName(), err)
		}
	}
	return nil
}

// snapshot is what the objects of other people's look like, by kind, namespace, name and UID.
type snapshot map[string]string

// foreign takes a snapshot of all objects of other people's, of the kinds that the operator may write.
func (c *cluster) foreign(ctx context.Context, in ...client.ListOption) (snapshot, error) {
	objects, err := c.list(ctx, in...)
	if err != nil {
		return nil, err
	}
	all := snapshot{}
	for _, object := range objects {
		if isGenerated(object) {
			continue
		}
		object.SetManagedFields(nil)
		raw, err := json.Marshal(object)
		if err != nil {
			return nil, err
		}
		key := fmt.Sprintf("%s %s/%s (%s)", kindOf(object), object.GetNamespace(), object.GetName(), object.GetUID())
		all[key] = fmt.Sprintf("%s %x", object.GetResourceVersion(), sha256.Sum256(raw))
	}
	return all, nil
}

// touched finds objects of other clients that changed since the snapshot.
func (s snapshot) touched(after snapshot) []finding {
	var findings []finding
	for _, key := range slices.Sorted(maps.Keys(s)) {
		now, exists := after[key]
		switch {
		case !exists:
			findings = append(findings, finding{foreignTouched, key + " is gone, or is taken for generated"})
		case now != s[key]:
			findings = append(findings, finding{foreignTouched, key + " was changed"})
		}
	}
	return findings
}
