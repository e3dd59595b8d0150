package infer

import (
	crand "crypto/rand"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
)

// Limits on what shapes a choice.
const (
	// MaxBias is the largest number of tokens with a bias.
	MaxBias = 1024
	// MaxTop is the largest number of likeliest tokens that are reported with each.
	MaxTop = 20
)

// Bias is added to the logit of a token.
type Bias struct {
	Token int32
	Add   float32
}

// Penalties make tokens less likely that are among the last of prompt and answer, as
// llama.cpp has them. The zero value has none.
type Penalties struct {
	// Last is how many tokens are looked at; 0 is none.
	Last int
	// Repeat divides a positive logit and multiplies a negative one; 0 and 1 do nothing.
	Repeat float64
	// Frequency is subtracted for each time that a token occurs, Presence once.
	Frequency, Presence float64
}

// choice is how one sequence picks its tokens.
type choice struct {
	temperature, topP   float64 // topP 1: all
	topK                int
	reach               float32 // how far below the largest a logit may be
	rng                 *rand.Rand
	bias                []Bias
	repeat              float32
	frequency, presence float32
	last                int
	recent              []int32 // the last tokens; nil without penalties
	counts              map[int32]int
	constraint          *constraint // nil without a grammar
}

func newChoice(req Request) choice {
	c := choice{temperature: req.Temperature, topP: req.TopP, topK: req.TopK, bias: req.Bias, last: req.Penalties.Last}
	if c.topP <= 0 {
		c.topP = 1
	}
	c.reach = float32(-math.Log(negligible) * c.temperature)
	if req.MinP > 0 {
		c.reach = min(c.reach, float32(-math.Log(req.MinP)))
	}
	p := req.Penalties
	if c.repeat = float32(p.Repeat); c.repeat == 0 {
		c.repeat = 1
	}
	c.frequency, c.presence = float32(p.Frequency), float32(p.Presence)
	if c.repeat == 1 && c.frequency == 0 && c.presence == 0 {
		c.last = 0
	}
	if c.last > 0 {
		c.counts = map[int32]int{}
		for _, token := range req.Prompt[max(0, len(req.Prompt)-c.last):] {
			c.remember(token)
		}
	}
	if c.temperature > 0 {
		c.rng = rand.New(source(req.Seed))
	}
	return c
}

func source(seed *uint64) *rand.PCG {
	if seed != nil {
		return rand.NewPCG(*seed, 0x616e63686f72)
	}
	var random [16]byte
	crand.Read(random[:])
	return rand.NewPCG(binary.LittleEndian.Uint64(random[:]), binary.LittleEndian.Uint64(random[8:]))
}

// remember counts a token for the penalties, and forgets the oldest.
func (c *choice) remember(token int32) {
	if c.last == 0 {
		return
	}
	if len(c.recent) == c.last {
		oldest := c.recent[0]
		if c.counts[oldest]--; c.counts[oldest] == 0 {
			delete(c.counts, oldest)
		}
		c.recent = append(c.recent[:0], c.recent[1:]...)
	}
	c.recent = append(c.recent, token)
	c.counts[token]++
}

// checkChoice refuses options that would not give numbers.
func (e *Engine) checkChoice(req Request) error {
	p := req.Penalties
	for _, o := range []struct {
		name              string
		value, from, upTo float64
	}{
		{"temperature", req.Temperature, 0, 100}, {"top p", req.TopP, 0, 1}, {"min p", req.MinP, 0, 1},
		{"repeat penalty", p.Repeat, 0, 100}, {"frequency penalty", p.Frequency, -100, 100}, {"presence penalty", p.Presence, -100, 100},
	} {
		if !(o.value >= o.from && o.value <= o.upTo) {
			return fmt.Errorf("%w: %s is not from %g to %g", ErrOption, o.name, o.from, o.upTo)
		}
	}
	if p.Last < 0 || p.Last > e.context || len(req.Bias) > MaxBias || req.Top < 0 || req.Top > MaxTop {
		return fmt.Errorf("%w: got penalties over %d tokens, %d biases, %d likeliest tokens; want at most %d, %d, %d",
			ErrOption, p.Last, len(req.Bias), req.Top, e.context, MaxBias, MaxTop)
	}
	for _, b := range req.Bias {
		if b.Token < 0 || int(b.Token) >= e.tokenizer.Size() {
			return fmt.Errorf("%w: token %d, the vocabulary has %d", ErrBias, b.Token, e.tokenizer.Size())
		}
		if !(b.Add >= -100 && b.Add <= 100) {
			return fmt.Errorf("%w: the bias of token %d is not from -100 to 100", ErrBias, b.Token)
		}
	}
	return nil
}
