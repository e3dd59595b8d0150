package classifier

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/runtime/arena"
)

// ErrClosed means that the model was closed, for example at a lease's end.
var ErrClosed = errors.New("classifier: closed")

// Options say which sealed model is acceptable. The zero value accepts none.
type Options struct {
	Publisher  chunkseal.Publisher // whose signature counts; required
	Name       string              // the model's name; empty accepts any
	MinVersion uint64              // lowest acceptable version
	ModelID    *[32]byte           // the exact file; nil accepts any that the publisher signed
}

// Model is a classifier in memory. It is safe for concurrent use; each goroutine infers
// with a Runner of its own.
type Model struct {
	description Description
	public      *chunkseal.Public // nil for a model that was not sealed
	budget      *arena.Budget
	wiped       atomic.Bool // by Wipe: what was computed since may be of zeros

	mu         sync.RWMutex // held for reading while an inference runs
	closed     bool
	parameters intnet.Parameters // in region
	region     *arena.Region
	packed     *arena.Region
	layers     []layer
}

// layer is what the kernel needs of one layer.
type layer struct {
	intnet.Geometry
	packed     []int64
	bias       []int32
	multiplier []uint32
	negative   []uint32
	place      []int32 // of each output among the sums of a position
}

// Open opens the sealed classifier at path. A model that does not fit is an *arena.DoesNotFit,
// and a bad file a *chunkseal.Failure. The caller keeps the key.
func Open(path string, key *keybuf.Buffer, budget *arena.Budget, opt Options) (*Model, error) {
	m, err := open(path, key, budget, opt)
	if err != nil {
		return nil, fmt.Errorf("classifier: open %s: %w", path, err)
	}
	return m, nil
}

// untilWiped hands nothing on that comes from a slow disk after the budget was wiped:
// it would be decrypted into memory that nobody looks at any more.
type untilWiped struct {
	io.ReaderAt
	budget *arena.Budget
}

func (u untilWiped) ReadAt(b []byte, offset int64) (int, error) {
	n, err := u.ReaderAt.ReadAt(b, offset)
	if u.budget.Wiped() {
		return 0, arena.ErrWiped
	}
	return n, err
}

func open(path string, key *keybuf.Buffer, budget *arena.Budget, opt Options) (*Model, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	r, err := chunkseal.Open(untilWiped{f, budget}, info.Size(), key, chunkseal.OpenOptions{Publisher: opt.Publisher, Name: opt.Name, MinVersion: opt.MinVersion, ModelID: opt.ModelID})
	if err != nil {
		return nil, err
	}
	defer r.Wipe()
	m := &Model{budget: budget, public: r.Public()}
	if err := m.load(r); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// New makes a model from parameters in ordinary memory, which it copies.
func New(d *Description, p intnet.Parameters, budget *arena.Budget) (*Model, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	n := &intnet.Network{Architecture: d.Architecture, Parameters: p}
	if err := n.Check(); err != nil {
		return nil, err
	}
	m := &Model{budget: budget, description: *d}
	err := m.reserve()
	if err == nil {
		appendParameters(m.region.Bytes()[:0], n)
		err = m.prepare()
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// reserve maps the memory of the parameters, exactly.
func (m *Model) reserve() (err error) {
	m.region, err = m.budget.Map("classifier parameters", int64(parametersBytes(m.description.Architecture)))
	return err
}

// prepare checks the parameters that lie in memory, and packs them for the kernel.
func (m *Model) prepare() (err error) {
	if m.parameters, err = viewParameters(m.region.Bytes(), m.description.Architecture); err != nil {
		return err
	}
	list := m.description.Architecture.Geometries()
	total := 0
	for _, g := range list {
		total += wordsOf(g)
	}
	if m.packed, err = m.budget.Map("classifier kernels", 8*int64(total)); err != nil {
		return err
	}
	all := view[int64](m.packed.Bytes(), total)
	for i, g := range list {
		p := m.parameters.Layers[i]
		n := wordsOf(g)
		l := layer{Geometry: g, packed: all[:n:n], bias: p.Bias, multiplier: p.Multiplier, negative: p.Negative}
		for o := range g.Biases() {
			l.place = append(l.place, int32(sumOf(g, o)))
		}
		m.layers = append(m.layers, l)
		pack(all[:n], p.Weights, g)
		all = all[n:]
	}
	return nil
}

// Description describes the model. The caller must not change it.
func (m *Model) Description() *Description { return &m.description }

// Public returns the public part of the sealed file, whose signature was verified; nil for a
// model that was not sealed. Its Root is the chunk root of a model id.
func (m *Model) Public() *chunkseal.Public { return m.public }

// WithParameters calls use with the parameters, which are in the arena: they are read-only, and
// must not be used after use returns. If they were wiped meanwhile, the error is ErrClosed.
func (m *Model) WithParameters(use func(intnet.Parameters) error) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return ErrClosed
	}
	if err := use(m.parameters); err != nil {
		return err
	}
	return m.intact()
}

// Wipe clears the parameters in place while others may still use them: it is for a model whose
// user hangs, for which Close would wait. An inference that runs meanwhile ends with ErrClosed,
// never with another network's answer. Close must still be called to give the memory back.
func (m *Model) Wipe() {
	m.wiped.Store(true)
	m.budget.WipeRegion(m.packed)
	m.budget.WipeRegion(m.region)
}

// intact is the last word of whoever used the parameters.
func (m *Model) intact() error {
	if m.wiped.Load() || m.budget.Wiped() {
		return ErrClosed
	}
	return nil
}

// Close waits for running inferences, wipes the parameters and gives the memory back. It may be
// called more than once. Runners of the model refuse from then on, and must be closed
// themselves.
func (m *Model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed, m.layers, m.parameters = true, nil, intnet.Parameters{}
	return errors.Join(m.packed.Release(), m.region.Release())
}
