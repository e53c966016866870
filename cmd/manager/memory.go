package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// thrift gives memory back to the system when work has ended. A burst, such as the first look at every route, leaves about as much garbage and free memory
// as there is live heap, which Go keeps for the next burst; an operator is at rest for most of its life.
type thrift struct {
	allocated uint64 // bytes since the process began, at the last look
	working   bool   // there was work before the last look
}

// restPeriod is how often thrift looks, so work has ended after one or two of them.
const restPeriod = 20 * time.Second

// Start implements manager.Runnable.
func (t *thrift) Start(ctx context.Context) error {
	wait.UntilWithContext(ctx, func(context.Context) { t.look() }, restPeriod)
	return nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: a standby has filled its caches too.
func (*thrift) NeedLeaderElection() bool { return false }

// look frees what is not needed when work has ended, and later where garbage is worth a collection. A scrape of the metrics is no work.
func (t *thrift) look() {
	samples := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(samples)
	allocated, live, objects, free := samples[0].Value.Uint64(), samples[1].Value.Uint64(), samples[2].Value.Uint64(), samples[3].Value.Uint64()
	worked := t.working
	t.working = allocated-t.allocated > live/2
	t.allocated = allocated
	if !t.working && (worked || objects+free > live+live/4) {
		debug.FreeOSMemory()
	}
}
