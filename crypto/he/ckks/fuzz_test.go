package ckks

import (
	"bytes"
	"errors"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

func FuzzUnmarshal(f *testing.F) {
	p := Params{LogN: 10, Q: primesOf(10, 20), P: nil}
	f.Add(make([]byte, p.CiphertextBytes()))
	f.Add(bytes.Repeat([]byte{255}, p.CiphertextBytes()))
	f.Add(marshal(f, p, randomResidues(p, 7)))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewResidues(p)
		if err := r.Unmarshal(data); err != nil {
			if !errors.Is(err, ErrNotCanonical) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(marshal(t, p, r), data) {
			t.Fatal("another encoding of the same residues was accepted")
		}
	})
}

// tiny is the smallest set there can be, for keys that a fuzzer can hold.
func tiny() Params {
	return Params{LogN: 11, Q: primesOf(11, 26), P: primesOf(11, 24), LogScale: 10}
}

func FuzzPublicKey(f *testing.F) {
	p := tiny()
	s, err := newScheme(p)
	if err != nil {
		f.Fatal(err)
	}
	_, public := keyPair(f, p, 1)
	f.Add(public)
	f.Add(public[:99])
	f.Fuzz(func(t *testing.T, data []byte) {
		common, b, err := s.parseKey(data)
		if err != nil {
			if !errors.Is(err, ErrKey) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(s.marshalKey(common, b), data) {
			t.Fatal("another encoding of the same key was accepted")
		}
	})
}

func FuzzSecret(f *testing.F) {
	p := tiny()
	s, err := newScheme(p)
	if err != nil {
		f.Fatal(err)
	}
	secret, _ := keyPair(f, p, 1)
	f.Add(bytes.Clone(secret.Bytes()))
	f.Add([]byte{3})
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := keybuf.Take(bytes.Clone(data))
		if err != nil {
			return
		}
		defer b.Wipe()
		key, err := s.spread(b)
		if err != nil {
			if !errors.Is(err, ErrKey) {
				t.Fatal(err)
			}
			return
		}
		key.wipe()
		small, again := make([]int8, p.N()), make([]byte, len(data))
		unpackSecret(small, data)
		packSecret(again, small)
		if !bytes.Equal(again, data) {
			t.Fatal("another encoding of the same secret was accepted")
		}
	})
}

// A combiner gets its shares from parties that it does not trust.
func FuzzShares(f *testing.F) {
	a := access()
	a.Parties, a.Threshold = 2, 2
	list, public := parties(f, a)
	ct := encrypt(f, encryptor(f, a.Params, public, Pairs), nil)
	share := func(i int) []byte {
		s, err := list[i].DecryptionShare(f.Context(), &memoryJournal{}, []int{1, 2}, ct)
		if err != nil {
			f.Fatal(err)
		}
		return s
	}
	first, second := share(0), share(1)
	// The fuzzer changes the head; the residues follow.
	const head = shareHeader + shareBinding + 16
	f.Add(second[:head])
	f.Add(first[:head])
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > head {
			data = data[:head]
		}
		other := append(bytes.Clone(data), second[len(data):]...)
		_, err := combine(t, a, ct, [][]byte{first, other})
		if err != nil && !errors.Is(err, ErrShare) && !errors.Is(err, ErrRange) {
			t.Fatal(err)
		}
		if err == nil && !bytes.Equal(other[:shareHeader+shareBinding], second[:shareHeader+shareBinding]) {
			t.Fatal("a share for something else was taken")
		}
	})
}
