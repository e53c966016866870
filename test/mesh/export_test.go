package mesh

import (
	"strings"
	"testing"
)

// What a ServiceEntry that is exported does to the workloads of another namespace that never call its host. This is why a route may be exported only if a policy
// allows it (docs/security.md). When a line fails, Istio has changed: decide anew.
func TestExportsChangeOtherNamespaces(t *testing.T) {
	const (
		neighbour = "victim"
		listens   = "0.0.0.0_3306, "
		blocked   = "virtualOutbound -> BlackHoleCluster"
	)
	for sentence, c := range map[string]struct {
		entry   string
		connect string // what serves a connection of the neighbour to an unknown address on port 3306
		others  bool   // whether anything else of the neighbour changes
	}{
		"one that is not exported": {
			entry: `hosts: [h.demo.externalroute.internal], exportTo: ["."], ports: [{name: https-3306, number: 3306, protocol: TLS}]`, connect: blocked,
		},
		"a private name makes each connection on its port wait for the client's first bytes": {
			entry:   `hosts: [h.demo.externalroute.internal], exportTo: ["*"], ports: [{name: https-3306, number: 3306, protocol: TLS}]`,
			connect: listens + "tls_inspector -> BlackHoleCluster", others: true,
		},
		"... also if it is exported to the namespace of a gateway": {
			entry:   `hosts: [h.demo.externalroute.internal], exportTo: [".", victim], ports: [{name: https-3306, number: 3306, protocol: TLS}]`,
			connect: listens + "tls_inspector -> BlackHoleCluster", others: true,
		},
		"a host that passes through opens a mesh of registered hosts": {
			entry:   `hosts: ["*.example.org"], resolution: NONE, exportTo: ["*"], ports: [{name: https, number: 443, protocol: TLS}]`,
			connect: blocked, others: true,
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			entry := c.entry
			if !strings.Contains(entry, "resolution") {
				entry += ", resolution: DNS, endpoints: [{address: evil.example}]"
			}
			foreign := "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: evil, namespace: " + namespace + "}, spec: {location: MESH_EXTERNAL, " + entry + "}}"
			const strict = "outboundTrafficPolicy: {mode: REGISTRY_ONLY}"
			before := newMeshWith(t, strict, nil).sidecar(neighbour, nil)
			after := newMeshWith(t, strict, objectsIn(t, foreign)).sidecar(neighbour, nil)
			if was := before.connect(elsewhere, 3306); was != blocked {
				t.Errorf("without it: got %q, want %q", was, blocked)
			}
			if got := after.connect(elsewhere, 3306); got != c.connect {
				t.Errorf("got %q, want %q", got, c.connect)
			}
			if changed := after.differences(before); (len(changed) > 0) != c.others {
				t.Errorf("changed: %v", changed)
			}
		})
	}
}
