package poseidon2

import "math/bits"

// derive makes the constants as the authors' script does (ePrint 2023/323, section 5; its
// poseidon2_rust_params.sage): every number comes out of the Grain generator, whose first
// state says nothing but the field, the S-box and the shape, so that nobody could choose
// one.
func derive() *constants {
	var c constants
	g := newGrain()
	const half = FullRounds / 2
	for r := range half {
		g.elements(c.full[r][:])
	}
	g.elements(c.partial[:])
	for r := half; r < FullRounds; r++ {
		g.elements(c.full[r][:])
	}
	for range refusedMatrices * Width {
		g.number()
	}
	minusOne := FromInt64(-1).mont
	for i := range c.diagonal {
		c.diagonal[i] = montgomery(g.number()) // reduced; none is refused here
		plusReduced(&c.diagonal[i], &minusOne)
		c.diagonal[i] = canonical(c.diagonal[i])
	}
	return &c
}

// refusedMatrices is how many partial rounds' matrices the script draws in vain: it wants
// one whose powers up to the 32nd have no invariant subspace.
const refusedMatrices = 6

const modulusBits = 254

// grain is the Grain generator: a shift register of 80 bits, of which the lowest leaves
// first. What it gives is shrunk by itself.
type grain struct{ low, high uint64 }

func newGrain() *grain {
	g := &grain{}
	at := 0
	put := func(value, width int) { // the highest bit first
		for i := width - 1; i >= 0; i-- {
			bit := uint64(value>>i) & 1
			if at < 64 {
				g.low |= bit << at
			} else {
				g.high |= bit << (at - 64)
			}
			at++
		}
	}
	put(1, 2) // a prime field
	put(0, 4) // an S-box that is a power
	put(modulusBits, 12)
	put(Width, 12)
	put(FullRounds, 10)
	put(PartialRounds, 10)
	put(1<<30-1, 30)
	for range 160 {
		g.step()
	}
	return g
}

// step shifts by one bit, and returns the one that came in.
func (g *grain) step() uint64 {
	const taps = 1<<62 | 1<<51 | 1<<38 | 1<<23 | 1<<13 | 1
	bit := uint64(bits.OnesCount64(g.low&taps)) & 1
	g.low, g.high = g.low>>1|g.high<<63, g.high>>1|bit<<15
	return bit
}

// bit is the second of the next two bits of which the first is 1.
func (g *grain) bit() uint64 {
	for g.step() == 0 {
		g.step()
	}
	return g.step()
}

// number is the next number of as many bits as the modulus has, the highest first.
func (g *grain) number() (n limbs) {
	for i := modulusBits - 1; i >= 0; i-- {
		n[i/64] |= g.bit() << (i % 64)
	}
	return n
}

// elements draws numbers, and draws again what is not below the modulus.
func (g *grain) elements(list []limbs) {
	for i := range list {
		for {
			n := g.number()
			if _, below := sub(n, modulus); below == 1 {
				list[i] = montgomery(n)
				break
			}
		}
	}
}
