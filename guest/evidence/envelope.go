package evidence

import (
	"bytes"
	"crypto/sha256"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Kind is the kind of evidence that an envelope carries.
type Kind string

const (
	// KindSNP is an AMD SEV-SNP attestation report. The software TEE makes the
	// same kind under another root.
	KindSNP Kind = "sev-snp"
	// KindTDX is an Intel TDX quote.
	KindTDX Kind = "tdx"
)

// Known reports whether this version knows the kind.
func (k Kind) Known() bool { return k == KindSNP || k == KindTDX }

// EndorsementType is the purpose of a certificate. Endorsements are a cache that the guest
// offers; none is trusted unless its chain ends at a pinned root.
type EndorsementType string

// Types of endorsements, all X.509 certificates in DER.
const (
	EndorsementARK  EndorsementType = "ark"  // AMD root key
	EndorsementASK  EndorsementType = "ask"  // AMD SEV signing key, signs VCEKs
	EndorsementASVK EndorsementType = "asvk" // AMD SEV VLEK signing key, signs VLEKs
	EndorsementVCEK EndorsementType = "vcek" // chip endorsement key
	EndorsementVLEK EndorsementType = "vlek" // loaded endorsement key of a provider
)

func (t EndorsementType) known() bool {
	switch t {
	case EndorsementARK, EndorsementASK, EndorsementASVK, EndorsementVCEK, EndorsementVLEK:
		return true
	}
	return false
}

// Limits of an envelope.
const (
	MaxEnvelopeBytes    = 64 << 10
	MaxReportBytes      = 16 << 10
	MaxEndorsements     = 8
	MaxEndorsementBytes = 8 << 10
)

const envelopeLabel = "anchorhold/evidence/envelope/1"

// Endorsement is one certificate beside a report.
type Endorsement struct {
	Type EndorsementType
	Data []byte
}

// Envelope carries a report and the certificates that help to verify it.
type Envelope struct {
	Kind         Kind
	Report       []byte
	Endorsements []Endorsement
}

// Marshal returns the canonical encoding:
//
//	label (1-byte length) | kind (1) | report (3) | count of endorsements, 1 byte |
//	each: type (1) | data (3)
//
// where (n) is an n-byte big-endian length before the field. Endorsements
// stand in the order of their types, at most one of each.
func (e Envelope) Marshal() ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	addString(&b, envelopeLabel)
	addString(&b, string(e.Kind))
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(e.Report) })
	b.AddUint8(uint8(len(e.Endorsements)))
	for _, en := range e.Endorsements {
		addString(&b, string(en.Type))
		b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(en.Data) })
	}
	out, err := b.Bytes()
	if err != nil || len(out) > MaxEnvelopeBytes {
		return nil, refusal.New(ReasonMalformedEvidence, "the envelope is larger than %d bytes", MaxEnvelopeBytes)
	}
	return out, nil
}

func (e Envelope) check() error {
	if !e.Kind.Known() {
		return refusal.New(ReasonMalformedEvidence, "unknown kind %q", e.Kind)
	}
	if len(e.Report) == 0 || len(e.Report) > MaxReportBytes {
		return refusal.New(ReasonMalformedEvidence, "invalid report size of %d bytes", len(e.Report))
	}
	if len(e.Endorsements) > MaxEndorsements {
		return refusal.New(ReasonMalformedEvidence, "too many endorsements: %d", len(e.Endorsements))
	}
	for i, en := range e.Endorsements {
		if !en.Type.known() || len(en.Data) == 0 || len(en.Data) > MaxEndorsementBytes {
			return refusal.New(ReasonMalformedEvidence, "endorsement %d: type %q or size of %d bytes is not allowed", i, en.Type, len(en.Data))
		}
		if i > 0 && en.Type <= e.Endorsements[i-1].Type {
			return refusal.New(ReasonMalformedEvidence, "endorsements must be in order, and each type may appear only once")
		}
	}
	return nil
}

// ParseEnvelope reads the canonical encoding and nothing else.
func ParseEnvelope(data []byte) (Envelope, error) {
	malformed := func(what string) (Envelope, error) {
		return Envelope{}, refusal.New(ReasonMalformedEvidence, "%s", what)
	}
	if len(data) > MaxEnvelopeBytes {
		return malformed("too large")
	}
	s := cryptobyte.String(data)
	var e Envelope
	var label, kind string
	var report cryptobyte.String
	var count uint8
	if !readString(&s, &label) || label != envelopeLabel {
		return malformed("not an envelope of this version")
	}
	if !readString(&s, &kind) || !s.ReadUint24LengthPrefixed(&report) || !s.ReadUint8(&count) {
		return malformed("cut short")
	}
	e.Kind, e.Report = Kind(kind), bytes.Clone(report)
	for range count {
		var typ string
		var body cryptobyte.String
		if !readString(&s, &typ) || !s.ReadUint24LengthPrefixed(&body) {
			return malformed("an endorsement is cut short")
		}
		e.Endorsements = append(e.Endorsements, Endorsement{EndorsementType(typ), bytes.Clone(body)})
	}
	if !s.Empty() {
		return malformed("trailing bytes")
	}
	if err := e.check(); err != nil {
		return Envelope{}, err
	}
	return e, nil
}

// CHIP_ID of an SEV-SNP report (ABI specification, ATTESTATION_REPORT).
const (
	snpChipOffset = 0x1a0
	snpChipBytes  = 64
)

// Chip returns the id of the chip that the report names, without verifying anything: 64 bytes
// for SEV-SNP, zero if the platform masks it; nil for other kinds.
func (e Envelope) Chip() []byte {
	if e.Kind != KindSNP || len(e.Report) < snpChipOffset+snpChipBytes {
		return nil
	}
	return bytes.Clone(e.Report[snpChipOffset : snpChipOffset+snpChipBytes])
}

// Endorsement returns the certificate of a type, or nil.
func (e Envelope) Endorsement(t EndorsementType) []byte {
	for _, en := range e.Endorsements {
		if en.Type == t {
			return en.Data
		}
	}
	return nil
}

// Digest is the SHA-256 of the report after a label that names the kind: the same report has the
// same digest whatever certificates come with it.
func (e Envelope) Digest() [32]byte {
	var b cryptobyte.Builder
	addString(&b, "anchorhold/evidence/digest/1")
	addString(&b, string(e.Kind))
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(e.Report) })
	return sha256.Sum256(b.BytesOrPanic()) // lengths are bounded far below the prefixes
}

func addString(b *cryptobyte.Builder, s string) {
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(s)) })
}

func readString(s *cryptobyte.String, out *string) bool {
	var v cryptobyte.String
	if !s.ReadUint8LengthPrefixed(&v) {
		return false
	}
	*out = string(v)
	return true
}
