package mesh

import (
	"testing"

	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/pkg/simulation"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pilot/test/xdstest"
	"istio.io/istio/pkg/config/analysis/analyzers"
	"istio.io/istio/pkg/config/analysis/local"
)

var _ = crd.ParseInputs
var _ = model.Proxy{}
var _ = simulation.NewSimulation
var _ = xds.NewFakeDiscoveryServer
var _ = xdstest.ExtractClusters
var _ = analyzers.AllCombined
var _ = local.NewIstiodAnalyzer

func TestX(t *testing.T) {}
