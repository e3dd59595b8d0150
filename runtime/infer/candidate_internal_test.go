package infer

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestCandidatesAreInOrder: a candidate keeps its id and its weight, and sorting puts the
// likeliest first and equal ones in the vocabulary's order.
func TestCandidatesAreInOrder(t *testing.T) {
	type pair struct {
		id     int32
		weight float32
	}
	rng := rand.New(rand.NewPCG(1, 2))
	weights := []float32{1, 0, 1e-6, 0x1p-149, 0x1p-126, 0.5, 0.5, 1}
	for range 1000 {
		weights = append(weights, rng.Float32())
	}
	var want []pair
	var got []candidate
	for i, w := range weights {
		for _, id := range []int32{int32(i), 1<<31 - 1 - int32(i)} {
			want, got = append(want, pair{id, w}), append(got, newCandidate(id, w))
		}
	}
	slices.SortFunc(want, func(a, b pair) int { return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.id, b.id)) })
	slices.Sort(got)
	for i, k := range got {
		if (pair{k.id(), k.weight()}) != want[i] {
			t.Fatalf("at %d: %d %g, want %+v", i, k.id(), k.weight(), want[i])
		}
	}
}
