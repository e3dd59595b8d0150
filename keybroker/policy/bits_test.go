package policy

import (
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// judged are the reasons for a claim of PLATFORM_INFO on a product, under the full policy with
// another rule for the bits.
func judged(t *testing.T, rule string, product evidence.Product, info evidence.PlatformInfo) []Failure {
	t.Helper()
	source := strings.Replace(full(), "{set: [alias-check-complete], clear: [smt-enabled]}", rule, 1)
	in := good()
	in.Claims.Platform, in.Claims.SNP.PlatformInfo = product, info
	if product == "Turin" {
		for _, tcb := range []*evidence.TCB{&in.Claims.SNP.TCB.Current, &in.Claims.SNP.TCB.Reported, &in.Claims.SNP.TCB.Committed, &in.Claims.SNP.TCB.Launch} {
			tcb.FMC = 1
		}
	}
	var list []Failure
	for _, f := range Decide(mustParse(t, source), in).Reasons {
		if f.Reason == ReasonPlatformInfo || f.Reason == ReasonPlatformBits {
			list = append(list, f)
		}
	}
	return list
}

// Current Turin guests report 0x67; bit 6 is reserved on the lines before it.
func TestPlatformBitsAreTheProducts(t *testing.T) {
	const rule = "{set: [alias-check-complete]}"
	for _, row := range []struct {
		product evidence.Product
		info    evidence.PlatformInfo
		refused bool
	}{
		{"Turin", 0x67, false}, {"Turin", 0x27, false}, {"Turin", 0xa7, false},
		{"Turin", 0x167, true}, {"Turin", 1<<63 | 0x67, true},
		{"Genoa", 0x27, false}, {"Genoa", 0x67, true}, {"Milan", 0x25, false}, {"Milan", 0x65, true},
		{"", 0x67, true}, {"Venice", 0x67, true},
	} {
		got := judged(t, rule, row.product, row.info)
		if refused := len(got) > 0; refused != row.refused || refused && got[0].Reason != ReasonPlatformBits {
			t.Errorf("%s %#x: %v", row.product, row.info, got)
		}
	}
}

func TestPolicyMayAskForABitThatOneProductHas(t *testing.T) {
	for _, row := range []struct {
		rule    string
		product evidence.Product
		info    evidence.PlatformInfo
		want    string
	}{
		{"{set: [iommu-write-safe]}", "Turin", 0x67, ""},
		{"{set: [iommu-write-safe]}", "Turin", 0x27, "iommu-write-safe is not set"},
		{"{clear: [iommu-write-safe]}", "Turin", 0x67, "iommu-write-safe is set"},
		{"{set: [iommu-write-safe]}", "Genoa", 0x27, "does not exist on Genoa"},
		{"{clear: [iommu-write-safe]}", "Genoa", 0x27, ""}, // it cannot be set there
	} {
		got := judged(t, row.rule, row.product, row.info)
		if row.want == "" && len(got) > 0 || row.want != "" && (len(got) != 1 || got[0].Reason != ReasonPlatformInfo || !strings.Contains(got[0].Detail, row.want)) {
			t.Errorf("%s on %s %#x: %v", row.rule, row.product, row.info, got)
		}
	}
	// Bit 6 of another line is unknown there, whatever Turin calls it.
	got := judged(t, "{set: [iommu-write-safe]}", "Genoa", 0x67)
	if len(got) != 2 || got[0].Reason != ReasonPlatformInfo || got[1].Reason != ReasonPlatformBits {
		t.Errorf("%v", got)
	}
}
