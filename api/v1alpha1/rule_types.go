package v1alpha1

// Rule says what happens to the requests that it matches. Its words and their semantics are those of the http routes of an Istio VirtualService. An
// empty rule matches every request and sends it to all destinations of the route. Rules that follow a rule without match never match.
//
// +kubebuilder:validation:XValidation:rule="!has(self.directResponse) || !(has(self.rewrite) || has(self.destinations) || has(self.retries) || has(self.timeout) || has(self.fault))",fieldPath=".directResponse",message="answers by itself: rewrite, destinations, retries, timeout and fault must not stand beside it"
type Rule struct {
	// match are the conditions, of which one must hold. If left out, every request matches.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Match []Match `json:"match,omitempty"`

	// rewrite changes path and authority of a request. If left out, the destination's base path is put before the path, and the authority is the
	// destination's host.
	// +optional
	Rewrite *Rewrite `json:"rewrite,omitempty"`

	// destinations are where the requests go, by weight. If left out, all destinations of the route by their own weights.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Destinations []RuleDestination `json:"destinations,omitempty"`

	// timeout is how long a request may take, retries included. If left out, for ever.
	// +optional
	Timeout Duration `json:"timeout,omitempty"`

	// retries say when a request is tried again. If left out, twice, and only where the destination cannot have seen the first try.
	// +optional
	Retries *Retries `json:"retries,omitempty"`

	// headers changes headers of requests and responses.
	// +optional
	Headers *Headers `json:"headers,omitempty"`

	// fault makes requests fail or wait on purpose. If left out, none does.
	// +optional
	Fault *Fault `json:"fault,omitempty"`

	// directResponse answers in place of a destination.
	// +optional
	DirectResponse *DirectResponse `json:"directResponse,omitempty"`
}

// Match is a set of conditions, all of which must hold.
//
// +kubebuilder:validation:MinProperties=1
type Match struct {
	// uri is the path of the request, without the query.
	// +optional
	// +kubebuilder:validation:XValidation:rule="has(self.regex) || (has(self.exact) ? self.exact : has(self.prefix) ? self.prefix : '/').matches('^/[-A-Za-z0-9._~!$&()*+,;=:@/%\\']*$')",message="must begin with / and hold only characters that RFC 3986 allows in a path (no query): percent-encode the others"
	URI *StringMatch `json:"uri,omitempty"`

	// method is the method of the request, such as GET.
	// +optional
	Method *StringMatch `json:"method,omitempty"`

	// headers are headers of the request by name.
	// +optional
	// +mapType=atomic
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=12
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() >= 1 && k.size() <= 1024 && k.matches('^[-!#$%&*+.^_|~0-9A-Za-z]+$'))",message="each key must be a header name of at most 1024 characters: letters, digits and -!#$%&*+.^_|~"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !(k.lowerAscii() in ['uri', 'scheme', 'method', 'authority']))",message="Istio ignores conditions on headers named uri, scheme, method or authority: use uri and method"
	Headers map[string]StringMatch `json:"headers,omitempty"`

	// queryParams are parameters of the query by name.
	// +optional
	// +mapType=atomic
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=12
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() >= 1 && k.size() <= 1024 && k.matches('^[-A-Za-z0-9._~!$()*+,;:@/?%\\\\[\\\\]\\']+$'))",message="each key must be a parameter's name as it goes over the wire, of at most 1024 characters: percent-encode what RFC 3986 does not allow in a query"
	QueryParams map[string]StringMatch `json:"queryParams,omitempty"`
}

// StringMatch is a condition on a string: exactly one of exact, prefix and regex.
//
// +kubebuilder:validation:ExactlyOneOf=exact;prefix;regex
type StringMatch struct {
	// exact is the whole string.
	// +optional
	Exact MatchText `json:"exact,omitempty"`

	// prefix is how the string begins.
	// +optional
	Prefix MatchText `json:"prefix,omitempty"`

	// regex is a regular expression (RE2) that matches the whole string.
	// +optional
	Regex Regex `json:"regex,omitempty"`
}

// MatchText is a text to compare with.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=1024
// +kubebuilder:validation:XValidation:rule="self.matches('^[ -~]*$')",message="must be printable ASCII: percent-encode other characters as clients do"
type MatchText string

// Regex is a regular expression of RE2's grammar.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=1024
// +kubebuilder:validation:XValidation:rule="self.matches('^[ -~]*$')",message="must be printable ASCII: write other characters as escapes"
// +kubebuilder:validation:XValidation:rule="'a'.matches(self) ? true : true",message="must be a regular expression of RE2's grammar"
// +kubebuilder:validation:XValidation:rule="!self.contains('(?P<') && !self.contains('(?<')",message="groups must not have names: Envoy refuses a name that stands twice"
// +kubebuilder:validation:XValidation:rule="!self.contains(r'\\p{') && !self.contains(r'\\P{')",message="must not hold a class such as \\p{Greek}, for Envoy does not know all of them: use \\pL, \\pN or list the characters"
type Regex string

// Rewrite changes path and authority of a request.
//
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:XValidation:rule="!(has(self.uri) && has(self.uriRegexRewrite))",fieldPath=".uriRegexRewrite",message="must not stand beside uri"
type Rewrite struct {
	// uri replaces what the match names: the prefix for a prefix match, the whole path for an exact or regex one, the leading / where there is no uri
	// match. The destination's base path is not put before it.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="self.matches('^/([-A-Za-z0-9._~!$&()*+,;=:@/\\']|%[0-9A-Fa-f]{2})*$')",message="must be a path: begin with / and hold only characters that RFC 3986 allows in a path (no query)"
	// +kubebuilder:validation:XValidation:rule="!self.matches('(/|%2[fF]|%5[cC])([.]|%2[eE]){1,2}(/|;|%2[fF]|%5[cC]|$)')",message="must not hold dot segments (/./ or /../), not even encoded ones"
	// +kubebuilder:validation:XValidation:rule="!self.matches('%([01][0-9A-Fa-f]|7[fF])')",message="must not hold encoded control characters"
	URI string `json:"uri,omitempty"`

	// uriRegexRewrite replaces the parts of the path that match an expression. The destination's base path is not put before it.
	// +optional
	URIRegexRewrite *RegexRewrite `json:"uriRegexRewrite,omitempty"`

	// authority is the Host header that the destination gets. If left out, the destination's host, with its port where it is not the scheme's own.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?$')",message="must be a host name, with or without a port"
	Authority string `json:"authority,omitempty"`
}

// RegexRewrite replaces parts of a path.
type RegexRewrite struct {
	// match is a regular expression (RE2); every part of the path that it matches is replaced.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^[ -~]*$')",message="must be printable ASCII: write other characters as escapes"
	// +kubebuilder:validation:XValidation:rule="'a'.matches(self) ? true : true",message="must be a regular expression of RE2's grammar"
	// +kubebuilder:validation:XValidation:rule="!self.contains('(?P<') && !self.contains('(?<')",message="groups must not have names: Envoy refuses a name that stands twice"
	// +kubebuilder:validation:XValidation:rule="!self.contains(r'\\p{') && !self.contains(r'\\P{')",message="must not hold a class such as \\p{Greek}, for Envoy does not know all of them: use \\pL, \\pN or list the characters"
	Match string `json:"match,omitempty"`

	// rewrite is what is put in place, with \1 to \9 for groups and \0 for the whole part.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^[!-~]*$') && !self.matches('[?#]')",message="must be printable ASCII without spaces, query or fragment"
	// +kubebuilder:validation:XValidation:rule="self.matches(r'^([^\\\\]|\\\\[0-9\\\\])*$')",message="a backslash must be followed by a digit (a group of match) or by another backslash"
	Rewrite string `json:"rewrite,omitempty"`
}

// RuleDestination is a destination's share of a rule's requests.
type RuleDestination struct {
	// name is the name of one of the route's destinations.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`

	// weight is its share, in relation to the other weights. If left out, 1; 0 sends it nothing.
	// +optional
	// +default=1
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	Weight *int32 `json:"weight,omitempty"`
}

// Retries say when a request is tried again.
//
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:XValidation:rule="!has(self.attempts) || self.attempts > 0 || !(has(self.perTryTimeout) || has(self.retryOn))",fieldPath=".attempts",message="0 turns retries off: perTryTimeout and retryOn must not stand beside it"
type Retries struct {
	// attempts is how often a request is tried again; 0 is never. If left out, 2.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Attempts *int32 `json:"attempts,omitempty"`

	// perTryTimeout is how long one try may take. If left out, the rule's timeout.
	// +optional
	PerTryTimeout Duration `json:"perTryTimeout,omitempty"`

	// retryOn are Envoy's words for what is tried again, or status codes, separated by commas. If left out, connect-failure,refused-stream: the
	// destination cannot have seen the first try, so that no request is repeated. Others may repeat a POST.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^(5xx|gateway-error|reset|reset-before-request|connect-failure|retriable-4xx|refused-stream|retriable-status-codes|retriable-headers|envoy-ratelimited|http3-post-connect-failure|cancelled|deadline-exceeded|internal|resource-exhausted|unavailable|4(0[0-9]|1[0-8]|2[1-6]|2[89]|31|51)|50[0-8]|51[01])(,(5xx|gateway-error|reset|reset-before-request|connect-failure|retriable-4xx|refused-stream|retriable-status-codes|retriable-headers|envoy-ratelimited|http3-post-connect-failure|cancelled|deadline-exceeded|internal|resource-exhausted|unavailable|4(0[0-9]|1[0-8]|2[1-6]|2[89]|31|51)|50[0-8]|51[01]))*$')",message="must be words such as connect-failure, reset, 5xx, gateway-error or status codes such as 503, separated by commas without spaces"
	RetryOn string `json:"retryOn,omitempty"`
}

// Headers changes headers of requests and responses.
//
// +kubebuilder:validation:MinProperties=1
type Headers struct {
	// request changes what the destination gets.
	// +optional
	Request *HeaderOperations `json:"request,omitempty"`

	// response changes what the workload gets.
	// +optional
	Response *HeaderOperations `json:"response,omitempty"`
}

// HeaderOperations changes headers by name. Values are literal.
//
// +kubebuilder:validation:MinProperties=1
type HeaderOperations struct {
	// set puts these headers in place of those of the same name.
	// +optional
	// +mapType=atomic
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() >= 1 && k.size() <= 256 && k.matches('^[-!#$%&*+.^_|~0-9A-Za-z]+$'))",message="each key must be a header name of at most 256 characters: letters, digits and -!#$%&*+.^_|~ (use rewrite.authority for :authority)"
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.lowerAscii() != 'host')",message="Host is set by rewrite.authority alone"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !(k.lowerAscii() in ['content-length', 'transfer-encoding']))",message="Content-Length and Transfer-Encoding say where a message ends: they must be left to the proxy"
	Set map[string]HeaderValue `json:"set,omitempty"`

	// add puts these headers beside those of the same name.
	// +optional
	// +mapType=atomic
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() >= 1 && k.size() <= 256 && k.matches('^[-!#$%&*+.^_|~0-9A-Za-z]+$'))",message="each key must be a header name of at most 256 characters: letters, digits and -!#$%&*+.^_|~ (use rewrite.authority for :authority)"
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.lowerAscii() != 'host')",message="Host is set by rewrite.authority alone"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !(k.lowerAscii() in ['content-length', 'transfer-encoding']))",message="Content-Length and Transfer-Encoding say where a message ends: they must be left to the proxy"
	Add map[string]HeaderValue `json:"add,omitempty"`

	// remove takes headers of these names away.
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
// +kubebuilder:validation:XValidation:rule="self.lowerAscii() != 'host'",message="Host cannot be removed: a request needs it"
type HeaderName string

// HeaderValue is the value of a header, taken literally.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=1024
// +kubebuilder:validation:XValidation:rule="self.matches('^[\\t -~]*$')",message="must be printable ASCII, without line breaks"
type HeaderValue string

// Fault makes requests fail or wait on purpose, before they reach a destination.
//
// +kubebuilder:validation:MinProperties=1
type Fault struct {
	// abort answers a share of the requests with a status code.
	// +optional
	Abort *FaultAbort `json:"abort,omitempty"`

	// delay holds a share of the requests back.
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

	// httpStatus is the status code.
	// +required
	// +kubebuilder:validation:Minimum=200
	// +kubebuilder:validation:Maximum=599
	HTTPStatus int32 `json:"httpStatus,omitempty"`
}

// FaultDelay holds a share of the requests back.
type FaultDelay struct {
	// percentage is the share of requests, from 0 to 100.
	// +required
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Percentage *int32 `json:"percentage,omitempty"`

	// fixedDelay is how long they wait.
	// +required
	FixedDelay Duration `json:"fixedDelay,omitempty"`
}

// DirectResponse answers in place of a destination.
type DirectResponse struct {
	// status is the status code.
	// +required
	// +kubebuilder:validation:Minimum=200
	// +kubebuilder:validation:Maximum=599
	Status int32 `json:"status,omitempty"`

	// body is the text of the answer. If left out, it is empty.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	// +kubebuilder:validation:XValidation:rule="bytes(self).size() <= 4096",message="must be at most 4096 bytes long"
	// +kubebuilder:validation:XValidation:rule="!self.matches('[\\\\x00-\\\\x08\\\\x0b\\\\x0c\\\\x0e-\\\\x1f\\\\x7f]')",message="must be text: no control characters but tab and line breaks"
	Body string `json:"body,omitempty"`
}
