package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ExternalRouteStatus is the observed state of an ExternalRoute.
type ExternalRouteStatus struct {
	// conditions are Accepted, Programmed and Ready; Stalled while the route needs a person to act; DirectHTTPS if tls.scope Host breaks direct calls; and
	// MeshEnrolled if the operator watches namespaces.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec to which this status refers.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// hosts are the fully qualified names that the route serves.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=253
	Hosts []string `json:"hosts,omitempty"`

	// destinations are the upstreams of the route's destinations, by the names that Istio's objects, metrics and proxy configuration use.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	Destinations []DestinationStatus `json:"destinations,omitempty"`

	// resources are the objects that the operator generated for this route.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Resources []GeneratedResource `json:"resources,omitempty"`
}

// DestinationStatus is the upstream of a destination.
type DestinationStatus struct {
	// name is the name of the destination in the spec.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`

	// host is the host of the ServiceEntry and the DestinationRule, and the label destination_service of Istio's metrics: the URL's host, or a private
	// name that ends with externalroute.internal.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Host string `json:"host,omitempty"`

	// port is the port of the ServiceEntry.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`

	// subset is the subset of the DestinationRule.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Subset string `json:"subset,omitempty"`
}

// GeneratedResource refers to a generated object in the route's namespace.
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
