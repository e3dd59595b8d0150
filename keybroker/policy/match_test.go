package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// manyValues are reference values of trust domains that share all registers but the first: what stands last
// in the order of names, RTMR3, is zero nearly everywhere.
func manyValues(n int) []ReferenceValue {
	out := make([]ReferenceValue, n)
	for i := range out {
		out[i] = ReferenceValue{ID: fmt.Sprintf("images/%d", i), Kind: "tdx", Covers: "image",
			Registers: map[string]string{"mrtd": fmt.Sprintf("%096x", i+1), "rtmr1": hexOf(8, 48), "rtmr3": hexOf(0, 48)}}
	}
	return out
}

// unlisted are claims with the registers that those values share, and another MRTD.
func unlisted() Input {
	in := tdxGood()
	in.Claims.Registers = append(in.Claims.Registers, evidence.Measured{Register: evidence.Register{Name: "rtmr3", Value: make([]byte, 48)}})
	return in
}

// TestSharedRegistersDoNotSlowTheSearch: a guest that is refused costs no more for each value that it
// comes near to. The allocations are counted, for each value that is looked at costs some.
func TestSharedRegistersDoNotSlowTheSearch(t *testing.T) {
	cost := func(n int) float64 {
		r := newReferences(manyValues(n))
		c := unlisted().Claims
		if _, found := r.match(c, every); found {
			t.Fatal("another MRTD was found")
		}
		return testing.AllocsPerRun(3, func() { r.match(c, every) })
	}
	if few, many := cost(1), cost(4096); many > few+4 {
		t.Errorf("%v allocations with one value, %v with 4096", few, many)
	}
}

// TestRulesOverTheSameValuesShareThem: a thousand rules over all values are checked once.
func TestRulesOverTheSameValuesShareThem(t *testing.T) {
	var b strings.Builder
	b.WriteString("rules:\n")
	for i := range 3 {
		fmt.Fprintf(&b, "  - {resources: [r%d/*], require: {tenants: [tenant-1], reference_values: [images/*]}}\n", i)
	}
	p, err := Parse([]byte(strings.Replace(tdxFull(), "rules: [{resources: [models/*]}]", b.String(), 1)))
	if err != nil {
		t.Fatal(err)
	}
	if p, err = p.WithReferenceValues(manyValues(8)); err != nil {
		t.Fatal(err)
	}
	for pattern, rule := range p.rules {
		if rule.require.measurements != p.require.measurements || rule.tenant != "tenant-1" {
			t.Errorf("%s has values of its own, or tenant %q", pattern, rule.tenant)
		}
	}
}

// BenchmarkDecideOverManyValues refuses a guest that shares registers with 65,536 reference values.
func BenchmarkDecideOverManyValues(b *testing.B) {
	p, err := Parse([]byte(tdxFull()))
	if err != nil {
		b.Fatal(err)
	}
	if p, err = p.WithReferenceValues(manyValues(maxReferenceValues)); err != nil {
		b.Fatal(err)
	}
	in := unlisted()
	b.ReportAllocs()
	for b.Loop() {
		if Decide(p, in).Allowed {
			b.Fatal("allowed")
		}
	}
}

func every(ReferenceValue) bool { return true }
