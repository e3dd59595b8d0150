package agent

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"runtime"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/infer"
	"github.com/anchorhold/anchorhold/runtime/weights"
)

// contexts are the sizes tried, largest first, when the configuration leaves
// the choice open.
var contexts = [...]int{4096, 2048, 1024, 512, 256}

// usefulContext is the shortest context for which resident weights are
// preferred to streamed ones with a longer context.
const usefulContext = 512

// openModel is a model that a released key opened: weights in the arena and
// the engine over them. It owns the key, to compare later releases with.
type openModel struct {
	settings.Model
	key         *keybuf.Buffer
	keyVersion  uint64
	contextSize int
	threads     int
	limit       int64 // of the whole process, under which it was opened
	budget      *arena.Budget
	weights     *weights.Weights
	engine      *infer.Engine
}

// open opens a sealed model into the memory that the limit leaves. It takes
// ownership of the key, and leaves nothing behind when it fails.
func open(ctx context.Context, cfg settings.Config, m settings.Model, key client.Key, log *slog.Logger) (*openModel, error) {
	publisher, err := settings.Identity(m.Publisher)
	if err != nil {
		key.Key.Wipe()
		return nil, fmt.Errorf("model %s: publisher: %w", m.Name, err)
	}
	var tooLarge *arena.DoesNotFit
	for _, try := range attempts(m) {
		o := &openModel{Model: m, key: key.Key, keyVersion: key.Version, contextSize: try.context, threads: m.Threads, limit: cfg.MemoryLimit()}
		if o.threads == 0 {
			o.threads = runtime.NumCPU()
		}
		err := o.openWith(ctx, cfg, publisher, try.mode)
		if err == nil {
			log.Info("model opened", "model", m.Name, "model_id", o.id(), "key_version", key.Version, "mode", o.weights.Mode().String(),
				"context", o.engine.ContextSize(), "threads", o.threads, "arena_mib", o.budget.Used()>>20)
			return o, nil
		}
		if !errors.As(err, &tooLarge) || ctx.Err() != nil {
			key.Key.Wipe()
			return nil, fmt.Errorf("model %s: %w", m.Name, err)
		}
	}
	key.Key.Wipe()
	return nil, fmt.Errorf("model %s does not fit compute.tee.memory_limit_mb: %d, of which %d MiB stay with the process itself and its requests: %w",
		m.Name, cfg.Compute.TEE.MemoryLimitMB, reserve(cfg)>>20, tooLarge)
}

// attempt is one way to use the memory.
type attempt struct {
	mode    weights.Mode
	context int
}

// attempts are the ways to try, best first: resident weights are many times
// faster than a longer context is useful, as long as a conversation fits.
func attempts(m settings.Model) []attempt {
	sizes := contexts[:]
	if m.Context != 0 {
		sizes = []int{m.Context}
	}
	mode := weights.Mode(m.Mode)
	if mode == "" {
		mode = weights.Auto
	}
	var list []attempt
	if mode == weights.Auto {
		for _, size := range sizes {
			if size >= usefulContext || m.Context != 0 {
				list = append(list, attempt{weights.Resident, size})
			}
		}
		mode = weights.Streamed
	}
	for _, size := range sizes {
		list = append(list, attempt{mode, size})
	}
	return list
}

// openWith maps weights and engine for one context size, or nothing.
func (o *openModel) openWith(ctx context.Context, cfg settings.Config, publisher identity.Public, mode weights.Mode) error {
	limit := cfg.MemoryLimit() - reserve(cfg)
	need, err := o.engineMemory(publisher, limit)
	if err != nil {
		return err
	}
	o.budget = arena.NewBudget(limit)
	o.weights, err = weights.Open(o.Path, o.key, o.budget, o.options(publisher, mode, need))
	if err != nil {
		return err
	}
	if mode == weights.Streamed {
		// Resident weights were all verified while they were decrypted. Streamed
		// ones are verified at each use; a damaged file should not get that far.
		err = o.weights.Public().VerifyChunks(ctx, nil)
	}
	var header *gguf.File
	if err == nil {
		header, err = gguf.ParseHeader(o.weights.Header())
	}
	if err == nil {
		o.engine, err = infer.New(infer.Config{Source: o.weights, File: header, Budget: o.budget, Threads: o.threads,
			Context: o.contextSize, MaxSequences: max(o.Sequences, 1), Kernel: o.Kernel})
	}
	if err != nil {
		return errors.Join(err, o.weights.Close())
	}
	return nil
}

// engineMemory reads the sealed header, which needs little memory, to learn
// what the engine will take: so much must stay free beside the weights.
func (o *openModel) engineMemory(publisher identity.Public, limit int64) (int64, error) {
	w, err := weights.Open(o.Path, o.key, arena.NewBudget(limit), o.options(publisher, weights.Streamed, 0))
	if err != nil {
		return 0, err
	}
	defer w.Close() // wipes what was read only to look at it
	header, err := gguf.ParseHeader(w.Header())
	if err != nil {
		return 0, err
	}
	need, err := infer.Memory(header, o.threads, o.contextSize, max(o.Sequences, 1))
	return need + 64<<10, err // a few regions, each rounded up to pages and guarded
}

func (o *openModel) options(publisher identity.Public, mode weights.Mode, reserve int64) weights.Options {
	return weights.Options{Workers: o.threads, Mode: mode, Publisher: publisher, Name: o.SealedName, MinVersion: o.MinimumVersion, Reserve: reserve}
}

// id is the model's digest in hexadecimal.
func (o *openModel) id() string {
	id := o.weights.ModelID()
	return hex.EncodeToString(id[:])
}

// close ends the engine, which waits for running requests, and wipes weights and key.
func (o *openModel) close() error {
	if o == nil {
		return nil
	}
	err := errors.Join(o.engine.Close(), o.weights.Close())
	o.key.Wipe()
	if err != nil {
		return fmt.Errorf("close model %s: %w", o.Name, err)
	}
	return nil
}
