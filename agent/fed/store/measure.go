package store

import (
	"io"
	"math"

	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/crypto/dp"
	"github.com/anchorhold/anchorhold/crypto/hadamard"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// measure copies a vector and adds up its norm.
type measure struct {
	values *fedtask.Values
	norm   dp.Norm
	peak   *peak // nil where nobody asks
}

const measureValues = 16 << 10

func (m *measure) copy(dst io.Writer) error {
	values := make([]float32, measureValues)
	for m.values.Left() > 0 {
		n, raw, err := m.values.Read(values)
		if err != nil {
			return err
		}
		if err := m.norm.Add(values[:n]); err != nil {
			return refusal.New(fedtask.ReasonVector, "the vector's norm: %v", err)
		}
		if err := m.peak.add(values[:n]); err != nil {
			return err
		}
		if _, err := dst.Write(raw); err != nil {
			return err
		}
	}
	if err := m.peak.end(); err != nil {
		return err
	}
	return m.values.End()
}

// peak finds the largest value of a vector: of its rotated blocks where the round is rotated.
type peak struct {
	rotation *hadamard.Rotation
	block    []float64
	filled   int
	next     uint64 // block
	largest  float64
}

func newPeak(r federation.Round) (*peak, error) {
	p := &peak{}
	if r.Rotation == nil {
		return p, nil
	}
	set, _, err := r.Parameters()
	if err != nil {
		return nil, err
	}
	p.block = make([]float64, set.ValuesPerBlock())
	p.rotation, err = hadamard.New(r.RotationKey(), len(p.block))
	return p, err
}

func (p *peak) add(values []float32) error {
	if p == nil {
		return nil
	}
	for _, v := range values {
		if p.rotation == nil {
			p.largest = max(p.largest, math.Abs(float64(v)))
			continue
		}
		p.block[p.filled] = float64(v)
		if p.filled++; p.filled == len(p.block) {
			if err := p.end(); err != nil {
				return err
			}
		}
	}
	return nil
}

// end takes the block that was filled, and what follows it as zeros.
func (p *peak) end() error {
	if p == nil || p.filled == 0 {
		return nil
	}
	clear(p.block[p.filled:])
	if err := p.rotation.Spread(p.next, p.block); err != nil {
		return err
	}
	for _, v := range p.block {
		p.largest = max(p.largest, math.Abs(v)/math.Sqrt(float64(len(p.block))))
	}
	p.next, p.filled = p.next+1, 0
	clear(p.block)
	return nil
}

func (p *peak) most() float64 {
	if p == nil {
		return 0
	}
	return p.largest
}
