package model

import (
	"errors"
	"fmt"
	"slices"

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

// resident is what a Source has besides if its chunks may stay in memory: then tasks need not be chunks.
type resident interface {
	// Resident reports whether all of them do.
	Resident() bool
	// Tiles returns all chunks of a matrix, one after the other, until the source is closed.
	Tiles(tensor int) ([]byte, error)
}

// residentIn is the source's memory, or nil if it is streamed.
func residentIn(s Source) resident {
	if r, ok := s.(resident); ok && r.Resident() {
		return r
	}
	return nil
}

// layer is one block's tensors. Those that its architecture lacks are nil.
type layer struct {
	attentionNorm, feedForwardNorm []float32
	queryNorm, keyNorm             []float32 // of each head
	attentionPost, feedForwardPost []float32 // of what is added to the residual stream
	q, k, v                        *kernels.Tensor
	qkv                            *kernels.Tensor // in place of the three
	out, gate, up, down            *kernels.Tensor // fused, up makes gate and inner values
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

// resolver looks tensors up and keeps the first thing that is wrong.
type resolver struct {
	src   Source
	wrong error
}

func (r *resolver) fail(format string, args ...any) {
	if r.wrong == nil {
		r.wrong = fmt.Errorf(format, args...)
	}
}

// matrix finds a matrix; of any number of rows if rows is 0.
func (r *resolver) matrix(name string, rows, cols int) kernels.Tensor {
	m, ok := r.src.Tensor(name)
	switch {
	case !ok:
		r.fail("%w: tensor %s is missing", ErrTensors, name)
	case rows != 0 && m.Rows != rows || m.Cols != cols || !m.Type.Known() || m.RowsPerChunk < kernels.TileRows || m.RowsPerChunk%kernels.TileRows != 0 ||
		m.Chunks != (m.Rows+m.RowsPerChunk-1)/m.RowsPerChunk || m.Rows < 1 || m.Rows > maxVocab:
		r.fail("%w: tensor %s is %s of %d by %d; want %d by %d", ErrTensors, name, m.Type, m.Rows, m.Cols, rows, cols)
	}
	return m
}

// vector finds a vector of n finite values.
func (r *resolver) vector(name string, n int) []float32 {
	v, err := r.src.Vector(name)
	if err != nil {
		r.fail("model: %w", err)
	} else if len(v) != n {
		r.fail("%w: vector %s has %d values, want %d", ErrTensors, name, len(v), n)
	}
	for i, x := range v {
		if x-x != 0 {
			r.fail("%w: value %d of vector %s is not a finite number", ErrTensors, i, name)
		}
	}
	return v
}

// factors finds a vector whose values divide frequencies.
func (r *resolver) factors(name string, n int) []float32 {
	v := r.vector(name, n)
	for i, x := range v {
		if !(x > 0) {
			r.fail("%w: value %d of %s is %v; it divides a frequency, so it must be positive", ErrTensors, i, name, x)
		}
	}
	return v
}

// resolve finds all tensors of a model that computes sequences of up to context positions.
func resolve(src Source, p *Params, context int) (*tensors, error) {
	t, r := &tensors{}, &resolver{src: src}
	t.embedding = r.matrix("token_embd.weight", 0, p.Width)
	p.Vocabulary = t.embedding.Rows
	t.output = t.embedding
	if _, ok := src.Tensor("output.weight"); ok {
		t.output = r.matrix("output.weight", p.Vocabulary, p.Width)
	}
	t.outputNorm = r.vector("output_norm.weight", p.Width)
	switch {
	case !p.RopeFactors:
	case !p.longRope():
		t.ropeFactors = r.factors(RopeFactorsName, p.RopeDims/2)
	default:
		short, long := r.factors(RopeShortName, p.RopeDims/2), r.factors(RopeLongName, p.RopeDims/2)
		if t.ropeFactors = short; context > p.Scaling.Original {
			t.ropeFactors = long
		}
	}
	for i := range p.Layers {
		t.layers = append(t.layers, r.layer(p, i))
		if r.wrong != nil {
			break
		}
	}
	if r.wrong != nil {
		return nil, r.wrong
	}
	return t, nil
}

// layer finds the tensors of a block.
func (r *resolver) layer(p *Params, block int) layer {
	at := fmt.Sprintf("blk.%d.", block)
	norms, shapes := p.norms(), p.matrices()
	norm := func(part string) []float32 {
		if n, ok := norms[part]; ok {
			return r.vector(at+part+".weight", n)
		}
		return nil
	}
	product := func(part string) *kernels.Tensor {
		if shape, ok := shapes[part]; ok {
			m := r.matrix(at+part+".weight", shape.rows, shape.cols)
			return &m
		}
		return nil
	}
	bias := func(part string) []float32 {
		if name := at + part + ".bias"; p.Biases[name] || p.family.bound && slices.Contains(p.family.biased, part) {
			return r.vector(name, shapes[part].rows)
		}
		return nil
	}
	return layer{
		attentionNorm: norm("attn_norm"), feedForwardNorm: norm("ffn_norm"),
		queryNorm: norm("attn_q_norm"), keyNorm: norm("attn_k_norm"),
		attentionPost: norm("post_attention_norm"), feedForwardPost: norm("post_ffw_norm"),
		q: product("attn_q"), k: product("attn_k"), v: product("attn_v"), qkv: product("attn_qkv"), out: product("attn_output"),
		gate: product("ffn_gate"), up: product("ffn_up"), down: product("ffn_down"),
		qBias: bias("attn_q"), kBias: bias("attn_k"), vBias: bias("attn_v"), outBias: bias("attn_output"),
		gateBias: bias("ffn_gate"), upBias: bias("ffn_up"), downBias: bias("ffn_down"),
	}
}
