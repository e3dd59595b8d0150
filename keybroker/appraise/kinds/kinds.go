package kinds

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/appraise/gpu"
	"github.com/anchorhold/anchorhold/keybroker/appraise/hcl"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tdx"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tpmquote"
)

// SNPVerifier judges evidence of SEV-SNP. An appraise.Verifier is one.
type SNPVerifier interface {
	Appraise(ctx context.Context, env evidence.Envelope, challenge [64]byte, now time.Time) (evidence.Claims, error)
}

// Options are the verifiers of each format. A nil one refuses evidence that needs it.
type Options struct {
	// SNP judges reports of SEV-SNP, those under Azure's paravisor too.
	SNP SNPVerifier
	// TDX judges quotes of TDX with the collateral that TDXCollateral has.
	TDX           *tdx.Verifier
	TDXCollateral tdx.Provider
	// Authorities certify attestation keys of TPMs. Nil believes no certificate.
	Authorities *tpmquote.Authorities
	// Enrolled are the names of attestation keys that the operator believes.
	Enrolled [][]byte
	// ReportedKeys believes the key of a TPM beside a processor's report that the guest alone shows, because
	// its report covers it. It says which TPM the guest chose, and no more.
	ReportedKeys bool
	// GPU judges reports of NVIDIA GPUs.
	GPU *gpu.Verifier
}

// Verifier appraises evidence. It may be used by several goroutines.
type Verifier struct{ o Options }

// New returns a verifier of the kinds that there are verifiers for.
func New(o Options) *Verifier { return &Verifier{o} }

// Kinds are those that the verifier can judge, in the order of evidence.Kinds.
func (v *Verifier) Kinds() []evidence.Kind {
	tpm := v.o.Authorities != nil || len(v.o.Enrolled) > 0
	can := map[evidence.Kind]bool{
		evidence.KindSNP: v.o.SNP != nil, evidence.KindTDX: v.o.TDX != nil, evidence.KindVTPM: tpm,
		evidence.KindAzureSNP: v.o.SNP != nil, evidence.KindAzureTDX: v.o.TDX != nil,
	}
	return slices.DeleteFunc(evidence.Kinds(), func(k evidence.Kind) bool { return !can[k] })
}

// RequiredPCRs are the registers that each quote of a TPM must have, whatever the policy asks for beside
// them: firmware, boot loader and Secure Boot.
func RequiredPCRs() []int { return []int{0, 4, 7} }

// Appraise verifies evidence that must be for the given challenge, at the broker's time, and
// returns what it proves. A refusal is a *refusal.Error.
func (v *Verifier) Appraise(ctx context.Context, env evidence.Envelope, challenge [64]byte, now time.Time) (evidence.Claims, error) {
	if err := ctx.Err(); err != nil {
		return evidence.Claims{}, err
	}
	if !slices.Contains(v.Kinds(), env.Kind) {
		return evidence.Claims{}, refusal.New(ReasonKind, "%q", env.Kind)
	}
	a := &appraisal{v: v, env: env, challenge: challenge, now: now}
	a.nonces = boundNonces(env, challenge)
	if err := a.run(ctx); err != nil {
		return evidence.Claims{}, err
	}
	return a.claims, nil
}

// appraisal is the judgement of one envelope.
type appraisal struct {
	v         *Verifier
	env       evidence.Envelope
	challenge [64]byte
	nonces    Nonces
	apart     bool // the parts need not be bound to each other: see AppraiseApart
	now       time.Time
	claims    evidence.Claims
}

func (a *appraisal) run(ctx context.Context) (err error) {
	switch a.env.Kind {
	case evidence.KindSNP:
		err = a.snp(ctx, a.env.Part(evidence.PartSNPReport), a.nonces.Report)
	case evidence.KindTDX:
		err = a.tdx(a.nonces.Report)
	case evidence.KindVTPM:
		a.claims.Platform, a.claims.Firmware = "TPM", "not attested"
	case evidence.KindAzureSNP:
		err = a.azureSNP(ctx)
	case evidence.KindAzureTDX:
		err = a.azureTDX()
	}
	if err != nil {
		return err
	}
	a.claims.Format, a.claims.Kind, a.claims.Challenge = evidence.ClaimsFormat, a.env.Kind, slices.Clone(a.challenge[:])
	if err := a.tpm(); err != nil {
		return err
	}
	if err := a.logs(); err != nil {
		return err
	}
	if err := a.gpus(ctx); err != nil {
		return err
	}
	slices.SortFunc(a.claims.Registers, func(x, y evidence.Measured) int { return strings.Compare(x.Name, y.Name) })
	return nil
}

// snp verifies a report with the envelope's certificates, over reportData. What else the report covers is
// hashed in that: logs are large.
func (a *appraisal) snp(ctx context.Context, report []byte, reportData [64]byte) error {
	parts := []evidence.Part{{Type: evidence.PartSNPReport, Data: report}}
	for _, p := range a.env.Parts {
		if p.Type.Certificate() && p.Type != evidence.EndorsementAK {
			parts = append(parts, p)
		}
	}
	inner, err := evidence.NewEnvelope(evidence.KindSNP, parts...)
	if err != nil {
		return err
	}
	a.claims, err = a.v.o.SNP.Appraise(ctx, inner, reportData, a.now)
	return err
}

// tdx verifies the quote, which must be over reportData.
func (a *appraisal) tdx(reportData [64]byte) error {
	quote, err := tdx.Parse(a.env.Part(evidence.PartTDXQuote))
	if err != nil {
		return err
	}
	c, err := a.v.o.TDX.Verify(quote, a.v.o.TDXCollateral, reportData, a.now)
	if err != nil {
		return err
	}
	a.claims.TDX, a.claims.Platform = &c, "TDX"
	a.claims.SoftwareTEE = c.SoftwareTEE
	a.claims.Debug = c.TDAttributes&evidence.TDAttributeDebug != 0
	a.claims.Migratable = c.TDAttributes&evidence.TDAttributeMigratable != 0
	a.claims.Firmware = fmt.Sprintf("%s: platform %s, TDX module %s, quoting enclave %s", c.TCB.Status, c.TCB.Platform, c.TCB.Module, c.TCB.QE)
	a.measured("mrtd", c.MRTD, evidence.CoversFirmware)
	for i, value := range c.RTMR {
		covers := evidence.CoversImage
		if i == 0 {
			covers = evidence.CoversFirmware // firmware's configuration: variables, tables, boot order
		}
		a.measured(fmt.Sprintf("rtmr%d", i), value, covers)
	}
	return nil
}

func (a *appraisal) measured(name string, value evidence.Hex, covers evidence.Coverage) {
	a.claims.Registers = append(a.claims.Registers, evidence.Measured{Register: evidence.Register{Name: name, Value: value}, Covers: covers})
}

// azureSNP verifies the processor's report in the paravisor's, and what the paravisor says under it.
func (a *appraisal) azureSNP(ctx context.Context) error {
	report, err := hcl.Parse(a.env.Part(evidence.PartHCLReport))
	if err != nil {
		return err
	}
	if err := a.snp(ctx, report.SNPReport(), report.ReportData()); err != nil {
		return err
	}
	runtime, err := report.ConfirmSNP(*a.claims.SNP)
	if err != nil {
		return err
	}
	return a.azure(runtime)
}

// azureTDX does the same with the quote that Azure's endpoint made of the paravisor's TDREPORT.
func (a *appraisal) azureTDX() error {
	report, err := hcl.Parse(a.env.Part(evidence.PartHCLReport))
	if err != nil {
		return err
	}
	if err := a.tdx(report.ReportData()); err != nil {
		return err
	}
	runtime, err := report.ConfirmTDX(*a.claims.TDX, report.ReportData())
	if err != nil {
		return err
	}
	return a.azure(runtime)
}

// azure verifies the quote, which alone is fresh, by the key that the processor vouches for.
func (a *appraisal) azure(runtime hcl.Runtime) error {
	a.claims.Azure = &runtime.Claims
	return a.quote(tpmquote.TrustReportedKey(runtime.AK))
}

// tpm verifies the quote of a TPM that no processor vouches for. Enrolment names this key and no other, so it
// goes before a certificate, which a guest shows whatever the policy asks for, and which many machines have.
func (a *appraisal) tpm() error {
	quote := a.env.Part(evidence.PartTPMQuote)
	if quote == nil || a.claims.TPM != nil {
		return nil
	}
	beside := a.env.Kind.TPMBeside()
	certificate := a.env.Part(evidence.EndorsementAK)
	var name []byte
	if len(a.v.o.Enrolled) > 0 || a.v.o.ReportedKeys {
		var err error
		if name, err = tpmquote.KeyName(quote); err != nil {
			return err
		}
	}
	switch {
	case slices.ContainsFunc(a.v.o.Enrolled, func(enrolled []byte) bool { return bytes.Equal(enrolled, name) }):
		return a.quote(tpmquote.TrustEnrolled(name))
	case certificate != nil && a.v.o.Authorities != nil:
		return a.quote(tpmquote.TrustCertificate(a.v.o.Authorities, certificate))
	case beside && a.v.o.ReportedKeys && !a.apart:
		return a.quote(tpmquote.TrustReportedName(name)) // the report that was verified covers the quote
	case len(a.v.o.Enrolled) == 0:
		return refusal.New(ReasonKind, "the evidence has a TPM's quote, and neither a certificate nor enrolment can make its key believed")
	}
	return a.quote(tpmquote.TrustEnrolled(a.v.o.Enrolled...))
}

func (a *appraisal) quote(trust tpmquote.Trust) error {
	c, err := tpmquote.Verify(a.env.Part(evidence.PartTPMQuote), tpmquote.Expected{Nonce: a.nonces.TPM, PCRs: RequiredPCRs(), Trust: trust, Now: a.now})
	if err != nil {
		return err
	}
	a.claims.TPM = &c
	for n, value := range c.PCRs {
		a.measured(fmt.Sprintf("pcr%d", n), value, coverageOf(n))
	}
	return nil
}

// coverageOf says what a PCR is of (TCG PC Client Platform Firmware Profile, 3.3.4; UAPI group, Linux
// TPM PCR Registry): 0 to 3 and 6 and 7 the firmware and its configuration, 4 and 8 to 15 what it
// starts, 5 the partition table and boot loader's configuration. The others are for debugging and applications.
func coverageOf(pcr int) evidence.Coverage {
	switch {
	case pcr == 4 || pcr >= 8 && pcr <= 15:
		return evidence.CoversImage
	case pcr <= 3 || pcr == 7:
		return evidence.CoversFirmware
	}
	return evidence.CoversData
}
