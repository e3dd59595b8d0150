package evidencejudge

import (
	"context"
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli/evidencefile"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/appraise/gpu"
	"github.com/anchorhold/anchorhold/keybroker/appraise/kinds"
)

// Options say how evidence is judged.
type Options struct {
	// Now is the time at which it is judged.
	Now time.Time
	// Nonce is what the evidence must have been made for: REPORT_DATA, padded with zeros to its 64
	// bytes; a TPM quote's nonce; or the nonce of an answer of our local API. Empty, and
	// without Challenge, the evidence's own value is taken, and it is not fresh.
	Nonce []byte
	// Challenge is what evidence of our own agents was made for, with all of its parts; of other
	// evidence it is the Nonce. At most one of the two is set.
	Challenge *[64]byte
	// WithoutRevocation accepts an AMD chain whose root's list is not at hand, and certificates
	// of TPM keys, of which no lists are known.
	WithoutRevocation bool
	// MinimumEvaluationNumber is the lowest of Intel's TCB recoveries that documents may be of; 0
	// accepts every one.
	MinimumEvaluationNumber uint32
	// EnrolledKeys are names of TPM attestation keys that are believed.
	EnrolledKeys [][]byte
	// SoftwareRoots are roots of software TEEs (PEM). A release refuses them.
	SoftwareRoots []byte
}

// Judge verifies what the files hold. An error is of the options; what is wrong with the evidence
// stands in the verdict.
func Judge(ctx context.Context, c *evidencefile.Contents, o Options) (Verdict, error) {
	return judgeRelaxed(ctx, c, o, relaxation{})
}

func judgeRelaxed(ctx context.Context, c *evidencefile.Contents, o Options, r relaxation) (Verdict, error) {
	e := r.of(c.Evidence)
	j := &judgement{contents: c, evidence: e, given: o, relaxed: r}
	if r.freshness {
		o.Nonce, o.Challenge = nil, nil
	}
	j.o = o
	j.v = Verdict{At: o.Now.UTC(), Form: e.Form, Kind: e.Kind, MadeFor: e.MadeFor, Unread: e.Unread, Files: c.Files, Checks: []Check{}}
	var err error
	if j.verifiers, err = newVerifiers(c, o, r.lists); err != nil {
		return Verdict{}, err
	}
	if len(o.Nonce) > maxNonce {
		return Verdict{}, fmt.Errorf("a nonce of %d bytes; at most %d can be in evidence", len(o.Nonce), maxNonce)
	}
	j.expect()
	claims, err := j.claims(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return Verdict{}, ctx.Err()
		}
		failed := j.v.refuse(err)
		return j.v, j.held(ctx, failed)
	}
	j.v.Verified, j.v.Fresh, j.v.Claims = true, j.asked, &claims
	return j.v, nil
}

// maxNonce is the size of REPORT_DATA, and the most that a TPM quotes.
const maxNonce = 64

// judgement is one call of Judge.
type judgement struct {
	contents  *evidencefile.Contents
	evidence  *evidencefile.Evidence
	given     Options // by the caller
	relaxed   relaxation
	o         Options // given, relaxed
	verifiers *verifiers
	v         Verdict
	asked     bool // the caller named a nonce
	bound     bool // all parts must derive from one challenge
}

// Words about checks.
const (
	wordFresh      = "it was made for the value that was given"
	wordNotFresh   = "no nonce or challenge was given; the evidence's own value was taken, so it may be a replay"
	wordBound      = "the primary part covers all others, and each answers the same challenge"
	wordUnbound    = "only the challenge (--challenge) tells whether the parts belong together; each was judged by itself"
	wordForeign    = "evidence of another system: each part was judged by itself, over its own nonce"
	wordSignature  = "every signature holds, up to the vendor's pinned root"
	wordNoList     = "AMD's list for this root is not at hand, and was done without (--without-revocation)"
	wordList       = "AMD's current list does not name the chain"
	wordIntelLists = "Intel's current lists do not name the chain"
	wordNVIDIA     = "NVIDIA's lists are not asked by this version"
	wordTPMLists   = "of TPM keys no lists are known"
	wordAzure      = "the CPU's report covers the paravisor's words and the TPM's key"
	wordGPUApart   = "signatures hold; nothing binds the devices to the guest"
	wordGPU        = "signatures hold"
)

// expect decides how the evidence is judged, and lists the checks that there are for its kind.
func (j *judgement) expect() {
	e := j.evidence
	j.asked = len(j.o.Nonce) > 0 || j.o.Challenge != nil
	j.bound = e.Ours() && !j.relaxed.removes() && (j.o.Challenge != nil || e.Challenge != nil)
	j.v.add(CheckForm, Passed, "")
	j.v.add(CheckSignature, Passed, wordSignature)
	if e.Kind == evidence.KindTDX || e.Kind == evidence.KindAzureTDX {
		j.v.add(CheckCollateral, Passed, "")
	}
	j.v.add(CheckRevocation, Passed, "")
	if j.asked {
		j.v.add(CheckFreshness, Passed, wordFresh)
	} else {
		j.v.add(CheckFreshness, NotChecked, wordNotFresh)
	}
	switch {
	case j.bound:
		j.v.add(CheckBinding, Passed, wordBound)
	case e.Ours() && bound(e) > 0:
		j.v.add(CheckBinding, NotChecked, wordUnbound)
	case !e.Ours() && loose(e):
		j.v.add(CheckBinding, NotChecked, wordForeign)
	}
	if e.Kind == evidence.KindAzureSNP || e.Kind == evidence.KindAzureTDX {
		j.v.add(CheckAzure, Passed, wordAzure)
	}
	if e.Part(evidence.PartTPMQuote) != nil {
		j.v.add(CheckTPM, Passed, "")
	}
	if e.Part(evidence.PartTCGLog) != nil || e.Part(evidence.PartCCLog) != nil {
		j.v.add(CheckEventLog, Passed, "")
	}
	if e.Part(evidence.PartGPUReport) != nil {
		j.v.add(CheckGPU, Passed, wordGPUApart)
	}
}

// bound counts the parts that our own format binds to the primary one.
func bound(e *evidencefile.Evidence) (n int) {
	for _, p := range e.Parts {
		if !p.Type.Certificate() {
			n++
		}
	}
	return n - 1
}

// loose says whether a part has a nonce of its own beside that of a processor's report or quote. Event
// logs lead to registers that are verified, and Azure's parts vouch for each other.
func loose(e *evidencefile.Evidence) bool {
	devices := e.Part(evidence.PartGPUReport) != nil
	return e.Kind != "" && devices || (e.Kind == evidence.KindSNP || e.Kind == evidence.KindTDX) && e.Part(evidence.PartTPMQuote) != nil
}

// claims verifies the evidence and completes the details of the checks.
func (j *judgement) claims(ctx context.Context) (evidence.Claims, error) {
	e := j.evidence
	switch {
	case e.Form == evidencefile.FormEventLog:
		return evidence.Claims{}, refusal.New(kinds.ReasonLogWithoutQuote, "an event log alone proves nothing; 'evidence show' prints it")
	case e.Kind == "":
		return j.devices(ctx)
	case e.Part(evidence.PartHCLReport) != nil && e.Part(evidence.PartTPMQuote) == nil:
		return evidence.Claims{}, refusal.New(ReasonIncomplete, "under Azure's paravisor the TPM's quote alone answers a nonce, and there is none; 'evidence show' prints the report")
	case e.Nonce != nil && len(j.o.Nonce) > 0 && subtle.ConstantTimeCompare(e.Nonce, j.o.Nonce) != 1:
		return evidence.Claims{}, refusal.New(ReasonNonce, "the answer is for another nonce")
	}
	env, err := e.Envelope()
	if err != nil {
		return evidence.Claims{}, err
	}
	claims, waived, err := j.appraise(ctx, env)
	if err != nil {
		return evidence.Claims{}, err
	}
	j.details(&claims, waived)
	return claims, nil
}

// appraise tries the certificates of chips that the evidence lacks, one after another, and first
// with revocation: only where a list is missing is the waiver used.
func (j *judgement) appraise(ctx context.Context, env evidence.Envelope) (claims evidence.Claims, waived bool, err error) {
	var first error
	for _, candidate := range j.completed(env) {
		waived = false
		claims, err = j.once(ctx, candidate, j.verifiers.strict)
		if reason, _ := refusal.ReasonOf(err); reason == appraise.ReasonRevocationUnknown && (j.o.WithoutRevocation || j.relaxed.lists) {
			claims, err = j.once(ctx, candidate, j.verifiers.waiving)
			waived = true
		}
		if err == nil {
			return claims, waived, nil
		}
		if first == nil {
			first = err
		}
	}
	return evidence.Claims{}, false, first
}

func (j *judgement) once(ctx context.Context, env evidence.Envelope, v *kinds.Verifier) (evidence.Claims, error) {
	if j.bound {
		challenge := j.o.Challenge
		if challenge == nil {
			challenge = j.evidence.Challenge
		}
		return v.Appraise(ctx, env, *challenge, j.o.Now)
	}
	nonces := kinds.Nonces{TPM: evidencefile.TPMNonce(env.Part(evidence.PartTPMQuote)), GPU: evidencefile.GPUNonce(env.Part(evidence.PartGPUReport))}
	want := j.evidence.MadeFor
	if j.o.Challenge != nil {
		want = j.o.Challenge[:]
	} else if len(j.o.Nonce) > 0 {
		want = j.o.Nonce
	}
	switch env.Kind {
	case evidence.KindSNP, evidence.KindTDX:
		copy(nonces.Report[:], want)
	default:
		nonces.TPM = want
	}
	return v.AppraiseApart(ctx, env, nonces, j.o.Now)
}

// maxCandidates bounds the certificates that are tried.
const maxCandidates = 8

// completed is the envelope itself if it has the certificate of the key that signed its report, or needs
// none, and else one envelope for each certificate that could be it, those that name the chip first.
func (j *judgement) completed(env evidence.Envelope) []evidence.Envelope {
	if env.Kind != evidence.KindSNP && env.Kind != evidence.KindAzureSNP || env.Part(evidence.EndorsementVCEK) != nil || env.Part(evidence.EndorsementVLEK) != nil {
		return []evidence.Envelope{env}
	}
	chips := slices.Clone(j.contents.Supplies.Chips)
	chip := j.evidence.Chip()
	rank := func(raw []byte) int {
		if len(chip) >= turinHWID && contains(raw, chip[:turinHWID]) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(chips, func(a, b certificate) int { return rank(a.Raw) - rank(b.Raw) })
	var list []evidence.Envelope
	for _, c := range chips[:min(len(chips), maxCandidates)] {
		role := evidence.EndorsementVCEK
		if c.Subject.CommonName == "SEV-VLEK" {
			role = evidence.EndorsementVLEK
		}
		if with, err := evidence.NewEnvelope(env.Kind, append(slices.Clone(env.Parts), evidence.Part{Type: role, Data: c.Raw})...); err == nil {
			list = append(list, with)
		}
	}
	if len(list) == 0 {
		return []evidence.Envelope{env}
	}
	return list
}

// turinHWID is the length of the shortest hardware id (57230, section 3.1).
const turinHWID = 8

// devices judges reports of GPUs that no guest stands beside.
func (j *judgement) devices(ctx context.Context) (evidence.Claims, error) {
	env := evidence.Envelope{Parts: j.evidence.Parts}
	reports, chains := env.All(evidence.PartGPUReport), env.All(evidence.PartGPUChain)
	if len(reports) == 0 || len(reports) != len(chains) {
		return evidence.Claims{}, refusal.New(kinds.ReasonGPUParts, "%d reports come with %d chains", len(reports), len(chains))
	}
	var list []gpu.Evidence
	for i := range reports {
		chain, err := gpu.ParseChain(chains[i])
		if err != nil {
			return evidence.Claims{}, err
		}
		list = append(list, gpu.Evidence{Report: reports[i], Chain: chain})
	}
	nonce := evidencefile.GPUNonce(reports[0])
	switch {
	case j.o.Challenge != nil:
		return evidence.Claims{}, refusal.New(gpu.ReasonNonce, "a GPU's nonce has 32 bytes; give it with --nonce")
	case len(j.o.Nonce) > 0:
		if len(j.o.Nonce) != len(nonce) {
			return evidence.Claims{}, refusal.New(gpu.ReasonNonce, "a GPU's nonce has 32 bytes, got %d", len(j.o.Nonce))
		}
		nonce = [32]byte(j.o.Nonce)
	}
	c, err := j.verifiers.gpu.AppraiseAll(ctx, list, nonce, j.o.Now)
	if err != nil {
		return evidence.Claims{}, err
	}
	j.detail(CheckRevocation, NotChecked, wordNVIDIA)
	return evidence.Claims{Format: evidence.ClaimsFormat, Registers: []evidence.Measured{}, GPUs: c}, nil
}

// detail completes a check that is listed.
func (j *judgement) detail(name string, outcome Outcome, text string) {
	for i := range j.v.Checks {
		if c := &j.v.Checks[i]; c.Name == name {
			c.Outcome, c.Detail = outcome, text
		}
	}
}

// details says what each check found.
func (j *judgement) details(c *evidence.Claims, waived bool) {
	switch {
	case c.TDX != nil:
		t := c.TDX.TCB
		j.detail(CheckRevocation, Passed, wordIntelLists)
		j.detail(CheckCollateral, Passed, fmt.Sprintf("TCB evaluation %d, until %s; platform: %s", t.EvaluationNumber, t.CollateralUntil.UTC().Format(time.RFC3339), t.Status))
	case c.SNP != nil && waived:
		j.detail(CheckRevocation, Waived, wordNoList)
	case c.SNP != nil && c.SoftwareTEE:
		j.detail(CheckRevocation, NotChecked, "a software TEE has no list")
	case c.SNP != nil:
		j.detail(CheckRevocation, Passed, wordList)
	default:
		j.detail(CheckRevocation, NotChecked, wordTPMLists)
	}
	if c.TPM != nil {
		of := ""
		if i := c.TPM.AKInstance; i != nil {
			of = fmt.Sprintf(", issued for %s in project %s (%d), zone %s", i.Name, i.Project, i.ProjectNumber, i.Zone)
		}
		j.detail(CheckTPM, Passed, fmt.Sprintf("%d registers of bank %s; the key is believed by: %s%s", len(c.TPM.PCRs), c.TPM.Bank, c.TPM.AKTrust, of))
	}
	var logs []string
	for _, l := range []*evidence.EventLogClaims{c.EventLog, c.TPMEventLog} {
		if l != nil {
			logs = append(logs, fmt.Sprintf("%d events lead to %d verified registers", l.Events, len(l.Registers)))
		}
	}
	if logs != nil {
		j.detail(CheckEventLog, Passed, strings.Join(logs, "; the TPM's log: "))
	}
	if len(c.GPUs) > 0 && j.bound {
		j.detail(CheckGPU, Passed, wordGPU)
	}
	if c.SoftwareTEE {
		j.detail(CheckSignature, Passed, "signatures hold up to the root of a SOFTWARE TEE: this proves nothing")
	}
}
