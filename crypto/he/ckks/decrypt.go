package ckks

import (
	"fmt"
	"math"

	"github.com/tuneinsight/lattigo/v6/schemes/ckks"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// Decryptor decrypts with a secret that it holds in locked memory until Wipe. Its results
// contain the ciphertext's noise, which reveals the key: they must not leave this process before
// noise is added and they are rounded. It is not safe for concurrent use.
type Decryptor struct {
	*decoder
	key *locked
	sum *Residues
}

// NewDecryptor returns a decryptor with the secret that GenerateKey returned. A decrypted value
// beyond limit means a wrong key or a broken sum; limit is at most MaxValue.
func NewDecryptor(p Params, secret *keybuf.Buffer, layout Layout, limit float64) (*Decryptor, error) {
	s, err := newScheme(p)
	if err != nil {
		return nil, err
	}
	d := &Decryptor{sum: NewResidues(p)}
	if d.decoder, err = newDecoder(s, layout, limit); err != nil {
		return nil, err
	}
	if d.key, err = s.spread(secret); err != nil {
		return nil, err
	}
	return d, nil
}

// Decrypt fills values, at most Values of them, from a ciphertext or a sum of ciphertexts.
func (d *Decryptor) Decrypt(values []float64, ct []byte) error {
	if d.key.coeffs == nil {
		return fmt.Errorf("the key was wiped: %w", ErrKey)
	}
	if err := d.sum.Unmarshal(ct); err != nil {
		return err
	}
	// Only the residues that the decoding uses: of the template's three primes one,
	// which spares the library's way through big integers.
	top := len(d.work)
	ringQ := d.lib.RingQ().AtLevel(top - 1)
	phase := poly(d.work)
	ringQ.NTT(poly(d.sum.parts[1][:top]), phase)
	ringQ.MulCoeffsMontgomery(phase, poly(d.key.coeffs[:top]), phase)
	ringQ.INTT(phase, phase)
	ringQ.Add(phase, poly(d.sum.parts[0][:top]), phase)
	return d.decode(values)
}

// Wipe clears the key and the last result.
func (d *Decryptor) Wipe() {
	d.key.wipe()
	d.clear()
}

// decoder turns a plaintext with its noise into values.
type decoder struct {
	*scheme
	layout  Layout
	limit   float64
	encoder *ckks.Encoder
	work    [][]uint64 // c0 + c1*s over the primes that decoding uses
	scale   float64
	slots   []complex128
	order   []int
}

func newDecoder(s *scheme, layout Layout, limit float64) (*decoder, error) {
	if s.Values(layout) == 0 {
		return nil, fmt.Errorf("unknown layout %d: %w", layout, ErrParams)
	}
	if !(limit > 0 && limit <= s.MaxValue()) {
		return nil, fmt.Errorf("limit %g is not between 0 and %g: %w", limit, s.MaxValue(), ErrRange)
	}
	level := s.level()
	d := &decoder{
		scheme: s, layout: layout, limit: limit,
		encoder: ckks.NewEncoder(s.lib, maxFloatScale),
		work:    newPoly(s.N(), level+1),
		slots:   make([]complex128, s.N()/2),
		order:   s.slotOrder(layout),
	}
	d.scale = math.Exp2(float64(s.LogScale))
	for _, q := range s.Q[1 : level+1] {
		d.scale /= float64(q)
	}
	return d, nil
}

// decode divides by the primes beyond the first and decodes modulo that one.
func (d *decoder) decode(values []float64) error {
	if len(values) > d.Values(d.layout) {
		return fmt.Errorf("too many values (%d): %w", len(values), ErrRange)
	}
	for level := len(d.work) - 1; level > 0; level-- {
		x := poly(d.work[:level+1])
		d.lib.RingQ().AtLevel(level).DivRoundByLastModulus(x, x)
	}
	half := d.N() / 2
	low, high, q := d.work[0][:half], d.work[0][half:], d.Q[0]
	for k := range d.slots {
		d.slots[k] = complex(centre(low[k], q)/d.scale, centre(high[k], q)/d.scale)
	}
	if err := d.encoder.FFT(d.slots, d.LogN-1); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	for i := range values {
		slot := d.slots[d.order[i/int(d.layout)]]
		v := real(slot)
		if d.layout == Pairs && i%2 == 1 {
			v = imag(slot)
		}
		if !(math.Abs(v) <= d.limit) {
			clear(values)
			return fmt.Errorf("value %d of the result exceeds %g: %w", i, d.limit, ErrRange)
		}
		values[i] = v
	}
	return nil
}

// centre is the residue between -q/2 and q/2.
func centre(r, q uint64) float64 {
	if r > q/2 {
		return -float64(q - r)
	}
	return float64(r)
}

func (d *decoder) clear() {
	clear(d.slots)
	clearAll(d.work)
}
