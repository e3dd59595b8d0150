package infer

import (
	"context"
	"testing"
	"time"
)

// BenchmarkLongDecode decodes behind a prompt of 900 tokens, one thread.
func BenchmarkLongDecode(b *testing.B) {
	e, _ := newEngine(b, 1, 2)
	decodeLong(b, e)
}

// decodeLong tells the speed of answers behind a long prompt, which is computed once.
func decodeLong(b *testing.B, e *Engine) {
	const tokens = 64
	prompt := make([]int32, 900)
	for i := range prompt {
		prompt[i] = int32(i*37%40000 + 1000)
	}
	var decoding time.Duration
	answers := 0
	for b.Loop() {
		seed := uint64(answers)
		var first time.Duration
		r, err := e.Generate(context.Background(), Request{Prompt: prompt, MaxTokens: tokens + 1, Temperature: 1, Seed: &seed, Owner: "a", Observe: func([]Scored) error {
			if first == 0 {
				first = processorTime(b)
			}
			return nil
		}}, func(string) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
		if r.CompletionTokens == tokens+1 { // an answer that ended early is not counted
			decoding += processorTime(b) - first
			answers++
		}
	}
	b.ReportMetric(float64(answers*tokens)/decoding.Seconds(), "tok/cpu-s")
}

// BenchmarkLongDecodeScattered does so over pages that lie apart.
func BenchmarkLongDecodeScattered(b *testing.B) {
	e, _ := newEngine(b, 1, 2)
	for range e.cache.Pages(e.context) {
		e.cache.Take(0, 1)
		e.cache.Take(1, 1)
	}
	e.cache.Keep(0, 0)
	decodeLong(b, e)
}
