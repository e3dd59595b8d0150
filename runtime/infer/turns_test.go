package infer

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// TestOwnersTakeTurnsForPages: a user with many long requests keeps another's waiting for those that compute and the one
// that is next, not for all.
func TestOwnersTakeTurnsForPages(t *testing.T) {
	src, f := load(t, smallFile(t))
	synctest.Test(t, func(t *testing.T) {
		e := scarceEngine(t, src, f, 4, 256, "")
		src.gate = make(chan struct{})
		var mu sync.Mutex
		var begun []string
		var group sync.WaitGroup
		ask := func(name string, prompt int) {
			group.Go(func() {
				_, err := e.Generate(t.Context(), Request{Prompt: slices.Repeat([]int32{1}, prompt), MaxTokens: 250 - prompt, Owner: name[:1], Observe: func([]Scored) error {
					mu.Lock()
					defer mu.Unlock()
					if !slices.Contains(begun, name) {
						begun = append(begun, name)
					}
					return nil
				}}, func(string) error { return nil })
				if err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		for i := range 6 { // of all pages each
			ask(fmt.Sprint("a", i), 245)
		}
		for i := range 3 {
			ask(fmt.Sprint("b", i), 245)
		}
		ask("c0", 245)
		close(src.gate)
		group.Wait()
		if want := []string{"a0", "a1", "b0", "c0", "a2", "b1", "a3", "b2", "a4", "a5"}; !slices.Equal(begun, want) {
			t.Errorf("%v begin in this order, want %v", begun, want)
		}
		wholePages(t, e)
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestPrefixesThatGiveUpAllPagesLeaveNothing, nor where layers with a window have room of their own.
func TestPrefixesThatGiveUpAllPagesLeaveNothing(t *testing.T) {
	src, f := load(t, windowFile(t))
	for _, cache := range []string{"f16", "q8"} {
		e := scarceEngine(t, src, f, 4, 256, cache)
		for _, length := range []int{20, 200} {
			answer(t, e, Request{Prompt: pattern(length, 1), MaxTokens: 5, Owner: "a"})
			if valuesLeft(e) == 0 {
				t.Fatal("nothing is kept")
			}
			answer(t, e, Request{Prompt: pattern(200, 2), MaxTokens: 50}) // takes all pages
			if n := valuesLeft(e); n != 0 {
				t.Errorf("%s: %d values are left of a prefix of %d", cache, n, length)
			}
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}
