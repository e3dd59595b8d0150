package evidencefile

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
)

// tpmQuote is a quote of the form that a TPM makes: nothing here looks at its signature.
func tpmQuote(nonce []byte) (attest []byte) {
	attest = []byte{0xff, 0x54, 0x43, 0x47, 0x80, 0x18, 0, 2, 1, 2, 0, byte(len(nonce))}
	return append(append(attest, nonce...), make([]byte, 60)...)
}

// TestAttestationsOfGoTPMToolsAreRead: of several quotes the one over the best bank is taken, and
// what is not read is named.
func TestAttestationsOfGoTPMToolsAreRead(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString
	quote := func(hash string, size int, nonce string) map[string]any {
		return map[string]any{"quote": b64(tpmQuote([]byte(nonce))), "rawSig": b64([]byte{1}),
			"pcrs": map[string]any{"hash": hash, "pcrs": map[string]string{"0": b64(make([]byte, size)), "4": b64(make([]byte, size))}}}
	}
	raw, err := json.Marshal(map[string]any{"akPub": b64([]byte{1, 2}), "eventLog": b64([]byte{1}), "akCert": b64([]byte{3}), "instanceInfo": map[string]string{"zone": "a"},
		"quotes": []any{quote("SHA1", 20, "sha-1 nonce"), quote("SHA256", 32, "sha-256 nonce"), quote("SHA384", 48, "sha-384 nonce")}})
	if err != nil {
		t.Fatal(err)
	}
	f, err := recognise(raw)
	if err != nil {
		t.Fatal(err)
	}
	e := f.evidence
	if e.Form != FormTPMTools || e.Kind != evidence.KindVTPM || string(e.MadeFor) != "sha-384 nonce" || len(e.Unread) != 1 || e.Unread[0] != "instanceInfo" ||
		e.Part(evidence.PartTCGLog) == nil || e.Part(evidence.EndorsementAK) == nil {
		t.Errorf("%+v", e)
	}
	raw, err = json.Marshal(map[string]any{"akPub": b64([]byte{1}), "quotes": []any{quote("SHA1", 20, "sha-1 nonce")}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = recognise(raw)
	wantReason(t, err, ReasonForm)
}

// TestTrusteesJSONIsReadInEachOfItsDresses: bytes as texts, as in newer versions, and as arrays of
// numbers, as in older ones.
func TestTrusteesJSONIsReadInEachOfItsDresses(t *testing.T) {
	newer, err := recognise(readTest(t, filepath.Join(evidencetest.Dir(t), "azure", "snp-trustee", "evidence-v1.json")))
	if err != nil {
		t.Fatal(err)
	}
	e := newer.evidence
	q, err := evidence.ParseTPMQuote(e.Part(evidence.PartTPMQuote))
	if err != nil || string(e.MadeFor) != "challenge" || len(e.Unread) != 0 {
		t.Fatalf("%+v, %v", e, err)
	}
	numbers := func(b []byte) []int {
		out := make([]int, len(b))
		for i, v := range b {
			out[i] = int(v)
		}
		return out
	}
	var pcrs [][]int
	for n := range len(q.PCRs) {
		pcrs = append(pcrs, numbers(q.PCRs[n]))
	}
	vcek := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.Part(evidence.EndorsementVCEK)})
	raw, err := json.Marshal(map[string]any{"hcl_report": numbers(e.Part(evidence.PartHCLReport)), "vcek": string(vcek),
		"tpm_quote": map[string]any{"message": numbers(q.Attest), "signature": numbers(q.Signature[6:]), "pcrs": pcrs}})
	if err != nil {
		t.Fatal(err)
	}
	older, err := recognise(raw)
	if err != nil || !bytes.Equal(older.evidence.Part(evidence.PartTPMQuote), e.Part(evidence.PartTPMQuote)) ||
		!bytes.Equal(older.evidence.Part(evidence.EndorsementVCEK), e.Part(evidence.EndorsementVCEK)) {
		t.Errorf("%+v, %v", older.evidence, err)
	}
	td := readTest(t, filepath.Join(evidencetest.Dir(t), "tdx", "03-v4-gcp-cos113", "quote.bin"))
	log := readTest(t, filepath.Join(evidencetest.Dir(t), "tdx", "03-v4-gcp-cos113", "ccel.bin"))
	raw, err = json.Marshal(map[string]any{"quote": td, "cc_eventlog": log, "aa_eventlog": nil})
	if err != nil {
		t.Fatal(err)
	}
	f, err := recognise(raw)
	if err != nil || f.form != FormTrusteeTDX || !bytes.Equal(f.evidence.Part(evidence.PartCCLog), log) {
		t.Errorf("%s, %v", f.form, err)
	}
}

// TestAzuresTDXPartsMayLieInTwoFiles, in either order.
func TestAzuresTDXPartsMayLieInTwoFiles(t *testing.T) {
	dir := filepath.Join(evidencetest.Dir(t), "azure", "openpcc-tdx")
	quote, hcl := filepath.Join(dir, "quote.bin"), filepath.Join(dir, "hclreport.bin")
	for _, files := range [][]string{{quote, hcl}, {hcl, quote}} {
		c, err := Open(files, "")
		if err != nil || c.Evidence.Kind != evidence.KindAzureTDX || len(c.Evidence.Parts) != 2 {
			t.Errorf("%+v, %v", c, err)
		}
	}
	c, err := Open([]string{hcl}, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Evidence.Envelope(); err == nil {
		t.Error("a paravisor's report alone became an envelope")
	}
}

// TestAKeptDirectoryIsReadItemByItem: of kept chips' certificates only those of the chip that the
// evidence names.
func TestAKeptDirectoryIsReadItemByItem(t *testing.T) {
	samples := filepath.Join(evidencetest.Dir(t), "snp")
	dir := t.TempDir()
	reportPath := filepath.Join(samples, "08-milan-v5-gcp", "report.bin")
	chip := readTest(t, reportPath)[0x1a0:0x1e0]
	block, _ := pem.Decode(readTest(t, filepath.Join(samples, "08-milan-v5-gcp", "vcek.pem")))
	chain, err := collateral.Certificates(readTest(t, filepath.Join(samples, "08-milan-v5-gcp", "chain.pem")))
	if err != nil {
		t.Fatal(err)
	}
	keep := func(key collateral.Key, err error, documents ...[]byte) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := collateral.Item{Key: key, Fetched: time.Unix(1700000000, 0), Documents: documents}.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, key.FileName()), raw)
	}
	own, err := collateral.Chip{Product: "Milan", HWID: chip}.Key()
	keep(own, err, block.Bytes)
	other, err := collateral.Chip{Product: "Milan", HWID: bytes.Repeat([]byte{1}, 64)}.Key()
	keep(other, err, block.Bytes)
	authorities, err := collateral.ChainKey("Milan", false)
	keep(authorities, err, chain...)
	list, err := collateral.CRLKey("Milan")
	keep(list, err, readTest(t, filepath.Join(samples, "roots", "milan.crl")))
	write(t, filepath.Join(dir, "attempts.json"), []byte("{}")) // not an item
	c, err := Open([]string{reportPath}, dir)
	if err != nil || len(c.Supplies.Chips) != 1 || len(c.Supplies.Authorities) != 2 || len(c.Supplies.Lists) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	if err := os.Rename(filepath.Join(dir, list.FileName()), filepath.Join(dir, "amd-crl_Genoa")); err != nil {
		t.Fatal(err)
	}
	_, err = Open([]string{reportPath}, dir)
	wantReason(t, err, ReasonMalformed)
}

// TestEscapedChainsAreRead as they stand in a header of Intel's service.
func TestEscapedChainsAreRead(t *testing.T) {
	text := readTest(t, filepath.Join(evidencetest.Dir(t), "tdx", "collateral-tinfoil", "qe_identity_chain.txt"))
	plain, err := url.PathUnescape(string(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, dress := range []string{string(text), plain, url.PathEscape(plain) + "\x00"} {
		if f, err := recognise([]byte(dress)); err != nil || len(f.supplies.Intel) != 2 {
			t.Errorf("%.40s: %+v, %v", dress, f, err)
		}
	}
	_, err = recognise([]byte("-----BEGIN%20%ZZ"))
	wantReason(t, err, ReasonMalformed)
}

// TestReportsThatTrusteeTookApartArePutTogether, byte for byte, from the fields of either version of
// virtee's library.
func TestReportsThatTrusteeTookApartArePutTogether(t *testing.T) {
	dir := filepath.Join(evidencetest.Dir(t), "snp")
	vcek := readTest(t, filepath.Join(dir, "01-milan-v2-google", "vcek.der"))
	for name, older := range map[string]bool{"01-milan-v2-google": true, "08-milan-v5-gcp": false, "11-genoa-v3-tsm-veraison": false} {
		raw := readTest(t, filepath.Join(dir, name, "report.bin"))
		whole := takenApart(raw, older, vcek)
		whole["attestation_report"].(map[string]any)["_reserved_4"], whole["attestation_report"].(map[string]any)["novelty"] = []int{0}, 1
		text, err := json.Marshal(whole)
		if err != nil {
			t.Fatal(err)
		}
		f, err := recognise(text)
		if err != nil || f.form != FormTrusteeSNP || !bytes.Equal(f.evidence.Part(evidence.PartSNPReport), raw) || len(f.supplies.Chips) != 1 ||
			!slices.Equal(f.evidence.Unread, []string{"attestation_report.novelty"}) {
			t.Errorf("%s: %s, %v", name, f.form, err)
		}
		report := whole["attestation_report"].(map[string]any)
		report["measurement"] = []int{1}
		if text, err = json.Marshal(whole); err != nil {
			t.Fatal(err)
		}
		_, err = recognise(text)
		wantReason(t, err, ReasonMalformed)
	}
}

// takenApart is a report as Trustee's attester serialises it.
func takenApart(raw []byte, older bool, vcek []byte) map[string]any {
	number := func(at, size int) (n uint64) {
		for i := size - 1; i >= 0; i-- {
			n = n<<8 | uint64(raw[at+i])
		}
		return n
	}
	list := func(b []byte) []int {
		out := make([]int, len(b))
		for i, v := range b {
			out[i] = int(v)
		}
		return out
	}
	at := func(begin, size int) []int { return list(raw[begin : begin+size]) }
	tcb := func(begin int) map[string]any {
		return map[string]any{"fmc": nil, "bootloader": raw[begin], "tee": raw[begin+1], "snp": raw[begin+6], "microcode": raw[begin+7]}
	}
	r := map[string]any{"version": number(0, 4), "guest_svn": number(4, 4), "policy": number(8, 8), "family_id": at(0x10, 16), "image_id": at(0x20, 16), "vmpl": number(0x30, 4),
		"sig_algo": number(0x34, 4), "current_tcb": tcb(0x38), "plat_info": number(0x40, 8), "report_data": at(0x50, 64), "measurement": at(0x90, 48), "host_data": at(0xc0, 32),
		"id_key_digest": at(0xe0, 48), "author_key_digest": at(0x110, 48), "report_id": at(0x140, 32), "report_id_ma": at(0x160, 32), "reported_tcb": tcb(0x180),
		"chip_id": at(0x1a0, 64), "committed_tcb": tcb(0x1e0), "launch_tcb": tcb(0x1f0), "signature": map[string]any{"r": at(0x2a0, 72), "s": at(0x2e8, 72)}}
	if older {
		r["_author_key_en"] = number(0x48, 4)
		r["current_build"], r["current_minor"], r["current_major"] = raw[0x1e8], raw[0x1e9], raw[0x1ea]
		r["committed_build"], r["committed_minor"], r["committed_major"] = raw[0x1ec], raw[0x1ed], raw[0x1ee]
	} else {
		r["key_info"], r["cpuid_fam_id"], r["cpuid_mod_id"], r["cpuid_step"] = number(0x48, 4), raw[0x188], raw[0x189], raw[0x18a]
		r["current"] = map[string]any{"build": raw[0x1e8], "minor": raw[0x1e9], "major": raw[0x1ea]}
		r["committed"] = map[string]any{"build": raw[0x1ec], "minor": raw[0x1ed], "major": raw[0x1ee]}
		r["launch_mit_vector"], r["current_mit_vector"] = number(0x1f8, 8), number(0x200, 8)
	}
	return map[string]any{"attestation_report": r, "cert_chain": []any{map[string]any{"cert_type": "VCEK", "data": list(vcek)}}}
}
