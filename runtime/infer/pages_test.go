package infer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/model"
)

// scarceEngine is one for several sequences of up to 256 tokens, which have room for so many together.
func scarceEngine(t *testing.T, src model.Source, f *gguf.File, sequences, positions int, cache string) *Engine {
	t.Helper()
	e, err := New(Config{Source: src, File: f, Budget: arena.NewBudget(64 << 20), Threads: 1, Context: 256, MaxSequences: sequences, Positions: positions, Cache: cache})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// wholePages fails unless each page is a prefix's or free; then it gives up all prefixes, behind which nothing may be left.
func wholePages(t *testing.T, e *Engine) {
	t.Helper()
	e.beside.Wait()
	all := e.cache.Free()
	for slot := range e.slots {
		all += e.cache.Held(slot)
		if got, want := e.cache.Held(slot), e.cache.Pages(e.prefixes.slots[slot].length); got != want {
			t.Errorf("slot %d has %d pages, its prefix needs %d", slot, got, want)
		}
	}
	if want := e.cache.Pages(e.size.Positions); all != want {
		t.Errorf("%d pages, want %d", all, want)
	}
	for slot := range e.slots {
		e.cache.Wipe(slot, 0, e.context)
		e.cache.Keep(slot, 0)
	}
	if n := valuesLeft(e); n != 0 {
		t.Errorf("%d values are left", n)
	}
}

// TestSequencesWaitForPagesInOrder: one that finds too few waits until others end, and a short one behind it waits for it, though there
// would be pages for the short one; who goes while waiting holds up nobody, and whoever ends gives back its pages.
func TestSequencesWaitForPagesInOrder(t *testing.T) {
	src, f := load(t, smallFile(t))
	synctest.Test(t, func(t *testing.T) {
		e := scarceEngine(t, src, f, 4, 256, "")
		src.gate = make(chan struct{})
		var mu sync.Mutex
		var begun []string
		done := map[string]error{}
		ask := func(name string, prompt, tokens int) context.CancelFunc {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				_, err := e.Generate(ctx, Request{Prompt: slices.Repeat([]int32{1}, prompt), MaxTokens: tokens, Observe: func([]Scored) error {
					mu.Lock()
					defer mu.Unlock()
					if !slices.Contains(begun, name) {
						begun = append(begun, name)
					}
					return nil
				}}, func(string) error { return nil })
				mu.Lock()
				defer mu.Unlock()
				done[name] = err
			}()
			synctest.Wait()
			return cancel
		}
		ask("first", 60, 60)      // two pages of four
		ask("long", 200, 20)      // all
		gone := ask("gone", 3, 3) // one
		ask("short", 3, 3)        // one
		step := func() {
			select {
			case src.gate <- struct{}{}:
			default:
				t.Fatalf("nobody computes after %v", begun)
			}
			synctest.Wait()
		}
		for range 200 { // some passes of the first
			step()
		}
		if !slices.Equal(begun, []string{"first"}) {
			t.Errorf("%v have begun, want the first alone", begun)
		}
		gone()
		synctest.Wait()
		for len(done) < 4 {
			step()
		}
		src.gate = nil
		if want := []string{"first", "long", "short"}; !slices.Equal(begun, want) {
			t.Errorf("%v begin in this order, want %v", begun, want)
		}
		for name, err := range done {
			if (name == "gone") != errors.Is(err, context.Canceled) || name != "gone" && err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		synctest.Wait()
		wholePages(t, e)
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestWhoeverWaitsForPagesIsToldTheEnd of the engine, and one that leaves while it computes or waits gives back its pages.
func TestWhoeverWaitsForPagesIsToldTheEnd(t *testing.T) {
	src, f := load(t, smallFile(t))
	synctest.Test(t, func(t *testing.T) {
		e := scarceEngine(t, src, f, 3, 256, "")
		src.gate = make(chan struct{})
		list := make(chan error, 4)
		ask := func() context.CancelFunc {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				_, err := e.Generate(ctx, Request{Prompt: pattern(100, 1), MaxTokens: 100}, func(string) error { return nil })
				list <- err
			}()
			synctest.Wait()
			return cancel
		}
		computing, waiting := ask(), ask()
		for _, cancel := range []context.CancelFunc{waiting, computing} {
			cancel()
			if err := <-list; !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
		}
		ask()
		ask()
		close(src.gate)
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := <-list; err != nil && !errors.Is(err, ErrClosed) {
				t.Errorf("at the end: %v, want ErrClosed or an answer", err)
			}
		}
	})
}

// TestPrefixesGiveUpPages before a request waits: first those of the owner with the most, the least recently used, from its end, and
// nothing of them is left.
func TestPrefixesGiveUpPages(t *testing.T) {
	src, f := load(t, smallFile(t))
	e := scarceEngine(t, src, f, 5, 448, "") // seven pages
	ask := func(owner string, prompt []int32, most int) int {
		t.Helper()
		_, r := answer(t, e, Request{Prompt: prompt, MaxTokens: most, Owner: owner})
		return r.ReusedTokens
	}
	older, newer, others := pattern(120, 1), pattern(120, 2), pattern(120, 3)
	ask("b", others, 1)
	ask("a", older, 1)
	ask("a", newer, 1) // two pages each
	if free := e.cache.Free(); free != 1 {
		t.Fatalf("%d pages are free, want 1", free)
	}
	ask("c", pattern(70, 4), 1) // needs two
	for name, c := range map[string]struct {
		owner  string
		prompt []int32
		want   int
	}{
		"of the owner with one":     {"b", others, 119},
		"more recently used":        {"a", newer, 119},
		"the first page of a third": {"a", older, 64},
	} {
		if slot, n := e.prefixes.longest(c.owner, c.prompt[:119], e.cache.Resumes); n != c.want {
			t.Errorf("%s: %d tokens are kept in slot %d, want %d", name, n, slot, c.want)
		}
	}
	if n := ask("b", others, 1); n != 119 {
		t.Errorf("b goes on behind %d tokens, want 119", n)
	}
	if n := ask("d", pattern(250, 5), 6); n != 0 {
		t.Errorf("d goes on behind %d tokens", n)
	}
	wholePages(t, e)
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// TestPagesAreClearBeforeAnotherComputes: what a prefix held is gone from the pages that it gave up, wherever they went, once their next
// sequence begins.
func TestPagesAreClearBeforeAnotherComputes(t *testing.T) {
	src, f := load(t, smallFile(t))
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct{ sequences, before, next int }{
			"pages of another slot":      {2, 250, 250},
			"more pages than are needed": {1, 250, 10},
		} {
			e := scarceEngine(t, src, f, c.sequences, 256, "")
			answer(t, e, Request{Prompt: pattern(c.before, 1), MaxTokens: 1, Owner: "a"})
			if valuesLeft(e) == 0 {
				t.Errorf("%s: no prefix is kept", name)
			}
			src.gate = make(chan struct{})
			done := make(chan error)
			go func() {
				_, err := e.Generate(t.Context(), Request{Prompt: pattern(c.next, 2), MaxTokens: 1, Owner: "b"}, func(string) error { return nil })
				done <- err
			}()
			synctest.Wait() // for the first weights
			if n := valuesLeft(e); n != 0 {
				t.Errorf("%s: %d values of another are left", name, n)
			}
			close(src.gate)
			if err := <-done; err != nil {
				t.Error(err)
			}
			src.gate = nil
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestAnswersOnScarcePagesAreThoseAlone: whoever waits, goes on behind a prefix, loses one or leaves meanwhile, of both types and with windows.
func TestAnswersOnScarcePagesAreThoseAlone(t *testing.T) {
	for _, cache := range []string{"f16", "q8"} {
		for _, positions := range []int{256, 640} {
			src, f := load(t, windowFile(t))
			alone, e := windowEngine(t, 1, cache), scarceEngine(t, src, f, 6, positions, cache)
			rng := rand.New(rand.NewPCG(uint64(positions), 7))
			var requests []Request
			var want []string
			for i := range 30 {
				prompt := append(pattern(1+rng.IntN(170), i%3), pattern(1+i%5, 7)...)
				r := Request{Prompt: prompt, MaxTokens: 1 + rng.IntN(40)}
				text, _ := answer(t, alone, r)
				r.Owner = fmt.Sprint(i % 3)
				if i%7 == 0 {
					r.Owner = ""
				}
				requests, want = append(requests, r), append(want, text)
			}
			got := make([]string, len(requests))
			var group sync.WaitGroup
			for i, r := range requests {
				group.Go(func() {
					if i%5 == 0 { // one that leaves
						ctx, cancel := context.WithCancel(t.Context())
						r := r
						_, err := e.Generate(ctx, r, func(string) error { cancel(); return nil })
						if cancel(); err != nil && !errors.Is(err, context.Canceled) {
							t.Error(err)
						}
					}
					if _, err := e.Generate(t.Context(), r, func(s string) error { got[i] += s; return nil }); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
			if !slices.Equal(got, want) {
				t.Errorf("%s, %d positions: beside others\n%q\nalone\n%q", cache, positions, got, want)
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestRequestsAboveTheContextAreRefused at once: none that begins is larger than all pages.
func TestRequestsAboveTheContextAreRefused(t *testing.T) {
	src, f := load(t, smallFile(t))
	e := scarceEngine(t, src, f, 4, 256, "")
	defer e.Close()
	if _, err := e.Generate(t.Context(), Request{Prompt: pattern(256, 1), MaxTokens: 1}, func(string) error { return nil }); !errors.Is(err, ErrPrompt) {
		t.Errorf("%v, want ErrPrompt", err)
	}
	if _, r := answer(t, e, Request{Prompt: pattern(250, 1), MaxTokens: 1 << 20}); r.CompletionTokens != 6 {
		t.Errorf("%d tokens, want all that the context has room for", r.CompletionTokens)
	}
	if _, err := New(Config{Source: src, File: f, Budget: arena.NewBudget(64 << 20), Threads: 1, Context: 256, MaxSequences: 4, Positions: 255}); err == nil {
		t.Error("an engine without room for a whole context was made")
	}
}
