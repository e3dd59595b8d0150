//go:build !release

package kinds_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/azuresim"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/gpusim"
	"github.com/anchorhold/anchorhold/guest/tdxsim"
	"github.com/anchorhold/anchorhold/guest/teesim"
	"github.com/anchorhold/anchorhold/guest/tpmsim"
	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/appraise/gpu"
	"github.com/anchorhold/anchorhold/keybroker/appraise/kinds"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tpmquote"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/brokertest/domaintest"
)

// Challenge of every test.
var asked = [64]byte{0: 7, 63: 9}

// world is one guest of each kind, and a verifier that knows their roots.
type world struct {
	snp *teesim.TEE
	log *tpmsim.Log
	td  *tdxsim.TDX
	gpu *gpusim.GPU
	now time.Time
	o   kinds.Options
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{snp: brokertest.TEE(t), now: time.Now(), log: tpmsim.NewLog(tpmsim.CCLog)}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(boot().Write(w.log))
	guest := tdxsim.Guest{MRTD: [48]byte{1, 2}}
	for i := range guest.RTMR {
		guest.RTMR[i] = w.log.RTMR(i)
	}
	guest.RTMR[3] = [48]byte{3: 3} // a running system extended it
	var err error
	w.td, err = tdxsim.New(tdxsim.Options{Now: w.now, Guest: guest})
	must(err)
	snp, err := appraise.New(appraise.Options{WithoutRevocation: true})
	must(err)
	must(snp.AllowSoftwareTEE(w.snp.RootsPEM()))
	verifier, documents := domaintest.Verifier(t, w.td, w.td.RootsPEM())
	w.gpu, err = gpusim.New(gpusim.Options{})
	must(err)
	devices := &gpu.Verifier{}
	must(devices.AllowSoftware(w.gpu.RootPEM()))
	w.o = kinds.Options{SNP: snp, TDX: verifier, TDXCollateral: documents, GPU: devices}
	return w
}

func boot() tpmsim.Boot {
	return tpmsim.Boot{SecureBoot: true, Loader: []byte("loader"), Kernel: []byte("kernel"), Initrd: []byte("initrd"), CommandLine: "console=hvc0"}
}

// assemble makes the primary part over what covers the bound ones.
func assemble(t *testing.T, kind evidence.Kind, primary evidence.PartType, sign func([64]byte) []byte, bound ...evidence.Part) evidence.Envelope {
	t.Helper()
	draft, err := evidence.NewEnvelope(kind, append(bound, evidence.Part{Type: primary, Data: []byte{1}})...)
	if err != nil {
		t.Fatal(err)
	}
	env, err := evidence.NewEnvelope(kind, append(bound, evidence.Part{Type: primary, Data: sign(draft.ReportData(asked))})...)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func (w *world) gpuParts(t *testing.T, challenge [64]byte) []evidence.Part {
	t.Helper()
	report, chain, err := w.gpu.Collect(evidence.Nonce(evidence.PartGPUReport, challenge))
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	for _, der := range chain {
		if err := pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			t.Fatal(err)
		}
	}
	return []evidence.Part{{Type: evidence.PartGPUReport, Data: report}, {Type: evidence.PartGPUChain, Data: text.Bytes()}}
}

// snpEnvelope is a report with bound parts.
func (w *world) snpEnvelope(t *testing.T, bound ...evidence.Part) evidence.Envelope {
	t.Helper()
	var endorsements []evidence.Part
	env := assemble(t, evidence.KindSNP, evidence.PartSNPReport, func(data [64]byte) []byte {
		made, err := w.snp.Collect(t.Context(), data)
		if err != nil {
			t.Fatal(err)
		}
		endorsements = made.Parts[1:]
		return made.Primary()
	}, bound...)
	env, err := evidence.NewEnvelope(evidence.KindSNP, append(env.Parts, endorsements...)...)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func (w *world) tdEnvelope(t *testing.T, bound ...evidence.Part) evidence.Envelope {
	t.Helper()
	return assemble(t, evidence.KindTDX, evidence.PartTDXQuote, func(data [64]byte) []byte {
		quote, err := w.td.Collect(t.Context(), data)
		if err != nil {
			t.Fatal(err)
		}
		return quote
	}, bound...)
}

func (w *world) ccLog() evidence.Part {
	return evidence.Part{Type: evidence.PartCCLog, Data: w.log.Bytes()}
}

func newTPM(t *testing.T, o tpmsim.Options) *tpmsim.TPM {
	t.Helper()
	o.Boot = boot()
	tpm, err := tpmsim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return tpm
}

// tpmPart is a quote over a nonce, with its log.
func tpmPart(t *testing.T, tpm *tpmsim.TPM, nonce [32]byte) (quote, log evidence.Part) {
	t.Helper()
	e, err := tpm.Collect(t.Context(), nonce[:])
	if err != nil {
		t.Fatal(err)
	}
	text, err := tpm.EventLog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return evidence.Part{Type: evidence.PartTPMQuote, Data: e.Quote}, evidence.Part{Type: evidence.PartTCGLog, Data: text}
}

// otherLog is that of a TPM that measured something else.
func otherLog(t *testing.T) []byte {
	t.Helper()
	tpm := newTPM(t, tpmsim.Options{})
	if err := tpm.Measure(4, tpmsim.EventIPL, nil, []byte("another loader")); err != nil {
		t.Fatal(err)
	}
	_, log := tpmPart(t, tpm, [32]byte{})
	return log.Data
}

// azure is a guest under the emulated paravisor, of SEV-SNP or of TDX.
type azure struct {
	vm  *azuresim.VM
	tpm *tpmsim.TPM
}

func newAzure(t *testing.T, o azuresim.Options) azure {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	o.AK, o.SecureBoot = &key.PublicKey, true
	vm, err := azuresim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return azure{vm, newTPM(t, tpmsim.Options{Key: key})}
}

func (z azure) envelope(t *testing.T, kind evidence.Kind, more ...evidence.Part) evidence.Envelope {
	t.Helper()
	hcl, err := z.vm.HCL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, log := tpmPart(t, z.tpm, [32]byte{})
	return assemble(t, kind, evidence.PartTPMQuote, func(data [64]byte) []byte {
		quote, _ := tpmPart(t, z.tpm, evidence.Nonce(evidence.PartTPMQuote, data))
		return quote.Data
	}, append(more, evidence.Part{Type: evidence.PartHCLReport, Data: hcl}, log)...)
}

// azureSNP is whole evidence of SEV-SNP under Azure's paravisor.
func (w *world) azureSNP(t *testing.T) evidence.Envelope {
	t.Helper()
	env := newAzure(t, azuresim.Options{SNP: w.snp}).envelope(t, evidence.KindAzureSNP)
	made, err := w.snp.Collect(t.Context(), [64]byte{})
	if err != nil {
		t.Fatal(err)
	}
	env, err = evidence.NewEnvelope(env.Kind, append(env.Parts, made.Parts[1:]...)...)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

// azureTDX is the same of TDX: the quote is over what the paravisor's report says.
func (w *world) azureTDX(t *testing.T) evidence.Envelope {
	t.Helper()
	var quote []byte
	z := newAzure(t, azuresim.Options{TDX: func(ctx context.Context, data [64]byte) (_ []byte, err error) {
		quote, err = w.td.Collect(ctx, data)
		return quote, err
	}})
	if _, err := z.vm.HCL(t.Context()); err != nil {
		t.Fatal(err)
	}
	return z.envelope(t, evidence.KindAzureTDX, evidence.Part{Type: evidence.PartTDXQuote, Data: quote})
}

// TestEveryKindIsAppraised: a whole guest of each kind, with all that it can show.
func TestEveryKindIsAppraised(t *testing.T) {
	w := newWorld(t)
	tpm := newTPM(t, tpmsim.Options{})
	w.o.Enrolled = [][]byte{tpm.Name()}
	v := kinds.New(w.o)
	if !slices.Equal(v.Kinds(), evidence.Kinds()) {
		t.Errorf("%v", v.Kinds())
	}
	bound, log := tpmPart(t, tpm, evidence.Nonce(evidence.PartTPMQuote, asked))
	alone := assemble(t, evidence.KindVTPM, evidence.PartTPMQuote, func(data [64]byte) []byte {
		q, _ := tpmPart(t, tpm, evidence.Nonce(evidence.PartTPMQuote, data))
		return q.Data
	}, log)
	for name, c := range map[string]struct {
		env  evidence.Envelope
		has  func(evidence.Claims) bool
		last string // a register
	}{
		"report":             {w.snpEnvelope(t), func(c evidence.Claims) bool { return c.SNP != nil && c.TPM == nil && c.EventLog == nil }, "launch"},
		"report and devices": {w.snpEnvelope(t, w.gpuParts(t, asked)...), func(c evidence.Claims) bool { return c.SNP != nil && len(c.GPUs) == 1 && c.GPUs[0].Software }, "launch"},
		"report and TPM": {w.snpEnvelope(t, bound, log), func(c evidence.Claims) bool {
			return c.TPM.AKTrust == evidence.AKEnrolled && c.TPMEventLog.Format == "tcg" && c.EventLog == nil
		}, "pcr9"},
		"quote":               {w.tdEnvelope(t), func(c evidence.Claims) bool { return c.TDX.TCB.Status == evidence.TCBUpToDate && c.EventLog == nil }, "rtmr3"},
		"quote, log, devices": {w.tdEnvelope(t, append(w.gpuParts(t, asked), w.ccLog())...), func(c evidence.Claims) bool { return *c.EventLog.SecureBoot && len(c.GPUs) == 1 }, "rtmr3"},
		"quote, TPM, two logs": {w.tdEnvelope(t, bound, log, w.ccLog()), func(c evidence.Claims) bool {
			return c.EventLog.Format == "ccel" && c.TPMEventLog.Format == "tcg"
		}, "rtmr3"},
		"TPM alone": {alone, func(c evidence.Claims) bool { return c.TPM.AKTrust == evidence.AKEnrolled && c.EventLog != nil }, "pcr9"},
		"Azure, SEV-SNP": {w.azureSNP(t), func(c evidence.Claims) bool {
			return c.TPM.AKTrust == evidence.AKReport && *c.Azure.SecureBoot && c.SNP != nil
		}, "pcr9"},
		"Azure, TDX": {w.azureTDX(t), func(c evidence.Claims) bool {
			return c.TPM.AKTrust == evidence.AKReport && c.TDX != nil && c.Azure != nil
		}, "rtmr3"},
	} {
		encoded, err := c.env.Marshal()
		if err != nil {
			t.Fatal(name, err)
		}
		env, err := evidence.ParseEnvelope(encoded)
		if err != nil {
			t.Fatal(name, err)
		}
		claims, err := v.Appraise(t.Context(), env, asked, w.now)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		soft := claims.SoftwareTEE == (env.Kind != evidence.KindVTPM)
		if !c.has(claims) || claims.Kind != env.Kind || claims.Format != evidence.ClaimsFormat || !bytes.Equal(claims.Challenge, asked[:]) || !soft {
			t.Errorf("%s: %+v", name, claims)
		}
		if !slices.IsSortedFunc(claims.Registers, func(a, b evidence.Measured) int { return strings.Compare(a.Name, b.Name) }) || claims.Registers[len(claims.Registers)-1].Name != c.last {
			t.Errorf("%s: %v", name, claims.Registers)
		}
		if _, err := evidence.ImageOf(claims.Kind, claims.Image()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		other := asked
		other[5] ^= 1
		if _, err := v.Appraise(t.Context(), env, other, w.now); err == nil {
			t.Errorf("%s: accepted for another challenge", name)
		}
	}
}

// TestEveryPartIsBound: whatever is added to evidence, taken from it or changed in it is noticed.
func TestEveryPartIsBound(t *testing.T) {
	w := newWorld(t)
	tpm := newTPM(t, tpmsim.Options{})
	w.o.Enrolled = [][]byte{tpm.Name()}
	v := kinds.New(w.o)
	bound, log := tpmPart(t, tpm, evidence.Nonce(evidence.PartTPMQuote, asked))
	for name, env := range map[string]evidence.Envelope{
		"report": w.snpEnvelope(t, append(w.gpuParts(t, asked), bound, log)...),
		"quote":  w.tdEnvelope(t, append(w.gpuParts(t, asked), w.ccLog())...),
		"azure":  w.azureSNP(t),
	} {
		for i, p := range env.Parts {
			if p.Type.Certificate() {
				continue
			}
			less := env
			less.Parts = slices.Delete(slices.Clone(env.Parts), i, i+1)
			if _, err := v.Appraise(t.Context(), less, asked, w.now); err == nil {
				t.Errorf("%s: accepted without %s", name, p.Type)
			}
			for _, at := range []int{0, len(p.Data) / 2, len(p.Data) - 1} {
				changed := env
				changed.Parts = slices.Clone(env.Parts)
				changed.Parts[i].Data = slices.Clone(p.Data)
				changed.Parts[i].Data[at] ^= 1
				if _, err := v.Appraise(t.Context(), changed, asked, w.now); err == nil {
					t.Errorf("%s: accepted with byte %d of %s changed", name, at, p.Type)
				}
			}
		}
		more, err := evidence.NewEnvelope(env.Kind, append(w.gpuParts(t, asked), env.Parts...)...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Appraise(t.Context(), more, asked, w.now); err == nil {
			t.Errorf("%s: accepted with one more device", name)
		}
	}
}

// TestPartsThatProveNothingAreRefused, each for its own reason.
func TestPartsThatProveNothingAreRefused(t *testing.T) {
	w := newWorld(t)
	tpm := newTPM(t, tpmsim.Options{})
	enrolled, none := w.o, kinds.Options{}
	enrolled.Enrolled = [][]byte{tpm.Name()}
	withoutGPU := w.o
	withoutGPU.GPU = nil
	bound, log := tpmPart(t, tpm, evidence.Nonce(evidence.PartTPMQuote, asked))
	stale, _ := tpmPart(t, tpm, evidence.Nonce(evidence.PartTPMQuote, [64]byte{}))
	few := newTPM(t, tpmsim.Options{PCRs: []int{0, 4}})
	short, _ := tpmPart(t, few, evidence.Nonce(evidence.PartTPMQuote, asked))
	few2 := enrolled
	few2.Enrolled = append(slices.Clone(enrolled.Enrolled), few.Name())
	devices := w.gpuParts(t, asked)
	for name, c := range map[string]struct {
		o    kinds.Options
		env  evidence.Envelope
		want refusal.Reason
	}{
		"no verifier":            {none, w.snpEnvelope(t), kinds.ReasonKind},
		"a key without trust":    {w.o, w.snpEnvelope(t, bound), kinds.ReasonKind},
		"a stale quote":          {enrolled, w.snpEnvelope(t, stale), "tpm-nonce-mismatch"},
		"a quote without PCR 7":  {few2, w.snpEnvelope(t, short), "tpm-pcr-selection"},
		"a log without a quote":  {w.o, w.snpEnvelope(t, log), kinds.ReasonLogWithoutQuote},
		"a log of another TPM":   {enrolled, w.tdEnvelope(t, bound, evidence.Part{Type: evidence.PartTCGLog, Data: otherLog(t)}, w.ccLog()), "event-log-register-mismatch"},
		"two logs, one untied":   {enrolled, w.tdEnvelope(t, log, w.ccLog()), kinds.ReasonLogWithoutQuote},
		"a log of another boot":  {w.o, w.tdEnvelope(t, evidence.Part{Type: evidence.PartCCLog, Data: tpmsim.NewLog(tpmsim.CCLog).Bytes()}), "event-log-register-mismatch"},
		"devices unasked for":    {withoutGPU, w.snpEnvelope(t, devices...), kinds.ReasonKind},
		"a report and no chain":  {w.o, w.snpEnvelope(t, devices[0]), kinds.ReasonGPUParts},
		"one device twice":       {w.o, w.snpEnvelope(t, slices.Concat(devices, devices)...), "gpu-same-device"},
		"another guest's device": {w.o, w.snpEnvelope(t, w.gpuParts(t, [64]byte{1})...), "gpu-nonce-mismatch"},
	} {
		_, err := kinds.New(c.o).Appraise(t.Context(), c.env, asked, w.now)
		if reason, _ := refusal.ReasonOf(err); reason != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := kinds.New(w.o).Appraise(ctx, w.snpEnvelope(t), asked, w.now); err == nil {
		t.Error("an ended request was appraised")
	}
}

// TestPartsApartAnswerTheirOwnNonces: each nonce is compared, and nothing else binds the parts.
func TestPartsApartAnswerTheirOwnNonces(t *testing.T) {
	w := newWorld(t)
	other := [64]byte{5: 5}
	made, err := w.snp.Collect(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	env, err := evidence.NewEnvelope(evidence.KindSNP, append(made.Parts, w.gpuParts(t, other)...)...)
	if err != nil {
		t.Fatal(err)
	}
	v := kinds.New(w.o)
	if _, err := v.Appraise(t.Context(), env, asked, w.now); err == nil {
		t.Error("parts that are not bound were judged as one guest")
	}
	own := kinds.Nonces{Report: asked, GPU: evidence.Nonce(evidence.PartGPUReport, other)}
	c, err := v.AppraiseApart(t.Context(), env, own, w.now)
	if err != nil || len(c.GPUs) != 1 || c.SNP == nil || c.Challenge != nil {
		t.Fatalf("%+v, %v", c, err)
	}
	for name, change := range map[string]func(*kinds.Nonces){
		"report": func(n *kinds.Nonces) { n.Report[0] ^= 1 },
		"device": func(n *kinds.Nonces) { n.GPU[31] ^= 1 },
	} {
		n := own
		change(&n)
		if _, err := v.AppraiseApart(t.Context(), env, n, w.now); err == nil {
			t.Errorf("the nonce of the %s is not compared", name)
		}
	}
	quote, err := w.td.Collect(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	td := evidence.Envelope{Kind: evidence.KindTDX, Parts: []evidence.Part{{Type: evidence.PartTDXQuote, Data: quote}}}
	if _, err := v.AppraiseApart(t.Context(), td, kinds.Nonces{Report: asked}, w.now); err != nil {
		t.Error(err)
	}
	if _, err := v.AppraiseApart(t.Context(), td, kinds.Nonces{}, w.now); err == nil {
		t.Error("REPORT_DATA is not compared")
	}
	if _, err := v.AppraiseApart(t.Context(), evidence.Envelope{Kind: evidence.KindVTPM}, kinds.Nonces{}, w.now); err == nil {
		t.Error("a kind without a verifier was judged")
	}
}

// TestAReportedKeyIsTheGuestsWord: believed only if the operator says so, told from enrolled keys, and only in evidence
// whose report covers it.
func TestAReportedKeyIsTheGuestsWord(t *testing.T) {
	w := newWorld(t)
	tpm := newTPM(t, tpmsim.Options{})
	quote, log := tpmPart(t, tpm, evidence.Nonce(evidence.PartTPMQuote, asked))
	env := w.snpEnvelope(t, quote, log)
	appraise := func(change func(*kinds.Options)) (evidence.Claims, error) {
		o := w.o
		change(&o)
		return kinds.New(o).Appraise(t.Context(), env, asked, w.now)
	}
	wantReason := func(err error, want refusal.Reason) {
		t.Helper()
		if got, _ := refusal.ReasonOf(err); got != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	_, err := appraise(func(*kinds.Options) {})
	wantReason(err, kinds.ReasonKind)
	for _, c := range []struct {
		change func(*kinds.Options)
		trust  evidence.AKTrust
	}{
		{func(o *kinds.Options) { o.ReportedKeys = true }, evidence.AKReport},
		{func(o *kinds.Options) { o.ReportedKeys, o.Enrolled = true, [][]byte{make([]byte, 34)} }, evidence.AKReport},
		{func(o *kinds.Options) { o.ReportedKeys, o.Enrolled = true, [][]byte{tpm.Name()} }, evidence.AKEnrolled},
	} {
		if claims, err := appraise(c.change); err != nil || claims.TPM.AKTrust != c.trust || !bytes.Equal(claims.TPM.AKName, tpm.Name()) {
			t.Errorf("%s: %+v, %v", c.trust, claims.TPM, err)
		}
	}
	o := w.o
	o.ReportedKeys = true
	// Parts that are looked at one by one are covered by nothing.
	_, err = kinds.New(o).AppraiseApart(t.Context(), env, kinds.Nonces{Report: env.ReportData(asked), TPM: nonceOf(asked)}, w.now)
	wantReason(err, kinds.ReasonKind)
	// A TPM alone vouches for nobody, where others are enrolled.
	o.Enrolled = [][]byte{make([]byte, 34)}
	alone := assemble(t, evidence.KindVTPM, evidence.PartTPMQuote, func(data [64]byte) []byte {
		q, _ := tpmPart(t, tpm, evidence.Nonce(evidence.PartTPMQuote, data))
		return q.Data
	}, log)
	_, err = kinds.New(o).Appraise(t.Context(), alone, asked, w.now)
	wantReason(err, "tpm-key-untrusted")
}

func nonceOf(challenge [64]byte) []byte {
	n := evidence.Nonce(evidence.PartTPMQuote, challenge)
	return n[:]
}

// TestAnEnrolledKeyIsOneWhateverCertificateItHas: the agent shows a key's certificate to every broker, and a policy that
// wants enrolment must not refuse the key for it.
func TestAnEnrolledKeyIsOneWhateverCertificateItHas(t *testing.T) {
	tpm := newTPM(t, tpmsim.Options{})
	root, err := x509.ParseCertificate(tpm.Root())
	if err != nil {
		t.Fatal(err)
	}
	authorities, err := tpmquote.NewAuthorities(tpmquote.AuthorityOptions{
		Roots: [][32]byte{sha256.Sum256(root.RawSubjectPublicKeyInfo)}, Certificates: [][]byte{root.Raw}, WithoutRevocation: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	made, err := tpm.Collect(t.Context(), make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	bare := assemble(t, evidence.KindVTPM, evidence.PartTPMQuote, func(data [64]byte) []byte {
		q, _ := tpmPart(t, tpm, evidence.Nonce(evidence.PartTPMQuote, data))
		return q.Data
	})
	other := newTPM(t, tpmsim.Options{}).Name()
	for name, c := range map[string]struct {
		certificate []byte
		enrolled    [][]byte
		want        evidence.AKTrust
	}{
		"certified":                {made.Certificate, nil, evidence.AKCertificate},
		"another key is enrolled":  {made.Certificate, [][]byte{other}, evidence.AKCertificate},
		"both":                     {made.Certificate, [][]byte{other, tpm.Name()}, evidence.AKEnrolled},
		"of an unknown authority":  {[]byte{1}, [][]byte{tpm.Name()}, evidence.AKEnrolled},
		"neither":                  {nil, [][]byte{other}, ""},
		"of an unknown one, alone": {[]byte{1}, nil, ""},
	} {
		parts := bare.Parts
		if c.certificate != nil {
			parts = append(slices.Clone(parts), evidence.Part{Type: evidence.EndorsementAK, Data: c.certificate})
		}
		env, err := evidence.NewEnvelope(evidence.KindVTPM, parts...)
		if err != nil {
			t.Fatal(err)
		}
		claims, err := kinds.New(kinds.Options{Authorities: authorities, Enrolled: c.enrolled}).Appraise(t.Context(), env, asked, time.Now())
		if (err == nil) != (c.want != "") || err == nil && claims.TPM.AKTrust != c.want {
			t.Errorf("%s: got %+v, %v", name, claims.TPM, err)
		}
	}
}

// TestTheCommandLinesRegisterIsLogged: policies that list what may be started want PCR 12 of the log, which no log led
// to, so that they refused every guest. A register that the running system extended is left unjudged, as before.
func TestTheCommandLinesRegisterIsLogged(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*tpmsim.TPM) (log func([]byte) []byte, err error)
		logged  bool
		started int // events of PCR 12 among those that started something
	}{
		"empty": {func(*tpmsim.TPM) (func([]byte) []byte, error) { return nil, nil }, true, 0},
		"measured and logged": {func(tpm *tpmsim.TPM) (func([]byte) []byte, error) {
			return nil, tpm.Measure(12, tpmsim.EventIPL, []byte("words"), []byte("other words"))
		}, true, 1},
		"extended and not logged": {func(tpm *tpmsim.TPM) (func([]byte) []byte, error) {
			before, err := tpm.EventLog(t.Context())
			return func([]byte) []byte { return before }, errors.Join(err, tpm.Measure(12, tpmsim.EventIPL, nil, []byte("later")))
		}, false, 0},
	} {
		tpm := newTPM(t, tpmsim.Options{PCRs: []int{0, 4, 7, 8, 9, 12}})
		change, err := c.prepare(tpm)
		if err != nil {
			t.Fatal(err)
		}
		_, log := tpmPart(t, tpm, [32]byte{})
		if change != nil {
			log.Data = change(log.Data)
		}
		env := assemble(t, evidence.KindVTPM, evidence.PartTPMQuote, func(data [64]byte) []byte {
			q, _ := tpmPart(t, tpm, evidence.Nonce(evidence.PartTPMQuote, data))
			return q.Data
		}, log)
		claims, err := kinds.New(kinds.Options{Enrolled: [][]byte{tpm.Name()}}).Appraise(t.Context(), env, asked, time.Now())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		started := 0
		for _, e := range claims.EventLog.Boot {
			if e.Register == "pcr12" {
				started++
			}
		}
		if got := slices.Contains(claims.EventLog.Registers, "pcr12"); got != c.logged || started != c.started || !slices.Contains(claims.EventLog.Registers, "pcr9") {
			t.Errorf("%s: %v, %+v", name, claims.EventLog.Registers, claims.EventLog.Boot)
		}
	}
}
