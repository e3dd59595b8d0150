package weights

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/kernels"
)

// Mode is the place of plaintext weights.
type Mode string

// Modes. The empty mode is Auto.
const (
	Auto     Mode = "auto"     // resident if it fits the budget, else streamed
	Resident Mode = "resident" // decrypted once into memory
	Streamed Mode = "streamed" // decrypted chunk by chunk at each use
)

// String is the mode as configuration writes it.
func (m Mode) String() string { return string(m) }

// maxWorkers bounds the workers that may call Chunk at once.
const maxWorkers = 1024

// ErrClosed means that the weights were closed, for example at a lease's end.
var ErrClosed = errors.New("weights: closed")

// Options say how to open a model, and which one is acceptable.
type Options struct {
	Workers    int                 // goroutines that call Chunk, each with its own number below it
	Mode       Mode                // empty is Auto
	Publisher  chunkseal.Publisher // whose signature counts; required
	Name       string              // the model's name; empty accepts any
	MinVersion uint64              // lowest acceptable version
	ModelID    *[32]byte           // the exact model; nil accepts any that the publisher signed

	// Reserve is the part of the budget that Auto leaves for others: caches and scratch memory,
	// mapped later. When Auto streams and Reserve is set, tensors that fit beside it stay in
	// memory.
	Reserve int64
	// Pin is the number of bytes of tensors that Streamed keeps in memory: those that each pass
	// reads whole, in file order, and then an embedding of which it reads rows.
	Pin int64
}

// Weights is an open model. Its methods are safe for concurrent use, with one
// goroutine for each worker number; Close comes after the last of them.
type Weights struct {
	reader  *chunkseal.Reader
	file    *source
	mode    Mode
	layout  layout
	header  *arena.Region
	vectors *arena.Region
	pinned  *arena.Region // of tensors, all or what fits
	ring    *ring         // nil if all tensors are pinned
	closed  atomic.Bool
}

// Open opens the sealed model at path. It reads and checks the manifest, then maps memory, and
// in resident mode decrypts everything. A model that does not fit is an *arena.DoesNotFit, and a
// bad file a *chunkseal.Failure. The caller keeps the key. Once the budget is wiped nothing more
// is decrypted: data that arrives from a slow disk after that ends in ErrClosed.
func Open(path string, key *keybuf.Buffer, budget *arena.Budget, opt Options) (*Weights, error) {
	if opt.Workers < 1 || opt.Workers > maxWorkers {
		return nil, fmt.Errorf("weights: invalid number of workers: %d", opt.Workers)
	}
	file, err := openSource(path, budget.Wiped)
	if err != nil {
		return nil, err
	}
	w := &Weights{file: file}
	w.reader, err = chunkseal.Open(file, file.size, key, chunkseal.OpenOptions{
		Publisher: opt.Publisher, Name: opt.Name, MinVersion: opt.MinVersion, ModelID: opt.ModelID,
	})
	if err == nil {
		w.layout, err = layOut(w.reader)
	}
	if err == nil {
		err = w.load(budget, opt)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("weights: open %s: %w", path, err), w.Close())
	}
	return w, nil
}

// load maps the regions that the mode needs and fills them.
func (w *Weights) load(budget *arena.Budget, opt Options) error {
	pin, err := w.choose(budget.Available(), budget.Limit(), opt)
	if err != nil {
		return err
	}
	w.file.bypassCache()
	if w.header, err = budget.Map("model header", w.layout.headerBytes); err != nil {
		return err
	}
	if w.layout.vectorBytes > 0 {
		if w.vectors, err = budget.Map("vectors", w.layout.vectorBytes); err != nil {
			return err
		}
	}
	if pin.bytes > 0 {
		if w.pinned, err = budget.Map("weights", pin.bytes); err != nil {
			return err
		}
	}
	w.layout.place(w.header.Bytes(), w.vectors, w.pinned, pin)
	if err := w.fill(budget, opt.Workers); err != nil {
		return err
	}
	if w.layout.complete() {
		return nil
	}
	w.ring, err = newRing(w, budget, opt.Workers)
	return err
}

// Memory returns how much Open takes from a budget in a mode with a number of workers, in bytes:
// the amount that stays taken, and the largest amount at once, including buffers that are given
// back.
func (w *Weights) Memory(mode Mode, workers int) (kept, peak int64) {
	slot := w.layout.largestSlot
	kept = arena.Cost(w.layout.headerBytes) + arena.Cost(w.layout.vectorBytes)
	load := loadCost(workers, slot)
	if mode == Resident {
		kept += arena.Cost(w.layout.pin(math.MaxInt64).bytes)
		return kept, kept + load
	}
	ring := ringCost(workers, slot)
	return kept + ring, kept + max(ring, load)
}

// choose decides mode and pinning from what the budget has left.
func (w *Weights) choose(available, limit int64, opt Options) (pinning, error) {
	all := w.layout.pin(math.MaxInt64)
	_, resident := w.Memory(Resident, opt.Workers)
	streamed, _ := w.Memory(Streamed, opt.Workers)
	refuse := func(need int64, how string) error {
		return &arena.DoesNotFit{Need: need, Available: available, Limit: limit, For: "model " + w.reader.Public().Name + ", " + how}
	}
	mode, pin := opt.Mode, opt.Pin
	if mode == Auto || mode == "" {
		mode = Streamed
		if resident+opt.Reserve <= available {
			mode = Resident
		} else if opt.Reserve > 0 {
			pin = available - opt.Reserve - streamed
		}
	}
	w.mode = mode
	switch mode {
	case Resident:
		if resident > available {
			return pinning{}, refuse(resident, "resident")
		}
		return all, nil
	case Streamed:
		if streamed > available {
			return pinning{}, refuse(streamed, "streamed")
		}
		return w.layout.pin(min(pin, available-streamed)), nil
	}
	return pinning{}, fmt.Errorf("unknown mode %q: want auto, resident or streamed", opt.Mode)
}

// Tensor finds a matrix by name.
func (w *Weights) Tensor(name string) (kernels.Tensor, bool) {
	i, ok := w.layout.byName[name]
	if !ok {
		return kernels.Tensor{}, false
	}
	return w.layout.tensors[i].Tensor, true
}

// Vector returns a vector by name. It is in the arena: read-only, until Close.
func (w *Weights) Vector(name string) ([]float32, error) {
	if w.closed.Load() {
		return nil, ErrClosed
	}
	v, ok := w.layout.vectors[name]
	if !ok {
		return nil, fmt.Errorf("weights: the model has no vector %s", name)
	}
	return v.values, nil
}

// Chunk returns the tiles of one chunk of a tensor, by the tensor's ID. They
// are read-only and valid until the same worker's next call, or Close.
func (w *Weights) Chunk(worker, tensor, chunk int) ([]byte, error) {
	if w.closed.Load() {
		return nil, ErrClosed
	}
	if tensor < 0 || tensor >= len(w.layout.tensors) {
		return nil, fmt.Errorf("weights: there is no tensor %d of %d", tensor, len(w.layout.tensors))
	}
	t := &w.layout.tensors[tensor]
	if chunk < 0 || chunk >= t.Chunks {
		return nil, fmt.Errorf("weights: there is no chunk %d of %d of %s", chunk, t.Chunks, t.Name)
	}
	if chunk < t.kept {
		return t.part(chunk), nil
	}
	return w.ring.take(worker, t.first+chunk)
}

// Tiles returns all chunks of a tensor that is whole in memory, one after the other, by the tensor's ID. They are read-only and
// valid until Close.
func (w *Weights) Tiles(tensor int) ([]byte, error) {
	if w.closed.Load() {
		return nil, ErrClosed
	}
	if tensor < 0 || tensor >= len(w.layout.tensors) {
		return nil, fmt.Errorf("weights: there is no tensor %d of %d", tensor, len(w.layout.tensors))
	}
	t := &w.layout.tensors[tensor]
	if t.kept != t.Chunks {
		return nil, fmt.Errorf("weights: %d of %d chunks of %s are in memory", t.kept, t.Chunks, t.Name)
	}
	return t.data[:t.size:t.size], nil
}

// Header returns the source file's header, for gguf.ParseHeader. It is in the arena: read-only,
// until Close. Do not use anything parsed from it later.
func (w *Weights) Header() []byte { return w.header.Bytes() }

// Match refuses a file whose sections are not the tensors of its header, by name, because the
// header says which model this is.
func (w *Weights) Match(f *gguf.File) error {
	for _, t := range f.Tensors {
		v, isVector := w.layout.vectors[t.Name]
		m, isMatrix := w.Tensor(t.Name)
		switch {
		case len(t.Dims) == 1 && isVector && uint64(v.size) == 4*t.Dims[0]:
		case len(t.Dims) == 2 && isMatrix && uint64(m.Cols) == t.Dims[0] && uint64(m.Rows) == t.Dims[1] && m.Type.String() == t.Type.String():
		default:
			return fmt.Errorf("weights: the header has tensor %s of type %s, shape %v; the sealed sections do not", t.Name, t.Type, t.Dims)
		}
	}
	if n := len(w.layout.tensors) + len(w.layout.vectors); n != len(f.Tensors) {
		return fmt.Errorf("weights: %d tensors are sealed, but the header has %d", n, len(f.Tensors))
	}
	return nil
}

// ModelID returns the manifest's root, which names exactly this model.
func (w *Weights) ModelID() [32]byte { return w.reader.Public().Root }

// Public returns the public part of the file, whose signature was verified.
func (w *Weights) Public() *chunkseal.Public { return w.reader.Public() }

// Mode returns Resident or Streamed.
func (w *Weights) Mode() Mode { return w.mode }

// Resident reports whether every chunk stays in memory, so that fetching one again costs
// nothing.
func (w *Weights) Resident() bool { return w.ring == nil }

// BytesRead returns the bytes of chunks that were read from the file since Open began.
func (w *Weights) BytesRead() int64 { return w.file.total.Load() }

// PassBytes returns the bytes of chunks that a pass of a model reads from the file: each one that
// is not kept in memory, once. A row of the embedding, for each token, comes on top.
func (w *Weights) PassBytes() int64 {
	if w.ring == nil {
		return 0
	}
	var n int64
	for _, chunk := range w.ring.order {
		_, size := w.reader.Slot(int(chunk))
		n += int64(size)
	}
	return n
}

// Pinned returns the bytes of tensors that are kept in memory.
func (w *Weights) Pinned() int64 { return int64(len(w.pinned.Bytes())) }

// Close waits for readers, wipes all plaintext and gives the memory back. It
// may be called more than once; nothing may use the weights' memory any more.
func (w *Weights) Close() error {
	if w.closed.Swap(true) {
		return nil
	}
	var err error
	if w.ring != nil {
		err = w.ring.close()
	}
	if w.reader != nil {
		w.reader.Wipe()
	}
	return errors.Join(err, w.pinned.Release(), w.vectors.Release(), w.header.Release(), w.file.close())
}
