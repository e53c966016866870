package mesh

import (
	"path/filepath"
	"regexp"
	"testing"
)

// What mesh-wide settings do to the objects of routes: for each folder, a pattern of every promise that is broken (docs/troubleshooting.md, "Mesh settings").
// Most settings break none, since the objects are explicit.
func TestMeshSettings(t *testing.T) {
	for sentence, c := range map[string]struct {
		settings string
		broken   map[string][]string
	}{
		"defaultServiceExportTo and its siblings do not matter: exportTo is always written": {
			`{defaultServiceExportTo: ["~"], defaultVirtualServiceExportTo: ["~"], defaultDestinationRuleExportTo: ["~"]}`,
			map[string][]string{"smallest": nil, "in-place": nil, "pass-through": nil, "exported-to-all": nil},
		},
		"serviceEntryVisibility does not concern sidecars unless it says so": {
			`{serviceEntryVisibility: {defaultVisibility: NONE}}`,
			map[string][]string{"smallest": nil, "in-place": nil, "pass-through": nil, "exported-to-all": nil},
		},
		"serviceEntryVisibility NAMESPACE takes exported destinations from other namespaces": {
			`{serviceEntryVisibility: {defaultVisibility: NAMESPACE, applyToSidecars: true}}`,
			map[string][]string{
				"smallest": nil, "in-place": nil, "pass-through": nil,
				"exported-to-all":       {`there is no cluster outbound\|443\|web-primary`},
				"pass-through-exported": {`a call of https://\S+ lands on PassthroughCluster`},
			},
		},
		"serviceEntryVisibility NONE leaves aliases at home alone, and hides hosts in place and pass-through routes": {
			`{serviceEntryVisibility: {defaultVisibility: NONE, applyToSidecars: true}}`,
			map[string][]string{
				"smallest":     {`a direct call of https://raw.githubusercontent.com:443 lands on PassthroughCluster`},
				"in-place":     {`(?s)GET http://api.example.com/.*PassthroughCluster`, `a direct call of https://api.example.com:443 lands on PassthroughCluster`},
				"pass-through": {`https://www.google.com lands on PassthroughCluster`, `https://accounts.google.com lands on PassthroughCluster`},
			},
		},
		"outboundTrafficPolicy ALLOW_ANY_DYNAMIC_DNS is for hosts that no object declares": {
			`{outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}}`,
			map[string][]string{"smallest": nil, "plain-http": nil, "in-place": nil, "pass-through": nil, "pass-through-wildcard": nil},
		},
		"outboundTrafficPolicy REGISTRY_ONLY knows all hosts of routes": {
			`{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}`,
			map[string][]string{"smallest": nil, "plain-http": nil, "in-place": nil, "pass-through": nil, "pass-through-wildcard": nil},
		},
		"h2UpgradePolicy upgrades no destination": {
			`{h2UpgradePolicy: UPGRADE}`,
			map[string][]string{"smallest": nil, "plain-http": nil, "in-place": nil, "in-place-plain-http": nil, "connection-pool": nil, "pass-through": nil},
		},
		"defaultTrafficPolicy gives its pool to destinations without one, with its HTTP/2 even over TLS": {
			`{defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: 7}, http: {h2UpgradePolicy: UPGRADE}}}}`,
			map[string][]string{"smallest": {`(?s)destination primary.*\+\W*ALPN:\W*"h2"`}, "connection-pool": nil, "plain-http": nil},
		},
		"defaultTrafficPolicy gives its outlier detection to destinations without one": {
			`{defaultTrafficPolicy: {outlierDetection: {consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: 2s}}}`,
			map[string][]string{"smallest": {`(?s)destination primary.*\+\W*Outlier:\W*"after 3 errors in 1s for 2s`}, "endpoint-priorities": nil},
		},
		"defaultHttpRetryPolicy does not matter: retries are always written": {
			`{defaultHttpRetryPolicy: {attempts: 9, retryOn: gateway-error}}`,
			map[string][]string{"smallest": nil, "in-place": nil, "timeouts-and-retries": nil, "retries-off-but-for-a-rule": nil},
		},
		"localityLbSetting that distributes to named localities drops destinations, which have no locality": {
			`{localityLbSetting: {distribute: [{from: "*", to: {"region/*": 100}}]}}`,
			map[string][]string{"smallest": {`(?s)destination primary.*\+\W*Endpoints:\W*nil`}, "endpoint-priorities": nil},
		},
		"localityLbSetting without distribute does not matter": {
			`{localityLbSetting: {failover: [{from: region, to: other}]}}`,
			map[string][]string{"smallest": nil, "static-endpoints": nil, "endpoint-priorities": nil},
		},
		"connectTimeout is the default of destinations without one": {
			`{connectTimeout: 1s}`,
			map[string][]string{"smallest": {`(?s)destination primary.*Limits`}, "plain-http": {`(?s)destination primary.*Limits`}},
		},
		"tcpKeepalive breaks nothing": {
			`{tcpKeepalive: {time: 5s, probes: 2}}`,
			map[string][]string{"smallest": nil, "static-endpoints": nil, "pass-through": nil},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			for name, patterns := range c.broken {
				findings := inspectWith(t, c.settings, readFolder(t, filepath.Join(goldenFolders, name)))
				if len(findings) != len(patterns) {
					t.Errorf("%s: got %d broken promises, want %d: %q", name, len(findings), len(patterns), findings)
					continue
				}
				for i, pattern := range patterns {
					if !regexp.MustCompile(pattern).MatchString(findings[i]) {
						t.Errorf("%s: want %s, got %s", name, pattern, findings[i])
					}
				}
			}
		})
	}
}
