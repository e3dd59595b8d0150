package infer

import (
	crand "crypto/rand"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/anchorhold/anchorhold/runtime/kernels"
)

// choice is how one sequence picks its tokens.
type choice struct {
	temperature, topP float64
	topK              int
	rng               *rand.Rand
}

func newChoice(req Request) choice {
	c := choice{temperature: req.Temperature, topP: req.TopP, topK: req.TopK}
	if c.temperature > 0 {
		seed := [2]uint64{0, 0x616e63686f72}
		if req.Seed != nil {
			seed[0] = *req.Seed
		} else {
			var random [16]byte
			crand.Read(random[:])
			seed = [2]uint64{binary.LittleEndian.Uint64(random[:]), binary.LittleEndian.Uint64(random[8:])}
		}
		c.rng = rand.New(rand.NewPCG(seed[0], seed[1]))
	}
	return c
}

// candidate is a token that may be picked: in the upper half how far its weight's bits are
// from the largest, in the lower its id. In ascending order the likeliest are first, and equal
// ones in the vocabulary's order. Weights are not negative, so that their bits order them.
type candidate int

func newCandidate(id int32, weight float32) candidate {
	return candidate(math.MaxInt32-math.Float32bits(weight))<<32 | candidate(id)
}

func (k candidate) id() int32 { return int32(uint32(k)) }

func (k candidate) weight() float32 { return math.Float32frombits(math.MaxInt32 - uint32(k>>32)) }

// sampler picks tokens; it has the memory for one vocabulary and serves one
// goroutine.
type sampler struct{ candidates []candidate }

func newSampler(vocabulary int) *sampler {
	return &sampler{candidates: make([]candidate, 0, min(vocabulary, maxCandidates))}
}

// Tokens below this share of the likeliest are never picked. They are the tail
// that sampling without any limit would reach about once in a million tokens.
const negligible = 1e-6

// maxCandidates bounds what is sorted; beyond it the tail is cut at the
// vocabulary's order, which matters only at temperatures that yield noise.
const maxCandidates = 1 << 16

// likeliest is the first of the largest logits; -1 if one is not a number or
// the largest is infinite.
func likeliest(logits []float32) int {
	best := 0
	top := float32(math.Inf(-1))
	for i, v := range logits {
		if !(v <= top) {
			if v != v {
				return -1
			}
			best, top = i, v
		}
	}
	if math.IsInf(float64(top), 0) {
		return -1
	}
	return best
}

// next picks the token after logits.
func (s *sampler) next(c *choice, logits []float32) (int32, error) {
	best := likeliest(logits)
	if best < 0 {
		return 0, ErrLogits
	}
	if !(c.temperature > 0) {
		return int32(best), nil
	}
	s.gather(c, logits, logits[best])
	list := s.candidates
	if c.topK > 0 && c.topK < len(list) {
		list = list[:c.topK]
	}
	var total float64
	for _, k := range list {
		total += float64(k.weight())
	}
	if c.topP > 0 && c.topP < 1 {
		list, total = nucleus(list, c.topP*total)
	}
	at := c.rng.Float64() * total
	for _, k := range list {
		if at -= float64(k.weight()); at < 0 {
			return k.id(), nil
		}
	}
	return list[len(list)-1].id(), nil
}

// gather collects the tokens worth picking, likeliest first; equal ones in the
// vocabulary's order, so that a seed always gives the same answer.
func (s *sampler) gather(c *choice, logits []float32, top float32) {
	s.candidates = s.candidates[:0]
	scale := float32(1 / c.temperature)
	floor := top + float32(math.Log(negligible)*c.temperature)
	for i, v := range logits {
		if v >= floor && len(s.candidates) < maxCandidates {
			s.candidates = append(s.candidates, newCandidate(int32(i), kernels.Exp((v-top)*scale)))
		}
	}
	slices.Sort(s.candidates)
}

// nucleus is the shortest beginning of list that reaches the weight.
func nucleus(list []candidate, weight float64) ([]candidate, float64) {
	var sum float64
	for i, k := range list {
		if sum += float64(k.weight()); sum >= weight {
			return list[:i+1], sum
		}
	}
	return list, sum
}
