package policy

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

func FuzzParse(f *testing.F) {
	f.Add([]byte(full()))
	f.Add([]byte(waivers()))
	f.Add([]byte(tdxFull()))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _ = Migrate(b)
		p, err := Parse(b)
		if err != nil {
			return
		}
		if d := Decide(p, Input{}); d.Allowed {
			t.Fatal("the zero input was allowed")
		}
		_ = Explain(p)
	})
}

func FuzzParseReferenceValues(f *testing.F) {
	f.Add([]byte("format: 1\nreference_values: [{id: a, measurement: " + hexOf(1, 48) + "}]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		values, err := ParseReferenceValues(b)
		if err == nil && (len(values) == 0 || values[0].check() != nil) {
			t.Fatal("a malformed value was accepted")
		}
	})
}

// FuzzDecide removes and changes claims: whatever is missing, an allowed input
// satisfies every requirement, checked here a second time in other words.
func FuzzDecide(f *testing.F) {
	p := mustParse(f, full())
	g := good()
	c, _ := json.Marshal(g.Claims)
	u, _ := json.Marshal(g.Guest)
	f.Add(c, u, "models/tiny", g.Now.Unix())
	f.Add([]byte("{}"), []byte("{}"), "", int64(0))
	f.Fuzz(func(t *testing.T, claims, guest []byte, resource string, now int64) {
		in := Input{Resource: resource, Now: time.Unix(now, 0)}
		_ = json.Unmarshal(claims, &in.Claims) // what does not parse stays missing
		_ = json.Unmarshal(guest, &in.Guest)
		d := Decide(p, in)
		if d.Allowed != (len(d.Reasons) == 0) {
			t.Fatalf("%+v", d)
		}
		if k := in.Claims; d.Allowed && (k.Kind != evidence.KindSNP || k.Debug || k.SoftwareTEE || k.Migratable || k.SNP == nil || k.SNP.VMPL != 0 ||
			len(k.SNP.ChipID) != 64 || len(k.Registers) == 0 || k.SNP.TCB.Committed.SNP < 20 || in.Guest.ImageID != "image-1" || k.SNP.VLEK) {
			t.Fatalf("allowed: %+v", in)
		}
	})
}
