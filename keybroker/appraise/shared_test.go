package appraise

import (
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
)

// sevGuestDir is where go-sev-guest lies, with its own samples and AMD's certificates.
func sevGuestDir(tb testing.TB) string {
	tb.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/go-sev-guest").Output()
	if dir := strings.TrimSpace(string(out)); err == nil && dir != "" {
		return dir
	}
	tb.Skip("go-sev-guest is not in the module cache; `go mod download github.com/google/go-sev-guest` gets it")
	return ""
}

func readFile(tb testing.TB, elem ...string) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// ders are the DER objects in PEM text, or the data itself.
func ders(data []byte) (list [][]byte) {
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			if list == nil {
				list = [][]byte{data}
			}
			return list
		}
		list, data = append(list, block.Bytes), rest
	}
}

// sample is a real report with its certificates, and a time at which they are valid.
type sample struct {
	name    string
	product evidence.Product
	report  []byte
	vcek    []byte
	issuers [][]byte // ASK, ARK
	now     time.Time
}

func (s sample) envelope() evidence.Envelope {
	e := evidence.Envelope{Kind: evidence.KindSNP, Parts: []evidence.Part{{Type: evidence.PartSNPReport, Data: s.report}}}
	if len(s.issuers) > 1 {
		e.Parts = append(e.Parts, evidence.Part{Type: evidence.EndorsementARK, Data: s.issuers[1]})
	}
	e.Parts = append(e.Parts, evidence.Part{Type: evidence.EndorsementASK, Data: s.issuers[0]},
		evidence.Part{Type: evidence.EndorsementVCEK, Data: s.vcek})
	return e
}

func (s sample) reportData() [64]byte { return [64]byte(s.report[0x50:0x90]) }

func day(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 12, 0, 0, 0, time.UTC) }

// moduleSample is the sample that go-sev-guest carries.
func moduleSample(tb testing.TB) sample {
	dir := filepath.Join(sevGuestDir(tb), "verify", "testdata")
	return sample{name: "go-sev-guest", product: "Milan", report: readFile(tb, dir, "attestation.bin"), vcek: readFile(tb, dir, "vcek.testcer"),
		issuers: ders(readFile(tb, dir, "milan.testcer")), now: day(2023, 6, 1)}
}

// sharedSamples are the samples of the shared directory. Their VCEKs begin on
// 2022-09-24, 2023-04-03, 2026-06-17, 2025-12-05 and live for seven years.
func sharedSamples(tb testing.TB) []sample {
	dir := filepath.Join(evidencetest.Dir(tb), "snp")
	milanARK := ders(readFile(tb, dir, "01-milan-v2-google", "chain.pem"))[1]
	list := []sample{
		{name: "01-milan-v2-google", product: "Milan", vcek: readFile(tb, dir, "01-milan-v2-google", "vcek.der"),
			issuers: ders(readFile(tb, dir, "01-milan-v2-google", "chain.pem")), now: day(2023, 6, 1)},
		{name: "06-milan-v2-virtee", product: "Milan", vcek: readFile(tb, dir, "06-milan-v2-virtee", "vcek.der"),
			issuers: ders(readFile(tb, dir, "06-milan-v2-virtee", "chain.pem")), now: day(2024, 1, 1)},
		{name: "07-milan-v3-dstack", product: "Milan", vcek: ders(readFile(tb, dir, "07-milan-v3-dstack", "vcek.pem"))[0],
			issuers: [][]byte{ders(readFile(tb, dir, "07-milan-v3-dstack", "ask.pem"))[0], milanARK}, now: day(2026, 7, 1)},
		{name: "08-milan-v5-gcp", product: "Milan", vcek: ders(readFile(tb, dir, "08-milan-v5-gcp", "vcek.pem"))[0],
			issuers: ders(readFile(tb, dir, "08-milan-v5-gcp", "chain.pem")), now: day(2026, 1, 15)},
	}
	for i := range list {
		list[i].report = readFile(tb, dir, list[i].name, "report.bin")
	}
	return append(list, genoaSample(tb, dir))
}

// genoaSample takes its VCEK from the host's certificate table, whose PEM
// objects are ARK, ASK and VCEK in some order.
func genoaSample(tb testing.TB, dir string) sample {
	s := sample{name: "11-genoa-v3-tsm-veraison", product: "Genoa", now: day(2025, 6, 1),
		report:  readFile(tb, dir, "11-genoa-v3-tsm-veraison", "report.bin"),
		issuers: ders(readFile(tb, dir, "roots", "genoa_chain.pem"))}
	for _, der := range ders(readFile(tb, dir, "11-genoa-v3-tsm-veraison", "auxblob.bin")) {
		if strings.Contains(string(der), "SEV-VCEK") {
			s.vcek = der
		}
	}
	return s
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

// withReport is evidence with another report.
func withReport(env evidence.Envelope, report []byte) evidence.Envelope {
	env.Parts = slices.Clone(env.Parts)
	env.Parts[0] = evidence.Part{Type: evidence.PartSNPReport, Data: report}
	return env
}
