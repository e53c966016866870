package controller

import (
	"context"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// facts are what one pass knows of the cluster.
type facts struct {
	mesh translate.Mesh
	// owned are the objects that the route controls now. They belong to the cache and are not to be changed.
	owned map[reference]client.Object
	// unchanged says that the route asks for the same as when its objects last stood as wanted: what differs now, somebody else changed.
	unchanged bool
	// paused says that nothing is brought back in this pass, and repaired is what was first, or was tried to be.
	paused   bool
	repaired atomic.Pointer[reference]
	// unknown says that it is not known yet which ConfigMaps there are.
	unknown bool
	// adopted are objects that somebody handed to the route.
	adopted map[reference]bool
}

// gather reads, from the cache alone, what matters for a route.
func (r *Reconciler) gather(ctx context.Context, route *v1alpha1.ExternalRoute) (*facts, error) {
	f := &facts{
		mesh: translate.Mesh{
			ClusterDomain:     r.options.ClusterDomain,
			Services:          map[types.NamespacedName]translate.Service{},
			MissingConfigMaps: map[string]bool{},
		},
		adopted: map[reference]bool{},
	}
	var err error
	if f.owned, err = r.ownedObjects(ctx, route); err != nil {
		return nil, err
	}
	references := translate.ReferencesOf(route)
	for _, key := range references.Services {
		service, err := r.service(ctx, route, key, f)
		if err != nil {
			return nil, err
		}
		if service != nil {
			f.mesh.Services[key] = translate.ServiceFacts(service, route)
		}
	}
	for _, name := range references.ConfigMaps {
		exists, known, err := r.configMaps.exists(ctx, types.NamespacedName{Namespace: route.Namespace, Name: name})
		if err != nil {
			return nil, err
		}
		f.mesh.MissingConfigMaps[name] = known && !exists
		f.unknown = f.unknown || !known
	}
	return f, nil
}

// service is the Service of that name, or nil.
func (r *Reconciler) service(ctx context.Context, route *v1alpha1.ExternalRoute, key types.NamespacedName, f *facts) (*corev1.Service, error) {
	if ours, found := f.owned[reference{"Service", key}]; found {
		return ours.(*corev1.Service), nil //nolint:forcetypeassert // by its kind
	}
	service := &corev1.Service{}
	err := r.client.Get(ctx, key, service)
	if apierrors.IsNotFound(err) || (err == nil && ofEarlier(service, route)) { // it is as good as gone, and nobody can use it as an alias
		return nil, nil
	}
	return service, err
}

// ownedObjects are those that the route controls, what it wrote and has not seen yet among them.
func (r *Reconciler) ownedObjects(ctx context.Context, route *v1alpha1.ExternalRoute) (map[reference]client.Object, error) {
	recalled, owned := r.memory.recall(route), map[reference]client.Object{}
	byOwner := []client.ListOption{
		client.InNamespace(route.Namespace),
		client.MatchingFields{ownerIndex: string(route.UID)},
		client.UnsafeDisableDeepCopy,
	}
	var services corev1.ServiceList
	if err := r.client.List(ctx, &services, byOwner...); err != nil {
		return nil, err
	}
	for i := range services.Items {
		owned[reference{"Service", client.ObjectKeyFromObject(&services.Items[i])}] = &services.Items[i]
	}
	for _, objects := range r.objects.ownedBy(route.UID) {
		for _, object := range objects {
			if object.GetNamespace() == route.Namespace {
				owned[referenceTo(object)] = object
			}
		}
	}
	r.memory.overlay(route, recalled, owned)
	return owned, nil
}

// ownedBy says whether the route controls the object.
func ownedBy(object client.Object, route *v1alpha1.ExternalRoute) bool {
	return metav1.IsControlledBy(object, route)
}

// ofEarlier says whether an object belongs to an earlier route of this name: it is to be collected.
func ofEarlier(object client.Object, route *v1alpha1.ExternalRoute) bool {
	owner := routeOwner(object)
	return owner != nil && owner.Name == route.Name && owner.UID != route.UID && object.GetNamespace() == route.Namespace
}

// routeOwner is the controller of the object if that is an ExternalRoute, else nil.
func routeOwner(object client.Object) *metav1.OwnerReference {
	owner := metav1.GetControllerOfNoCopy(object)
	if owner == nil || owner.Kind != "ExternalRoute" {
		return nil
	}
	if gv := v1alpha1.SchemeGroupVersion.String(); owner.APIVersion != gv {
		return nil
	}
	return owner
}
