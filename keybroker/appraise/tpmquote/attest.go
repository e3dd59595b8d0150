package tpmquote

import (
	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Constants of the TPM (part 2, 6.2, 6.3 and 6.9).
const (
	magicGenerated = 0xff544347 // "\xffTCG": made by the TPM, not given to it
	attestQuote    = 0x8018

	algRSA    = 0x0001
	algSHA256 = 0x000b
	algSHA384 = 0x000c
	algNull   = 0x0010
	algRSASSA = 0x0014
	algRSAPSS = 0x0016
	algECDSA  = 0x0018
	algECC    = 0x0023

	maxName     = 2 + 64 // algorithm and SHA-512
	maxData     = 2 + 64 // TPM2B_DATA
	maxDigest   = 64
	maxSelected = 4 // bytes of a bitmap
)

// attestation is a parsed TPMS_ATTEST of a quote. Its slices lie in the input.
type attestation struct {
	signer       []byte // qualified name
	nonce        []byte
	resetCount   uint32
	restartCount uint32
	safe         bool
	firmware     uint64
	bank         uint16
	selected     uint32 // bit n: PCR n
	digest       []byte
}

// parseAttestation reads TPMS_ATTEST with TPMS_QUOTE_INFO.
func parseAttestation(raw []byte) (attestation, error) {
	var a attestation
	s := cryptobyte.String(raw)
	var magic, selections uint32
	var typ uint16
	var clock uint64
	var safe uint8
	if !s.ReadUint32(&magic) || !s.ReadUint16(&typ) || magic != magicGenerated || typ != attestQuote {
		return a, refusal.New(ReasonMalformed, "not a quote that a TPM made: magic %#x, type %#x", magic, typ)
	}
	if !sized(&s, &a.signer, maxName) || !sized(&s, &a.nonce, maxData) ||
		!s.ReadUint64(&clock) || !s.ReadUint32(&a.resetCount) || !s.ReadUint32(&a.restartCount) || !s.ReadUint8(&safe) ||
		!s.ReadUint64(&a.firmware) || !s.ReadUint32(&selections) {
		return a, refusal.New(ReasonMalformed, "the attestation is cut short or a part of it too long")
	}
	if safe > 1 {
		return a, refusal.New(ReasonMalformed, "the clock's state is %d", safe)
	}
	a.safe = safe == 1
	if selections != 1 {
		return a, refusal.New(ReasonSelection, "the quote is over %d banks, want one", selections)
	}
	if err := a.selection(&s); err != nil {
		return a, err
	}
	if !sized(&s, &a.digest, maxDigest) || !s.Empty() {
		return a, refusal.New(ReasonMalformed, "the digest is cut short or followed by more")
	}
	return a, nil
}

// selection reads TPMS_PCR_SELECTION.
func (a *attestation) selection(s *cryptobyte.String) error {
	var size uint8
	var bitmap []byte
	if !s.ReadUint16(&a.bank) || !s.ReadUint8(&size) || size == 0 || size > maxSelected || !s.ReadBytes(&bitmap, int(size)) {
		return refusal.New(ReasonMalformed, "the selection of PCRs is cut short or too long")
	}
	for i, b := range bitmap {
		a.selected |= uint32(b) << (8 * i)
	}
	if a.selected == 0 {
		return refusal.New(ReasonSelection, "the quote is over no PCR")
	}
	if a.selected>>evidence.MaxPCRs != 0 {
		return refusal.New(ReasonMalformed, "the quote is over PCRs that do not exist: %#x", a.selected)
	}
	if bankName(a.bank) == "" {
		return refusal.New(ReasonSelection, "the quote is over the bank %#x", a.bank)
	}
	return nil
}

func bankName(alg uint16) string {
	switch alg {
	case algSHA256:
		return evidence.BankSHA256
	case algSHA384:
		return evidence.BankSHA384
	}
	return ""
}

// sized reads a TPM2B: a length of two bytes, and so many bytes, which limit bounds.
func sized(s *cryptobyte.String, out *[]byte, limit int) bool {
	var v cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&v) || len(v) > limit {
		return false
	}
	*out = v
	return true
}
