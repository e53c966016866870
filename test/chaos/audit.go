//go:build linux

package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// The kinds of what an audit finds.
const (
	lost           = "lost"            // a route wants it, and it is not there
	wrong          = "wrong"           // it is there, and not as the route wants it
	leftOver       = "left over"       // it is generated, and no route wants it
	foreignTouched = "foreign touched" // another client's object was changed
	untrue         = "untrue"          // a status does not say what is
	dangling       = "dangling"        // a VirtualService leads nowhere
	hot            = "hot"             // the operator writes more than it should
	hasty          = "hasty"           // the operator did not wait until a move had settled
)

// finding is something that is not as it should be.
type finding struct{ kind, what string }

func (f finding) String() string { return f.kind + ": " + f.what }

// list lists the objects of the kinds that the operator writes.
func (c *cluster) list(ctx context.Context, in ...client.ListOption) ([]client.Object, error) {
	var all []client.Object
	for _, kind := range translate.Kinds {
		list, err := c.Scheme().New(kind.GVK.GroupVersion().WithKind(kind.GVK.Kind + "List"))
		if err != nil {
			return nil, err
		}
		if err := c.List(ctx, list.(client.ObjectList), in...); err != nil {
			return nil, err
		}
		items, err := meta.ExtractList(list)
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			all = append(all, item.(client.Object))
		}
	}
	return all, nil
}

func kindOf(object client.Object) string {
	return translate.KindOf(object).GVK.Kind
}

// isGenerated says whether an object is the operator's, by its label or by its owner.
func isGenerated(object client.Object) bool {
	owner := metav1.GetControllerOfNoCopy(object)
	return object.GetLabels()[v1alpha1.ManagedByLabel] == v1alpha1.ManagedByValue || (owner != nil && owner.Kind == "ExternalRoute")
}

// books are what a namespace holds.
type books struct {
	routes     []v1alpha1.ExternalRoute
	objects    map[string]client.Object // by kind and name
	gateways   corev1.ServiceList       // of another namespace
	configMaps map[string]bool
}

func (c *cluster) books(ctx context.Context, namespace string) (*books, error) {
	b := &books{objects: map[string]client.Object{}, configMaps: map[string]bool{}}
	var routes v1alpha1.ExternalRouteList
	if err := c.List(ctx, &routes, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	b.routes = routes.Items
	objects, err := c.list(ctx, client.InNamespace(namespace))
	if err != nil {
		return nil, err
	}
	for _, object := range objects {
		b.objects[kindOf(object)+" "+object.GetName()] = object
	}
	if err := c.List(ctx, &b.gateways, client.InNamespace(gatewayNamespace)); err != nil {
		return nil, err
	}
	var configMaps corev1.ConfigMapList
	if err := c.List(ctx, &configMaps, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	for _, m := range configMaps.Items {
		b.configMaps[m.Name] = true
	}
	return b, nil
}

// audit compares a namespace, object by object, with what its routes ask for, and the routes with those that there should be.
func (c *cluster) audit(ctx context.Context, namespace string, expected map[string]bool) ([]finding, error) {
	b, err := c.books(ctx, namespace)
	if err != nil {
		return nil, err
	}
	var findings []finding
	wanted := map[string]bool{}
	missing := maps.Clone(expected)
	for i := range b.routes {
		route := &b.routes[i]
		if !expected[route.Name] {
			findings = append(findings, finding{leftOver, fmt.Sprintf("ExternalRoute %s/%s", namespace, route.Name)})
		}
		delete(missing, route.Name)
		if !route.DeletionTimestamp.IsZero() {
			findings = append(findings, finding{leftOver, fmt.Sprintf("ExternalRoute %s/%s is still being deleted", namespace, route.Name)})
			continue
		}
		translation, refusal := translate.Translate(route, b.mesh(route))
		if refusal != nil {
			findings = append(findings, finding{untrue, fmt.Sprintf("ExternalRoute %s/%s is refused: %s", namespace, route.Name, refusal.Message())})
			continue
		}
		findings = append(findings, b.compare(route, translation.Objects)...)
		findings = append(findings, auditStatus(route, translation)...)
		for _, want := range translation.Objects {
			wanted[translate.KeyOf(want).String()] = true
		}
	}
	for name := range missing {
		findings = append(findings, finding{lost, fmt.Sprintf("ExternalRoute %s/%s", namespace, name)})
	}
	for key, object := range b.objects {
		if isGenerated(object) && !wanted[key] {
			findings = append(findings, finding{leftOver, fmt.Sprintf("%s of namespace %s", key, namespace)})
		}
	}
	return inOrder(findings), nil
}

// inOrder is each finding once.
func inOrder(findings []finding) []finding {
	slices.SortFunc(findings, func(a, b finding) int { return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.what, b.what)) })
	return slices.Compact(findings)
}

// mesh is what the translation of a route asks about, as the cluster is.
func (b *books) mesh(route *v1alpha1.ExternalRoute) translate.Mesh {
	mesh := translate.Mesh{
		ClusterDomain: translate.DefaultClusterDomain, Services: map[types.NamespacedName]translate.Service{}, MissingConfigMaps: map[string]bool{},
	}
	for i := range b.gateways.Items {
		service := &b.gateways.Items[i]
		mesh.Services[client.ObjectKeyFromObject(service)] = translate.ServiceFacts(service, route)
	}
	references := translate.ReferencesOf(route)
	for _, key := range references.Services {
		if service, found := b.objects["Service "+key.Name].(*corev1.Service); found && key.Namespace == route.Namespace {
			mesh.Services[key] = translate.ServiceFacts(service, route)
		}
	}
	for _, name := range references.ConfigMaps {
		mesh.MissingConfigMaps[name] = !b.configMaps[name]
	}
	return mesh
}

func (b *books) compare(route *v1alpha1.ExternalRoute, objects translate.Objects) []finding {
	var findings []finding
	for _, want := range objects {
		key := translate.KeyOf(want).String()
		name := fmt.Sprintf("%s of route %s/%s", key, route.Namespace, route.Name)
		live, exists := b.objects[key]
		if !exists {
			findings = append(findings, finding{lost, name})
			continue
		}
		owners := []metav1.OwnerReference{*metav1.NewControllerRef(route, v1alpha1.SchemeGroupVersion.WithKind("ExternalRoute"))}
		for what, equal := range map[string]bool{
			"labels":          maps.Equal(live.GetLabels(), want.GetLabels()),
			"annotations":     maps.Equal(live.GetAnnotations(), want.GetAnnotations()),
			"ownerReferences": equality.Semantic.DeepEqual(live.GetOwnerReferences(), owners),
			"finalizers":      len(live.GetFinalizers()) == 0,
			"spec":            sameSpec(live, want.Object),
		} {
			if !equal {
				findings = append(findings, finding{wrong, name + ": " + what})
			}
		}
		if !live.GetDeletionTimestamp().IsZero() {
			findings = append(findings, finding{lost, name + " is being deleted"})
		}
	}
	return findings
}

func sameSpec(live client.Object, want translate.Object) bool {
	if l, is := live.(*corev1.Service); is {
		w := want.(*corev1.Service)
		return l.Spec.Type == w.Spec.Type && len(l.Spec.Selector) == 0 && equality.Semantic.DeepEqual(l.Spec.Ports, w.Spec.Ports)
	}
	is, should := specOf(live), specOf(want)
	return is != nil && reflect.DeepEqual(is, should)
}

// specOf is the spec of one of Istio's objects as JSON says it.
func specOf(object client.Object) any {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		panic(err) // it came from JSON, or becomes JSON
	}
	return content["spec"]
}

// auditStatus holds the status of a route, all of whose objects should stand, against what it should say.
func auditStatus(route *v1alpha1.ExternalRoute, translation *translate.Translation) []finding {
	var findings []finding
	untrueIf := func(is bool, format string, args ...any) {
		if is {
			findings = append(findings, finding{untrue, fmt.Sprintf("ExternalRoute %s/%s: ", route.Namespace, route.Name) + fmt.Sprintf(format, args...)})
		}
	}
	status := &route.Status
	untrueIf(status.ObservedGeneration != route.Generation, "observedGeneration %d, generation %d", status.ObservedGeneration, route.Generation)
	for _, kind := range []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionProgrammed, v1alpha1.ConditionReady} {
		condition := meta.FindStatusCondition(status.Conditions, kind)
		if condition == nil {
			untrueIf(true, "no %s", kind)
			continue
		}
		untrueIf(condition.Status != metav1.ConditionTrue, "%s is %s, %s: %s", kind, condition.Status, condition.Reason, condition.Message)
		untrueIf(condition.ObservedGeneration != route.Generation, "%s is of generation %d, not %d", kind, condition.ObservedGeneration, route.Generation)
	}
	untrueIf(meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionStalled) != nil, "stalled")
	hosts := translation.HostNames()
	untrueIf(!slices.Equal(status.Hosts, hosts), "hosts %v, not %v", status.Hosts, hosts)
	var stand, listed []string
	for _, object := range translation.Objects {
		stand = append(stand, translate.KeyOf(object).String())
	}
	for _, resource := range status.Resources {
		listed = append(listed, resource.Kind+" "+resource.Name)
	}
	untrueIf(!slices.Equal(listed, stand), "resources %v, not %v", listed, stand)
	return findings
}

// hasGateways says whether the Gateways of a second leg stand. Without them it serves nobody, and nobody may be led to it: the two are written at once.
func (b *books) hasGateways(leg *networkingv1.VirtualService) bool {
	return !slices.ContainsFunc(leg.Spec.Gateways, func(name string) bool {
		for _, object := range b.objects {
			if g, is := object.(*networkingv1.Gateway); is && g.Namespace+"/"+g.Name == name {
				return false
			}
		}
		return true
	})
}

// ledTo is what the VirtualServices of sidecars lead to.
func (b *books) ledTo() map[string]bool {
	parts := map[string]bool{}
	for _, object := range b.objects {
		if v, is := object.(*networkingv1.VirtualService); is && !isSecondLeg(v) {
			maps.Copy(parts, needs(&v.Spec))
		}
	}
	return parts
}

// auditWay says whether every VirtualService of a route that exists leads to a subset of a DestinationRule and to a ServiceEntry, or to the second leg on an
// egress gateway. That holds at every moment, however the operator ended: requests would get 503 otherwise. A second leg to which nothing leads yet is written
// beside its upstream, so that an operator that is killed can leave it alone.
func (b *books) auditWay() []finding {
	exists := map[types.UID]bool{}
	for i := range b.routes {
		exists[b.routes[i].UID] = b.routes[i].DeletionTimestamp.IsZero()
	}
	provided := map[string]bool{}
	for _, object := range b.objects {
		switch o := object.(type) {
		case *networkingv1.ServiceEntry:
			for _, port := range o.Spec.Ports {
				provided[portOf(o.Spec.Hosts[0], port.Number)] = true
			}
		case *networkingv1.DestinationRule:
			for _, subset := range o.Spec.Subsets {
				provided[subsetOf(o.Spec.Host, subset.Name)] = true
			}
		case *networkingv1.VirtualService:
			if isSecondLeg(o) && b.hasGateways(o) {
				for _, host := range o.Spec.Hosts {
					provided[legOf(host)] = true
				}
			}
		}
	}
	var findings []finding
	led := b.ledTo()
	for key, object := range b.objects {
		virtualService, is := object.(*networkingv1.VirtualService)
		if owner := metav1.GetControllerOfNoCopy(object); !is || owner == nil || !exists[owner.UID] {
			continue
		}
		unused := !slices.ContainsFunc(virtualService.Spec.Hosts, func(host string) bool { return led[legOf(host)] })
		if isSecondLeg(virtualService) && len(virtualService.Spec.Http) > 0 && unused {
			continue
		}
		for part := range needs(&virtualService.Spec) {
			if !provided[part] {
				findings = append(findings, finding{dangling, fmt.Sprintf("%s leads to %s, which no object has", key, part)})
			}
		}
	}
	return inOrder(findings)
}
