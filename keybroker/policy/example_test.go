package policy_test

import (
	"bytes"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/policy"
)

// A policy decides about a guest by what its report shows, and says every check that failed.
func ExampleDecide() {
	p, err := policy.Parse([]byte(`
format: 2
id: demo
version: 1
not_before: "2026-01-01T00:00:00Z"
not_after: "2027-01-01T00:00:00Z"
attestation_ttl_seconds: 600
require:
  kinds: [sev-snp]
  reference_values: [images/*]
  sev_snp:
    products: [Turin]
    vmpl: 0
    minimum_tcb:
      - {product: Turin, all: {fmc: 1, bootloader: 1, snp: 1, microcode: 1}}
waive:
  - {check: chip-ids, reason: the demo runs anywhere}
  - {check: platform-info, reason: the demo runs anywhere}
  - {check: guest-policy, reason: the demo runs anywhere}
  - {check: id-key, reason: the demo runs anywhere}
  - {check: author-key, reason: the demo runs anywhere}
  - {check: host-data, reason: the demo runs anywhere}
  - {check: firmware-version, reason: the demo runs anywhere}
  - {check: report-version, reason: the demo runs anywhere}
  - {check: mitigations, reason: the demo runs anywhere}
  - {check: guest-svn, reason: the demo runs anywhere}
  - {check: family-id, reason: the demo runs anywhere}
  - {check: id-block-image, reason: the demo runs anywhere}
  - {check: agent-build, reason: the demo runs anywhere}
  - {check: image, reason: the demo runs anywhere}
  - {check: tenant, reason: the demo runs anywhere}
  - {check: memory-limit, reason: the demo runs anywhere}
rules:
  - resources: [models/*]
`))
	if err != nil {
		log.Fatal(err)
	}
	p, err = p.WithReferenceValues([]policy.ReferenceValue{{ID: "images/demo", Measurement: strings.Repeat("07", 48)}})
	if err != nil {
		log.Fatal(err)
	}
	tcb := evidence.TCB{FMC: 1, BootLoader: 1, SNP: 1, Microcode: 1}
	guest := policy.Input{Resource: "models/demo", Now: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC), Claims: evidence.Claims{
		Kind: evidence.KindSNP, Platform: "Turin", Registers: []evidence.Measured{evidence.LaunchRegister(bytes.Repeat([]byte{7}, 48))},
		SNP: &evidence.SNPClaims{ChipID: bytes.Repeat([]byte{1}, 64), TCB: evidence.TCBs{Reported: tcb, Committed: tcb, Launch: tcb, Current: tcb}}}}
	d := policy.Decide(p, guest)
	fmt.Println(d.Allowed, d.LeaseTTL)

	guest.Claims.Debug = true
	guest.Claims.SNP.VMPL = 1
	for _, failure := range policy.Decide(p, guest).Reasons {
		fmt.Println(failure.Reason)
	}
	// Output:
	// true 10m0s
	// debug-enabled
	// vmpl-not-allowed
}
