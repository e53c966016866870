package v1alpha1

// Destination is one external host and how to reach it.
//
// +kubebuilder:validation:XValidation:rule="!has(self.tls) || !self.url.startsWith('https:') || !has(self.tls.mode) || self.tls.mode != 'DISABLE'",fieldPath=".tls.mode",message="DISABLE contradicts an https:// URL: use http:// for plaintext"
// +kubebuilder:validation:XValidation:rule="!has(self.tls) || !self.url.startsWith('http:') || !has(self.tls.mode) || self.tls.mode == 'DISABLE'",fieldPath=".tls.mode",message="SIMPLE and MUTUAL contradict an http:// URL: use https://"
// +kubebuilder:validation:XValidation:rule="!has(self.tls) || !self.url.startsWith('http:') || !(has(self.tls.sni) || has(self.tls.subjectAltNames) || has(self.tls.caConfigMap) || has(self.tls.credentialName) || self.tls.scope == 'Host')",fieldPath=".tls",message="TLS settings contradict an http:// URL: use https://"
// +kubebuilder:validation:XValidation:rule="self.resolution != 'STATIC' || has(self.endpoints)",fieldPath=".endpoints",message="resolution STATIC needs endpoints with IP addresses"
// +kubebuilder:validation:XValidation:rule="self.resolution != 'STATIC' || !has(self.endpoints) || self.endpoints.all(e, isIP(e.address))",fieldPath=".endpoints",message="resolution STATIC needs IP addresses: use DNS for names"
// +kubebuilder:validation:XValidation:rule="self.resolution != 'DNS_ROUND_ROBIN' || !has(self.endpoints) || self.endpoints.size() == 1",fieldPath=".endpoints",message="resolution DNS_ROUND_ROBIN takes one endpoint at most: use DNS for several"
type Destination struct {
	// name is what rules call this destination. If left out, primary.
	// +optional
	// +default="primary"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="must be a DNS label: lower-case letters, digits and hyphens"
	Name string `json:"name,omitempty"`

	// url is where the host is: http:// or https://, a lower-case DNS name, a port where it is not 80 or 443, and a path that is put before the
	// path of every request.
	// +required
	URL URL `json:"url,omitempty"`

	// weight is the destination's share of the traffic where a rule names no destinations of its own, in relation to the other weights. If left out,
	// 1; 0 sends it nothing.
	// +optional
	// +default=1
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	Weight *int32 `json:"weight,omitempty"`

	// resolution is how addresses are found: DNS (if left out) uses all that DNS answers, DNS_ROUND_ROBIN the first one, STATIC those in endpoints.
	// +optional
	// +default="DNS"
	Resolution Resolution `json:"resolution,omitempty"`

	// endpoints are other addresses to dial; authority, SNI and the check of the certificate stay with the URL's host. If left out, that host.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Endpoints []Endpoint `json:"endpoints,omitempty"`

	// tls says how TLS is spoken. If left out, verified TLS against the system's roots for https, none for http.
	// +optional
	TLS *TLS `json:"tls,omitempty"`

	// connectionPool limits connections and requests. If left out, Istio's defaults.
	// +optional
	ConnectionPool *ConnectionPool `json:"connectionPool,omitempty"`

	// outlierDetection takes addresses that fail out of the rotation for a while. If left out, none is.
	// +optional
	OutlierDetection *OutlierDetection `json:"outlierDetection,omitempty"`
}

// URL is the address of an external host.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=2048
// +kubebuilder:validation:XValidation:rule="self.matches('^https?://')",message="must begin with http:// or https:// (lower case)"
// +kubebuilder:validation:XValidation:rule="!self.matches('^[^/]*//[^/?#]*@')",message="must not hold user info: send credentials in a header"
// +kubebuilder:validation:XValidation:rule="!self.matches('[?#]')",message="must not hold a query or a fragment"
// +kubebuilder:validation:XValidation:rule="!self.matches('^https?://[^@/?#]*([/?#]|$)') || self.matches('^https?://([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?[.])+[a-z]([-a-z0-9]{0,61}[a-z0-9])?([:/?#]|$)')",message="the host must be a lower-case DNS name of two labels or more (punycode for other alphabets): no IP address, no wildcard, no underscore, no trailing dot"
// +kubebuilder:validation:XValidation:rule="!self.matches('^https?://[^/:?#]{254}')",message="the host must be at most 253 characters long"
// +kubebuilder:validation:XValidation:rule="!self.matches('^https?://[^@/?#:]*:') || self.matches('^https?://[^/:]*:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])([/?#]|$)')",message="the port must be a number from 1 to 65535"
// +kubebuilder:validation:XValidation:rule="!self.matches('^https?://[^/:?#@]*:(1500[0-9]|1502[01]|15053|15090)([/?#]|$)')",message="the port must not be one of Istio's own (15000 to 15009, 15020, 15021, 15053, 15090): a sidecar would have two listeners on it"
// +kubebuilder:validation:XValidation:rule="!self.matches('^https?://([^/:]*[.])?(localhost|localhost[.]localdomain|svc|cluster[.]local|kubernetes[.]default|externalroute[.]internal)([:/?#]|$)')",message="the host must be outside the cluster: localhost and names of cluster services are not"
// +kubebuilder:validation:XValidation:rule="!self.matches('^https?://([^/:]*[.])?(metadata[.]google[.]internal|metadata[.]goog|instance-data[.]ec2[.]internal|metadata[.]tencentyun[.]com|metadata[.]azure[.]internal)([:/?#]|$)')",message="the host must not be a cloud's metadata service"
// +kubebuilder:validation:XValidation:rule="!self.matches('^https?://[^/?#]+/') || self.matches('^https?://[^/?#]+(/([-A-Za-z0-9._~!$&()*+,;=:@/\\']|%[0-9A-Fa-f]{2})*)([?#]|$)')",message="the path must be written as it goes over the wire: percent-encode what RFC 3986 does not allow in a path"
// +kubebuilder:validation:XValidation:rule="!self.matches('(/|%2[fF]|%5[cC])([.]|%2[eE]){1,2}(/|;|%2[fF]|%5[cC]|$)')",message="the path must not hold dot segments (/./ or /../), not even encoded ones"
// +kubebuilder:validation:XValidation:rule="!self.matches('%([01][0-9A-Fa-f]|7[fF])')",message="the path must not hold encoded control characters"
type URL string

// Resolution is how the addresses of a destination are found; the words are those of an Istio ServiceEntry.
//
// +kubebuilder:validation:Enum=DNS;DNS_ROUND_ROBIN;STATIC
type Resolution string

const (
	// ResolutionDNS uses every address that DNS answers.
	ResolutionDNS Resolution = "DNS"
	// ResolutionDNSRoundRobin uses the first address that DNS answers, and keeps connections to earlier ones.
	ResolutionDNSRoundRobin Resolution = "DNS_ROUND_ROBIN"
	// ResolutionStatic uses the addresses in endpoints.
	ResolutionStatic Resolution = "STATIC"
)

// Endpoint is an address to dial.
type Endpoint struct {
	// address is an IP address, or a DNS name where the resolution is not STATIC.
	// +required
	Address EndpointAddress `json:"address,omitempty"`

	// port is the port to dial. If left out, the URL's.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`
}

// EndpointAddress is an IP address or a DNS name.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule="isIP(self) || self.matches('^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?[.])+[a-z]([-a-z0-9]{0,61}[a-z0-9])?$')",message="must be an IP address in its usual spelling or a lower-case DNS name of two labels or more"
// +kubebuilder:validation:XValidation:rule="!isIP(self) || (ip(self).isGlobalUnicast() && !self.startsWith('0.') && !['::/96', '64:ff9b::7f00:0/104', '64:ff9b::a9fe:0/112', '64:ff9b:1::/48', '2002::/16', '240.0.0.0/4'].exists(c, cidr(c).containsIP(ip(self))))",message="must not be a loopback, link-local, multicast, broadcast or unspecified address"
// +kubebuilder:validation:XValidation:rule="!isIP(self) || !['100.100.100.200/32', '168.63.129.16/32', '192.0.0.192/32', 'fd00:ec2::/32', 'fd20:ce::254/128', 'fd00:c1::a9fe:a9fe/128'].exists(c, cidr(c).containsIP(ip(self)))",message="must not be a cloud's metadata service"
// +kubebuilder:validation:XValidation:rule="!self.matches('^(.*[.])?(localhost|localhost[.]localdomain|svc|cluster[.]local|kubernetes[.]default|externalroute[.]internal)$')",message="must be outside the cluster: localhost and names of cluster services are not"
// +kubebuilder:validation:XValidation:rule="!self.matches('^(.*[.])?(metadata[.]google[.]internal|metadata[.]goog|instance-data[.]ec2[.]internal|metadata[.]tencentyun[.]com|metadata[.]azure[.]internal)$')",message="must not be a cloud's metadata service"
type EndpointAddress string

// TLS says how TLS is spoken to a destination.
//
// +kubebuilder:validation:MinProperties=0
// +kubebuilder:validation:XValidation:rule="!has(self.mode) || self.mode != 'MUTUAL' || has(self.credentialName)",fieldPath=".credentialName",message="mode MUTUAL needs credentialName, the Secret with the client certificate"
// +kubebuilder:validation:XValidation:rule="!has(self.credentialName) || (has(self.mode) && self.mode == 'MUTUAL')",fieldPath=".mode",message="credentialName needs mode MUTUAL"
// +kubebuilder:validation:XValidation:rule="!(has(self.credentialName) && has(self.caConfigMap))",fieldPath=".caConfigMap",message="must not stand beside credentialName: the Secret holds ca.crt too"
// +kubebuilder:validation:XValidation:rule="!has(self.insecureSkipVerify) || !self.insecureSkipVerify",fieldPath=".insecureSkipVerify",message="is allowed only where an ExternalRoutePolicy permits it, and this version has none"
type TLS struct {
	// mode is SIMPLE (the server proves who it is), MUTUAL (both do) or DISABLE. If left out, SIMPLE for https and DISABLE for http.
	// +optional
	Mode TLSMode `json:"mode,omitempty"`

	// scope is where TLS is spoken for the workloads. Route (if left out) does it for this route alone, so that a workload that calls https://HOST
	// itself goes on working. Host does it for every call of the namespace to the host, which breaks those that speak TLS already.
	// +optional
	// +default="Route"
	Scope TLSScope `json:"scope,omitempty"`

	// sni is the server name sent in the handshake. If left out, the URL's host.
	// +optional
	SNI TLSName `json:"sni,omitempty"`

	// subjectAltNames are the names of which the server's certificate must carry one. If left out, the URL's host.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	SubjectAltNames []TLSName `json:"subjectAltNames,omitempty"`

	// caConfigMap is the name of a ConfigMap of the route's namespace whose key ca.crt holds the authorities to trust. If left out, the system's roots
	// of the sidecar's image.
	// +optional
	CAConfigMap ObjectName `json:"caConfigMap,omitempty"`

	// credentialName is the name of a Secret of the route's namespace with the client certificate: tls.crt, tls.key and ca.crt. Needed for MUTUAL.
	// The pods' ServiceAccount must be allowed to list secrets; the operator never reads it.
	// +optional
	CredentialName ObjectName `json:"credentialName,omitempty"`

	// insecureSkipVerify turns the check of the certificate off. If left out, false; true is allowed only where an ExternalRoutePolicy permits it.
	// +optional
	InsecureSkipVerify bool `json:"insecureSkipVerify,omitempty"`
}

// TLSMode is how TLS is spoken; the words are those of an Istio DestinationRule.
//
// +kubebuilder:validation:Enum=SIMPLE;MUTUAL;DISABLE
type TLSMode string

const (
	// TLSSimple verifies the server.
	TLSSimple TLSMode = "SIMPLE"
	// TLSMutual verifies the server and shows it a client certificate.
	TLSMutual TLSMode = "MUTUAL"
	// TLSDisable is plaintext.
	TLSDisable TLSMode = "DISABLE"
)

// TLSScope is for whom TLS is spoken.
//
// +kubebuilder:validation:Enum=Route;Host
type TLSScope string

const (
	// TLSScopeRoute speaks TLS for the traffic of this route.
	TLSScopeRoute TLSScope = "Route"
	// TLSScopeHost speaks TLS for every call of the namespace to the host.
	TLSScopeHost TLSScope = "Host"
)

// TLSName is a DNS name in a handshake or a certificate.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule="self.matches('^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?[.])*[a-z]([-a-z0-9]{0,61}[a-z0-9])?$')",message="must be a lower-case DNS name, without wildcard (a certificate's own wildcard is honoured)"
type TLSName string

// ObjectName is the name of a ConfigMap or a Secret.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="must be the name of an object: lower-case letters, digits, '-' and '.'"
type ObjectName string

// Duration is a length of time: 1h, 1m30s, 250ms. Its grammar is Gateway API's (GEP-2257).
//
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') && duration(self) >= duration('1ms')",message="must be a duration such as 1h, 1m30s or 250ms, of at least 1ms"
type Duration string

// ConnectionPool limits connections and requests to a destination, for each sidecar by itself.
//
// +kubebuilder:validation:MinProperties=1
type ConnectionPool struct {
	// maxConnections is the number of connections that may be open. If left out, 2^32-1. Set maxPendingRequests with it: without that, requests queue
	// for ever when the pool is full.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2147483647
	MaxConnections int32 `json:"maxConnections,omitempty"`

	// maxPendingRequests is the number of requests that may wait for a connection; the next one gets 503. If left out, 2^32-1.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2147483647
	MaxPendingRequests int32 `json:"maxPendingRequests,omitempty"`

	// connectTimeout is how long a connection may take. If left out, the mesh's (10s).
	// +optional
	ConnectTimeout Duration `json:"connectTimeout,omitempty"`

	// http2 speaks HTTP/2 to the destination, which gRPC needs and WebSocket excludes. If left out, HTTP/1.1.
	// +optional
	HTTP2 bool `json:"http2,omitempty"`

	// maxRequestsPerConnection is after how many requests a connection is closed. If left out, never.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=536870912
	MaxRequestsPerConnection int32 `json:"maxRequestsPerConnection,omitempty"`

	// idleTimeout is how long a connection may be idle. If left out, 1h. Set it below the server's, or a request can meet a connection that the server
	// is closing.
	// +optional
	IdleTimeout Duration `json:"idleTimeout,omitempty"`
}

// OutlierDetection takes addresses that fail out of the rotation for a while.
//
// +kubebuilder:validation:MinProperties=1
type OutlierDetection struct {
	// consecutive5xxErrors is after how many errors in a row an address is taken out. If left out, 5.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2147483647
	Consecutive5xxErrors int32 `json:"consecutive5xxErrors,omitempty"`

	// interval is the time between two looks. If left out, 10s.
	// +optional
	Interval Duration `json:"interval,omitempty"`

	// baseEjectionTime is how long an address stays out, times the number of times that it was. If left out, 30s.
	// +optional
	BaseEjectionTime Duration `json:"baseEjectionTime,omitempty"`

	// maxEjectionPercent is the share of addresses that may be out at once. If left out, 10. (Istio takes 0 for left out, so it is refused.)
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MaxEjectionPercent int32 `json:"maxEjectionPercent,omitempty"`
}
