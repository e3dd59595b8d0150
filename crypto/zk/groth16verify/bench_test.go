package groth16verify_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// cpu reports the processor time of an operation, which other load changes less than
// the wall clock.
func cpu(b *testing.B, started time.Duration) {
	b.ReportMetric(float64((spent(b)-started).Microseconds())/float64(b.N), "cpu-us/op")
}

func spent(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkVerify(b *testing.B) {
	g, k := fixture(b, "commitment")
	e := envelope(b, g, 1)
	b.Run("ours", func(b *testing.B) {
		started := spent(b)
		defer func() { cpu(b, started) }()
		for b.Loop() {
			if err := k.VerifyEnvelope(b.Context(), e); err != nil {
				b.Fatal(err)
			}
		}
	})
	in := public(b, e)
	b.Run("gnark", func(b *testing.B) {
		started := spent(b)
		defer func() { cpu(b, started) }()
		for b.Loop() {
			if err := g.Verify(e.Proof, in); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkVerifyBatch100(b *testing.B) {
	g, k := fixture(b, "commitment")
	list := make([]*statement.Envelope, 100)
	for i := range list {
		list[i] = envelope(b, g, byte(i))
	}
	started := spent(b)
	defer func() { cpu(b, started) }()
	for b.Loop() {
		if err := k.VerifyEnvelopes(b.Context(), list); err != nil {
			b.Fatal(err)
		}
	}

}

func BenchmarkParseKey(b *testing.B) {
	g, _ := fixture(b, "commitment")
	for b.Loop() {
		if _, err := groth16verify.ParseKey(g.Key); err != nil {
			b.Fatal(err)
		}
	}
}
