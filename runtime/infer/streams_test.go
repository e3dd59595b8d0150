package infer

import (
	"context"
	"fmt"
	"sync"
	"testing"
)

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
