package evidencejudge

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli/evidencefile"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tdx"
	"github.com/anchorhold/anchorhold/packaging/oracletest"
)

// The table of docs/evidence-samples.md lies between these lines.
const (
	tableBegin = "<!-- samples: written by make evidence-table -->\n"
	tableEnd   = "<!-- end of samples -->\n"
)

// notEvidence says of the files that no row of the table has what they are.
func notEvidence() []string {
	return []string{
		"measure/",                      // what launch measurements are computed from
		"nvidia/device-root.pem",        // pinned
		"snp/roots/",                    // certificates and lists
		"tdx/02-v5-google/sample_tcb",   // another platform's document
		"tdx/03-v4-gcp-cos113/ccel-tab", // says where the log lies
		"tdx/03-v4-gcp-cos113/nonce",    // what the quote is over
		"tdx/collateral-tinfoil/",       // Intel's documents
		"tdx/neg-sgx-v3/",               // refused before it is judged: TestQuotesOfEnclavesAreRefusedByName
	}
}

// moreSamples are rows of other tests: of files that have to be renamed, and with documents that
// go-tdx-guest carries.
func moreSamples(t *testing.T, dir string) []sample {
	t.Helper()
	configfs, documents := t.TempDir(), t.TempDir()
	module := func(elem ...string) []byte {
		out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/go-tdx-guest").Output()
		if err != nil {
			t.Fatal(err)
		}
		return readFile(t, append([]string{strings.TrimSpace(string(out)), "testing"}, elem...)...)
	}
	genoa := filepath.Join("snp", "11-genoa-v3-tsm-veraison")
	write(t, filepath.Join(configfs, "outblob"), readFile(t, dir, genoa, "report.bin"))
	write(t, filepath.Join(configfs, "auxblob"), readFile(t, dir, genoa, "auxblob.bin"))
	for to, from := range map[string]string{"tcb_info.json": "sample_tcbInfo_response", "qe_identity.json": "sample_qeIdentity_response", "pck.crl": "pckcrl", "root.crl": "rootcrl.der"} {
		write(t, filepath.Join(documents, to), module("testdata", from))
	}
	// Its issuer chains stand in the source text of its tests, as the headers' values.
	for i, part := range strings.Split(string(module("test_cases.go")), "\t\"-----BEGIN%20")[1:] {
		text, _, _ := strings.Cut(part, "\"")
		write(t, filepath.Join(documents, fmt.Sprintf("chain%d.txt", i)), []byte("-----BEGIN%20"+text))
	}
	return []sample{
		{name: "snp 11 with its table", files: []string{configfs}, collateral: filepath.Join(dir, "snp", "roots"), at: day(2025, time.June, 1), revocation: Passed, accepted: true},
		{name: "tdx 07, a debug guest, with documents that go-tdx-guest carries", files: []string{filepath.Join(dir, "tdx", "07-v4-debug-trustee", "quote.bin")}, collateral: documents,
			at: day(2023, time.July, 1), revocation: Passed},
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, elem ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// explained are the rows on which another verifier disagrees, each with the reason.
func explained() map[string]string {
	const level = "no level matches is a claim here, which no policy accepts"
	return map[string]string{
		"snp 08, its list not there":                                      "go-sev-guest asks for no list unless an option says so",
		"snp 08, its list over":                                           "go-sev-guest does not look at the end of a list that it fetched (D13)",
		"azure, collateral to come":                                       "go-tdx-guest does not look at issueDate (D4)",
		"tdx 03, no collateral known":                                     "without documents go-tdx-guest judges no platform (D3)",
		"tdx 07, no collateral known":                                     "without documents go-tdx-guest judges no platform, and accepts a debug guest (D3)",
		"tdx 17, no level matches":                                        level,
		"tdx 17, the other":                                               level,
		"azure, without a TPM's quote":                                    "the quote holds, but nothing that it covers is fresh: the paravisor answers a nonce with the TPM's quote",
		"tdx 07, a debug guest, with documents that go-tdx-guest carries": "debug is a claim here, which no policy accepts unless it says so",
	}
}

// others are the verdicts of other verifiers on one sample: the program's name, and what it says;
// empty where it accepts.
type others map[string]string

// besides asks everyone who reads evidence of this kind.
func besides(t *testing.T, o *oracletest.Oracle, p *oracletest.DCAPQVL, c *evidencefile.Contents, s sample) others {
	t.Helper()
	e, all := c.Evidence, others{}
	if report := reportOf(e); report != nil {
		a := o.SNP(t, snpRequest(c, report, s.at))
		all["go-sev-guest"] = a.Verify
	}
	quote := e.Part(evidence.PartTDXQuote)
	if quote == nil {
		return all
	}
	documents := c.Supplies.TDXDocuments()
	if len(documents) == 0 {
		all["go-tdx-guest, asked for no documents"] = o.TDX(t, oracletest.TDXRequest{Quote: quote, Unix: s.at.Unix()}).Err
		return all
	}
	// The first combination that is accepted; else the last that is for the platform.
	for _, d := range documents {
		if c, err := tdx.ParseCollateral(tdx.Documents(d), tdx.Roots{}); err == nil && c.CA() != tdx.PlatformCA {
			continue // no sample is of the other authority
		}
		d := oracletest.TDXDocuments(d)
		for name, say := range map[string]func() string{
			"go-tdx-guest": func() string {
				return o.TDX(t, oracletest.TDXRequest{Quote: quote, Documents: &d, Unix: s.at.Unix()}).Err
			},
			"dcap-qvl": func() string {
				return p.TDX(t, oracletest.DCAPQVLRequest{Quote: quote, Documents: d, Unix: s.at.Unix()}).Err
			},
		} {
			said := say()
			if before, asked := all[name]; !asked || before != "" && (said == "" || !strings.Contains(strings.ToLower(said), "fmspc")) {
				all[name] = said
			}
		}
	}
	return all
}

// reportOf is the report of SEV-SNP, also inside Azure's container.
func reportOf(e *evidencefile.Evidence) []byte {
	if r := e.Part(evidence.PartSNPReport); r != nil {
		return r
	}
	if hcl := e.Part(evidence.PartHCLReport); e.Kind == evidence.KindAzureSNP && len(hcl) > 32+1184 {
		return hcl[32:][:1184]
	}
	return nil
}

// snpRequest has the certificates of the evidence or beside it, and the list if there is one.
func snpRequest(c *evidencefile.Contents, report []byte, at time.Time) oracletest.SNPRequest {
	r := oracletest.SNPRequest{Report: report, VCEK: c.Evidence.Part(evidence.EndorsementVCEK), Unix: at.Unix()}
	for _, chip := range c.Supplies.Chips {
		r.VCEK = chip.Raw
	}
	for _, a := range c.Supplies.Authorities {
		if strings.HasPrefix(a.Subject.CommonName, "ARK-") {
			r.ARK = a.Raw
		} else {
			r.ASK = a.Raw
		}
	}
	for _, list := range c.Supplies.Lists {
		if r.RootCRL == nil || strings.HasSuffix(list.Issuer.CommonName, "Genoa") == (report[0x189] == 0x11) {
			r.RootCRL = list.Raw
		}
	}
	return r
}

// TestEverySample prints the table of every sample that there is, with our verdict and those of
// others, and holds docs/evidence-samples.md to it.
func TestEverySample(t *testing.T) {
	dir := evidencetest.Dir(t)
	o, p := oracletest.Start(t), oracletest.StartDCAPQVL(t)
	var b strings.Builder
	b.WriteString("| sample | files | at | kind | here | a policy may accept it | others |\n|---|---|---|---|---|---|---|\n")
	rows := append(samples(dir), moreSamples(t, dir)...)
	for _, s := range rows {
		c, err := evidencefile.Open(s.files, s.collateral)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		v := judge(t, Options{Now: s.at, WithoutRevocation: s.without}, s.collateral, s.files...)
		if got := v.Error; (got == nil) != (s.reason == "") || got != nil && got.Reason != s.reason {
			t.Errorf("%s: %+v, want %q", s.name, got, s.reason)
		}
		said := besides(t, o, p, c, s)
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", s.name, filesOf(dir, s), s.at.Format(time.DateOnly), v.kind(), v.words(), yes(s.accepted), said.words(t, s, v))
	}
	t.Log("\n" + b.String())
	everyFileIsInARow(t, dir, rows)
	sameTable(t, b.String())
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// kind is the evidence's kind, or its form where it is of none.
func (v Verdict) kind() string {
	if v.Kind != "" {
		return string(v.Kind)
	}
	return string(v.Form)
}

// words are the verdict in a cell.
func (v Verdict) words() string {
	switch {
	case v.Error != nil:
		return "`" + string(v.Error.Reason) + "`"
	case v.Claims.TDX != nil:
		return fmt.Sprintf("verified, %s%s", v.Claims.TDX.TCB.Status, debug(v))
	case v.Claims.SNP != nil:
		return fmt.Sprintf("verified, %s, report version %d%s%s", v.Claims.Platform, v.Claims.SNP.ReportVersion, debug(v), waived(v))
	}
	return "verified"
}

func debug(v Verdict) string {
	if v.Claims.Debug {
		return ", debug"
	}
	return ""
}

func waived(v Verdict) string {
	if v.outcome(CheckRevocation) == Waived {
		return ", revocation waived"
	}
	return ""
}

// words are what the others say, in a cell. A disagreement that nothing explains is an error, and an
// explanation of nothing.
func (o others) words(t *testing.T, s sample, v Verdict) string {
	t.Helper()
	var list []string
	disagreed, why := false, explained()[s.name]
	for name, said := range o {
		verdict := "accepts"
		if said != "" {
			verdict = "refuses (" + strings.ReplaceAll(short(said), "|", "/") + ")"
		}
		list = append(list, name+" "+verdict)
		disagreed = disagreed || (said == "") != (v.Error == nil)
	}
	slices.Sort(list)
	if disagreed != (why != "") {
		t.Errorf("%s: we say %s, others %v; the table says %q", s.name, v.words(), list, why)
	}
	if why != "" {
		list = append(list, "because "+why)
	}
	if len(list) == 0 {
		return "-"
	}
	return strings.Join(list, "; ")
}

// short is an error's first line, cut where it is long.
func short(text string) string {
	text, _, _ = strings.Cut(strings.TrimSpace(strings.TrimPrefix(text, "ValueError: Verification failed: ")), "\n")
	if len(text) > 90 {
		text = text[:90] + "..."
	}
	return text
}

// filesOf are a sample's files below the directory, in a cell.
func filesOf(dir string, s sample) string {
	var list []string
	for _, f := range append(slices.Clone(s.files), s.collateral) {
		if rel, err := filepath.Rel(dir, f); err == nil && f != "" && !strings.HasPrefix(rel, "..") {
			list = append(list, "`"+filepath.ToSlash(rel)+"`")
		}
	}
	if len(list) == 0 || s.name == "snp 11 with its table" {
		return "`snp/11-genoa-v3-tsm-veraison/{report,auxblob}.bin`"
	}
	return strings.Join(list, ", ")
}

// everyFileIsInARow of the table, or no evidence.
func everyFileIsInARow(t *testing.T, dir string, rows []sample) {
	t.Helper()
	named := notEvidence()
	named = append(named, "snp/11-genoa-v3-tsm-veraison/auxblob.bin")
	for _, s := range rows {
		for _, f := range s.files {
			if rel, err := filepath.Rel(dir, f); err == nil {
				named = append(named, filepath.ToSlash(rel))
			}
		}
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		rel, failed := filepath.Rel(dir, path)
		if err != nil || failed != nil || d.IsDir() || filepath.Ext(path) == ".md" {
			return err
		}
		if !slices.ContainsFunc(named, func(n string) bool { return strings.HasPrefix(filepath.ToSlash(rel), n) }) {
			t.Errorf("no row has %s", rel)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// sameTable holds the page to the table, or writes it if UPDATE is set.
func sameTable(t *testing.T, want string) {
	t.Helper()
	page := filepath.Join("..", "..", "..", "docs", "evidence-samples.md")
	before, rest, begins := strings.Cut(string(readFile(t, page)), tableBegin)
	have, after, ends := strings.Cut(rest, tableEnd)
	switch {
	case !begins || !ends:
		t.Fatalf("%s has no lines %q and %q", page, tableBegin, tableEnd)
	case have == want:
	case os.Getenv("UPDATE") != "":
		write(t, page, []byte(before+tableBegin+want+tableEnd+after))
	default:
		t.Errorf("the table of %s is stale: make evidence-table", page)
	}
}
