package policy

import (
	"strings"
	"testing"
)

// TestReferenceValuesNameWhatTheHardwareMeasured: PCRs alone under Azure's kinds would be those of any guest that
// plays the paravisor and states them, and RTMRs alone those of any firmware that extends them so.
func TestReferenceValuesNameWhatTheHardwareMeasured(t *testing.T) {
	for kind, tc := range map[string]struct {
		anchors []string // each with its size
		other   string
	}{
		"azure-sev-snp": {[]string{"launch: " + hexOf(1, 48)}, "pcr4: " + hexOf(2, 32) + ", pcr11: " + hexOf(2, 32)},
		"azure-tdx":     {[]string{"mrtd: " + hexOf(1, 48)}, "rtmr1: " + hexOf(2, 48) + ", pcr4: " + hexOf(2, 32)},
		"tdx":           {[]string{"mrtd: " + hexOf(1, 48)}, "rtmr1: " + hexOf(2, 48) + ", rtmr2: " + hexOf(2, 48)},
		"vtpm":          {[]string{"pcr0: " + hexOf(1, 32), "pcr4: " + hexOf(1, 32), "pcr7: " + hexOf(1, 32)}, "pcr11: " + hexOf(2, 32) + ", pcr16: " + hexOf(2, 32)},
	} {
		file := func(registers string) []byte {
			return []byte("format: 2\nreference_values: [{id: a, kind: " + kind + ", registers: {" + registers + "}}]\n")
		}
		if _, err := ParseReferenceValues(file(tc.other)); err == nil || !strings.Contains(err.Error(), "proves nothing") {
			t.Errorf("%s with %s: %v", kind, tc.other, err)
		}
		for _, anchor := range tc.anchors {
			if _, err := ParseReferenceValues(file(anchor + ", " + tc.other)); err != nil {
				t.Errorf("%s with %s: %v", kind, anchor, err)
			}
		}
	}
}
