package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ExternalRoute lets the workloads of its namespace call a host outside the mesh by a name of their choice. The operator generates an Istio
// ServiceEntry, VirtualService and DestinationRule for it, and a Service for the name if none exists.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=extr
// +kubebuilder:printcolumn:name="Hosts",type=string,JSONPath=`.spec.hosts`
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.spec.destinations[0].url`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ExternalRoute struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is the desired state of the route.
	// +required
	Spec ExternalRouteSpec `json:"spec,omitzero"`

	// status is the observed state of the route. The operator writes it.
	// +optional
	// +default={"conditions":[{"type":"Accepted","status":"Unknown","reason":"Pending","message":"The operator has not reconciled this route yet.","lastTransitionTime":"1970-01-01T00:00:00Z"},{"type":"Ready","status":"Unknown","reason":"Pending","message":"The operator has not reconciled this route yet.","lastTransitionTime":"1970-01-01T00:00:00Z"}]}
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

// ExternalRouteSpec is the desired state of an ExternalRoute.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.destinations) && self.destinations.size() > 0) || self.hosts.all(h, !h.contains('.') || h.contains('*') || h.matches('^[a-z]([-a-z0-9]*[a-z0-9])?[.][a-z0-9]([-a-z0-9]*[a-z0-9])?[.]svc([.].+)?$') || self.destinations.exists(d, d.url.matches('^(tcp|tls):') || d.url == 'http://' + h || d.url == 'https://' + h || d.url.startsWith('http://' + h + '/') || d.url.startsWith('https://' + h + '/') || d.url.startsWith('http://' + h + ':') || d.url.startsWith('https://' + h + ':')))",fieldPath=".hosts",message="each host must be a short name (webserver), NAME.NAMESPACE.svc or NAME.NAMESPACE.svc.DOMAIN of this namespace, or the host of one of the route's own destinations"
// +kubebuilder:validation:XValidation:rule="!has(self.rules) || !has(self.destinations) || self.rules.all(r, !has(r.destinations) || r.destinations.all(rd, self.destinations.exists(d, (has(d.name) ? d.name : 'primary') == rd.name)))",fieldPath=".rules",message="a rule names a destination that spec.destinations does not have: add it there, or correct the name"
// +kubebuilder:validation:XValidation:rule="has(self.workloadSelector) || has(self.waypoint) || has(self.egressGateway) || !has(self.destinations) || self.destinations.all(d, !has(d.tls) || !has(d.tls.clientCertificateRef))",fieldPath=".destinations",message="tls.clientCertificateRef needs spec.workloadSelector, spec.egressGateway or spec.waypoint: without one Istio sends plaintext"
// +kubebuilder:validation:XValidation:rule="!has(self.workloadSelector) || !has(self.exportTo) || self.exportTo == ['.']",fieldPath=".exportTo",message="workloadSelector needs exportTo [\".\"]: other namespaces do not use a DestinationRule with a selector"
// +kubebuilder:validation:XValidation:rule="!has(self.destinations) || self.destinations.all(d, !has(d.tls) || !has(d.tls.scope) || d.tls.scope != 'Host' || (!has(self.workloadSelector) && (!has(self.exportTo) || self.exportTo == ['.'])))",fieldPath=".destinations",message="tls.scope Host uses the host by its real name, which needs exportTo [\".\"] and no workloadSelector"
// +kubebuilder:validation:XValidation:rule="!has(self.destinations) || self.destinations.all(d, !has(d.tls) || !has(d.tls.scope) || d.tls.scope != 'Host' || (!has(d.endpoints) && (!has(d.resolution) || d.resolution == 'DNS')))",fieldPath=".destinations",message="tls.scope Host uses the host by its real name, which needs resolution DNS and no endpoints"
// +kubebuilder:validation:XValidation:rule="!has(self.retries) || !has(self.retries.attempts) || self.retries.attempts > 0 || !has(self.rules) || self.rules.all(r, !has(r.retries) || has(r.retries.attempts))",fieldPath=".rules",message="a rule sets retries without attempts, and spec.retries.attempts 0 turns them off: set attempts in the rule"
// +kubebuilder:validation:XValidation:rule="!(has(self.destinations) && self.destinations.size() > 0) || !self.hosts.exists(h, h.startsWith('*.'))",fieldPath=".hosts",message="a wildcard needs a route without destinations, which passes TLS through: remove destinations, or use host names"
// +kubebuilder:validation:XValidation:rule="has(self.destinations) && self.destinations.size() > 0 || self.hosts.all(h, h.contains('.'))",fieldPath=".hosts",message="a short name needs a destination: add destinations, such as [{url: https://www.example.com}], or use the names of external hosts, to which a route without destinations passes TLS through"
// +kubebuilder:validation:XValidation:rule="has(self.destinations) && self.destinations.size() > 0 || !self.hosts.exists(h, h.matches('^([^.]*[.])*(svc|cluster[.]local|kubernetes[.]default|externalroute[.]internal)$') || h.matches('^[^.]+[.][^.]+[.]svc[.]'))",fieldPath=".hosts",message="the name of a cluster service needs a destination: add destinations, such as [{url: https://www.example.com}], or use the names of external hosts, to which a route without destinations passes TLS through"
// +kubebuilder:validation:XValidation:rule="has(self.destinations) && self.destinations.size() > 0 || !self.hosts.exists(h, h.matches('^([^.]*[.])*(metadata[.]google[.]internal|metadata[.]goog|instance-data[.]ec2[.]internal|metadata[.]tencentyun[.]com|metadata[.]azure[.]internal)$') || h.matches('^[*][.](google|ec2|azure)[.]internal$'))",fieldPath=".hosts",message="a host must not be a cloud's metadata service, nor a wildcard that includes one"
// +kubebuilder:validation:XValidation:rule="has(self.destinations) && self.destinations.size() > 0 || !has(self.serviceCreationPolicy) || self.serviceCreationPolicy != 'Never'",fieldPath=".serviceCreationPolicy",message="a route without destinations has no aliases and creates no Service: remove serviceCreationPolicy, or add destinations"
// +kubebuilder:validation:XValidation:rule="has(self.destinations) && self.destinations.size() > 0 || !has(self.rules) || self.rules.size() == 0",fieldPath=".rules",message="rules need destinations: a route without them passes TLS through, and the mesh cannot read the requests. Add destinations, or remove rules"
// +kubebuilder:validation:XValidation:rule="has(self.destinations) && self.destinations.size() > 0 || !has(self.timeout)",fieldPath=".timeout",message="timeout needs destinations: a route without them passes TLS through, and the mesh cannot read the requests. Add destinations, or remove timeout"
// +kubebuilder:validation:XValidation:rule="has(self.destinations) && self.destinations.size() > 0 || !has(self.retries)",fieldPath=".retries",message="retries need destinations: a route without them passes TLS through, and the mesh cannot read the requests. Add destinations, or remove retries"
// +kubebuilder:validation:XValidation:rule="has(self.destinations) && self.destinations.size() > 0 || !has(self.meshHeaders) || self.meshHeaders != 'Keep'",fieldPath=".meshHeaders",message="meshHeaders needs destinations: a route without them passes TLS through, and the mesh adds no headers. Add destinations, or remove meshHeaders"
// +kubebuilder:validation:XValidation:rule="has(self.destinations) && self.destinations.size() > 0 || !has(self.workloadSelector)",fieldPath=".workloadSelector",message="workloadSelector needs destinations: Istio cannot limit a ServiceEntry to some of the pods that call its hosts. Add destinations, or remove workloadSelector"
// +kubebuilder:validation:XValidation:rule="!(has(self.destinations) && self.destinations.exists(d, d.url.matches('^(tcp|tls):'))) || self.destinations.all(d, d.url.matches('^(tcp|tls):'))",fieldPath=".destinations",message="destinations must be all HTTP (http://, https://) or all TCP (tcp://, tls://): use one route for each"
// +kubebuilder:validation:XValidation:rule="!(has(self.destinations) && self.destinations.exists(d, d.url.matches('^(tcp|tls):'))) || self.hosts.all(h, !h.contains('.') || h.contains('*') || h.matches('^[a-z]([-a-z0-9]*[a-z0-9])?[.][a-z0-9]([-a-z0-9]*[a-z0-9])?[.]svc([.].+)?$'))",fieldPath=".hosts",message="a host of TCP destinations must be an alias, because TCP carries no host name: use a short name (db), NAME.NAMESPACE.svc or NAME.NAMESPACE.svc.DOMAIN of this namespace"
// +kubebuilder:validation:XValidation:rule="!(has(self.destinations) && self.destinations.exists(d, d.url.matches('^(tcp|tls):'))) || !has(self.rules) || self.rules.size() == 0",fieldPath=".rules",message="rules need HTTP destinations, because TCP has no requests: remove rules, and set destinations[].weight to split connections"
// +kubebuilder:validation:XValidation:rule="!(has(self.destinations) && self.destinations.exists(d, d.url.matches('^(tcp|tls):'))) || !has(self.timeout)",fieldPath=".timeout",message="timeout needs HTTP destinations, because TCP has no requests: remove it, or set destinations[].connectionPool.connectTimeout or idleTimeout"
// +kubebuilder:validation:XValidation:rule="!(has(self.destinations) && self.destinations.exists(d, d.url.matches('^(tcp|tls):'))) || !has(self.retries)",fieldPath=".retries",message="retries need HTTP destinations, because TCP has no requests: remove retries"
// +kubebuilder:validation:XValidation:rule="!(has(self.destinations) && self.destinations.exists(d, d.url.matches('^(tcp|tls):'))) || !has(self.meshHeaders) || self.meshHeaders != 'Keep'",fieldPath=".meshHeaders",message="meshHeaders needs HTTP destinations, because TCP has no headers: remove meshHeaders"
// +kubebuilder:validation:XValidation:rule="!(has(self.destinations) && self.destinations.exists(d, d.url.matches('^(tcp|tls):'))) || self.destinations.all(d, (has(d.connectionPool) && has(d.connectionPool.idleTimeout) ? d.connectionPool.idleTimeout : '-') == (has(self.destinations[0].connectionPool) && has(self.destinations[0].connectionPool.idleTimeout) ? self.destinations[0].connectionPool.idleTimeout : '-'))",fieldPath=".destinations",message="TCP destinations must have the same connectionPool.idleTimeout, because Istio applies that of the first one to all: set it in all of them, or in none"
// +kubebuilder:validation:XValidation:rule="!has(self.waypoint) || has(self.destinations) && self.destinations.size() > 0",fieldPath=".waypoint",message="waypoint needs destinations: a route without them has no alias that a waypoint could serve. Add destinations, or remove waypoint"
// +kubebuilder:validation:XValidation:rule="!has(self.waypoint) || !has(self.workloadSelector)",fieldPath=".waypoint",message="waypoint excludes workloadSelector, because a waypoint does not tell the pods of a namespace apart: remove one of the two"
// +kubebuilder:validation:XValidation:rule="!has(self.waypoint) || !has(self.destinations) || self.destinations.all(d, !has(d.tls) || !has(d.tls.scope) || d.tls.scope != 'Host')",fieldPath=".destinations",message="tls.scope Host uses the host by its real name, which a waypoint does not: use tls.scope Route, or remove spec.waypoint"
// +kubebuilder:validation:XValidation:rule="!has(self.waypoint) || !has(self.exportTo) || self.exportTo == ['.'] || !has(self.destinations) || self.destinations.all(d, !has(d.tls) || !has(d.tls.clientCertificateRef))",fieldPath=".exportTo",message="tls.clientCertificateRef at a waypoint needs exportTo [\".\"]: sidecars would send plaintext"
// +kubebuilder:validation:XValidation:rule="!has(self.waypoint) || !has(self.egressGateway)",fieldPath=".waypoint",message="waypoint excludes egressGateway, because requests take one of the two roads: remove one of the two"
// +kubebuilder:validation:XValidation:rule="!has(self.waypoint) || !has(self.destinations) || self.destinations.all(d, !d.url.matches('^(tcp|tls):'))",fieldPath=".waypoint",message="waypoint needs http or https destinations: use them, or remove waypoint"
// +kubebuilder:validation:XValidation:rule="!has(self.egressGateway) || !has(self.destinations) || self.destinations.all(d, !d.url.matches('^(tcp|tls):'))",fieldPath=".egressGateway",message="egressGateway needs http or https destinations: use them, or remove egressGateway"
// +kubebuilder:validation:XValidation:rule="!has(self.egressGateway) || !has(self.workloadSelector)",fieldPath=".egressGateway",message="egressGateway excludes workloadSelector: the egress gateway cannot tell which pod sent a request. Remove one of the two"
// +kubebuilder:validation:XValidation:rule="!has(self.egressGateway) || !has(self.exportTo) || self.exportTo == ['.']",fieldPath=".egressGateway",message="egressGateway needs exportTo [\".\"]: use a route in each namespace, or remove egressGateway"
// +kubebuilder:validation:XValidation:rule="!has(self.egressGateway) || !has(self.destinations) || self.destinations.all(d, !has(d.tls) || !has(d.tls.scope) || d.tls.scope != 'Host')",fieldPath=".egressGateway",message="egressGateway excludes tls.scope Host, which needs the host's real name: use tls.scope Route, or remove egressGateway"
// +kubebuilder:validation:XValidation:rule="!has(self.egressGateway) || !self.hosts.exists(h, h.startsWith('*.'))",fieldPath=".hosts",message="egressGateway needs host names without wildcards: a gateway cannot resolve a wildcard. List the hosts, or remove egressGateway"
// +kubebuilder:validation:XValidation:rule="!has(self.egressGateway) || has(self.destinations) && self.destinations.size() > 0 || !has(self.port) || self.port == 443",fieldPath=".port",message="a route without destinations passes TLS through its egressGateway on port 443 only: the gateway knows a connection by its host alone. Remove port, or add destinations"
type ExternalRouteSpec struct {
	// hosts are the names that workloads call, at most 16. A short name (webserver), NAME.NAMESPACE.svc or NAME.NAMESPACE.svc.DOMAIN of the route's
	// namespace is an alias, the name of a Service. The host of one of the route's destinations is upgraded in place: workloads keep calling
	// http://HOST, and the mesh originates TLS. TCP destinations take aliases only. In a route without destinations, each host is an external DNS name
	// (www.example.com) or a wildcard (*.example.com), and workloads call it over TLS that they originate themselves.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Hosts []RouteHost `json:"hosts,omitempty"`

	// port is the port on which workloads call the hosts, from 1 to 65535. For a host that is upgraded in place it must not be the https port. Defaults
	// to 80, to the first destination's port for TCP destinations, and to 443 in a route without destinations.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +kubebuilder:validation:XValidation:rule="!(self in [15000, 15001, 15002, 15003, 15004, 15005, 15006, 15007, 15008, 15009, 15020, 15021, 15053, 15090])",message="must not be one of Istio's own ports (15000 to 15009, 15020, 15021, 15053, 15090), on which sidecars listen: use another port"
	Port int32 `json:"port,omitempty"`

	// serviceCreationPolicy is what happens if an alias has no Service: IfMissing creates a Service without a selector, Never reports the missing one in
	// the status. The operator never changes an existing Service. Defaults to IfMissing.
	// +optional
	// +default="IfMissing"
	ServiceCreationPolicy ServiceCreationPolicy `json:"serviceCreationPolicy,omitempty"`

	// destinations are the external hosts, at most 8. Their names must be unique. All are HTTP destinations (http://, https://), or all are TCP
	// destinations (tcp://, tls://), which exclude rules, timeout, retries and meshHeaders Keep. Without destinations the route is a pass-through route:
	// the mesh lets workloads call the hosts over TLS that they originate themselves, and changes nothing. It then takes only hosts, port, exportTo,
	// egressGateway and suspend.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=0
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:XValidation:rule="self.all(d, self.exists_one(e, (has(e.name) ? e.name : 'primary') == (has(d.name) ? d.name : 'primary')))",message="destinations must have unique names, and one without a name is called primary: set name"
	Destinations []Destination `json:"destinations,omitempty"`

	// rules decide what happens to a request, at most 32. The first rule that matches applies, and a request that no rule matches gets 404. Defaults to
	// one rule that matches all requests and sends them to the destinations by weight.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=0
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.map(r, has(r.match) ? r.match.size() : 0).sum() <= 64",message="all rules together may have 64 matches: combine some of them with a prefix or regex match"
	// +kubebuilder:validation:XValidation:rule="self.map(r, has(r.match) ? r.match.map(m, (has(m.headers) ? m.headers.size() : 0) + (has(m.queryParams) ? m.queryParams.size() : 0)).sum() : 0).sum() <= 48",message="all rules together may match on 48 headers and query parameters: remove some of them, or combine values with a regex match"
	// +kubebuilder:validation:XValidation:rule="self.map(r, has(r.headers) ? (has(r.headers.request) ? (has(r.headers.request.set) ? r.headers.request.set.size() : 0) + (has(r.headers.request.add) ? r.headers.request.add.size() : 0) + (has(r.headers.request.remove) ? r.headers.request.remove.size() : 0) : 0) + (has(r.headers.response) ? (has(r.headers.response.set) ? r.headers.response.set.size() : 0) + (has(r.headers.response.add) ? r.headers.response.add.size() : 0) + (has(r.headers.response.remove) ? r.headers.response.remove.size() : 0) : 0) : 0).sum() <= 48",message="all rules together may set, add and remove 48 headers: remove some of them"
	// +kubebuilder:validation:XValidation:rule="self.map(r, has(r.directResponse) && has(r.directResponse.body) ? r.directResponse.body.size() : 0).sum() <= 8192",message="all directResponse bodies together may have 8192 characters: shorten them"
	// +kubebuilder:validation:XValidation:rule="self.map(r, (has(r.match) ? r.match.map(m, (has(m.uri) ? (has(m.uri.exact) ? m.uri.exact.size() : 0) + (has(m.uri.prefix) ? m.uri.prefix.size() : 0) + (has(m.uri.regex) ? m.uri.regex.size() : 0) : 0) + (has(m.method) ? (has(m.method.exact) ? m.method.exact.size() : 0) + (has(m.method.prefix) ? m.method.prefix.size() : 0) + (has(m.method.regex) ? m.method.regex.size() : 0) : 0) + (has(m.headers) ? m.headers.map(k, k.size() + (has(m.headers[k].exact) ? m.headers[k].exact.size() : 0) + (has(m.headers[k].prefix) ? m.headers[k].prefix.size() : 0) + (has(m.headers[k].regex) ? m.headers[k].regex.size() : 0)).sum() : 0) + (has(m.queryParams) ? m.queryParams.map(k, k.size() + (has(m.queryParams[k].exact) ? m.queryParams[k].exact.size() : 0) + (has(m.queryParams[k].prefix) ? m.queryParams[k].prefix.size() : 0) + (has(m.queryParams[k].regex) ? m.queryParams[k].regex.size() : 0)).sum() : 0)).sum() : 0)).sum() <= 16384",message="all matches together may have 16384 characters, names included: shorten them, or use prefix in place of exact"
	// +kubebuilder:validation:XValidation:rule="self.map(r, (has(r.headers) ? (has(r.headers.request) ? (has(r.headers.request.set) ? r.headers.request.set.map(k, k.size() + r.headers.request.set[k].size()).sum() : 0) + (has(r.headers.request.add) ? r.headers.request.add.map(k, k.size() + r.headers.request.add[k].size()).sum() : 0) + (has(r.headers.request.remove) ? r.headers.request.remove.map(k, k.size()).sum() : 0) : 0) + (has(r.headers.response) ? (has(r.headers.response.set) ? r.headers.response.set.map(k, k.size() + r.headers.response.set[k].size()).sum() : 0) + (has(r.headers.response.add) ? r.headers.response.add.map(k, k.size() + r.headers.response.add[k].size()).sum() : 0) + (has(r.headers.response.remove) ? r.headers.response.remove.map(k, k.size()).sum() : 0) : 0) : 0)).sum() <= 8192",message="all headers that rules set, add and remove together may have 8192 characters, names included: shorten them"
	// +kubebuilder:validation:XValidation:rule="self.map(r, (has(r.rewrite) ? (has(r.rewrite.uri) ? r.rewrite.uri.size() : 0) + (has(r.rewrite.uriRegexRewrite) ? r.rewrite.uriRegexRewrite.match.size() + r.rewrite.uriRegexRewrite.rewrite.size() : 0) : 0)).sum() <= 8192",message="all rewrites together may have 8192 characters: shorten them"
	Rules []Rule `json:"rules,omitempty"`

	// timeout is the timeout of requests, retries included, such as 15s. It also applies without rules. A rule's own timeout takes precedence, and rules
	// with directResponse have none. Defaults to no timeout.
	// +optional
	Timeout Duration `json:"timeout,omitempty"`

	// retries are the retries of requests. They also apply without rules. Each field that a rule sets itself takes precedence, and rules with
	// directResponse have none. Defaults to 2 attempts on connect-failure,refused-stream.
	// +optional
	Retries *Retries `json:"retries,omitempty"`

	// meshHeaders is what happens to headers that the mesh adds to requests, such as x-envoy-attempt-count and x-forwarded-client-cert, before a request
	// leaves the mesh: Remove or Keep. Defaults to Remove.
	// +optional
	// +default="Remove"
	MeshHeaders MeshHeaders `json:"meshHeaders,omitempty"`

	// exportTo are the namespaces whose workloads can use the route, at most 16: "." is the route's own namespace, which must be in the list; other
	// namespaces by name; or "*" alone for all. Defaults to ["."].
	// +optional
	// +listType=set
	// +default=["."]
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self == ['*'] || self.exists(n, n == '.')",message="must hold \".\", without which the route's own namespace gets 503, or \"*\" alone"
	// +kubebuilder:validation:XValidation:rule="self.size() == 1 || !self.exists(n, n == '*')",message="\"*\" must be alone in the list: it already includes every namespace"
	ExportTo []ExportNamespace `json:"exportTo,omitempty"`

	// workloadSelector limits the route to the selected pods of the namespace. It needs exportTo ["."] and tls.scope Route. Defaults to all pods.
	// +optional
	WorkloadSelector *WorkloadSelector `json:"workloadSelector,omitempty"`

	// egressGateway is the egress gateway through which requests leave the mesh, instead of from the sidecar. It needs exportTo ["."] and tls.scope Route.
	// Defaults to that of the ExternalRoutePolicies of the namespace, or none.
	// +optional
	EgressGateway *GatewayReference `json:"egressGateway,omitempty"`

	// waypoint is the Gateway of the waypoint that applies the route to pods in ambient mode. The Gateway must be of class istio-waypoint. The route then
	// needs aliases, and excludes workloadSelector and tls.scope Host. The generated objects are exported to the namespace of the waypoint, too, and with
	// tls.clientCertificateRef to no other one. Defaults to none: pods use the route through their sidecars.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.name != 'none'",fieldPath=".name",message="must not be none, which Istio reads as no waypoint: use a waypoint with another name"
	Waypoint *GatewayReference `json:"waypoint,omitempty"`

	// suspend stops the operator from writing generated objects. It still writes the status. Defaults to false.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
}

// RouteHost is a name that workloads call, or a wildcard for such names.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule="!self.contains('*') || self.matches('^[*][.][^*.]+[.][^*]+$')",message="a wildcard must be *. and a domain of two labels or more, such as *.example.com"
// +kubebuilder:validation:XValidation:rule="!self.endsWith('.')",message="must not end with a dot"
// +kubebuilder:validation:XValidation:rule="!self.matches('[A-Z]')",message="must be lower case"
// +kubebuilder:validation:XValidation:rule="self.matches('[A-Z]|[.]$|^[*]$|^[*][^.]|.[*]|^[*][.][^.]*$') || (self.matches('^([*][.])?[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$') && self.matches('(^|[.])[a-z][-a-z0-9]*$'))",message="must be a DNS name: labels of at most 63 letters, digits and hyphens, without scheme, port or path, and no IP address"
// +kubebuilder:validation:XValidation:rule="!self.matches('^([^.]*[.])*localhost([.]localdomain)?$')",message="must not be localhost: a call to it never leaves the pod"
type RouteHost string

// ServiceCreationPolicy is what happens if an alias has no Service.
//
// +kubebuilder:validation:Enum=IfMissing;Never
type ServiceCreationPolicy string

const (
	// ServiceCreationIfMissing creates a ClusterIP Service without a selector.
	ServiceCreationIfMissing ServiceCreationPolicy = "IfMissing"
	// ServiceCreationNever reports the missing Service in the status.
	ServiceCreationNever ServiceCreationPolicy = "Never"
)

// MeshHeaders is what happens to the headers that the mesh adds to requests.
//
// +kubebuilder:validation:Enum=Remove;Keep
type MeshHeaders string

const (
	// MeshHeadersRemove removes them before a request leaves the mesh.
	MeshHeadersRemove MeshHeaders = "Remove"
	// MeshHeadersKeep keeps them.
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
	// matchLabels are the labels that a pod must have, at most 16.
	// +required
	// +mapType=atomic
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$') && k.indexOf('/') <= 253)",message="each key must be a label key: [PREFIX/]NAME"
	// +kubebuilder:validation:XValidation:rule="self.map(k, k.size() + self[k].size()).sum() <= 1024",message="all labels together may have 1024 characters, because every match of the VirtualService repeats them: select by fewer labels"
	MatchLabels map[string]LabelValue `json:"matchLabels,omitempty"`
}

// GatewayReference names a gateway.
type GatewayReference struct {
	// name is the name of the gateway: that of its Service for an egress gateway, and that of its Gateway for a waypoint.
	// +required
	Name DNSLabel `json:"name,omitempty"`

	// namespace is the namespace of the gateway.
	// +required
	Namespace DNSLabel `json:"namespace,omitempty"`
}

// DNSLabel is the name of a gateway or of a namespace.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="must be a DNS label: lower-case letters, digits and '-', beginning and ending with a letter or digit"
type DNSLabel string

// LabelValue is the value of a label.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$')",message="must be a label value: letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"
type LabelValue string
