//go:build !release

package evidencejudge

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli/evidencefile"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/gpusim"
	"github.com/anchorhold/anchorhold/guest/tdxsim"
	"github.com/anchorhold/anchorhold/guest/teesim"
	"github.com/anchorhold/anchorhold/guest/tpmsim"
	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/appraise/eventlog"
	"github.com/anchorhold/anchorhold/keybroker/appraise/kinds"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tdx"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tpmquote"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
)

func file(tb testing.TB, data []byte) string {
	tb.Helper()
	f, err := os.CreateTemp(tb.TempDir(), "evidence")
	if err != nil {
		tb.Fatal(err)
	}
	_, err = f.Write(data)
	if closing := f.Close(); err != nil || closing != nil {
		tb.Fatal(err, closing)
	}
	return f.Name()
}

func must[T any](tb testing.TB) func(T, error) T {
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// answered is what our agent answers for a nonce, in a file.
func answered(t *testing.T, tee *teesim.TEE, nonce []byte) (path string, challenge [64]byte) {
	t.Helper()
	key := [32]byte{1: 1}
	challenge = evidence.CallerBinding{Nonce: nonce, AgentKeyID: key}.Challenge()
	env := must[evidence.Envelope](t)(tee.Collect(t.Context(), challenge))
	raw := must[[]byte](t)(env.Marshal())
	data := env.ReportData(challenge)
	text := must[[]byte](t)(json.Marshal(map[string]any{"kind": env.Kind, "nonce": hex.EncodeToString(nonce), "agent_key_id": hex.EncodeToString(key[:]),
		"report_data": hex.EncodeToString(data[:]), "evidence": raw}))
	return file(t, text), challenge
}

// TestAnAnswerIsFreshForItsNonceAlone.
func TestAnAnswerIsFreshForItsNonceAlone(t *testing.T) {
	tee := brokertest.TEE(t)
	nonce := bytes.Repeat([]byte{7}, 16)
	path, challenge := answered(t, tee, nonce)
	o := Options{Now: time.Now(), SoftwareRoots: tee.RootsPEM()}
	v := judge(t, o, "", path)
	if !v.Verified || v.Fresh || v.outcome(CheckBinding) != Passed || v.outcome(CheckFreshness) != NotChecked || !v.Claims.SoftwareTEE {
		t.Errorf("%+v", v)
	}
	contents := must[*evidencefile.Contents](t)(evidencefile.Open([]string{path}, ""))
	alone := file(t, must[[]byte](t)(must[evidence.Envelope](t)(contents.Evidence.Envelope()).Marshal()))
	if v := judge(t, o, "", alone); !v.Verified || v.Form != evidencefile.FormEnvelope || v.outcome(CheckBinding) != "" {
		t.Errorf("a report with nothing to bind: %+v", v)
	}
	asked := o
	asked.Nonce = nonce
	if v := judge(t, asked, "", path); !v.Verified || !v.Fresh {
		t.Errorf("%+v", v)
	}
	asked.Nonce = bytes.Repeat([]byte{7}, 17)
	wantRefusal(t, judge(t, asked, "", path), CheckFreshness, ReasonNonce)
	asked = o
	asked.Challenge = &challenge
	if v := judge(t, asked, "", path); !v.Verified || !v.Fresh {
		t.Errorf("%+v", v)
	}
	asked.Challenge = &[64]byte{}
	wantRefusal(t, judge(t, asked, "", path), CheckFreshness, appraise.ReasonReportData)
	wantRefusal(t, judge(t, Options{Now: o.Now}, "", path), CheckSignature, appraise.ReasonRoot)
	if _, err := Judge(t.Context(), must[*evidencefile.Contents](t)(evidencefile.Open([]string{path}, "")), Options{Now: o.Now, Nonce: make([]byte, 65)}); err == nil {
		t.Error("a nonce that no evidence has room for was cut")
	}
}

// domain is a trust domain with a log and a GPU, and its own roots.
type domain struct {
	envelope  evidence.Envelope
	challenge [64]byte
	tdx       *tdxsim.TDX
	documents string // directory
	now       time.Time
}

func newDomain(t *testing.T) *domain {
	t.Helper()
	d := &domain{challenge: [64]byte{1, 2, 3}, now: time.Now(), documents: t.TempDir()}
	log := tpmsim.NewLog(tpmsim.CCLog)
	boot := tpmsim.Boot{SecureBoot: true, Loader: []byte("loader"), Kernel: []byte("kernel"), Initrd: []byte("initrd"), CommandLine: "console=hvc0"}
	if err := boot.Write(log); err != nil {
		t.Fatal(err)
	}
	guest := tdxsim.Guest{MRTD: [48]byte{1}}
	for i := range guest.RTMR {
		guest.RTMR[i] = log.RTMR(i)
	}
	d.tdx = must[*tdxsim.TDX](t)(tdxsim.New(tdxsim.Options{Now: d.now, Guest: guest}))
	bound := []evidence.Part{{Type: evidence.PartCCLog, Data: log.Bytes()}}
	draft := must[evidence.Envelope](t)(evidence.NewEnvelope(evidence.KindTDX, append(bound, evidence.Part{Type: evidence.PartTDXQuote, Data: []byte{1}})...))
	quote := must[[]byte](t)(d.tdx.Collect(t.Context(), draft.ReportData(d.challenge)))
	d.envelope = must[evidence.Envelope](t)(evidence.NewEnvelope(evidence.KindTDX, append(bound, evidence.Part{Type: evidence.PartTDXQuote, Data: quote})...))
	docs := must[tdxsim.Documents](t)(d.tdx.Collateral())
	for name, data := range map[string][]byte{"tcb.json": docs.TCBInfo, "qe.json": docs.QEIdentity, "tcb-chain": docs.TCBInfoChain, "pck.crl": docs.PCKCRL, "pck-chain": docs.PCKCRLChain, "root.crl": docs.RootCRL} {
		if err := os.WriteFile(filepath.Join(d.documents, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// TestEnvelopesAreBoundByTheirChallenge, and judged part by part without it.
func TestEnvelopesAreBoundByTheirChallenge(t *testing.T) {
	d := newDomain(t)
	path := file(t, must[[]byte](t)(d.envelope.Marshal()))
	o := Options{Now: d.now, SoftwareRoots: d.tdx.RootsPEM()}
	// The software root's own PEM is no root of AMD's emulator, and that is no error.
	v := judge(t, o, d.documents, path)
	if !v.Verified || v.outcome(CheckBinding) != NotChecked || v.outcome(CheckEventLog) != Passed || v.Claims.EventLog == nil {
		t.Errorf("%+v", v)
	}
	o.Challenge = &d.challenge
	if v = judge(t, o, d.documents, path); !v.Verified || !v.Fresh || v.outcome(CheckBinding) != Passed {
		t.Errorf("%+v", v)
	}
	o.Challenge = &[64]byte{1}
	if v = judge(t, o, d.documents, path); v.outcome(CheckFreshness) != Failed || v.outcome(CheckEventLog) != Passed || v.outcome(CheckBinding) != NotDecided {
		t.Errorf("another challenge: %+v", v.Checks)
	}
	o.Challenge = &d.challenge
	short := d.envelope
	short.Parts = short.Parts[:1] // the log is taken away
	path = file(t, must[[]byte](t)(short.Marshal()))
	v = judge(t, o, d.documents, path)
	wantRefusal(t, v, CheckFreshness, tdx.ReasonReportData)
	if v.outcome(CheckSignature) != Passed || v.outcome(CheckBinding) != NotDecided {
		t.Errorf("the quote holds, and covers a log that is not there: %+v", v.Checks)
	}
}

// TestALogThatLeadsElsewhereIsRefused, of another system's evidence too.
func TestALogThatLeadsElsewhereIsRefused(t *testing.T) {
	d := newDomain(t)
	quote, log := file(t, d.envelope.Part(evidence.PartTDXQuote)), d.envelope.Part(evidence.PartCCLog)
	o := Options{Now: d.now, SoftwareRoots: d.tdx.RootsPEM()}
	if v := judge(t, o, d.documents, quote, file(t, log)); !v.Verified || v.outcome(CheckEventLog) != Passed {
		t.Errorf("%+v", v)
	}
	other := tpmsim.NewLog(tpmsim.CCLog)
	if err := (tpmsim.Boot{Loader: []byte("another")}).Write(other); err != nil {
		t.Fatal(err)
	}
	v := judge(t, o, d.documents, quote, file(t, other.Bytes()))
	wantRefusal(t, v, CheckEventLog, eventlog.ReasonRegister)
	if v.outcome(CheckSignature) != Passed || v.outcome(CheckCollateral) != Passed || v.outcome(CheckRevocation) != Passed {
		t.Errorf("the quote holds without its log: %+v", v.Checks)
	}
}

// TestATPMsKeyNeedsAReason: enrolment, or a certificate of an authority.
func TestATPMsKeyNeedsAReason(t *testing.T) {
	tpm := must[*tpmsim.TPM](t)(tpmsim.New(tpmsim.Options{}))
	quote := must[[]byte](t)(tpm.Quote([]byte("an operator's nonce"), evidence.BankSHA256, 0, 4, 7))
	env := must[evidence.Envelope](t)(evidence.NewEnvelope(evidence.KindVTPM, evidence.Part{Type: evidence.PartTPMQuote, Data: quote}))
	path := file(t, must[[]byte](t)(env.Marshal()))
	o := Options{Now: time.Now()}
	wantRefusal(t, judge(t, o, "", path), CheckForm, kinds.ReasonKind)
	o.EnrolledKeys = [][]byte{tpm.Name()}
	v := judge(t, o, "", path)
	if !v.Verified || v.outcome(CheckTPM) != Passed || v.outcome(CheckRevocation) != NotChecked || v.Claims.TPM.AKTrust != evidence.AKEnrolled {
		t.Errorf("%+v", v)
	}
	o.EnrolledKeys = [][]byte{bytes.Repeat([]byte{1}, 34)}
	wantRefusal(t, judge(t, o, "", path), CheckTPM, tpmquote.ReasonKey)
}

// TestADeviceBesideAGuestIsNotBoundToIt, and the verdict says so.
func TestADeviceBesideAGuestIsNotBoundToIt(t *testing.T) {
	d := newDomain(t)
	gpu := must[*gpusim.GPU](t)(gpusim.New(gpusim.Options{}))
	report, chain, err := gpu.Collect([32]byte{9})
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	for _, der := range chain {
		if err := pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			t.Fatal(err)
		}
	}
	quote := file(t, d.envelope.Part(evidence.PartTDXQuote))
	v := judge(t, Options{Now: d.now, SoftwareRoots: d.tdx.RootsPEM()}, d.documents, quote, file(t, report))
	wantRefusal(t, v, CheckGPU, kinds.ReasonGPUParts)
	if v.outcome(CheckBinding) != NotChecked || v.outcome(CheckSignature) != Passed {
		t.Errorf("%+v", v)
	}
	v = judge(t, Options{Now: d.now, SoftwareRoots: gpu.RootPEM()}, "", file(t, report))
	wantRefusal(t, v, CheckGPU, kinds.ReasonGPUParts)
}
