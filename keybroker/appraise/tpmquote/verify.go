package tpmquote

import (
	"crypto/subtle"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Limits of a nonce: below the first it could be guessed, above the second no TPM takes it. The
// broker's own have 32 bytes and more; the lower limit lets others' evidence be examined.
const (
	MinNonceBytes = 8
	MaxNonceBytes = maxData
)

// Expected is what a quote must answer. The zero value refuses every quote.
type Expected struct {
	// Nonce is the qualifying data that the guest was asked to have quoted.
	Nonce []byte
	// PCRs must be in the quote, which may have others too. None is not an answer.
	PCRs []int
	// Trust is the reason to believe the attestation key.
	Trust Trust
	// Now is the verifier's time, for certificates.
	Now time.Time
}

// Verify checks a quote in the form of [evidence.TPMQuote] and returns what it proves. A refusal
// is an *refusal.Error.
func Verify(quote []byte, want Expected) (evidence.TPMClaims, error) {
	none := evidence.TPMClaims{}
	q, err := evidence.ParseTPMQuote(quote)
	if err != nil {
		return none, err
	}
	a, err := parseAttestation(q.Attest)
	if err != nil {
		return none, err
	}
	// Freshness first: it is cheap, and a replayed quote deserves no more work.
	if err := checkNonce(a.nonce, want.Nonce); err != nil {
		return none, err
	}
	p, err := checkSignature(q, want)
	if err != nil {
		return none, err
	}
	if err := a.checkPCRs(q, p.hash, want.PCRs); err != nil {
		return none, err
	}
	if !want.Trust.listed() && !isPrimary(a.signer, p.name) {
		p.name = nil
	}
	return evidence.TPMClaims{
		AKName: p.name, AKTrust: want.Trust.reason, AKSubject: p.subject, AKInstance: p.instance, Bank: q.Bank, PCRs: clonePCRs(q.PCRs),
		FirmwareVersion: a.firmware, ResetCount: a.resetCount, RestartCount: a.restartCount, Safe: a.safe,
	}, nil
}

func checkNonce(have, want []byte) error {
	if len(want) < MinNonceBytes || len(want) > MaxNonceBytes {
		return refusal.New(ReasonNonce, "a nonce of %d bytes was asked for, want %d to %d", len(want), MinNonceBytes, MaxNonceBytes)
	}
	if subtle.ConstantTimeCompare(have, want) != 1 {
		return refusal.New(ReasonNonce, "the quote was made for another exchange")
	}
	return nil
}

// signed is what is known of the key once its signature was verified.
type signed struct {
	hash     uint16
	name     []byte
	subject  string
	instance *evidence.CloudInstance
}

// checkSignature finds the key that the caller believes and verifies the quote's signature by it.
func checkSignature(q evidence.TPMQuote, want Expected) (signed, error) {
	sig, err := parseSignature(q.Signature)
	if err != nil {
		return signed{}, err
	}
	var p *publicArea
	out := signed{hash: sig.hash}
	if len(q.Public) > 0 {
		area, err := parsePublic(q.Public)
		if err != nil {
			return signed{}, err
		}
		if area.scheme != sig.scheme || area.hash != sig.hash {
			return signed{}, refusal.New(ReasonAlgorithm, "a signature of scheme %#x with hash %#x by a key for %#x with %#x", sig.scheme, sig.hash, area.scheme, area.hash)
		}
		p, out.name = &area, area.name
	}
	c, err := want.Trust.believe(p, want.Now)
	if err != nil {
		return signed{}, err
	}
	out.subject, out.instance = c.subject, c.instance
	return out, sig.verify(c.key, q.Attest)
}

// checkPCRs checks that the values are those of the registers that were quoted, all of them, and
// that the required ones are among them. The digest is of the signature's hash, whatever the bank
// (part 3, 18.4).
func (a *attestation) checkPCRs(q evidence.TPMQuote, hash uint16, required []int) error {
	if bankName(a.bank) != q.Bank {
		return refusal.New(ReasonSelection, "the quote is over the bank %s, the values are of %s", bankName(a.bank), q.Bank)
	}
	if len(required) == 0 {
		return refusal.New(ReasonSelection, "no PCR is required, so the quote would prove nothing")
	}
	for _, n := range required {
		if n < 0 || n >= evidence.MaxPCRs || a.selected&(1<<n) == 0 {
			return refusal.New(ReasonSelection, "PCR %d is required and not quoted", n)
		}
	}
	values := make([]byte, 0, evidence.MaxPCRs*48)
	for n := range evidence.MaxPCRs {
		value, supplied := q.PCRs[n]
		if quoted := a.selected&(1<<n) != 0; quoted != supplied {
			return refusal.New(ReasonSelection, "PCR %d: quoted %t, supplied %t", n, quoted, supplied)
		}
		if supplied {
			values = append(values, value...)
		}
	}
	if subtle.ConstantTimeCompare(digest(hashOf(hash), values), a.digest) != 1 {
		return refusal.New(ReasonDigest, "the values are not those that were quoted")
	}
	return nil
}

// clonePCRs copies the values out of the evidence's memory, all into one piece.
func clonePCRs(pcrs map[int]evidence.Hex) map[int]evidence.Hex {
	memory := make([]byte, 0, len(pcrs)*48)
	out := make(map[int]evidence.Hex, len(pcrs))
	for n, value := range pcrs {
		at := len(memory)
		memory = append(memory, value...)
		out[n] = memory[at:len(memory):len(memory)]
	}
	return out
}
