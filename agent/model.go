package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/infer"
	"github.com/anchorhold/anchorhold/runtime/weights"
)

// contexts are the sizes tried, largest first, when the configuration leaves
// the choice open.
var contexts = [...]int{4096, 2048, 1024, 512, 256, 128}

// openModel is a model that a released key opened: weights in the arena and
// the engine over them. It owns the key, to compare later releases with.
type openModel struct {
	Model
	key         *keybuf.Buffer
	keyVersion  uint64
	contextSize int
	budget      *arena.Budget
	weights     *weights.Weights
	engine      *infer.Engine
}

// open opens a sealed model into the memory that the limit leaves. It takes
// ownership of the key, and leaves nothing behind when it fails.
func open(ctx context.Context, cfg Config, m Model, key client.Key, log *slog.Logger) (*openModel, error) {
	sizes := contexts[:]
	if m.Context != 0 {
		sizes = []int{m.Context}
	}
	var tooLarge *arena.DoesNotFit
	for _, size := range sizes {
		o := &openModel{Model: m, key: key.Key, keyVersion: key.Version, contextSize: size}
		err := o.openWith(ctx, cfg)
		if err == nil {
			log.Info("model opened", "model", m.Name, "model_id", o.id(), "key_version", key.Version,
				"mode", o.weights.Mode().String(), "context", size, "arena_mib", o.budget.Used()>>20)
			return o, nil
		}
		if !errors.As(err, &tooLarge) {
			key.Key.Wipe()
			return nil, fmt.Errorf("model %s: %w", m.Name, err)
		}
	}
	key.Key.Wipe()
	return nil, fmt.Errorf("model %s does not fit compute.tee.memory_limit_mb: %d, of which %d MiB stay with the process itself: %w",
		m.Name, cfg.Compute.TEE.MemoryLimitMB, goReserve>>20, tooLarge)
}

// openWith maps weights and engine for one context size, or nothing.
func (o *openModel) openWith(ctx context.Context, cfg Config) error {
	publisher, err := readIdentity(o.Publisher)
	if err != nil {
		return fmt.Errorf("publisher: %w", err)
	}
	threads := o.Threads
	if threads == 0 {
		threads = runtime.NumCPU()
	}
	o.budget = arena.NewBudget(cfg.memoryLimit() - goReserve)
	o.weights, err = weights.Open(o.Path, o.key, o.budget, weights.Options{
		Workers: threads, Mode: o.Mode, MinVersion: o.MinimumVersion, Name: o.Name, Publisher: publisher,
	})
	if err != nil {
		return err
	}
	header, err := gguf.ParseHeader(o.weights.Header())
	if err == nil {
		o.engine, err = infer.New(infer.Config{
			Source: o.weights, File: header, Budget: o.budget, Threads: threads,
			Context: o.contextSize, MaxSequences: max(o.Sequences, 1), Kernel: o.Kernel,
		})
	}
	if err != nil {
		return errors.Join(err, o.weights.Close())
	}
	return nil
}
