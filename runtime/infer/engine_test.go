package infer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/tokenize"
	"github.com/anchorhold/anchorhold/runtime/weights"
)

func newEngine(t testing.TB, threads, sequences int) (*Engine, *plain) {
	t.Helper()
	src, f := realModel(t)
	e, err := New(Config{Source: src, File: f, Budget: arena.NewBudget(3 << 30), Threads: threads, Context: 1024, MaxSequences: sequences})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e, src
}

func question(t testing.TB, e *Engine, text string) []int32 {
	t.Helper()
	ids, err := e.Template().Encode(e.Tokenizer(), []tokenize.Message{{Role: "user", Content: text}}, true)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func answer(t testing.TB, e *Engine, req Request) (string, Result) {
	t.Helper()
	var text strings.Builder
	r, err := e.Generate(context.Background(), req, func(s string) error { text.WriteString(s); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return text.String(), r
}

func TestRealModelAnswersAndEndsItsTurn(t *testing.T) {
	longtest.WithoutRace(t, "the real model is too slow under it; a small one stands in")
	e, _ := newEngine(t, 2, 1)
	text, r := answer(t, e, Request{Prompt: question(t, e, "What is the capital of France?"), MaxTokens: 64})
	if !strings.Contains(text, "Paris") || r.FinishReason != "stop" {
		t.Errorf("%q, %+v", text, r)
	}
	short, r := answer(t, e, Request{Prompt: question(t, e, "What is the capital of France?"), MaxTokens: 3})
	if r.FinishReason != "length" || r.CompletionTokens != 3 || !strings.HasPrefix(text, short) {
		t.Errorf("cut at 3 tokens: %q, %+v", short, r)
	}
	stopped, r := answer(t, e, Request{Prompt: question(t, e, "What is the capital of France?"), MaxTokens: 64, Stop: []string{" Paris"}})
	if r.FinishReason != "stop" || strings.Contains(stopped, "Paris") || !strings.HasPrefix(text, stopped) {
		t.Errorf("stopped before Paris: %q, %+v", stopped, r)
	}
}

func TestAnswersDoNotDependOnWhatRunsBeside(t *testing.T) {
	longtest.WithoutRace(t, "the real model is too slow under it; a small one stands in")
	e, _ := newEngine(t, 2, 4)
	seed := uint64(11)
	requests := []Request{
		{Prompt: question(t, e, "Write a haiku about the sea."), MaxTokens: 24},
		{Prompt: question(t, e, "Tell a story."), MaxTokens: 24, Temperature: 0.9, TopP: 0.95, Seed: &seed},
		{Prompt: question(t, e, strings.Repeat("Count sheep. ", 60)), MaxTokens: 8},
		{Prompt: e.Tokenizer().Encode("Once upon a time", false), MaxTokens: 24},
	}
	var alone []string
	for _, r := range requests {
		text, _ := answer(t, e, r)
		alone = append(alone, text)
	}
	together := make([]string, len(requests))
	var wg sync.WaitGroup
	for i, r := range requests {
		wg.Go(func() {
			_, err := e.Generate(context.Background(), r, func(s string) error { together[i] += s; return nil })
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if !slices.Equal(alone, together) {
		t.Errorf("alone:    %q\ntogether: %q", alone, together)
	}
}

// TestChangedWeightsEndEveryAnswer for as long as they are changed, and leave nothing behind.
func TestChangedWeightsEndEveryAnswer(t *testing.T) {
	longtest.WithoutRace(t, "the real model is too slow under it; a small one stands in")
	e, src := newEngine(t, 1, 1)
	again := Request{Prompt: question(t, e, "Tell a long story."), MaxTokens: 8, Owner: "one"}
	want, _ := answer(t, e, again)
	broken := errors.New("chunk 7 was changed")
	n := 0
	_, err := e.Generate(context.Background(), Request{Prompt: question(t, e, "Tell a long story."), MaxTokens: 100}, func(string) error {
		if n++; n == 3 {
			src.setFail(broken)
		}
		return nil
	})
	if !errors.Is(err, broken) {
		t.Errorf("answer over changed weights: %v", err)
	}
	if _, err := e.Generate(context.Background(), Request{Prompt: []int32{1}, MaxTokens: 1}, nil); !errors.Is(err, broken) {
		t.Errorf("a later answer: %v", err)
	}
	src.setFail(nil)
	if got, _ := answer(t, e, again); got != want {
		t.Errorf("once they are back: %q, want %q", got, want)
	}
}

// TestClosedWeightsEndTheEngine: they do not come back.
func TestClosedWeightsEndTheEngine(t *testing.T) {
	src, f := load(t, smallFile(t))
	e := smallEngine(t, src, f, 1, 1)
	src.setFail(weights.ErrClosed)
	for range 2 {
		if _, err := e.Generate(context.Background(), Request{Prompt: []int32{1}, MaxTokens: 1}, nil); !errors.Is(err, weights.ErrClosed) {
			t.Errorf("an answer over closed weights: %v", err)
		}
		src.setFail(nil)
	}
}

func TestCancellationAndCloseEndAnswers(t *testing.T) {
	longtest.WithoutRace(t, "the real model is too slow under it; a small one stands in")
	e, _ := newEngine(t, 1, 1)
	ctx, cancel := context.WithCancelCause(context.Background())
	reason := errors.New("lease ended")
	_, err := e.Generate(ctx, Request{Prompt: question(t, e, "Tell a story."), MaxTokens: 500}, func(string) error { cancel(reason); return nil })
	if !errors.Is(err, reason) {
		t.Errorf("cancelled: %v", err)
	}
	failed := errors.New("client went away")
	if _, err := e.Generate(context.Background(), Request{Prompt: question(t, e, "Tell a story."), MaxTokens: 500}, func(string) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("emit failed: %v", err)
	}
	if text, _ := answer(t, e, Request{Prompt: question(t, e, "What is the capital of France?"), MaxTokens: 16}); !strings.Contains(text, "Paris") {
		t.Errorf("after a cancelled answer: %q", text)
	}
	_, err = e.Generate(context.Background(), Request{Prompt: question(t, e, "Tell a story."), MaxTokens: 500}, func(string) error {
		go e.Close()
		return nil
	})
	if !errors.Is(err, ErrClosed) {
		t.Errorf("closed under an answer: %v", err)
	}
}

func TestRequestsThatCouldNotRunAreRefused(t *testing.T) {
	longtest.WithoutRace(t, "the real model is too slow under it; a small one stands in")
	e, _ := newEngine(t, 1, 1)
	stops := make([]string, MaxStops+1)
	for name, tc := range map[string]struct {
		req  Request
		want error
	}{
		"empty":            {Request{MaxTokens: 1}, ErrPrompt},
		"too long":         {Request{Prompt: make([]int32, 1024), MaxTokens: 1}, ErrPrompt},
		"no tokens":        {Request{Prompt: []int32{1}}, ErrPrompt},
		"negative token":   {Request{Prompt: []int32{1, -1}, MaxTokens: 1}, ErrPrompt},
		"unknown token":    {Request{Prompt: []int32{int32(e.Tokenizer().Size())}, MaxTokens: 1}, ErrPrompt},
		"many stop texts":  {Request{Prompt: []int32{1}, MaxTokens: 1, Stop: stops}, ErrStop},
		"a long stop text": {Request{Prompt: []int32{1}, MaxTokens: 1, Stop: []string{strings.Repeat("x", MaxStopBytes+1)}}, ErrStop},
	} {
		if _, err := e.Generate(context.Background(), tc.req, nil); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	last := []int32{int32(e.Tokenizer().Size() - 1)}
	answer(t, e, Request{Prompt: last, MaxTokens: 1, Stop: stops[1:]}) // and none of them ended the engine
}

func TestModelThatDoesNotFitIsRefusedWithTheFigure(t *testing.T) {
	longtest.WithoutRace(t, "the real model is too slow under it; a small one stands in")
	src, f := realModel(t)
	_, err := New(Config{Source: src, File: f, Budget: arena.NewBudget(8 << 20), Threads: 1, Context: 1024, MaxSequences: 1})
	var refusal *arena.DoesNotFit
	if !errors.As(err, &refusal) {
		t.Fatalf("a budget of 8 MiB: %v", err)
	}
	need, err := Memory(Config{File: f, Threads: 1, Context: 1024, MaxSequences: 1})
	if err != nil {
		t.Fatal(err)
	}
	budget := arena.NewBudget(need + 16<<10) // two regions, each rounded up to pages
	e, err := New(Config{Source: src, File: f, Budget: budget, Threads: 1, Context: 1024, MaxSequences: 1})
	if err != nil {
		t.Fatalf("in the %d bytes that Memory names: %v", need, err)
	}
	if err := e.Close(); err != nil || budget.Used() != 0 {
		t.Errorf("after Close %d bytes are taken: %v", budget.Used(), err)
	}
}

func BenchmarkDecode(b *testing.B) {
	const tokens = 64
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) {
			e, _ := newEngine(b, threads, 1)
			prompt := e.Tokenizer().Encode("Once upon a time there was a", false)
			var decoding time.Duration
			answers := 0
			for b.Loop() {
				seed := uint64(answers)
				var first time.Time
				r, err := e.Generate(context.Background(), Request{Prompt: prompt, MaxTokens: tokens + 1, Temperature: 1, Seed: &seed}, func(string) error {
					if first.IsZero() {
						first = time.Now()
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
				if r.CompletionTokens == tokens+1 { // an answer that ended early is not counted
					decoding += time.Since(first)
					answers++
				}
			}
			b.ReportMetric(float64(answers*tokens)/decoding.Seconds(), "tok/s")
		})
	}
}

func BenchmarkPrompt(b *testing.B) {
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) {
			e, _ := newEngine(b, threads, 1)
			prompt := make([]int32, 512)
			for i := range prompt {
				prompt[i] = int32(i*37%40000 + 1000)
			}
			tokens, begin := 0, processorTime(b)
			for b.Loop() {
				if _, err := e.Generate(context.Background(), Request{Prompt: prompt, MaxTokens: 1}, func(string) error { return nil }); err != nil {
					b.Fatal(err)
				}
				tokens += len(prompt)
			}
			b.ReportMetric(float64(tokens)/b.Elapsed().Seconds(), "tok/s")
			b.ReportMetric(float64(tokens)/(processorTime(b)-begin).Seconds(), "tok/cpu-s")
		})
	}
}
