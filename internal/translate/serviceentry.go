package translate

import (
	"fmt"

	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// nowhere is the port that the plain port of a host in place leads to by itself. No server listens on it, so that a request fails without the
// VirtualService, which alone sends it on: to a port that answers it would leave in plaintext.
const nowhere = 1

// LeadsNowhere reports whether a port of a ServiceEntry is the plain port of a host in place: it needs a VirtualService that sends its requests on.
func LeadsNowhere(port *istio.ServicePort) bool { return port.TargetPort == nowhere }

// serviceEntryFor makes the upstream known to the mesh.
func serviceEntryFor(route *v1alpha1.ExternalRoute, u *upstream) *networkingv1.ServiceEntry {
	d := u.destinations[0]
	port := d.servicePort()
	ports := []*istio.ServicePort{port}
	if u.plainPort != 0 {
		plain := servicePort(u.plainPort, false)
		plain.TargetPort = nowhere
		ports = append(ports, plain)
	}
	objectMeta := meta(route, u.object)
	detach(route, &objectMeta)
	return &networkingv1.ServiceEntry{
		TypeMeta:   ServiceEntryKind.typeMeta(),
		ObjectMeta: objectMeta,
		Spec: istio.ServiceEntry{
			Hosts:      []string{u.name},
			Addresses:  d.addresses(),
			Location:   istio.ServiceEntry_MESH_EXTERNAL,
			Ports:      ports,
			Resolution: d.resolution,
			Endpoints:  endpoints(d, port.Name),
			ExportTo:   u.exportTo,
		},
	}
}

// servicePort is the port of the upstream. The name of a TCP one need not tell its number: it is the only port of its host.
func (d *destination) servicePort() *istio.ServicePort {
	if d.tcp {
		return &istio.ServicePort{Number: d.port, Name: tcpName, Protocol: "TCP"}
	}
	return servicePort(d.port, d.tls)
}

// servicePort names a port after its scheme, and after its number where that is not the scheme's own: routes that share a host have their ports merged,
// and Istio finds endpoints by the port's name.
func servicePort(number uint32, tls bool) *istio.ServicePort {
	scheme, protocol, usual := "http", "HTTP", uint32(80)
	if tls {
		scheme, protocol, usual = "https", "TLS", 443
	}
	name := scheme
	if number != usual {
		name = fmt.Sprintf("%s-%d", scheme, number)
	}
	return &istio.ServicePort{Number: number, Name: name, Protocol: protocol}
}

// endpoints are the addresses to dial where they are not those of the upstream's own name.
func endpoints(d *destination, port string) []*istio.WorkloadEntry {
	if len(d.Endpoints) == 0 && d.private {
		return []*istio.WorkloadEntry{{Address: d.host}}
	}
	var entries []*istio.WorkloadEntry
	for _, e := range d.Endpoints {
		entry := &istio.WorkloadEntry{Address: string(e.Address), Labels: d.priorityLabels(e)}
		if e.Port != 0 {
			entry.Ports = map[string]uint32{port: uint32(e.Port)} //nolint:gosec // 1..65535 by schema
		}
		entries = append(entries, entry)
	}
	return entries
}
