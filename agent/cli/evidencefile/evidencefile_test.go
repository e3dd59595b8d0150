package evidencefile

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tdx"
)

// report is an SEV-SNP report of zeros over some data: nothing here looks at its signature.
func report() []byte {
	r := make([]byte, snpReportBytes)
	r[0], r[snpAlgorithmAt] = 3, 1
	for i := range 64 {
		r[snpReportDataAt+i] = byte(i + 1)
	}
	return r
}

func envelope(tb testing.TB, parts ...evidence.Part) []byte {
	tb.Helper()
	env, err := evidence.NewEnvelope(evidence.KindSNP, append([]evidence.Part{{Type: evidence.PartSNPReport, Data: report()}}, parts...)...)
	if err != nil {
		tb.Fatal(err)
	}
	raw, err := env.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// answerJSON is what our local API answers, with members changed.
func answerJSON(tb testing.TB, change map[string]any) []byte {
	tb.Helper()
	nonce, key := bytes.Repeat([]byte{7}, 16), bytes.Repeat([]byte{8}, 32)
	challenge := evidence.CallerBinding{Nonce: nonce, AgentKeyID: [32]byte(key)}.Challenge()
	members := map[string]any{"kind": "sev-snp", "nonce": hex.EncodeToString(nonce), "agent_key_id": hex.EncodeToString(key),
		"report_data": hex.EncodeToString(challenge[:]), "evidence": envelope(tb)}
	for name, value := range change {
		members[name] = value
	}
	raw, err := json.Marshal(members)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// TestFormsAreToldByTheBytesAlone, in every dress that text gives them.
func TestFormsAreToldByTheBytesAlone(t *testing.T) {
	raw := report()
	for name, c := range map[string]struct {
		data []byte
		form Form
	}{
		"report":              {raw, FormSNPReport},
		"in hexadecimal":      {[]byte(hex.EncodeToString(raw) + "\n"), FormSNPReport},
		"in broken lines":     {[]byte("0x" + hex.EncodeToString(raw[:500]) + "\r\n" + hex.EncodeToString(raw[500:])), FormSNPReport},
		"in base64":           {[]byte(base64.StdEncoding.EncodeToString(raw)), FormSNPReport},
		"in base64url":        {[]byte(base64.RawURLEncoding.EncodeToString(raw)), FormSNPReport},
		"base64 of hex":       {[]byte(base64.StdEncoding.EncodeToString([]byte(hex.EncodeToString(raw)))), FormSNPReport},
		"our envelope":        {envelope(t), FormEnvelope},
		"our envelope in hex": {[]byte(hex.EncodeToString(envelope(t))), FormEnvelope},
		"our answer":          {answerJSON(t, nil), FormAnswer},
		"tsm as JSON":         {fmt.Appendf(nil, `{"provider":"sev_guest\n","outblob":%q}`, base64.URLEncoding.EncodeToString(raw)), FormTSM},
		"PEM of nobody":       {nil, ""},
	} {
		f, err := recognise(c.data)
		if c.form == "" {
			wantReason(t, err, ReasonForm)
			continue
		}
		if err != nil || f.form != c.form || !bytes.Equal(f.evidence.MadeFor, raw[0x50:0x90]) {
			t.Errorf("%s: %s, %v", name, f.form, err)
		}
	}
}

func TestWhatIsNoEvidenceIsRefusedByName(t *testing.T) {
	long := bytes.Repeat([]byte("ab"), 20)
	for name, c := range map[string]struct {
		data   []byte
		reason refusal.Reason
	}{
		"nothing":                   {nil, ReasonForm},
		"zeros":                     {make([]byte, 64), ReasonForm},
		"a word":                    {[]byte("evidence"), ReasonForm},
		"hexadecimal of nothing":    {[]byte(hex.EncodeToString(long)), ReasonForm},
		"another object":            {[]byte(`{"a":1}`), ReasonForm},
		"a member twice":            {[]byte(`{"outblob":"","outblob":""}`), ReasonMalformed},
		"an object that goes on":    {[]byte(`{"outblob":""} {}`), ReasonMalformed},
		"an object cut short":       {[]byte(`{"outblob":`), ReasonMalformed},
		"a list in its place":       {[]byte(`{"quote":[1,2,256]}`), ReasonMalformed},
		"a key in PEM":              {[]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), ReasonForm},
		"PEM cut short":             {[]byte("-----BEGIN CERTIFICATE-----\nAAAA\n"), ReasonMalformed},
		"a certificate of nothing":  {[]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), ReasonMalformed},
		"an envelope cut short":     {envelope(t)[:100], evidence.ReasonMalformedEvidence},
		"another key in the answer": {answerJSON(t, map[string]any{"agent_key_id": strings.Repeat("01", 32)}), ReasonMalformed},
		"no key in the answer":      {answerJSON(t, map[string]any{"agent_key_id": "0102"}), ReasonMalformed},
		"a report of TDX's guest":   {fmt.Appendf(nil, `{"provider":"tdx_guest","outblob":%q}`, base64.StdEncoding.EncodeToString(report())), ReasonMalformed},
		"a table that points away":  {fmt.Appendf(nil, `{"outblob":%q,"auxblob":%q}`, base64.StdEncoding.EncodeToString(report()), base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 48))), "attestation-failed"},
	} {
		_, err := recognise(c.data)
		if reason, ok := refusal.ReasonOf(err); !ok || c.reason != "attestation-failed" && reason != c.reason {
			t.Errorf("%s: got %v, want %q", name, err, c.reason)
		}
	}
}

// TestUnreadMembersAreNamed: nothing in a JSON object is passed over in silence.
func TestUnreadMembersAreNamed(t *testing.T) {
	f, err := recognise(answerJSON(t, map[string]any{"signature": "x", "Evidence": 1}))
	if err != nil || !slices.Equal(f.evidence.Unread, []string{"Evidence", "signature"}) {
		t.Errorf("%+v, %v", f.evidence, err)
	}
}

func TestFilesOfTwoGuestsAreRefused(t *testing.T) {
	dir := t.TempDir()
	a, b := write(t, dir+"/a", report()), write(t, dir+"/b", envelope(t))
	_, err := Open([]string{a, b}, "")
	wantReason(t, err, ReasonSeveral)
	_, err = Open([]string{a, a}, "")
	wantReason(t, err, ReasonSeveral)
	_, err = Open(make([]string, MaxFiles+1), "")
	wantReason(t, err, ReasonSize)
	_, err = Open([]string{write(t, dir+"/large", make([]byte, MaxFileBytes+1))}, "")
	wantReason(t, err, ReasonSize)
	if _, err = Open([]string{dir + "/none"}, ""); err == nil {
		t.Error("a file that is not there was read")
	}
	_, err = Open([]string{dir}, "")
	wantReason(t, err, ReasonForm)
	log := make([]byte, 200)
	copy(log[specIDAt:], specIDEvent)
	l := write(t, dir+"/log", log)
	_, err = Open([]string{l, l}, "")
	wantReason(t, err, ReasonSeveral)
	_, err = Open([]string{b, l}, "")
	wantReason(t, err, ReasonSeveral)
	c, err := Open([]string{l}, "")
	if err != nil || c.Evidence.Form != FormEventLog || c.Evidence.Kind != "" {
		t.Errorf("%+v, %v", c, err)
	}
	_, err = Open(nil, "")
	wantReason(t, err, ReasonNone)
}

func TestADirectoryOfConfigfsIsRead(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "outblob"), report())
	write(t, filepath.Join(dir, "provider"), []byte("sev_guest\n"))
	c, err := Open([]string{dir}, "")
	if err != nil || c.Evidence.Form != FormTSM || c.Evidence.Kind != evidence.KindSNP {
		t.Errorf("%+v, %v", c, err)
	}
	write(t, filepath.Join(dir, "provider"), []byte("arm_cca_guest\n"))
	_, err = Open([]string{dir}, "")
	wantReason(t, err, ReasonMalformed)
}

// TestRealFilesAreRecognised: each sample under the form that its source says.
func TestRealFilesAreRecognised(t *testing.T) {
	dir := evidencetest.Dir(t)
	for path, want := range map[string]any{
		"azure/constellation-tdx/hclreport.bin":        FormHCL,
		"azure/openpcc-tdx/hclreport.bin":              FormHCL,
		"azure/openpcc-tdx/quote.bin":                  FormTDXQuote,
		"azure/snp-trustee/evidence-v1.json":           FormTrusteeAzureSNP,
		"eventlog/ccel-ovmf-trustee.bin":               FormEventLog,
		"eventlog/cos-101-amd-sev.bin":                 FormEventLog,
		"nvidia/hopper-report.hex":                     FormGPU,
		"nvidia/hopper-chain.txt":                      formSupply,
		"nvidia/device-root.pem":                       formSupply,
		"snp/01-milan-v2-google/report.bin":            FormSNPReport,
		"snp/01-milan-v2-google/vcek.der":              formSupply,
		"snp/01-milan-v2-google/chain.pem":             formSupply,
		"snp/06-milan-v2-virtee/report.bin":            FormSNPReport,
		"snp/07-milan-v3-dstack/report.bin":            FormSNPReport,
		"snp/08-milan-v5-gcp/report.bin":               FormSNPReport,
		"snp/11-genoa-v3-tsm-veraison/report.bin":      FormSNPReport,
		"snp/neg-vcek-invalid-legacy.der":              formSupply,
		"snp/neg-vcek-invalid-new.der":                 formSupply,
		"snp/roots/genoa.crl":                          formSupply,
		"snp/roots/genoa_chain.pem":                    formSupply,
		"tdx/02-v5-google/quote.bin":                   FormTDXQuote,
		"tdx/02-v5-google/sample_tcbinfo_response_v5":  formSupply,
		"tdx/03-v4-gcp-cos113/quote.bin":               FormTDXQuote,
		"tdx/03-v4-gcp-cos113/ccel.bin":                FormEventLog,
		"tdx/04-v4-phala/quote.bin":                    FormTDXQuote,
		"tdx/04-v4-phala/collateral.json":              formSupply,
		"tdx/07-v4-debug-trustee/quote.bin":            FormTDXQuote,
		"tdx/17-v4-entropy/quote1.bin":                 FormTDXQuote,
		"tdx/collateral-tinfoil/root_ca.crl":           formSupply,
		"tdx/collateral-tinfoil/qe_identity.json":      formSupply,
		"tdx/collateral-tinfoil/qe_identity_chain.txt": formSupply,
		"tdx/collateral-tinfoil/pck_crl_platform.crl":  formSupply,
		"tdx/neg-sgx-v3/quote.bin":                     tdx.ReasonTEEType,
		"measure/ovmf_AmdSev_suffix.bin":               ReasonForm,
		"tdx/03-v4-gcp-cos113/ccel-table.bin":          ReasonForm,
		"tdx/03-v4-gcp-cos113/nonce.bin":               ReasonForm,
		"measure/idblock/test_auth_block.bin":          ReasonForm,
	} {
		f, err := recognise(readTest(t, filepath.Join(dir, path)))
		if reason, refused := want.(refusal.Reason); refused {
			if got, _ := refusal.ReasonOf(err); got != reason {
				t.Errorf("%s: %v, want %q", path, err, reason)
			}
		} else if err != nil || f.form != want.(Form) {
			t.Errorf("%s: %s, %v; want %s", path, f.form, err, want)
		}
	}
}

// TestDirectoriesOfCollateralAreRead: files of any name, those of no use named.
func TestDirectoriesOfCollateralAreRead(t *testing.T) {
	dir := evidencetest.Dir(t)
	quote := filepath.Join(dir, "tdx", "04-v4-phala", "quote.bin")
	c, err := Open([]string{quote}, filepath.Join(dir, "tdx", "collateral-tinfoil"))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(c.Supplies.TDXDocuments()); len(c.Supplies.TCBInfos) != 2 || n != 4 {
		t.Errorf("%d TCB infos in %d combinations, want each with either authority's list", len(c.Supplies.TCBInfos), n)
	}
	c, err = Open([]string{quote}, filepath.Join(dir, "tdx", "04-v4-phala"))
	if err != nil || len(c.Supplies.Complete) != 1 || !slices.ContainsFunc(c.Files, func(f File) bool { return f.Form == FormPassedOver }) {
		t.Errorf("%+v, %v", c, err)
	}
}

// FuzzRecognise: whatever the bytes are, they are told or refused with a reason.
func FuzzRecognise(f *testing.F) {
	f.Add(report())
	f.Add(envelope(f))
	f.Add(answerJSON(f, nil))
	f.Add([]byte(hex.EncodeToString(report())))
	f.Add([]byte(`{"provider":"sev_guest","outblob":"AAAA","auxblob":[1,2,3]}`))
	f.Add([]byte(`{"hcl_report":"00","tpm_quote":{"message":"00","signature":[1],"pcrs":["00"]},"vcek":"AA"}`))
	f.Add([]byte(`{"akPub":"AAAA","quotes":[{"quote":"AA","rawSig":"AA","pcrs":{"hash":"SHA256","pcrs":{"0":"AA"}}}],"eventLog":"AA"}`))
	f.Add([]byte(`{"attestation_report":{"version":3,"current_tcb":{"snp":1},"signature":{"r":[1],"s":[2]}},"cert_chain":[{"cert_type":"VCEK","data":[48]}]}`))
	f.Add([]byte(`{"tcb_info":"{}","qe_identity":"{}","pck_crl":"00"}`))
	f.Add([]byte("-----BEGIN%20CERTIFICATE-----%0AAAAA%0A-----END%20CERTIFICATE-----"))
	f.Fuzz(func(t *testing.T, data []byte) {
		found, err := recognise(data)
		if err != nil {
			if _, ok := refusal.ReasonOf(err); !ok {
				t.Errorf("a refusal without a reason: %v", err)
			}
			return
		}
		if found.form == "" || found.evidence != nil && len(found.evidence.Parts) == 0 {
			t.Errorf("%+v", found)
		}
	})
}
