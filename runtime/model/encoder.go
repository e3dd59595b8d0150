package model

import (
	"errors"
	"fmt"
	"math"
	"unsafe"

	"github.com/anchorhold/anchorhold/runtime/kernels"
)

// Pooling is how the outputs of a text's tokens become one vector, numbered as in the key
// pooling_type.
type Pooling int

// The poolings that are computed.
const (
	PoolMean  Pooling = 1 // the mean over all tokens
	PoolFirst Pooling = 2 // that of the first token, [CLS]
)

// Encoder computes the vectors of texts, one batch at a time, without a cache: every token sees all
// of its text. A text's vector is the same to the last bit whatever else is in the batch.
type Encoder struct {
	core    Model // its products, workers and scratch memory
	tensors encoderTensors
	tails   *tails // of GELU
	context int
	batch   int // tokens
	turns   []turn

	pooled []float32   // rows of Width values
	rows   [][]float32 // of pooled, for the caller
	places []place     // of each token
	texts  []place

	at   encoderStage
	jobs encoderJobs
}

// place is where a token is: its text's tokens are numbers first to first+length-1 of the batch.
type place struct{ first, length int }

type encoderStage struct {
	layer *encoderLayer
	norm  *affine
	bias  []float32
	n     int
}

type encoderJobs struct{ remember, attend, settle, activate *job }

// NewEncoder resolves and checks all tensors, takes scratch memory and starts the workers. Of cfg,
// Batch and Outputs are not used: a batch has as many tokens as the longest text, which are Context.
// Tensors that do not match the model's header are ErrTensors.
func NewEncoder(cfg Config) (*Encoder, error) {
	p := cfg.Params
	if cfg.Threads < 1 || cfg.Threads > 1024 || cfg.Context < 1 || cfg.Context > p.Context || !p.family.encoder {
		return nil, fmt.Errorf("model: %d threads or a context of %d is out of range, or the model is no encoder", cfg.Threads, cfg.Context)
	}
	e := &Encoder{context: cfg.Context, batch: cfg.Context, tails: newTails()}
	r := &resolver{src: cfg.Source}
	e.tensors = r.encoder(&p)
	if r.wrong != nil {
		return nil, r.wrong
	}
	e.core = Model{params: p, src: cfg.Source, whole: residentIn(cfg.Source), set: cfg.Kernels, threads: cfg.Threads, batch: cfg.Context, tensors: &tensors{}}
	if err := e.takeMemory(cfg); err != nil {
		return nil, err
	}
	e.places, e.texts = make([]place, 0, e.batch), make([]place, 0, e.batch)
	e.rows = make([][]float32, 0, e.batch)
	e.core.bind()
	e.jobs = encoderJobs{e.core.tokenJob(e.remember), &job{e.attend}, e.core.tokenJob(e.settle), e.core.tokenJob(e.activate)}
	if !p.family.positions {
		e.turns = p.turns(nil)
	}
	e.core.pool = newPool(cfg.Threads)
	return e, nil
}

// encoderSizes are the lengths of the parts of scratch memory in the order of Encoder.parts, and
// the bytes of the activations.
func encoderSizes(p Params, context int) (floats [9]int, activations int) {
	wide := p.Heads * p.HeadSize
	pad := func(n int) int { return (n + kernels.TileRows - 1) / kernels.TileRows * kernels.TileRows }
	q, k, up := pad(wide), pad(wide), 0
	if p.family.gated {
		q, k, up = pad(3*wide), 0, pad(p.FeedForward)
	}
	return [...]int{
		context * p.Width, context * pad(p.Width), context * q, context * k, context * k, context * wide,
		context * pad(p.FeedForward), context * up, context * p.Width,
	}, kernels.ActivationBytes(context, max(p.Width, p.FeedForward, wide))
}

// EncoderBytes is the memory that NewEncoder takes for one configuration.
func EncoderBytes(p Params, threads, context int) int64 {
	floats, total := encoderSizes(p, context)
	total += 4 * threads * attentionFloats(p, context)
	for _, n := range floats {
		total += 4 * lines(n)
	}
	total += 4 * lines(context*p.RopeDims)
	return int64(total)
}

func (e *Encoder) takeMemory(cfg Config) error {
	p := e.core.params
	floats, act := encoderSizes(p, cfg.Context)
	region, err := cfg.Budget.Map("scratch memory", EncoderBytes(p, cfg.Threads, cfg.Context))
	if err != nil {
		return err
	}
	s := &scratch{region: region}
	data := region.Bytes()
	memory := unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(data))), len(data)/4)
	take := func(n int) []float32 {
		part := memory[:n:n]
		memory = memory[lines(n):]
		return part
	}
	for i, part := range []*[]float32{&s.x, &s.norm, &s.q, &s.k, &s.v, &s.attended, &s.gate, &s.up, &e.pooled} {
		*part = take(floats[i])
	}
	s.rotation = take(cfg.Context * p.RopeDims)
	s.activations = data[len(data)-act:]
	s.takeAttention(take(cfg.Threads*attentionFloats(p, cfg.Context)), cfg.Threads, p, cfg.Context)
	e.core.scratch = s
	return nil
}

// Params is the model's shape, with the vocabulary's size.
func (e *Encoder) Params() Params { return e.core.params }

// Batch is the largest number of tokens of one Encode; no text has more either.
func (e *Encoder) Batch() int { return e.batch }

// Close ends the workers and wipes the scratch memory.
func (e *Encoder) Close() error { return e.core.Close() }

// ErrVector means that a text's vector has no direction: its values are not numbers, or all 0.
var ErrVector = errors.New("model: the vector of a text is not a finite number of each dimension")

// Encode computes the vectors of texts, of length 1 and Width values each. A text is its tokens with
// those that enclose it. The rows are valid until the next call.
func (e *Encoder) Encode(texts [][]int32) ([][]float32, error) {
	n, err := e.arrange(texts)
	if err != nil {
		return nil, err
	}
	defer e.wipe(n)
	e.at.n = n
	if err := e.embed(texts); err != nil {
		return nil, err
	}
	for i := range e.tensors.layers {
		if err := e.block(&e.tensors.layers[i]); err != nil {
			return nil, fmt.Errorf("block %d: %w", i, err)
		}
	}
	return e.pool(texts)
}

// arrange checks a batch and gives each token its place.
func (e *Encoder) arrange(texts [][]int32) (n int, err error) {
	e.places, e.texts = e.places[:0], e.texts[:0]
	for _, text := range texts {
		if len(text) == 0 || len(text) > e.context || n+len(text) > e.batch {
			return 0, fmt.Errorf("%w: a text of %d tokens behind %d others, the batch has room for %d", ErrInput, len(text), n, e.batch)
		}
		for _, token := range text {
			if token < 0 || int(token) >= e.core.params.Vocabulary {
				return 0, fmt.Errorf("%w: token %d", ErrInput, token)
			}
			e.places = append(e.places, place{n, len(text)})
		}
		e.texts = append(e.texts, place{n, len(text)})
		n += len(text)
	}
	if n == 0 {
		return 0, fmt.Errorf("%w: no text", ErrInput)
	}
	return n, nil
}

// wipe clears what is left of the texts: the next batch may be another user's.
func (e *Encoder) wipe(n int) {
	s := e.core.scratch
	for _, part := range []*[]float32{&s.x, &s.norm, &s.q, &s.k, &s.v, &s.attended, &s.gate, &s.up} {
		clear((*part)[:len(*part)/e.batch*n])
	}
	for i := range s.attention {
		s.attention[i].wipe()
	}
	clear(s.activations)
}

// embed writes the sum of the embeddings of each token, of its place and of the first kind of
// tokens, normalized. Each table is gone through by itself, since streamed ones are decrypted chunk
// by chunk.
func (e *Encoder) embed(texts [][]int32) error {
	s, width := e.core.scratch, e.core.params.Width
	x, row := s.x, s.norm[:width]
	clear(x[:e.at.n*width])
	add1 := func(t *kernels.Tensor, i, number int) error {
		if err := e.core.row(row, t, number); err != nil {
			return err
		}
		add(x[i*width:(i+1)*width], row)
		return nil
	}
	i := 0
	for _, text := range texts {
		for _, token := range text {
			if err := add1(&e.tensors.embedding, i, int(token)); err != nil {
				return err
			}
			i++
		}
	}
	for i, at := range e.places {
		if e.core.params.family.positions {
			if err := add1(&e.tensors.positions, i, i-at.first); err != nil {
				return err
			}
		}
		e.turn(i, i-at.first)
	}
	if err := e.core.row(row, &e.tensors.types, 0); err != nil {
		return err
	}
	for i := range e.places {
		add(x[i*width:(i+1)*width], row)
		layerNorm(x[i*width:(i+1)*width], &e.tensors.norm, e.core.params.Epsilon)
	}
	return nil
}

// turn fills in the cosines and sines of a token's position.
func (e *Encoder) turn(i, position int) {
	for _, turn := range e.turns {
		row := e.core.scratch.rotation[i*e.core.params.RopeDims:]
		for d, f := range turn.frequencies {
			sin, cos := math.Sincos(float64(position) * f)
			row[2*d], row[2*d+1] = float32(cos), float32(sin)
		}
	}
}

// row unpacks one row of a matrix.
func (m *Model) row(dst []float32, t *kernels.Tensor, number int) error {
	chunk := number / t.RowsPerChunk
	data, err := m.src.Chunk(0, t.ID, chunk)
	if err != nil {
		return err
	}
	number %= t.RowsPerChunk
	size := kernels.TileBytes(t.Type, t.Cols)
	at := number / kernels.TileRows * size
	if len(data) < at+size {
		return fmt.Errorf("chunk %d of %s is short: %w", chunk, t.Name, kernels.ErrShape)
	}
	return kernels.UnpackRow(dst, data[at:at+size], t.Type, number%kernels.TileRows, t.Cols)
}

// layerNorm replaces x by (x - mean) / sqrt(variance + epsilon) * weight + bias.
func layerNorm(x []float32, a *affine, epsilon float32) {
	var sum, squares float64
	for _, v := range x {
		sum += float64(v)
	}
	mean := float32(sum / float64(len(x)))
	for i, v := range x {
		x[i] = v - mean
		squares += float64(x[i]) * float64(x[i])
	}
	inverse := float32(1 / math.Sqrt(squares/float64(len(x))+float64(epsilon)))
	for i, v := range x {
		x[i] = float32(float32(v*inverse)*a.weight[i]) + a.bias[i]
	}
}

// block is one layer: attention and feed-forward part, each added to its input and normalized.
func (e *Encoder) block(l *encoderLayer) error {
	m, s, p, n := &e.core, e.core.scratch, &e.core.params, e.at.n
	e.at.layer = l
	if err := m.inputs(m.jobs.quantize, s.x, p.Width, n, m.batch); err != nil {
		return err
	}

	products := [3]output{{l.q, s.q}, {l.k, s.k}, {l.v, s.v}}
	if p.family.gated {
		products = [3]output{{l.qkv, s.q}}
	}
	if err := m.products(products); err != nil {
		return err
	}
	if err := m.runTokens(n, e.jobs.remember); err != nil {
		return err
	}
	if err := m.pool.run(len(e.texts)*p.Heads, e.jobs.attend); err != nil {
		return err
	}
	if err := m.inputs(m.jobs.quantize, s.attended, p.Heads*p.HeadSize, n, m.batch); err != nil {
		return err
	}
	if err := e.contribute(l.out, l.outBias, &l.attentionNorm); err != nil {
		return err
	}
	if err := m.inputs(m.jobs.quantize, s.x, p.Width, n, m.batch); err != nil {
		return err
	}
	if err := m.products([3]output{{l.gate, s.up}, {l.up, s.gate}}); err != nil {
		return err
	}
	if err := m.inputs(e.jobs.activate, s.gate, p.FeedForward, n, m.batch); err != nil {
		return err
	}
	return e.contribute(l.down, l.downBias, &l.outputNorm)
}

// contribute computes a product, adds it to the residual stream and normalizes that.
func (e *Encoder) contribute(t *kernels.Tensor, bias []float32, norm *affine) error {
	if err := e.core.products([3]output{{t, e.core.scratch.norm}}); err != nil {
		return err
	}
	e.at.norm, e.at.bias = norm, bias
	return e.core.runTokens(e.at.n, e.jobs.settle)
}

func (e *Encoder) settle(_, t int) error {
	s, width := e.core.scratch, e.core.params.Width
	x := s.x[t*width : (t+1)*width]
	add(x, s.norm[t*width:(t+1)*width])
	addBias(x, e.at.bias)
	layerNorm(x, e.at.norm, e.core.params.Epsilon)
	return nil
}

// projections returns a token's queries, keys and values.
func (e *Encoder) projections(t int) (q, k, v []float32) {
	s, wide := e.core.scratch, e.core.params.Heads*e.core.params.HeadSize
	if e.core.params.family.gated {
		all := s.q[t*3*wide:][:3*wide]
		return all[:wide], all[wide : 2*wide], all[2*wide:]
	}
	return s.q[t*wide:][:wide], s.k[t*wide:][:wide], s.v[t*wide:][:wide]
}

// remember adds the biases to a token's queries, keys and values, and rotates queries and keys if the
// architecture does.
func (e *Encoder) remember(_, t int) error {
	p, l := &e.core.params, e.at.layer
	q, k, v := e.projections(t)
	addBias(q, l.qBias)
	addBias(k, l.kBias)
	addBias(v, l.vBias)
	if e.turns == nil {
		return nil
	}
	turn := e.core.scratch.rotation[t*p.RopeDims : (t+1)*p.RopeDims]
	for head := 0; head < p.Heads*p.HeadSize; head += p.HeadSize {
		turnHalves(q[head:head+p.RopeDims], turn)
		turnHalves(k[head:head+p.RopeDims], turn)
	}
	return nil
}

// attend computes one head of all tokens of a text over that text.
func (e *Encoder) attend(worker, task int) error {
	s, p, set := e.core.scratch, &e.core.params, e.core.set
	text, h := e.texts[task/p.Heads], task%p.Heads
	a, at := &s.attention[worker], h*p.HeadSize
	for i := range text.length {
		_, k, v := e.projections(text.first + i)
		set.Halves(a.key, k[at:at+p.HeadSize])
		kernels.PutKey(a.keys, i, a.key)
		set.Halves(a.vals[i*p.HeadSize:(i+1)*p.HeadSize], v[at:at+p.HeadSize])
	}
	for first := 0; first < text.length; first += kernels.MaxQueries {
		n := min(text.length-first, kernels.MaxQueries)
		a.begin(n, p.HeadSize)
		for t := text.first + first; t < text.first+first+n; t++ {
			q, _, _ := e.projections(t)
			a.add(q[at:at+p.HeadSize], p.AttentionScale, s.attended[(t*p.Heads+h)*p.HeadSize:][:p.HeadSize], reach{0, text.length})
		}
		a.compute(set)
	}
	return nil
}

// activate adds the bias and writes the activated inner values over themselves.
func (e *Encoder) activate(_, t int) error {
	a, w, l := &e.core.at, e.core.params.FeedForward, e.at.layer
	inner := a.x[t*w : (t+1)*w]
	if e.core.params.family.gated {
		// The gate goes through SiLU, in place; what it gates is multiplied.
		gate := e.core.scratch.up[t*w : (t+1)*w]
		e.core.set.SiLUMul(gate, inner)
		copy(inner, gate)
	} else {
		addBias(inner, l.upBias)
		e.tails.gelu(inner)
	}
	e.core.set.Quantize(&a.act, t, inner)
	return nil
}

// pool makes one vector of each text, of length 1.
func (e *Encoder) pool(texts [][]int32) ([][]float32, error) {
	x, p := e.core.scratch.x, &e.core.params
	e.rows = e.rows[:0]
	first := 0
	for i, text := range texts {
		row := e.pooled[i*p.Width : (i+1)*p.Width]
		copy(row, x[first*p.Width:])
		if p.Pooling == PoolMean {
			for t := first + 1; t < first+len(text); t++ {
				add(row, x[t*p.Width:(t+1)*p.Width])
			}
		}
		first += len(text)
		var squares float64
		for _, v := range row {
			squares += float64(v) * float64(v)
		}
		length := math.Sqrt(squares)
		if !(length > 0) || math.IsInf(length, 0) {
			return nil, ErrVector
		}
		for i, v := range row {
			row[i] = float32(float64(v) / length)
		}
		e.rows = append(e.rows, row)
	}
	return e.rows, nil
}
