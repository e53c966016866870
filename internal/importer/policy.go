package importer

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	istio "istio.io/api/networking/v1alpha3"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// readPolicy copies what a DestinationRule decides for the destination.
func (d *draft) readPolicy(t *target, host string) {
	path := "spec.trafficPolicy"
	d.lacks(unknown("spec", &t.rule.Spec, "host", "trafficPolicy", "subsets", "exportTo", "workloadSelector"))
	d.lacks(unknown(path, t.policy, "tls", "connectionPool", "outlierDetection", "loadBalancer"))
	if lb := t.policy.LoadBalancer; lb != nil { // a simple one is a difference to decide about
		d.lacks(unknown(path+".loadBalancer", lb, "simple"))
	}
	for i, s := range t.rule.Spec.Subsets {
		if s.Name == t.istio.Subset && len(s.Labels) > 0 {
			d.reason("%s", noWords(fmt.Sprintf("spec.subsets[%d].labels", i)))
		}
	}
	if t.originatesTLS() {
		d.readTLS(t, host)
	}
	d.readPool(t, path+".connectionPool")
	if o := t.policy.OutlierDetection; o != nil {
		d.lacks(unknown(path+".outlierDetection", o, "consecutive5xxErrors", "interval", "baseEjectionTime", "maxEjectionPercent"))
		t.destination.OutlierDetection = &v1alpha1.OutlierDetection{
			Consecutive5xxErrors: int32(o.GetConsecutive_5XxErrors().GetValue()), //nolint:gosec // admission bounds it
			Interval:             duration(o.Interval), BaseEjectionTime: duration(o.BaseEjectionTime), MaxEjectionPercent: o.MaxEjectionPercent,
		}
	}
}

func (d *draft) readTLS(t *target, host string) {
	tls, path := t.policy.Tls, "spec.trafficPolicy.tls"
	d.lacks(unknown(path, tls, "mode", "sni", "subjectAltNames", "credentialName", "insecureSkipVerify"))
	settings := &v1alpha1.TLS{InsecureSkipVerify: tls.GetInsecureSkipVerify().GetValue()}
	if settings.InsecureSkipVerify {
		d.notes = append(d.notes, fmt.Sprintf("nobody verifies the certificate of %s, as before: "+
			"if policies exist, one must allow insecureSkipVerify for the namespace", host))
	}
	if tls.Sni != "" && tls.Sni != host {
		settings.SNI = v1alpha1.TLSName(tls.Sni)
	}
	if names := tls.SubjectAltNames; len(names) > 0 && !slices.Equal(names, []string{host}) {
		for _, name := range names {
			settings.SubjectAltNames = append(settings.SubjectAltNames, v1alpha1.TLSName(name))
		}
	}
	d.readCredential(settings, tls, path)
	if !reflect.DeepEqual(settings, &v1alpha1.TLS{}) {
		t.destination.TLS = settings
	}
}

// readCredential copies which CA the server is verified by, or which certificate the client shows.
func (d *draft) readCredential(settings *v1alpha1.TLS, tls *istio.ClientTLSSettings, path string) {
	configMap, isConfigMap := strings.CutPrefix(tls.CredentialName, "configmap://"+d.v.Namespace+"/")
	switch {
	case tls.Mode == istio.ClientTLSSettings_ISTIO_MUTUAL:
		d.reason("%s.mode ISTIO_MUTUAL is for workloads of the mesh, and not for external hosts", path)
	case tls.Mode == istio.ClientTLSSettings_MUTUAL && tls.CredentialName != "":
		settings.ClientCertificateRef = &v1alpha1.ClientCertificateRef{Name: v1alpha1.ObjectName(tls.CredentialName)}
	case tls.CredentialName == "":
	case isConfigMap:
		settings.CACertificateRefs = []v1alpha1.CACertificateRef{{Name: v1alpha1.ObjectName(configMap)}}
	default:
		d.reason("%s.credentialName %s holds the CA in a Secret: put it into a ConfigMap under ca.crt, and write the route with caCertificateRefs",
			path, tls.CredentialName)
	}
}

func (d *draft) readPool(t *target, path string) {
	pool := t.policy.GetConnectionPool()
	if pool == nil {
		return
	}
	d.lacks(unknown(path, pool, "tcp", "http"))
	read := v1alpha1.ConnectionPool{}
	if tcp := pool.Tcp; tcp != nil {
		d.lacks(unknown(path+".tcp", tcp, "maxConnections", "connectTimeout"))
		read.MaxConnections, read.ConnectTimeout = tcp.MaxConnections, duration(tcp.ConnectTimeout)
	}
	if http := pool.Http; http != nil {
		d.lacks(unknown(path+".http", http, "http1MaxPendingRequests", "maxRequestsPerConnection", "idleTimeout", "h2UpgradePolicy"))
		read.MaxPendingRequests, read.MaxRequestsPerConnection = http.Http1MaxPendingRequests, http.MaxRequestsPerConnection
		read.IdleTimeout = duration(http.IdleTimeout)
		if http.H2UpgradePolicy == istio.ConnectionPoolSettings_HTTPSettings_UPGRADE {
			t.destination.Protocol = v1alpha1.ProtocolHTTP2
		}
	}
	if read != (v1alpha1.ConnectionPool{}) {
		t.destination.ConnectionPool = &read
	}
}

// duration writes a duration as the API does: 1h, 1m30s, 250ms. None stays none, and so does one of 0.
func duration(d *durationpb.Duration) v1alpha1.Duration {
	left, text := d.AsDuration(), ""
	for _, unit := range []struct {
		name string
		time.Duration
	}{{"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}} {
		if n := left / unit.Duration; n > 0 {
			text += fmt.Sprintf("%d%s", n, unit.name)
			left %= unit.Duration
		}
	}
	return v1alpha1.Duration(text)
}
