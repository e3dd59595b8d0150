package openmodel

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
var contexts = [...]int{4096, 3072, 2048, 1536, 1024, 768, 512, 256}

// usefulContext is the shortest context for which resident weights are
// preferred to streamed ones with a longer context.
const usefulContext = 512

// Model is a model that a released key opened: weights in the arena and
// the engine over them. It owns the key, to compare later releases with.
type Model struct {
	settings.Model
	*Custody
	// Gone is closed once the memory is given back.
	Gone chan struct{}
	// KeyVersion is the version of the key that opened it.
	KeyVersion uint64
	// Threads compute with it.
	Threads int
	// Limit is that of the whole process under which it was opened.
	Limit int64
	// Memory is the budget of weights and engine, Taken the part of it that the model before
	// holds; nil if there was none.
	Memory *arena.Budget
	Taken  *arena.Region
	// Weights and one of the others are open until Close, and never changed: Embedder of an
	// embedding model, Engine of any other.
	Weights  *weights.Weights
	Engine   *infer.Engine
	Embedder *infer.Embedder

	contextSize int
	sequences   int       // answers at a time, once that is decided and the configuration leaves it open
	positions   int       // tokens that they have room for together, likewise
	heap        int64     // what its vocabulary takes beyond the reserve
	once        sync.Once // closes it
	closeErr    error     // once's
}

// Open opens a sealed model into the memory that the limit leaves, with the key of
// the custody, of that version, while so many bytes of the limit stay taken. It leaves
// nothing behind when it fails. Once the custody is wiped it decrypts nothing more.
func Open(ctx context.Context, cfg settings.Config, m settings.Model, held *Custody, version uint64, taken int64, log *slog.Logger) (*Model, error) {
	publisher, err := settings.Identity(m.Publisher)
	if err != nil {
		held.Wipe()
		return nil, fmt.Errorf("model %s: publisher: %w", m.Name, err)
	}
	if err := releaseProgram(); err != nil {
		log.Warn("pages of the program stay in memory", "error", err)
	}
	var tooLarge *arena.DoesNotFit
	var heap int64
	for _, try := range attempts(m) {
		o := &Model{Model: m, Custody: held, Gone: make(chan struct{}), KeyVersion: version, contextSize: try.context, Threads: threads(m), Limit: cfg.MemoryLimit()}
		err := o.openWith(ctx, cfg, publisher, try.mode, taken)
		if err == nil {
			log.Info("model opened", "model", m.Name, "model_id", o.ID(), "key_version", version, "mode", o.Weights.Mode().String(),
				"context", o.ContextSize(), "sequences", o.AtOnce(), "threads", o.Threads, "arena_mib", o.Memory.Used()>>20, "kept_mib", o.Weights.Pinned()>>20, "cache_mib", o.CacheBytes()>>20, "saved_by_windows_mib", o.SavedByWindows()>>20)
			return o, nil
		}
		heap = o.heap
		if !errors.As(err, &tooLarge) || ctx.Err() != nil {
			held.Wipe()
			return nil, fmt.Errorf("model %s: %w", m.Name, held.notGranted(m, err))
		}
	}
	held.Wipe()
	return nil, doesNotFit(cfg, m, heap, tooLarge)
}

func doesNotFit(cfg settings.Config, m settings.Model, heap int64, err error) error {
	if m.MemoryMB > 0 {
		return fmt.Errorf("model %s does not fit: its part of compute.tee.memory_limit_mb is %d MiB: %w", m.Name, m.MemoryMB, err)
	}
	return fmt.Errorf("model %s does not fit: compute.tee.memory_limit_mb is %d, of which the process and its requests need %d MiB: %w",
		m.Name, cfg.Compute.TEE.MemoryLimitMB, (Reserve(cfg)+heap)>>20, err)
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
// faster than a longer context is useful, as long as a conversation fits. Else a part is streamed.
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
	}
	for _, size := range sizes {
		list = append(list, attempt{mode, size})
	}
	return list
}

// openWith maps weights and engine for one context size, or nothing.
func (o *Model) openWith(ctx context.Context, cfg settings.Config, publisher identity.Public, mode weights.Mode, taken int64) (err error) {
	limit := room(cfg, o.Model)
	need, err := o.engineMemory(publisher, mode, limit-taken)
	if err != nil {
		return err
	}
	giveHeap(o.heapBeyond())
	defer func() {
		if err != nil {
			giveHeap(-o.heapBeyond())
		}
	}()
	limit -= o.heap
	o.Memory = o.Budget(limit)
	if taken > 0 {
		if o.Taken, err = o.Memory.Charge("the model before", taken); err != nil {
			return err
		}
	}
	if mode == weights.Auto {
		need += verifying
	}
	o.Weights, err = weights.Open(o.Path, o.Key, o.Memory, o.options(publisher, mode, need))
	if err != nil {
		return err
	}
	if !o.Weights.Resident() {
		// Weights in memory were all verified while they were decrypted. Streamed
		// ones are verified at each use; a damaged file should not get that far.
		err = o.Weights.Public().VerifyChunks(ctx, nil)
	}
	var header *gguf.File
	if err == nil {
		header, err = gguf.ParseHeader(o.Weights.Header())
	}
	if err == nil {
		err = o.Weights.Match(header)
	}
	if err == nil {
		want := o.engineConfig(header, o.contextSize)
		want.Source, want.Budget = o.Weights, o.Memory
		if infer.Embeds(header) {
			o.Embedder, err = infer.NewEmbedder(want)
		} else {
			o.Engine, err = infer.New(want)
		}
	}
	if err != nil {
		return errors.Join(err, o.Weights.Close())
	}
	return nil
}

// engineConfig is what the engine's memory depends on, and its kernels.
func (o *Model) engineConfig(header *gguf.File, context int) infer.Config {
	return infer.Config{File: header, Threads: o.Threads, Context: context, MaxSequences: o.AtOnce(), Positions: o.positions, Cache: o.Model.Cache, Kernel: o.Kernel}
}

// verifying is what the process takes beyond its reserve while it verifies a streamed file, whose
// part in memory would else fill the limit.
const verifying = 2 << 20

// engineMemory reads the sealed header, which needs little memory, to learn
// what the engine will take, which must stay free beside the weights, and what the vocabulary
// takes in the heap. It decides how many answers are made at a time.
func (o *Model) engineMemory(publisher identity.Public, mode weights.Mode, limit int64) (int64, error) {
	w, err := weights.Open(o.Path, o.Key, o.Budget(limit), o.options(publisher, weights.Streamed, 0))
	if err != nil {
		return 0, err
	}
	defer w.Close() // wipes what was read only to look at it
	header, err := gguf.ParseHeader(w.Header())
	if err != nil {
		return 0, err
	}
	o.heap = vocabularyBeyondReserve(header)
	need, err := infer.Memory(o.engineConfig(header, o.contextSize))
	if err != nil || o.Sequences != 0 || infer.Embeds(header) {
		return need + engineRounding, err
	}
	more := o.more(w, mode, limit, need+engineRounding)
	for n := mostSequences; n > 1; n-- {
		o.sequences, o.positions = n, max(o.contextSize, n*o.contextSize/perContext)
		several, err := infer.Memory(o.engineConfig(header, o.contextSize))
		if err != nil {
			return 0, err
		}
		several += int64(n-1) * heapOfAnswer
		if several-need <= more {
			return several + engineRounding, nil
		}
	}
	o.sequences, o.positions = 1, 0
	return need + engineRounding, nil
}

// Where the configuration leaves open how many answers are made at a time, they are mostSequences at most, of which perContext share
// the room of a whole context: one that may become so long has it alone. What a request that runs takes of the heap has room
// in the reserve for one, and beside it for each further one.
const (
	mostSequences = 16
	perContext    = 4
	heapOfAnswer  = 1 << 20
)

// streamedPart is the part of the limit that more than one answer at a time takes from weights, of which the rest is streamed.
const streamedPart = 32

// more is what the limit leaves for more than one answer at a time beside the weights and an engine for one.
func (o *Model) more(w *weights.Weights, mode weights.Mode, limit, engine int64) int64 {
	kept, peak := w.Memory(weights.Resident, o.Threads)
	taken := o.heap + max(kept+engine, peak)
	if mode == weights.Auto { // as weights.Open decides then
		taken = o.heap + peak + engine + verifying
	}
	if mode != weights.Streamed && taken <= limit {
		return spare(limit, taken)
	}
	kept, peak = w.Memory(weights.Streamed, o.Threads)
	return min(limit/streamedPart, spare(limit, o.heap+max(kept+engine, peak)+verifying))
}

// spare is what a model that takes so much of the limit leaves for more than one answer at a time. Where the limit has room
// for its next version beside it, that and its part of the heap stay free.
func spare(limit, taken int64) int64 {
	left, next := limit-taken, taken+HeapLimit
	if left < next {
		return left
	}
	return left - next
}

func (o *Model) options(publisher identity.Public, mode weights.Mode, reserve int64) weights.Options {
	opt := weights.Options{Workers: o.Threads, Mode: mode, Publisher: publisher, Name: o.SealedName, MinVersion: o.MinimumVersion, Reserve: reserve}
	if o.Subject != [32]byte{} {
		opt.ModelID = &o.Subject
	}
	return opt
}

// notGranted says of a file that holds another model than the key is for what to do.
func (c *Custody) notGranted(m settings.Model, err error) error {
	failure, ok := errors.AsType[*chunkseal.Failure](err)
	if !ok || failure.Err.Reason != chunkseal.ReasonModelID {
		return err
	}
	return refusal.New(ReasonNotGranted, "the broker's store says that the key %s is for the model %x, but %s holds another: install the right file, or store the key for this one (anchorhold secret put %s --file KEY --model %s): %w",
		m.Resource, c.Subject, m.Path, m.Resource, m.Path, err)
}

// Receipts says whether receipts of the model's answers verify under a lease with these
// roles: "verify", or why not.
func (o *Model) Receipts(roles protocol.Role) string {
	switch {
	case o.Subject == [32]byte{}:
		return "do not verify: the broker's store does not say which model the key " + o.Resource + " is for (anchorhold secret put --model)"
	case !roles.Has(protocol.RoleServe):
		return "do not verify: the broker's policy does not give this guest the role serve for the key " + o.Resource
	}
	return ReceiptsVerify
}

// ReceiptsVerify is what [Model.Receipts] says of receipts that verify.
const ReceiptsVerify = "verify"

// engine is the one that the model has.
func (o *Model) engine() interface {
	ContextSize() int
	Close() error
} {
	if o.Embedder != nil {
		return o.Embedder
	}
	return o.Engine
}

// ContextSize is the longest text that the model takes, in tokens.
func (o *Model) ContextSize() int { return o.engine().ContextSize() }

// AtOnce is how many answers are made at a time: more wait.
func (o *Model) AtOnce() int { return max(o.Sequences, o.sequences, 1) }

// heapBeyond is what the model keeps free for the Go heap beyond the heap's part of the limit.
func (o *Model) heapBeyond() int64 { return o.heap + int64(max(o.sequences, 1)-1)*heapOfAnswer }

// Held is what the model takes of the limit beside the first one's part of the heap: what another one opens beside.
func (o *Model) Held() int64 { return o.Memory.Used() + HeapLimit + o.heapBeyond() }

// CacheBytes is the memory of keys and values; none of an embedding model.
func (o *Model) CacheBytes() int64 { taken, _ := o.cache(); return taken }

// SavedByWindows is by how much CacheBytes is less than if layers with a window kept all positions.
func (o *Model) SavedByWindows() int64 { _, saved := o.cache(); return saved }

func (o *Model) cache() (taken, saved int64) {
	if o.Engine == nil {
		return 0, 0
	}
	return o.Engine.CacheBytes()
}

// ID is the model's digest in hexadecimal.
func (o *Model) ID() string {
	id := o.Weights.ModelID()
	return hex.EncodeToString(id[:])
}

// Close ends the engine, which waits for running requests, and wipes weights and
// key. What has not let go within CloseGrace is wiped in place: the memory is given
// back whenever it does let go.
func (o *Model) Close() error {
	if o == nil {
		return nil
	}
	o.once.Do(func() { o.closeErr = o.closeNow() })
	return o.closeErr
}

func (o *Model) closeNow() error {
	o.Key.Wipe() // nobody needs it any more; what it opened is open
	closed := make(chan error, 1)
	go func() {
		closed <- errors.Join(o.engine().Close(), o.Weights.Close())
		giveHeap(-o.heapBeyond())
		close(o.Gone)
	}()
	grace := time.NewTimer(CloseGrace)
	defer grace.Stop()
	select {
	case err := <-closed:
		if err != nil {
			return fmt.Errorf("close model %s: %w", o.Name, err)
		}
		return nil
	case <-grace.C:
	}
	o.Wipe()
	return refusal.New(ReasonWipedInUse, "model %s was still in use after %s; its key and weights were wiped all the same", o.Name, CloseGrace)
}
