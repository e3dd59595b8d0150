package gadget

import (
	"math/big"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	reference "github.com/consensys/gnark-crypto/ecc/bn254/fr/poseidon2"
	"github.com/consensys/gnark/frontend"

	"github.com/anchorhold/anchorhold/crypto/zk/poseidon2"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// Hash is statement.Hash in a circuit.
func Hash(api frontend.API, d statement.Domain, elements []frontend.Variable) (frontend.Variable, error) {
	p := newPermutation(api)
	state := make([]frontend.Variable, poseidon2.Width)
	for i := range state {
		state[i] = 0
	}
	capacity := statement.Capacity(d, len(elements)).Bytes()
	state[poseidon2.Rate] = new(big.Int).SetBytes(capacity[:])
	for first := true; first || len(elements) > 0; first = false {
		n := min(poseidon2.Rate, len(elements))
		for i := range n {
			state[i] = api.Add(state[i], elements[i])
		}
		elements = elements[n:]
		p.permute(state)
	}
	return state[0], nil
}

func constant(e fr.Element) *big.Int { return e.BigInt(new(big.Int)) }

// permutation is Poseidon2 (ePrint 2023/323), 16 elements wide, with the constants of
// gnark-crypto.
type permutation struct {
	api      frontend.API
	keys     [][]*big.Int
	diagonal []*big.Int // of the inner matrix, less one
}

func newPermutation(api frontend.API) *permutation {
	parameters := reference.NewParameters(poseidon2.Width, poseidon2.FullRounds, poseidon2.PartialRounds)
	p := &permutation{api: api}
	for _, round := range parameters.RoundKeys {
		var keys []*big.Int
		for _, k := range round {
			keys = append(keys, constant(k))
		}
		p.keys = append(p.keys, keys)
	}
	for _, v := range parameters.DiagM1 {
		p.diagonal = append(p.diagonal, constant(v))
	}
	return p
}

func (p *permutation) permute(s []frontend.Variable) {
	p.outer(s)
	for round, keys := range p.keys {
		full := round < poseidon2.FullRounds/2 || round >= poseidon2.FullRounds/2+poseidon2.PartialRounds
		for i, k := range keys {
			if s[i] = p.api.Add(s[i], k); full || i == 0 {
				s[i] = p.power5(s[i])
			}
		}
		if full {
			p.outer(s)
		} else {
			p.inner(s)
		}
	}
}

// power5 is the S-box. By way of the third power: what is on the right of its constraints
// is x and its square, of which x is there already.
func (p *permutation) power5(x frontend.Variable) frontend.Variable {
	square := p.api.Mul(x, x)
	return p.api.Mul(p.api.Mul(x, square), square)
}

// outer multiplies by the matrix of full rounds: circ(2M, M, M, M), where M is this of
// four.
func (p *permutation) outer(s []frontend.Variable) {
	m := [4][4]int{{5, 7, 1, 3}, {4, 6, 1, 1}, {1, 3, 5, 7}, {1, 1, 4, 6}}
	column := make([][]frontend.Variable, 4)
	for at := 0; at < len(s); at += 4 {
		var out [4]frontend.Variable
		for i, row := range m {
			var terms []frontend.Variable
			for j, factor := range row {
				terms = append(terms, p.api.Mul(s[at+j], factor))
			}
			out[i] = Sum(p.api, terms)
			column[i] = append(column[i], out[i])
		}
		copy(s[at:], out[:])
	}
	// Each sum once: where it is long the builder gives it a wire of its own.
	var sums [4]frontend.Variable
	for i := range sums {
		sums[i] = Sum(p.api, column[i])
	}
	for i := range s {
		s[i] = p.api.Add(s[i], sums[i%4])
	}
}

// inner multiplies by the matrix of partial rounds: ones, and a diagonal.
func (p *permutation) inner(s []frontend.Variable) {
	sum := Sum(p.api, s)
	for i := range s {
		s[i] = p.api.Add(p.api.Mul(s[i], p.diagonal[i]), sum)
	}
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
