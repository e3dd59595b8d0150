package intnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
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
	// Multiplier is one for each output, 1 to 2^MultiplierBits-1; one of an average; none of
	// largest values and of the last layer.
	Multiplier []uint32
	// Negative is the multiplier of accumulators below zero, of a Leaky layer.
	Negative []uint32
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
		if len(p.Weights) != g.Weights() || len(p.Bias) != g.Biases() || len(p.Multiplier) != g.Multipliers() || len(p.Negative) != g.Negatives() {
			return fmt.Errorf("layer %d: got %d weights, %d biases, %d multipliers and %d for what is below zero, want %d, %d, %d and %d: %w",
				i+1, len(p.Weights), len(p.Bias), len(p.Multiplier), len(p.Negative), g.Weights(), g.Biases(), g.Multipliers(), g.Negatives(), ErrParameters)
		}
		for k, w := range p.Weights {
			if w == -128 {
				return fmt.Errorf("layer %d: weight %d is -128: %w", i+1, k, ErrParameters)
			}
		}
		for k, b := range p.Bias {
			if max(int64(b), -int64(b))+g.reach() > math.MaxInt32 {
				return fmt.Errorf("layer %d: bias %d of output %d can overflow 32 bits: %w", i+1, b, k, ErrParameters)
			}
		}
		for k, m := range slices.Concat(p.Multiplier, p.Negative) {
			if m == 0 || m >= 1<<MultiplierBits {
				return fmt.Errorf("layer %d: multiplier %d of output %d is outside 1 to 2^%d-1: %w", i+1, m, k%len(p.Multiplier), MultiplierBits, ErrParameters)
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
	In  [][]int32 // bytes, but for the sums of a SumPool
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
	values := make([]int32, len(in))
	for i, v := range in {
		values[n.Place(i)] = int32(v)
	}
	for i, g := range n.Geometries() {
		p := n.Parameters.Layers[i]
		acc := make([]int32, g.To.Size())
		positions := g.Positions()
		sources := make([]int, g.Fan)
		for position := range positions {
			for o := range g.Out {
				if o == 0 || g.Kind != Dense && o%g.sharing() == 0 {
					for k := range sources {
						sources[k] = g.Source(o, position, k)
					}
				}
				acc[o*positions+position] = g.accumulate(&p, o, position, sources, values)
			}
		}
		t.In, t.Acc = append(t.In, values), append(t.Acc, acc)
		if g.Last {
			return t, nil
		}
		next := make([]int32, len(acc))
		for k, v := range acc {
			if next[k] = v; g.Rescales() {
				next[k] = int32(Rescale(v, p.MultiplierOf(g, k/positions, v), g.ReLU))
			}
		}
		values = next
	}
	return t, nil
}

// accumulate is the accumulator of an output at a position; of a MaxPool, the largest value.
func (g *Geometry) accumulate(p *LayerParameters, o, position int, sources []int, values []int32) int32 {
	if g.Kind == MaxPool {
		top := int32(math.MinInt8)
		for _, from := range sources {
			if from >= 0 {
				top = max(top, values[from])
			}
		}
		return top
	}
	sum := int32(0)
	if g.Pools() {
		for _, from := range sources {
			if from >= 0 {
				sum += values[from]
			}
		}
		return sum * int32(g.Share(position))
	}
	weights := p.Weights[o*g.Fan : (o+1)*g.Fan]
	for k, from := range sources {
		if from >= 0 {
			sum += int32(weights[k]) * values[from]
		}
	}
	return sum + p.Bias[o]
}

// sharing is the number of outputs one behind the other that see the same inputs.
func (g *Geometry) sharing() int {
	if g.Pools() {
		return 1
	}
	return g.PerGroup()
}

// MultiplierOf is by what an output's accumulator is multiplied, in a layer that Rescales.
func (p *LayerParameters) MultiplierOf(g Geometry, o int, acc int32) uint32 {
	switch {
	case g.Kind == AveragePool:
		return p.Multiplier[0]
	case g.Leaky && acc < 0:
		return p.Negative[o]
	}
	return p.Multiplier[o]
}

// Rescales says whether the layer's values are its accumulators times a multiplier, rounded.
func (g Geometry) Rescales() bool { return !g.Last && g.Kind != MaxPool && g.Kind != SumPool }

// Source is the index of the input that weight k of an output meets at a position,
// or -1 where it meets the padding.
func (g Geometry) Source(o, position, k int) int {
	if g.Kind == Dense {
		return k
	}
	w := &g.Window
	channel, row, column := k/w.Area(), k/w.Kernel.W%w.Kernel.H, k%w.Kernel.W
	if g.Pools() {
		channel = o
	} else {
		channel += o / g.PerGroup() * (g.From.C / g.Groups)
	}
	rows, columns := w.lines()
	y, x := rows.at(position/g.To.W, row), columns.at(position%g.To.W, column)
	if y < 0 || y >= g.From.H || x < 0 || x >= g.From.W {
		return -1
	}
	return (channel*g.From.H+y)*g.From.W + x
}

const parametersMagic = "anchorhold/intnet/parameters/1\n"

// MarshalParameters is the one encoding of a network's constants: a line, then of
// each layer biases, multipliers and those for what is below zero, 32 bits
// little-endian, and weights.
func (n *Network) MarshalParameters() ([]byte, error) {
	if err := n.Check(); err != nil {
		return nil, err
	}
	out := []byte(parametersMagic)
	for _, p := range n.Parameters.Layers {
		for _, b := range p.Bias {
			out = binary.LittleEndian.AppendUint32(out, uint32(b))
		}
		for _, m := range slices.Concat(p.Multiplier, p.Negative) {
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
		size += g.Weights() + 4*(g.Biases()+g.Multipliers()+g.Negatives())
	}
	if len(data) != size || string(data[:len(parametersMagic)]) != parametersMagic {
		return nil, fmt.Errorf("got an encoding of %d bytes, want %d: %w", len(data), size, ErrParameters)
	}
	next := data[len(parametersMagic):]
	for _, g := range a.Geometries() {
		var p LayerParameters
		for range g.Biases() {
			p.Bias = append(p.Bias, int32(binary.LittleEndian.Uint32(next)))
			next = next[4:]
		}
		for _, list := range []struct {
			to *[]uint32
			n  int
		}{{&p.Multiplier, g.Multipliers()}, {&p.Negative, g.Negatives()}} {
			for range list.n {
				*list.to = append(*list.to, binary.LittleEndian.Uint32(next))
				next = next[4:]
			}
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
