package model

import "github.com/anchorhold/anchorhold/runtime/kernels"

// rememberToken adds the biases to a token's queries, keys and values, rotates its
// queries and keys, and stores keys and values.
func (m *Model) rememberToken(_, t int) error {
	s, p, cache := m.scratch, &m.params, m.at.cache
	wide, narrow := p.Heads*p.HeadSize, p.KVHeads*p.HeadSize
	in, turn := m.at.batch[t], s.rotation[t*p.RopeDims:(t+1)*p.RopeDims]
	l := &m.tensors.layers[m.at.layer]
	addBias(s.q[t*wide:], l.qBias, 1)
	addBias(s.k[t*narrow:], l.kBias, 1)
	addBias(s.v[t*narrow:], l.vBias, 1)
	for h := range p.Heads {
		turnPairs(s.q[t*wide+h*p.HeadSize:][:p.RopeDims], turn)
	}
	for h := range p.KVHeads {
		key := s.k[t*narrow+h*p.HeadSize:][:p.HeadSize]
		turnPairs(key[:p.RopeDims], turn)
		at := in.Position * p.HeadSize
		store(cache.keys(in.Slot, m.at.layer, h)[at:at+p.HeadSize], key)
		store(cache.vals(in.Slot, m.at.layer, h)[at:at+p.HeadSize], s.v[t*narrow+h*p.HeadSize:][:p.HeadSize])
	}
	return nil
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

// attendHeads computes causal attention of one token, for the query heads that
// share one key head.
func (m *Model) attendHeads(worker, task int) error {
	s, p := m.scratch, &m.params
	wide, group := p.Heads*p.HeadSize, p.Heads/p.KVHeads
	t, kv := task/p.KVHeads, task%p.KVHeads
	in := m.at.batch[t]
	keys, vals := m.at.cache.keys(in.Slot, m.at.layer, kv), m.at.cache.vals(in.Slot, m.at.layer, kv)
	length := len(s.scores) / m.threads
	scores := s.scores[worker*length:][:in.Position+1]
	for h := kv * group; h < (kv+1)*group; h++ {
		q := s.q[t*wide+h*p.HeadSize:][:p.HeadSize]
		m.set.Scores(scores, q, keys, m.scale)
		m.set.Softmax(scores)
		m.set.WeightedSum(s.attended[t*wide+h*p.HeadSize:][:p.HeadSize], scores, vals)
	}
	return nil
}
