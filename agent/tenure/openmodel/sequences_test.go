package openmodel

import (
	"errors"
	"log/slog"
	"runtime/debug"
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

// TestTheHeapGetsWhatModelsKeepFreeForIt: what an open model leaves free for several answers the collector knows of, until the
// model is closed; another version beside it leaves it free as well.
func TestTheHeapGetsWhatModelsKeepFreeForIt(t *testing.T) {
	g := tenuretest.New(t)
	cfg := g.Config
	cfg.Compute.TEE.MemoryLimitMB = 1024
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	LimitHeap(cfg, 1)
	alone := debug.SetMemoryLimit(-1)
	o, err := Open(t.Context(), cfg, cfg.Models[0], &Custody{Key: tenuretest.Key(t, tenuretest.ModelKey)}, 1, 0, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	const several = (mostSequences - 1) * heapOfAnswer
	if more := debug.SetMemoryLimit(-1) - alone; more != several {
		t.Errorf("the heap has %d bytes more with a model for %d answers, want %d", more, o.AtOnce(), several)
	}
	if held := o.Held() - o.Memory.Used(); held != HeapLimit+several {
		t.Errorf("beside its memory the model takes %d bytes of the limit, want %d", held, HeapLimit+several)
	}
	LimitHeap(cfg, 2)
	if more := debug.SetMemoryLimit(-1) - alone; more != HeapLimit+several {
		t.Errorf("the heap has %d bytes more for two models, want %d", more, HeapLimit+several)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
	<-o.Gone
	if more := debug.SetMemoryLimit(-1) - alone; more != HeapLimit {
		t.Errorf("the heap keeps %d bytes of a model that is closed", more-HeapLimit)
	}
	cfg.Compute.TEE.MemoryLimitMB = int(Reserve(cfg) >> 20) // no model has room
	if _, err := Open(t.Context(), cfg, cfg.Models[0], &Custody{Key: tenuretest.Key(t, tenuretest.ModelKey)}, 1, 0, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a model opened without room")
	}
	if more := debug.SetMemoryLimit(-1) - alone; more != HeapLimit {
		t.Errorf("the heap has %d bytes of a model that did not open", more-HeapLimit)
	}
}
