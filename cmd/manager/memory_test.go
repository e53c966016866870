package main

import (
	"runtime"
	"runtime/metrics"
	"testing"
)

// What work leaves behind goes back to the system when work has ended, and not before.
func TestMemoryIsGivenBackAtRest(t *testing.T) {
	const megabyte = 1 << 20
	released := func() uint64 {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/released:bytes"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	live := allocate(32 * megabyte)
	runtime.GC()

	work := &thrift{}
	work.look()
	allocate(256 * megabyte)
	before := released()
	work.look()
	if after := released(); after > before+16*megabyte {
		t.Errorf("%d MB were released while there was work", (after-before)/megabyte)
	}
	work.look()
	if after := released(); after < before+128*megabyte {
		t.Errorf("%d MB were released at rest, of a burst of 256 MB", (int64(after)-int64(before))/megabyte)
	}
	runtime.KeepAlive(live)
}

func allocate(bytes int) [][]byte {
	pieces := make([][]byte, bytes>>20)
	for i := range pieces {
		pieces[i] = make([]byte, 1<<20)
		pieces[i][0] = 1 // so that it is resident
	}
	return pieces
}
