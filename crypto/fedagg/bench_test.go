package fedagg

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
