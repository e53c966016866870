package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ExternalRouteStatus is what the operator found and did.
type ExternalRouteStatus struct {
	// conditions are Accepted, Programmed and Ready, Stalled while a person must act, and DirectHTTPS where tls.scope Host breaks direct calls.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that this status speaks of.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// hosts are the fully qualified names that the route serves.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=253
	Hosts []string `json:"hosts,omitempty"`

	// resources are the objects that the operator generated for this route.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Resources []GeneratedResource `json:"resources,omitempty"`
}

// GeneratedResource names an object that the operator generated. It is in the route's namespace.
type GeneratedResource struct {
	// apiVersion is the API version of the object.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	APIVersion string `json:"apiVersion,omitempty"`

	// kind is the kind of the object.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind,omitempty"`

	// name is the name of the object.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`
}
