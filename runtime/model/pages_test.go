package model

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
	"github.com/anchorhold/anchorhold/runtime/kernels"
)

// TestPagesHoldWhatSequencesPut follows random work of several sequences beside a plain list of what each has put: nothing is
// lost or another's, no page is two slots', and what is free is clear.
func TestPagesHoldWhatSequencesPut(t *testing.T) {
	for seed := range uint64(8) {
		pagesWalk(t, seed, 250)
	}
}

func FuzzPages(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { pagesWalk(t, seed, 200) })
}

// ledger is a cache and what each slot should have in it.
type ledger struct {
	*testing.T
	c    *Cache
	set  *kernels.Set
	want [][]float32 // by slot, a value for each position
}

func pagesWalk(t *testing.T, seed uint64, steps int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	p := Params{Layers: 2, Heads: 2, KVHeads: 2, HeadSize: 32, Cache: CacheType(seed % 2)}
	size := CacheSize{Slots: 4, Length: 200, Batch: 64, Positions: 400}
	c, err := NewCache(arena.NewBudget(1<<20), p, size)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	set, err := kernels.Select("auto")
	if err != nil {
		t.Fatal(err)
	}
	l := &ledger{t, c, set, make([][]float32, size.Slots)}
	for range steps {
		slot, other := rng.IntN(4), rng.IntN(4)
		switch most := rng.IntN(201); rng.IntN(6) {
		case 0: // begins, or goes on
			c.Take(slot, min(c.Pages(most)-c.Held(slot), c.Free()))
			c.Wipe(slot, len(l.want[slot]), c.length)
		case 1:
			for n := rng.IntN(80); n > 0 && len(l.want[slot]) < min(c.Positions(slot), c.length); n-- {
				l.put(slot, rng.Float32()+1)
			}
		case 2:
			most = min(most, len(l.want[slot]))
			c.Keep(slot, most)
			l.want[slot] = l.want[slot][:most]
		case 3:
			if most >= len(l.want[slot]) {
				if clear := c.Shed(slot, most); clear != nil {
					clear()
				}
			}
		case 4: // gives up its last pages to another, which wipes them
			if n := rng.IntN(c.Held(other) + 1); slot != other && n > 0 && c.Held(slot)+n <= c.Pages(c.length) {
				c.Move(slot, other, n)
				c.Wipe(slot, len(l.want[slot]), c.length)
				l.want[other] = l.want[other][:min(len(l.want[other]), c.Positions(other))]
			}
		case 5:
			if most = min(most, len(l.want[other]), c.Positions(slot)); slot != other {
				c.Copy(slot, other, most)
				c.Wipe(slot, most, c.length)
				l.want[slot] = slices.Clone(l.want[other][:most])
			}
		}
		l.check()
	}
	for slot := range size.Slots {
		c.Keep(slot, 0)
	}
	for i, b := range c.memory {
		if b != 0 {
			t.Fatalf("seed %d: byte %d is left", seed, i)
		}
	}
	if c.Free() != 7 {
		t.Errorf("%d pages are free at the end, want 7", c.Free())
	}
}

// put stores a position whose values are all the same.
func (l *ledger) put(slot int, value float32) {
	c, at := l.c, len(l.want[slot])
	v := slices.Repeat([]float32{value}, c.headSize)
	if err := c.ahead([]Input{{Slot: slot, Position: at}}); err != nil {
		l.Fatal(err)
	}
	for layer := range c.layers {
		for head := range c.kvHeads {
			c.put(l.set, slot, layer, head, at, v, v, make([]uint16, c.headSize))
		}
	}
	l.want[slot] = append(l.want[slot], value)
}

func (l *ledger) check() {
	l.Helper()
	c, owned := l.c, map[int32]bool{}
	for slot, want := range l.want {
		for _, page := range c.pages[slot] {
			if owned[page] || !c.taken[page] {
				l.Fatalf("page %d is two slots', or free", page)
			}
			owned[page] = true
		}
		nonzero := 0
		for p, value := range want {
			at, _ := c.place(slot, 1, p, p+1)
			var got float32
			if c.kind == Float16 {
				got = kernels.Float16to32(c.vals(slot, 1, 1)[at*c.headSize])
			} else {
				v := c.packed(slot, 1, 1, 1)
				got = 127 * kernels.Float16to32(v.scales[at])
			}
			if d := got - value; d > 0.01 || d < -0.01 {
				l.Fatalf("position %d of slot %d is %v, want %v", p, slot, got, value)
			}
			nonzero++
		}
		each := c.headSize // codes, and a scale of two bytes; a float16 may have a byte that is zero
		if n := used(c, slot); n > nonzero*8*c.kind.bytes(c.headSize) || n < nonzero*8*each {
			l.Fatalf("%d bytes of slot %d, which has %d positions", n, slot, nonzero)
		}
	}
	if len(owned)+c.Free() != len(c.taken) {
		l.Fatalf("%d pages are taken and %d free, of %d", len(owned), c.Free(), len(c.taken))
	}
	for page := range c.taken {
		if c.taken[page] {
			continue
		}
		for layer := range c.layers {
			for which := range 2 * c.kvHeads {
				part := c.part(0, layer, which/2, which%2)
				n := c.page * c.headSize
				if c.kind == Float16 {
					n *= 2
				}
				if slices.Max(part[page*n:(page+1)*n]) != 0 {
					l.Fatalf("page %d is free and not clear", page)
				}
			}
		}
	}
}

// TestPositionsWithoutPagesAreRefused: nothing is computed outside a sequence's own pages.
func TestPositionsWithoutPagesAreRefused(t *testing.T) {
	src, f, _ := gguftestSource(t, gguftest.New(9))
	params, err := ParseParams(f)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := newModelWith(t, src, params, "auto", 1, 200, 1)
	c, err := NewCache(arena.NewBudget(1<<24), m.Params(), CacheSize{Slots: 2, Length: 200, Batch: 64})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	c.Take(1, 1)
	for position, want := range map[int]error{0: nil, 63: nil, 64: ErrInput, 199: ErrInput} {
		if _, err := m.Forward(c, []Input{{Token: 1, Slot: 1, Position: position}}); !errors.Is(err, want) {
			t.Errorf("position %d of one page: %v, want %v", position, err, want)
		}
	}
	if _, err := m.Forward(c, []Input{{Token: 1}}); !errors.Is(err, ErrInput) {
		t.Errorf("a slot without pages: %v", err)
	}
	if c.Take(0, 8) || c.Held(0) != 0 {
		t.Error("more pages than there are were given")
	}
	if _, err := NewCache(arena.NewBudget(1<<24), m.Params(), CacheSize{Slots: 2, Length: 200, Batch: 64, Positions: 199}); err == nil {
		t.Error("a cache without room for one whole sequence was made")
	}
}

// TestScatteredPagesGiveTheSameBits as those that lie one behind the other.
func TestScatteredPagesGiveTheSameBits(t *testing.T) {
	src, params := windowed(t, 256) // its heads can be packed
	tokens := someTokens(200)
	for _, kind := range []CacheType{Float16, Q8} {
		params.Cache = kind
		m, scattered := newModelWith(t, src, params, "auto", 2, 200, 3)
		behind, err := NewCache(arena.NewBudget(1<<24), m.Params(), CacheSize{Slots: 1, Length: 200, Batch: 64})
		if err != nil {
			t.Fatal(err)
		}
		defer behind.Release()
		behind.Take(0, 4)
		if _, n := behind.place(0, 0, 10, 200); n != 190 {
			t.Errorf("%d positions lie one behind the other, want 190", n)
		}
		if _, n := scattered.place(0, 0, 10, 200); n != 54 {
			t.Errorf("%d positions of a page, want 54", n)
		}
		want := forced(t, m, behind, tokens, 0)
		for i, row := range forced(t, m, scattered, tokens, 0) {
			if !slices.Equal(row, want[i]) {
				t.Fatalf("type %d: position %d differs", kind, i)
			}
		}
	}
}
