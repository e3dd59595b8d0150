package evidencejudge

import (
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli/evidencefile"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/appraise/gpu"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tdx"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tpmquote"
)

// Reasons of this package; the others are those of the verifiers.
const (
	// ReasonIncomplete: the evidence lacks the part that answers a nonce.
	ReasonIncomplete refusal.Reason = "evidence-incomplete"
	// ReasonNonce: an answer of the local API is for another nonce than the caller's.
	ReasonNonce refusal.Reason = "evidence-nonce-mismatch"
)

// Outcome is what became of a check.
type Outcome string

// Outcomes.
const (
	Passed     Outcome = "passed"
	Failed     Outcome = "failed"
	Waived     Outcome = "waived"      // the caller did without
	NotChecked Outcome = "not-checked" // it cannot be told from what was given
	NotDecided Outcome = "not-decided" // another check failed before, and it cannot be told without that one
)

// Names of checks.
const (
	CheckForm       = "form"       // the parts are in their formats, of versions and kinds that are known
	CheckSignature  = "signature"  // every signature up to a pinned root, all certificates in time
	CheckCollateral = "collateral" // Intel's documents are signed, in their windows, for this platform
	CheckRevocation = "revocation"
	CheckFreshness  = "freshness"
	CheckBinding    = "binding" // the parts were made for one challenge
	CheckTPM        = "tpm-quote"
	CheckAzure      = "azure-binding" // the CPU's report covers the paravisor's words and the TPM's key
	CheckEventLog   = "event-log"
	CheckGPU        = "gpu"
)

// Check is one thing that was checked.
type Check struct {
	Name    string  `json:"name"`
	Outcome Outcome `json:"outcome"`
	Detail  string  `json:"detail,omitempty"`
}

// Failure says why evidence was refused.
type Failure struct {
	Reason  refusal.Reason `json:"reason"`
	Message string         `json:"message"`
}

// Verdict is what evidence is worth. The zero value verifies nothing.
type Verdict struct {
	Verified bool     `json:"verified"`
	Error    *Failure `json:"error,omitempty"`
	// At is the time at which it was judged.
	At   time.Time         `json:"at"`
	Form evidencefile.Form `json:"form"`
	Kind evidence.Kind     `json:"kind,omitempty"`
	// MadeFor is REPORT_DATA or the TPM quote's nonce, by the evidence's own word.
	MadeFor evidence.Hex `json:"made_for,omitempty"`
	// Fresh: the evidence was made for the nonce or challenge that the caller named.
	Fresh  bool                `json:"fresh"`
	Checks []Check             `json:"checks"`
	Unread []string            `json:"unread,omitempty"`
	Files  []evidencefile.File `json:"files"`
	// Claims are what was proven; nil if the evidence was refused.
	Claims *evidence.Claims `json:"claims,omitempty"`
}

// Refusal is the verdict's error, with its reason; nil if the evidence was verified.
func (v *Verdict) Refusal() error {
	if v.Error == nil {
		return nil
	}
	return refusal.New(v.Error.Reason, "%s", v.Error.Message)
}

func (v *Verdict) add(name string, outcome Outcome, detail string) {
	v.Checks = append(v.Checks, Check{name, outcome, detail})
}

// refuse ends the verdict: one check failed, which it returns, and those that had not failed by then were not decided.
func (v *Verdict) refuse(err error) string {
	reason, ok := refusal.ReasonOf(err)
	if !ok {
		reason = evidencefile.ReasonMalformed
	}
	message := strings.TrimPrefix(err.Error(), string(reason)+": ")
	v.Verified, v.Fresh, v.Claims, v.Error = false, false, nil, &Failure{reason, message}
	failed, found := checkOf(reason), false
	for i := range v.Checks {
		switch c := &v.Checks[i]; {
		case c.Name == failed:
			c.Outcome, c.Detail, found = Failed, string(reason)+": "+message, true
		case c.Outcome == Passed || c.Outcome == Waived:
			c.Outcome, c.Detail = NotDecided, ""
		}
	}
	if !found {
		v.add(failed, Failed, string(reason)+": "+message)
	}
	return failed
}

// checkOf is the check that a reason belongs to.
func checkOf(reason refusal.Reason) string {
	switch reason {
	case appraise.ReasonReportData, tdx.ReasonReportData, tpmquote.ReasonNonce, gpu.ReasonNonce, ReasonNonce, ReasonIncomplete:
		return CheckFreshness
	case appraise.ReasonRevoked, appraise.ReasonRevocationUnknown, tdx.ReasonRevoked:
		return CheckRevocation
	case tdx.ReasonEvaluationNumber:
		return CheckCollateral
	case appraise.ReasonSignature, appraise.ReasonSigningKey, appraise.ReasonSignatureAlgorithm, appraise.ReasonProduct, appraise.ReasonCertificateMissing,
		appraise.ReasonCertificate, appraise.ReasonChain, appraise.ReasonRoot, appraise.ReasonAuthority, appraise.ReasonExpired, appraise.ReasonTCBMismatch,
		appraise.ReasonChipMismatch, tdx.ReasonCertificate, tdx.ReasonChain, tdx.ReasonRoot, tdx.ReasonExpired, tdx.ReasonQEReportSignature,
		tdx.ReasonAttestationKey, tdx.ReasonSignature, tdx.ReasonQEIdentity, tdx.ReasonModule:
		return CheckSignature
	}
	for _, p := range []struct{ prefix, check string }{
		{"tdx-collateral-", CheckCollateral}, {"event-", CheckEventLog}, {"gpu-", CheckGPU}, {"tpm-", CheckTPM}, {"hcl-", CheckAzure},
	} {
		if strings.HasPrefix(string(reason), p.prefix) {
			return p.check
		}
	}
	return CheckForm
}
