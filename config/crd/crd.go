// Package crd holds the generated CustomResourceDefinitions, for programs that install them or judge manifests without a cluster.
package crd

import _ "embed"

// ExternalRoutes is the CustomResourceDefinition of ExternalRoute, as YAML.
//
//go:embed bases/networking.externalroute.io_externalroutes.yaml
var ExternalRoutes []byte

// ExternalRoutePolicies is the CustomResourceDefinition of ExternalRoutePolicy, as YAML.
//
//go:embed bases/networking.externalroute.io_externalroutepolicies.yaml
var ExternalRoutePolicies []byte
