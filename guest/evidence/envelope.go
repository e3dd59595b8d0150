package evidence

import (
	"bytes"
	"crypto/sha256"
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Limits of an envelope.
const (
	MaxEnvelopeBytes = 384 << 10
	MaxParts         = 32
)

// Labels of the two encodings. The first holds one report and certificates of AMD alone; it is
// read, so that guests with an older agent are served, and never made.
const (
	envelopeLabel       = "anchorhold/evidence/envelope/2"
	formerEnvelopeLabel = "anchorhold/evidence/envelope/1"
)

// Part is one piece of evidence.
type Part struct {
	Type PartType
	Data []byte
}

// Envelope carries everything that a guest shows of itself: one primary part, which is fresh,
// parts that are bound to it, and endorsements that help to verify them.
type Envelope struct {
	Kind  Kind
	Parts []Part
	// former: read from an encoding of version 1.
	former bool
}

// NewEnvelope returns an envelope of these parts, in canonical order. It is a refusal if they
// are not allowed for the kind.
func NewEnvelope(kind Kind, parts ...Part) (Envelope, error) {
	e := Envelope{Kind: kind, Parts: slices.Clone(parts)}
	slices.SortStableFunc(e.Parts, func(a, b Part) int { return a.Type.rank() - b.Type.rank() })
	if err := e.check(); err != nil {
		return Envelope{}, err
	}
	return e, nil
}

// Marshal returns the canonical encoding:
//
//	label (1-byte length) | kind (1) | count of parts, 1 byte | each: type (1) | data (3)
//
// where (n) is an n-byte big-endian length before the field. Parts stand in the order of the
// table of their types; several of one type, where that is allowed, in the order of the devices.
func (e Envelope) Marshal() ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	if e.former {
		return e.marshalFormer()
	}
	var b cryptobyte.Builder
	addString(&b, envelopeLabel)
	addString(&b, string(e.Kind))
	b.AddUint8(uint8(len(e.Parts)))
	for _, p := range e.Parts {
		addString(&b, string(p.Type))
		b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(p.Data) })
	}
	return limited(b)
}

func limited(b cryptobyte.Builder) ([]byte, error) {
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
	if len(e.Parts) > MaxParts {
		return refusal.New(ReasonMalformedEvidence, "too many parts: %d", len(e.Parts))
	}
	count := map[PartType]int{}
	for i, p := range e.Parts {
		form, ok := formOf(p.Type)
		if !ok || len(p.Data) == 0 || len(p.Data) > form.bytes {
			return refusal.New(ReasonMalformedEvidence, "part %d: type %q or size of %d bytes is not allowed", i, p.Type, len(p.Data))
		}
		if i > 0 && p.Type.rank() < e.Parts[i-1].Type.rank() {
			return refusal.New(ReasonMalformedEvidence, "the parts must be in order")
		}
		if count[p.Type]++; count[p.Type] > form.count {
			return refusal.New(ReasonMalformedEvidence, "more than %d parts of type %q", form.count, p.Type)
		}
		if !slices.Contains(form.kinds, e.Kind) {
			return refusal.New(ReasonMalformedEvidence, "evidence of kind %q has no part %q", e.Kind, p.Type)
		}
	}
	for _, t := range e.Kind.required() {
		if count[t] == 0 {
			return refusal.New(ReasonMalformedEvidence, "evidence of kind %q needs a part %q", e.Kind, t)
		}
	}
	return nil
}

// ParseEnvelope reads a canonical encoding and nothing else.
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
	var count uint8
	if !readString(&s, &label) || label != envelopeLabel && label != formerEnvelopeLabel {
		return malformed("not an envelope of this version")
	}
	if label == formerEnvelopeLabel {
		return parseFormer(s)
	}
	if !readString(&s, &kind) || !s.ReadUint8(&count) {
		return malformed("cut short")
	}
	e.Kind = Kind(kind)
	for range count {
		var typ string
		var body cryptobyte.String
		if !readString(&s, &typ) || !s.ReadUint24LengthPrefixed(&body) {
			return malformed("a part is cut short")
		}
		e.Parts = append(e.Parts, Part{PartType(typ), bytes.Clone(body)})
	}
	if !s.Empty() {
		return malformed("trailing bytes")
	}
	if err := e.check(); err != nil {
		return Envelope{}, err
	}
	return e, nil
}

// CHIP_ID of an SEV-SNP report (ABI specification, ATTESTATION_REPORT), and where such a report
// begins in a report of Azure's paravisor.
const (
	snpChipOffset = 0x1a0
	snpChipBytes  = 64
	hclHeader     = 0x20
)

// Chip returns the id of the chip or platform that the evidence names, without verifying anything: 64 bytes
// for SEV-SNP, zero if the platform masks it; for TDX the 16 bytes of the platform instance id in the PCK
// certificate; nil if that has none, and for a TPM alone.
func (e Envelope) Chip() []byte {
	var report []byte
	switch e.Kind {
	case KindTDX, KindAzureTDX:
		return quotePlatform(e.Part(PartTDXQuote))
	case KindSNP:
		report = e.Part(PartSNPReport)
	case KindAzureSNP:
		if hcl := e.Part(PartHCLReport); len(hcl) > hclHeader {
			report = hcl[hclHeader:]
		}
	}
	if len(report) < snpChipOffset+snpChipBytes {
		return nil
	}
	return bytes.Clone(report[snpChipOffset : snpChipOffset+snpChipBytes])
}

// Part returns the data of the first part of a type, or nil.
func (e Envelope) Part(t PartType) []byte {
	for _, p := range e.Parts {
		if p.Type == t {
			return p.Data
		}
	}
	return nil
}

// All returns the data of every part of a type, in order.
func (e Envelope) All(t PartType) [][]byte {
	var all [][]byte
	for _, p := range e.Parts {
		if p.Type == t {
			all = append(all, p.Data)
		}
	}
	return all
}

// Primary is the part that is signed over what the evidence is bound to; nil for an unknown kind.
func (e Envelope) Primary() []byte { return e.Part(e.Kind.primary()) }

// Digest is the SHA-256 of the primary part after a label that names the kind: the same report has
// the same digest whatever certificates come with it. What is bound is covered by the primary part.
func (e Envelope) Digest() [32]byte {
	var b cryptobyte.Builder
	addString(&b, "anchorhold/evidence/digest/1")
	addString(&b, string(e.Kind))
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(e.Primary()) })
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
