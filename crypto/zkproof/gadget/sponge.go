package gadget

import (
	"math/big"

	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/std/permutation/poseidon2"

	"github.com/anchorhold/anchorhold/crypto/statement"
)

// Hash is statement.Hash in a circuit.
func Hash(api frontend.API, d statement.Domain, elements []frontend.Variable) (frontend.Variable, error) {
	p, err := poseidon2.NewPoseidon2FromParameters(api, statement.Width, statement.FullRounds, statement.PartialRounds)
	if err != nil {
		return nil, err
	}
	state := make([]frontend.Variable, statement.Width)
	for i := range state {
		state[i] = 0
	}
	capacity := statement.Capacity(d, len(elements))
	state[statement.Rate] = capacity.BigInt(new(big.Int))
	for first := true; first || len(elements) > 0; first = false {
		n := min(statement.Rate, len(elements))
		for i := range n {
			state[i] = api.Add(state[i], elements[i])
		}
		elements = elements[n:]
		if err := p.Permutation(state); err != nil {
			return nil, err
		}
	}
	return state[0], nil
}

// Pack puts numbers below 2^bits into elements, as package statement does.
func Pack(api frontend.API, dst, v []frontend.Variable, bits, perElement int) []frontend.Variable {
	for len(v) > 0 {
		n := min(perElement, len(v))
		terms := make([]frontend.Variable, n)
		for i := range n {
			terms[i] = api.Mul(v[i], Power(bits*i))
		}
		dst, v = append(dst, Sum(api, terms)), v[n:]
	}
	return dst
}
