package openmodel

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/anchorhold/anchorhold/agent/tenure/tenuretest"
	"github.com/anchorhold/anchorhold/runtime/arena"
)

// TestSequencesAreWhatTheLimitHasRoomFor: as many as configured, else as many as fit beside resident weights, the next
// version of the model and a whole context, at most sixteen.
func TestSequencesAreWhatTheLimitHasRoomFor(t *testing.T) {
	g := tenuretest.New(t)
	for name, c := range map[string]struct {
		limit, configured int
		mode              string
		want              int
	}{
		"a large limit": {1024, 0, "", 16},
		"configured":    {1024, 2, "", 2},
		"streamed":      {1024, 0, "streamed", 16},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, m := g.Config, g.Config.Models[0]
			cfg.Compute.TEE.MemoryLimitMB, m.Sequences, m.Mode = c.limit, c.configured, c.mode
			o, err := Open(t.Context(), cfg, m, &Custody{Key: tenuretest.Key(t, tenuretest.ModelKey)}, 1, 0, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := o.Close(); err != nil {
					t.Error(err)
				}
			}()
			if o.AtOnce() != c.want || o.Weights.Resident() == (c.mode == "streamed") {
				t.Errorf("%d answers at a time, resident %t, want %d", o.AtOnce(), o.Weights.Resident(), c.want)
			}
		})
	}
}

// TestSequencesTakeNothingFromWeightsAndContext: under any limit a model opens as it does with one sequence.
func TestSequencesTakeNothingFromWeightsAndContext(t *testing.T) {
	g := tenuretest.New(t)
	cfg, seen := g.Config, map[int]bool{}
	open := func(sequences int) *Model {
		m := cfg.Models[0]
		m.Sequences, m.Context = sequences, 0
		o, err := Open(t.Context(), cfg, m, &Custody{Key: tenuretest.Key(t, tenuretest.ModelKey)}, 1, 0, slog.New(slog.DiscardHandler))
		if _, tooLarge := errors.AsType[*arena.DoesNotFit](err); tooLarge {
			return nil
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
		return o
	}
	for _, more := range []int{0, 1, 2, 3, 4, 6, 9, 40} {
		mb := int(Reserve(cfg)>>20) + more
		cfg.Compute.TEE.MemoryLimitMB = mb
		one, several := open(1), open(0)
		if (one == nil) != (several == nil) {
			t.Fatalf("%d MiB: with one sequence %v, with more %v", mb, one, several)
		}
		if one == nil {
			continue
		}
		if one.Weights.Mode() != several.Weights.Mode() || one.ContextSize() != several.ContextSize() {
			t.Errorf("%d MiB: %s and a context of %d, with one sequence %s and %d", mb, several.Weights.Mode(), several.ContextSize(), one.Weights.Mode(), one.ContextSize())
		}
		seen[several.AtOnce()] = true
	}
	if len(seen) < 2 || !seen[mostSequences] {
		t.Errorf("numbers of sequences: %v, want some, %d among them", seen, mostSequences)
	}
}
