package translate

import (
	"slices"
	"strings"

	istio "istio.io/api/networking/v1alpha3"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// meshHeaders are what sidecars add to a request and a third party should not see. x-forwarded-proto is among them because its "http" makes servers
// answer with redirect loops; x-request-id is not, because applications set it themselves.
var meshHeaders = []string{
	"x-envoy-attempt-count",
	"x-envoy-decorator-operation",
	"x-envoy-expected-rq-timeout-ms",
	"x-envoy-external-address",
	"x-envoy-internal",
	"x-envoy-peer-metadata",
	"x-envoy-peer-metadata-id",
	"x-forwarded-client-cert",
	"x-forwarded-proto",
}

// gatewayHeaders are what an egress gateway adds beside them: its clients' addresses.
var gatewayHeaders = []string{"x-forwarded-for"}

// headers are the rule's own, and the removal of the mesh's where a request leaves.
func (t *ruleTranslation) headers(rule *v1alpha1.Rule) *istio.Headers {
	var own v1alpha1.Headers
	if rule.Headers != nil {
		own = *rule.Headers
	}
	request := operations(own.Request)
	if t.route.Spec.MeshHeaders != v1alpha1.MeshHeadersKeep && rule.DirectResponse == nil {
		if request == nil {
			request = &istio.Headers_HeaderOperations{}
		}
		names := meshHeaders
		if t.route.Spec.EgressGateway != nil {
			names = slices.Concat(meshHeaders, gatewayHeaders)
		}
		for _, name := range names {
			if !setsHeader(request.Set, name) && !slices.ContainsFunc(request.Remove, func(r string) bool { return strings.EqualFold(r, name) }) {
				request.Remove = append(request.Remove, name)
			}
		}
	}
	response := operations(own.Response)
	if request == nil && response == nil {
		return nil
	}
	return &istio.Headers{Request: request, Response: response}
}

func setsHeader(set map[string]string, name string) bool {
	for key := range set {
		if strings.EqualFold(key, name) {
			return true
		}
	}
	return false
}

func operations(o *v1alpha1.HeaderOperations) *istio.Headers_HeaderOperations {
	if o == nil {
		return nil
	}
	operations := &istio.Headers_HeaderOperations{Set: literal(o.Set), Add: literal(o.Add)}
	for _, name := range o.Remove {
		operations.Remove = append(operations.Remove, string(name))
	}
	return operations
}

// literal escapes what Envoy would take for a command: one that it does not know makes it refuse the whole route table.
func literal(values map[string]v1alpha1.HeaderValue) map[string]string {
	if len(values) == 0 {
		return nil
	}
	escaped := make(map[string]string, len(values))
	for name, value := range values {
		escaped[name] = strings.ReplaceAll(string(value), "%", "%%")
	}
	return escaped
}

// MeshHeaders are the names of the headers that a route removes unless it keeps them.
func MeshHeaders() []string { return slices.Clone(meshHeaders) }
