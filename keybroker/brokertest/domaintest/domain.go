//go:build !release

// Package domaintest is an emulated guest of TDX for the test broker of package brokertest: with its
// event log, its platform's documents, a reference value and a policy. Nothing it proves is
// believed outside of tests. Tests of keybroker call it.
package domaintest

import (
	"fmt"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/guest/tdxsim"
	"github.com/anchorhold/anchorhold/guest/tpmsim"
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/appraise/kinds"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tdx"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/policy"
)

// TrustDomain is an emulated guest of TDX, a [brokertest.Guest]. Its evidence has the log of its boot.
type TrustDomain struct {
	tdxsim.Collector

	mrtd  [48]byte
	rtmrs [4][48]byte
}

// New boots one, with quotes of version 4 or 5.
func New(tb testing.TB, version uint16) *TrustDomain {
	tb.Helper()
	log := tpmsim.NewLog(tpmsim.CCLog)
	boot := tpmsim.Boot{SecureBoot: true, Loader: []byte("loader"), Kernel: []byte("kernel"), Initrd: []byte("initrd"), CommandLine: "quiet"}
	must(tb, boot.Write(log))
	d := &TrustDomain{mrtd: brokertest.Measurement()}
	for i := range d.rtmrs {
		d.rtmrs[i] = log.RTMR(i)
	}
	td, err := tdxsim.New(tdxsim.Options{Now: time.Now(), Guest: tdxsim.Guest{Version: version, MRTD: d.mrtd, RTMR: d.rtmrs}})
	must(tb, err)
	d.Collector = tdxsim.Collector{TDX: td, Log: log.Bytes()}
	return d
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatalf("emulated trust domain: %v", err)
	}
}

// Value is its reference value, "test-domain".
func (d *TrustDomain) Value() policy.ReferenceValue {
	registers := map[string]string{"mrtd": fmt.Sprintf("%x", d.mrtd)}
	for _, i := range []int{1, 2} {
		registers[fmt.Sprintf("rtmr%d", i)] = fmt.Sprintf("%x", d.rtmrs[i])
	}
	return policy.ReferenceValue{ID: "test-domain", Kind: "tdx", Registers: registers, Covers: "image", Software: true}
}

// Verifier judges it by its root and its documents, and SEV-SNP as snp does.
func (d *TrustDomain) Verifier(tb testing.TB, snp *appraise.Verifier) keybroker.KindAppraiser {
	tb.Helper()
	roots, err := tdx.SoftwareRoots(d.TDX.RootsPEM())
	must(tb, err)
	v, err := tdx.New(tdx.Options{MinimumEvaluationNumber: 1, Roots: roots})
	must(tb, err)
	docs, err := d.TDX.Collateral()
	must(tb, err)
	collateral, err := tdx.ParseCollateral(tdx.Documents(docs), roots)
	must(tb, err)
	return kinds.New(kinds.Options{SNP: snp, TDX: v, TDXCollateral: tdx.NewSet(collateral)})
}

// Policy is a policy file that opens models/* to the emulated trust domain.
func Policy() string {
	return `format: 2
id: test
version: 1
not_before: 2020-01-01T00:00:00Z
not_after: 2099-01-01T00:00:00Z
attestation_ttl_seconds: 600
allow_software_tee: true
require:
  kinds: [tdx]
  reference_values: [test-domain]
  tdx:
    tcb_statuses: [UpToDate]
    minimum_evaluation_number: 18
  event_log: {registers: [rtmr0, rtmr1, rtmr2], secure_boot: true}
waive:
  - {check: tdx-advisories, reason: test}
  - {check: tdx-attributes, reason: test}
  - {check: tdx-xfam, reason: test}
  - {check: tdx-module, reason: test}
  - {check: tdx-config-id, reason: test}
  - {check: tdx-owner, reason: test}
  - {check: tdx-owner-config, reason: test}
  - {check: tdx-platform, reason: test}
  - {check: agent-build, reason: test}
  - {check: image, reason: test}
  - {check: tenant, reason: test}
  - {check: memory-limit, reason: test}
rules:
  - {resources: ["models/*"]}
`
}
