package plan

import (
	"maps"
	"time"

	"github.com/externalroute/externalroute/internal/translate"
)

// CacheLagLimit is how long a cache may lag behind the API server. What it has not shown by then it has missed.
const CacheLagLimit = 30 * time.Second

// Moments are when things happened to a route's objects, as far as this process knows. All of them may be lost: after a restart, times count from Began.
type Moments struct {
	// Began is when the process began to reconcile.
	Began time.Time

	// sent is when an object that traffic is sent to was last written. moved is when traffic last moved: a VirtualService left a cluster or a host, was created,
	// or was deleted, or a ServiceEntry was led to a gateway.
	sent  map[translate.Key]time.Time
	moved time.Time
	// unsure reports that the last write of the VirtualService failed: the API server may have committed it all the same, and the cache not show it yet.
	unsure bool
	// known are the fingerprints of objects as they stood or were written: what differs then was changed by another client.
	known map[translate.Key]uint64
	// wanted is the fingerprint of everything that the route asked for, and repairs is how often objects were repaired since.
	wanted  uint64
	repairs Backoff
}

// Start notes that a plan is about to be executed.
func (m *Moments) Start(p Plan, now time.Time) {
	if m.wanted != p.wanted {
		m.wanted, m.repairs = p.wanted, Backoff{}
	}
	m.known = p.known
	if p.repair != nil {
		m.repairs.add(now, *p.repair)
	}
}

// Returned notes that the answer to a write has come, or has not come: the API server may have committed it until now. A write that is never sent, since an
// earlier one has failed, leaves no moment.
func (m *Moments) Returned(p Plan, step Step, err error, now time.Time) {
	if step.Stage != translate.StageTraffic || p.moves {
		m.stamp(step, now)
	}
	if step.Stage == translate.StageTraffic {
		m.unsure = err != nil
	}
	if err == nil {
		m.known = maps.Clone(m.known)
		m.known[step.Key()] = translate.Fingerprint(step.Object)
	}
}

// Deleted notes that the answer to a deletion has come, or has not come: the API server may have committed it until now.
func (m *Moments) Deleted(key translate.Key, err error, now time.Time) {
	if err == nil {
		delete(m.sent, key)
	}
	if key.Kind == translate.VirtualServiceKind.GVK.Kind {
		m.moved = now
	}
}

func (m *Moments) stamp(step Step, now time.Time) {
	if step.Stage == translate.StageTraffic {
		m.moved = now
		return
	}
	if isKind(step.Object, translate.ServiceKind) {
		return // it is not waited for
	}
	if m.sent == nil {
		m.sent = map[translate.Key]time.Time{}
	}
	m.sent[step.Key()] = now
}

// A client that undoes repairs at once (another controller; the garbage collector, while the operator's cache does not show yet that a route is gone) is not
// answered at full speed: from the third repair on there is a pause after each, and each is twice as long as the one before, up to the longest.
const (
	freeRepairs  = 2
	firstPause   = 250 * time.Millisecond
	LongestPause = 30 * time.Second
	quietPeriod  = time.Minute
)

// Backoff is how often the operator has undone what another client did, without a quiet period in between. The zero value has done nothing.
type Backoff struct {
	times      int
	object     translate.Key
	last, next time.Time
}

// Add counts one more repair.
func (b *Backoff) Add(now time.Time) { b.add(now, translate.Key{}) }

func (b *Backoff) add(now time.Time, object translate.Key) {
	if now.Sub(b.last) > quietPeriod {
		*b = Backoff{object: object}
	}
	b.Fail(now)
}

// Fail counts one more failure in a row. A failure may take minutes to come: only a success ends the row.
func (b *Backoff) Fail(now time.Time) {
	b.times, b.last, b.next = b.times+1, now, now
	if b.times > freeRepairs {
		b.next = now.Add(min(firstPause<<min(b.times-freeRepairs-1, 20), LongestPause))
	}
}

// Left is how long the pause still is, 0 or less if there is none.
func (b *Backoff) Left(now time.Time) time.Duration { return b.next.Sub(now) }

// Paused reports whether there is a pause.
func (b *Backoff) Paused(now time.Time) bool { return b.next.After(now) }

// hash is a fingerprint of everything that a route asks for.
func hash(objects translate.Objects) uint64 {
	var all uint64 = 1469598103934665603
	for _, item := range objects {
		all = all*1099511628211 ^ translate.Fingerprint(item.Object)
	}
	return all
}
