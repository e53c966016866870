package api_test

import (
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// What the API server says about policies, by their specs: nothing, or the field and why.
func TestPolicies(t *testing.T) {
	allow := func(entry string) string { return "{allow: [{" + entry + "}]}" }
	label := func(key string) string { return "{namespaceSelector: {matchLabels: {" + key + ": a}}}" }
	expression := func(text string) string { return "{namespaceSelector: {matchExpressions: [{" + text + "}]}}" }
	const (
		name   = "must be a lower-case DNS name of two labels or more"
		values = "In and NotIn need values"
	)
	for spec, says := range map[string]string{
		"{}":                                "",
		"{allow: []}":                       "",
		"{namespaceSelector: {}}":           "",
		allow(`hosts: [api.example.com]`):   "",
		allow(`hosts: ["*.example.com"]`):   "",
		allow(`hosts: ["*.com"]`):           "",
		allow(`hosts: [xn--bcher-kva.com]`): "",
		allow(`hosts: [a.example.com, "*.b.example.com"], ports: [80, 443], schemes: [http, https, tcp, tls, passthrough], endpoints: Any, exportTo: [".", shop], insecureSkipVerify: true`): "",
		"{egressGateway: {name: egress, namespace: gateways}}":                        "",
		"{egressGateway: {name: egress}}":                                             "spec.egressGateway.namespace: Required value",
		"{egressGateway: {name: Egress, namespace: gateways}}":                        "must be a DNS label",
		allow(`hosts: [a.example.com], clientCertificates: [client, client.example]`): "",
		allow(`hosts: [a.example.com], clientCertificates: []`):                       "spec.allow[0].clientCertificates: ",
		allow(`hosts: [a.example.com], clientCertificates: [a, a]`):                   "Duplicate value",
		allow(`hosts: [a.example.com], clientCertificates: [kubernetes://a]`):         "spec.allow[0].clientCertificates[0]: ",
		allow(`hosts: []`):                               "spec.allow[0].hosts: ",
		allow(`ports: [443]`):                            "spec.allow[0].hosts: Required value",
		allow(`hosts: [localhost]`):                      name,
		allow(`hosts: ["*"]`):                            name,
		allow(`hosts: ["*.*.com"]`):                      name,
		allow(`hosts: ["a*.example.com"]`):               name,
		allow(`hosts: [API.example.com]`):                name,
		allow(`hosts: [api.example.com.]`):               name,
		allow(`hosts: [10.0.0.1]`):                       name,
		allow(`hosts: ["https://api.example.com"]`):      name,
		allow(`hosts: ["api.example.com:443"]`):          name,
		allow(`hosts: [bücher.example.com]`):             name,
		allow(`hosts: [a.example.com, a.example.com]`):   "Duplicate value",
		allow(`hosts: [a.example.com], ports: [0]`):      "spec.allow[0].ports[0]: ",
		allow(`hosts: [a.example.com], ports: [65536]`):  "spec.allow[0].ports[0]: ",
		allow(`hosts: [a.example.com], ports: []`):       "spec.allow[0].ports: ",
		allow(`hosts: [a.example.com], schemes: [ftp]`):  "spec.allow[0].schemes[0]: Unsupported value",
		allow(`hosts: [a.example.com], endpoints: All`):  "spec.allow[0].endpoints: Unsupported value",
		allow(`hosts: [a.example.com], exportTo: ["~"]`): `must be ".", "*" or the name of a namespace`,
		label("team"):                                          "",
		label("example.com/team"):                              "",
		label("kubernetes.io/metadata.name"):                   "",
		label(`"-team"`):                                       "keys must be label keys",
		label(`"a/b/c"`):                                       "keys must be label keys",
		"{namespaceSelector: {matchLabels: {team: ''}}}":       "",
		"{namespaceSelector: {matchLabels: {team: '-a'}}}":     "must be a label value",
		expression("key: team, operator: In, values: [a, b]"):  "",
		expression("key: team, operator: NotIn, values: [a]"):  "",
		expression("key: team, operator: Exists"):              "",
		expression("key: team, operator: DoesNotExist"):        "",
		expression("key: team, operator: In"):                  values,
		expression("key: team, operator: NotIn, values: []"):   values,
		expression("key: team, operator: Exists, values: [a]"): values,
		expression("key: team, operator: Equals, values: [a]"): "Unsupported value",
		expression("key: 'a b', operator: Exists"):             "must be a label key",
		expression("key: team, operator: In, values: ['a b']"): "must be a label value",
	} {
		manifest := &unstructured.Unstructured{Object: map[string]any{}}
		if err := yaml.Unmarshal([]byte("spec: "+spec), &manifest.Object); err != nil {
			t.Fatalf("%s: %v", spec, err)
		}
		manifest.SetAPIVersion("networking.externalroute.io/v1alpha1")
		manifest.SetKind("ExternalRoutePolicy")
		manifest.SetName("policy")
		err := cluster.Create(t.Context(), manifest, client.DryRunAll)
		switch {
		case says == "" && err != nil:
			t.Errorf("%s is refused: %v", spec, err)
		case says != "" && err == nil:
			t.Errorf("%s is admitted, and should not be: %s", spec, says)
		case says != "" && (!apierrors.IsInvalid(err) || !strings.Contains(err.Error(), says)):
			t.Errorf("%s: want %q in %v", spec, says, err)
		}
	}
}
