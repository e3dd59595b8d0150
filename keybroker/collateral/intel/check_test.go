package intel

import (
	"bytes"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tdx"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
)

// TestRealDocumentsAreForTheirPlatformAlone: Intel's of January 2026, at their time.
func TestRealDocumentsAreForTheirPlatformAlone(t *testing.T) {
	file := func(name string) []byte { return evidencetest.Read(t, "tdx", "collateral-tinfoil", name) }
	docs := collateral.TDXDocuments{TCBInfo: file("tcb_info_90c06f000000.json"), TCBInfoChain: file("tcb_info_90c06f000000_chain.txt"), QEIdentity: file("qe_identity.json"), QEIdentityChain: file("qe_identity_chain.txt"),
		PCKCRL: file("pck_crl_platform.crl"), PCKCRLChain: file("pck_crl_platform_chain.txt"), RootCRL: file("root_ca.crl")}
	chain, err := issuerChain(string(docs.TCBInfoChain))
	if err != nil {
		t.Fatal(err)
	}
	docs.TCBInfoChain = chain // as it is kept
	real := collateral.Platform{FMSPC: [6]byte{0x90, 0xc0, 0x6f}, CA: collateral.CAPlatform, Update: collateral.UpdateStandard}
	now := time.Date(2026, 1, 20, 12, 0, 0, 0, time.UTC)
	accepted := func(change func(*collateral.Platform, *collateral.TDXDocuments), now time.Time) bool {
		p, d := real, docs
		change(&p, &d)
		return Check(tdx.Roots{})(p, d, now) == nil
	}
	for what, c := range map[string]struct {
		change func(*collateral.Platform, *collateral.TDXDocuments)
		now    time.Time
		want   bool
	}{
		"as they are":             {func(*collateral.Platform, *collateral.TDXDocuments) {}, now, true},
		"by their number":         {func(p *collateral.Platform, _ *collateral.TDXDocuments) { p.Update = "18" }, now, true},
		"by another number":       {func(p *collateral.Platform, _ *collateral.TDXDocuments) { p.Update = "19" }, now, false},
		"for another platform":    {func(p *collateral.Platform, _ *collateral.TDXDocuments) { p.FMSPC[5] = 1 }, now, false},
		"for the other authority": {func(p *collateral.Platform, _ *collateral.TDXDocuments) { p.CA = collateral.CAProcessor }, now, false},
		"after their end":         {func(*collateral.Platform, *collateral.TDXDocuments) {}, now.AddDate(0, 1, 0), false},
		"before their begin":      {func(*collateral.Platform, *collateral.TDXDocuments) {}, now.AddDate(0, -1, 0), false},
		"changed": {func(_ *collateral.Platform, d *collateral.TDXDocuments) {
			d.TCBInfo = bytes.Replace(d.TCBInfo, []byte(`"pceId":"0000"`), []byte(`"pceId":"0001"`), 1)
		}, now, false},
	} {
		if accepted(c.change, c.now) != c.want {
			t.Errorf("%s: accepted is %t", what, !c.want)
		}
	}
}
