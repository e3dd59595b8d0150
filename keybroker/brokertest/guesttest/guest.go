//go:build !release

// Package guesttest has emulated guests of every other kind than SEV-SNP for the test broker of
// package brokertest: those of guest/emulated, each with a reference value, a verifier that believes
// it, and a policy. Nothing they prove is believed outside of tests. Tests of keybroker call it.
package guesttest

import (
	"testing"

	"github.com/anchorhold/anchorhold/guest/emulated"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/appraise/kinds"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/brokertest/domaintest"
	"github.com/anchorhold/anchorhold/keybroker/policy"
)

// Guest is an emulated guest, a [brokertest.Guest].
type Guest struct{ *emulated.Guest }

// New boots a guest of a kind. Quotes of TDX have the version, 4 or 5; 0 is 4, and right for all others.
func New(tb testing.TB, kind evidence.Kind, version uint16) Guest {
	tb.Helper()
	g, err := emulated.New(tb.Context(), emulated.Options{Kind: kind, QuoteVersion: version, Dir: brokertest.ChainDir(tb), Measurement: brokertest.Measurement(), Bank: "sha384"})
	must(tb, err)
	return Guest{g}
}

// Value is its reference value, "test-guest".
func (g Guest) Value() policy.ReferenceValue {
	kind := g.Kinds()[0]
	return policy.ReferenceValue{ID: "test-guest", Kind: string(kind), Registers: g.Registers(), Covers: "image", Software: kind != evidence.KindVTPM}
}

// Verifier judges it by its roots, documents or key, and SEV-SNP as snp does.
func (g Guest) Verifier(tb testing.TB, snp *appraise.Verifier) keybroker.KindAppraiser {
	tb.Helper()
	o := kinds.Options{SNP: snp}
	if name := g.KeyName(); name != nil {
		o.Enrolled = [][]byte{name}
	}
	if td := g.Domain(); td != nil {
		o.TDX, o.TDXCollateral = domaintest.Verifier(tb, td, g.RootsPEM())
	}
	return kinds.New(o)
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatalf("emulated guest: %v", err)
	}
}
