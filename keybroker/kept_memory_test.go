//go:build !race && !release

package keybroker_test

import (
	"runtime"
	"testing"

	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
)

// TestKeptConnectionHoldsLittle measures what the broker frees when it drops its kept
// connections, which are still open at the guests' end: heap and stacks together.
func TestKeptConnectionHoldsLittle(t *testing.T) {
	const guests = 128
	f := brokertest.New(t, keeping()...)
	for range guests {
		stay(dial(t, f))
	}
	waitKept(t, f, guests)
	inUse := func() int64 {
		var m runtime.MemStats
		for range 4 { // stacks shrink by half in each
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	before := inUse()
	f.Broker.DropKept()
	f.Stop() // waits until all have let go
	each := (before - inUse()) / guests
	t.Logf("%d bytes for each kept connection", each)
	if each > keybroker.KeptBytes || each < 1<<10 {
		t.Errorf("a kept connection holds %d bytes, counted are %d", each, keybroker.KeptBytes)
	}
}
