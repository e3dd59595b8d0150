package ckks

import (
	"crypto/sha3"
	"encoding/binary"
	"math/bits"
	"unsafe"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// stream expands a seed for one purpose under one parameter set.
func stream(label string, digest [32]byte, seed []byte) *sha3.SHAKE {
	s := sha3.NewSHAKE256()
	head := append([]byte{byte(len(label))}, label...)
	_, _ = s.Write(append(head, digest[:]...)) // never fails before a read
	_, _ = s.Write(seed)
	return s
}

// ternary draws coefficients uniformly from -1, 0 and 1: a byte below 255 modulo 3.
// How many bytes are thrown away says nothing about those that are kept.
func ternary(dst []int8, s *sha3.SHAKE) {
	var block [512]byte
	defer clear(block[:])
	for i := 0; i < len(dst); {
		_, _ = s.Read(block[:])
		for _, b := range block {
			if b < 255 && i < len(dst) {
				third := uint16(b) * 171 >> 9 // b/3, exactly, for b < 255
				dst[i] = int8(uint16(b)-3*third) - 1
				i++
			}
		}
	}
}

// centred draws errors: the difference of the ones in two words of 21 bits, of variance
// 10.5, a little above 3.2 squared. In integers, so that a seed is one key everywhere.
func centred(dst []int8, s *sha3.SHAKE) {
	var block [6]byte
	defer clear(block[:])
	for i := range dst {
		_, _ = s.Read(block[:])
		a := binary.LittleEndian.Uint32(block[:]) & (1<<21 - 1)
		b := binary.LittleEndian.Uint32(block[2:]) >> 11
		dst[i] = int8(bits.OnesCount32(a) - bits.OnesCount32(b))
	}
}

// uniform draws a polynomial: words cut to the prime's bits, those not below it
// thrown away. Public.
func uniform(coeffs [][]uint64, primes []uint64, s *sha3.SHAKE) {
	var block [4096]byte
	for i, q := range primes {
		mask := uint64(1)<<bits.Len64(q) - 1
		for k := 0; k < len(coeffs[i]); {
			_, _ = s.Read(block[:])
			for at := 0; at < len(block) && k < len(coeffs[i]); at += 8 {
				if v := binary.LittleEndian.Uint64(block[at:]) & mask; v < q {
					coeffs[i][k] = v
					k++
				}
			}
		}
	}
}

// setSmall writes small numbers as residues, without a branch on them.
func setSmall(coeffs [][]uint64, small []int8, primes []uint64) {
	for i, q := range primes {
		for k, v := range small {
			wide := int64(v)
			coeffs[i][k] = uint64(wide) + q&uint64(wide>>63)
		}
	}
}

// secretBytes is the length of a secret of n ternary coefficients, 2 bits for each:
// 0, 1, and 2 for -1, lowest bits first.
func secretBytes(n int) int { return n / 4 }

func packSecret(dst []byte, secret []int8) {
	for i := range dst {
		b := byte(0)
		for k := range 4 {
			v := byte(secret[4*i+k]) // 0, 1 or 255
			b |= (v&1 + v>>7) << (2 * k)
		}
		dst[i] = b
	}
}

func unpackSecret(secret []int8, src []byte) bool {
	good := byte(0)
	for i := range secret {
		v := src[i/4] >> (2 * (i % 4)) & 3
		good |= v & (v >> 1)
		secret[i] = int8(v&1) - int8(v>>1)
	}
	return good == 0
}

// locked is a polynomial in memory that is locked and wiped.
type locked struct {
	buffer *keybuf.Buffer
	coeffs [][]uint64
}

func newLocked(n, count int) (*locked, error) {
	b, err := keybuf.New(8 * n * count)
	if err != nil {
		return nil, err
	}
	// The buffer begins a page.
	words := unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(b.Bytes()))), n*count)
	l := &locked{buffer: b, coeffs: make([][]uint64, count)}
	for i := range l.coeffs {
		l.coeffs[i] = words[i*n : (i+1)*n : (i+1)*n]
	}
	return l, nil
}

// wipe clears the polynomial; it is used no more. Called on nil too.
func (l *locked) wipe() {
	if l != nil {
		l.coeffs = nil
		l.buffer.Wipe()
	}
}
