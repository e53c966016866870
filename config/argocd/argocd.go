// Package argocd holds Argo CD's health check of ExternalRoutes in the layout of Argo CD's own repository, for the tests that run it.
package argocd

import "embed"

// Customizations is what Argo CD keeps under resource_customizations, for our group.
//
//go:embed networking.externalroute.io
var Customizations embed.FS
