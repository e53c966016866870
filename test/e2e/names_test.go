//go:build linux

package e2e

import (
	"regexp"
	"testing"
	"time"
)

// Envoy connects to whatever address DNS returns, and no route can tell. docs/security.md says what to do about it.
func TestNamesLeadWhereDNSSays(t *testing.T) {
	const namespace = "names"
	app := begin(t, namespace)
	for name, address := range map[string]string{"loopback": "127.0.0.1", "metadata": "169.254.169.254"} {
		mesh.DNS.Set(name+".example.com", 5*time.Second, 0, address)
		applyText(t, namespace, "{apiVersion: networking.externalroute.io/v1alpha1, kind: ExternalRoute, metadata: {name: "+name+"}, "+
			"spec: {hosts: ["+name+"], destinations: [{url: 'http://"+name+".example.com:8042', connectionPool: {connectTimeout: 1s}}]}}")
	}
	ready(t, namespace)
	for name, address := range map[string]string{"loopback": "127.0.0.1", "metadata": "169.254.169.254"} {
		failed := regexp.MustCompile(`\Q` + name + `.example.com::` + address + `:8042::cx_connect_fail::\E[1-9]`)
		await(t, "Envoy to try "+address, func() (string, bool) {
			_ = app.Get(t.Context(), "http://"+name+"/")
			clusters := app.Admin(t, "clusters")
			return clusters, failed.MatchString(clusters)
		})
	}
}
