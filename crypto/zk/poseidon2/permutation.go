package poseidon2

import "sync"

// The permutation's shape: elements of its state, elements that the sponge takes in at a
// time, and rounds, with the S-box x^5. They are those that the authors' script gives for
// 128 bits of security with its margin.
const (
	Width         = 16
	Rate          = Width - 1
	FullRounds    = 8
	PartialRounds = 57
)

// constants are the numbers of the permutation, in Montgomery form and below the modulus.
type constants struct {
	full     [FullRounds][Width]limbs
	partial  [PartialRounds]limbs
	diagonal [Width]limbs // of the partial rounds' matrix, less 1; all else in it is 1
}

var derived = sync.OnceValue(derive)

// Hash is the sponge: it absorbs the elements, a block of [Rate] added to the state at a
// time, and squeezes one. The last element of the state begins with capacity, in which
// the caller tells apart uses and numbers of elements; one block at least is absorbed.
func Hash(capacity Element, elements []Element) Element {
	c := derived()
	var state [Width]limbs
	state[Rate] = capacity.mont
	for {
		n := min(Rate, len(elements))
		for i := range n {
			w := wide{}
			w.add(&state[i])
			w.add(&elements[i].mont)
			w.reduce(&state[i])
		}
		c.permute(&state)
		if elements = elements[n:]; len(elements) == 0 {
			return Element{canonical(state[0])}
		}
	}
}

// Permute applies the permutation.
func Permute(state *[Width]Element) {
	var s [Width]limbs
	for i := range s {
		s[i] = state[i].mont
	}
	derived().permute(&s)
	for i := range s {
		state[i].mont = canonical(s[i])
	}
}

// permute takes a state below 2q to one below 2q.
func (c *constants) permute(s *[Width]limbs) {
	const half = FullRounds / 2
	var none [Width]limbs
	external(s, &c.full[0])
	for r := 1; r < half; r++ {
		power(s)
		external(s, &c.full[r])
	}
	power(s)
	external(s, &[Width]limbs{c.partial[0]})
	c.partialRounds(s)
	for r := half + 1; r < FullRounds; r++ {
		power(s)
		external(s, &c.full[r])
	}
	power(s)
	external(s, &none)
}

// partialRounds takes a state below 2q, to which the first of their constants is added, to
// one below 2q, to which those of the full round after them are added. Between rounds the
// elements but the first are below 4q.
func (c *constants) partialRounds(s *[Width]limbs) {
	for r := range PartialRounds {
		fifth(&s[0])
		var sum wide
		for i := range s {
			sum.add(&s[i])
		}
		var total limbs
		sum.reduce(&total)
		for i := range s {
			mul(&s[i], &c.diagonal[i], &s[i])
			add(&s[i], &total)
		}
		if r+1 < PartialRounds {
			plusReduced(&s[0], &c.partial[r+1])
		}
	}
	for i := range s {
		plusReduced(&s[i], &c.full[FullRounds/2][i])
	}
}

// power is the S-box of a full round.
func power(s *[Width]limbs) {
	for i := range s {
		fifth(&s[i])
	}
}

// external multiplies a state below 2q by the full rounds' matrix and adds constants; the
// sum is reduced to below 2q. The matrix has a block of 4 by 4, M, everywhere, and twice
// that in its diagonal.
func external(s *[Width]limbs, constants *[Width]limbs) {
	var blocks [Width]wide // below 32q
	var sums [4]wide       // below 128q
	for at := 0; at < Width; at += 4 {
		block((*[4]wide)(blocks[at:]), (*[4]limbs)(s[at:]))
		for i := range sums {
			sums[i].plus(&blocks[at+i])
		}
	}
	for i := range s {
		w := blocks[i]
		w.plus(&sums[i%4])
		w.add(&constants[i])
		w.reduce(&s[i])
	}
}

// block multiplies by M:
//
//	5 7 1 3
//	4 6 1 1
//	1 3 5 7
//	1 1 4 6
func block(out *[4]wide, s *[4]limbs) {
	var a, b, c, d wide
	a.add(&s[0])
	a.add(&s[1]) // 1 1 0 0
	b.add(&s[2])
	b.add(&s[3]) // 0 0 1 1
	c = b
	c.add(&s[1])
	c.add(&s[1]) // 0 2 1 1
	d = a
	d.add(&s[3])
	d.add(&s[3]) // 1 1 0 2
	a.plus(&a)
	a.plus(&a)
	a.plus(&c) // 4 6 1 1
	b.plus(&b)
	b.plus(&b)
	b.plus(&d) // 1 1 4 6
	d.plus(&a) // 5 7 1 3
	c.plus(&b) // 1 3 5 7
	out[0], out[1], out[2], out[3] = d, a, c, b
}
