package cli

import (
	"testing"

	"github.com/externalroute/externalroute/internal/translate"
)

// Routes of the namespace that a host names may take a request.
func TestCalledIn(t *testing.T) {
	for host, want := range map[string]string{
		"web": "", "web.shop": "shop", "Web.Shop": "shop", "web.shop.svc": "shop", "web.shop.svc.cluster.local": "shop", "web.shop.svc.cluster.local.": "shop",
		"web.shop.": "", "www.example.com": "", "10.0.0.1": "", "::1": "",
	} {
		if got := calledIn(host, translate.DefaultClusterDomain); got != want {
			t.Errorf("%s: got %q, want %q", host, got, want)
		}
	}
}
