//go:build !release

// Package guesttest has emulated guests of every other kind than SEV-SNP for the test broker of
// package brokertest: each with its event log, what its platform's vendor publishes, a reference
// value and a policy. Nothing they prove is believed outside of tests. Tests of keybroker call it.
package guesttest

import (
	"context"
	"fmt"
	"testing"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/tdxsim"
	"github.com/anchorhold/anchorhold/guest/tpmsim"
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/appraise/kinds"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tdx"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/policy"
)

// Guest is an emulated guest, a [brokertest.Guest].
type Guest struct {
	kind      evidence.Kind
	collect   func(ctx context.Context, challenge [64]byte) (evidence.Envelope, error)
	registers map[string]string
	believe   func(tb testing.TB, o *kinds.Options)
}

// Collect returns evidence for a challenge.
func (g *Guest) Collect(ctx context.Context, challenge [64]byte) (evidence.Envelope, error) {
	return g.collect(ctx, challenge)
}

// Kinds are the kinds of evidence that it makes.
func (g *Guest) Kinds() []evidence.Kind { return []evidence.Kind{g.kind} }

// Value is its reference value, "test-guest".
func (g *Guest) Value() policy.ReferenceValue {
	return policy.ReferenceValue{ID: "test-guest", Kind: string(g.kind), Registers: g.registers, Covers: "image", Software: g.kind != evidence.KindVTPM}
}

// Verifier judges it by its roots and documents, and SEV-SNP as snp does.
func (g *Guest) Verifier(tb testing.TB, snp *appraise.Verifier) keybroker.KindAppraiser {
	tb.Helper()
	o := kinds.Options{SNP: snp}
	g.believe(tb, &o)
	return kinds.New(o)
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatalf("emulated guest: %v", err)
	}
}

// boot is what all of them boot.
func boot() tpmsim.Boot {
	return tpmsim.Boot{SecureBoot: true, Loader: []byte("loader"), Kernel: []byte("kernel"), Initrd: []byte("initrd"), CommandLine: "quiet"}
}

// TrustDomain boots a guest of TDX, with quotes of version 4 or 5.
func TrustDomain(tb testing.TB, version uint16) *Guest {
	tb.Helper()
	log := tpmsim.NewLog(tpmsim.CCLog)
	must(tb, boot().Write(log))
	mrtd := brokertest.Measurement()
	guest := tdxsim.Guest{Version: version, MRTD: mrtd}
	for i := range guest.RTMR {
		guest.RTMR[i] = log.RTMR(i)
	}
	td := domain(tb, guest)
	c := tdxsim.Collector{TDX: td, Log: log.Bytes()}
	return &Guest{kind: evidence.KindTDX, collect: c.Collect, believe: believeTDX(td),
		registers: map[string]string{"mrtd": fmt.Sprintf("%x", mrtd), "rtmr1": fmt.Sprintf("%x", guest.RTMR[1]), "rtmr2": fmt.Sprintf("%x", guest.RTMR[2])}}
}

func domain(tb testing.TB, guest tdxsim.Guest) *tdxsim.TDX {
	tb.Helper()
	td, err := tdxsim.New(tdxsim.Options{Now: now(), Guest: guest})
	must(tb, err)
	return td
}

// believeTDX has quotes judged by an emulated platform's root and its documents.
func believeTDX(td *tdxsim.TDX) func(testing.TB, *kinds.Options) {
	return func(tb testing.TB, o *kinds.Options) {
		tb.Helper()
		roots, err := tdx.SoftwareRoots(td.RootsPEM())
		must(tb, err)
		o.TDX, err = tdx.New(tdx.Options{MinimumEvaluationNumber: 1, Roots: roots})
		must(tb, err)
		docs, err := td.Collateral()
		must(tb, err)
		collateral, err := tdx.ParseCollateral(tdx.Documents(docs), roots)
		must(tb, err)
		o.TDXCollateral = tdx.NewSet(collateral)
	}
}
