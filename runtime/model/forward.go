package model

import (
	"fmt"
	"math"

	"github.com/anchorhold/anchorhold/runtime/kernels"
)

// Forward computes one batch and returns a row of logits (one value for each
// token of the vocabulary) for each input that asked, in their order. The rows
// are valid until the next call. Tokens of one sequence stand in the order of
// their positions, and what precedes them is in the cache already.
func (m *Model) Forward(cache *Cache, batch []Input) ([][]float32, error) {
	if err := m.checkBatch(cache, batch); err != nil {
		return nil, err
	}
	m.rotate(batch)
	if err := m.embed(batch); err != nil {
		return nil, err
	}
	for i := range m.tensors.layers {
		if err := m.block(cache, i, batch); err != nil {
			return nil, fmt.Errorf("block %d: %w", i, err)
		}
	}
	return m.head(batch)
}

// embed writes each token's row of the embedding.
func (m *Model) embed(batch []Input) error {
	e, width := m.tensors.embedding, m.params.Width
	for i, in := range batch {
		chunk := int(in.Token) / e.RowsPerChunk
		data, err := m.src.Chunk(0, e.ID, chunk)
		if err != nil {
			return err
		}
		row := int(in.Token) % e.RowsPerChunk
		size := kernels.TileBytes(e.Type, e.Cols)
		at := row / kernels.TileRows * size
		if len(data) < at+size {
			return fmt.Errorf("chunk %d of %s is short: %w", chunk, e.Name, kernels.ErrShape)
		}
		if err := kernels.UnpackRow(m.scratch.x[i*width:(i+1)*width], data[at:at+size], e.Type, row%kernels.TileRows, width); err != nil {
			return err
		}
	}
	return nil
}

// block is one layer: attention and feed-forward, each around the residual stream.
func (m *Model) block(cache *Cache, index int, batch []Input) error {
	l, s, p, n := &m.tensors.layers[index], m.scratch, m.params, len(batch)
	wide := p.Heads * p.HeadSize

	act, err := m.normalize(l.attentionNorm, n)
	if err != nil {
		return err
	}
	if err := m.products(act, s.norm, output{l.q, s.q}, output{l.k, s.k}, output{l.v, s.v}); err != nil {
		return err
	}
	if err := m.remember(cache, index, batch); err != nil {
		return err
	}
	if err := m.attend(cache, index, batch); err != nil {
		return err
	}
	if act, err = m.quantize(s.attended, wide, n); err != nil {
		return err
	}
	if err := m.products(act, s.attended, output{l.out, s.norm}); err != nil {
		return err
	}
	add(s.x[:n*p.Width], s.norm)

	if act, err = m.normalize(l.feedForwardNorm, n); err != nil {
		return err
	}
	if err := m.products(act, s.norm, output{l.gate, s.gate}, output{l.up, s.up}); err != nil {
		return err
	}
	if act, err = m.activate(n); err != nil {
		return err
	}
	if err := m.products(act, s.gate, output{l.down, s.norm}); err != nil {
		return err
	}
	add(s.x[:n*p.Width], s.norm)
	return nil
}

func add(x, y []float32) {
	y = y[:len(x)]
	for i := range x {
		x[i] += y[i]
	}
}

// normalize writes the norm of the residual stream and quantizes it.
func (m *Model) normalize(weight []float32, n int) (*kernels.Activations, error) {
	s, w := m.scratch, m.params.Width
	act, err := kernels.NewActivations(s.activations, n, w)
	if err != nil {
		return nil, err
	}
	return &act, m.pool.run(n, func(_, t int) error {
		m.set.RMSNorm(s.norm[t*w:(t+1)*w], s.x[t*w:(t+1)*w], weight, m.params.Epsilon)
		act.Quantize(t, s.norm[t*w:(t+1)*w])
		return nil
	})
}

func (m *Model) quantize(x []float32, cols, n int) (*kernels.Activations, error) {
	act, err := kernels.NewActivations(m.scratch.activations, n, cols)
	if err != nil {
		return nil, err
	}
	return &act, m.pool.run(n, func(_, t int) error {
		act.Quantize(t, x[t*cols:(t+1)*cols])
		return nil
	})
}

// activate writes silu(gate) * up over gate and quantizes it.
func (m *Model) activate(n int) (*kernels.Activations, error) {
	s, w := m.scratch, m.params.FeedForward
	act, err := kernels.NewActivations(s.activations, n, w)
	if err != nil {
		return nil, err
	}
	return &act, m.pool.run(n, func(_, t int) error {
		kernels.SiLUMul(s.gate[t*w:(t+1)*w], s.up[t*w:(t+1)*w])
		act.Quantize(t, s.gate[t*w:(t+1)*w])
		return nil
	})
}

// remember rotates queries and keys and stores keys and values.
func (m *Model) remember(cache *Cache, index int, batch []Input) error {
	s, p := m.scratch, m.params
	wide, narrow := p.Heads*p.HeadSize, p.KVHeads*p.HeadSize
	return m.pool.run(len(batch), func(_, t int) error {
		in, turn := batch[t], s.rotation[t*p.RopeDims:(t+1)*p.RopeDims]
		for h := range p.Heads {
			turnPairs(s.q[t*wide+h*p.HeadSize:][:p.RopeDims], turn)
		}
		for h := range p.KVHeads {
			key := s.k[t*narrow+h*p.HeadSize:][:p.HeadSize]
			turnPairs(key[:p.RopeDims], turn)
			at := in.Position * p.HeadSize
			store(cache.keys(in.Slot, index, h)[at:at+p.HeadSize], key)
			store(cache.vals(in.Slot, index, h)[at:at+p.HeadSize], s.v[t*narrow+h*p.HeadSize:][:p.HeadSize])
		}
		return nil
	})
}

// turnPairs rotates neighbouring pairs, as this file format orders them.
func turnPairs(x, turn []float32) {
	for d := 0; d < len(x); d += 2 {
		a, b, cos, sin := x[d], x[d+1], turn[d], turn[d+1]
		x[d] = float32(a*cos) - float32(b*sin)
		x[d+1] = float32(a*sin) + float32(b*cos)
	}
}

func store(dst []uint16, src []float32) {
	for i, v := range src {
		dst[i] = kernels.Float32to16(v)
	}
}

// attend computes causal attention, a task for each token and query head.
func (m *Model) attend(cache *Cache, index int, batch []Input) error {
	s, p := m.scratch, m.params
	wide, group := p.Heads*p.HeadSize, p.Heads/p.KVHeads
	scale := float32(1 / math.Sqrt(float64(p.HeadSize)))
	length := len(s.scores) / m.threads
	return m.pool.run(len(batch)*p.KVHeads, func(worker, task int) error {
		t, kv := task/p.KVHeads, task%p.KVHeads
		in := batch[t]
		keys, vals := cache.keys(in.Slot, index, kv), cache.vals(in.Slot, index, kv)
		scores := s.scores[worker*length:][:in.Position+1]
		for h := kv * group; h < (kv+1)*group; h++ {
			q := s.q[t*wide+h*p.HeadSize:][:p.HeadSize]
			m.set.Scores(scores, q, keys, scale)
			kernels.Softmax(scores)
			m.set.WeightedSum(s.attended[t*wide+h*p.HeadSize:][:p.HeadSize], scores, vals)
		}
		return nil
	})
}

// output is one matrix product of a stage: where it comes from and goes to.
type output struct {
	tensor kernels.Tensor
	dst    []float32
}

// piece is the number of row groups that one task computes of a resident
// chunk: small enough to share a matrix among workers, large enough to pay.
const piece = 6

// products multiplies the same activations with one to three matrices. x holds
// the unquantized activations for tensors that are not quantized.
func (m *Model) products(act *kernels.Activations, x []float32, outs ...output) error {
	total := 0
	for _, o := range outs {
		total += m.tasks(o.tensor)
	}
	return m.pool.run(total, func(worker, task int) error {
		for _, o := range outs {
			if n := m.tasks(o.tensor); task >= n {
				task -= n
				continue
			}
			return m.product(worker, task, act, x, o)
		}
		return nil
	})
}

// parts is the number of tasks that share one chunk.
func (m *Model) parts(t kernels.Tensor) int {
	if !m.shared || m.threads == 1 {
		return 1
	}
	return (t.RowsPerChunk/kernels.TileRows + piece - 1) / piece
}

func (m *Model) tasks(t kernels.Tensor) int { return t.Chunks * m.parts(t) }

// product computes one task: a chunk, or a part of one.
func (m *Model) product(worker, task int, act *kernels.Activations, x []float32, o output) error {
	t, parts := o.tensor, m.parts(o.tensor)
	chunk := task / parts
	rows, first := t.ChunkRows(chunk), 0
	if parts > 1 {
		first = task % parts * piece * kernels.TileRows
		rows = min(rows-first, piece*kernels.TileRows)
		if rows <= 0 {
			return nil
		}
	}
	data, err := m.src.Chunk(worker, t.ID, chunk)
	if err != nil {
		return err
	}
	size := kernels.TileBytes(t.Type, t.Cols)
	from, to := first/kernels.TileRows*size, (first+rows+kernels.TileRows-1)/kernels.TileRows*size
	if to > len(data) {
		return fmt.Errorf("chunk %d of %s is short: %w", chunk, t.Name, kernels.ErrShape)
	}
	stride := (t.Rows + kernels.TileRows - 1) / kernels.TileRows * kernels.TileRows
	return m.set.MatMul(o.dst[chunk*t.RowsPerChunk+first:], stride, data[from:to], t.Type, rows, act, x)
}

// head computes the logits of the tokens that asked.
func (m *Model) head(batch []Input) ([][]float32, error) {
	s, w := m.scratch, m.params.Width
	n := 0
	for i, in := range batch {
		if in.Output { // gather the rows that are wanted at the front
			copy(s.x[n*w:(n+1)*w], s.x[i*w:(i+1)*w])
			n++
		}
	}
	if n == 0 {
		return nil, nil
	}
	act, err := m.normalize(m.tensors.outputNorm, n)
	if err != nil {
		return nil, err
	}
	if err := m.products(act, s.norm, output{m.tensors.output, s.logits}); err != nil {
		return nil, err
	}
	rows := make([][]float32, n)
	stride := len(s.logits) / m.outputs
	for i := range rows {
		rows[i] = s.logits[i*stride:][:m.params.Vocabulary]
	}
	return rows, nil
}
