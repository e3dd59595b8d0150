package hcl

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
	"github.com/anchorhold/anchorhold/keybroker/appraise"
)

// azureSNP is complete evidence of an Azure VM with SEV-SNP.
type azureSNP struct {
	hcl, message, signature, vcek []byte
	pcrs                          [][]byte
}

func readAzureSNP(tb testing.TB) (e azureSNP) {
	tb.Helper()
	var text struct {
		HCL   string `json:"hcl_report"`
		VCEK  string `json:"vcek"`
		Quote struct {
			Message   string   `json:"message"`
			Signature string   `json:"signature"`
			PCRs      []string `json:"pcrs"`
		} `json:"tpm_quote"`
	}
	if err := json.Unmarshal(evidencetest.Read(tb, "azure", "snp-trustee", "evidence-v1.json"), &text); err != nil {
		tb.Fatal(err)
	}
	decode := func(how func(string) ([]byte, error), s string) []byte {
		b, err := how(s)
		if err != nil {
			tb.Fatal(err)
		}
		return b
	}
	e.hcl = decode(base64.RawURLEncoding.DecodeString, strings.TrimRight(text.HCL, "="))
	e.vcek = decode(base64.RawURLEncoding.DecodeString, strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(text.VCEK))
	e.message, e.signature = decode(hex.DecodeString, text.Quote.Message), decode(hex.DecodeString, text.Quote.Signature)
	for _, pcr := range text.Quote.PCRs {
		e.pcrs = append(e.pcrs, decode(hex.DecodeString, pcr))
	}
	return e
}

func milanChain(tb testing.TB) (ask, ark []byte) {
	first, rest := pem.Decode(evidencetest.Read(tb, "snp", "01-milan-v2-google", "chain.pem"))
	second, _ := pem.Decode(rest)
	return first.Bytes, second.Bytes
}

// TestARealVMIsVerifiedFromTheChipToItsPCRs follows every link of real evidence: the chip's
// certificate, its report, the runtime data, the attestation key, the quote, its nonce, the PCRs.
func TestARealVMIsVerifiedFromTheChipToItsPCRs(t *testing.T) {
	e := readAzureSNP(t)
	report, err := Parse(e.hcl)
	if err != nil {
		t.Fatal(err)
	}
	ask, ark := milanChain(t)
	env := evidence.Envelope{Kind: report.Kind(), Parts: []evidence.Part{{Type: evidence.PartSNPReport, Data: report.SNPReport()},
		{Type: evidence.EndorsementARK, Data: ark}, {Type: evidence.EndorsementASK, Data: ask}, {Type: evidence.EndorsementVCEK, Data: e.vcek}}}
	v, err := appraise.New(appraise.Options{WithoutRevocation: true})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
	claims, err := v.Appraise(t.Context(), env, report.ReportData(), now)
	if err != nil {
		t.Fatal(err)
	}
	runtime, err := report.ConfirmSNP(*claims.SNP)
	if err != nil {
		t.Fatal(err)
	}
	c := runtime.Claims
	if c.Hardware != evidence.KindSNP || c.HCLVersion != 1 || c.RequestVersion != 1 || c.Hash != "sha256" || c.VMID != "26F8BC30-774E-4290-8E7A-535F3B672AEE" ||
		c.SecureBoot == nil || !*c.SecureBoot || c.TPMEnabled == nil || !*c.TPMEnabled || c.TPMPersisted != nil || c.Console == nil || !*c.Console ||
		!bytes.Equal(c.UserData, make([]byte, 64)) || len(c.Unknown) != 0 || len(c.AK) != 32 || runtime.EK == nil || len(c.EK) != 32 {
		t.Errorf("claims %+v", c)
	}
	checkQuote(t, runtime, e, []byte("challenge"))
	if wrong := slices.Clone(e.message); true {
		wrong[len(wrong)-1] ^= 1
		sum := sha256.Sum256(wrong)
		if rsa.VerifyPKCS1v15(runtime.AK, crypto.SHA256, sum[:], e.signature[len(e.signature)-256:]) == nil {
			t.Error("a changed quote verifies")
		}
	}
}

// checkQuote verifies a TPM quote by hand (TPM 2.0 Library, part 2, TPMS_ATTEST): RSASSA with
// SHA-256 by the attestation key, the nonce, and the digest of the selected PCRs.
func checkQuote(t *testing.T, r Runtime, e azureSNP, nonce []byte) {
	t.Helper()
	m := e.message
	sum := sha256.Sum256(m)
	if err := rsa.VerifyPKCS1v15(r.AK, crypto.SHA256, sum[:], e.signature); err != nil {
		t.Fatal(err)
	}
	take := func(n int) []byte {
		if len(m) < n {
			t.Fatal("the quote is cut short")
		}
		var head []byte
		head, m = m[:n], m[n:]
		return head
	}
	sized := func() []byte { return take(int(binary.BigEndian.Uint16(take(2)))) }
	if !bytes.Equal(take(6), []byte{0xff, 'T', 'C', 'G', 0x80, 0x18}) {
		t.Fatal("not a quote")
	}
	signer := sized()
	if got := sized(); subtle.ConstantTimeCompare(got, nonce) != 1 {
		t.Errorf("the nonce is %q", got)
	}
	take(17 + 8) // clock, counts, safe; firmware version
	if !bytes.Equal(take(4), []byte{0, 0, 0, 1}) || !bytes.Equal(take(2), []byte{0, 0x0b}) {
		t.Fatal("not one selection, of the SHA-256 bank")
	}
	selected, h := take(int(take(1)[0])), sha256.New()
	for i, pcr := range e.pcrs {
		if selected[i/8]>>(i%8)&1 == 1 {
			h.Write(pcr)
		}
	}
	if !bytes.Equal(sized(), h.Sum(nil)) || len(m) != 0 {
		t.Error("the quote is of other PCRs")
	}
	if len(signer) != 34 {
		t.Errorf("the signer's qualified name has %d bytes", len(signer))
	}
	if !r.IsAK(r.AK.N.Bytes(), 0) || !r.IsAK(r.AK.N.Bytes(), 65537) || r.IsAK(r.AK.N.Bytes(), 3) || r.IsAK(r.AK.N.Bytes()[1:], 0) || (Runtime{}).IsAK(nil, 0) {
		t.Error("IsAK tells keys apart wrongly")
	}
	if other := bytes.Clone(r.AK.N.Bytes()); true {
		other[100] ^= 1
		if r.IsAK(other, 0) {
			t.Error("another modulus passes for the attestation key's")
		}
	}
}

// quoteClaims are the claims of a version 4 quote's body, without verifying it.
func quoteClaims(quote []byte) (c evidence.TDXClaims, reportData [64]byte) {
	b := quote[48:]
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	c = evidence.TDXClaims{
		QuoteVersion: 4, BodyType: 2, TEETCBSVN: b[:16], MRSEAM: b[16:64], MRSignerSEAM: b[64:112], SEAMAttributes: u64(112), TDAttributes: u64(120),
		XFAM: u64(128), MRTD: b[136:184], MRConfigID: b[184:232], MROwner: b[232:280], MROwnerConfig: b[280:328],
		RTMR: [4]evidence.Hex{b[328:376], b[376:424], b[424:472], b[472:520]},
	}
	return c, [64]byte(b[520:584])
}

func TestARealTDXVMsQuoteAgreesWithItsTDREPORT(t *testing.T) {
	report, err := Parse(evidencetest.Read(t, "azure", "openpcc-tdx", "hclreport.bin"))
	if err != nil {
		t.Fatal(err)
	}
	claims, over := quoteClaims(evidencetest.Read(t, "azure", "openpcc-tdx", "quote.bin"))
	runtime, err := report.ConfirmTDX(claims, over)
	if err != nil {
		t.Fatal(err)
	}
	c := runtime.Claims
	if c.Hardware != evidence.KindTDX || c.HCLVersion != 2 || c.VMID != "e59b8ec3-0a8d-4243-b10a-9b5505870f04" || c.FilteredVPCI == nil || *c.FilteredVPCI ||
		c.TPMPersisted == nil || !*c.TPMPersisted || c.RootCertThumbprint != "" || len(c.Unknown) != 0 {
		t.Errorf("claims %+v", c)
	}
	if len(report.TDReport()) != 1024 || report.SNPReport() != nil {
		t.Error("a TDREPORT passes for an SEV-SNP report")
	}
	other, err := Parse(evidencetest.Read(t, "azure", "constellation-tdx", "hclreport.bin"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.ConfirmTDX(claims, over); err == nil {
		t.Error("the quote of one VM confirms the runtime data of another")
	}
}
