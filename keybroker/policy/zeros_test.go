package policy

import (
	"fmt"
	"strings"
	"testing"
)

// TestZerosAreAValueOfRegistersThatNothingExtends, never of one that names what was started.
func TestZerosAreAValueOfRegistersThatNothingExtends(t *testing.T) {
	zeros, some := strings.Repeat("0", 64), strings.Repeat("1", 64)
	for register, good := range map[string]bool{"pcr12": true, "pcr13": true, "pcr0": false, "pcr7": false, "pcr11": false, "pcr14": false} {
		text := fmt.Sprintf("format: 2\nreference_values:\n  - {id: a, kind: vtpm, registers: {pcr4: %q, %s: %q}}\n", some, register, zeros)
		if _, err := ParseReferenceValues([]byte(text)); (err == nil) != good {
			t.Errorf("%s: %v", register, err)
		}
	}
	alone := fmt.Sprintf("format: 2\nreference_values:\n  - {id: a, kind: vtpm, registers: {pcr12: %q}}\n", zeros)
	if _, err := ParseReferenceValues([]byte(alone)); err == nil {
		t.Error("PCR 12 alone passes")
	}
}
