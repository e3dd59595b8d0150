package model

import "math"

// turn is how positions turn the pairs of a head.
type turn struct {
	frequencies []float64 // of each pair, in radians a position
	magnitude   float64   // of what is turned
}

// turns are the rotations that the blocks of a model have: the one of global blocks, and of
// local ones if there are any.
func (p *Params) turns(factors []float32) []turn {
	global := turn{magnitude: p.Scaling.Magnitude}
	if global.magnitude == 0 {
		global.magnitude = 1
	}
	for d := 0; d < p.RopeDims; d += 2 {
		f := p.frequency(p.RopeBase, d)
		if factors != nil {
			f /= float64(factors[d/2])
		}
		global.frequencies = append(global.frequencies, p.scaled(f, d/2))
	}
	if p.family.globalEvery == 0 {
		return []turn{global}
	}
	local := turn{magnitude: 1}
	for d := 0; d < p.RopeDims; d += 2 {
		local.frequencies = append(local.frequencies, p.frequency(p.LocalBase, d))
	}
	return []turn{global, local}
}

func (p *Params) frequency(base float64, dim int) float64 {
	return math.Pow(base, -float64(dim)/float64(p.RopeDims))
}

// Pairs that turn more often than yarnFast within the original context keep their frequency, and
// those that turn less often than yarnSlow have it divided: section 3.2 of "YaRN: Efficient
// Context Window Extension of Large Language Models" (arXiv 2309.00071), alpha and beta.
const yarnFast, yarnSlow = 32, 1

// scaled applies p.Scaling to the frequency of a pair.
func (p *Params) scaled(f float64, pair int) float64 {
	s := &p.Scaling
	switch s.Kind {
	case "linear", "longrope":
		return f / s.Factor
	case "yarn":
		kept := 1 - ramp(float64(pair), math.Floor(p.pairOf(yarnFast)), math.Ceil(p.pairOf(yarnSlow)), float64(p.RopeDims-1))
		return f*kept + f/s.Factor*(1-kept)
	}
	return f
}

// pairOf is the pair, with a fraction, that makes so many turns within the original context.
func (p *Params) pairOf(turns float64) float64 {
	return float64(p.RopeDims) * math.Log(float64(p.Scaling.Original)/(turns*2*math.Pi)) / (2 * math.Log(p.RopeBase))
}

// ramp rises from 0 at low to 1 at high, both within 0 and most.
func ramp(x, low, high, most float64) float64 {
	low, high = max(0, low), min(most, high)
	return min(1, max(0, (x-low)/max(0.001, high-low)))
}

// rotate fills in the cosines and sines of every token's position.
func (m *Model) rotate(batch []Input) {
	dims := m.params.RopeDims
	for k, turn := range m.turns {
		for i, in := range batch {
			row := m.scratch.rotation[(k*m.batch+i)*dims:]
			for d, f := range turn.frequencies {
				sin, cos := math.Sincos(float64(in.Position) * f)
				row[2*d], row[2*d+1] = float32(cos*turn.magnitude), float32(sin*turn.magnitude)
			}
		}
	}
}

// rotation is the cosines and sines that turn a token in the block at hand; nil if it is not
// turned.
func (m *Model) rotation(t int) []float32 {
	p := &m.params
	if !p.rotates(m.at.layer) {
		return nil
	}
	if p.local(m.at.layer) {
		t += m.batch
	}
	return m.scratch.rotation[t*p.RopeDims : (t+1)*p.RopeDims]
}

// turnPairs rotates neighbouring elements.
func turnPairs(x, turn []float32) {
	for d := 0; d < len(x); d += 2 {
		a, b, cos, sin := x[d], x[d+1], turn[d], turn[d+1]
		x[d] = float32(a*cos) - float32(b*sin)
		x[d+1] = float32(a*sin) + float32(b*cos)
	}
}

// turnHalves rotates each element of the first half with its counterpart in the second.
func turnHalves(x, turn []float32) {
	half := len(x) / 2
	for i := range half {
		a, b, cos, sin := x[i], x[half+i], turn[2*i], turn[2*i+1]
		x[i] = float32(a*cos) - float32(b*sin)
		x[half+i] = float32(a*sin) + float32(b*cos)
	}
}
