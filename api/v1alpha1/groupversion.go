// Package v1alpha1 is the API of ExternalRoute: its types, its conditions and their reasons. It holds data only and imports nothing of this
// module, so that anybody may import it.
// +kubebuilder:object:generate=true
// +kubebuilder:ac:generate=true
// +groupName=networking.externalroute.io
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupName is the API group of every type in this package.
const GroupName = "networking.externalroute.io"

var (
	// SchemeGroupVersion is the group and version of every type in this package.
	SchemeGroupVersion = schema.GroupVersion{Group: GroupName, Version: "v1alpha1"}

	// SchemeBuilder collects the functions that add these types to a scheme.
	SchemeBuilder = runtime.NewSchemeBuilder(func(scheme *runtime.Scheme) error {
		scheme.AddKnownTypes(SchemeGroupVersion, &ExternalRoute{}, &ExternalRouteList{}, &ExternalRoutePolicy{}, &ExternalRoutePolicyList{})
		metav1.AddToGroupVersion(scheme, SchemeGroupVersion)
		return nil
	})

	// AddToScheme adds the types of this package to a scheme.
	AddToScheme = SchemeBuilder.AddToScheme
)
