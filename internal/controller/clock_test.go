package controller_test

import (
	"sync"
	"testing"
	"time"

	"k8s.io/utils/clock"
)

// testClock is the operator's clock in the suite. It runs until a test stops it, and a test may move it ahead at any time. Only what the operator
// remembers goes by it; the timers that wake the operator are real ones and find out what time it is.
type testClock struct {
	mu    sync.Mutex
	ahead time.Duration
	stood time.Time // not zero while the clock stands still
}

var _ clock.PassiveClock = &testClock{}

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now()
}

func (c *testClock) now() time.Time {
	if !c.stood.IsZero() {
		return c.stood
	}
	return time.Now().Add(c.ahead)
}

func (c *testClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// stop lets time stand still until the test ends: whatever happens until it is stepped happens at one moment, however busy the machine is.
func (c *testClock) stop(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stood = c.now()
	t.Cleanup(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ahead, c.stood = time.Until(c.stood), time.Time{}
	})
}

func (c *testClock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stood.IsZero() {
		c.ahead += d
		return
	}
	c.stood = c.stood.Add(d)
}
