package appraise

import (
	"crypto/x509"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// ChipCertificate is what a VCEK states: the chip and the firmware version that it was made for.
type ChipCertificate struct {
	Product evidence.Product
	TCB     evidence.TCB
	HWID    []byte // 64 bytes, of Turin 8
}

// VerifyVCEK checks a chip's certificate as evidence's is checked, up to a pinned root and at a
// time, and returns what it states. Revocation is not asked: evidence is judged by it at every use.
func (v *Verifier) VerifyVCEK(vcek, ask, ark []byte, now time.Time) (ChipCertificate, error) {
	env := evidence.Envelope{Kind: evidence.KindSNP, Parts: []evidence.Part{
		{Type: evidence.EndorsementARK, Data: ark}, {Type: evidence.EndorsementASK, Data: ask}, {Type: evidence.EndorsementVCEK, Data: vcek}}}
	c, err := v.chainOf(env, signerVCEK)
	if err != nil {
		return ChipCertificate{}, err
	}
	if err := inTime(now, c.root, c.issuer, c.leaf); err != nil {
		return ChipCertificate{}, err
	}
	return ChipCertificate{evidence.Product(c.key.product), c.key.tcb, c.key.hwid}, nil
}

// VerifyAuthorities checks a product line's intermediate certificate, ASVK if loaded is set and
// else ASK, with its root, which must be pinned for the line.
func (v *Verifier) VerifyAuthorities(p evidence.Product, loaded bool, issuerDER, rootDER []byte, now time.Time) error {
	name, role := "SEV-"+string(p), evidence.EndorsementASK
	if loaded {
		name, role = "SEV-VLEK-"+string(p), evidence.EndorsementASVK
	}
	root, software, err := v.root(p, rootDER, now)
	if err != nil {
		return err
	}
	issuer, err := parseCertificate(issuerDER, name)
	if err != nil {
		return err
	}
	switch {
	case issuer.Subject.CommonName != name:
		return refusal.New(ReasonChain, "the certificate is for %q, not %s", issuer.Subject.CommonName, name)
	case !isAuthority(issuer):
		return refusal.New(ReasonCertificate, "the key of %s is not RSA with %d bits and exponent %d", name, authorityBits, authorityExponent)
	}
	if !software {
		if err := pinnedAuthority(issuer, product(p), role); err != nil {
			return err
		}
	}
	if err := signedByAuthority(issuer); err != nil {
		return err
	}
	if err := v.checkSignature(issuer, root); err != nil {
		return refusal.New(ReasonChain, "%s is not signed by %q: %w", name, root.Subject.CommonName, err)
	}
	return inTime(now, issuer)
}

// VerifyRevocationList checks that a product line's pinned root signed a list, that it has a
// number, and that it had begun at a time. Whether it has ended is the caller's to judge.
func (v *Verifier) VerifyRevocationList(p evidence.Product, listDER, rootDER []byte, now time.Time) error {
	root, _, err := v.root(p, rootDER, now)
	if err != nil {
		return err
	}
	r, err := newRevocation([][]byte{listDER}, true, 0)
	if err != nil {
		return refusal.New(ReasonCertificate, "%w", err)
	}
	list := r.newest(root)
	if list == nil {
		return refusal.New(ReasonChain, "the revocation list is not signed by %q", root.Subject.CommonName)
	}
	if now.Before(list.ThisUpdate) {
		return refusal.New(ReasonRevocationUnknown, "the revocation list begins at %s", list.ThisUpdate.Format(time.RFC3339))
	}
	return nil
}

// root is a root certificate that is trusted for a product line, signed by itself and in time, and
// whether it is the software TEE's.
func (v *Verifier) root(p evidence.Product, der []byte, now time.Time) (root *x509.Certificate, software bool, err error) {
	if root, err = parseCertificate(der, "ark"); err != nil {
		return nil, false, err
	}
	if !isAuthority(root) {
		return nil, false, refusal.New(ReasonCertificate, "the key of ark is not RSA with %d bits and exponent %d", authorityBits, authorityExponent)
	}
	if software, err = v.trustedRoot(root, product(p)); err != nil {
		return nil, false, err
	}
	if err := signedByAuthority(root); err != nil {
		return nil, false, err
	}
	if err := v.checkSignature(root, root); err != nil {
		return nil, false, refusal.New(ReasonChain, "%q is not signed by itself: %w", root.Subject.CommonName, err)
	}
	return root, software, inTime(now, root)
}

// ReportedChip is what an unverified report says of the chip and the version that its VCEK was made
// for: which certificate to look for, and nothing to believe. It is false for reports that a VLEK
// signs, that mask the chip, or that do not state the product line (version 2).
func ReportedChip(raw []byte) (ChipCertificate, bool) {
	r, err := parseReport(raw)
	if err != nil || r.signer != signerVCEK || r.chipMasked || r.version < 3 {
		return ChipCertificate{}, false
	}
	p, ok := productOf(r.family, r.model)
	if !ok || r.reported&p.tcbReserved() != 0 || !allZero(r.chipID[p.hwidSize():]) {
		return ChipCertificate{}, false
	}
	return ChipCertificate{evidence.Product(p), p.tcb(r.reported), r.chipID[:p.hwidSize()]}, true
}
