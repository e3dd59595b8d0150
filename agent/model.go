package agent

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
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
	*custody
	gone        chan struct{} // closed once the memory is given back
	keyVersion  uint64
	contextSize int
	threads     int
	limit       int64 // of the whole process, under which it was opened
	memory      *arena.Budget
	taken       *arena.Region // of the limit, by the model before; nil if there was none
	weights     *weights.Weights
	engine      *infer.Engine
	once        sync.Once // closes it
	closeErr    error

	serving context.Context // requests run under it; ends when the model may not be served any more
	cease   context.CancelCauseFunc
	users   int           // requests that use it; the tenure's lock guards it
	unused  chan struct{} // closed once there are none, if somebody waits for that; same lock
}

// open opens a sealed model into the memory that the limit leaves, with the key of
// the custody, of that version, while so many bytes of the limit stay taken. It leaves
// nothing behind when it fails. Once the custody is wiped it decrypts nothing more.
func open(ctx context.Context, cfg settings.Config, m settings.Model, held *custody, version uint64, taken int64, log *slog.Logger) (*openModel, error) {
	publisher, err := settings.Identity(m.Publisher)
	if err != nil {
		held.wipe()
		return nil, fmt.Errorf("model %s: publisher: %w", m.Name, err)
	}
	var tooLarge *arena.DoesNotFit
	for _, try := range attempts(m) {
		o := &openModel{Model: m, custody: held, gone: make(chan struct{}), keyVersion: version, contextSize: try.context, threads: threads(m), limit: cfg.MemoryLimit()}
		err := o.openWith(ctx, cfg, publisher, try.mode, taken)
		if err == nil {
			log.Info("model opened", "model", m.Name, "model_id", o.id(), "key_version", version, "mode", o.weights.Mode().String(),
				"context", o.engine.ContextSize(), "threads", o.threads, "arena_mib", o.memory.Used()>>20)
			return o, nil
		}
		if !errors.As(err, &tooLarge) || ctx.Err() != nil {
			held.wipe()
			return nil, fmt.Errorf("model %s: %w", m.Name, held.notGranted(m, err))
		}
	}
	held.wipe()
	return nil, doesNotFit(cfg, m, tooLarge)
}

func doesNotFit(cfg settings.Config, m settings.Model, err error) error {
	return fmt.Errorf("model %s does not fit compute.tee.memory_limit_mb: %d, of which %d MiB stay with the process itself and its requests: %w",
		m.Name, cfg.Compute.TEE.MemoryLimitMB, reserve(cfg)>>20, err)
}

func threads(m settings.Model) int {
	if m.Threads == 0 {
		return runtime.NumCPU()
	}
	return m.Threads
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
func (o *openModel) openWith(ctx context.Context, cfg settings.Config, publisher identity.Public, mode weights.Mode, taken int64) error {
	limit := cfg.MemoryLimit() - reserve(cfg)
	need, err := o.engineMemory(publisher, limit-taken)
	if err != nil {
		return err
	}
	o.memory = o.budget(limit)
	if taken > 0 {
		if o.taken, err = o.memory.Charge("the model before", taken); err != nil {
			return err
		}
	}
	o.weights, err = weights.Open(o.Path, o.key, o.memory, o.options(publisher, mode, need))
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
		err = o.weights.Match(header)
	}
	if err == nil {
		o.engine, err = infer.New(infer.Config{Source: o.weights, File: header, Budget: o.memory, Threads: o.threads,
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
	w, err := weights.Open(o.Path, o.key, o.budget(limit), o.options(publisher, weights.Streamed, 0))
	if err != nil {
		return 0, err
	}
	defer w.Close() // wipes what was read only to look at it
	header, err := gguf.ParseHeader(w.Header())
	if err != nil {
		return 0, err
	}
	need, err := infer.Memory(header, o.threads, o.contextSize, max(o.Sequences, 1))
	return need + engineRounding, err
}

func (o *openModel) options(publisher identity.Public, mode weights.Mode, reserve int64) weights.Options {
	opt := weights.Options{Workers: o.threads, Mode: mode, Publisher: publisher, Name: o.SealedName, MinVersion: o.MinimumVersion, Reserve: reserve}
	if o.subject != [32]byte{} {
		opt.ModelID = &o.subject
	}
	return opt
}

// notGranted says of a file that holds another model than the key is for what to do.
func (c *custody) notGranted(m settings.Model, err error) error {
	failure, ok := errors.AsType[*chunkseal.Failure](err)
	if !ok || failure.Err.Reason != chunkseal.ReasonModelID {
		return err
	}
	return refusal.New(ReasonModelNotGranted, "the key %s is for the model %x, as the broker's store says, and %s holds another: install the right file, or store the key for this one (anchorhold secret put %s --file KEY --model %s): %w",
		m.Resource, c.subject, m.Path, m.Resource, m.Path, err)
}

// receipts says whether receipts of the model's answers verify under a lease with these
// roles: "verify", or why not.
func (o *openModel) receipts(roles protocol.Role) string {
	switch {
	case o.subject == [32]byte{}:
		return "do not verify: the broker's store does not say which model the key " + o.Resource + " is for (anchorhold secret put --model)"
	case !roles.Has(protocol.RoleServe):
		return "do not verify: the broker's policy does not give this guest the role serve for the key " + o.Resource
	}
	return receiptsVerify
}

const receiptsVerify = "verify"

// id is the model's digest in hexadecimal.
func (o *openModel) id() string {
	id := o.weights.ModelID()
	return hex.EncodeToString(id[:])
}

// close ends the engine, which waits for running requests, and wipes weights and
// key. What has not let go within closeGrace is wiped in place: the memory is given
// back whenever it does let go.
func (o *openModel) close() error {
	if o == nil {
		return nil
	}
	o.once.Do(func() { o.closeErr = o.closeNow() })
	return o.closeErr
}

func (o *openModel) closeNow() error {
	o.key.Wipe() // nobody needs it any more; what it opened is open
	closed := make(chan error, 1)
	go func() {
		closed <- errors.Join(o.engine.Close(), o.weights.Close())
		close(o.gone)
	}()
	grace := time.NewTimer(closeGrace)
	defer grace.Stop()
	select {
	case err := <-closed:
		if err != nil {
			return fmt.Errorf("close model %s: %w", o.Name, err)
		}
		return nil
	case <-grace.C:
	}
	o.wipe()
	return refusal.New(ReasonWipedInUse, "model %s: something still used it after %s; key and weights were wiped under it", o.Name, closeGrace)
}
