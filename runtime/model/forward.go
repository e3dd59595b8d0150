package model

import (
	"fmt"

	"github.com/anchorhold/anchorhold/runtime/kernels"
)

// Forward computes one batch and returns a row of logits (one value for each token of the
// vocabulary) for each input that asks for it, in their order. The rows are valid until the next
// call. Tokens of one sequence are in the order of their positions, and everything before them
// is already in the cache.
func (m *Model) Forward(cache *Cache, batch []Input) ([][]float32, error) {
	if err := m.checkBatch(cache, batch); err != nil {
		return nil, err
	}
	m.at.cache, m.at.batch = cache, batch
	m.pool.many = 0
	if len(batch) >= manyTokens {
		m.pool.many = 1
	}
	m.rotate(batch)
	m.cut(batch)
	if err := m.embed(batch); err != nil {
		return nil, err
	}
	for i := range m.tensors.layers {
		if err := m.block(i); err != nil {
			return nil, fmt.Errorf("block %d: %w", i, err)
		}
	}
	return m.head()
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
		scale(m.scratch.x[i*width:(i+1)*width], m.params.EmbeddingScale)
	}
	return nil
}

// scale multiplies values by a factor, most often 1.
func scale(x []float32, by float32) {
	if by == 1 {
		return
	}
	for i := range x {
		x[i] *= by
	}
}

// jobs are the kinds of work that the workers share. They are bound once, and
// what a job works on lies in Model.at, so that a forward pass takes no memory.
type jobs struct{ normalize, quantize, activate, remember, attend, contribute, multiply *job }

// stage is what the job at hand works on. It changes only between jobs.
type stage struct {
	cache  *Cache
	batch  []Input
	layer  int
	weight []float32           // of the norm
	x      []float32           // values to quantize, and unquantized inputs of products
	cols   int                 // of each token
	act    kernels.Activations // what products multiply
	outs   [3]output
	bias   []float32 // of the contribution
	norm   []float32 // likewise
	tokens int       // of a job of tokens
	each   int       // likewise, of a task
}

// output is one matrix product of a stage: where it comes from and goes to.
type output struct {
	tensor *kernels.Tensor // nil for none
	dst    []float32
}

func (m *Model) bind() {
	m.jobs = jobs{normalize: m.tokenJob(m.normalizeToken), quantize: m.tokenJob(m.quantizeToken), activate: m.tokenJob(m.activateToken),
		remember: m.tokenJob(m.rememberToken), attend: &job{m.attendHeads}, contribute: m.tokenJob(m.contributeToken), multiply: &job{m.multiplyPart}}
}

// tokenJob is a job for [Model.runTokens].
func (m *Model) tokenJob(do func(worker, token int) error) *job {
	return &job{func(worker, task int) error {
		for t := task * m.at.each; t < min((task+1)*m.at.each, m.at.tokens); t++ {
			if err := do(worker, t); err != nil {
				return err
			}
		}
		return nil
	}}
}

// runTokens runs a job for each of n tokens. A task has up to 16, two tasks a worker, and a multiple of 4 where there are
// so many: workers that write neighbouring tokens' codes would take cache lines from each other.
func (m *Model) runTokens(n int, j *job) error {
	m.at.tokens, m.at.each = n, max(1, min(16, n/(2*m.threads)&^3))
	return m.pool.run(ceilDiv(n, m.at.each), j)
}

// block is one layer: attention and feed-forward, each around the residual stream.
func (m *Model) block(layer int) error {
	l, s, n := &m.tensors.layers[layer], m.scratch, len(m.at.batch)
	m.at.layer = layer
	if err := m.normalize(l.attentionNorm, n, m.batch); err != nil {
		return err
	}
	inputs := [3]output{{l.q, s.q}, {l.k, s.k}, {l.v, s.v}}
	if l.qkv != nil {
		inputs = [3]output{{l.qkv, s.q}}
	}
	if err := m.products(inputs); err != nil {
		return err
	}
	if err := m.runTokens(n, m.jobs.remember); err != nil {
		return err
	}
	if err := m.pool.run(len(m.spans)*m.params.KVHeads, m.jobs.attend); err != nil {
		return err
	}
	if err := m.inputs(m.jobs.quantize, s.attended, m.params.Heads*m.params.HeadSize, n, m.batch); err != nil {
		return err
	}
	if err := m.contribute(l.out, l.outBias, l.attentionPost); err != nil {
		return err
	}
	if err := m.normalize(l.feedForwardNorm, n, m.batch); err != nil {
		return err
	}
	if err := m.products([3]output{{l.gate, s.gate}, {l.up, s.up}}); err != nil {
		return err
	}
	if err := m.inputs(m.jobs.activate, s.gate, m.params.FeedForward, n, m.batch); err != nil {
		return err
	}
	return m.contribute(l.down, l.downBias, l.feedForwardPost)
}

// contribute computes a product, its norm if it has one, and adds it to the residual stream.
func (m *Model) contribute(t *kernels.Tensor, bias, norm []float32) error {
	if err := m.products([3]output{{t, m.scratch.norm}}); err != nil {
		return err
	}
	m.at.bias, m.at.norm = bias, norm
	return m.runTokens(len(m.at.batch), m.jobs.contribute)
}

func (m *Model) contributeToken(_, t int) error {
	w := m.params.Width
	y := m.scratch.norm[t*w : (t+1)*w]
	addBias(y, m.at.bias)
	if m.at.norm != nil {
		m.set.RMSNorm(y, y, m.at.norm, m.params.Epsilon)
	}
	scale(y, m.params.ResidualScale)
	add(m.scratch.x[t*w:(t+1)*w], y)
	return nil
}

func add(x, y []float32) {
	y = y[:len(x)]
	for i := range x {
		x[i] += y[i]
	}
}

// addBias adds a bias, which may be nil.
func addBias(row, bias []float32) {
	if bias != nil {
		add(row[:len(bias)], bias)
	}
}

// inputs makes x, cols values for each of n tokens, the inputs of the next
// products, through a job that quantizes. There is room for the outputs of room tokens.
func (m *Model) inputs(j *job, x []float32, cols, n, room int) error {
	act, err := m.set.NewPadded(m.scratch.activations, n, cols, room)
	if err != nil {
		return err
	}
	m.at.act, m.at.x, m.at.cols = act, x, cols
	return m.runTokens(n, j)
}

// normalize writes the norm of the residual stream and quantizes it.
func (m *Model) normalize(weight []float32, n, room int) error {
	m.at.weight = weight
	return m.inputs(m.jobs.normalize, m.scratch.norm, m.params.Width, n, room)
}

func (m *Model) normalizeToken(_, t int) error {
	a, w := &m.at, m.params.Width
	m.set.RMSNorm(a.x[t*w:(t+1)*w], m.scratch.x[t*w:(t+1)*w], a.weight, m.params.Epsilon)
	m.set.Quantize(&a.act, t, a.x[t*w:(t+1)*w])
	return nil
}

func (m *Model) quantizeToken(_, t int) error {
	a := &m.at
	m.set.Quantize(&a.act, t, a.x[t*a.cols:(t+1)*a.cols])
	return nil
}

// activateToken adds the biases, writes the activated gate times up over gate and quantizes it.
func (m *Model) activateToken(_, t int) error {
	a, w := &m.at, m.params.FeedForward
	l, gate := &m.tensors.layers[a.layer], a.x[t*w:(t+1)*w]
	up := m.scratch.up[t*w : (t+1)*w]
	if m.params.family.fused {
		both := m.scratch.up[2*t*w : 2*(t+1)*w]
		copy(gate, both[:w])
		up = both[w:]
	}
	addBias(gate, l.gateBias)
	addBias(up, l.upBias)
	if m.params.family.gelu {
		m.set.GELUMul(gate, up)
	} else {
		m.set.SiLUMul(gate, up)
	}
	m.set.Quantize(&a.act, t, gate)
	return nil
}

// products multiplies the inputs with one to three matrices.
func (m *Model) products(outs [3]output) error {
	m.at.outs = outs
	total := 0
	for _, o := range m.at.outs {
		total += m.tasks(o.tensor)
	}
	return m.pool.run(total, m.jobs.multiply)
}

// multiplyPart finds the product that a task belongs to.
func (m *Model) multiplyPart(worker, task int) error {
	for i := range m.at.outs {
		o := &m.at.outs[i]
		n := m.tasks(o.tensor)
		if task < n {
			return m.product(worker, task, o)
		}
		task -= n
	}
	return nil
}

// Of a resident matrix, a task computes some row groups: few enough to share the matrix among workers, and
// enough to pay: for few tokens, two tasks a worker, or so many bytes that reading them outlasts the time until they flow; for many tokens,
// groups that share what it takes to begin, and the codes that are read with them, and as many tasks for each worker.
const (
	fewGroups, manyGroups = 6, 20
	manyTokens            = 8
	taskBytes             = 384 << 10
)

// groups is the number of row groups of a task; 0 for a matrix that is streamed, whose tasks are chunks.
func (m *Model) groups(t *kernels.Tensor) int {
	if m.whole == nil {
		return 0
	}
	all := ceilDiv(t.Rows, kernels.TileRows)
	if m.at.act.Tokens() >= manyTokens {
		tasks := ceilDiv(ceilDiv(all, manyGroups), m.threads) * m.threads // as many for each worker
		return max(fewGroups, ceilDiv(all, tasks))
	}
	return max(1, min(taskBytes/kernels.TileBytes(t.Type, t.Cols), ceilDiv(all, 2*m.threads)))
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

func (m *Model) tasks(t *kernels.Tensor) int {
	if t == nil {
		return 0
	}
	if groups := m.groups(t); groups != 0 {
		return ceilDiv(t.Rows, groups*kernels.TileRows)
	}
	return t.Chunks
}

// product computes one task: a chunk, or some row groups.
func (m *Model) product(worker, task int, o *output) error {
	t := o.tensor
	data, first, rows, err := m.part(worker, task, t)
	if err != nil {
		return err
	}
	stride := ceilDiv(t.Rows, kernels.TileRows) * kernels.TileRows
	return m.set.MatMul(o.dst[first:], stride, data, t.Type, rows, &m.at.act, m.at.x)
}

// part returns the tiles of a task, its first row and the number of rows.
func (m *Model) part(worker, task int, t *kernels.Tensor) (data []byte, first, rows int, err error) {
	groups := m.groups(t)
	if groups == 0 {
		data, err = m.src.Chunk(worker, t.ID, task)
		return data, task * t.RowsPerChunk, t.ChunkRows(task), err
	}
	if data, err = m.whole.Tiles(t.ID); err != nil {
		return nil, 0, 0, err
	}
	size, from := kernels.TileBytes(t.Type, t.Cols), task*groups
	to := min(from+groups, ceilDiv(t.Rows, kernels.TileRows))
	if to*size > len(data) {
		return nil, 0, 0, fmt.Errorf("%s is short: %w", t.Name, kernels.ErrShape)
	}
	first = from * kernels.TileRows
	return data[from*size : to*size], first, min(groups*kernels.TileRows, t.Rows-first), nil
}

// head computes the logits of the tokens that asked.
func (m *Model) head() ([][]float32, error) {
	s, w := m.scratch, m.params.Width
	n := 0
	for i, in := range m.at.batch {
		if in.Output { // gather the rows that are wanted at the front
			copy(s.x[n*w:(n+1)*w], s.x[i*w:(i+1)*w])
			n++
		}
	}
	if n == 0 {
		return nil, nil
	}
	if err := m.normalize(m.tensors.outputNorm, n, m.outputs); err != nil {
		return nil, err
	}
	if err := m.products([3]output{{&m.tensors.output, s.logits}}); err != nil {
		return nil, err
	}
	rows := m.rows[:n]
	stride := len(s.logits) / m.outputs
	for i := range rows {
		rows[i] = s.logits[i*stride:][:m.params.Vocabulary]
		scale(rows[i], m.params.LogitScale)
	}
	return rows, nil
}
