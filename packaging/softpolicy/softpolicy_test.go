package softpolicy_test

import (
	"testing"

	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/anchorhold/anchorhold/packaging/softpolicy"
)

const head = `format: 2
id: test
version: 1
not_before: "2020-01-01T00:00:00Z"
not_after: "2099-01-01T00:00:00Z"
attestation_ttl_seconds: 300
allow_software_tee: true
rules:
  - resources: [models/*]
require:
  reference_values: [demo/*]
  image_ids: [demo-image]
  memory_limit: {min_mib: 32, max_mib: 128}
`

const waived = `waive:
  - {check: agent-build, reason: test}
  - {check: tenant, reason: test}
`

// TestThePartsOfAPolicyAreWhole: every check of the kind is required or waived, and none is waived that
// is required, which the policy refuses.
func TestThePartsOfAPolicyAreWhole(t *testing.T) {
	for kind, parts := range map[string][2]string{
		"sev-snp": {softpolicy.RequireSNP, softpolicy.WaiveSNP},
		"tdx":     {softpolicy.RequireTDX + "  event_log: {registers: [rtmr1]}\n", softpolicy.WaiveTDX},
	} {
		if _, err := policy.Parse([]byte(head + "  kinds: [" + kind + "]\n" + parts[0] + waived + parts[1])); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if _, err := policy.Parse([]byte(head + "  kinds: [" + kind + "]\n" + parts[0] + waived)); err == nil {
			t.Errorf("%s: nothing had to be waived", kind)
		}
	}
}
