package softpolicy_test

import (
	"testing"

	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/anchorhold/anchorhold/packaging/softpolicy"
)

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
		if _, err := policy.Parse([]byte(softpolicy.Head + "  kinds: [" + kind + "]\n" + parts[0] + waived + parts[1])); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if _, err := policy.Parse([]byte(softpolicy.Head + "  kinds: [" + kind + "]\n" + parts[0] + waived)); err == nil {
			t.Errorf("%s: nothing had to be waived", kind)
		}
	}
}
