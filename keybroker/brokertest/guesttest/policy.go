//go:build !release

package guesttest

import (
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
)

// head and tail are what policies of every kind have.
const (
	head = `format: 2
id: test
version: 1
not_before: 2020-01-01T00:00:00Z
not_after: 2099-01-01T00:00:00Z
attestation_ttl_seconds: 600
allow_software_tee: true
rules:
  - {resources: ["models/*"]}
`
	tail = `  - {check: agent-build, reason: test}
  - {check: image, reason: test}
  - {check: tenant, reason: test}
  - {check: memory-limit, reason: test}
`
	waiveTDX = `  - {check: tdx-advisories, reason: test}
  - {check: tdx-attributes, reason: test}
  - {check: tdx-xfam, reason: test}
  - {check: tdx-module, reason: test}
  - {check: tdx-config-id, reason: test}
  - {check: tdx-owner, reason: test}
  - {check: tdx-owner-config, reason: test}
  - {check: tdx-platform, reason: test}
`
)

// Policy is a policy file that opens models/* to the emulated guest of a kind.
func Policy(kind evidence.Kind) string {
	require := "require:\n  kinds: [" + string(kind) + "]\n  reference_values: [test-guest]\n"
	switch kind {
	case evidence.KindTDX:
		return head + require + `  tdx: {tcb_statuses: [UpToDate], minimum_evaluation_number: 18}
  event_log: {registers: [rtmr0, rtmr1, rtmr2], secure_boot: true}
waive:
` + waiveTDX + tail
	case evidence.KindVTPM:
		return head + require + `  tpm: {ak_trust: [enrolled], pcrs: [0, 4, 7, 9]}
  event_log: {registers: [pcr4, pcr7, pcr9], secure_boot: true}
waive:
` + tail
	case evidence.KindAzureSNP:
		return head + require + `  sev_snp: {products: [Genoa], vmpl: 0, minimum_tcb: [{product: Genoa, all: {}}]}
  tpm: {ak_trust: [report], pcrs: [0, 4, 7, 9]}
  azure: {secure_boot: true}
  event_log: {registers: [pcr4, pcr7, pcr9], secure_boot: true}
waive:
` + brokertest.WaiveSNP + tail
	case evidence.KindAzureTDX:
		return head + require + `  tdx: {tcb_statuses: [UpToDate], minimum_evaluation_number: 18}
  tpm: {ak_trust: [report], pcrs: [0, 4, 7, 9]}
  azure: {secure_boot: true}
  event_log: {registers: [pcr4, pcr7, pcr9], secure_boot: true}
waive:
` + waiveTDX + tail
	}
	return ""
}
