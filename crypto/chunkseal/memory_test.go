//go:build !race

package chunkseal

import "testing"

// TestOpeningTogetherTakesNoMemory is not for the race detector, with which a sync.Pool loses some of
// what it is given.
func TestOpeningTogetherTakesNoMemory(t *testing.T) {
	r, list := together(t)
	if err := r.OpenSlots(list); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(20, func() {
		for i := range r.seen {
			r.seen[i].Store(0)
		}
		if err := r.OpenSlots(list); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
