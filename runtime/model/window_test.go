package model

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
)

// wholeCache is a cache whose layers with a window keep all positions, too.
func wholeCache(t *testing.T, p Params, slots, length int) *Cache {
	t.Helper()
	p.Window = length
	c, err := NewCache(arena.NewBudget(1<<30), p, CacheSize{Slots: slots, Length: length, Batch: 64})
	if err != nil {
		t.Fatal(err)
	}
	scatter(c)
	t.Cleanup(func() {
		if err := c.Release(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// windowed is a model with blocks that have a window of so many positions.
func windowed(t *testing.T, window int) (Source, Params) {
	t.Helper()
	file := gguftest.Of("gemma3", 9)
	file.Set("gemma3.attention.sliding_window", uint32(window))
	src, f, _ := gguftestSource(t, file)
	params, err := ParseParams(f)
	if err != nil {
		t.Fatal(err)
	}
	return src, params
}

// TestWindowsKeepWhatTokensSee: with layers that keep only their windows, logits are those with all positions kept, to the
// last bit, over many windows: however a text is cut into batches, with two sequences side by side, on any number of threads, for
// both types, behind guesses that did not come true, and in a copy that goes on from where its source still can.
func TestWindowsKeepWhatTokensSee(t *testing.T) {
	for _, window := range []int{1, 8, 72} {
		t.Run(fmt.Sprintf("window %d", window), func(t *testing.T) {
			if window != 8 {
				longtest.WithoutRace(t, "two texts are computed a dozen times")
			}
			for _, kind := range []CacheType{Float16, Q8} {
				windowsKeepWhatTokensSee(t, window, kind)
			}
		})
	}
}

func windowsKeepWhatTokensSee(t *testing.T, window int, kind CacheType) {
	const length, batch = 210, 24
	src, params := windowed(t, window)
	params.Cache = kind
	m, _ := newModelWith(t, src, params, "auto", 2, length, 1)
	tokens := [2][]int32{someTokens(length), slices.Clone(someTokens(length))}
	slices.Reverse(tokens[1])
	var want [2][][]float32
	whole := wholeCache(t, m.Params(), 1, length)
	for i := range tokens {
		want[i] = forced(t, m, whole, tokens[i], 0)
	}
	for threads, set := range map[int]string{1: "avx2", 2: "generic", 3: "auto"} {
		t.Run(fmt.Sprintf("type %d, %s, %d threads", kind, set, threads), func(t *testing.T) {
			m, _ := newModelWith(t, src, params, set, threads, length, 1)
			cache, err := NewCache(arena.NewBudget(1<<30), m.Params(), CacheSize{Slots: 3, Length: length, Batch: batch})
			if err != nil {
				t.Fatal(err)
			}
			scatter(cache)
			defer cache.Release()
			w := walk{t: t, m: m, cache: cache, tokens: tokens, want: want, rng: rand.New(rand.NewPCG(uint64(window), uint64(kind)))}
			w.run(batch)
		})
	}
}

// walk computes two texts side by side, in slots that change.
type walk struct {
	t      *testing.T
	m      *Model
	cache  *Cache
	tokens [2][]int32
	want   [2][][]float32
	rng    *rand.Rand
	copies int
}

func (w *walk) run(batch int) {
	at, slots, spare := [2]int{}, [2]int{0, 1}, 2
	for at[0] < len(w.tokens[0]) || at[1] < len(w.tokens[1]) {
		var in []Input
		room := batch
		for i := range at {
			n := min(w.rng.IntN(room+1), len(w.tokens[i])-at[i])
			for p := at[i]; p < at[i]+n; p++ {
				in = append(in, Input{Token: w.tokens[i][p], Slot: slots[i], Position: p, Output: true})
			}
			room -= n
		}
		if len(in) == 0 {
			continue
		}
		w.compare(in, slots)
		for _, p := range in {
			at[slices.Index(slots[:], p.Slot)] = p.Position + 1
		}
		i := w.rng.IntN(2)
		w.guess(slots[i], at[i])
		if w.rng.IntN(4) == 0 { // go on in a copy, as far back as the source can
			back := at[i]
			for back > 0 && at[i]-back < 30 && w.cache.Resumes(slots[i], back-1) {
				back--
			}
			w.cache.Wipe(spare, 0, w.cache.length)
			w.cache.Copy(spare, slots[i], back)
			at[i], slots[i], spare = back, spare, slots[i]
			w.copies++
		}
	}
	if w.copies < 3 {
		w.t.Errorf("only %d copies", w.copies)
	}
}

// guess has tokens computed behind a sequence that are not its next ones.
func (w *walk) guess(slot, at int) {
	var in []Input
	for p := at; p < min(at+3, w.cache.length); p++ {
		in = append(in, Input{Token: 5, Slot: slot, Position: p})
	}
	if at == 0 || len(in) == 0 {
		return
	}
	if _, err := w.m.Forward(w.cache, in); err != nil {
		w.t.Fatal(err)
	}
}

func (w *walk) compare(in []Input, slots [2]int) {
	rows, err := w.m.Forward(w.cache, in)
	if err != nil {
		w.t.Fatal(err)
	}
	for j, row := range rows {
		if i := slices.Index(slots[:], in[j].Slot); !slices.Equal(row, w.want[i][in[j].Position]) {
			w.t.Fatalf("text %d: position %d differs from that with all positions kept", i, in[j].Position)
		}
	}
}

// TestPositionsThatWindowsLostAreRefused: a token that would see what the cache has no more is never computed without it.
func TestPositionsThatWindowsLostAreRefused(t *testing.T) {
	src, params := windowed(t, 8)
	m, _ := newModelWith(t, src, params, "auto", 1, 256, 1)
	cache, err := NewCache(arena.NewBudget(1<<30), m.Params(), CacheSize{Slots: 2, Length: 256, Batch: 25})
	if err != nil {
		t.Fatal(err)
	}
	scatter(cache)
	defer cache.Release()
	if cache.ring != 32 {
		t.Fatalf("a window of 8 and passes of 25 take %d positions, want 32", cache.ring)
	}
	inputs := func(from, to int) (in []Input) {
		for p := from; p < to; p++ {
			in = append(in, Input{Token: 1, Position: p})
		}
		return in
	}
	run := func(from, to int) error {
		_, err := m.Forward(cache, inputs(from, to))
		return err
	}
	for at := 0; at < 100; at += 25 {
		if err := run(at, at+25); err != nil {
			t.Fatal(err)
		}
	}
	if first := cache.from[0]; first != 68 {
		t.Errorf("positions from %d on are kept, want 68", first)
	}
	for position, want := range map[int]bool{0: true, 1: false, 74: false, 75: true, 100: true} {
		if got := cache.Resumes(0, position); got != want {
			t.Errorf("resumes at %d: %v, want %v", position, got, want)
		}
	}
	if !cache.Resumes(1, 5) {
		t.Error("what another sequence loses costs this one its own")
	}
	for _, tc := range []struct{ from, to int }{{74, 75}, {1, 2}, {100, 126}} {
		if err := run(tc.from, tc.to); !errors.Is(err, ErrInput) {
			t.Errorf("positions %d to %d: %v, want ErrInput", tc.from, tc.to, err)
		}
	}
	if err := run(75, 100); err != nil {
		t.Errorf("after refusals: %v", err)
	}
	if err := run(0, 25); err != nil || cache.from[0] != 0 {
		t.Errorf("a sequence that begins: %v, positions from %d on", err, cache.from[0])
	}
}

// TestWipeClearsWindows: what a sequence had is cleared wherever its positions came to lie, and what is before stays.
func TestWipeClearsWindows(t *testing.T) {
	src, params := windowed(t, 8)
	for _, kind := range []CacheType{Float16, Q8} {
		params.Cache = kind
		m, _ := newModelWith(t, src, params, "auto", 1, 256, 1)
		cache, err := NewCache(arena.NewBudget(1<<30), m.Params(), CacheSize{Slots: 2, Length: 256, Batch: 25})
		if err != nil {
			t.Fatal(err)
		}
		scatter(cache)
		defer cache.Release()
		for p := range 90 { // to the middle of a window's room
			for slot := range 2 {
				if _, err := m.Forward(cache, []Input{{Token: 3, Slot: slot, Position: p}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		other := used(cache, 1)
		cache.Wipe(0, 85, 256)
		for layer, part := range cache.layers {
			for p := range 256 {
				if p < 90-part.room || p >= 90 {
					continue
				}
				at, _ := cache.place(0, layer, p, p+1)
				at *= cache.headSize
				some := func(head int) bool {
					if kind == Q8 {
						return slices.Max(cache.packed(0, layer, head, 1).codes[at:at+cache.headSize]) > 0
					}
					return slices.Max(cache.vals(0, layer, head)[at:at+cache.headSize]) > 0
				}
				if got := some(0); got != (p < 85) {
					t.Errorf("type %d, layer %d: position %d is there: %v", kind, layer, p, got)
				}
			}
		}
		cache.Copy(1, 0, 85)
		if got, want := used(cache, 1), used(cache, 0); got != want || got >= other {
			t.Errorf("type %d: the copy has %d bytes, its source %d", kind, got, want)
		}
		for slot := range 2 {
			cache.Wipe(slot, 0, 90)
			if n := used(cache, slot); n != 0 {
				t.Errorf("type %d: %d bytes of slot %d are left", kind, n, slot)
			}
		}
	}
}

// TestWholeSlotsAreClearedAlike: clearing a slot takes the same steps, whatever length a sequence before had.
func TestWholeSlotsAreClearedAlike(t *testing.T) {
	_, params := windowed(t, 8)
	cache, err := NewCache(arena.NewBudget(1<<30), params, CacheSize{Slots: 1, Length: 256, Batch: 25})
	if err != nil {
		t.Fatal(err)
	}
	scatter(cache)
	defer cache.Release()
	for end := range 257 {
		cache.from[0] = max(0, end-cache.ring)
		if first, last := cache.lasting(0, 0, 256); first != 0 || last != cache.ring {
			t.Errorf("behind %d positions, %d to %d are cleared, want 0 to %d", end, first, last, cache.ring)
		}
	}
}

// TestWindowsAreCountedInTheBudget: what NewCache maps, and by how much it is less than with all positions.
func TestWindowsAreCountedInTheBudget(t *testing.T) {
	_, params := windowed(t, 8) // 7 blocks, of which one sees all
	each := int64(params.KVHeads * params.HeadSize * 2 * 2)
	for length, want := range map[int]int64{16: 7 * 32, 100: 7 * 128, 120: 6*128 + 128, 4096: 6*128 + 4096} {
		got := CacheBytes(params, CacheSize{Slots: 3, Length: length, Batch: 96})
		if got != 3*want*each {
			t.Errorf("%d positions: %d bytes, want %d", length, got, 3*want*each)
		}
		if saved := WindowSaving(params, CacheSize{Slots: 3, Length: length, Batch: 96}); got+saved != 3*7*int64(tiled(length))*each {
			t.Errorf("%d positions: %d bytes and %d saved are not those of all positions", length, got, saved)
		}
		budget := arena.NewBudget(got)
		c, err := NewCache(budget, params, CacheSize{Slots: 3, Length: length, Batch: 96})
		if err != nil {
			t.Fatal(err)
		}
		scatter(c)
		if used := budget.Used(); used != got {
			t.Errorf("%d positions: %d bytes taken, want %d", length, used, got)
		}
		if err := c.Release(); err != nil {
			t.Error(err)
		}
	}
	// Where sequences share less than whole contexts, their windows may take more than their pages do.
	for _, c := range []struct{ slots, positions, want int }{{16, 1024, 7 * 1024}, {8, 1024, 7 * 1024}, {7, 1024, 6*7*128 + 1024}, {4, 4096, 6*4*128 + 4096}} {
		s := CacheSize{Slots: c.slots, Length: 1024, Batch: 96, Positions: c.positions}
		got, saved := CacheBytes(params, s), WindowSaving(params, s)
		if got != int64(c.want)*each || saved != int64(7*c.positions-c.want)*each {
			t.Errorf("%+v: %d bytes, %d saved; want %d positions", s, got, saved, c.want)
		}
	}
	if _, err := NewCache(arena.NewBudget(1<<20), params, CacheSize{Slots: 1, Length: 16, Batch: MaxBatch + 1}); err == nil {
		t.Error("passes longer than the longest were taken")
	}
}

// TestWindowsOfTheRealGemma: a text of more than two windows of 512 gives the logits of a cache with all positions, to the last bit.
func TestWindowsOfTheRealGemma(t *testing.T) {
	longtest.WithoutRace(t, "real models take seconds a token under it")
	longtest.Run(t, "a real model computes a text of 1,400 tokens twice")
	src, f := fileModel(t, cached(t, "gemma-3-270m-q4_k_m.gguf"), "make model MODEL=gemma")
	params, err := ParseParams(f)
	if err != nil {
		t.Fatal(err)
	}
	const length = 1500
	var tokens []int32
	for i, r := 0, realFamilies[0].references(t); len(tokens) < 1400; i++ {
		tokens = append(tokens, r[i%len(r)].IDs...)
	}
	tokens = tokens[:1400]
	for _, kind := range []CacheType{Float16, Q8} {
		params.Cache = kind
		m, _ := newModelWith(t, src, params, "auto", 2, length, 1)
		const last = 150 // rows have a megabyte each
		want := forced(t, m, wholeCache(t, m.Params(), 1, length), tokens, len(tokens)-last)
		cache, err := NewCache(arena.NewBudget(1<<30), m.Params(), CacheSize{Slots: 1, Length: length, Batch: 64})
		if err != nil {
			t.Fatal(err)
		}
		scatter(cache)
		defer cache.Release()
		t.Logf("type %d: %d bytes, %d less than with all positions", kind, len(cache.memory), WindowSaving(m.Params(), CacheSize{Slots: 1, Length: length, Batch: 64}))
		rng := rand.New(rand.NewPCG(1, uint64(kind)))
		for at := 0; at < len(tokens); {
			var batch []Input
			for n := 1 + rng.IntN(64); n > 0 && at < len(tokens); n, at = n-1, at+1 {
				batch = append(batch, Input{Token: tokens[at], Position: at, Output: at >= len(tokens)-last})
			}
			rows, err := m.Forward(cache, batch)
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range rows {
				if !slices.Equal(row, want[0]) {
					t.Fatalf("type %d: position %d differs from that with all positions kept", kind, len(tokens)-len(want))
				}
				want = want[1:]
			}
		}
		if len(want) != 0 {
			t.Errorf("%d positions were not compared", len(want))
		}
	}
}
