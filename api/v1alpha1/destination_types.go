package v1alpha1

// Destination is one external host and how to reach it.
//
// +kubebuilder:validation:XValidation:rule="!has(self.tls) || !self.url.matches('^(http|tcp):')",fieldPath=".tls",message="TLS settings need an https:// or tls:// URL: use one, or remove tls"
// +kubebuilder:validation:XValidation:rule="!has(self.tls) || !has(self.tls.scope) || !self.url.startsWith('tls:')",fieldPath=".tls.scope",message="scope needs an https:// URL, because a tls:// destination shares its name with nobody: remove scope"
// +kubebuilder:validation:XValidation:rule="!has(self.protocol) || !self.url.matches('^(tcp|tls):')",fieldPath=".protocol",message="protocol is an HTTP version, which needs an http:// or https:// URL: remove protocol"
// +kubebuilder:validation:XValidation:rule="!has(self.connectionPool) || !(has(self.connectionPool.maxPendingRequests) || has(self.connectionPool.maxRequestsPerConnection)) || !self.url.matches('^(tcp|tls):')",fieldPath=".connectionPool",message="maxPendingRequests and maxRequestsPerConnection need an http:// or https:// URL, because TCP has no requests: remove them"
// +kubebuilder:validation:XValidation:rule="!has(self.resolution) || self.resolution != 'DNSRoundRobin' || !has(self.endpoints) || self.endpoints.size() == 1",fieldPath=".endpoints",message="resolution DNSRoundRobin takes one endpoint at most: use resolution DNS for several"
// +kubebuilder:validation:XValidation:rule="has(self.outlierDetection) || !has(self.endpoints) || self.endpoints.all(e, !has(e.priority) || e.priority == 0)",fieldPath=".endpoints",message="a priority above 0 needs outlierDetection, which ejects failing endpoints: set outlierDetection, such as {consecutive5xxErrors: 5}, or remove priority"
// +kubebuilder:validation:XValidation:rule="!has(self.endpoints) || self.endpoints.all(e, !has(e.priority) || e.priority == 0) || self.endpoints.all(e, isIP(e.address))",fieldPath=".endpoints",message="a priority above 0 needs endpoints that are all IP addresses, because Istio ignores the priorities of DNS names: use IP addresses, or remove priority"
type Destination struct {
	// name is the name by which rules refer to this destination: a DNS label of at most 63 characters, unique in the route. Defaults to primary.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="must be a DNS label: lower-case letters, digits and hyphens"
	Name string `json:"name,omitempty"`

	// url is the address of the external host: http:// or https://, a lower-case DNS name, an optional port (defaults to 80 or 443), and an optional
	// base path. The base path is prepended to the path of every request. Example: https://api.example.com/v1. For protocols other than HTTP it is
	// tcp:// or tls://, a DNS name and a port: tcp:// forwards the bytes as they are, and tls:// originates TLS. Example: tls://redis.example.com:6380.
	// +required
	URL URL `json:"url,omitempty"`

	// weight is the destination's share of the traffic in rules that name no destinations, in relation to the other weights: of requests to HTTP
	// destinations, of connections to TCP destinations. 0 sends it no traffic. Defaults to 1.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	Weight *int32 `json:"weight,omitempty"`

	// protocol is the HTTP version that the mesh speaks to an http:// or https:// destination: HTTP is HTTP/1.1; HTTP2 is HTTP/2, which gRPC needs and
	// which excludes WebSocket. Defaults to HTTP.
	// +optional
	Protocol Protocol `json:"protocol,omitempty"`

	// resolution is how the mesh finds addresses: DNS uses all addresses that DNS returns, DNSRoundRobin the first one. Endpoints that are all IP
	// addresses need no resolution. Defaults to DNS.
	// +optional
	Resolution Resolution `json:"resolution,omitempty"`

	// endpoints are the addresses to connect to, at most 16. The authority, the SNI and the certificate check still use the URL's host. Defaults to the
	// URL's host.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Endpoints []Endpoint `json:"endpoints,omitempty"`

	// tls configures TLS to an https:// or tls:// destination. Defaults to TLS that verifies the server against the system's root certificates.
	// +optional
	TLS *TLS `json:"tls,omitempty"`

	// connectionPool limits connections and requests. Defaults to Istio's limits.
	// +optional
	ConnectionPool *ConnectionPool `json:"connectionPool,omitempty"`

	// outlierDetection ejects failing addresses from load balancing for a while. Defaults to none.
	// +optional
	OutlierDetection *OutlierDetection `json:"outlierDetection,omitempty"`
}

// URL is the address of an external host.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=2048
// +kubebuilder:validation:XValidation:rule="self.matches('^(https?|tcp|tls)://')",message="must begin with http://, https://, tcp:// or tls:// (lower case)"
// +kubebuilder:validation:XValidation:rule="!self.matches('^[^/]*//[^/?#]*@')",message="must not hold user info: send credentials in a header"
// +kubebuilder:validation:XValidation:rule="!self.matches('[?#]')",message="must not hold a query or a fragment"
// +kubebuilder:validation:XValidation:rule="!self.matches('^(https?|tcp|tls)://[^@/?#]*([/?#]|$)') || self.matches('^(https?|tcp|tls)://([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?[.])+[a-z]([-a-z0-9]{0,61}[a-z0-9])?([:/?#]|$)')",message="the host must be a lower-case DNS name of two labels or more (punycode for other alphabets): no IP address, no wildcard, no underscore, no trailing dot"
// +kubebuilder:validation:XValidation:rule="!self.matches('^(https?|tcp|tls)://[^/:?#]{254}')",message="the host must be at most 253 characters long"
// +kubebuilder:validation:XValidation:rule="!self.matches('^(https?|tcp|tls)://[^@/?#:]*:') || self.matches('^(https?|tcp|tls)://[^/:]*:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])([/?#]|$)')",message="the port must be a number from 1 to 65535"
// +kubebuilder:validation:XValidation:rule="!self.matches('^(tcp|tls)://[^@/?#:]+([/?#]|$)')",message="a tcp:// or tls:// URL needs a port: append one, such as :5432"
// +kubebuilder:validation:XValidation:rule="!self.matches('^(tcp|tls)://[^/]*/')",message="a tcp:// or tls:// URL takes no path: end it with the port"
// +kubebuilder:validation:XValidation:rule="!self.matches('^(https?|tcp|tls)://[^/:?#@]*:(1500[0-9]|1502[01]|15053|15090)([/?#]|$)')",message="the port must not be one of Istio's own (15000 to 15009, 15020, 15021, 15053, 15090), on which sidecars listen: use another port"
// +kubebuilder:validation:XValidation:rule="!self.matches('^(https?|tcp|tls)://([^/:]*[.])?(localhost|localhost[.]localdomain|svc|cluster[.]local|kubernetes[.]default|externalroute[.]internal)([:/?#]|$)')",message="the host must be outside the cluster: localhost and names of cluster services are not"
// +kubebuilder:validation:XValidation:rule="!self.matches('^(https?|tcp|tls)://([^/:]*[.])?(metadata[.]google[.]internal|metadata[.]goog|instance-data[.]ec2[.]internal|metadata[.]tencentyun[.]com|metadata[.]azure[.]internal)([:/?#]|$)')",message="the host must not be a cloud's metadata service"
// +kubebuilder:validation:XValidation:rule="!self.matches('^(https?|tcp|tls)://[^/?#]+/') || self.matches('^(https?|tcp|tls)://[^/?#]+(/([-A-Za-z0-9._~!$&()*+,;=:@/\\']|%[0-9A-Fa-f]{2})*)([?#]|$)')",message="the path must hold only characters that RFC 3986 allows: percent-encode the others"
// +kubebuilder:validation:XValidation:rule="!self.matches('(/|%2[fF]|%5[cC])([.]|%2[eE]){1,2}(/|;|%2[fF]|%5[cC]|$)')",message="the path must not hold dot segments (/./ or /../), not even encoded ones"
// +kubebuilder:validation:XValidation:rule="!self.matches('%([01][0-9A-Fa-f]|7[fF])')",message="the path must not hold encoded control characters"
type URL string

// Protocol is the HTTP version that the mesh speaks to a destination.
//
// +kubebuilder:validation:Enum=HTTP;HTTP2
type Protocol string

const (
	// ProtocolHTTP is HTTP/1.1.
	ProtocolHTTP Protocol = "HTTP"
	// ProtocolHTTP2 is HTTP/2.
	ProtocolHTTP2 Protocol = "HTTP2"
)

// Resolution is how the mesh finds the addresses of a destination.
//
// +kubebuilder:validation:Enum=DNS;DNSRoundRobin
type Resolution string

const (
	// ResolutionDNS uses all addresses that DNS returns.
	ResolutionDNS Resolution = "DNS"
	// ResolutionDNSRoundRobin uses the first address that DNS returns, and keeps connections to earlier ones.
	ResolutionDNSRoundRobin Resolution = "DNSRoundRobin"
)

// Endpoint is an address to connect to.
type Endpoint struct {
	// address is an IP address or a DNS name.
	// +required
	Address EndpointAddress `json:"address,omitempty"`

	// port is the port to connect to, from 1 to 65535. Defaults to the URL's port.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +kubebuilder:validation:XValidation:rule="!(self in [15000, 15001, 15002, 15003, 15004, 15005, 15006, 15007, 15008, 15009, 15020, 15021, 15053, 15090])",message="must not be one of Istio's own ports (15000 to 15009, 15020, 15021, 15053, 15090), on which sidecars listen: use another port"
	Port int32 `json:"port,omitempty"`

	// priority is the order in which endpoints are used, from 0 (first) to 3. When outlierDetection has ejected the endpoints of a priority, the next
	// one takes over; while only some are ejected, it may take a part of the requests. A priority above 0 needs outlierDetection and endpoints that are
	// all IP addresses. Defaults to 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=3
	Priority *int32 `json:"priority,omitempty"`
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

// TLS configures TLS to a destination.
//
// +kubebuilder:validation:MinProperties=0
// +kubebuilder:validation:XValidation:rule="!(has(self.caCertificateRefs) && has(self.clientCertificateRef))",fieldPath=".caCertificateRefs",message="excludes clientCertificateRef: put the CA certificates into the key ca.crt of the client certificate's Secret"
// +kubebuilder:validation:XValidation:rule="!has(self.insecureSkipVerify) || !self.insecureSkipVerify || !has(self.subjectAltNames)",fieldPath=".subjectAltNames",message="excludes insecureSkipVerify, with which no name is checked: remove one of the two"
// +kubebuilder:validation:XValidation:rule="!has(self.insecureSkipVerify) || !self.insecureSkipVerify || !has(self.caCertificateRefs)",fieldPath=".caCertificateRefs",message="excludes insecureSkipVerify, with which no certificate is checked: remove one of the two"
type TLS struct {
	// scope is which traffic gets TLS. Route covers the traffic of this route only, so that a workload that calls https://HOST directly keeps working.
	// Host covers all traffic of the namespace to the host, which breaks such direct calls. It needs an https:// URL. Defaults to Route.
	// +optional
	Scope TLSScope `json:"scope,omitempty"`

	// sni is the server name in the TLS handshake. Defaults to the URL's host.
	// +optional
	SNI TLSName `json:"sni,omitempty"`

	// subjectAltNames are the accepted names, at most 16. The server's certificate must contain one of them. Defaults to the URL's host.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	SubjectAltNames []TLSName `json:"subjectAltNames,omitempty"`

	// caCertificateRefs refers to the CA certificates that the mesh trusts, at most one object. Defaults to the root certificates in the sidecar's image.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1
	CACertificateRefs []CACertificateRef `json:"caCertificateRefs,omitempty"`

	// clientCertificateRef refers to the client certificate for mutual TLS. It needs spec.workloadSelector, or an egress gateway or a waypoint and an
	// ExternalRoutePolicy that allows the Secret. Defaults to none.
	// +optional
	ClientCertificateRef *ClientCertificateRef `json:"clientCertificateRef,omitempty"`

	// insecureSkipVerify turns off the check of the server's certificate, so that anybody on the way can read and change what is sent. It needs an
	// ExternalRoutePolicy that allows it. Defaults to false.
	// +optional
	InsecureSkipVerify bool `json:"insecureSkipVerify,omitempty"`
}

// CACertificateRef refers to an object with CA certificates in the route's namespace.
type CACertificateRef struct {
	// kind is the kind of the object. Defaults to ConfigMap.
	// +optional
	Kind CACertificateKind `json:"kind,omitempty"`

	// name is the name of the object. Its key ca.crt holds the CA certificates in PEM format.
	// +required
	Name ObjectName `json:"name,omitempty"`
}

// CACertificateKind is the kind of an object with CA certificates.
//
// +kubebuilder:validation:Enum=ConfigMap
type CACertificateKind string

// CACertificateConfigMap is a ConfigMap.
const CACertificateConfigMap CACertificateKind = "ConfigMap"

// ClientCertificateRef refers to an object with a client certificate, in the route's namespace or, with an egress gateway or a waypoint, beside that.
type ClientCertificateRef struct {
	// kind is the kind of the object. Defaults to Secret.
	// +optional
	Kind ClientCertificateKind `json:"kind,omitempty"`

	// name is the name of the object. Its keys are tls.crt, tls.key and ca.crt, the CA certificates that the mesh trusts. The ServiceAccount of the
	// pods that show it must be allowed to list Secrets. The operator never reads the object.
	// +required
	Name ObjectName `json:"name,omitempty"`
}

// ClientCertificateKind is the kind of an object with a client certificate.
//
// +kubebuilder:validation:Enum=Secret
type ClientCertificateKind string

// ClientCertificateSecret is a Secret.
const ClientCertificateSecret ClientCertificateKind = "Secret"

// TLSScope is which traffic gets TLS.
//
// +kubebuilder:validation:Enum=Route;Host
type TLSScope string

const (
	// TLSScopeRoute covers the traffic of this route only.
	TLSScopeRoute TLSScope = "Route"
	// TLSScopeHost covers all traffic of the namespace to the host.
	TLSScopeHost TLSScope = "Host"
)

// TLSName is a DNS name in a handshake or a certificate.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule="self.matches('^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?[.])*[a-z]([-a-z0-9]{0,61}[a-z0-9])?$')",message="must be a lower-case DNS name, without a wildcard: a wildcard in the server's certificate matches anyway"
type TLSName string

// ObjectName is the name of an object in the route's namespace.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="must be the name of an object: lower-case letters, digits, '-' and '.'"
type ObjectName string

// Duration is a length of time of at least 1ms, such as 1h, 1m30s or 250ms. Its format is that of the Gateway API (GEP-2257).
//
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') && duration(self) >= duration('1ms')",message="must be a duration such as 1h, 1m30s or 250ms, of at least 1ms"
type Duration string

// ConnectionPool limits connections and requests to a destination. The limits apply to each sidecar separately.
//
// +kubebuilder:validation:MinProperties=1
type ConnectionPool struct {
	// maxConnections is the maximum number of open connections, at least 1. For HTTP, set maxPendingRequests with it: without that limit, requests queue
	// indefinitely when the pool is full. Further connections to a TCP destination are closed. Defaults to 2^32-1.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2147483647
	MaxConnections int32 `json:"maxConnections,omitempty"`

	// maxPendingRequests is the maximum number of requests that wait for a connection, at least 1. Further requests get 503. It needs an http:// or
	// https:// URL. Defaults to 2^32-1.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2147483647
	MaxPendingRequests int32 `json:"maxPendingRequests,omitempty"`

	// connectTimeout is the timeout for opening a connection, such as 2s. Defaults to the mesh's setting (10s).
	// +optional
	ConnectTimeout Duration `json:"connectTimeout,omitempty"`

	// maxRequestsPerConnection is the number of requests after which the mesh closes a connection, at least 1. It needs an http:// or https:// URL.
	// Defaults to no limit.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=536870912
	MaxRequestsPerConnection int32 `json:"maxRequestsPerConnection,omitempty"`

	// idleTimeout is the time after which the mesh closes an idle connection, such as 30s. Set it below the server's timeout, so that no request uses a
	// connection that the server is closing. All TCP destinations of a route must have the same. Defaults to 1h.
	// +optional
	IdleTimeout Duration `json:"idleTimeout,omitempty"`
}

// OutlierDetection ejects failing addresses from load balancing for a while.
//
// +kubebuilder:validation:MinProperties=1
type OutlierDetection struct {
	// consecutive5xxErrors is the number of consecutive 5xx responses after which an address is ejected, at least 1. For TCP it counts failed
	// connections. Defaults to 5.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2147483647
	Consecutive5xxErrors int32 `json:"consecutive5xxErrors,omitempty"`

	// interval is the time between two checks for ejection. Defaults to 10s.
	// +optional
	Interval Duration `json:"interval,omitempty"`

	// baseEjectionTime is how long an address stays ejected, multiplied by the number of its ejections. Defaults to 30s.
	// +optional
	BaseEjectionTime Duration `json:"baseEjectionTime,omitempty"`

	// maxEjectionPercent is the maximum share of addresses that are ejected at the same time, from 1 to 100. Envoy rounds down:
	// 10 ejects none of fewer than ten addresses. Defaults to 10, or to all but one of several endpoints.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MaxEjectionPercent int32 `json:"maxEjectionPercent,omitempty"`
}
