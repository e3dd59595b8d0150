package infer

import (
	"iter"
	"math"
	"math/bits"
	"slices"

	"github.com/anchorhold/anchorhold/runtime/kernels"
)

// sampler picks tokens; it has the memory for one vocabulary and serves one
// goroutine.
type sampler struct {
	set        *kernels.Set
	bits       []uint64 // of logits that are worth a look
	candidates []candidate
	changed    []changed
	masked     []float32 // logits under a grammar, once one came
	room       [weighed]float32
}

// changed is a logit before penalties and biases.
type changed struct {
	id    int32
	logit float32
}

func newSampler(vocabulary int, set *kernels.Set) *sampler {
	return &sampler{set: set, bits: make([]uint64, (vocabulary+63)/64), candidates: make([]candidate, 0, min(vocabulary, maxCandidates))}
}

// Tokens below this share of the likeliest are never picked. They are the tail
// that sampling without any limit would reach about once in a million tokens.
const negligible = 1e-6

// maxCandidates bounds the memory for candidates: of more than these, at least the likelier half stays.
const maxCandidates = 1 << 16

// likeliest is the first of the largest logits; -1 if one is not a number or
// the largest is infinite.
func (s *sampler) likeliest(logits []float32) int {
	top := s.set.Largest(logits)
	if math.IsInf(float64(top), 0) {
		return -1
	}
	best := -1
	for i := range s.notBelow(logits, top) {
		if logits[i] != logits[i] {
			return -1
		}
		if best < 0 {
			best = i
		}
	}
	return best
}

// notBelow goes through the places of logits that are not below a floor, in order.
func (s *sampler) notBelow(logits []float32, floor float32) iter.Seq[int] {
	words := s.set.NotBelow(s.bits, logits, floor)
	return func(yield func(int) bool) {
		for w, word := range words {
			for ; word != 0; word &= word - 1 {
				if !yield(64*w + bits.TrailingZeros64(word)) {
					return
				}
			}
		}
	}
}

// next picks the token after logits, which it leaves as they were. The order is llama.cpp's:
// biases, penalties, top k, top p, min p, temperature. errMask asks for the constraint's mask, after which
// it has to be called again with the same logits.
func (s *sampler) next(c *choice, logits []float32) (token int32, err error) {
	s.adjust(c, logits)
	if c.constraint != nil && c.constraint.masked {
		token, err = s.within(c, logits)
	} else if token, err = s.pick(c, logits); err == nil && c.constraint != nil {
		err = c.constraint.check(token)
	}
	for i := len(s.changed) - 1; i >= 0; i-- { // one may have changed twice
		logits[s.changed[i].id] = s.changed[i].logit
	}
	if err == nil {
		c.remember(token)
	}
	return token, err
}

// adjust applies biases and penalties.
func (s *sampler) adjust(c *choice, logits []float32) {
	s.changed = s.changed[:0]
	change := func(id int32, to float32) {
		s.changed = append(s.changed, changed{id, logits[id]})
		logits[id] = to
	}
	for _, b := range c.bias {
		change(b.Token, logits[b.Token]+b.Add)
	}
	for id, count := range c.counts {
		v := logits[id]
		if v <= 0 {
			v *= c.repeat
		} else {
			v /= c.repeat
		}
		change(id, v-float32(count)*c.frequency-c.presence)
	}
}

// pick chooses among adjusted logits.
func (s *sampler) pick(c *choice, logits []float32) (int32, error) {
	best := s.likeliest(logits)
	if best < 0 {
		return 0, ErrLogits
	}
	if !(c.temperature > 0) {
		return int32(best), nil
	}
	list := s.narrow(c, logits, logits[best])
	scale := float32(1 / c.temperature)
	at := c.rng.Float64() * s.mass(list, scale)
	for part := range slices.Chunk(list, weighed) {
		for i, w := range s.weights(part, scale) {
			if at -= float64(w); at < 0 {
				return part[i].id(), nil
			}
		}
	}
	return list[len(list)-1].id(), nil
}

// narrow returns the tokens that may be picked: of those worth it, what top k leaves, of that
// what top p leaves, of that what min p leaves. It never sorts more than a few.
func (s *sampler) narrow(c *choice, logits []float32, top float32) []candidate {
	list := s.gather(c, logits, top)
	if c.topK > 0 && c.topK < len(list) {
		first(list, c.topK)
		list = list[:c.topK]
	}
	if c.topP < 1 {
		list = s.nucleus(list, c.topP*s.mass(list, 1))
	}
	return slices.DeleteFunc(list, func(k candidate) bool { return k.below() > c.reach })
}

// gather collects the tokens worth picking, in an order that the logits alone decide, so that a seed
// always gives the same answer.
func (s *sampler) gather(c *choice, logits []float32, top float32) []candidate {
	s.candidates = s.candidates[:0]
	reach := c.reach
	if c.topP < 1 { // whose mass is that of the model, before the temperature
		reach = max(reach, float32(-math.Log(negligible)))
	}
	floor := top - reach
	for i := range s.notBelow(logits, floor) {
		v := logits[i]
		if v < floor {
			continue // since likelier ones were found
		}
		if len(s.candidates) == maxCandidates {
			first(s.candidates, maxCandidates/2)
			s.candidates = s.candidates[:maxCandidates/2]
			floor = top - slices.Max(s.candidates).below()
			if v < floor {
				continue
			}
		}
		s.candidates = append(s.candidates, newCandidate(int32(i), top-v))
	}
	return s.candidates
}

// candidate is a token that may be picked: in the upper half the bits of how far its logit is
// below the largest, in the lower its id. In ascending order the likeliest are first, and equal
// ones in the vocabulary's order: distances are not negative, so that their bits order them.
type candidate int

func newCandidate(id int32, below float32) candidate {
	return candidate(math.Float32bits(below))<<32 | candidate(id)
}

func (k candidate) id() int32 { return int32(uint32(k)) }

func (k candidate) below() float32 { return math.Float32frombits(uint32(k >> 32)) }

// weighed is how many candidates are weighed at once.
const weighed = 512

// weights are those of at most weighed candidates, relative to that of the largest logit; scale is 1 over the
// temperature. They are valid until the next call.
func (s *sampler) weights(list []candidate, scale float32) []float32 {
	w := s.room[:len(list)]
	for i, k := range list {
		w[i] = -k.below() * scale
	}
	s.set.Exp(w)
	return w
}

// mass is the sum of all weights.
func (s *sampler) mass(list []candidate, scale float32) (sum float64) {
	for part := range slices.Chunk(list, weighed) {
		for _, w := range s.weights(part, scale) {
			sum += float64(w)
		}
	}
	return sum
}

// Scored is a token of an answer and how likely the model found it, before any option of the
// request changed that.
type Scored struct {
	Likelihood
	// Top are the likeliest tokens at its place, likeliest first.
	Top []Likelihood
}

// Likelihood is a token's natural logarithm of its probability.
type Likelihood struct {
	Token   int32
	Logprob float32
}

// score says how likely a token was, and which were the likeliest.
func (s *sampler) score(logits []float32, token int32, top int) (*Scored, error) {
	first := s.likeliest(logits)
	if first < 0 {
		return nil, ErrLogits
	}
	best := logits[first]
	var sum float64
	list := make([]Likelihood, 0, top+1)
	for i, v := range logits {
		sum += float64(kernels.Exp(v - best))
		if len(list) < top || top > 0 && v > list[top-1].Logprob {
			at := len(list)
			for at > 0 && list[at-1].Logprob < v {
				at--
			}
			list = append(list, Likelihood{})
			copy(list[at+1:], list[at:])
			list[at] = Likelihood{int32(i), v}
			list = list[:min(len(list), top)]
		}
	}
	norm := best + float32(math.Log(sum))
	for i := range list {
		list[i].Logprob -= norm
	}
	return &Scored{Likelihood{token, logits[token] - norm}, list}, nil
}
