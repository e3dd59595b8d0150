package evidence

import (
	"crypto/sha512"

	"golang.org/x/crypto/cryptobyte"
)

// Labels of the two uses of REPORT_DATA. They differ in length and content, and
// stand first behind their length, so no input to one hash is an input to the other.
const (
	bindingLabel       = "anchorhold/kbp/2/report-data"
	callerBindingLabel = "anchorhold/local-api/1/caller-report-data"
)

// Binding is everything that the evidence for one key release is bound to (docs/protocol.md,
// REPORT_DATA).
type Binding struct {
	// Exporter is the TLS channel binding.
	Exporter [48]byte
	// HashM1 and HashM2 are the hashes of the first two messages.
	HashM1, HashM2 [64]byte
	// KEMKey and AgentKey are the public keys KK and AK.
	KEMKey, AgentKey []byte
	// ClaimsDigest is GuestClaims.Digest.
	ClaimsDigest [32]byte
}

// Challenge is the SHA-512 of the label and every field, each behind its
// 4-byte length: what the evidence is made over ([ReportData]).
func (b Binding) Challenge() [64]byte {
	return hashFields(bindingLabel, b.Exporter[:], b.HashM1[:], b.HashM2[:], b.KEMKey, b.AgentKey, b.ClaimsDigest[:])
}

// CallerBinding is everything that the evidence for a local caller's nonce is bound to. It has a
// label of its own, so the local API cannot produce a REPORT_DATA that a broker would accept.
type CallerBinding struct {
	// Nonce is the caller's, 16 to 64 bytes.
	Nonce []byte
	// AgentKeyID is the identity of the agent key in use.
	AgentKeyID [32]byte
}

// Bounds of a caller's nonce, in bytes.
const (
	MinCallerNonce = 16
	MaxCallerNonce = 64
)

// Challenge is the SHA-512 of the caller label and every field, each behind
// its 4-byte length.
func (c CallerBinding) Challenge() [64]byte {
	return hashFields(callerBindingLabel, c.Nonce, c.AgentKeyID[:])
}

// Labels of what is made from a challenge.
const (
	partsLabel     = "anchorhold/evidence/2/parts"
	withPartsLabel = "anchorhold/evidence/2/report-data"
	nonceLabel     = "anchorhold/evidence/2/nonce"
)

// ReportData is what the primary part of evidence for a challenge is made over: all 64 bytes
// of REPORT_DATA of a processor's report. Without bound parts it is the challenge itself. With them it
// is the SHA-512 of a label, the challenge and their digest: the SHA-512 of another label
// and, for each part that is neither primary nor an endorsement, its type and its data.
// Whoever adds, removes or changes a bound part needs another report.
func (e Envelope) ReportData(challenge [64]byte) [64]byte {
	fields := []any{partsLabel}
	for _, p := range e.Parts {
		if form, _ := formOf(p.Type); !form.endorsement && p.Type != e.Kind.primary() {
			fields = append(fields, string(p.Type), p.Data)
		}
	}
	if len(fields) == 1 {
		return challenge
	}
	digest := hashFields(fields...)
	return hashFields(withPartsLabel, challenge[:], digest[:])
}

// Nonce is what a device with a nonce of 32 bytes signs for a challenge, one value for each type
// of part: a GPU's report, or a TPM's quote beside a processor's report. Where the quote is
// the primary part, the challenge is what ReportData returns.
func Nonce(t PartType, challenge [64]byte) [32]byte {
	sum := hashFields(nonceLabel, string(t), challenge[:])
	return [32]byte(sum[:32])
}

func hashFields(fields ...any) [64]byte {
	h := sha512.New()
	for _, f := range fields {
		var data []byte
		switch v := f.(type) {
		case string:
			data = []byte(v)
		case []byte:
			data = v
		}
		var b cryptobyte.Builder
		b.AddUint32(uint32(len(data)))
		h.Write(b.BytesOrPanic())
		h.Write(data)
	}
	return [64]byte(h.Sum(nil))
}
