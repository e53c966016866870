//go:build linux

package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// phase is what one piece of work took.
type phase struct {
	Name string `json:"name"`
	// Count is how many times something was done.
	Count   int     `json:"count"`
	Seconds float64 `json:"seconds"`
	// Creating is how many of the seconds the creation of the routes took, where that was a step of its own.
	Creating  float64 `json:"creatingSeconds,omitempty"`
	ToObjects *spans  `json:"toObjects,omitempty"`
	ToReady   *spans  `json:"toReady,omitempty"`
	// Requests are all that others than the bench asked of the API server, by verb and resource.
	Requests counts `json:"requests"`
	// Writes and Reads are those of them that are about routes and their objects.
	Writes float64 `json:"writes"`
	Reads  float64 `json:"reads"`
	Events float64 `json:"events"`
	// CPU is in seconds, Peak and Rest are resident megabytes, by process: at most, and in the end.
	CPU  map[string]float64 `json:"cpuSeconds"`
	Peak map[string]float64 `json:"peakMB"`
	Rest map[string]float64 `json:"restMB"`
	// Heap is the operator's live heap in megabytes, as of its last garbage collection.
	Heap float64 `json:"heapMB,omitempty"`
}

func (p *phase) perSecond() float64 { return float64(p.Count) / p.Seconds }

// each is a total as a share of the things done.
func (p *phase) each(total float64) float64 { return total / float64(max(1, p.Count)) }

// spans is a distribution of times, in milliseconds.
type spans struct {
	P50 float64 `json:"p50ms"`
	P95 float64 `json:"p95ms"`
	P99 float64 `json:"p99ms"`
	Max float64 `json:"maxms"`
}

func spansOf(durations []time.Duration) *spans {
	if len(durations) == 0 {
		return nil
	}
	sorted := slices.Sorted(slices.Values(durations))
	quantile := func(q float64) float64 { // the nearest rank
		rank := int(math.Ceil(q * float64(len(sorted))))
		return float64(sorted[max(1, rank)-1].Microseconds()) / 1000
	}
	return &spans{P50: quantile(0.50), P95: quantile(0.95), P99: quantile(0.99), Max: quantile(1)}
}

// since is how long after its beginning each thing was seen.
func since(began []time.Time, keys []types.NamespacedName, seen map[types.NamespacedName]time.Time) []time.Duration {
	durations := make([]time.Duration, len(keys))
	for i, key := range keys {
		durations[i] = seen[key].Sub(began[i])
	}
	return durations
}

// measure does some work, which says itself how long it took, and adds what it cost: requests until the operator, if there is one, has nothing more to do.
func (b *bench) measure(ctx context.Context, name string, count int, o *operator, do func(context.Context) (time.Duration, error)) (*phase, error) {
	fmt.Printf("  %s ...\n", name)
	if err := resetPeaks(o); err != nil {
		return nil, err
	}
	used, err := usages(o)
	if err != nil {
		return nil, err
	}
	asked, err := b.othersRequests(ctx)
	if err != nil {
		return nil, err
	}
	took, err := do(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	using, err := usages(o) // now: with thousands of routes, a scrape of the metrics costs more than the work of a change
	if err != nil {
		return nil, err
	}
	p := &phase{Name: name, Count: count, Seconds: took.Seconds(), CPU: map[string]float64{}, Peak: map[string]float64{}, Rest: map[string]float64{}}
	if o != nil {
		if _, err := o.quiet(ctx, b.settings.timeout); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		now, err := o.work(ctx)
		if err != nil {
			return nil, err
		}
		p.Heap = megabytes(uint64(now.heap))
	}
	now, err := b.othersRequests(ctx)
	if err != nil {
		return nil, err
	}
	p.Requests = now.minus(asked)
	p.Writes, p.Reads = p.Requests.sum(isRoutes, writing...), p.Requests.sum(isRoutes, reading...)
	p.Events = p.Requests.sum(isEvents, writing...)
	for _, process := range measured {
		u, found := using[process]
		if !found {
			continue
		}
		if before := used[process]; before.pid == u.pid {
			u.cpu -= before.cpu
		}
		p.CPU[process], p.Peak[process], p.Rest[process] = u.cpu, megabytes(u.peak), megabytes(u.rss)
	}
	return p, nil
}

func megabytes(bytes uint64) float64 { return float64(bytes) / 1e6 }
