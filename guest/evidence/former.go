package evidence

import (
	"bytes"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Limits of an envelope of version 1.
const (
	maxFormerBytes            = 64 << 10
	maxFormerReportBytes      = 16 << 10
	maxFormerEndorsements     = 8
	maxFormerEndorsementBytes = 8 << 10
)

// parseFormer reads what stands behind the label of version 1:
//
//	kind (1) | report (3) | count of endorsements, 1 byte | each: type (1) | data (3)
//
// Endorsements stand in the alphabetical order of their types, at most one of each.
func parseFormer(s cryptobyte.String) (Envelope, error) {
	malformed := func(what string) (Envelope, error) {
		return Envelope{}, refusal.New(ReasonMalformedEvidence, "%s", what)
	}
	if len(s) > maxFormerBytes {
		return malformed("too large")
	}
	var kind string
	var report cryptobyte.String
	var count uint8
	if !readString(&s, &kind) || !s.ReadUint24LengthPrefixed(&report) || !s.ReadUint8(&count) {
		return malformed("cut short")
	}
	if Kind(kind) != KindSNP || len(report) > maxFormerReportBytes || count > maxFormerEndorsements {
		return malformed("an envelope of version 1 holds one report of SEV-SNP and its certificates")
	}
	parts := []Part{{PartSNPReport, bytes.Clone(report)}}
	last := ""
	for range count {
		var typ string
		var body cryptobyte.String
		if !readString(&s, &typ) || !s.ReadUint24LengthPrefixed(&body) {
			return malformed("an endorsement is cut short")
		}
		if form, ok := formOf(PartType(typ)); !ok || !form.endorsement || typ <= last || len(body) > maxFormerEndorsementBytes {
			return malformed("endorsements must be known, in order, and each type may appear only once")
		}
		last = typ
		parts = append(parts, Part{PartType(typ), bytes.Clone(body)})
	}
	if !s.Empty() {
		return malformed("trailing bytes")
	}
	e, err := NewEnvelope(KindSNP, parts...)
	e.former = true
	return e, err
}

// marshalFormer writes what parseFormer read. The table has AMD's certificates in alphabetical
// order, too.
func (e Envelope) marshalFormer() ([]byte, error) {
	var b cryptobyte.Builder
	addString(&b, formerEnvelopeLabel)
	addString(&b, string(e.Kind))
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(e.Part(PartSNPReport)) })
	b.AddUint8(uint8(len(e.Parts) - 1))
	for _, p := range e.Parts[1:] {
		addString(&b, string(p.Type))
		b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(p.Data) })
	}
	return limited(b)
}
