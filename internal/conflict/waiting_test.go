package conflict_test

import (
	"strings"
	"testing"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/conflict"
	"github.com/externalroute/externalroute/internal/translate"
)

// counted counts how often the routes that compete for a claim are asked for.
type counted struct {
	*list
	asked int
}

func (c *counted) Asking(namespace string, claim conflict.Claim) []*v1alpha1.ExternalRoute {
	c.asked++
	return c.list.Asking(namespace, claim)
}

// A route that is refused anyway reads none of those that wait for the same host: a tenant that creates many of them would keep the operator busy, since each is
// judged again whenever the holder changes.
func TestRefusedRouteReadsNoWaitingRoutes(t *testing.T) {
	world := &counted{list: &list{T: t, namespace: "demo"}}
	world.serves("holder", webToA, 10)
	world.asks("older", webToA, 20, "")
	mine := world.route("demo", "mine", webToA, 60)
	wanted, refusal := translate.Translate(mine, world.mesh())
	if refusal != nil {
		t.Fatal(refusal.Message())
	}
	verdict := conflict.Judge(conflict.Route{ExternalRoute: mine, Wanted: wanted, ClusterDomain: domain}, world)
	if !strings.HasPrefix(described(verdict), "HostConflict ") || world.asked != 0 {
		t.Errorf("asked %d times for routes that wait, and found %q", world.asked, described(verdict))
	}
}
