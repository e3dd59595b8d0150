package rlwe

import "fmt"

// Decryptor opens sums, block after block.
type Decryptor struct {
	key *SecretKey
	sum *Sum
}

// NewDecryptor uses the key, which stays the caller's.
func NewDecryptor(key *SecretKey) *Decryptor {
	return &Decryptor{key: key, sum: &Sum{ring: key.ring, words: make([]int32, 2*BlockValues)}}
}

// Decrypt writes the sum of the plaintexts with the noise of their encryption, BlockValues
// values between -q/2 and q/2. They are secret: see the package comment.
func (d *Decryptor) Decrypt(dst []int32, block []byte) error {
	if len(dst) != BlockValues {
		return fmt.Errorf("a buffer for %d values: %w", len(dst), ErrLength)
	}
	d.sum.Reset()
	if err := d.sum.Add(block); err != nil {
		return err
	}
	r := d.key.ring
	r.combine(dst, d.sum.words[BlockValues:], d.sum.words[:BlockValues], d.key.s)
	r.intt(dst)
	r.finish(dst)
	return nil
}

// finish divides by N and centres.
func (r *ring) finish(x []int32) {
	_ = x[BlockValues-1]
	if r.vector {
		finishAVX2(&x[0], &r.scale)
		return
	}
	for i, v := range x {
		c := int32(canonical(r.scale.mul(v)))
		x[i] = c - Modulus&((Modulus/2-c)>>31)
	}
}
