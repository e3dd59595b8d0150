package infer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/weights"
)

// processBytes is what an agent needs beside weights and engine, about.
const processBytes = 24 << 20

// BenchmarkMixedResidency decodes with Qwen2.5-Coder-1.5B under three limits, with what fits in
// memory and, for comparison, with nothing kept there: seconds of time and of the processor for a
// token, and what is read for it.
func BenchmarkMixedResidency(b *testing.B) {
	cache, err := os.UserCacheDir()
	if err != nil {
		b.Skipf("NO REAL MODEL: %v", err)
	}
	in := filepath.Join(cache, "anchorhold", "models", "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf")
	if _, err := os.Stat(in); err != nil {
		b.Skipf("NO REAL MODEL: run `make model MODEL=qwen`, which fetches it: %v", err)
	}
	_, open := sealedFile(b, in)
	for _, mib := range []int64{2048, 512, 256, 128} {
		for _, reserve := range []int64{1, 0} {
			if mib == 2048 && reserve == 0 {
				continue
			}
			b.Run(fmt.Sprintf("MiB=%d/mixed=%t", mib, reserve == 1), func(b *testing.B) {
				measureDecoding(b, open, mib<<20-processBytes, reserve == 1)
			})
		}
	}
}

func measureDecoding(b *testing.B, open sealedOpener, limit int64, mixed bool) {
	const context512 = 512
	budget := arena.NewBudget(limit)
	look := open(arena.NewBudget(64<<20), weights.Options{Workers: 2, Mode: weights.Streamed})
	need, err := Memory(Config{File: header(b, look), Threads: 2, Context: context512, MaxSequences: 1})
	if err != nil {
		b.Fatal(err)
	}
	opt := weights.Options{Workers: 2, Mode: weights.Streamed}
	if mixed {
		opt.Mode, opt.Reserve = weights.Auto, need+64<<10
	}
	if err := look.Close(); err != nil {
		b.Fatal(err)
	}
	w := open(budget, opt)
	defer w.Close()
	e, err := New(Config{Source: w, File: header(b, w), Budget: budget, Threads: 2, Context: context512, MaxSequences: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	prompt := e.Tokenizer().Encode("def quicksort(a):", false)
	const tokens = 5
	var wall, processor time.Duration
	var read int64
	n := 0
	for b.Loop() {
		var begin time.Time
		var used time.Duration
		var from int64
		r, err := e.Generate(context.Background(), Request{Prompt: prompt, MaxTokens: tokens + 1}, func(string) error {
			if begin.IsZero() {
				begin, used, from = time.Now(), processorTime(b), w.BytesRead()
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		wall, processor, read = wall+time.Since(begin), processor+processorTime(b)-used, read+w.BytesRead()-from
		n += r.CompletionTokens - 1
	}
	b.ReportMetric(wall.Seconds()/float64(n), "s/token")
	b.ReportMetric(processor.Seconds()/float64(n), "cpu-s/token")
	b.ReportMetric(float64(read)/float64(n)/1e6, "MB-read/token")
	b.ReportMetric(float64(w.PassBytes())/1e6, "MB/pass")
	b.ReportMetric(float64(w.Pinned())/1e6, "MB-pinned")
	b.ReportMetric(0, "ns/op")
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return time.Duration(t.Nano())
}
