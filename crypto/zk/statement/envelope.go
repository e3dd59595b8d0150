package statement

import (
	"bytes"
	"encoding/json"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/digest"
)

// Envelope carries a proof, the statement that it proves and the digest of the key that verifies
// it. The proof system is the statement's.
type Envelope struct {
	Statement Statement
	Key       digest.Digest // of the verifying key's canonical bytes
	Proof     []byte        // as the proof system writes it, 1 to MaxProofBytes bytes
}

// Check compares the envelope with the limits. It does not verify the proof.
func (e *Envelope) Check() error {
	if len(e.Proof) < 1 || len(e.Proof) > MaxProofBytes {
		return malformed("a proof of %d bytes, want 1 to %d", len(e.Proof), MaxProofBytes)
	}
	return e.Statement.Check()
}

// MarshalBinary is the binary form.
func (e *Envelope) MarshalBinary() ([]byte, error) {
	if err := e.Check(); err != nil {
		return nil, err
	}
	raw, err := e.Statement.MarshalBinary()
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddBytes([]byte(envelopeMagic))
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(raw) })
	b.AddBytes(e.Key[:])
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(e.Proof) })
	return b.Bytes()
}

// ParseEnvelope reads the binary form. It does not verify the proof.
func ParseEnvelope(raw []byte) (*Envelope, error) {
	if len(raw) > MaxEnvelopeBytes {
		return nil, malformed("an envelope of %d bytes, the limit is %d", len(raw), MaxEnvelopeBytes)
	}
	in := cryptobyte.String(raw)
	var e Envelope
	var statement, proof cryptobyte.String
	if !readMagic(&in, envelopeMagic) || !in.ReadUint24LengthPrefixed(&statement) || !in.CopyBytes(e.Key[:]) ||
		!in.ReadUint16LengthPrefixed(&proof) || !in.Empty() {
		return nil, malformed("not an envelope of this version")
	}
	s, err := ParseStatement(statement)
	if err != nil {
		return nil, err
	}
	e.Statement, e.Proof = *s, bytes.Clone(proof)
	if err := e.Check(); err != nil {
		return nil, err
	}
	return &e, nil
}

type envelopeJSON struct {
	Format    string        `json:"format"`
	Statement Statement     `json:"statement"`
	Key       digest.Digest `json:"verifying_key"`
	Proof     []byte        `json:"proof"`
}

const envelopeFormat = "anchorhold/proof/1"

// MarshalJSON is the JSON form: digests in hexadecimal, the proof in base64.
func (e Envelope) MarshalJSON() ([]byte, error) {
	if err := e.Check(); err != nil {
		return nil, err
	}
	return json.Marshal(envelopeJSON{envelopeFormat, e.Statement, e.Key, e.Proof})
}

// ParseEnvelopeJSON reads the JSON form. White space between values is free; everything else
// must be as MarshalJSON writes it. It does not verify the proof.
func ParseEnvelopeJSON(raw []byte) (*Envelope, error) {
	var j envelopeJSON
	if err := parseJSON(raw, MaxEnvelopeJSON, &j); err != nil {
		return nil, err
	}
	if j.Format != envelopeFormat {
		return nil, malformed("got format %.40q, want %q", j.Format, envelopeFormat)
	}
	e := &Envelope{j.Statement, j.Key, j.Proof}
	if err := e.Check(); err != nil {
		return nil, err
	}
	return e, nil
}

// UnmarshalJSON is ParseEnvelopeJSON for an envelope inside a larger document.
func (e *Envelope) UnmarshalJSON(raw []byte) error {
	parsed, err := ParseEnvelopeJSON(raw)
	if err == nil {
		*e = *parsed
	}
	return err
}

// Open reads either form of an envelope, by its first character.
func Open(raw []byte) (*Envelope, error) {
	if isJSON(raw) {
		return ParseEnvelopeJSON(raw)
	}
	return ParseEnvelope(raw)
}
