package conflict

import (
	"cmp"
	"encoding/json"
	"strings"

	istio "istio.io/api/networking/v1alpha3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// XBackendKind is the experimental kind of the Gateway API for external hosts.
const XBackendKind = "XBackend"

// XBackendFlag is the environment variable that makes istiod read it.
const XBackendFlag = "PILOT_ENABLE_ALPHA_GATEWAY_API"

// XBackendFacts reads the public ServiceEntry that istiod makes of an XBackend: of its host and port, with resolution DNS and no labels. It has no hosts if
// istiod makes none. Istio 1.31 reads no XBackend; later versions do with XBackendFlag (istio: pilot/pkg/serviceregistry/serviceentry/gateway.go,
// backendToServiceEntry).
func XBackendFacts(meta metav1.Object, raw json.RawMessage, clusterDomain string) ServiceEntry {
	facts := ServiceEntry{Identity: IdentityOf(meta), Kind: XBackendKind, Resolution: istio.ServiceEntry_DNS}
	var spec struct {
		Port             struct{ Number, Port uint32 } // the field has had both names
		ExternalHostname struct{ Hostname string }
		Protocol         string
	}
	host := &spec.ExternalHostname.Hostname
	if json.Unmarshal(raw, &spec) != nil || *host == "" || strings.HasSuffix(*host, ".svc."+clusterDomain) || strings.HasSuffix(*host, ".svc.clusterset.local") {
		return facts
	}
	facts.Hosts = []string{*host}
	number := cmp.Or(spec.Port.Number, spec.Port.Port)
	facts.Ports = []Port{{Number: number, Protocol: xBackendProtocol(spec.Protocol), Target: number}}
	return facts
}

// xBackendProtocol is the protocol of the ServiceEntry's port. It is never TLS.
func xBackendProtocol(protocol string) string {
	switch protocol {
	case "", "HTTP", "HTTP11", "MCP":
		return protocolHTTP
	case "HTTP2", "H2C":
		return "HTTP2"
	case "GRPC":
		return "GRPC"
	}
	return "TCP"
}
