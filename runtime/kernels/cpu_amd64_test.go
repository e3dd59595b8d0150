package kernels

import (
	"os"
	"regexp"
	"testing"
)

// TestVendorIsWhatLinuxSays: the name is what Linux read from the same processor.
func TestVendorIsWhatLinuxSays(t *testing.T) {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Fatal(err)
	}
	said := regexp.MustCompile(`(?m)^vendor_id\s*: (.*)$`).FindSubmatch(text)
	if said == nil || string(said[1]) != vendor() {
		t.Errorf("%q, and Linux says %q", vendor(), said)
	}
}

// TestWeightsAreFetchedAhead: each vendor's distances are whole lines of a cache, and the far ones are no nearer.
func TestWeightsAreFetchedAhead(t *testing.T) {
	if ahead != aheadOf(vendor()) { // the assembly reads it
		t.Errorf("%d for %s", ahead, vendor())
	}
	for _, vendor := range []string{"AuthenticAMD", "GenuineIntel", "another"} {
		a := aheadOf(vendor)
		for _, far := range []int{a[0], a[2]} {
			if near := a[1]; near < 1024 || far < near || far%64 != 0 || near%64 != 0 {
				t.Errorf("%s: %d and %d", vendor, far, near)
			}
		}
	}
}
