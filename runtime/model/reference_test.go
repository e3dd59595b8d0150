package model

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/kernels"
)

// chatReference is a line of the reference: a prompt, and the exact float32
// continuation with the margin of each choice over the runner-up.
type chatReference struct {
	IDs     []int32   `json:"prompt_ids"`
	Greedy  []int32   `json:"f32_greedy_ids"`
	Margins []float64 `json:"f32_margins"`
}

func chatReferences(t *testing.T) []chatReference {
	t.Helper()
	var list []chatReference
	for dec := json.NewDecoder(bytes.NewReader(shared(t, "models/smollm2-135m/chat.jsonl"))); dec.More(); {
		var r chatReference
		if err := dec.Decode(&r); err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	if len(list) == 0 || len(list[0].IDs) == 0 || len(list[0].Greedy) != len(list[0].Margins) {
		t.Fatalf("the reference has another form: %d lines", len(list))
	}
	return list
}

func newModel(t testing.TB, src Source, f *gguf.File, set string, threads, context, slots int) (*Model, *Cache) {
	t.Helper()
	params, err := ParseParams(f)
	if err != nil {
		t.Fatal(err)
	}
	return newModelWith(t, src, params, set, threads, context, slots)
}

func newModelWith(t testing.TB, src Source, params Params, set string, threads, context, slots int) (*Model, *Cache) {
	t.Helper()
	k, err := kernels.Select(set)
	if err != nil {
		t.Skip(err)
	}
	budget := arena.NewBudget(1 << 30)
	m, err := New(Config{Source: src, Params: params, Kernels: k, Threads: threads, Budget: budget, Batch: 64, Outputs: 64, Context: context})
	if err != nil {
		t.Fatal(err)
	}
	cache, err := NewCache(budget, m.Params(), CacheSize{Slots: slots, Length: context, Batch: 64})
	if err != nil {
		t.Fatal(err)
	}
	scatter(cache)
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if err := cache.Release(); err != nil {
			t.Error(err)
		}
	})
	return m, cache
}

// forced runs tokens through the model and returns the logits at each position
// from the one on.
func forced(t testing.TB, m *Model, cache *Cache, tokens []int32, from int) [][]float32 {
	t.Helper()
	var rows [][]float32
	for at := 0; at < len(tokens); at += 64 {
		var batch []Input
		for i := at; i < min(at+64, len(tokens)); i++ {
			batch = append(batch, Input{Token: tokens[i], Position: i, Output: i >= from})
		}
		out, err := m.Forward(cache, batch)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range out {
			rows = append(rows, slices.Clone(row))
		}
	}
	return rows
}

func argmax(x []float32) int32 {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return int32(best)
}

// TestFirstChoiceAgreesWithExactArithmetic follows the exact continuation and
// compares the first choice wherever it was not a close call.
func TestFirstChoiceAgreesWithExactArithmetic(t *testing.T) {
	longtest.WithoutRace(t, "the real model is too slow under it; a small one stands in")
	src, f := realModel(t)
	m, cache := newModel(t, src, f, "auto", 2, 1024, 1)
	checked := 0
	for n, ref := range chatReferences(t) {
		tokens := append(slices.Clone(ref.IDs), ref.Greedy...)
		rows := forced(t, m, cache, tokens[:len(tokens)-1], len(ref.IDs)-1)
		for i, want := range ref.Greedy {
			if ref.Margins[i] > 0.3 {
				checked++
				if got := argmax(rows[i]); got != want {
					t.Errorf("chat %d, token %d: %d, exact arithmetic says %d by %.2f", n, i, got, want, ref.Margins[i])
				}
			}
		}
	}
	t.Logf("%d choices with a margin above 0.3 compared", checked)
	if checked < 100 {
		t.Errorf("only %d choices compared", checked)
	}
}

// klDivergence is the divergence of q's distribution from p's, from logits.
func klDivergence(p, q []float32) float64 {
	logSum := func(x []float32) float64 {
		top := float64(x[argmax(x)])
		var sum float64
		for _, v := range x {
			sum += math.Exp(float64(v) - top)
		}
		return top + math.Log(sum)
	}
	zp, zq := logSum(p), logSum(q)
	var kl float64
	for i := range p {
		lp := float64(p[i]) - zp
		kl += math.Exp(lp) * (lp - (float64(q[i]) - zq))
	}
	return kl
}

func TestDivergenceFromExactLogitsIsNoWorseThanThePeer(t *testing.T) {
	longtest.WithoutRace(t, "the real model is too slow under it; a small one stands in")
	src, f := realModel(t)
	refs := chatReferences(t)
	raw := shared(t, "models/smollm2-135m/logits-f32-last4.bin")
	m, cache := newModel(t, src, f, "auto", 2, 1024, 1)
	ids := refs[0].IDs
	rows := forced(t, m, cache, ids, len(ids)-4)
	var mean float64
	for i, row := range rows {
		exact := make([]float32, len(row))
		for j := range exact {
			exact[j] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*(i*len(row)+j):]))
		}
		mean += klDivergence(exact, row) / float64(len(rows))
	}
	t.Logf("mean divergence over %d positions: %.5f", len(rows), mean)
	if mean > 0.0039 {
		t.Errorf("mean divergence from exact arithmetic %.5f, llama.cpp's is 0.0039", mean)
	}
}

// TestForwardTakesNoMemory: after the first pass a token costs no allocation.
func TestForwardTakesNoMemory(t *testing.T) {
	longtest.WithoutRace(t, "the real model is too slow under it; a small one stands in")
	src, f := realModel(t)
	for _, threads := range []int{1, 2} {
		m, cache := newModel(t, src, f, "auto", threads, 64, 1)
		batch := []Input{{Token: 5, Output: true}}
		n := testing.AllocsPerRun(20, func() {
			if _, err := m.Forward(cache, batch); err != nil {
				t.Fatal(err)
			}
			batch[0].Position++
		})
		if n != 0 {
			t.Errorf("%d threads: %v allocations for a token", threads, n)
		}
	}
}
