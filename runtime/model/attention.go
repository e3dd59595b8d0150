package model

import "github.com/anchorhold/anchorhold/runtime/kernels"

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
func (m *Model) rememberToken(_, t int) error {
	p, cache, layer := &m.params, m.at.cache, m.at.layer
	in, l := m.at.batch[t], &m.tensors.layers[layer]
	q, k, v := m.projections(t)
	addBias(q, l.qBias, 1)
	addBias(k, l.kBias, 1)
	addBias(v, l.vBias, 1)
	m.place(q, l.queryNorm, t)
	m.place(k, l.keyNorm, t)
	at := in.Position * p.HeadSize
	for h := range p.KVHeads {
		store(cache.keys(in.Slot, layer, h)[at:at+p.HeadSize], k[h*p.HeadSize:(h+1)*p.HeadSize])
		store(cache.vals(in.Slot, layer, h)[at:at+p.HeadSize], v[h*p.HeadSize:(h+1)*p.HeadSize])
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
	queries, _, _ := m.projections(t)
	in := m.at.batch[t]
	keys, vals := m.at.cache.keys(in.Slot, m.at.layer, kv), m.at.cache.vals(in.Slot, m.at.layer, kv)
	length := len(s.scores) / m.threads
	first := 0 // position that the block sees
	if p.local(m.at.layer) {
		first = max(0, in.Position+1-p.Window)
		keys, vals = keys[first*p.HeadSize:], vals[first*p.HeadSize:]
	}
	scores := s.scores[worker*length:][:in.Position+1-first]
	for h := kv * group; h < (kv+1)*group; h++ {
		q := queries[h*p.HeadSize : (h+1)*p.HeadSize]
		m.set.Scores(scores, q, keys, p.AttentionScale)
		m.set.Softmax(scores)
		m.set.WeightedSum(s.attended[t*wide+h*p.HeadSize:][:p.HeadSize], scores, vals)
	}
	return nil
}
