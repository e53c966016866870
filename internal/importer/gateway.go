package importer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// road is what a VirtualService of two legs says about the way through an egress gateway: the sidecars send everything to the gateway's Service, and the
// gateway sends it on.
type road struct {
	*networkingv1.VirtualService
	// gateway is the Gateway that the second leg is for, as the VirtualService names it.
	gateway string
	// service is the Service to which the first leg leads.
	service *v1alpha1.GatewayReference
	// objects are the Gateway and the DestinationRule of its Service, as far as the input has them.
	objects []translate.Object
}

// overGateway imports a VirtualService with two legs through an egress gateway, by protocol: requests, and TLS that passes through.
func (i *importer) overGateway(v *networkingv1.VirtualService) {
	gateways := slices.DeleteFunc(slices.Clone(v.Spec.Gateways), func(g string) bool { return g == "mesh" })
	if len(gateways) == len(v.Spec.Gateways) {
		i.stay(v, "it is for an ingress gateway: keep it")
		return
	}
	r := &road{VirtualService: v, gateway: gateways[0]}
	direct, problem := r.requests()
	var passed []string
	if problem == "" {
		passed, problem = r.passes()
	}
	switch {
	case problem != "":
	case len(gateways) > 1:
		problem = "spec.gateways: a route is for the mesh, and for one egress gateway"
	case direct == nil && len(passed) == 0:
		problem = "spec has no route through the gateway"
	}
	if reasons := unknown("spec", &v.Spec, "hosts", "gateways", "http", "tls", "exportTo"); problem != "" || len(reasons) > 0 {
		if problem != "" {
			reasons = append(reasons, problem)
		}
		i.stay(v, reasons...)
		return
	}
	r.objects = i.gatewayObjects(r)
	i.beside = string(r.service.Namespace)
	defer func() { i.beside = "" }()
	if direct != nil {
		i.importRequests(&draft{importer: i, v: direct, road: r, objects: []translate.Object{v}})
	}
	if len(passed) > 0 && len(i.stays[translate.KeyOf(v)]) == 0 {
		i.passOverGateway(r, passed, direct != nil)
	}
}

// importRequests finishes a draft through a gateway.
func (i *importer) importRequests(d *draft) {
	d.build()
	d.route.Spec.EgressGateway = d.road.service
	d.objects = append(d.objects, d.road.objects...)
	i.finish(d)
}

// requests is the VirtualService that sends requests directly where the gateway sends them, nil if none are led to the gateway.
func (r *road) requests() (*networkingv1.VirtualService, string) {
	if len(r.Spec.Http) == 0 {
		return nil, ""
	}
	direct := &networkingv1.VirtualService{ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: r.Name}}
	direct.Spec.Hosts, direct.Spec.ExportTo = r.Spec.Hosts, r.Spec.ExportTo
	port := uint32(0)
	for n, http := range r.Spec.Http {
		path := fmt.Sprintf("spec.http[%d]", n)
		switch {
		case isFor(http, "mesh"):
			if port != 0 || !onlyLeads(http) {
				return nil, path + ": the sidecars decide more than that requests take the gateway, and a route decides it behind the gateway"
			}
			if problem := r.leads(http.Route[0].Destination, path); problem != "" {
				return nil, problem
			}
			port = cmp.Or(http.Match[0].Port, 80)
		case isFor(http, r.gateway):
			on := proto.CloneOf(http)
			for _, m := range on.Match {
				m.Gateways, m.Port = nil, 0
			}
			direct.Spec.Http = append(direct.Spec.Http, on)
		default:
			return nil, path + " is for the mesh and for a gateway at once: write one route for each"
		}
	}
	for _, http := range direct.Spec.Http { // the sidecars' port is that of every match
		for _, m := range http.Match {
			m.Port = port
		}
	}
	if port == 0 || len(direct.Spec.Http) == 0 {
		return nil, "spec.http has one leg alone: requests do not go to the gateway and on"
	}
	return direct, ""
}

// isFor reports whether all matches of an http route are for one gateway.
func isFor(http *istio.HTTPRoute, gateway string) bool {
	other := func(m *istio.HTTPMatchRequest) bool { return !slices.Equal(m.Gateways, []string{gateway}) }
	return len(http.Match) > 0 && !slices.ContainsFunc(http.Match, other)
}

// onlyLeads reports whether an http route sends all requests of a port to one destination, and does nothing else.
func onlyLeads(http *istio.HTTPRoute) bool {
	match, rest := proto.CloneOf(http.Match[0]), proto.CloneOf(http)
	match.Gateways, match.Port = nil, 0
	rest.Match, rest.Route, rest.Name = nil, nil, ""
	return len(http.Match) == 1 && len(http.Route) == 1 && proto.Size(match) == 0 && proto.Size(rest) == 0
}

// leads notes the Service of the gateway.
func (r *road) leads(to *istio.Destination, path string) string {
	labels := strings.Split(to.GetHost(), ".")
	if len(labels) < 3 || labels[2] != "svc" {
		return fmt.Sprintf("%s: %s is not the complete name of a gateway's Service", path, to.GetHost())
	}
	service := &v1alpha1.GatewayReference{Name: v1alpha1.DNSLabel(labels[0]), Namespace: v1alpha1.DNSLabel(labels[1])}
	if r.service != nil && *r.service != *service {
		return path + " leads to another gateway"
	}
	r.service = service
	return ""
}

// passes are the hosts whose TLS passes through the gateway.
func (r *road) passes() (hosts []string, problem string) {
	var sent []string
	for n, tls := range r.Spec.Tls {
		path := fmt.Sprintf("spec.tls[%d]", n)
		if len(tls.Match) != 1 || len(tls.Route) != 1 {
			return nil, path + " has several matches or destinations"
		}
		rest := proto.CloneOf(tls.Match[0])
		rest.Gateways, rest.Port, rest.SniHosts = nil, 0, nil
		if proto.Size(rest) > 0 || tls.Match[0].Port != 443 {
			return nil, path + ".match has more than the gateway, port 443 and SNI hosts"
		}
		to := tls.Route[0].Destination
		switch match := tls.Match[0]; {
		case slices.Equal(match.Gateways, []string{"mesh"}):
			if problem := r.leads(to, path); problem != "" {
				return nil, problem
			}
			hosts = append(hosts, match.SniHosts...)
		case slices.Equal(match.Gateways, []string{r.gateway}) && slices.Equal(match.SniHosts, []string{to.GetHost()}) && to.GetPort().GetNumber() == 443:
			sent = append(sent, to.Host)
		default:
			return nil, path + ": the gateway sends the TLS of a host elsewhere than to the host"
		}
	}
	slices.Sort(hosts)
	slices.Sort(sent)
	if !slices.Equal(hosts, sent) {
		return nil, "spec.tls: the sidecars and the gateway are not for the same hosts"
	}
	return hosts, ""
}

// gatewayObjects are the Gateway and the rules of its Service.
func (i *importer) gatewayObjects(r *road) (objects []translate.Object) {
	for _, object := range i.all {
		switch o := object.(type) {
		case *networkingv1.Gateway:
			if namesGateway(r.VirtualService, r.gateway, o) {
				objects = append(objects, o)
			}
		case *networkingv1.DestinationRule:
			if r.service != nil && o.Spec.Host == translate.ServiceHost(translate.GatewayService(r.service), i.clusterDomain) {
				objects = append(objects, o)
			}
		}
	}
	return objects
}

// namesGateway reports whether a VirtualService means a Gateway by a name.
func namesGateway(v *networkingv1.VirtualService, name string, gateway translate.Object) bool {
	return name == gateway.GetNamespace()+"/"+gateway.GetName() || name == gateway.GetName() && v.Namespace == gateway.GetNamespace()
}

// passOverGateway imports the hosts whose TLS passes through the gateway.
func (i *importer) passOverGateway(r *road, hosts []string, second bool) {
	d := &draft{importer: i, road: r, objects: append([]translate.Object{r.VirtualService}, r.objects...), route: &v1alpha1.ExternalRoute{}}
	d.route.Namespace, d.route.Name = r.Namespace, r.Name
	if second {
		d.route.Name += "-tls"
	}
	var entries []*networkingv1.ServiceEntry
	for _, host := range hosts {
		d.route.Spec.Hosts = append(d.route.Spec.Hosts, v1alpha1.RouteHost(host))
		u, problem := i.resolve(r.Namespace, &istio.Destination{Host: host, Port: &istio.PortSelector{Number: 443}})
		if problem != "" {
			d.reason("%s", problem)
			continue
		}
		if u.rule != nil {
			d.reason("DestinationRule %s decides about %s, and a route that passes TLS through has none", u.rule.Name, host)
		}
		d.lacks(unknown("spec", &u.entry.Spec, "hosts", "ports", "location", "resolution", "exportTo"))
		d.checkEntry(u.entry, u.port)
		d.use(u)
		entries = append(entries, u.entry)
	}
	d.route.Spec.EgressGateway = r.service
	d.passed = entries
	i.finish(d)
}

// finish judges and proves a draft through a gateway.
func (i *importer) finish(d *draft) {
	if len(d.reasons) == 0 {
		d.admit()
	}
	if len(d.reasons) == 0 {
		d.proveRoad()
	}
	if len(d.reasons) > 0 {
		i.stay(d.road.VirtualService, d.reasons...)
		return
	}
	i.add(d)
}

// proveRoad checks that everything takes the gateway, and compares where it goes from there with a direct route, which differs in nothing else.
func (d *draft) proveRoad() {
	gateway := translate.ServiceHost(translate.GatewayService(d.road.service), d.clusterDomain)
	objects := rendered(d.translation, d.clusterDomain).all
	if translate.Bypasses(d.route, objects, []string{gateway}) {
		d.reason("the route would not lead everything to the gateway")
		return
	}
	direct := d.admitted.DeepCopy()
	direct.Spec.EgressGateway = nil
	translation, refusal := translate.Translate(direct, d.mesh())
	if refusal != nil {
		d.reason("%s", refusal.Message())
		return
	}
	d.translation = translation
	if d.v != nil {
		d.prove()
	} else {
		d.compare(passedMeaning(d.passed, 443), passedMeaning(rendered(translation, d.clusterDomain).entries, 443))
	}
	if d.imported == nil {
		return
	}
	d.imported.Same++ // the gateway
	d.imported.Notes = append(d.imported.Notes, fmt.Sprintf("requests leave through %s/%s as before",
		d.road.service.Namespace, d.road.service.Name))
}

// withGateway adds the gateway's Service to the facts of a translation, if the input does not have it.
func (d *draft) withGateway(mesh translate.Mesh) translate.Mesh {
	if d.road == nil {
		return mesh
	}
	key := translate.GatewayService(d.road.service)
	if _, found := mesh.Services[key]; !found {
		d.notes = append(d.notes, fmt.Sprintf("the input has no Service %s: it must be of type ClusterIP, with a selector and port 443", key))
		mesh.Services[key] = translate.Service{
			Type: corev1.ServiceTypeClusterIP, HasSelector: true, Selector: map[string]string{"istio": "egressgateway"},
			Ports: []corev1.ServicePort{{Name: "https", Port: 443}},
		}
	}
	return mesh
}
