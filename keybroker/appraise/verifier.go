package appraise

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/subtle"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"sync/atomic"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Options configure a Verifier. The zero value refuses all hardware evidence:
// it holds no revocation list, and nobody has waived the need for one.
type Options struct {
	// Certificates are ARK, ASK and ASVK certificates (DER) that evidence may
	// leave out. They are no more believed than those that come with evidence.
	Certificates [][]byte
	// RevocationLists are AMD's lists (DER). An expired one is a refusal.
	RevocationLists [][]byte
	// WithoutRevocation accepts chains for which no list is held. A list that is
	// held is checked all the same.
	WithoutRevocation bool
	// RevocationGrace accepts a list so long after its end.
	RevocationGrace time.Duration
	// RevocationGraceUntil accepts ended lists until a date; the zero value, none.
	RevocationGraceUntil time.Time
}

// Verifier appraises evidence. It may be used by several goroutines.
type Verifier struct {
	certificates []*x509.Certificate
	supplied     atomic.Pointer[[]*x509.Certificate] // in the same use, replaced while it works
	revocation   atomic.Pointer[revocation]
	software     map[[32]byte]bool // roots of software TEEs; nil in a release
	cache        chainCache
	keys         combKeys
	// checkSignature verifies one certificate's signature by another's key.
	checkSignature func(cert, by *x509.Certificate) error
}

// New checks the options and returns a verifier that believes AMD's roots alone.
func New(o Options) (*Verifier, error) {
	v := &Verifier{checkSignature: (*x509.Certificate).CheckSignatureFrom}
	for i, der := range o.Certificates {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("appraise: certificate %d: %w", i, err)
		}
		v.certificates = append(v.certificates, cert)
	}
	r, err := newRevocation(o.RevocationLists, !o.WithoutRevocation, o.RevocationGrace)
	r.until = o.RevocationGraceUntil
	v.revocation.Store(&r)
	return v, err
}

// Kinds are the kinds of evidence that a Verifier judges; it refuses all others.
func (v *Verifier) Kinds() []evidence.Kind { return []evidence.Kind{evidence.KindSNP} }

// Appraise verifies evidence that must be for the given challenge, at the
// broker's time, and returns what it proves. A refusal is an *refusal.Error.
func (v *Verifier) Appraise(ctx context.Context, env evidence.Envelope, challenge [64]byte, now time.Time) (evidence.Claims, error) {
	if err := ctx.Err(); err != nil {
		return evidence.Claims{}, err
	}
	if !slices.Contains(v.Kinds(), env.Kind) {
		return evidence.Claims{}, refusal.New(ReasonKind, "%q", env.Kind)
	}
	r, err := parseReport(env.Part(evidence.PartSNPReport))
	if err != nil {
		return evidence.Claims{}, err
	}
	// Freshness first: it is cheap, and a replayed report deserves no more work.
	want := env.ReportData(challenge)
	if subtle.ConstantTimeCompare(r.reportData, want[:]) != 1 {
		return evidence.Claims{}, refusal.New(ReasonReportData, "the report was made for another connection or nonce")
	}
	c, err := v.chainOf(env, r.signer)
	if err != nil {
		return evidence.Claims{}, err
	}
	if err := v.validAt(c, now); err != nil {
		return evidence.Claims{}, err
	}
	p, err := r.product(c.key)
	if err != nil {
		return evidence.Claims{}, err
	}
	if err := r.matches(c.key, p); err != nil {
		return evidence.Claims{}, err
	}
	if err := r.verify(&v.keys, c.key.key); err != nil {
		return evidence.Claims{}, err
	}
	claims := r.claims(p, c.key, c.software)
	claims.Challenge = bytes.Clone(challenge[:])
	return claims, nil
}

// matches checks that the certificate was made for the report's firmware and chip.
func (r *report) matches(k *chipKey, p product) error {
	for _, v := range []uint64{r.current, r.reported, r.committed, r.launch} {
		if v&p.tcbReserved() != 0 { // a version in another layout would be read wrongly
			return refusal.New(ReasonReserved, "TCB version %016x is not in the layout of %s", v, p)
		}
	}
	if reported := p.tcb(r.reported); reported != k.tcb {
		return refusal.New(ReasonTCBMismatch, "the report is from %+v, its certificate is for %+v", reported, k.tcb)
	}
	if r.signer == signerVLEK {
		return nil // a loaded key names no chip
	}
	if r.chipMasked {
		if !allZero(r.chipID) {
			return refusal.New(ReasonChipMismatch, "the chip id is masked but not zero")
		}
		return nil
	}
	if !slices.Equal(r.chipID[:len(k.hwid)], k.hwid) || !allZero(r.chipID[len(k.hwid):]) || allZero(k.hwid) {
		return refusal.New(ReasonChipMismatch, "the report is from a different chip than its certificate")
	}
	return nil
}

// verify checks the report's ECDSA P-384 signature. The numbers are stored
// little-endian in 72 bytes each.
func (r *report) verify(keys *combKeys, key *ecdsa.PublicKey) error {
	number := func(le []byte) *big.Int {
		be := slices.Clone(le)
		slices.Reverse(be)
		return new(big.Int).SetBytes(be)
	}
	digest := sha512.Sum384(r.signed)
	// Numbers outside 1 to the group order less one are refused there.
	if !keys.verify(key, &digest, number(r.r), number(r.s)) {
		return refusal.New(ReasonSignature, "the report was changed or signed by another key")
	}
	return nil
}
