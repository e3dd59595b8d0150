package ckks

import "fmt"

// Residues are a ciphertext, or a sum of them, as numbers: what an aggregator adds.
// There is no key and no library in this file.
type Residues struct {
	n      int
	primes []uint64
	parts  [2][][]uint64
}

// NewResidues returns an empty sum.
func NewResidues(p Params) *Residues {
	r := &Residues{n: p.N(), primes: p.Q}
	for i := range r.parts {
		r.parts[i] = newPoly(r.n, len(p.Q))
	}
	return r
}

// CiphertextBytes is the length of every ciphertext of a set: two polynomials over Q.
func (p Params) CiphertextBytes() int { return 2 * polyBytes(p.N(), p.Q) }

// Unmarshal replaces the residues with those of a ciphertext. If it returns ErrNotCanonical, the
// residues are undefined.
func (r *Residues) Unmarshal(ct []byte) error {
	size := polyBytes(r.n, r.primes)
	if len(ct) != 2*size {
		return fmt.Errorf("ciphertext has %d bytes, want %d: %w", len(ct), 2*size, ErrNotCanonical)
	}
	first := unpackPoly(r.parts[0], ct[:size], r.primes)
	if second := unpackPoly(r.parts[1], ct[size:], r.primes); !first || !second {
		return fmt.Errorf("a residue is not below its prime: %w", ErrNotCanonical)
	}
	return nil
}

// Marshal writes the one encoding of the residues into dst, of CiphertextBytes.
func (r *Residues) Marshal(dst []byte) error {
	if len(dst) != 2*polyBytes(r.n, r.primes) {
		return fmt.Errorf("a buffer of %d bytes has the wrong length: %w", len(dst), ErrNotCanonical)
	}
	packPoly(packPoly(dst, r.parts[0], r.primes), r.parts[1], r.primes)
	return nil
}

// AddInto adds a ciphertext of the same set to a sum.
func AddInto(sum, ct *Residues) {
	for part := range sum.parts {
		for i, q := range sum.primes {
			addMod(sum.parts[part][i], ct.parts[part][i], q)
		}
	}
}

// addMod adds below a prime below 2^62; the vectors' length is a multiple of 8.
func addMod(sum, x []uint64, q uint64) {
	for len(sum) >= 8 && len(x) >= 8 {
		a, b := (*[8]uint64)(sum), (*[8]uint64)(x)
		a[0], a[1] = addOne(a[0], b[0], q), addOne(a[1], b[1], q)
		a[2], a[3] = addOne(a[2], b[2], q), addOne(a[3], b[3], q)
		a[4], a[5] = addOne(a[4], b[4], q), addOne(a[5], b[5], q)
		a[6], a[7] = addOne(a[6], b[6], q), addOne(a[7], b[7], q)
		sum, x = sum[8:], x[8:]
	}
}

func addOne(a, b, q uint64) uint64 {
	d := a + b - q
	// All ones exactly if the sum was below q.
	return d + q&uint64(int64(d)>>63)
}
