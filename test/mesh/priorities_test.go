package mesh

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The API refuses priorities of DNS names, since Istio sorts their endpoints in the host-wide cluster only. When the subset gets priorities too, Istio has
// closed the gap (docs/design/0013-endpoint-priorities.md).
func TestSubsetsOfDNSNamesHaveNoPriorities(t *testing.T) {
	file := filepath.Join(t.TempDir(), "objects.yaml")
	if err := os.WriteFile(file, []byte(sortedNames), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newMesh(t, readObjects(t, file)).sidecar(namespace, nil)
	for cluster, want := range map[string]string{
		"outbound|443||names.example.com":      "a.example.com:443, b.example.com:443 with priority 1",
		"outbound|443|names|names.example.com": "a.example.com:443, b.example.com:443",
	} {
		got, err := s.upstream(cluster)
		if err != nil {
			t.Fatal(err)
		}
		if endpoints := strings.Join(got.Endpoints, ", "); endpoints != want {
			t.Errorf("%s: got %s, want %s", cluster, endpoints, want)
		}
	}
}

const sortedNames = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: names}
spec:
  hosts: [names.example.com]
  location: MESH_EXTERNAL
  resolution: DNS
  ports: [{name: https, number: 443, protocol: TLS}]
  endpoints:
  - {address: a.example.com, labels: {first: "true"}}
  - {address: b.example.com}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: names}
spec:
  host: names.example.com
  trafficPolicy: &policy
    outlierDetection: {consecutive5xxErrors: 3}
    loadBalancer: {localityLbSetting: {failoverPriority: [first=true]}}
  subsets:
  - {name: names, trafficPolicy: *policy}
`
