package registry

import (
	"testing"
)

// Each receipt is drawn about as often as any other, and never twice at once.
func TestDrawIsEven(t *testing.T) {
	const of, k, rounds = 10, 3, 4000
	seen := [of]int{}
	for range rounds {
		list := make([]Waiting, of)
		for i := range list {
			list[i].Sequence = uint64(i)
		}
		got, err := draw(list, k, 0)
		if err != nil || len(got) != k {
			t.Fatal(err)
		}
		once := map[uint64]bool{}
		for _, w := range got {
			if once[w.Sequence] {
				t.Fatal("drawn twice")
			}
			once[w.Sequence] = true
			seen[w.Sequence]++
		}
	}
	// Mean 1200, standard deviation 29; eight of them are not reached but by a fault.
	for i, n := range seen {
		if n < 1200-8*29 || n > 1200+8*29 {
			t.Errorf("%d was drawn %d times of %d", i, n, rounds)
		}
	}
	n := 0
	for range rounds {
		got, err := draw(make([]Waiting, of), 0, 0.25)
		if err != nil {
			t.Fatal(err)
		}
		n += len(got)
	}
	if n < 10000-8*87 || n > 10000+8*87 {
		t.Errorf("a rate of 0.25 drew %d of %d", n, of*rounds)
	}
}
