//go:build !release

package tdx

import (
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/tdxsim"
)

var (
	simNow = day(2026, time.June, 1)
	bound  = [64]byte{1, 2, 3, 63: 64}
)

// scene is an emulated guest's quote and documents, and who verifies them.
type scene struct {
	quote     []byte
	documents Documents
	roots     Roots
	rootsPEM  []byte
	now       time.Time
	minimum   uint32
}

// emulate makes a scene; what Options leaves out is good and up to date.
func emulate(tb testing.TB, o tdxsim.Options) scene {
	tb.Helper()
	if o.Now.IsZero() {
		o.Now = simNow
	}
	sim, err := tdxsim.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	quote, err := sim.Collect(tb.Context(), bound)
	if err != nil {
		tb.Fatal(err)
	}
	d, err := sim.Collateral()
	if err != nil {
		tb.Fatal(err)
	}
	roots, err := SoftwareRoots(sim.RootsPEM())
	if err != nil {
		tb.Fatal(err)
	}
	return scene{quote, Documents(d), roots, sim.RootsPEM(), simNow, 1}
}

// verify does all that a broker does.
func (s scene) verify() (evidence.TDXClaims, error) {
	q, err := Parse(s.quote)
	if err != nil {
		return evidence.TDXClaims{}, err
	}
	c, err := ParseCollateral(s.documents, s.roots)
	if err != nil {
		return evidence.TDXClaims{}, err
	}
	v, err := New(Options{MinimumEvaluationNumber: s.minimum, Roots: s.roots})
	if err != nil {
		return evidence.TDXClaims{}, err
	}
	return v.Verify(q, NewSet(c), bound, s.now)
}

func (s scene) claims(tb testing.TB) evidence.TDXClaims {
	tb.Helper()
	c, err := s.verify()
	if err != nil {
		tb.Fatal(err)
	}
	return c
}
