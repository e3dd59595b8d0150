package model

import (
	"errors"
	"fmt"

	"github.com/anchorhold/anchorhold/runtime/kernels"
)

// Source gives the weights. runtime/weights implements it over a sealed file;
// tests implement it over a plain one.
type Source interface {
	// Tensor describes a matrix by name.
	Tensor(name string) (kernels.Tensor, bool)
	// Vector returns a float32 vector, valid until the source is closed.
	Vector(name string) ([]float32, error)
	// Chunk returns the plaintext tiles of one chunk, valid until the same
	// worker's next call. Several workers may call at the same time. Its error
	// ends the forward pass.
	Chunk(worker, tensor, chunk int) ([]byte, error)
}

// resident is what a Source says besides if its chunks stay in memory: then
// several workers may share one chunk at no cost.
type resident interface{ Resident() bool }

// layer is one block's tensors.
type layer struct {
	attentionNorm, feedForwardNorm []float32
	q, k, v, out                   kernels.Tensor
	gate, up, down                 kernels.Tensor
	// Of products that have one, else nil.
	qBias, kBias, vBias, outBias, gateBias, upBias, downBias []float32
}

// tensors resolves everything that the forward pass needs, shapes checked.
type tensors struct {
	embedding, output kernels.Tensor
	outputNorm        []float32
	ropeFactors       []float32 // nil if there are none
	layers            []layer
}

// ErrTensors means weights that do not match the model in the header.
var ErrTensors = errors.New("model")

func resolve(src Source, p *Params) (*tensors, error) {
	t := &tensors{}
	var first error
	matrix := func(name string, rows, cols int) kernels.Tensor {
		m, ok := src.Tensor(name)
		switch {
		case first != nil:
		case !ok:
			first = fmt.Errorf("%w: tensor %s is missing", ErrTensors, name)
		case rows != 0 && m.Rows != rows || m.Cols != cols || !m.Type.Known() || m.RowsPerChunk < kernels.TileRows || m.RowsPerChunk%kernels.TileRows != 0 ||
			m.Chunks != (m.Rows+m.RowsPerChunk-1)/m.RowsPerChunk || m.Rows < 1 || m.Rows > maxVocab:
			first = fmt.Errorf("%w: tensor %s is %s of %d by %d; want %d by %d", ErrTensors, name, m.Type, m.Rows, m.Cols, rows, cols)
		}
		return m
	}
	values := func(name string, n int) []float32 {
		v, err := src.Vector(name)
		if first == nil && err != nil {
			first = fmt.Errorf("model: %w", err)
		}
		if first == nil && len(v) != n {
			first = fmt.Errorf("%w: vector %s has %d values, want %d", ErrTensors, name, len(v), n)
		}
		for i, x := range v {
			if first == nil && (x-x != 0) {
				first = fmt.Errorf("%w: value %d of vector %s is not a finite number", ErrTensors, i, name)
			}
		}
		return v
	}
	vector := func(name string) []float32 { return values(name, p.Width) }
	t.embedding = matrix("token_embd.weight", 0, p.Width)
	p.Vocabulary = t.embedding.Rows
	t.output = t.embedding
	if _, ok := src.Tensor("output.weight"); ok {
		t.output = matrix("output.weight", p.Vocabulary, p.Width)
	}
	t.outputNorm = vector("output_norm.weight")
	if p.RopeFactors {
		t.ropeFactors = values(RopeFactorsName, p.RopeDims/2)
		for i, x := range t.ropeFactors {
			if first == nil && !(x > 0) {
				first = fmt.Errorf("%w: value %d of %s is %v; it divides a frequency, so it must be positive", ErrTensors, i, RopeFactorsName, x)
			}
		}
	}
	wide, narrow := p.Heads*p.HeadSize, p.KVHeads*p.HeadSize
	for i := range p.Layers {
		name := func(part string) string { return fmt.Sprintf("blk.%d.%s.weight", i, part) }
		bias := func(part string, n int) []float32 {
			if name := fmt.Sprintf("blk.%d.%s.bias", i, part); p.Biases[name] {
				return values(name, n)
			}
			return nil
		}
		t.layers = append(t.layers, layer{
			attentionNorm: vector(name("attn_norm")), feedForwardNorm: vector(name("ffn_norm")),
			q: matrix(name("attn_q"), wide, p.Width), k: matrix(name("attn_k"), narrow, p.Width), v: matrix(name("attn_v"), narrow, p.Width),
			out:  matrix(name("attn_output"), p.Width, wide),
			gate: matrix(name("ffn_gate"), p.FeedForward, p.Width), up: matrix(name("ffn_up"), p.FeedForward, p.Width),
			down:  matrix(name("ffn_down"), p.Width, p.FeedForward),
			qBias: bias("attn_q", wide), kBias: bias("attn_k", narrow), vBias: bias("attn_v", narrow), outBias: bias("attn_output", p.Width),
			gateBias: bias("ffn_gate", p.FeedForward), upBias: bias("ffn_up", p.FeedForward), downBias: bias("ffn_down", p.Width),
		})
		if first != nil {
			return nil, first
		}
	}
	return t, first
}
