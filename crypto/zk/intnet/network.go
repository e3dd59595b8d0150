package intnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Errors of this package beside ErrArchitecture.
var (
	// ErrParameters means constants that do not belong to the architecture, or that
	// could overflow.
	ErrParameters = errors.New("intnet: parameters refused")
	// ErrInput means an input or output whose size differs from the network's.
	ErrInput = errors.New("intnet: input refused")
)

// MultiplierBits bounds multipliers, Shift is what a product is divided by: a hidden
// value is accumulator * multiplier / 2^Shift, rounded half up.
const (
	MultiplierBits = 24
	Shift          = 24
)

// Top is the largest value between layers: with ReLU they are from 0 to Top, without from
// -Top to Top.
const Top = 127

// LayerParameters are the constants of one layer.
type LayerParameters struct {
	// Weights are [out][in], of a convolution [out][channel][row][column]; -127 to
	// 127.
	Weights []int8
	// Bias is one for each output, in units of the accumulator.
	Bias []int32
	// Multiplier is one for each output, 1 to 2^MultiplierBits-1. The last layer has none.
	Multiplier []uint32
}

// Parameters are the constants of one version of a model.
type Parameters struct{ Layers []LayerParameters }

// Network is an architecture with its constants.
type Network struct {
	Architecture
	Parameters
}

// Check compares the constants with the architecture. After it, nothing overflows.
func (n *Network) Check() error {
	if err := n.Architecture.Check(); err != nil {
		return err
	}
	all := n.Geometries()
	if len(n.Parameters.Layers) != len(all) {
		return fmt.Errorf("got constants for %d layers, the architecture has %d: %w", len(n.Parameters.Layers), len(all), ErrParameters)
	}
	for i, g := range all {
		p := n.Parameters.Layers[i]
		multipliers := g.Out
		if g.Last {
			multipliers = 0
		}
		if len(p.Weights) != g.Weights() || len(p.Bias) != g.Out || len(p.Multiplier) != multipliers {
			return fmt.Errorf("layer %d: got %d weights, %d biases and %d multipliers, want %d, %d and %d: %w",
				i+1, len(p.Weights), len(p.Bias), len(p.Multiplier), g.Weights(), g.Out, multipliers, ErrParameters)
		}
		for k, w := range p.Weights {
			if w == -128 {
				return fmt.Errorf("layer %d: weight %d is -128: %w", i+1, k, ErrParameters)
			}
		}
		for k, b := range p.Bias {
			if max(int64(b), -int64(b))+reach(g.Fan) > math.MaxInt32 {
				return fmt.Errorf("layer %d: bias %d of output %d can overflow 32 bits: %w", i+1, b, k, ErrParameters)
			}
		}
		for k, m := range p.Multiplier {
			if m == 0 || m >= 1<<MultiplierBits {
				return fmt.Errorf("layer %d: multiplier %d of output %d is outside 1 to 2^%d-1: %w", i+1, m, k, MultiplierBits, ErrParameters)
			}
		}
	}
	return nil
}

// Rescale turns an accumulator into a value between layers.
func Rescale(acc int32, multiplier uint32, relu bool) int8 {
	v := (int64(acc)*int64(multiplier) + 1<<(Shift-1)) >> Shift
	low := int64(-Top)
	if relu {
		low = 0
	}
	return int8(min(max(v, low), Top))
}

// Trace is every number of one evaluation: of each layer its inputs and
// accumulators, [channel][row][column].
type Trace struct {
	In  [][]int8
	Acc [][]int32
}

// Outputs are the last accumulators.
func (t *Trace) Outputs() []int32 { return t.Acc[len(t.Acc)-1] }

// Forward computes the outputs of an input. It is the plain reference. The network
// must be checked.
func (n *Network) Forward(in []int8) ([]int32, error) {
	t, err := n.Trace(in)
	if err != nil {
		return nil, err
	}
	return t.Outputs(), nil
}

// Trace is Forward with every intermediate number.
func (n *Network) Trace(in []int8) (*Trace, error) {
	if len(in) != n.Input.Size() {
		return nil, fmt.Errorf("got %d values, the network takes %d: %w", len(in), n.Input.Size(), ErrInput)
	}
	t := &Trace{}
	values := in
	for i, g := range n.Geometries() {
		p := n.Parameters.Layers[i]
		acc := make([]int32, g.To.Size())
		positions := g.Positions()
		for o := range g.Out {
			for at := range positions {
				sum := p.Bias[o]
				for k := range g.Fan {
					if from := g.Source(at, k); from >= 0 {
						sum += int32(p.Weights[o*g.Fan+k]) * int32(values[from])
					}
				}
				acc[o*positions+at] = sum
			}
		}
		t.In, t.Acc = append(t.In, values), append(t.Acc, acc)
		if g.Last {
			return t, nil
		}
		next := make([]int8, len(acc))
		for k, v := range acc {
			next[k] = Rescale(v, p.Multiplier[k/positions], g.ReLU)
		}
		values = next
	}
	return t, nil
}

// Source is the index of the input that weight k of an output meets at a position,
// or -1 where it meets the padding.
func (g Geometry) Source(position, k int) int {
	if g.Kind == Dense {
		return k
	}
	channel, row, column := k/(g.Kernel*g.Kernel), k/g.Kernel%g.Kernel, k%g.Kernel
	y := position/g.To.W*g.Stride + row - g.Pad
	x := position%g.To.W*g.Stride + column - g.Pad
	if y < 0 || y >= g.From.H || x < 0 || x >= g.From.W {
		return -1
	}
	return (channel*g.From.H+y)*g.From.W + x
}

const parametersMagic = "anchorhold/intnet/parameters/1\n"

// MarshalParameters is the one encoding of a network's constants: a line, then of
// each layer biases and multipliers, 32 bits little-endian, and weights.
func (n *Network) MarshalParameters() ([]byte, error) {
	if err := n.Check(); err != nil {
		return nil, err
	}
	out := []byte(parametersMagic)
	for _, p := range n.Parameters.Layers {
		for _, b := range p.Bias {
			out = binary.LittleEndian.AppendUint32(out, uint32(b))
		}
		for _, m := range p.Multiplier {
			out = binary.LittleEndian.AppendUint32(out, m)
		}
		for _, w := range p.Weights {
			out = append(out, byte(w))
		}
	}
	return out, nil
}

// UnmarshalParameters reads what MarshalParameters writes, for the architecture.
func (a Architecture) UnmarshalParameters(data []byte) (*Network, error) {
	if err := a.Check(); err != nil {
		return nil, err
	}
	n := &Network{Architecture: a}
	size := len(parametersMagic)
	for _, g := range a.Geometries() {
		size += g.Weights() + 4*g.Out
		if !g.Last {
			size += 4 * g.Out
		}
	}
	if len(data) != size || string(data[:len(parametersMagic)]) != parametersMagic {
		return nil, fmt.Errorf("got an encoding of %d bytes, want %d: %w", len(data), size, ErrParameters)
	}
	next := data[len(parametersMagic):]
	for _, g := range a.Geometries() {
		var p LayerParameters
		for range g.Out {
			p.Bias = append(p.Bias, int32(binary.LittleEndian.Uint32(next)))
			next = next[4:]
		}
		for k := 0; k < g.Out && !g.Last; k++ {
			p.Multiplier = append(p.Multiplier, binary.LittleEndian.Uint32(next))
			next = next[4:]
		}
		p.Weights = make([]int8, g.Weights())
		for k := range p.Weights {
			p.Weights[k] = int8(next[k])
		}
		next = next[g.Weights():]
		n.Parameters.Layers = append(n.Parameters.Layers, p)
	}
	return n, n.Check()
}
