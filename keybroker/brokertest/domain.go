//go:build !release

package brokertest

import (
	"fmt"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/guest/tdxsim"
	"github.com/anchorhold/anchorhold/guest/tpmsim"
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/appraise/kinds"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tdx"
	"github.com/anchorhold/anchorhold/keybroker/policy"
)

// TrustDomain is an emulated guest of TDX.
type TrustDomain struct {
	// Guest makes its evidence, with the log of its boot.
	Guest tdxsim.Collector

	mrtd  [48]byte
	rtmrs [4][48]byte
}

// NewTrustDomain boots one, with quotes of version 4 or 5.
func NewTrustDomain(tb testing.TB, version uint16) *TrustDomain {
	tb.Helper()
	log := tpmsim.NewLog(tpmsim.CCLog)
	boot := tpmsim.Boot{SecureBoot: true, Loader: []byte("loader"), Kernel: []byte("kernel"), Initrd: []byte("initrd"), CommandLine: "quiet"}
	check(tb, boot, boot.Write(log))
	d := &TrustDomain{mrtd: Measurement()}
	for i := range d.rtmrs {
		d.rtmrs[i] = log.RTMR(i)
	}
	td, err := tdxsim.New(tdxsim.Options{Now: time.Now(), Guest: tdxsim.Guest{Version: version, MRTD: d.mrtd, RTMR: d.rtmrs}})
	d.Guest = tdxsim.Collector{TDX: check(tb, td, err), Log: log.Bytes()}
	return d
}

// WithTrustDomain has the fixture's guest be a trust domain, which the broker judges beside the
// software TEE.
func WithTrustDomain(d *TrustDomain) Option { return func(o *options) { o.domain = d } }

// Value is its reference value, "test-domain".
func (d *TrustDomain) Value() policy.ReferenceValue {
	registers := map[string]string{"mrtd": fmt.Sprintf("%x", d.mrtd)}
	for _, i := range []int{1, 2} {
		registers[fmt.Sprintf("rtmr%d", i)] = fmt.Sprintf("%x", d.rtmrs[i])
	}
	return policy.ReferenceValue{ID: "test-domain", Kind: "tdx", Registers: registers, Covers: "image", Software: true}
}

// verifier judges it by its root and its documents, and SEV-SNP as snp does.
func (d *TrustDomain) verifier(tb testing.TB, snp kinds.SNPVerifier) keybroker.KindAppraiser {
	tb.Helper()
	roots, err := tdx.SoftwareRoots(d.Guest.TDX.RootsPEM())
	check(tb, roots, err)
	v, err := tdx.New(tdx.Options{MinimumEvaluationNumber: 1, Roots: roots})
	check(tb, v, err)
	docs, err := d.Guest.TDX.Collateral()
	check(tb, docs, err)
	collateral, err := tdx.ParseCollateral(tdx.Documents(docs), roots)
	check(tb, collateral, err)
	return kinds.New(kinds.Options{SNP: snp, TDX: v, TDXCollateral: tdx.NewSet(collateral)})
}

// DomainPolicy is a policy file that opens models/* to the emulated trust domain.
func DomainPolicy() string {
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
