package v1alpha1

// Rule decides what happens to the requests that it matches. Its fields have the semantics of the http routes of an Istio VirtualService. An empty rule
// matches all requests and sends them to all destinations. Rules after a rule without match never apply.
//
// +kubebuilder:validation:XValidation:rule="!has(self.directResponse) || !(has(self.rewrite) || has(self.destinations) || has(self.retries) || has(self.timeout) || has(self.fault))",fieldPath=".directResponse",message="excludes rewrite, destinations, retries, timeout and fault: remove them, or directResponse"
type Rule struct {
	// match is a list of conditions, at most 16, of which one must hold. Defaults to all requests.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Match []Match `json:"match,omitempty"`

	// rewrite changes the path and the authority of requests. Defaults to prepending the destination's base path, and the destination's host as the
	// authority.
	// +optional
	Rewrite *Rewrite `json:"rewrite,omitempty"`

	// destinations receive the requests by weight, at most 8. Defaults to all destinations of the route by their own weights.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Destinations []RuleDestination `json:"destinations,omitempty"`

	// timeout is the timeout of requests, retries included, such as 15s. Defaults to spec.timeout.
	// +optional
	Timeout Duration `json:"timeout,omitempty"`

	// retries are the retries of requests. Each field defaults to the one of spec.retries.
	// +optional
	Retries *Retries `json:"retries,omitempty"`

	// headers changes headers of requests and responses. Defaults to no changes.
	// +optional
	Headers *Headers `json:"headers,omitempty"`

	// fault injects failures and delays. Defaults to none.
	// +optional
	Fault *Fault `json:"fault,omitempty"`

	// directResponse answers requests without a destination. Defaults to none.
	// +optional
	DirectResponse *DirectResponse `json:"directResponse,omitempty"`
}

// Match is a set of conditions, all of which must hold.
//
// +kubebuilder:validation:MinProperties=1
type Match struct {
	// uri is a condition on the path of the request, without the query.
	// +optional
	// +kubebuilder:validation:XValidation:rule="has(self.regex) || (has(self.exact) ? self.exact : has(self.prefix) ? self.prefix : '/').matches('^/[-A-Za-z0-9._~!$&()*+,;=:@/%\\']*$')",message="must begin with / and hold only characters that RFC 3986 allows in a path (no query): percent-encode the others"
	URI *StringMatch `json:"uri,omitempty"`

	// method is a condition on the method of the request, such as GET.
	// +optional
	Method *StringMatch `json:"method,omitempty"`

	// headers are conditions on headers of the request by name, at most 12.
	// +optional
	// +mapType=atomic
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=12
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() >= 1 && k.size() <= 1024 && k.matches('^[-!#$%&*+.^_|~0-9A-Za-z]+$'))",message="each key must be a header name of at most 1024 characters: letters, digits and -!#$%&*+.^_|~"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !(k.lowerAscii() in ['uri', 'scheme', 'method', 'authority']))",message="Istio ignores conditions on headers named uri, scheme, method or authority: use the fields uri and method"
	Headers map[string]StringMatch `json:"headers,omitempty"`

	// queryParams are conditions on query parameters by name, at most 12.
	// +optional
	// +mapType=atomic
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=12
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() >= 1 && k.size() <= 1024 && k.matches('^[-A-Za-z0-9._~!$()*+,;:@/?%\\\\[\\\\]\\']+$'))",message="each key must be a parameter name of at most 1024 characters that RFC 3986 allows in a query: percent-encode the others"
	QueryParams map[string]StringMatch `json:"queryParams,omitempty"`
}

// StringMatch is a condition on a string: exactly one of exact, prefix and regex.
//
// +kubebuilder:validation:ExactlyOneOf=exact;prefix;regex
type StringMatch struct {
	// exact matches the whole string.
	// +optional
	Exact MatchText `json:"exact,omitempty"`

	// prefix matches the beginning of the string.
	// +optional
	Prefix MatchText `json:"prefix,omitempty"`

	// regex is a regular expression in RE2 syntax that matches the whole string.
	// +optional
	Regex Regex `json:"regex,omitempty"`
}

// MatchText is a text to compare with, at most 1024 characters of printable ASCII.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=1024
// +kubebuilder:validation:XValidation:rule="self.matches('^[ -~]*$')",message="must be printable ASCII: percent-encode other characters as clients do"
type MatchText string

// Regex is a regular expression in RE2 syntax, at most 1024 characters.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=1024
// +kubebuilder:validation:XValidation:rule="self.matches('^[ -~]*$')",message="must be printable ASCII: write other characters as escapes"
// +kubebuilder:validation:XValidation:rule="'a'.matches(self) ? true : true",message="must be a regular expression in RE2 syntax"
// +kubebuilder:validation:XValidation:rule="!self.contains('(?P<') && !self.contains('(?<')",message="groups must not have names, because Envoy rejects a name that occurs twice: use (...) or (?:...)"
// +kubebuilder:validation:XValidation:rule="!self.contains(r'\\p{') && !self.contains(r'\\P{')",message="must not hold a class such as \\p{Greek}, because Envoy does not know all of them: use \\pL, \\pN or list the characters"
type Regex string

// Rewrite changes the path and the authority of requests.
//
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:XValidation:rule="!(has(self.uri) && has(self.uriRegexRewrite))",fieldPath=".uriRegexRewrite",message="excludes uri: remove one of the two"
type Rewrite struct {
	// uri replaces the part of the path that the match covers: the prefix of a prefix match, the whole path of an exact or regex match, the leading /
	// without a uri match. The destination's base path is not prepended.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="self.matches('^/([-A-Za-z0-9._~!$&()*+,;=:@/\\']|%[0-9A-Fa-f]{2})*$')",message="must be a path: begin with / and hold only characters that RFC 3986 allows in a path (no query)"
	// +kubebuilder:validation:XValidation:rule="!self.matches('(/|%2[fF]|%5[cC])([.]|%2[eE]){1,2}(/|;|%2[fF]|%5[cC]|$)')",message="must not hold dot segments (/./ or /../), not even encoded ones"
	// +kubebuilder:validation:XValidation:rule="!self.matches('%([01][0-9A-Fa-f]|7[fF])')",message="must not hold encoded control characters"
	URI string `json:"uri,omitempty"`

	// uriRegexRewrite replaces the parts of the path that match a regular expression. The destination's base path is not prepended.
	// +optional
	URIRegexRewrite *RegexRewrite `json:"uriRegexRewrite,omitempty"`

	// authority is the Host header that the destination receives, with or without a port. Defaults to the destination's host, with its port if that is
	// not the default port of the scheme.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?$')",message="must be a host name, with or without a port"
	Authority string `json:"authority,omitempty"`
}

// RegexRewrite replaces parts of a path by a regular expression.
type RegexRewrite struct {
	// match is a regular expression in RE2 syntax, at most 512 characters. Every part of the path that it matches is replaced.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^[ -~]*$')",message="must be printable ASCII: write other characters as escapes"
	// +kubebuilder:validation:XValidation:rule="'a'.matches(self) ? true : true",message="must be a regular expression in RE2 syntax"
	// +kubebuilder:validation:XValidation:rule="!self.contains('(?P<') && !self.contains('(?<')",message="groups must not have names, because Envoy rejects a name that occurs twice: use (...) or (?:...)"
	// +kubebuilder:validation:XValidation:rule="!self.contains(r'\\p{') && !self.contains(r'\\P{')",message="must not hold a class such as \\p{Greek}, because Envoy does not know all of them: use \\pL, \\pN or list the characters"
	Match string `json:"match,omitempty"`

	// rewrite is the replacement, at most 512 characters: \1 to \9 stand for groups, \0 for the whole match.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^[!-~]*$') && !self.matches('[?#]')",message="must be printable ASCII without spaces, query or fragment"
	// +kubebuilder:validation:XValidation:rule="self.matches(r'^([^\\\\]|\\\\[0-9\\\\])*$')",message="a backslash must be followed by a digit (a group of match) or by another backslash"
	Rewrite string `json:"rewrite,omitempty"`
}

// RuleDestination is a destination of a rule and its share of the requests.
type RuleDestination struct {
	// name is the name of one of the route's destinations.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`

	// weight is the destination's share of the requests, in relation to the other weights of the rule. 0 sends it no requests. Defaults to 1.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	Weight *int32 `json:"weight,omitempty"`
}

// Retries configures retries of failed requests.
//
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:XValidation:rule="!has(self.attempts) || self.attempts > 0 || !(has(self.perTryTimeout) || has(self.retryOn))",fieldPath=".attempts",message="0 turns retries off: remove perTryTimeout and retryOn, or set attempts to 1 or more"
type Retries struct {
	// attempts is the maximum number of retries of a request, from 0 to 100. 0 turns retries off. Defaults to 2.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Attempts *int32 `json:"attempts,omitempty"`

	// perTryTimeout is the timeout of each try, such as 2s. Defaults to the timeout of the request.
	// +optional
	PerTryTimeout Duration `json:"perTryTimeout,omitempty"`

	// retryOn lists Envoy's retry conditions or status codes, separated by commas. Defaults to connect-failure,refused-stream, with which the destination
	// cannot have received the first try. Other conditions can repeat a POST.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^(5xx|gateway-error|reset|reset-before-request|connect-failure|retriable-4xx|refused-stream|retriable-status-codes|retriable-headers|envoy-ratelimited|http3-post-connect-failure|cancelled|deadline-exceeded|internal|resource-exhausted|unavailable|4(0[0-9]|1[0-8]|2[1-6]|2[89]|31|51)|50[0-8]|51[01])(,(5xx|gateway-error|reset|reset-before-request|connect-failure|retriable-4xx|refused-stream|retriable-status-codes|retriable-headers|envoy-ratelimited|http3-post-connect-failure|cancelled|deadline-exceeded|internal|resource-exhausted|unavailable|4(0[0-9]|1[0-8]|2[1-6]|2[89]|31|51)|50[0-8]|51[01]))*$')",message="must be retry conditions such as connect-failure, reset, 5xx, gateway-error or status codes such as 503, separated by commas without spaces"
	RetryOn string `json:"retryOn,omitempty"`
}

// Headers changes headers of requests and responses.
//
// +kubebuilder:validation:MinProperties=1
type Headers struct {
	// request changes headers of the request that the destination receives.
	// +optional
	Request *HeaderOperations `json:"request,omitempty"`

	// response changes headers of the response that the workload receives.
	// +optional
	Response *HeaderOperations `json:"response,omitempty"`
}

// HeaderOperations changes headers by name. Values are literal.
//
// +kubebuilder:validation:MinProperties=1
type HeaderOperations struct {
	// set replaces or adds these headers, at most 16.
	// +optional
	// +mapType=atomic
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() >= 1 && k.size() <= 256 && k.matches('^[-!#$%&*+.^_|~0-9A-Za-z]+$'))",message="each key must be a header name of at most 256 characters: letters, digits and -!#$%&*+.^_|~ (use rewrite.authority for :authority)"
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.lowerAscii() != 'host')",message="Host must not be a header here: use rewrite.authority"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !(k.lowerAscii() in ['content-length', 'transfer-encoding']))",message="Content-Length and Transfer-Encoding belong to the proxy, because they frame the message: remove them"
	Set map[string]HeaderValue `json:"set,omitempty"`

	// add appends these headers to those of the same name, at most 16.
	// +optional
	// +mapType=atomic
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() >= 1 && k.size() <= 256 && k.matches('^[-!#$%&*+.^_|~0-9A-Za-z]+$'))",message="each key must be a header name of at most 256 characters: letters, digits and -!#$%&*+.^_|~ (use rewrite.authority for :authority)"
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.lowerAscii() != 'host')",message="Host must not be a header here: use rewrite.authority"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !(k.lowerAscii() in ['content-length', 'transfer-encoding']))",message="Content-Length and Transfer-Encoding belong to the proxy, because they frame the message: remove them"
	Add map[string]HeaderValue `json:"add,omitempty"`

	// remove removes these headers, at most 16.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Remove []HeaderName `json:"remove,omitempty"`
}

// HeaderName is the name of a header.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=256
// +kubebuilder:validation:XValidation:rule="self.matches('^[-!#$%&*+.^_|~0-9A-Za-z]+$')",message="must be a header name: letters, digits and -!#$%&*+.^_|~"
// +kubebuilder:validation:XValidation:rule="self.lowerAscii() != 'host'",message="Host cannot be removed, because every request needs it"
type HeaderName string

// HeaderValue is the literal value of a header, at most 1024 characters.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=1024
// +kubebuilder:validation:XValidation:rule="self.matches('^[\\t -~]*$')",message="must be printable ASCII, without line breaks"
type HeaderValue string

// Fault injects failures and delays before requests reach a destination.
//
// +kubebuilder:validation:MinProperties=1
type Fault struct {
	// abort answers a share of the requests with a status code.
	// +optional
	Abort *FaultAbort `json:"abort,omitempty"`

	// delay delays a share of the requests.
	// +optional
	Delay *FaultDelay `json:"delay,omitempty"`
}

// FaultAbort answers a share of the requests with a status code.
type FaultAbort struct {
	// percentage is the share of requests, from 0 to 100.
	// +required
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Percentage *int32 `json:"percentage,omitempty"`

	// httpStatus is the status code, from 200 to 599.
	// +required
	// +kubebuilder:validation:Minimum=200
	// +kubebuilder:validation:Maximum=599
	HTTPStatus int32 `json:"httpStatus,omitempty"`
}

// FaultDelay delays a share of the requests.
type FaultDelay struct {
	// percentage is the share of requests, from 0 to 100.
	// +required
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Percentage *int32 `json:"percentage,omitempty"`

	// fixedDelay is the length of the delay, such as 2s.
	// +required
	FixedDelay Duration `json:"fixedDelay,omitempty"`
}

// DirectResponse answers requests without a destination.
// +kubebuilder:validation:XValidation:rule="!has(self.body) || !(self.status in [204, 304])",fieldPath=".body",message="excludes status 204 and 304: HTTP allows no body with them, and clients fail to read the response"
type DirectResponse struct {
	// status is the status code, from 200 to 599.
	// +required
	// +kubebuilder:validation:Minimum=200
	// +kubebuilder:validation:Maximum=599
	Status int32 `json:"status,omitempty"`

	// body is the body of the response, at most 4096 bytes of text. Defaults to an empty body.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	// +kubebuilder:validation:XValidation:rule="bytes(self).size() <= 4096",message="must be at most 4096 bytes long"
	// +kubebuilder:validation:XValidation:rule="!self.matches('[\\\\x00-\\\\x08\\\\x0b\\\\x0c\\\\x0e-\\\\x1f\\\\x7f]')",message="must be text: no control characters but tab and line breaks"
	Body string `json:"body,omitempty"`
}
