package ckks

import (
	"testing"
	"time"
)

func perValue(b *testing.B, n int) {
	b.ReportMetric(float64(b.Elapsed()/time.Nanosecond)/float64(b.N)/float64(n), "ns/value")
}

func BenchmarkEncrypt(b *testing.B) {
	p := Template()
	_, public := keyPair(b, p, 1)
	for _, l := range []Layout{Real, Pairs} {
		b.Run([]string{Real: "real", Pairs: "pairs"}[l], func(b *testing.B) {
			e := encryptor(b, p, public, l)
			x, ct := updates(p.Values(l), 1), make([]byte, p.CiphertextBytes())
			b.ReportAllocs()
			for b.Loop() {
				if err := e.Encrypt(ct, x); err != nil {
					b.Fatal(err)
				}
			}
			perValue(b, len(x))
			b.ReportMetric(float64(len(ct))/float64(len(x)), "bytes/value")
		})
	}
}

func BenchmarkDecrypt(b *testing.B) {
	p := Template()
	secret, public := keyPair(b, p, 1)
	for _, l := range []Layout{Real, Pairs} {
		b.Run([]string{Real: "real", Pairs: "pairs"}[l], func(b *testing.B) {
			x := updates(p.Values(l), 1)
			ct := encrypt(b, encryptor(b, p, public, l), x)
			d, err := NewDecryptor(p, secret, l, 64)
			if err != nil {
				b.Fatal(err)
			}
			defer d.Wipe()
			b.ReportAllocs()
			for b.Loop() {
				if err := d.Decrypt(x, ct); err != nil {
					b.Fatal(err)
				}
			}
			perValue(b, len(x))
		})
	}
}

func BenchmarkAdd(b *testing.B) {
	p := Template()
	sum, ct := NewResidues(p), randomResidues(p, 1)
	for b.Loop() {
		AddInto(sum, ct)
	}
	perValue(b, p.Values(Real))
}

func BenchmarkUnmarshal(b *testing.B) {
	p := Template()
	r := randomResidues(p, 1)
	ct := marshal(b, p, r)
	for b.Loop() {
		if err := r.Unmarshal(ct); err != nil {
			b.Fatal(err)
		}
	}
	perValue(b, p.Values(Real))
}

func BenchmarkGenerateKey(b *testing.B) {
	seed := seedOf(b, 1)
	for b.Loop() {
		secret, _, err := GenerateKey(Template(), seed)
		if err != nil {
			b.Fatal(err)
		}
		secret.Wipe()
	}
}

func BenchmarkThreshold(b *testing.B) {
	a := Access{Params: Threshold(), Parties: 3, Threshold: 2, Flood: maxFlood}
	list, public := parties(b, a)
	ct := encrypt(b, encryptor(b, a.Params, public, Pairs), nil)
	n := a.Values(Pairs)
	var shares [2][]byte
	b.Run("share", func(b *testing.B) {
		for b.Loop() {
			for i := range shares {
				var err error
				if shares[i], err = list[i].DecryptionShare(b.Context(), &memoryJournal{}, []int{1, 2}, ct); err != nil {
					b.Fatal(err)
				}
			}
		}
		perValue(b, 2*n)
		b.ReportMetric(float64(len(shares[0]))/float64(n), "B/value")
	})
	b.Run("combine", func(b *testing.B) {
		c, err := NewCombiner(a, Pairs, 1)
		if err != nil {
			b.Fatal(err)
		}
		out := make([]float64, n)
		for b.Loop() {
			if err := c.Combine(out, ct, shares[:]); err != nil {
				b.Fatal(err)
			}
		}
		perValue(b, n)
	})
}
