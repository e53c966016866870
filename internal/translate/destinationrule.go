package translate

import (
	"cmp"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	istio "istio.io/api/networking/v1alpha3"
	istiotype "istio.io/api/type/v1beta1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// destinationRuleFor gives every destination a subset of its own. A subset fails closed: without it a request is answered 503, while host-wide TLS alone
// would let it leave in plaintext when the rule is lost or another one wins.
func destinationRuleFor(route *v1alpha1.ExternalRoute, u *upstream) *networkingv1.DestinationRule {
	rule := &networkingv1.DestinationRule{
		TypeMeta:   DestinationRuleKind.typeMeta(),
		ObjectMeta: meta(route, u.object),
		Spec: istio.DestinationRule{
			Host:     u.name,
			ExportTo: u.exportTo,
		},
	}
	if d := u.hostWide(); d != nil {
		rule.Spec.TrafficPolicy = &istio.TrafficPolicy{Tls: tlsFor(route.Namespace, d), PortLevelSettings: plaintext(u.plainPorts)}
	}
	if SpeaksTCP(route) {
		rule.Spec.TrafficPolicy = idlePolicy(u.destinations[0])
	}
	if s := route.Spec.WorkloadSelector; s != nil {
		rule.Spec.WorkloadSelector = &istiotype.WorkloadSelector{MatchLabels: selectorLabels(s)}
	}
	for _, d := range u.destinations {
		rule.Spec.Subsets = append(rule.Spec.Subsets, &istio.Subset{
			Name: d.subset,
			TrafficPolicy: &istio.TrafficPolicy{
				Tls:              tlsFor(route.Namespace, d),
				ConnectionPool:   connectionPool(d),
				LoadBalancer:     failover(d),
				OutlierDetection: outlierDetection(d),
			},
		})
	}
	return rule
}

// plaintext keeps host-wide TLS away from the ports to which the route itself speaks plain http.
func plaintext(ports []uint32) []*istio.TrafficPolicy_PortTrafficPolicy {
	var settings []*istio.TrafficPolicy_PortTrafficPolicy
	for _, port := range ports {
		settings = append(settings, &istio.TrafficPolicy_PortTrafficPolicy{
			Port: &istio.PortSelector{Number: port},
			Tls:  &istio.ClientTLSSettings{Mode: istio.ClientTLSSettings_DISABLE},
		})
	}
	return settings
}

// tlsFor writes SNI and subject alternative names together: Istio stops checking the certificate's name when sni stands alone
// (istio: pilot/pkg/networking/core/cluster_tls.go, setAutoSniAndAutoSanValidation).
func tlsFor(namespace string, d *destination) *istio.ClientTLSSettings {
	if !d.tls {
		return &istio.ClientTLSSettings{Mode: istio.ClientTLSSettings_DISABLE}
	}
	settings := &istio.ClientTLSSettings{Mode: istio.ClientTLSSettings_SIMPLE, Sni: d.host, SubjectAltNames: []string{d.host}}
	tls := d.TLS
	if tls == nil {
		return settings
	}
	if tls.SNI != "" {
		settings.Sni = string(tls.SNI)
	}
	if len(tls.SubjectAltNames) > 0 {
		settings.SubjectAltNames = nil
		for _, name := range tls.SubjectAltNames {
			settings.SubjectAltNames = append(settings.SubjectAltNames, string(name))
		}
	}
	if tls.InsecureSkipVerify { // Istio rejects it beside names to check
		settings.SubjectAltNames = nil
		settings.InsecureSkipVerify = wrapperspb.Bool(true)
	}
	for _, name := range caConfigMaps(tls) {
		settings.CredentialName = "configmap://" + namespace + "/" + name
	}
	if tls.ClientCertificateRef != nil {
		settings.Mode = istio.ClientTLSSettings_MUTUAL
		settings.CredentialName = string(tls.ClientCertificateRef.Name)
	}
	return settings
}

func connectionPool(d *destination) *istio.ConnectionPoolSettings {
	pool := d.ConnectionPool
	if pool == nil {
		pool = &v1alpha1.ConnectionPool{}
	}
	tcp := &istio.ConnectionPoolSettings_TCPSettings{
		MaxConnections: pool.MaxConnections,
		ConnectTimeout: duration(pool.ConnectTimeout),
	}
	http := &istio.ConnectionPoolSettings_HTTPSettings{
		Http1MaxPendingRequests:  pool.MaxPendingRequests,
		MaxRequestsPerConnection: pool.MaxRequestsPerConnection,
	}
	if !d.tcp {
		http.IdleTimeout = duration(pool.IdleTimeout)
	}
	switch {
	case d.Protocol == v1alpha1.ProtocolHTTP2:
		http.H2UpgradePolicy = istio.ConnectionPoolSettings_HTTPSettings_UPGRADE
	case d.scheme == "http":
		// A port declared as HTTP follows the mesh's h2UpgradePolicy (istio: pilot/pkg/networking/core/cluster_traffic_policy.go, shouldH2Upgrade).
		http.H2UpgradePolicy = istio.ConnectionPoolSettings_HTTPSettings_DO_NOT_UPGRADE
	}
	settings := &istio.ConnectionPoolSettings{}
	if proto.Size(tcp) > 0 {
		settings.Tcp = tcp
	}
	if proto.Size(http) > 0 {
		settings.Http = http
	}
	if settings.Tcp == nil && settings.Http == nil {
		return nil
	}
	return settings
}

func outlierDetection(d *destination) *istio.OutlierDetection {
	outlier := d.OutlierDetection
	if outlier == nil {
		return nil
	}
	settings := &istio.OutlierDetection{
		Interval:           duration(outlier.Interval),
		BaseEjectionTime:   duration(outlier.BaseEjectionTime),
		MaxEjectionPercent: cmp.Or(outlier.MaxEjectionPercent, d.allButOne()),
	}
	if outlier.Consecutive5xxErrors != 0 {
		settings.Consecutive_5XxErrors = wrapperspb.UInt32(uint32(outlier.Consecutive5xxErrors)) //nolint:gosec // positive by schema
	}
	return settings
}

// duration reads a duration that the API server admitted; none stays none.
func duration(d v1alpha1.Duration) *durationpb.Duration {
	parsed, err := time.ParseDuration(string(d))
	if err != nil {
		return nil
	}
	return durationpb.New(parsed)
}

func selectorLabels(s *v1alpha1.WorkloadSelector) map[string]string {
	labels := make(map[string]string, len(s.MatchLabels))
	for k, v := range s.MatchLabels {
		labels[k] = string(v)
	}
	return labels
}
