//go:build !release

package tdx

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"testing"

	"github.com/anchorhold/anchorhold/guest/tdxsim"
	"github.com/anchorhold/anchorhold/packaging/oracletest"
)

// prepared is what a broker holds when a quote comes: verifier and collateral.
func prepared(tb testing.TB, o tdxsim.Options) (*Verifier, *Set, scene) {
	s := emulate(tb, o)
	v, err := New(Options{MinimumEvaluationNumber: 1, Roots: s.roots})
	if err != nil {
		tb.Fatal(err)
	}
	return v, NewSet(mustCollateral(tb, s.documents, s.roots)), s
}

func verifyRaw(tb testing.TB, v *Verifier, set *Set, raw []byte) {
	q, err := Parse(raw)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := v.Verify(q, set, bound, simNow); err != nil {
		tb.Fatal(err)
	}
}

// BenchmarkVerify is a quote from its bytes to its claims. "known" is a platform whose chain and
// attestation key were seen before, "restarted" one whose quoting enclave has a new attestation
// key, "new" one that was never seen; collateral is parsed in all three.
func BenchmarkVerify(b *testing.B) {
	for _, g := range kinds {
		name := "v4"
		if g.Version == 5 {
			name = "v5 body " + string(rune('0'+g.BodyType))
		}
		v, set, s := prepared(b, tdxsim.Options{Guest: g})
		for _, state := range []struct {
			name   string
			forget func(*Verifier)
		}{
			{"known", func(*Verifier) {}},
			{"restarted", func(v *Verifier) { v.certified.entries = nil }},
			{"new", func(v *Verifier) { v.certified.entries, v.chains.entries = nil, nil }},
		} {
			b.Run(name+"/"+state.name, func(b *testing.B) {
				b.ReportAllocs()
				verifyRaw(b, v, set, s.quote)
				for b.Loop() {
					state.forget(v)
					verifyRaw(b, v, set, s.quote)
				}
			})
		}
	}
}

// BenchmarkP256 is the unit: one verification of a signature.
func BenchmarkP256(b *testing.B) {
	_, _, s := prepared(b, tdxsim.Options{})
	q, err := Parse(s.quote)
	if err != nil {
		b.Fatal(err)
	}
	key, err := publicKey(q.auth.key)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !verifyP256(key, q.signed, q.auth.signature) {
			b.Fatal("refused")
		}
	}
}

// BenchmarkGoTDXGuest is the same quote verified by go-tdx-guest in a process of its own. It is
// handed the documents from memory and parses them each time: its interface has no other way to
// hold them. "none" is without documents, the most that it could save by holding them.
func BenchmarkGoTDXGuest(b *testing.B) {
	o := oracletest.Start(b)
	for _, name := range []string{"collateral", "none"} {
		_, _, s := prepared(b, tdxsim.Options{})
		d := &s.documents
		if name == "none" {
			d = nil
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() { // the work is done in the other process
			}
			r := asked(s.quote, d, s.rootsPEM, simNow)
			r.Repeat = 50
			a := o.TDX(b, r)
			if a.Err != "" {
				b.Fatal(a.Err)
			}
			b.ReportMetric(float64(a.Cost.Nanoseconds), "ns/peer-op")
			b.ReportMetric(float64(a.Cost.Bytes), "B/peer-op")
			b.ReportMetric(float64(a.Cost.Allocations), "allocs/peer-op")
		})
	}
}

// BenchmarkDCAPQVL is the same quote verified by dcap-qvl, which parses the documents each time, too.
func BenchmarkDCAPQVL(b *testing.B) {
	p := oracletest.StartDCAPQVL(b)
	_, _, s := prepared(b, tdxsim.Options{})
	for b.Loop() { // the work is done in the other process
	}
	r := askedOfDCAPQVL(s)
	r.Repeat = 50
	a := p.TDX(b, r)
	if a.Err != "" {
		b.Fatal(a.Err)
	}
	b.ReportMetric(float64(a.Nanoseconds), "ns/peer-op")
}

// BenchmarkParseCollateral is what a broker does once for each platform and refresh.
func BenchmarkParseCollateral(b *testing.B) {
	s := emulate(b, tdxsim.Options{TCBInfo: tdxsim.TCBInfo{Levels: levels(), Modules: modules()}})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseCollateral(s.documents, s.roots); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRefusedMutants is a quote with one changed bit, somewhere, of a known platform.
func BenchmarkRefusedMutants(b *testing.B) {
	v, set, s := prepared(b, tdxsim.Options{Guest: tdxsim.Guest{Padding: 11000}})
	verifyRaw(b, v, set, s.quote)
	q, err := Parse(s.quote)
	if err != nil {
		b.Fatal(err)
	}
	n := len(q.signed)
	i := 0
	for b.Loop() {
		i = (i + 7919) % n
		s.quote[i] ^= 1
		q, err := Parse(s.quote)
		if err == nil {
			_, err = v.Verify(q, set, bound, simNow)
		}
		if err == nil {
			b.Fatal("accepted")
		}
		s.quote[i] ^= 1
	}
}

// The budget of one verification on a known platform whose attestation key is new, two signatures:
// at most 24 KB and 120 allocations.
func TestVerificationStaysInItsBudget(t *testing.T) {
	v, set, s := prepared(t, tdxsim.Options{})
	verifyRaw(t, v, set, s.quote)
	r := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			v.certified.entries = nil
			verifyRaw(b, v, set, s.quote)
		}
	})
	if r.AllocedBytesPerOp() > 24<<10 || r.AllocsPerOp() > 120 {
		t.Errorf("%d bytes in %d allocations", r.AllocedBytesPerOp(), r.AllocsPerOp())
	}
	t.Logf("%d bytes in %d allocations", r.AllocedBytesPerOp(), r.AllocsPerOp())
}

// BenchmarkEmulate is a quote of the emulator.
func BenchmarkEmulate(b *testing.B) {
	sim, err := tdxsim.New(tdxsim.Options{Now: simNow})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := sim.Collect(b.Context(), bound); err != nil {
			b.Fatal(err)
		}
	}
}

// crypto/ecdsa refuses the numbers that it must; verifyP256 relies on that.
func TestSignaturesOutOfRangeAreRefused(t *testing.T) {
	s := emulate(t, tdxsim.Options{})
	q, err := Parse(s.quote)
	if err != nil {
		t.Fatal(err)
	}
	key, err := publicKey(q.auth.key)
	if err != nil {
		t.Fatal(err)
	}
	if !verifyP256(key, q.signed, q.auth.signature) || verifyP256(key, q.signed, q.auth.signature[:63]) || verifyP256(key, q.signed, make([]byte, 64)) {
		t.Error("signatures are not told apart")
	}
	other, err := ecdsa.GenerateKey(key.Curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(q.signed)
	r, n, err := ecdsa.Sign(rand.Reader, other, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	foreign := make([]byte, 64)
	r.FillBytes(foreign[:32])
	n.FillBytes(foreign[32:])
	if verifyP256(key, q.signed, foreign) || !verifyP256(&other.PublicKey, q.signed, foreign) {
		t.Error("keys are not told apart")
	}
}
