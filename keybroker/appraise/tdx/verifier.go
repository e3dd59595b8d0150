package tdx

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Options configure a Verifier.
type Options struct {
	// MinimumEvaluationNumber is the lowest tcbEvaluationDataNumber, of Intel's TCB recoveries,
	// that both documents must have. Required; 1 accepts every one.
	MinimumEvaluationNumber uint32
	// Roots are the keys at which chains may end; the zero value is Intel's.
	Roots Roots
	// GraceUntil accepts ended documents and lists until a date; the zero value, none.
	GraceUntil time.Time
}

// Verifier verifies quotes. It may be used by several goroutines. [Verifier.Verify] of the zero
// value refuses.
type Verifier struct {
	minimum   uint32
	roots     Roots
	grace     time.Time
	chains    cache[*pckChain]
	certified cache[struct{}] // QE reports with attestation keys, under their chains
}

// New checks the options.
func New(o Options) (*Verifier, error) {
	if o.MinimumEvaluationNumber == 0 {
		return nil, errors.New("tdx: the minimum evaluation number is required; 1 accepts every one")
	}
	return &Verifier{minimum: o.MinimumEvaluationNumber, roots: o.Roots, grace: o.GraceUntil}, nil
}

// Verify checks a quote, which must be over the given REPORT_DATA, at the broker's time, with the
// collateral of its platform, and returns what it proves. Every status of the TCB is a claim. A
// refusal is an *refusal.Error.
func (v *Verifier) Verify(q *Quote, from Provider, want [64]byte, now time.Time) (evidence.TDXClaims, error) {
	none := evidence.TDXClaims{}
	if v.minimum == 0 || q == nil || q.version == 0 || from == nil {
		return none, refusal.New(ReasonUnconfigured, "no options, no quote or no collateral")
	}
	// Freshness first: it is cheap, and a replayed quote deserves no more work.
	if subtle.ConstantTimeCompare(q.body.reportData[:], want[:]) != 1 {
		return none, refusal.New(ReasonReportData, "the quote was made for another connection or nonce")
	}
	if err := q.auth.vouched(); err != nil {
		return none, err
	}
	chain, id, err := v.chainOf(q.auth.chain)
	if err != nil {
		return none, err
	}
	if err := chain.validAt(now); err != nil {
		return none, err
	}
	// Before collateral is looked up: only a real platform may have its documents fetched.
	if err := v.checkSignatures(q, chain, id); err != nil {
		return none, err
	}
	c, err := v.collateral(from, chain, now)
	if err != nil {
		return none, err
	}
	if err := c.qe.check(&q.auth.report); err != nil {
		return none, err
	}
	if err := c.tcb.checkModule(&q.body); err != nil {
		return none, err
	}
	claims := q.claims()
	p := chain.platform
	claims.FMSPC, claims.PCEID, claims.PlatformInstance = p.fmspc[:], p.pceID[:], p.instance
	claims.ProcessorCA, claims.SoftwareTEE = chain.ca == ProcessorCA, chain.software
	claims.TCB = c.claim(q, p)
	return claims, nil
}

// collateral finds the platform's and checks that it is, that it holds at this time, and that it
// revokes nothing of the chain.
func (v *Verifier) collateral(from Provider, chain *pckChain, now time.Time) (*Collateral, error) {
	p := chain.platform
	c, err := from.Lookup(p.fmspc, chain.ca)
	if err != nil {
		if _, ok := refusal.ReasonOf(err); ok {
			return nil, err
		}
		return nil, refusal.New(ReasonCollateralMissing, "FMSPC %x, %s CA: %w", p.fmspc, chain.ca, err)
	}
	switch {
	case c == nil || c.tcb == nil:
		return nil, refusal.New(ReasonCollateralMissing, "none for FMSPC %x and the %s CA", p.fmspc, chain.ca)
	case c.tcb.fmspc != p.fmspc || c.tcb.pceID != p.pceID:
		return nil, refusal.New(ReasonCollateralMismatch, "TCB info for FMSPC %x and PCE %x, want %x and %x", c.tcb.fmspc, c.tcb.pceID, p.fmspc, p.pceID)
	case c.root != chain.root.key || c.software != chain.software:
		return nil, refusal.New(ReasonRoot, "quote and collateral end at different roots")
	case c.pckCRL.issuer.key != chain.issuer.key || c.pckCRL.issuer.subject != chain.issuer.subject:
		return nil, refusal.New(ReasonCollateralMismatch, "the PCK CRL is from another authority than the PCK certificate")
	case c.EvaluationNumber() < v.minimum:
		return nil, refusal.New(ReasonEvaluationNumber, "evaluation number %d, at least %d is required", c.EvaluationNumber(), v.minimum)
	}
	if err := c.validAt(now, v.grace); err != nil {
		return nil, err
	}
	if err := c.rootCRL.check(&chain.issuer); err != nil {
		return nil, err
	}
	return c, c.pckCRL.check(&chain.leaf)
}

// checkSignatures verifies the QE report with the platform's key, unless this verifier has, and
// the quote with the attestation key for which the report vouches.
func (v *Verifier) checkSignatures(q *Quote, chain *pckChain, chainID [32]byte) error {
	a := &q.auth
	h := sha256.New()
	h.Write(chainID[:])
	h.Write(a.key)
	h.Write(a.certified) // ends with its only part of variable length
	id := [32]byte(h.Sum(nil))
	if _, known := v.certified.get(id); !known {
		if !verifyP256(chain.key, a.rawReport, a.reportSignature) {
			return refusal.New(ReasonQEReportSignature, "the QE report was changed or signed by another platform")
		}
		v.certified.put(id, struct{}{})
	}
	key, err := publicKey(a.key)
	if err != nil {
		return refusal.New(ReasonAttestationKey, "%w", err)
	}
	if !verifyP256(key, q.signed, a.signature) {
		return refusal.New(ReasonSignature, "the quote was changed or signed by another key")
	}
	return nil
}
