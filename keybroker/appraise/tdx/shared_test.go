package tdx

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
)

func readFile(tb testing.TB, elem ...string) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func day(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 12, 0, 0, 0, time.UTC) }

// phalaDocuments are in a container of dcap-qvl's, which has the signed texts as they are.
func phalaDocuments(tb testing.TB) Documents {
	var c struct {
		PCKCRLChain  string `json:"pck_crl_issuer_chain"`
		RootCRL      hexed  `json:"root_ca_crl"`
		PCKCRL       hexed  `json:"pck_crl"`
		TCBChain     string `json:"tcb_info_issuer_chain"`
		TCBInfo      string `json:"tcb_info"`
		TCBSignature string `json:"tcb_info_signature"`
		QEChain      string `json:"qe_identity_issuer_chain"`
		QEIdentity   string `json:"qe_identity"`
		QESignature  string `json:"qe_identity_signature"`
	}
	if err := json.Unmarshal(readFile(tb, evidencetest.Dir(tb), "tdx", "04-v4-phala", "collateral.json"), &c); err != nil {
		tb.Fatal(err)
	}
	return Documents{
		TCBInfo: []byte(`{"tcbInfo":` + c.TCBInfo + `,"signature":"` + c.TCBSignature + `"}`), TCBInfoChain: []byte(c.TCBChain),
		QEIdentity: []byte(`{"enclaveIdentity":` + c.QEIdentity + `,"signature":"` + c.QESignature + `"}`), QEIdentityChain: []byte(c.QEChain),
		PCKCRL: c.PCKCRL, PCKCRLChain: []byte(c.PCKCRLChain), RootCRL: c.RootCRL,
	}
}

// hexed is bytes that JSON has in hexadecimal.
type hexed []byte

func (h *hexed) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// moduleFile is a sample that go-tdx-guest carries.
func moduleFile(tb testing.TB, elem ...string) []byte {
	tb.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/go-tdx-guest").Output()
	dir := strings.TrimSpace(string(out))
	if err != nil || dir == "" {
		tb.Skip("go-tdx-guest is not in the module cache; `go mod download github.com/google/go-tdx-guest` gets it")
	}
	return readFile(tb, append([]string{dir, "testing", "testdata"}, elem...)...)
}

// moduleDocuments are go-tdx-guest's, of June 2023, for the platform 50806f000000. Its issuer chains
// stand in the source text of its tests, as the headers' values.
func moduleDocuments(tb testing.TB) Documents {
	source := moduleFile(tb, "..", "test_cases.go")
	chain := func(name string) []byte {
		_, text, found := strings.Cut(string(source), "var "+name+" = []string{\n\t\"")
		text, _, ends := strings.Cut(text, "\"")
		if !found || !ends {
			tb.Fatalf("no %s in go-tdx-guest's tests", name)
		}
		return []byte(text)
	}
	return Documents{
		TCBInfo: moduleFile(tb, "sample_tcbInfo_response"), TCBInfoChain: chain("tcbInfoIssuerChain"),
		QEIdentity: moduleFile(tb, "sample_qeIdentity_response"), QEIdentityChain: chain("qeIdentityIssuerChain"),
		PCKCRL: moduleFile(tb, "pckcrl"), PCKCRLChain: chain("pckCrlIssuerChain"), RootCRL: moduleFile(tb, "rootcrl.der"),
	}
}

// tinfoilDocuments are files as Intel's PCS served them on 2026-01-12.
func tinfoilDocuments(tb testing.TB, fmspc string) Documents {
	read := func(name string) []byte { return readFile(tb, evidencetest.Dir(tb), "tdx", "collateral-tinfoil", name) }
	return Documents{
		TCBInfo: read("tcb_info_" + fmspc + ".json"), TCBInfoChain: read("tcb_info_" + fmspc + "_chain.txt"),
		QEIdentity: read("qe_identity.json"), QEIdentityChain: read("qe_identity_chain.txt"),
		PCKCRL: read("pck_crl_platform.crl"), PCKCRLChain: read("pck_crl_platform_chain.txt"), RootCRL: read("root_ca.crl"),
	}
}

func mustCollateral(tb testing.TB, d Documents, roots Roots) *Collateral {
	tb.Helper()
	c, err := ParseCollateral(d, roots)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// intelVerifier believes Intel's root and every evaluation number.
func intelVerifier(tb testing.TB) *Verifier {
	tb.Helper()
	v, err := New(Options{MinimumEvaluationNumber: 1})
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

// wantReason fails unless err is a refusal with the reason; "" is success.
func wantReason(tb testing.TB, err error, reason refusal.Reason) {
	tb.Helper()
	if reason == "" {
		if err != nil {
			tb.Errorf("got %v, want success", err)
		}
		return
	}
	var r *refusal.Error
	if !errors.As(err, &r) || r.Reason != reason {
		tb.Errorf("got %v, want a refusal %q", err, reason)
	}
}
