package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ExternalRoute lets the workloads of its namespace reach a host outside the mesh under a name of their choice. The operator turns it into an
// Istio ServiceEntry, VirtualService and DestinationRule, and a Service for the name where there is none.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=extr,categories=istio-io;networking-istio-io
// +kubebuilder:printcolumn:name="Hosts",type=string,JSONPath=`.spec.hosts`
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.spec.destinations[0].url`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ExternalRoute struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is what the route should do.
	// +required
	Spec ExternalRouteSpec `json:"spec,omitzero"`

	// status is what the operator found and did.
	// +optional
	// +default={"conditions":[{"type":"Accepted","status":"Unknown","reason":"Pending","message":"The operator has not looked at this route yet.","lastTransitionTime":"1970-01-01T00:00:00Z"},{"type":"Ready","status":"Unknown","reason":"Pending","message":"The operator has not looked at this route yet.","lastTransitionTime":"1970-01-01T00:00:00Z"}]}
	Status ExternalRouteStatus `json:"status,omitzero"`
}

// ExternalRouteList is a list of ExternalRoutes.
//
// +kubebuilder:object:root=true
type ExternalRouteList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []ExternalRoute `json:"items"`
}

// ExternalRouteSpec is what an ExternalRoute should do.
//
// +kubebuilder:validation:XValidation:rule="self.hosts.all(h, !h.contains('.') || h.matches('^[a-z]([-a-z0-9]*[a-z0-9])?[.][a-z0-9]([-a-z0-9]*[a-z0-9])?[.]svc([.].+)?$') || self.destinations.exists(d, d.url == 'http://' + h || d.url == 'https://' + h || d.url.startsWith('http://' + h + '/') || d.url.startsWith('https://' + h + '/') || d.url.startsWith('http://' + h + ':') || d.url.startsWith('https://' + h + ':')))",fieldPath=".hosts",message="each host must be a short name (webserver), NAME.NAMESPACE.svc or NAME.NAMESPACE.svc.DOMAIN of this namespace, or the host of one of the route's own destinations"
// +kubebuilder:validation:XValidation:rule="!has(self.rules) || self.rules.all(r, !has(r.destinations) || r.destinations.all(rd, self.destinations.exists(d, d.name == rd.name)))",fieldPath=".rules",message="a rule names a destination that spec.destinations does not have"
// +kubebuilder:validation:XValidation:rule="has(self.workloadSelector) || self.destinations.all(d, !has(d.tls) || !has(d.tls.credentialName))",fieldPath=".destinations",message="tls.credentialName needs spec.workloadSelector: without one Istio would send plaintext"
// +kubebuilder:validation:XValidation:rule="!has(self.workloadSelector) || !has(self.exportTo) || self.exportTo == ['.']",fieldPath=".exportTo",message="workloadSelector needs exportTo [\".\"]: a selected DestinationRule is never seen by other namespaces"
// +kubebuilder:validation:XValidation:rule="self.destinations.all(d, !has(d.tls) || d.tls.scope != 'Host' || (!has(self.workloadSelector) && (!has(self.exportTo) || self.exportTo == ['.'])))",fieldPath=".destinations",message="tls.scope Host uses the host by its real name, which needs exportTo [\".\"] and no workloadSelector"
// +kubebuilder:validation:XValidation:rule="self.destinations.all(d, !has(d.tls) || d.tls.scope != 'Host' || (!has(d.endpoints) && d.resolution == 'DNS'))",fieldPath=".destinations",message="tls.scope Host uses the host by its real name, which needs resolution DNS and no endpoints"
type ExternalRouteSpec struct {
	// hosts are the names that workloads call. A short name (webserver), NAME.NAMESPACE.svc or NAME.NAMESPACE.svc.DOMAIN of the route's own
	// namespace is an alias, a Kubernetes Service. The host of one of the route's own destinations is upgraded in place: workloads go on calling
	// http://HOST, and the mesh speaks TLS for them.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Hosts []RouteHost `json:"hosts,omitempty"`

	// port is the HTTP port on which the hosts are served. If left out, 80. For a host that is upgraded in place it may not be the https port.
	// +optional
	// +default=80
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +kubebuilder:validation:XValidation:rule="!(self in [15000, 15001, 15002, 15003, 15004, 15005, 15006, 15007, 15008, 15009, 15020, 15021, 15053, 15090])",message="must not be one of Istio's own ports (15000 to 15009, 15020, 15021, 15053, 15090): a sidecar would have two listeners on it"
	Port int32 `json:"port,omitempty"`

	// serviceCreationPolicy says what happens when an alias has no Service: IfMissing (if left out) creates one without a selector, Never reports it.
	// An existing Service is used as it is and never changed.
	// +optional
	// +default="IfMissing"
	ServiceCreationPolicy ServiceCreationPolicy `json:"serviceCreationPolicy,omitempty"`

	// destinations are the external hosts.
	// +required
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Destinations []Destination `json:"destinations,omitempty"`

	// rules say what happens to which request: the first rule that matches wins, and a request that none matches gets 404. If left out, every
	// request goes to the destinations by their weights.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=0
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.map(r, has(r.match) ? r.match.size() : 0).sum() <= 64",message="all rules together may have 64 matches: use a second route for more"
	// +kubebuilder:validation:XValidation:rule="self.map(r, has(r.match) ? r.match.map(m, (has(m.headers) ? m.headers.size() : 0) + (has(m.queryParams) ? m.queryParams.size() : 0)).sum() : 0).sum() <= 48",message="all rules together may match on 48 headers and query parameters: use a second route for more"
	// +kubebuilder:validation:XValidation:rule="self.map(r, has(r.headers) ? (has(r.headers.request) ? (has(r.headers.request.set) ? r.headers.request.set.size() : 0) + (has(r.headers.request.add) ? r.headers.request.add.size() : 0) + (has(r.headers.request.remove) ? r.headers.request.remove.size() : 0) : 0) + (has(r.headers.response) ? (has(r.headers.response.set) ? r.headers.response.set.size() : 0) + (has(r.headers.response.add) ? r.headers.response.add.size() : 0) + (has(r.headers.response.remove) ? r.headers.response.remove.size() : 0) : 0) : 0).sum() <= 48",message="all rules together may set, add and remove 48 headers: use a second route for more"
	// +kubebuilder:validation:XValidation:rule="self.map(r, has(r.directResponse) && has(r.directResponse.body) ? r.directResponse.body.size() : 0).sum() <= 8192",message="all bodies of directResponse together may have 8192 characters: use a second route for more"
	// +kubebuilder:validation:XValidation:rule="self.map(r, (has(r.match) ? r.match.map(m, (has(m.uri) ? (has(m.uri.exact) ? m.uri.exact.size() : 0) + (has(m.uri.prefix) ? m.uri.prefix.size() : 0) + (has(m.uri.regex) ? m.uri.regex.size() : 0) : 0) + (has(m.method) ? (has(m.method.exact) ? m.method.exact.size() : 0) + (has(m.method.prefix) ? m.method.prefix.size() : 0) + (has(m.method.regex) ? m.method.regex.size() : 0) : 0) + (has(m.headers) ? m.headers.map(k, k.size() + (has(m.headers[k].exact) ? m.headers[k].exact.size() : 0) + (has(m.headers[k].prefix) ? m.headers[k].prefix.size() : 0) + (has(m.headers[k].regex) ? m.headers[k].regex.size() : 0)).sum() : 0) + (has(m.queryParams) ? m.queryParams.map(k, k.size() + (has(m.queryParams[k].exact) ? m.queryParams[k].exact.size() : 0) + (has(m.queryParams[k].prefix) ? m.queryParams[k].prefix.size() : 0) + (has(m.queryParams[k].regex) ? m.queryParams[k].regex.size() : 0)).sum() : 0)).sum() : 0)).sum() <= 16384",message="all matches together may have 16384 characters, names included: use a second route for more"
	// +kubebuilder:validation:XValidation:rule="self.map(r, (has(r.headers) ? (has(r.headers.request) ? (has(r.headers.request.set) ? r.headers.request.set.map(k, k.size() + r.headers.request.set[k].size()).sum() : 0) + (has(r.headers.request.add) ? r.headers.request.add.map(k, k.size() + r.headers.request.add[k].size()).sum() : 0) + (has(r.headers.request.remove) ? r.headers.request.remove.map(k, k.size()).sum() : 0) : 0) + (has(r.headers.response) ? (has(r.headers.response.set) ? r.headers.response.set.map(k, k.size() + r.headers.response.set[k].size()).sum() : 0) + (has(r.headers.response.add) ? r.headers.response.add.map(k, k.size() + r.headers.response.add[k].size()).sum() : 0) + (has(r.headers.response.remove) ? r.headers.response.remove.map(k, k.size()).sum() : 0) : 0) : 0)).sum() <= 8192",message="all headers that are set, added and removed may have 8192 characters together, names included: use a second route for more"
	// +kubebuilder:validation:XValidation:rule="self.map(r, (has(r.rewrite) ? (has(r.rewrite.uri) ? r.rewrite.uri.size() : 0) + (has(r.rewrite.uriRegexRewrite) ? r.rewrite.uriRegexRewrite.match.size() + r.rewrite.uriRegexRewrite.rewrite.size() : 0) : 0)).sum() <= 8192",message="all rewrites together may have 8192 characters: use a second route for more"
	Rules []Rule `json:"rules,omitempty"`

	// meshHeaders says what happens to headers that the mesh adds to a request (x-envoy-attempt-count, x-forwarded-client-cert and their like)
	// before it leaves for a third party: Remove (if left out), or Keep.
	// +optional
	// +default="Remove"
	MeshHeaders MeshHeaders `json:"meshHeaders,omitempty"`

	// exportTo are the namespaces in which the route works: "." (if left out) is its own, "*" alone is all of them; other namespaces by name, always
	// beside ".".
	// +optional
	// +listType=set
	// +default=["."]
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self == ['*'] || self.exists(n, n == '.')",message="must hold \".\" (without it the route's own namespace gets 503), or be \"*\" alone"
	// +kubebuilder:validation:XValidation:rule="self.size() == 1 || !self.exists(n, n == '*')",message="\"*\" must stand alone: it already names every namespace"
	ExportTo []ExportNamespace `json:"exportTo,omitempty"`

	// workloadSelector limits the route to the pods of the namespace that carry these labels. If left out, all of them use it.
	// +optional
	WorkloadSelector *WorkloadSelector `json:"workloadSelector,omitempty"`

	// suspend makes the operator write nothing but the status. If left out, false.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
}

// RouteHost is a name that workloads call.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule="!self.contains('*')",message="must not be a wildcard"
// +kubebuilder:validation:XValidation:rule="!self.endsWith('.')",message="must not end with a dot"
// +kubebuilder:validation:XValidation:rule="!self.matches('[A-Z]')",message="must be lower case"
// +kubebuilder:validation:XValidation:rule="self.matches('[A-Z*]|[.]$') || (self.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$') && self.matches('(^|[.])[a-z][-a-z0-9]*$'))",message="must be a DNS name: labels of at most 63 letters, digits and hyphens, without scheme, port or path, and no IP address"
// +kubebuilder:validation:XValidation:rule="!self.matches('^([^.]*[.])*localhost([.]localdomain)?$')",message="must not be localhost: a call to it never leaves the pod"
type RouteHost string

// ServiceCreationPolicy says what happens when an alias has no Service.
//
// +kubebuilder:validation:Enum=IfMissing;Never
type ServiceCreationPolicy string

const (
	// ServiceCreationIfMissing creates a ClusterIP Service without a selector.
	ServiceCreationIfMissing ServiceCreationPolicy = "IfMissing"
	// ServiceCreationNever reports the missing Service.
	ServiceCreationNever ServiceCreationPolicy = "Never"
)

// MeshHeaders says what happens to the headers that the mesh adds to a request.
//
// +kubebuilder:validation:Enum=Remove;Keep
type MeshHeaders string

const (
	// MeshHeadersRemove removes them before a request leaves for a third party.
	MeshHeadersRemove MeshHeaders = "Remove"
	// MeshHeadersKeep removes nothing.
	MeshHeadersKeep MeshHeaders = "Keep"
)

// ExportNamespace is "." for the route's own namespace, "*" for all, or the name of another one.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule="self == '.' || self == '*' || self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="must be \".\", \"*\" or the name of a namespace"
type ExportNamespace string

// WorkloadSelector selects pods of the route's namespace.
type WorkloadSelector struct {
	// matchLabels are the labels that a pod must carry, all of them.
	// +required
	// +mapType=atomic
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$') && k.indexOf('/') <= 253)",message="each key must be a label key: [PREFIX/]NAME"
	// +kubebuilder:validation:XValidation:rule="self.map(k, k.size() + self[k].size()).sum() <= 1024",message="all labels together may have 1024 characters: they stand in every match of the VirtualService"
	MatchLabels map[string]LabelValue `json:"matchLabels,omitempty"`
}

// LabelValue is the value of a label.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$')",message="must be a label value: letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"
type LabelValue string
