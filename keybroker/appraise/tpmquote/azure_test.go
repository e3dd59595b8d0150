package tpmquote

import (
	"bytes"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
)

// azureQuote is the quote of a real guest of Azure's: its key stands in the data that the CPU's
// report covers, and no public area comes with it.
func azureQuote(tb testing.TB) (evidence.TPMQuote, *rsa.PublicKey, []byte) {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join(evidencetest.Dir(tb), "azure", "snp-trustee", "evidence-v1.json"))
	if err != nil {
		tb.Fatal(err)
	}
	var file struct {
		HCL   string `json:"hcl_report"`
		Quote struct {
			Message   string   `json:"message"`
			PCRs      []string `json:"pcrs"`
			Signature string   `json:"signature"`
		} `json:"tpm_quote"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		tb.Fatal(err)
	}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			tb.Fatal(err)
		}
		return b
	}
	q := evidence.TPMQuote{Attest: unhex(file.Quote.Message), Bank: evidence.BankSHA256, PCRs: map[int]evidence.Hex{}}
	for n, value := range file.Quote.PCRs {
		q.PCRs[n] = unhex(value)
	}
	var b cryptobyte.Builder
	b.AddUint16(algRSASSA)
	b.AddUint16(algSHA256)
	add2B(&b, unhex(file.Quote.Signature))
	q.Signature = b.BytesOrPanic()
	hcl, err := base64.URLEncoding.DecodeString(file.HCL)
	if err != nil {
		tb.Fatal(err)
	}
	begin, end := bytes.Index(hcl, []byte(`{"keys"`)), bytes.LastIndexByte(hcl, '}')
	var runtime struct {
		Keys []struct{ Kid, N string } `json:"keys"`
	}
	if err := json.Unmarshal(hcl[begin:end+1], &runtime); err != nil {
		tb.Fatal(err)
	}
	for _, k := range runtime.Keys {
		if k.Kid == "HCLAkPub" {
			n, err := base64.RawURLEncoding.DecodeString(k.N)
			if err != nil {
				tb.Fatal(err)
			}
			a, err := parseAttestation(q.Attest)
			if err != nil {
				tb.Fatal(err)
			}
			return q, &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: rsaExponent}, a.nonce
		}
	}
	tb.Fatal("no attestation key in the report's data")
	return q, nil, nil
}

func TestQuoteOfARealAzureGuestIsVerified(t *testing.T) {
	q, key, asked := azureQuote(t)
	data, err := q.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	want := Expected{Nonce: asked, PCRs: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11}, Trust: TrustReportedKey(key), Now: noon()}
	c, err := Verify(data, want)
	if err != nil || len(c.PCRs) != 24 || c.AKTrust != evidence.AKReport || !c.Safe {
		t.Fatalf("%+v, %v", c, err)
	}
	t.Logf("nonce of %d bytes, firmware %x, %d resets", len(asked), c.FirmwareVersion, c.ResetCount)
	q.PCRs[4][0] ^= 1
	if data, err = q.Marshal(); err != nil {
		t.Fatal(err)
	}
	_, err = Verify(data, want)
	wantReason(t, err, ReasonDigest)
	want.Trust = TrustReportedKey(rsaKey(t).Public())
	_, err = Verify(data, want)
	wantReason(t, err, ReasonSignature)
}
