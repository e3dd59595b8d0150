package model

import (
	"math"
	"unsafe"

	"github.com/anchorhold/anchorhold/runtime/kernels"
)

// projections returns a token's queries, keys and values.
func (m *Model) projections(t int) (q, k, v []float32) {
	s, p := m.scratch, &m.params
	wide, narrow := p.Heads*p.HeadSize, p.KVHeads*p.HeadSize
	if p.family.fused {
		all := s.q[t*(wide+2*narrow):][:wide+2*narrow]
		return all[:wide], all[wide : wide+narrow], all[wide+narrow:]
	}
	return s.q[t*wide:][:wide], s.k[t*narrow:][:narrow], s.v[t*narrow:][:narrow]
}

// rememberToken adds the biases to a token's queries, keys and values, normalizes and rotates
// its queries and keys as its architecture has it, and stores keys and values.
func (m *Model) rememberToken(worker, t int) error {
	p, cache, layer := &m.params, m.at.cache, m.at.layer
	in, l := m.at.batch[t], &m.tensors.layers[layer]
	q, k, v := m.projections(t)
	addBias(q, l.qBias)
	addBias(k, l.kBias)
	addBias(v, l.vBias)
	m.place(q, l.queryNorm, t)
	m.place(k, l.keyNorm, t)
	for h := range p.KVHeads {
		at := h * p.HeadSize
		cache.put(m.set, in.Slot, layer, h, in.Position, k[at:at+p.HeadSize], v[at:at+p.HeadSize], m.scratch.attention[worker].key)
	}
	return nil
}

// place normalizes each head of a token's queries or keys, if there is a norm, and rotates it
// by the token's position.
func (m *Model) place(x, norm []float32, t int) {
	p := &m.params
	turn := m.rotation(t)
	for at := 0; at < len(x); at += p.HeadSize {
		head := x[at : at+p.HeadSize]
		if norm != nil {
			m.set.RMSNorm(head, head, norm, p.Epsilon)
		}
		switch {
		case turn == nil:
		case p.family.halves:
			turnHalves(head[:p.RopeDims], turn)
		default:
			turnPairs(head[:p.RopeDims], turn)
		}
	}
}

// span is some tokens of one sequence that stand one behind the other in a batch.
type span struct{ first, count int }

// cut cuts a batch into spans, whose tokens attend to one head of keys together.
func (m *Model) cut(batch []Input) {
	most := max(1, kernels.MaxQueries/(m.params.Heads/m.params.KVHeads))
	m.spans = m.spans[:0]
	for i, in := range batch {
		if n := len(m.spans); n > 0 {
			last := &m.spans[n-1]
			if before := batch[i-1]; last.count < most && before.Slot == in.Slot && before.Position+1 == in.Position {
				last.count++
				continue
			}
		}
		m.spans = append(m.spans, span{i, 1})
	}
}

// attendHeads computes causal attention of the tokens of a span, for the query heads that
// share one key head.
func (m *Model) attendHeads(worker, task int) error {
	s, p := m.scratch, &m.params
	wide, group := p.Heads*p.HeadSize, p.Heads/p.KVHeads
	tokens, kv := m.spans[task/p.KVHeads], task%p.KVHeads
	in := m.at.batch[tokens.first]
	a := &s.attention[worker]
	a.read(m.at.cache, in.Slot, m.at.layer, kv)
	for h := kv * group; h < (kv+1)*group; h += kernels.MaxQueries { // most often once
		heads := min((kv+1)*group-h, kernels.MaxQueries)
		a.begin(tokens.count*heads, p.HeadSize)
		for i := range tokens.count {
			queries, _, _ := m.projections(tokens.first + i)
			last, first := in.Position+i, 0
			if p.local(m.at.layer) {
				first = max(0, last+1-p.Window)
			}
			for j := range heads {
				at := (h + j) * p.HeadSize
				a.add(queries[at:at+p.HeadSize], p.AttentionScale, s.attended[(tokens.first+i)*wide+at:][:p.HeadSize], reach{first, last + 1})
			}
		}
		a.compute(m.set)
	}
	return nil
}

// attention is what one worker computes attention with: some queries, over the keys and values of one head.
type attention struct {
	keys, vals  []uint16    // tiles, and rows
	cache       *Cache      // what they are of; nil if there is no cache
	slot, layer int         // likewise
	packed      *[2]packed8 // what they are unpacked from, if the cache keeps them so
	start       int         // position that is first where keys and values are an attention's own; begins a tile

	n, size int
	reach   [kernels.MaxQueries]reach     // positions that each query sees
	out     [kernels.MaxQueries][]float32 // where its result goes
	added   int

	queries, sums []float32 // MaxQueries heads each
	scores        []float32 // MaxQueries rows of whole tiles of the context
	key           []uint16  // one head
}

// reach is some positions, from the first to before the end.
type reach struct{ first, end int }

// ownsHead says whether an attention has room of its own for the keys and values of one head over the
// context: of a cache that packs them, and where there is no cache.
func (p *Params) ownsHead() bool { return p.Encoder() || p.Cache != Float16 }

// attentionFloats is the room that an attention takes in scratch memory, in whole cache lines.
func attentionFloats(p Params, context int) int {
	n := kernels.MaxQueries*(2*p.HeadSize+tiled(context)) + p.HeadSize
	if p.ownsHead() {
		n += p.HeadSize * tiled(context) // twice that many float16 values
	}
	return lines(n)
}

// newAttention lays one out in memory.
func newAttention(memory []float32, p Params, context int) attention {
	var a attention
	take := func(n int) []float32 {
		part := memory[:n:n]
		memory = memory[n:]
		return part
	}
	takeHalves := func(n int) []uint16 {
		part := take((n + 1) / 2)
		return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(part))), n)
	}
	a.queries, a.sums = take(kernels.MaxQueries*p.HeadSize), take(kernels.MaxQueries*p.HeadSize)
	a.scores = take(kernels.MaxQueries * tiled(context))
	if p.ownsHead() {
		a.keys, a.vals = takeHalves(p.HeadSize*tiled(context)), takeHalves(p.HeadSize*tiled(context))
	}
	if p.Cache != Float16 {
		a.packed = new([2]packed8)
	}
	a.key = takeHalves(p.HeadSize)
	return a
}

// read has the attention go over one head of a sequence in a cache.
func (a *attention) read(c *Cache, slot, layer, head int) {
	a.cache, a.slot, a.layer = c, slot, layer
	if c.kind == Float16 {
		a.keys, a.vals = c.keys(slot, layer, head), c.vals(slot, layer, head)
		return
	}
	*a.packed = [2]packed8{c.packed(slot, layer, head, 0), c.packed(slot, layer, head, 1)}
}

// unpack unpacks positions from start on, which begins a tile, to before end, if the cache packs them.
func (a *attention) unpack(set *kernels.Set, start, end int) {
	if a.packed == nil {
		return
	}
	a.start = start
	k, v := a.packed[0], a.packed[1]
	for p := start; p < end; {
		at, n := a.cache.place(a.slot, a.layer, p, end)
		at *= a.size
		own, block := (p-start)*a.size, at/kernels.PackedBlock
		set.Unpack8Keys(a.keys[own:], k.codes[at:], k.scales[block:], a.size, tiled(n)/kernels.KeyTile)
		set.Unpack8(a.vals[own:], v.codes[at:at+n*a.size], v.scales[block:])
		p += n
	}
}

// place is where a position lies in keys and vals, and how many from it to before end lie one behind the other there.
func (a *attention) place(position, end int) (at, n int) {
	if a.cache == nil || a.packed != nil {
		return position - a.start, end - position
	}
	return a.cache.place(a.slot, a.layer, position, end)
}

// begin makes room for n queries of size elements, which add gives it.
func (a *attention) begin(n, size int) { a.n, a.size, a.added = n, size, 0 }

// add gives a query, by which its products are scaled, and where the result goes.
func (a *attention) add(query []float32, scale float32, out []float32, r reach) {
	for d, v := range query {
		a.queries[d*a.n+a.added] = v * scale
	}
	a.out[a.added], a.reach[a.added] = out, r
	a.added++
}

// compute writes the mean of the values that each query sees, weighted by the exponentials of their scores. Positions that
// all queries see are added for all of them at once, the others one query after the other: each has
// its positions in order, whatever other queries are there.
func (a *attention) compute(set *kernels.Set) {
	low, high, all := a.reach[0].first, 0, reach{0, math.MaxInt}
	for _, r := range a.reach[:a.n] {
		low, high = min(low, r.first), max(high, r.end)
		all = reach{max(all.first, r.first), min(all.end, r.end)}
	}
	start := low / kernels.KeyTile * kernels.KeyTile // position of the first score
	stride := tiled(high - start)
	scores, sums := a.scores[:a.n*stride], a.sums[:a.n*a.size]
	a.unpack(set, start, high)
	for p := start; p < high; {
		at, n := a.place(p, high)
		set.Scores(scores[p-start:], stride, a.queries[:a.n*a.size], a.n, a.keys[at*a.size:], tiled(n)/kernels.KeyTile)
		p += n
	}
	clear(sums)
	var inverse [kernels.MaxQueries]float32
	for i, r := range a.reach[:a.n] {
		inverse[i] = 1 / set.Exponentials(scores[i*stride:][r.first-start:r.end-start])
		a.sum(set, i, 1, reach{r.first, min(r.end, all.first)}, start, stride)
	}
	a.sum(set, 0, a.n, all, start, stride)
	for i, r := range a.reach[:a.n] {
		a.sum(set, i, 1, reach{max(r.first, all.first, min(all.end, r.end)), r.end}, start, stride)
		sum := sums[i*a.size:][:a.size]
		set.Scale(sum, inverse[i])
		copy(a.out[i], sum)
	}
}

// sum adds the values of some positions for n queries from one on, whose scores begin with that of position start.
func (a *attention) sum(set *kernels.Set, query, n int, r reach, start, stride int) {
	for p := r.first; p < r.end; {
		at, positions := a.place(p, r.end)
		set.WeightedSum(a.sums[query*a.size:][:n*a.size], n, a.size, a.scores[query*stride+p-start:], stride, a.vals[at*a.size:], positions)
		p += positions
	}
}

// wipe clears what is left of an attention that owns its keys and values.
func (a *attention) wipe() {
	clear(a.queries)
	clear(a.sums)
	clear(a.scores)
	clear(a.key)
	clear(a.keys)
	clear(a.vals)
}
