package model

import (
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
)

// TestPackedCacheGivesTheSameBits: with keys and values of 8 bits, logits depend neither on kernels, nor on
// threads, nor on how a text is cut into batches, nor on whether its beginning was copied from another sequence; and they are
// near those with float16. The model has blocks with a window, too.
func TestPackedCacheGivesTheSameBits(t *testing.T) {
	src, f, _ := gguftestSource(t, gguftest.Of("gemma3", 9))
	params, err := ParseParams(f)
	if err != nil {
		t.Fatal(err)
	}
	tokens := someTokens(60)
	m, cache := newModelWith(t, src, params, "generic", 1, 64, 1)
	plain := forced(t, m, cache, tokens, 0)
	params.Cache = Q8
	m, cache = newModelWith(t, src, params, "generic", 1, 64, 2)
	want := forced(t, m, cache, tokens, 0)
	for _, set := range []string{"auto", "avx2", "generic"} {
		t.Run(set, func(t *testing.T) {
			for _, threads := range []int{1, 3} {
				m, cache := newModelWith(t, src, params, set, threads, 64, 2)
				var got [][]float32
				for at, n := 0, 1; at < len(tokens); at, n = at+n, n+3 {
					var batch []Input
					for i := at; i < min(at+n, len(tokens)); i++ {
						batch = append(batch, Input{Token: tokens[i], Slot: 1, Position: i, Output: true})
					}
					out, err := m.Forward(cache, batch)
					if err != nil {
						t.Fatal(err)
					}
					for _, row := range out {
						got = append(got, slices.Clone(row))
					}
					if at > 20 && at+n < len(tokens) { // go on in the other sequence
						cache.Wipe(0, 0, 64)
						cache.Copy(0, 1, at+n)
						cache.Wipe(1, 0, 64)
						cache.Copy(1, 0, at+n)
					}
				}
				for i := range want {
					if !slices.Equal(got[i], want[i]) {
						t.Fatalf("%d threads: position %d differs", threads, i)
					}
				}
			}
		})
	}
	same := 0
	for i := range want {
		if kl := klDivergence(plain[i], want[i]); !(kl < 0.01) {
			t.Errorf("position %d diverges by %.2g from float16's", i, kl)
		}
		if slices.Equal(plain[i], want[i]) {
			same++
		}
	}
	if same > 1 { // the first position reads itself alone
		t.Errorf("%d of %d positions are those of float16: nothing was packed", same, len(want))
	}
}

// TestPackedCacheIsSmallAndWiped: 34 bytes for 32 values, and nothing is left of a sequence.
func TestPackedCacheIsSmallAndWiped(t *testing.T) {
	p := Params{Layers: 2, Heads: 4, KVHeads: 2, HeadSize: 64, Cache: Q8}
	if got, want := CacheBytes(p, CacheSize{Slots: 2, Length: 40, Batch: 64}), int64(2*2*2*2*64*64*34/32); got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
	c, err := NewCache(arena.NewBudget(1<<20), p, CacheSize{Slots: 2, Length: 40, Batch: 64})
	if err != nil {
		t.Fatal(err)
	}
	scatter(c)
	defer c.Release()
	for i := range c.memory {
		c.memory[i] = 7
	}
	c.Wipe(1, 33, 40)
	c.Wipe(1, 0, 33)
	if n := used(c, 1); n != 0 {
		t.Errorf("%d bytes of the wiped sequence are left", n)
	}
	if n := used(c, 0); n != len(c.memory)/2 {
		t.Errorf("%d bytes of the other are left", n)
	}
	p.HeadSize = 80
	_, err = NewCache(arena.NewBudget(1<<20), p, CacheSize{Slots: 2, Length: 40, Batch: 64})
	refusaltest.Want(t, "heads of 80 elements", err, ReasonCacheType)
}

// TestPackedCacheOfRealModels tells what 8 bits cost: first choices and divergence from exact logits.
func TestPackedCacheOfRealModels(t *testing.T) {
	longtest.WithoutRace(t, "real models take seconds a token under it")
	for _, r := range realFamilies {
		t.Run(r.name, func(t *testing.T) {
			longtest.Run(t, "a real model computes a thousand tokens")
			src, f := fileModel(t, cached(t, r.file), r.command)
			params, err := ParseParams(f)
			if err != nil {
				t.Fatal(err)
			}
			params.Cache = Q8
			m, cache := newModelWith(t, src, params, "auto", 2, 1024, 1)
			exact := r.exactLogits(t, m.Params().Vocabulary)
			compared, other, divergence := 0, 0, 0.0
			for n, ref := range r.references(t) {
				tokens := append(slices.Clone(ref.IDs), ref.Greedy...)
				rows := forced(t, m, cache, tokens[:len(tokens)-1], len(ref.IDs)-1)
				for i, want := range ref.Greedy {
					if ref.Margins[i] > 0.3 {
						compared++
						if argmax(rows[i]) != want {
							other++
						}
					}
				}
				if n < len(exact) {
					divergence += klDivergence(exact[n], rows[0]) / float64(len(exact))
				}
			}
			t.Logf("first choice other than exact where its margin is above 0.3: %d of %d; mean divergence %.2g", other, compared, divergence)
			if other*100 > compared*2 {
				t.Errorf("%d of %d first choices differ", other, compared)
			}
		})
	}
}
