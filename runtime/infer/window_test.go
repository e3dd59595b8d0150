package infer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
	"github.com/anchorhold/anchorhold/runtime/model"
	"github.com/anchorhold/anchorhold/runtime/weights"
)

// windowEngine is an engine over a model whose blocks see the last 8 positions, but for one. For these it keeps 128: the
// window and a pass of 96, in whole tiles.
func windowEngine(t *testing.T, sequences int, cache string) *Engine {
	t.Helper()
	src, f := load(t, windowFile(t))
	return windowEngineOver(t, src, f, sequences, cache)
}

func windowFile(t *testing.T) (path string) {
	t.Helper()
	raw, err := gguftest.Of("gemma3", 3).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "gemma3.gguf")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func windowEngineOver(t *testing.T, src model.Source, f *gguf.File, sequences int, cache string) *Engine {
	t.Helper()
	budget := arena.NewBudget(64 << 20)
	cfg := Config{Source: src, File: f, Budget: budget, Threads: 1, Context: 256, MaxSequences: sequences, Cache: cache}
	want, err := Memory(cfg)
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	if used := budget.Used(); used < want || used > want+64<<10 {
		t.Errorf("the engine takes %d bytes, Memory said %d", used, want)
	}
	taken, saved := e.CacheBytes()
	if saved*(6*128+256) != taken*6*128 { // 6 of 7 blocks keep 128 positions in place of 256
		t.Errorf("the cache takes %d bytes and saves %d", taken, saved)
	}
	return e
}

// likely is how likely a model finds an answer, token by token, and how many tokens of the prompt it did not compute.
func likely(t *testing.T, e *Engine, owner string, prompt, given []int32) (list []float32, reused int) {
	t.Helper()
	r, err := e.Generate(context.Background(), Request{Prompt: prompt, Given: given, Owner: owner, Observe: func(s []Scored) error {
		for _, token := range s {
			list = append(list, token.Logprob)
		}
		return nil
	}}, func(string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return list, r.ReusedTokens
}

// TestPrefixesBehindWindows: a conversation goes on behind what the cache has, and is computed anew where layers with a window
// have lost what its next token would see. Answers and likelihoods are those without a prefix, to the last bit.
func TestPrefixesBehindWindows(t *testing.T) {
	text := pattern(230, 3)
	branch := func(n int, more ...int32) []int32 { return append(slices.Clone(text[:n]), more...) }
	steps := []struct {
		name   string
		prompt []int32
		reused int
	}{
		{"a first turn", text[:100], 0},
		{"its next one", text[:120], 100},
		{"one that parts early, while all is kept", branch(30, 9, 9, 9), 30},
		{"a long one", text[:230], 30},
		{"one that goes on", branch(230, 7, 7), 230},
		{"one that parts a little earlier", branch(215, 8, 8), 215},
		{"one that parts before what is kept", branch(60, 5, 5, 5), 0},
		{"it again", branch(60, 5, 5, 5), 62},
	}
	for _, cache := range []string{"f16", "q8"} {
		e, alone := windowEngine(t, 1, cache), windowEngine(t, 1, cache)
		for _, s := range steps {
			request := Request{Prompt: s.prompt, MaxTokens: 6, Owner: "a"}
			if s.name == "a first turn" || s.name == "a long one" {
				request.MaxTokens = 1
			}
			want, _ := answer(t, alone, Request{Prompt: s.prompt, MaxTokens: request.MaxTokens})
			got, r := answer(t, e, request)
			if got != want {
				t.Errorf("%s, %s: %q, without a prefix %q", cache, s.name, got, want)
			}
			if r.ReusedTokens != s.reused {
				t.Errorf("%s, %s: %d tokens reused, want %d", cache, s.name, r.ReusedTokens, s.reused)
			}
		}
		likely(t, e, "a", text[:200], text[200:220])
		for _, from := range []int{50, 219, 221} {
			given := text[from : from+9]
			want, _ := likely(t, alone, "", text[:from], given)
			got, reused := likely(t, e, "a", text[:from], given)
			if !reflect.DeepEqual(got, want) || len(got) != len(given) {
				t.Errorf("%s: likelihoods from %d on are %v, without a prefix %v", cache, from, got, want)
			}
			if (from == 50) != (reused == 0) {
				t.Errorf("%s: likelihoods from %d on: %d tokens reused", cache, from, reused)
			}
		}
	}
}

// TestWindowsOverSealedWeights: weights that are resident, streamed, or in part one and in part the other give the answers and
// likelihoods of the plain file behind windows, too.
func TestWindowsOverSealedWeights(t *testing.T) {
	in := windowFile(t)
	prompt, given := pattern(200, 3), pattern(20, 5)
	plain := windowEngine(t, 1, "f16")
	want, _ := answer(t, plain, Request{Prompt: prompt, MaxTokens: 30})
	wantLikely, _ := likely(t, plain, "", prompt, given)
	_, open := sealedFile(t, in)
	for name, opt := range map[string]weights.Options{
		"resident": {Mode: weights.Resident, Workers: 1},
		"streamed": {Mode: weights.Streamed, Workers: 1},
		"mixed":    {Mode: weights.Streamed, Workers: 1, Pin: 1 << 20},
	} {
		w := open(arena.NewBudget(16<<20), opt)
		if kept := w.Pinned() > 0; kept != (name != "streamed") || w.Resident() != (name == "resident") {
			t.Errorf("%s: %d bytes of the weights are kept, resident: %t", name, w.Pinned(), w.Resident())
		}
		e := windowEngineOver(t, w, header(t, w), 1, "f16")
		if got, _ := answer(t, e, Request{Prompt: prompt, MaxTokens: 30}); got != want {
			t.Errorf("%s: %q, from the plain file %q", name, got, want)
		}
		if got, _ := likely(t, e, "", prompt, given); !reflect.DeepEqual(got, wantLikely) {
			t.Errorf("%s: likelihoods %v, from the plain file %v", name, got, wantLikely)
		}
	}
}

// TestAnswersBesideOthersBehindWindows: requests of several owners at once, with guesses, give the answers that each has alone.
func TestAnswersBesideOthersBehindWindows(t *testing.T) {
	alone, e := windowEngine(t, 1, "f16"), windowEngine(t, 3, "f16")
	var requests []Request
	var want []string
	for i := range 12 {
		prompt := append(pattern(40+i%4*50, i%3), pattern(i, 7)...)
		requests = append(requests, Request{Prompt: prompt, MaxTokens: 20, Owner: fmt.Sprint(i % 2)})
		text, _ := answer(t, alone, Request{Prompt: prompt, MaxTokens: 20})
		want = append(want, text)
	}
	got := make([]string, len(requests))
	done := make(chan error, len(requests))
	for i, r := range requests {
		go func() {
			_, err := e.Generate(context.Background(), r, func(s string) error { got[i] += s; return nil })
			done <- err
		}()
	}
	for range requests {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("beside others\n%q\nalone\n%q", got, want)
	}
	for slot := range e.slots { // nothing is left of them once they are forgotten
		e.cache.Wipe(slot, 0, e.context)
	}
	if n := valuesLeft(e); n != 0 {
		t.Errorf("%d values left", n)
	}
}

// TestNothingIsLeftBehindWindows: a long answer without an owner is wiped at its end, in layers with a window, too.
func TestNothingIsLeftBehindWindows(t *testing.T) {
	for _, cache := range []string{"f16", "q8"} {
		e := windowEngine(t, 2, cache)
		answer(t, e, Request{Prompt: pattern(200, 1), MaxTokens: 40})
		answer(t, e, Request{Prompt: pattern(40, 1), MaxTokens: 2})
		if n := valuesLeft(e); n != 0 {
			t.Errorf("%s: %d values left", cache, n)
		}
	}
}

// TestMemoryOfWindowedCaches tells what the cache of Gemma 3 270M takes.
func TestMemoryOfWindowedCaches(t *testing.T) {
	longtest.Run(t, "it reads the real Gemma 3")
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cache, "anchorhold", "models", "gemma-3-270m-q4_k_m.gguf")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("NO REAL MODEL: run `make model MODEL=gemma`, which fetches it: %v", err)
	}
	src, f := load(t, path)
	for _, kind := range strings.Fields("f16 q8") {
		for _, length := range []int{512, 1024, 2048, 4096, 8192, 32768} {
			e, err := New(Config{Source: src, File: f, Budget: arena.NewBudget(2 << 30), Threads: 2, Context: length, MaxSequences: 1, Cache: kind})
			if err != nil {
				t.Fatal(err)
			}
			taken, saved := e.CacheBytes()
			t.Logf("%s, context %d: %.1f MB, %.1f MB with all positions: %.2f of it", kind, length, float64(taken)/1e6, float64(taken+saved)/1e6, float64(taken)/float64(taken+saved))
			if length > 1024 && 10*taken > 6*(taken+saved) {
				t.Errorf("%s, context %d: %d bytes, %d with all positions", kind, length, taken, taken+saved)
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
