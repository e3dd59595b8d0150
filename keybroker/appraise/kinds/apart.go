package kinds

import (
	"context"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Nonces are what the parts of evidence must have been made over.
type Nonces struct {
	// Report is the REPORT_DATA of a processor's report or quote. Under Azure's paravisor it is
	// not asked for: there it covers the paravisor's words.
	Report [64]byte
	// TPM is the qualifying data of a TPM's quote.
	TPM []byte
	// GPU is the nonce of the reports of GPUs.
	GPU [32]byte
}

// boundNonces derive from one challenge, and cover every bound part.
func boundNonces(env evidence.Envelope, challenge [64]byte) Nonces {
	n := Nonces{Report: env.ReportData(challenge), GPU: evidence.Nonce(evidence.PartGPUReport, challenge)}
	over := challenge
	if !env.Kind.TPMBeside() { // the quote is the primary part
		over = n.Report
	}
	tpm := evidence.Nonce(evidence.PartTPMQuote, over)
	n.TPM = tpm[:]
	return n
}

// AppraiseApart verifies evidence that another system made, each part over a nonce of its own.
//
// It proves less than [Verifier.Appraise]: nothing binds a GPU, or a TPM that no processor vouches
// for, to the guest whose report stands beside it, and the claims name no challenge. It is for people who
// look at evidence, never for the release of a key. Event logs are replayed as ever.
func (v *Verifier) AppraiseApart(ctx context.Context, env evidence.Envelope, n Nonces, now time.Time) (evidence.Claims, error) {
	if err := ctx.Err(); err != nil {
		return evidence.Claims{}, err
	}
	if !slices.Contains(v.Kinds(), env.Kind) {
		return evidence.Claims{}, refusal.New(ReasonKind, "%q", env.Kind)
	}
	a := &appraisal{v: v, env: env, nonces: n, apart: true, now: now}
	if err := a.run(ctx); err != nil {
		return evidence.Claims{}, err
	}
	a.claims.Challenge = nil
	return a.claims, nil
}
