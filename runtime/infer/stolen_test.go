package infer

import (
	"context"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// BenchmarkStolen decodes with one thread and with two, alternately, beside two processes that never rest: medians of
// tokens a second, and of each round's ratio.
func BenchmarkStolen(b *testing.B) {
	const tokens = 64
	ctx, cancel := context.WithCancel(b.Context())
	for range 2 {
		c := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
		if err := c.Start(); err != nil {
			b.Fatal(err)
		}
		defer c.Wait() // with the error that the cancelled context causes
	}
	defer cancel()
	one, _ := newEngine(b, 1, 1)
	two, _ := newEngine(b, 2, 1)
	prompt := one.Tokenizer().Encode("Once upon a time there was a", false)
	var rates [2][]float64
	var ratios []float64
	for b.Loop() {
		for i, e := range []*Engine{one, two} {
			var begin time.Time
			n := 0
			if _, err := e.Generate(b.Context(), Request{Prompt: prompt, MaxTokens: tokens}, func(string) error {
				if n == 0 {
					begin = time.Now()
				}
				n++
				return nil
			}); err != nil {
				b.Fatal(err)
			}
			rates[i] = append(rates[i], float64(n-1)/time.Since(begin).Seconds())
		}
		ratios = append(ratios, rates[1][len(rates[1])-1]/rates[0][len(rates[0])-1])
	}
	median := func(x []float64) float64 {
		slices.Sort(x)
		return x[len(x)/2]
	}
	b.ReportMetric(median(rates[0]), "tok/s-1-thread")
	b.ReportMetric(median(rates[1]), "tok/s-2-threads")
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(0, "ns/op")
}
