package tpmquote

import (
	"testing"
)

func benchmarkQuote(b *testing.B, m *maker, want Expected) {
	quote := m.quote(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Verify(quote, want); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEnrolledP256(b *testing.B) {
	m := newMaker(b)
	benchmarkQuote(b, m, m.expected())
}

func BenchmarkEnrolledRSA2048(b *testing.B) {
	m := newMaker(b)
	m.key, m.scheme = rsaKey(b), algRSASSA
	benchmarkQuote(b, m, m.expected())
}

func BenchmarkCertifiedKnownChain(b *testing.B) {
	p, m := newPKI(b), newMaker(b)
	want := m.expected()
	want.Trust = TrustCertificate(p.authorities(b), p.leaf(b, leafTemplate(), m.key.Public()).Raw, p.intermediate.Raw, p.root.Raw)
	benchmarkQuote(b, m, want)
}

func BenchmarkCertifiedNewChain(b *testing.B) {
	p, m := newPKI(b), newMaker(b)
	quote, want, a := m.quote(b), m.expected(), p.authorities(b)
	want.Trust = TrustCertificate(a, p.leaf(b, leafTemplate(), m.key.Public()).Raw, p.intermediate.Raw, p.root.Raw)
	b.ReportAllocs()
	for b.Loop() {
		clear(a.known)
		if _, err := Verify(quote, want); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRefusedMutant is a quote with one byte changed, at another place each time.
func BenchmarkRefusedMutant(b *testing.B) {
	m := newMaker(b)
	quote, want := m.quote(b), m.expected()
	at := 0
	for b.Loop() {
		at = (at + 7) % len(quote)
		quote[at] ^= 0x55
		if _, err := Verify(quote, want); err == nil {
			b.Fatal("accepted")
		}
		quote[at] ^= 0x55
	}
}

func TestVerifyingAQuoteAllocatesLittle(t *testing.T) {
	m := newMaker(t)
	quote, want := m.quote(t), m.expected()
	if n := testing.AllocsPerRun(20, func() {
		if _, err := Verify(quote, want); err != nil {
			t.Error(err)
		}
	}); n > 80 {
		t.Errorf("%.0f allocations", n)
	}
}
