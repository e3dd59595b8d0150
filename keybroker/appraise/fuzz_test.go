package appraise

import (
	"bytes"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
)

// FuzzPitfall26And27Appraise: no evidence makes the verifier panic, every
// refusal has a reason, and nothing but the seed's own report is accepted.
func FuzzPitfall26And27Appraise(f *testing.F) {
	s := moduleSample(f)
	f.Add(s.report, s.vcek, s.issuers[0], s.issuers[1], false)
	f.Add(s.report, s.vcek, s.issuers[0], s.issuers[1], true)
	f.Add([]byte{}, []byte{}, []byte{}, []byte{}, false)
	v := lenient(f)
	f.Fuzz(func(t *testing.T, report, leaf, issuer, root []byte, vlek bool) {
		env := evidence.Envelope{Kind: evidence.KindSNP, Parts: []evidence.Part{{Type: evidence.PartSNPReport, Data: report},
			{Type: evidence.EndorsementARK, Data: root}, {Type: evidence.EndorsementASK, Data: issuer}, {Type: evidence.EndorsementVCEK, Data: leaf}}}
		if vlek {
			env.Parts[2].Type, env.Parts[3].Type = evidence.EndorsementASVK, evidence.EndorsementVLEK
		}
		var want [64]byte
		if len(report) >= 0x90 {
			want = [64]byte(report[0x50:0x90])
		}
		_, err := v.Appraise(t.Context(), env, want, s.now)
		if err == nil && !bytes.Equal(report[:signedSize], s.report[:signedSize]) {
			t.Error("a report that nobody signed was accepted")
		}
		if _, ok := refusal.ReasonOf(err); err != nil && !ok {
			t.Errorf("a refusal without a reason: %v", err)
		}
	})
}

// FuzzParseReport reads reports alone: claims come out of whatever parses.
func FuzzParseReport(f *testing.F) {
	f.Add(moduleSample(f).report)
	f.Add(make([]byte, reportSize))
	reserved := bytes.Clone(moduleSample(f).report)
	reserved[0x29f] = 1
	f.Add(reserved)
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := parseReport(raw)
		if err != nil {
			if r != nil {
				t.Error("a report came with a refusal")
			}
			return
		}
		for _, p := range []product{"", milan, genoa, turin} {
			c := r.claims(p, &chipKey{}, false)
			if len(c.SNP.Measurement) != 48 || len(c.SNP.ReportData) != 64 || len(c.SNP.ChipID) != 64 {
				t.Error("a claim has another size")
			}
		}
	})
}

// FuzzRevocationList: lists come from the operator's files, fetched from elsewhere.
func FuzzRevocationList(f *testing.F) {
	f.Add([]byte{0x30, 0})
	if list, ok := evidencetest.Seed(f, "snp", "roots", "milan.crl"); ok {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		v, err := New(Options{RevocationLists: [][]byte{der}})
		if err == nil && (len(v.revocation.Load().lists) != 1 || v.revocation.Load().lists[0].Number == nil) {
			t.Error("a list without a number was accepted")
		}
	})
}

// FuzzChipKey reads extensions of certificates as they come.
func FuzzChipKey(f *testing.F) {
	f.Add([]byte("\x16\x08Milan-B0"), []byte{2, 1, 3}, bytes.Repeat([]byte{1}, 64))
	f.Add([]byte("\x16\x05Turin"), []byte{2, 2, 0, 0xff}, []byte{4, 8, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, name, number, id []byte) {
		ext := map[string][]byte{extProductName: name, extBootLoader: number, extTEE: number, extSNP: number, extMicrocode: number, extFMC: number}
		for _, p := range []product{milan, genoa, turin} {
			k := chipKey{product: p}
			_ = k.readTCB(ext)
			if got, err := hwid(id, p.hwidSize()); err == nil && len(got) != p.hwidSize() {
				t.Errorf("%s: a hardware id of %d bytes", p, len(got))
			}
		}
		if s, err := ia5String(ext, extProductName); err == nil && s == "" {
			t.Error("an empty name")
		}
	})
}
