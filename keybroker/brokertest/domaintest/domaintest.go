//go:build !release

// Package domaintest has what a broker needs to believe an emulated trust domain: its roots, and what
// Intel would publish about its platform. Tests of the guest's packages call it, which link no broker for it.
package domaintest

import (
	"testing"

	"github.com/anchorhold/anchorhold/guest/tdxsim"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tdx"
)

// Verifier judges quotes of the trust domain under these roots, with the documents of its platform.
func Verifier(tb testing.TB, td *tdxsim.TDX, rootsPEM []byte) (*tdx.Verifier, *tdx.Set) {
	tb.Helper()
	roots, err := tdx.SoftwareRoots(rootsPEM)
	if err != nil {
		tb.Fatal(err)
	}
	v, err := tdx.New(tdx.Options{MinimumEvaluationNumber: 1, Roots: roots})
	if err != nil {
		tb.Fatal(err)
	}
	docs, err := td.Collateral()
	if err != nil {
		tb.Fatal(err)
	}
	collateral, err := tdx.ParseCollateral(tdx.Documents(docs), roots)
	if err != nil {
		tb.Fatal(err)
	}
	return v, tdx.NewSet(collateral)
}
