package infer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
	"github.com/anchorhold/anchorhold/runtime/servable"
)

func embedderConfig(t *testing.T, architecture string, edit func(*gguftest.Model)) (Config, *plain) {
	t.Helper()
	m := gguftest.Of(architecture, 3)
	if edit != nil {
		edit(m)
	}
	b, err := m.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	src, f := load(t, path)
	return Config{Source: src, File: f, Budget: arena.NewBudget(64 << 20), Threads: 2, Context: 4096, Kernel: "auto"}, src
}

func newEmbedder(t *testing.T, architecture string) (*Embedder, *plain) {
	t.Helper()
	cfg, src := embedderConfig(t, architecture, nil)
	e, err := NewEmbedder(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if used := cfg.Budget.Used(); used != 0 {
			t.Errorf("%d bytes are left after closing", used)
		}
	})
	need, err := Memory(cfg)
	if used := cfg.Budget.Used(); err != nil || used < need || used > need+64<<10 {
		t.Errorf("%d bytes are taken, %d were announced: %v", used, need, err)
	}
	return e, src
}

// vectors are those of texts, copied.
func (e *Embedder) vectors(ctx context.Context, texts ...string) (list [][]float32, err error) {
	var tokens [][]int32
	for _, text := range texts {
		ids, err := e.Tokens(ctx, text)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, ids)
	}
	err = e.Embed(ctx, tokens, func(v []float32) error {
		list = append(list, slices.Clone(v))
		return nil
	})
	return list, err
}

// TestVectorsAreTheSameInEveryCompany: alone, in passes of several texts, and beside other calls.
func TestVectorsAreTheSameInEveryCompany(t *testing.T) {
	for _, architecture := range gguftest.Encoders {
		e, _ := newEmbedder(t, architecture)
		texts := []string{"the cat", "a", "", strings.Repeat("dog ", 20), "zebra crossing!", strings.Repeat("n", 60), "x y z"}
		var want [][]float32
		for _, text := range texts {
			one, err := e.vectors(t.Context(), text)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, one[0])
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				got, err := e.vectors(t.Context(), texts...)
				if err != nil || len(got) != len(want) {
					t.Errorf("%d vectors, %v", len(got), err)
					return
				}
				for i := range want {
					if !slices.Equal(got[i], want[i]) {
						t.Errorf("%s: the vector of %.20q differs", architecture, texts[i])
					}
				}
			})
		}
		wg.Wait()
	}
}

func TestTextsThatDoNotFitAreRefused(t *testing.T) {
	e, _ := newEmbedder(t, "bert")
	if e.ContextSize() != gguftest.EncoderContext || e.Width() != gguftest.Width {
		t.Errorf("context %d, width %d", e.ContextSize(), e.Width())
	}
	for n, fits := range map[int]bool{gguftest.EncoderContext - 2: true, gguftest.EncoderContext - 1: false, 1 << 18: false} {
		_, err := e.vectors(t.Context(), "a", strings.Repeat("a ", n))
		if fits != (err == nil) || !fits && !errors.Is(err, ErrPrompt) {
			t.Errorf("%d words: %v", n, err)
		}
	}
	for name, tokens := range map[string][]int32{"no token": {}, "a negative one": {-1}, "one too large": {2, 59}} {
		if err := e.Embed(t.Context(), [][]int32{tokens}, nil); !errors.Is(err, ErrPrompt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEmbedderEnds(t *testing.T) {
	e, src := newEmbedder(t, "nomic-bert")
	ended, cancel := context.WithCancelCause(t.Context())
	left := errors.New("the client left")
	cancel(left)
	if _, err := e.vectors(ended, "a"); !errors.Is(err, left) && !errors.Is(err, context.Canceled) {
		t.Errorf("after its context's end: %v", err)
	}
	full := errors.New("nobody reads")
	tokens := [][]int32{{2, 7, 3}}
	if err := e.Embed(t.Context(), tokens, func([]float32) error { return full }); !errors.Is(err, full) {
		t.Errorf("whose answer nobody takes: %v", err)
	}
	changed := errors.New("a chunk was changed")
	src.setFail(changed)
	if _, err := e.vectors(t.Context(), "a"); !errors.Is(err, changed) {
		t.Errorf("with changed weights: %v", err)
	}
	src.setFail(nil)
	if _, err := e.vectors(t.Context(), "a"); err != nil {
		t.Errorf("once they are back: %v", err)
	}
	if err := errors.Join(e.Close(), e.Close()); err != nil {
		t.Error(err)
	}
	if _, err := e.vectors(t.Context(), "a"); !errors.Is(err, ErrClosed) {
		t.Errorf("when closed: %v", err)
	}
}

func TestModelsOfTheOtherKindAreRefused(t *testing.T) {
	cfg, _ := embedderConfig(t, "bert", nil)
	cfg.MaxSequences = 1
	if e, err := New(cfg); err == nil {
		t.Error("an embedding model answers", e.Close())
	}
	if !Embeds(cfg.File) {
		t.Error("bert is no embedding model")
	}
	cfg, _ = embedderConfig(t, "llama", nil)
	if e, err := NewEmbedder(cfg); err == nil {
		t.Error("a generative model embeds", e.Close())
	}
	if Embeds(cfg.File) || cfg.Budget.Used() != 0 {
		t.Errorf("llama is an embedding model, or %d bytes are left", cfg.Budget.Used())
	}
	cfg, _ = embedderConfig(t, "bert", func(m *gguftest.Model) { m.Set("bert.pooling_type", uint32(4)) })
	var unsupported *servable.Error
	if _, err := NewEmbedder(cfg); !errors.As(err, &unsupported) {
		t.Errorf("a model that ranks: %v", err)
	}
	cfg, _ = embedderConfig(t, "bert", nil)
	cfg.Budget = arena.NewBudget(1 << 12)
	var large *arena.DoesNotFit
	if _, err := NewEmbedder(cfg); !errors.As(err, &large) {
		t.Errorf("without memory: %v", err)
	}
}
