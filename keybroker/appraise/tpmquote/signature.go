package tpmquote

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"math/big"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// signature is a parsed TPMT_SIGNATURE.
type signature struct {
	scheme, hash uint16
	rsa          []byte
	r, s         []byte
}

func parseSignature(raw []byte) (signature, error) {
	var sig signature
	s := cryptobyte.String(raw)
	if !s.ReadUint16(&sig.scheme) || !s.ReadUint16(&sig.hash) {
		return sig, refusal.New(ReasonMalformed, "the signature is cut short")
	}
	if hashOf(sig.hash) == 0 {
		return sig, refusal.New(ReasonAlgorithm, "a signature with hash %#x", sig.hash)
	}
	read := false
	switch sig.scheme {
	case algRSASSA, algRSAPSS:
		read = sized(&s, &sig.rsa, maxParameter)
	case algECDSA:
		read = sized(&s, &sig.r, maxParameter) && sized(&s, &sig.s, maxParameter)
	default:
		return sig, refusal.New(ReasonAlgorithm, "a signature with scheme %#x", sig.scheme)
	}
	if !read || !s.Empty() {
		return sig, refusal.New(ReasonMalformed, "the signature is cut short or followed by more")
	}
	return sig, nil
}

// verify checks the signature over a message by a key whose parameters are in the accepted set.
func (sig signature) verify(key crypto.PublicKey, message []byte) error {
	h := hashOf(sig.hash)
	d := digest(h, message)
	ok := false
	switch key := key.(type) {
	case *rsa.PublicKey:
		switch sig.scheme {
		case algRSASSA:
			ok = rsa.VerifyPKCS1v15(key, h, d, sig.rsa) == nil
		case algRSAPSS: // TPMs of different ages salt with the hash's size or all there is room for
			ok = rsa.VerifyPSS(key, h, d, sig.rsa, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}) == nil
		}
	case *ecdsa.PublicKey:
		if sig.scheme == algECDSA {
			ok = ecdsa.Verify(key, d, new(big.Int).SetBytes(sig.r), new(big.Int).SetBytes(sig.s))
		}
	}
	if !ok {
		return refusal.New(ReasonSignature, "the quote was changed or signed by another key")
	}
	return nil
}
