package ckks

import (
	"testing"

	"github.com/tuneinsight/lattigo/v6/core/rlwe"
	"github.com/tuneinsight/lattigo/v6/schemes/ckks"
)

// BenchmarkLattigo is the library by itself at the template's set, in the way that
// its documentation shows: encode, encrypt, add, decrypt, decode. It is the peer that
// the benchmark of all libraries names Lattigo; the others here are this package's.
func BenchmarkLattigo(b *testing.B) {
	p := Template()
	lib, err := p.library()
	if err != nil {
		b.Fatal(err)
	}
	secret, public := rlwe.NewKeyGenerator(lib).GenKeyPairNew()
	encoder, evaluator := ckks.NewEncoder(lib), ckks.NewEvaluator(lib, nil)
	encryptor, decryptor := rlwe.NewEncryptor(lib, public), rlwe.NewDecryptor(lib, secret)
	values := updates(p.Values(Real), 1)
	fresh := func() *rlwe.Ciphertext {
		plain := ckks.NewPlaintext(lib, lib.MaxLevel())
		if err := encoder.Encode(values, plain); err != nil {
			b.Fatal(err)
		}
		ct, err := encryptor.EncryptNew(plain)
		if err != nil {
			b.Fatal(err)
		}
		return ct
	}
	sum, ct := fresh(), fresh()
	b.Run("encrypt", func(b *testing.B) {
		for b.Loop() {
			fresh()
		}
		perValue(b, len(values))
		b.ReportMetric(float64(ct.BinarySize())/float64(len(values)), "bytes/value") // as it goes over a network
	})
	b.Run("add", func(b *testing.B) {
		for b.Loop() {
			if err := evaluator.Add(sum, ct, sum); err != nil {
				b.Fatal(err)
			}
		}
		perValue(b, len(values))
	})
	b.Run("decrypt", func(b *testing.B) {
		out := make([]float64, len(values))
		for b.Loop() {
			if err := encoder.Decode(decryptor.DecryptNew(ct), out); err != nil {
				b.Fatal(err)
			}
		}
		perValue(b, len(values))
	})
}
