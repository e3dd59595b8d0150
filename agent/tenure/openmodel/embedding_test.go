package openmodel

import (
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/agent/tenure/tenuretest"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
)

// TestSealedEmbeddingModelOpens seals a whole embedding model of each architecture and opens it,
// resident and streamed, with the same vectors; and what does not fit is refused with the figure.
func TestSealedEmbeddingModelOpens(t *testing.T) {
	for _, architecture := range gguftest.Encoders {
		var want []float32
		for _, mode := range []string{"resident", "streamed"} {
			t.Run(architecture+" "+mode, func(t *testing.T) {
				g := tenuretest.New(t)
				b, err := gguftest.Of(architecture, 4).Bytes()
				if err != nil {
					t.Fatal(err)
				}
				in := filepath.Join(t.TempDir(), "bert.gguf")
				if err := os.WriteFile(in, b, 0o600); err != nil {
					t.Fatal(err)
				}
				m := g.Config.Models[0]
				m.Path, m.Mode, m.Context = filepath.Join(t.TempDir(), "bert.ahm"), mode, 0
				g.SealFile(t, in, m.Path, tenuretest.ModelKey, 1)
				fits, err := Examine(t.Context(), g.Config, m, &Custody{Key: tenuretest.Key(t, tenuretest.ModelKey)}, 0)
				if err != nil || !fits {
					t.Fatalf("examined: fits %t, %v", fits, err)
				}
				o, err := Open(t.Context(), g.Config, m, &Custody{Key: tenuretest.Key(t, tenuretest.ModelKey)}, 1, 0, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				if o.Engine != nil || o.Embedder == nil || o.ContextSize() != gguftest.EncoderContext || o.Weights.Mode().String() != mode {
					t.Fatalf("engine %v, context %d, mode %s", o.Engine, o.ContextSize(), o.Weights.Mode())
				}
				ids, err := o.Embedder.Tokens(t.Context(), "The cat!")
				if err != nil {
					t.Fatal(err)
				}
				var got []float32
				err = o.Embedder.Embed(t.Context(), [][]int32{ids}, func(v []float32) error { got = slices.Clone(v); return nil })
				if err != nil || len(got) != gguftest.Width || math.IsNaN(float64(got[0])) {
					t.Fatal(got, err)
				}
				if want == nil {
					want = got
				}
				if !slices.Equal(got, want) {
					t.Error("streamed weights make another vector than resident ones")
				}
				if err := errors.Join(o.Close(), o.Close()); err != nil {
					t.Error(err)
				}
				if used := o.Memory.Used(); used != 0 {
					t.Errorf("%d bytes are left after closing", used)
				}
				g.Config.Compute.TEE.MemoryLimitMB = int(Reserve(g.Config) >> 20)
				_, err = Open(t.Context(), g.Config, m, &Custody{Key: tenuretest.Key(t, tenuretest.ModelKey)}, 1, 0, slog.New(slog.DiscardHandler))
				var large *arena.DoesNotFit
				if !errors.As(err, &large) {
					t.Errorf("without memory: %v", err)
				}
			})
		}
	}
}
