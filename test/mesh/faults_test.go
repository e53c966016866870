package mesh

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// A check that finds nothing proves nothing unless it can find something: each fault is planted in the objects of golden folders and must be told.
func TestPlantedFaults(t *testing.T) {
	for sentence, c := range map[string]struct {
		folders             []string
		kind, pattern, with string
		found               string
	}{
		"a lost DestinationRule leaves no cluster": {
			[]string{"smallest"}, "DestinationRule", `(?s).*`, "", `there is no cluster`,
		},
		"a VirtualService that names another subset goes astray": {
			[]string{"smallest"}, "VirtualService", `subset: .*`, "subset: other", `(?m)^\+\W*"other"`,
		},
		"a VirtualService without the subset sends plaintext": {
			[]string{"smallest"}, "VirtualService", `\n\s*subset: .*`, "", `(?m)^-\W*"webserver-primary`,
		},
		"a destination without a port is the listener's": {
			[]string{"smallest"}, "VirtualService", `\n\s*port:\s*number: 443`, "", `(?m)^\+\W*"80"`,
		},
		"sni without names accepts any certificate": {
			[]string{"smallest"}, "DestinationRule", `\n\s*subjectAltNames:\n.*`, "", `(?m)^[-+]\W*SubjectAltNames`,
		},
		"another sni": {
			[]string{"smallest"}, "DestinationRule", `sni: .*`, "sni: example.org", `(?m)^[-+]\W*SNI`,
		},
		"another authority to verify with": {
			[]string{"ca-certificate-refs"}, "DestinationRule", `credentialName: .*`, "", `(?m)^[-+]\W*CA:`,
		},
		"host-wide TLS in scope Route is TLS in TLS for direct calls": {
			[]string{"smallest"}, "DestinationRule", `(?m)^spec:`, "spec:\n  trafficPolicy: {tls: {mode: SIMPLE}}", "a direct call of https",
		},
		"MUTUAL without workloadSelector is plaintext": {
			[]string{"client-certificate-ref"}, "DestinationRule", `(?s)\n\s*workloadSelector:.*$`, "\n", `(?m)^[-+]\W*TLS:`,
		},
		"a lost authority is the alias": {
			[]string{"smallest"}, "VirtualService", `\n\s*authority: .*`, "", `(?m)^[-+]\W*Authority`,
		},
		"a lost authority of one of several": {
			[]string{"weights"}, "VirtualService", `:authority: green.*`, ":authority: blue.example.com", `(?m)^[-+]\W*Authority`,
		},
		"other weights": {
			[]string{"weights"}, "VirtualService", `weight: 90`, "weight: 9", `(?m)^[-+]\W*Weight`,
		},
		"a slash too many": {
			[]string{"smallest"}, "VirtualService", `uri: /mcasperson.*txt\n`, "uri: /mcasperson/NodejsProxy/master/externalservice1.txt/\n", `(?m)Path(.*\n)+^\+\W*"/"`,
		},
		"a slash too few": {
			[]string{"port-and-base-path"}, "VirtualService", `uri: /v1/\n`, "uri: /v1\n", `(?m)^\+.*/v1x`,
		},
		"rules in another order": {
			[]string{"base-path-with-rules"}, "VirtualService", `exact: /health`, "prefix: /", `(?m)^[-+]\W*Path`,
		},
		"retries of the mesh": {
			[]string{"smallest"}, "VirtualService", `\n\s*retries:\n.*\n.*`, "", `(?m)^\+\W*,retriable-status-codes,unavailable`,
		},
		"a lost timeout": {
			[]string{"timeouts-and-retries"}, "VirtualService", `\n\s*timeout: .*`, "", `(?m)^[-+]\W*Timeout`,
		},
		"a header of the mesh leaves": {
			[]string{"smallest"}, "VirtualService", `\n\s*- x-forwarded-client-cert`, "", `(?m)^-\W*"remove x-forwarded-client-cert`,
		},
		"a header value that Envoy takes for a command": {
			[]string{"headers"}, "VirtualService", `%%START_TIME%%`, `%START_TIME%`, "is a command to Envoy",
		},
		"lost endpoints": {
			[]string{"dns-endpoints"}, "ServiceEntry", `(?s)  endpoints:.*  exportTo`, "  exportTo", `(?m)^[-+]\W*"?Endpoints|(?m)^-\W*"edge-1`,
		},
		"lost priorities": {
			[]string{"endpoint-priorities"}, "DestinationRule", `before-priority-1=true`, "before-priority-1", `(?m)^-.*with priority 1`,
		},
		"another discovery": {
			[]string{"dns-round-robin"}, "ServiceEntry", `DNS_ROUND_ROBIN`, "DNS", `(?m)^\+\W*Discovery:\W*"STRICT_DNS"`,
		},
		"lost limits": {
			[]string{"connection-pool"}, "DestinationRule", `maxConnections: .*`, "maxConnections: 7", `(?ms)Limits.*^\+\W*"?7`,
		},
		"a Service that all namespaces see": {
			[]string{"smallest"}, "Service", `networking.istio.io/exportTo: .*`, "a: b", "a namespace that the route is not exported to",
		},
		"a ServiceEntry that all namespaces see": {
			[]string{"smallest"}, "ServiceEntry", `- \.`, `- "*"`, "a namespace that the route is not exported to",
		},
		"a VirtualService that the importing namespace does not see": {
			[]string{"exported-to-namespaces"}, "VirtualService", `\n\s*- shop`, "", "web.demo",
		},
		"pods that the route does not select": {
			[]string{"workload-selector"}, "VirtualService", `\n\s*(- )?sourceLabels:\n.*`, "", "a pod without the labels",
		},
		"other ports of the Service are taken too": {
			[]string{"existing-service-with-more-ports"}, "VirtualService", `port: 80\n`, "name: x\n", "is no longer as without the route",
		},
		"in place, the http port is forgotten": {
			[]string{"in-place"}, "ServiceEntry", `\n.*name: http\n.*80\n.*HTTP\n.*targetPort: 1`, "", "http://api.example.com",
		},
		"in place, the plain port leads outside": {
			[]string{"in-place"}, "ServiceEntry", `\n\s*targetPort: 1`, "", "without VirtualService: .* plaintext to api.example.com:80",
		},
		"in place, another route opens the plain port": {
			[]string{"plain-http", "in-place"},
			"ServiceEntry", `(?s)hosts:.*resolution`,
			"hosts: [api.example.com]\n  ports: [{name: http, number: 80, protocol: HTTP}]\n  resolution",
			"without VirtualService: .* plaintext to api.example.com:80",
		},
		"subsets of one host with other exports": {
			[]string{"in-place", "ca-certificate-refs"}, "DestinationRule", `- \.`, `- "*"`, `there is no cluster`,
		},
		"ports of one host with other labels": {
			[]string{"in-place", "port-and-base-path"}, "ServiceEntry", `managed-by: externalroute`, "managed-by: other", `there is no cluster`,
		},
		"a TCP upstream without an address takes every connection on its port": {
			[]string{"tcp"}, "ServiceEntry", `\n\s*addresses:\n.*`, "", `has another listener 0\.0\.0\.0_5432`,
		},
		"a TCP upstream on another server's address": {
			[]string{"tcp"}, "ServiceEntry", `- 239\..*`, "- 192.0.2.1", `has another listener 192\.0\.2\.1_5432`,
		},
		"a TCP alias without a declared protocol makes connections wait": {
			[]string{"tcp-tls"}, "Service", `appProtocol: tcp\n\s*name: tcp`, "name: any", `connections to cache: got .*http_inspector`,
		},
		"a tcp route that names another subset goes astray": {
			[]string{"tcp-tls"}, "VirtualService", `subset: .*`, "subset: other", `connections to cache: got .*\|other\|`,
		},
		"a TCP destination without its TLS": {
			[]string{"tcp-tls"}, "DestinationRule", `mode: SIMPLE`, "mode: DISABLE", `(?m)^-\W*TLS:`,
		},
		"other weights of connections": {
			[]string{"tcp-weights"}, "VirtualService", `weight: 90`, "weight: 9", `connections to cache: got .* at 9, .*want .* at 90`,
		},
		"a tcp route for another port of the Service": {
			[]string{"tcp-existing-service"}, "VirtualService", `port: 5432\n`, "port: 5433\n", `connections to orders: got`,
		},
		"a lost idle timeout": {
			[]string{"tcp-settings"}, "DestinationRule", `idleTimeout: .*`, "idleTimeout: 60s", `idle connections to cache are closed after 1m`,
		},
		"pods that the TCP route does not select": {
			[]string{"tcp-workload-selector"}, "VirtualService", `\n\s*(- )?sourceLabels:\n.*`, "", "a pod without the labels connects",
		},
		"behind a gateway, a sidecar knows the upstream": {
			[]string{"gateway"}, "ServiceEntry", `- istio-egress`, "- .\n  - istio-egress", "sidecars know .* which is the gateway's alone",
		},
		"behind a gateway, a header of the mesh leaves": {
			[]string{"gateway"}, "VirtualService", `\n\s*- x-forwarded-for`, "", `(?m)^-\W*"remove x-forwarded-for`,
		},
		"to a gateway, without the authority by which it knows the route": {
			[]string{"gateway"}, "VirtualService", `authority: [0-9a-f]{10}\..*`, "authority: webserver", "http://webserver/: no filter chains matched",
		},
		"to a gateway, without the mesh's TLS": {
			[]string{"gateway"}, "DestinationRule", `mode: ISTIO_MUTUAL\n.*`, "mode: DISABLE", `the first leg(.*\n)+-\W*TLS`,
		},
		"a Gateway that looks for its host in another namespace": {
			[]string{"gateway"}, "Gateway", `- demo/`, "- other/", `(?m)^\+\W*Status:\W*404|no virtual host`,
		},
		"a Gateway of other pods": {
			[]string{"gateway"}, "Gateway", `istio: .*`, "istio: other", "Referenced selector not found",
		},
		"passed through a gateway, and straight out": {
			[]string{"pass-through-gateway"}, "ServiceEntry", `(?s)endpoints:\n  - address: istio.*  exportTo`, "exportTo", `(?m)^\+.*"www.example.com:443"`,
		},
		"passed by a gateway to another host": {
			[]string{"pass-through-gateway"}, "ServiceEntry", `address: api.example.com`, "address: other.example.com", "the gateway, for api.example.com",
		},
		"a field that Istio does not know": {
			[]string{"smallest"}, "VirtualService", `rewrite:`, "rewritten: true\n    rewrite:", "unknown field",
		},
		"what the validators refuse": {
			[]string{"smallest"}, "ServiceEntry", `number: 443`, "number: 443000", "443000",
		},
		"what the analyzers refuse": {
			[]string{"smallest"}, "VirtualService", `number: 443`, "number: 444", "IST0101",
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			var folders []*folder
			for _, name := range c.folders {
				folders = append(folders, find(t, name))
			}
			plant(t, folders[0], c.kind, regexp.MustCompile(c.pattern), c.with)
			told, _ := complaints(t, folders...)
			found := regexp.MustCompile(c.found)
			if !slices.ContainsFunc(told, found.MatchString) {
				told = append(told, inspect(t, folders...)...)
			}
			if !slices.ContainsFunc(told, found.MatchString) {
				t.Errorf("%q is not told; told is:\n%s", c.found, strings.Join(told, "\n"))
			}
		})
	}
}

// plant replaces a pattern in every generated object of a kind, and takes an object away of which nothing is left.
func plant(t *testing.T, f *folder, kind string, pattern *regexp.Regexp, with string) {
	t.Helper()
	planted := false
	var objects []*unstructured.Unstructured
	for _, object := range f.generated {
		if object.GetKind() == kind {
			text, err := yaml.Marshal(object.Object)
			if err != nil {
				t.Fatal(err)
			}
			faulty := pattern.ReplaceAllString(string(text), with)
			planted = planted || faulty != string(text)
			object = &unstructured.Unstructured{}
			readYAML(t, []byte(faulty), &object.Object)
		}
		if object.Object != nil {
			objects = append(objects, object)
		}
	}
	if !planted {
		t.Fatalf("%s of %s has no %s", kind, f.name, pattern)
	}
	f.generated = objects
}
