package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ExternalRoutePolicy limits which external hosts the ExternalRoutes of some namespaces may reach, and by which road. A namespace that at least one policy
// selects may reach what those policies allow together, and nothing else. A namespace that no policy selects follows the operator's flag --default-policy.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=extrpol
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ExternalRoutePolicy struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is what the policy allows, and to which namespaces. An empty spec selects all namespaces and allows nothing.
	// +required
	Spec ExternalRoutePolicySpec `json:"spec,omitzero"`

	// status is the observed state of the policy. The operator writes it.
	// +optional
	// +default={"conditions":[{"type":"Ready","status":"Unknown","reason":"Pending","message":"The operator has not read this policy yet.","lastTransitionTime":"1970-01-01T00:00:00Z"}]}
	Status ExternalRoutePolicyStatus `json:"status,omitzero"`
}

// ExternalRoutePolicyList is a list of ExternalRoutePolicies.
//
// +kubebuilder:object:root=true
type ExternalRoutePolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []ExternalRoutePolicy `json:"items"`
}

// ExternalRoutePolicySpec is what a policy allows, by which road, and to which namespaces.
//
// +kubebuilder:validation:MinProperties=0
type ExternalRoutePolicySpec struct {
	// namespaceSelector selects namespaces by their labels. Defaults to all namespaces.
	// +optional
	NamespaceSelector *NamespaceSelector `json:"namespaceSelector,omitempty"`

	// allow are the hosts that routes may reach, at most 64 entries. One entry must allow all of a destination: host, port, scheme and the rest. Defaults
	// to nothing.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=0
	// +kubebuilder:validation:MaxItems=64
	Allow []Allowance `json:"allow,omitempty"`

	// egressGateway is the road of every route of these namespaces: a route that names no egress gateway takes this one, and one that names another, or that
	// cannot take any, is refused. Defaults to what each route says.
	// +optional
	EgressGateway *GatewayReference `json:"egressGateway,omitempty"`
}

// NamespaceSelector selects namespaces by their labels. All of its requirements must be met; one without any selects all namespaces.
//
// +kubebuilder:validation:MinProperties=0
type NamespaceSelector struct {
	// matchLabels are labels that a namespace must have, at most 16.
	// +optional
	// +kubebuilder:validation:MinProperties=0
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 317 && k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))",message="keys must be label keys, such as team or example.com/team"
	MatchLabels map[string]SelectedValue `json:"matchLabels,omitempty"`

	// matchExpressions are requirements that the labels of a namespace must meet, at most 16.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=0
	// +kubebuilder:validation:MaxItems=16
	MatchExpressions []NamespaceRequirement `json:"matchExpressions,omitempty"`
}

// NamespaceRequirement is a requirement that a label of a namespace must meet.
//
// +kubebuilder:validation:XValidation:rule="self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 : !has(self.values) || self.values.size() == 0",fieldPath=".values",message="In and NotIn need values, and Exists and DoesNotExist take none"
type NamespaceRequirement struct {
	// key is the key of the label.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:XValidation:rule="self.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$')",message="must be a label key, such as team or example.com/team"
	Key string `json:"key,omitempty"`

	// operator is how the label relates to the values: In, NotIn, Exists or DoesNotExist. NotIn also selects namespaces without the label.
	// +required
	Operator SelectorOperator `json:"operator,omitempty"`

	// values are the values of In and NotIn, at most 64.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=0
	// +kubebuilder:validation:MaxItems=64
	Values []SelectedValue `json:"values,omitempty"`
}

// SelectorOperator is how a label relates to values.
//
// +kubebuilder:validation:Enum=In;NotIn;Exists;DoesNotExist
type SelectorOperator string

// SelectedValue is the value of a label, which may be empty.
//
// +kubebuilder:validation:MinLength=0
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule="self.matches('^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$')",message="must be a label value: letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"
type SelectedValue string

// Allowance is a set of hosts that routes may reach, and how.
type Allowance struct {
	// hosts are the hosts of URLs and of pass-through routes, at most 64: DNS names, or wildcards, such as *.example.com for all names that end with
	// .example.com, but not example.com itself.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Hosts []PolicyHost `json:"hosts,omitempty"`

	// ports are the ports, from 1 to 65535, at most 16. Defaults to 443.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:Minimum=1
	// +kubebuilder:validation:items:Maximum=65535
	Ports []int32 `json:"ports,omitempty"`

	// schemes are the schemes of URLs, and passthrough for the hosts of routes without destinations. Defaults to https.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=5
	Schemes []PolicyScheme `json:"schemes,omitempty"`

	// endpoints are the addresses that a destination may connect to instead of its URL's host: Host none; Public also public IP addresses, and names that
	// this entry's hosts include; Any every address. Defaults to Host.
	// +optional
	Endpoints EndpointsAllowed `json:"endpoints,omitempty"`

	// exportTo are the namespaces to which routes may be exported, at most 16: "." is the route's own namespace, and "*" means all. Defaults to ["."].
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	ExportTo []ExportNamespace `json:"exportTo,omitempty"`

	// insecureSkipVerify allows destinations to set tls.insecureSkipVerify, with which the mesh does not verify the server. Defaults to false.
	// +optional
	InsecureSkipVerify bool `json:"insecureSkipVerify,omitempty"`

	// clientCertificates are the names of Secrets beside an egress gateway or a waypoint that destinations may show as client certificates, at most 16. Defaults
	// to none.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	ClientCertificates []ObjectName `json:"clientCertificates,omitempty"`
}

// PolicyHost is a DNS name or a wildcard.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule="self.matches('^([*][.])?([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?[.])*[a-z]([-a-z0-9]{0,61}[a-z0-9])?$') && self.contains('.')",message="must be a lower-case DNS name of two labels or more, or *. and a domain (punycode for other alphabets): no IP address, no scheme, port or path, no trailing dot"
type PolicyHost string

// PolicyScheme is the scheme of a URL, or passthrough.
//
// +kubebuilder:validation:Enum=http;https;tcp;tls;passthrough
type PolicyScheme string

// SchemePassthrough stands for the hosts of routes without destinations.
const SchemePassthrough PolicyScheme = "passthrough"

// EndpointsAllowed is which addresses a destination may connect to.
//
// +kubebuilder:validation:Enum=Host;Public;Any
type EndpointsAllowed string

const (
	// EndpointsHost allows no endpoints: a destination connects to its URL's host.
	EndpointsHost EndpointsAllowed = "Host"
	// EndpointsPublic also allows public IP addresses, and names that the hosts of the same entry include.
	EndpointsPublic EndpointsAllowed = "Public"
	// EndpointsAny allows every address that an ExternalRoute may have, private ones too.
	EndpointsAny EndpointsAllowed = "Any"
)

// ExternalRoutePolicyStatus is the observed state of a policy.
//
// +kubebuilder:validation:MinProperties=0
type ExternalRoutePolicyStatus struct {
	// conditions are the conditions of the policy: Ready says whether it is valid and applies.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that the status describes.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
}
