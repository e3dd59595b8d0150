package model

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/kernels"
)

// MaxBatch is the largest number of tokens of one forward pass.
const MaxBatch = 128

// Config is everything that a model computes with.
type Config struct {
	// Source gives the weights.
	Source Source
	// Params is the shape.
	Params Params
	// Kernels is the set of kernels.
	Kernels *kernels.Set
	// Threads is the number of workers; each may call Source.Chunk.
	Threads int
	// Budget gives all scratch memory.
	Budget *arena.Budget
	// Batch is the largest batch, at most MaxBatch; Outputs the largest number
	// of its tokens whose logits are wanted; Context the longest sequence.
	Batch, Outputs, Context int
}

// Model computes forward passes, one at a time.
type Model struct {
	params  Params
	tensors *tensors
	src     Source
	set     *kernels.Set
	pool    *pool
	whole   resident // nil if weights are streamed
	threads int
	scratch *scratch
	outputs int
	batch   int

	turns []turn // of the rotation: of all blocks, or of global and of local ones
	jobs  jobs
	at    stage
	spans []span
	rows  [][]float32 // of logits, for the caller
}

// New resolves and checks all tensors, takes scratch memory and starts the workers. Tensors that
// do not match the model's header are ErrTensors.
func New(cfg Config) (*Model, error) {
	if cfg.Threads < 1 || cfg.Threads > 1024 || cfg.Batch < 1 || cfg.Batch > MaxBatch || cfg.Outputs < 1 || cfg.Outputs > cfg.Batch || cfg.Context < 1 {
		return nil, fmt.Errorf("model: %d threads, batch %d, outputs %d or context %d is out of range", cfg.Threads, cfg.Batch, cfg.Outputs, cfg.Context)
	}
	if p := &cfg.Params; p.EmbeddingScale == 0 || p.ResidualScale == 0 || p.AttentionScale == 0 || p.LogitScale == 0 {
		return nil, errors.New("model: a scale is 0: the parameters are not those of a header")
	}
	if cfg.Params.family.encoder {
		return nil, errors.New("model: an embedding model has no logits")
	}
	t, err := resolve(cfg.Source, &cfg.Params, cfg.Context)
	if err != nil {
		return nil, err
	}
	m := &Model{params: cfg.Params, tensors: t, src: cfg.Source, whole: residentIn(cfg.Source), set: cfg.Kernels, threads: cfg.Threads, outputs: cfg.Outputs, batch: cfg.Batch}
	if m.scratch, err = newScratch(cfg, m.params); err != nil {
		return nil, err
	}
	m.bind()
	m.spans = make([]span, 0, cfg.Batch)
	m.rows = make([][]float32, cfg.Outputs)
	m.turns = m.params.turns(t.ropeFactors)
	m.pool = newPool(cfg.Threads)
	return m, nil
}

// Params is the model's shape, with the vocabulary's size.
func (m *Model) Params() Params { return m.params }

// Close ends the workers and wipes the scratch memory.
func (m *Model) Close() error {
	m.pool.close()
	return m.scratch.region.Release()
}

// scratch is the memory of one forward pass, one region.
type scratch struct {
	region *arena.Region
	// token-major, batch rows each
	x, norm, q, k, v, attended, gate, up []float32
	logits                               []float32   // outputs rows
	rotation                             []float32   // cosine and sine of each pair, for each token; for each of Model.turns
	attention                            []attention // of each worker
	activations                          []byte
}

// sizes are the lengths of the parts of scratch memory, in the order of parts, which attention follows,
// and the bytes of the activations.
func sizes(p Params, threads, batch, outputs, context int) (floats [11]int, activations int) {
	wide, narrow := p.Heads*p.HeadSize, p.KVHeads*p.HeadSize
	q, k, up, turns := wide, narrow, p.FeedForward, 1
	if p.family.fused { // q holds keys and values as well, up the gate's values
		q, k, up = wide+2*narrow, 0, 2*p.FeedForward
	}
	if p.family.globalEvery != 0 {
		turns = 2
	}
	pad := func(n int) int { return (n + kernels.TileRows - 1) / kernels.TileRows * kernels.TileRows }
	return [...]int{
		batch * p.Width, batch * pad(p.Width), batch * pad(q), batch * pad(k), batch * pad(k), batch * wide,
		batch * pad(p.FeedForward), batch * pad(up), outputs * pad(p.Vocabulary), turns * batch * p.RopeDims, threads * attentionFloats(p, context),
	}, kernels.ActivationBytes(batch, max(p.Width, p.FeedForward, wide))
}

func (s *scratch) parts() [10]*[]float32 {
	return [...]*[]float32{&s.x, &s.norm, &s.q, &s.k, &s.v, &s.attended, &s.gate, &s.up, &s.logits, &s.rotation}
}

// lines rounds a part up to whole cache lines, so that workers share none.
func lines(n int) int { return (n + 15) / 16 * 16 }

// ScratchBytes is the memory that New takes for one configuration.
func ScratchBytes(p Params, threads, batch, outputs, context int) int64 {
	floats, total := sizes(p, threads, batch, outputs, context)
	for _, n := range floats {
		total += 4 * lines(n)
	}
	return int64(total)
}

func newScratch(cfg Config, p Params) (*scratch, error) {
	floats, act := sizes(p, cfg.Threads, cfg.Batch, cfg.Outputs, cfg.Context)
	total := ScratchBytes(p, cfg.Threads, cfg.Batch, cfg.Outputs, cfg.Context)
	region, err := cfg.Budget.Map("scratch memory", total)
	if err != nil {
		return nil, err
	}
	s := &scratch{region: region}
	data := region.Bytes()
	memory := unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(data))), len(data)/4)
	for i, part := range s.parts() {
		*part = memory[:floats[i]:floats[i]]
		memory = memory[lines(floats[i]):]
	}
	s.takeAttention(memory, cfg.Threads, p, cfg.Context)
	s.activations = data[len(data)-act:]
	return s, nil
}

// takeAttention lays out what each worker computes attention with.
func (s *scratch) takeAttention(memory []float32, threads int, p Params, context int) {
	each := attentionFloats(p, context)
	for i := range threads {
		s.attention = append(s.attention, newAttention(memory[i*each:(i+1)*each], p, context))
	}
}

// Input is one token of a batch.
type Input struct {
	// Token is the token's number.
	Token int32
	// Slot is the sequence in the cache, Position its place in the sequence.
	Slot, Position int
	// Output asks for the logits after this token.
	Output bool
}

// ErrInput means a batch that is too large, or that refers to a place outside the cache or the
// vocabulary.
var ErrInput = errors.New("model: batch out of range")

func (m *Model) checkBatch(cache *Cache, batch []Input) error {
	outputs := 0
	for _, in := range batch {
		if in.Token < 0 || int(in.Token) >= m.params.Vocabulary || in.Slot < 0 || in.Slot >= cache.slots || in.Position < 0 || in.Position >= cache.length {
			return fmt.Errorf("%w: token %d, slot %d, position %d", ErrInput, in.Token, in.Slot, in.Position)
		}
		if in.Output {
			outputs++
		}
	}
	if len(batch) == 0 || len(batch) > m.batch || outputs > m.outputs {
		return fmt.Errorf("%w: %d tokens, %d outputs", ErrInput, len(batch), outputs)
	}
	return cache.ahead(batch)
}
