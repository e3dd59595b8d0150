package rlwe

import (
	"bytes"
	"testing"
)

// A public key that parses encodes to the same bytes.
func FuzzParsePublicKey(f *testing.F) {
	_, pk := keys(f, "fuzz")
	f.Add(pk.Bytes())
	f.Add(make([]byte, PublicKeySize))
	f.Fuzz(func(t *testing.T, data []byte) {
		pk, err := ParsePublicKey(data)
		if err == nil && !bytes.Equal(pk.Bytes(), data) {
			t.Error("another encoding comes back")
		}
	})
}

// A block is summed and written again unchanged, or refused.
func FuzzAdd(f *testing.F) {
	f.Add(uint16(0), uint32(Modulus))
	f.Add(uint16(7), uint32(0xFFFFFFFF))
	f.Fuzz(func(t *testing.T, at uint16, word uint32) {
		block := make([]byte, BlockBytes)
		i := int(at) * 4 % (BlockBytes - 3)
		for k := range 4 {
			block[i+k] = byte(word >> (8 * k))
		}
		s, out := NewSum(), make([]byte, BlockBytes)
		plain := NewSum()
		plain.ring.vector = false
		err := s.Add(block)
		if other := plain.Add(block); (err == nil) != (other == nil) {
			t.Fatalf("with the vector unit: %v, without: %v", err, other)
		}
		if err != nil {
			return
		}
		if err := s.Write(out); err != nil || !bytes.Equal(out, block) {
			t.Errorf("another block comes back: %v", err)
		}
	})
}
