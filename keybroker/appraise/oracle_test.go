package appraise

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha512"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/packaging/oracletest"
)

// asked is evidence as a question to go-sev-guest.
func asked(env evidence.Envelope, now time.Time) oracletest.SNPRequest {
	return oracletest.SNPRequest{Report: env.Part(evidence.PartSNPReport), VCEK: env.Part(evidence.EndorsementVCEK), VLEK: env.Part(evidence.EndorsementVLEK),
		ASK: env.Part(evidence.EndorsementASK), ASVK: env.Part(evidence.EndorsementASVK), ARK: env.Part(evidence.EndorsementARK), Unix: now.Unix()}
}

func TestOracleAgreesOnRealReports(t *testing.T) {
	o := oracletest.Start(t)
	for _, s := range append([]sample{moduleSample(t)}, sharedSamples(t)...) {
		_, err := lenient(t).Appraise(t.Context(), s.envelope(), s.reportData(), s.now)
		a := o.SNP(t, asked(s.envelope(), s.now))
		if err != nil || a.Verify != "" {
			t.Errorf("%s: ours says %v, the oracle %q, %q", s.name, err, a.Verify, a.Validate)
		}
		if a.Validate != "" {
			t.Logf("%s: the oracle's policy half says %q; here that is for keybroker/policy", s.name, a.Validate)
		}
		cert, _ := lenient(t).chainOf(s.envelope(), signerVCEK)
		if cert == nil || !bytes.Equal(cert.key.hwid, a.HWID) || product(s.product).tcb(a.TCB) != cert.key.tcb {
			t.Errorf("%s: the VCEK's statements are read differently", s.name)
		}
	}
}

// Mutated bytes: whatever the oracle refuses, ours refuses. Ours may be stricter.
func TestOracleRefusesNothingThatWeAccept(t *testing.T) {
	o := oracletest.Start(t)
	samples := append([]sample{moduleSample(t)}, sharedSamples(t)...)
	rnd := rand.New(rand.NewPCG(7, 11))
	stricter, v := 0, lenient(t)
	for i := range 1500 {
		s := samples[i%len(samples)]
		env := mutate(rnd, s.envelope())
		_, err := v.Appraise(t.Context(), env, s.reportData(), s.now)
		a := o.SNP(t, asked(env, s.now))
		switch {
		case err == nil && a.Verify != "":
			t.Fatalf("%s, mutation %d: accepted, but the oracle says %q", s.name, i, a.Verify)
		case err != nil && a.Accepts():
			stricter++
			if reason, _ := refusal.ReasonOf(err); reason == "" {
				t.Fatalf("a refusal without a reason: %v", err)
			}
		}
	}
	t.Logf("stricter than the oracle %d times", stricter)
}

// mutate changes up to three bytes of the report or of one certificate.
func mutate(rnd *rand.Rand, env evidence.Envelope) evidence.Envelope {
	env = withReport(env, bytes.Clone(env.Part(evidence.PartSNPReport)))
	target := env.Part(evidence.PartSNPReport)
	if rnd.IntN(3) == 0 {
		i := rnd.IntN(len(env.Parts))
		env.Parts[i].Data = bytes.Clone(env.Parts[i].Data)
		target = env.Parts[i].Data
	}
	for range rnd.IntN(3) + 1 {
		target[rnd.IntN(len(target))] ^= byte(1 << rnd.IntN(8))
	}
	return env
}

// BenchmarkAppraise: with the chain cached, without, and go-sev-guest in the same run (as
// ns/peer-op), on the same report.
func BenchmarkAppraise(b *testing.B) {
	s := moduleSample(b)
	env, want := s.envelope(), s.reportData()
	b.Run("cached", func(b *testing.B) {
		v := lenient(b)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.Appraise(b.Context(), env, want, s.now); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := lenient(b).Appraise(b.Context(), env, want, s.now); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("go-sev-guest", func(b *testing.B) {
		o, r := oracletest.Start(b), asked(env, s.now)
		for b.Loop() { // the work is done in the other process
		}
		r.Repeat = 50
		cost := o.SNP(b, r).Cost
		b.ReportMetric(float64(cost.Nanoseconds), "ns/peer-op")
		b.ReportMetric(float64(cost.Bytes), "B/peer-op")
		b.ReportMetric(float64(cost.Allocations), "allocs/peer-op")
	})
}

// BenchmarkP384 is the unit: one verification of a signature by the standard library.
func BenchmarkP384(b *testing.B) {
	key := newP384(b)
	digest := sha512.Sum384([]byte("a report"))
	r, s := signP384(b, key, digest)
	for b.Loop() {
		if !ecdsa.Verify(&key.PublicKey, digest[:], r, s) {
			b.Fatal("refused")
		}
	}
}

// BenchmarkRefusedMutant is a report of a known chip with one bit changed, somewhere in what is
// signed.
func BenchmarkRefusedMutant(b *testing.B) {
	s, v := moduleSample(b), lenient(b)
	env, want := withReport(s.envelope(), bytes.Clone(s.report)), s.reportData()
	report := env.Part(evidence.PartSNPReport)
	for range 3 { // from the third report on a chip is known best
		if _, err := v.Appraise(b.Context(), env, want, s.now); err != nil {
			b.Fatal(err)
		}
	}
	at := 0
	for b.Loop() {
		at = (at + 211) % 0x2a0
		report[at] ^= 1
		if _, err := v.Appraise(b.Context(), env, want, s.now); err == nil {
			b.Fatal("accepted")
		}
		report[at] ^= 1
	}
}
