package infer

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/anchorhold/anchorhold/runtime/arena"
)

// TestLongPromptsKeepNoShortOneOut: prompts take turns, pass by pass, whichever slot they have; and an answer goes on beside them.
func TestLongPromptsKeepNoShortOneOut(t *testing.T) {
	src, f := load(t, smallFile(t))
	synctest.Test(t, func(t *testing.T) {
		e, err := New(Config{Source: src, File: f, Budget: arena.NewBudget(64 << 20), Threads: 1, Context: 256, MaxSequences: 5})
		if err != nil {
			t.Fatal(err)
		}
		src.gate = make(chan struct{})
		var mu sync.Mutex
		var order []string // of tokens
		done := 0
		ask := func(name string, prompt, tokens int) {
			go func() {
				_, err := e.Generate(t.Context(), Request{Prompt: slices.Repeat([]int32{1}, prompt), MaxTokens: tokens, Observe: func(list []Scored) error {
					mu.Lock()
					defer mu.Unlock()
					for range list {
						order = append(order, name)
					}
					return nil
				}}, func(string) error { return nil })
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				done++
			}()
			synctest.Wait()
		}
		ask("answer", 1, 12)
		for _, name := range []string{"long 1", "long 2", "long 3"} {
			ask(name, 255, 1)
		}
		ask("short", 10, 1)
		for done < 5 {
			select {
			case src.gate <- struct{}{}:
			default:
				t.Fatalf("nobody computes after %v", order)
			}
			synctest.Wait()
		}
		src.gate = nil
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		short := slices.Index(order, "short")
		for _, name := range []string{"long 1", "long 2", "long 3"} {
			if slices.Index(order, name) < short {
				t.Errorf("%s is computed before the short prompt: %v", name, order)
			}
		}
		answered := 0
		for _, name := range order[:slices.Index(order, "long 1")] {
			if name == "answer" {
				answered++
			}
		}
		if answered < 5 {
			t.Errorf("an answer stands still beside long prompts: %v", order)
		}
	})
}

// BenchmarkStreams decodes with one sequence and with many at once, one thread: tokens for a second
// of the processor, and how many times one sequence's.
func BenchmarkStreams(b *testing.B) {
	const tokens = 48
	e, _ := newEngine(b, 1, 16)
	prompt := e.Tokenizer().Encode("Once upon a time there was a", false)
	rates := map[int]float64{}
	for b.Loop() {
		for _, n := range []int{1, 4, 8, 16} {
			var wg sync.WaitGroup
			var mu sync.Mutex
			total := 0
			begin := processorTime(b)
			for i := range n {
				wg.Go(func() {
					seed := uint64(i)
					r, err := e.Generate(context.Background(), Request{Prompt: prompt, MaxTokens: tokens, Temperature: 1, TopP: 0.95, Seed: &seed}, func(string) error { return nil })
					if err != nil {
						b.Error(err)
					}
					mu.Lock()
					defer mu.Unlock()
					total += r.CompletionTokens
				})
			}
			wg.Wait()
			rates[n] = max(rates[n], float64(total)/(processorTime(b)-begin).Seconds())
		}
	}
	for n, rate := range rates {
		b.ReportMetric(rate, fmt.Sprintf("tok/cpu-s-of-%d", n))
	}
	b.ReportMetric(rates[16]/rates[1], "16-against-1")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkGuesses decodes one sequence with and without guesses, a text that repeats its prompt
// and one that does not: tokens for a second of the processor.
func BenchmarkGuesses(b *testing.B) {
	code := "func area(width, height int) int { return width * height }\nfunc volume(width, height, depth int) int { return width * height * depth }\n"
	for name, ask := range map[string]string{"repeats": "Repeat this code exactly:\n" + code, "tells": "Tell a story about a fox and a river."} {
		b.Run(name, func(b *testing.B) {
			e, _ := newEngine(b, 1, 1)
			prompt := question(b, e, ask)
			var rates [2]float64
			var texts [2]string
			for b.Loop() {
				for i, drafts := range []int{0, maxDrafts} {
					e.drafts = drafts
					answer(b, e, Request{Prompt: prompt[:1], MaxTokens: 1}) // the scheduler sees it
					begin := processorTime(b)
					text, r := answer(b, e, Request{Prompt: prompt, MaxTokens: 96})
					rates[i] = max(rates[i], float64(r.CompletionTokens)/(processorTime(b)-begin).Seconds())
					texts[i] = text
				}
			}
			if texts[0] != texts[1] {
				b.Errorf("%q; with guesses %q", texts[0], texts[1])
			}
			b.ReportMetric(rates[0], "tok/cpu-s-without")
			b.ReportMetric(rates[1], "tok/cpu-s")
			b.ReportMetric(rates[1]/rates[0], "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}
