package statement

import (
	"crypto/sha256"
	"encoding/json"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/digest"
)

// Record says what a pair of keys is for and where it comes from. A registry signs it. A key
// alone proves nothing, because it does not say which circuit it was made for.
type Record struct {
	System       System
	Circuit      digest.Digest // of the constraint system and its library's version
	VerifyingKey digest.Digest // of the canonical bytes
	ProvingKey   digest.Digest
	Library      string // that made the circuit and the keys; 1 to 128 printable ASCII characters

	// What the circuit is about; the other one is nil.
	Inference *InferenceCircuit
	Gradient  *GradientCircuit

	// Development keys were made by one party, which can forge proofs.
	Development bool
	// Ceremony is the digest of the transcript of the trusted setup, or of the universal
	// reference string; zero if and only if the keys are for development.
	Ceremony digest.Digest
}

// InferenceCircuit is the shape of a circuit of inferences.
type InferenceCircuit struct {
	Architecture digest.Digest `json:"architecture"`
	Items        uint16        `json:"items"`
	Outputs      uint16        `json:"outputs"` // of one inference
}

// GradientCircuit is the shape of a circuit of a gradient's bounds.
type GradientCircuit struct {
	Coordinates uint32 `json:"coordinates"`
	Bits        uint8  `json:"bits"` // of a coordinate, with its sign: 8 or 16
}

const maxLibraryBytes = 128

// Check compares the record with the limits.
func (r *Record) Check() error {
	if err := r.System.check(); err != nil {
		return err
	}
	if len(r.Library) < 1 || len(r.Library) > maxLibraryBytes {
		return malformed("the library's name has %d characters, want 1 to %d", len(r.Library), maxLibraryBytes)
	}
	for _, c := range []byte(r.Library) {
		// Without what JSON spells in more than one way.
		if c < 0x20 || c > 0x7e || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return malformed("the library's name %q has a character that is not allowed", r.Library)
		}
	}
	var none digest.Digest
	if r.Circuit == none || r.VerifyingKey == none || r.ProvingKey == none {
		return malformed("a digest of circuit or keys is missing")
	}
	if r.Development != (r.Ceremony == none) {
		return malformed("keys must come either from a named ceremony or from a development setup")
	}
	switch f, g := r.Inference, r.Gradient; {
	case f != nil && g == nil:
		if f.Items < 1 || f.Items > MaxItems || f.Outputs < 1 || f.Outputs > MaxOutputs || int(f.Items)*int(f.Outputs) > maxAllOutputs {
			return malformed("a circuit of %d inferences with %d outputs is out of range", f.Items, f.Outputs)
		}
	case g != nil && f == nil:
		if g.Coordinates < 1 || g.Coordinates > MaxCoordinates || g.Bits != 8 && g.Bits != 16 {
			return malformed("a circuit of %d coordinates of %d bits is out of range", g.Coordinates, g.Bits)
		}
	default:
		return malformed("a circuit must be about either inferences or a gradient")
	}
	return nil
}

// Admits returns nil if the envelope is for this record's key, circuit and shape, and
// ErrMismatch if not. It does not verify the proof.
func (r *Record) Admits(e *Envelope) error {
	if err := r.Check(); err != nil {
		return err
	}
	if err := e.Check(); err != nil {
		return err
	}
	s := &e.Statement
	switch {
	case s.System != r.System:
		return mismatch("the statement is for %s, the key for %s", s.System, r.System)
	case e.Key != r.VerifyingKey:
		return mismatch("the envelope names the key %s, the record %s", e.Key, r.VerifyingKey)
	case s.Circuit != r.Circuit:
		return mismatch("the statement is for circuit %s, the key for %s", s.Circuit, r.Circuit)
	case (s.Inference == nil) != (r.Inference == nil):
		return mismatch("statement and key are of different kinds")
	}
	if f, c := s.Inference, r.Inference; f != nil {
		if f.Model.Architecture != c.Architecture {
			return mismatch("the statement is for architecture %s, the key for %s", f.Model.Architecture, c.Architecture)
		}
		if len(f.Items) != int(c.Items) || len(f.Items[0].Outputs) != int(c.Outputs) {
			return mismatch("the statement has %d inferences of %d outputs, the circuit %d of %d", len(f.Items), len(f.Items[0].Outputs), c.Items, c.Outputs)
		}
		return nil
	}
	if g, c := s.Gradient, r.Gradient; g.Coordinates != c.Coordinates || g.LInf >= 1<<(c.Bits-1) {
		return mismatch("the statement has %d coordinates up to %d, the circuit %d of %d bits", g.Coordinates, g.LInf, c.Coordinates, c.Bits)
	}
	return nil
}

// MarshalBinary is the record's only binary form, which a registry signs.
func (r *Record) MarshalBinary() ([]byte, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddBytes([]byte(recordMagic))
	kind := uint8(kindInference)
	if r.Gradient != nil {
		kind = kindGradient
	}
	b.AddUint8(kind)
	b.AddUint8(uint8(r.System))
	for _, d := range []digest.Digest{r.Circuit, r.VerifyingKey, r.ProvingKey} {
		b.AddBytes(d[:])
	}
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(r.Library)) })
	if f := r.Inference; f != nil {
		b.AddBytes(f.Architecture[:])
		b.AddUint16(f.Items)
		b.AddUint16(f.Outputs)
	} else {
		b.AddUint32(r.Gradient.Coordinates)
		b.AddUint8(r.Gradient.Bits)
	}
	development := uint8(0)
	if r.Development {
		development = 1
	}
	b.AddUint8(development)
	b.AddBytes(r.Ceremony[:])
	return b.Bytes()
}

// ParseRecord reads the binary form.
func ParseRecord(raw []byte) (*Record, error) {
	if len(raw) > MaxRecordBytes {
		return nil, malformed("a record of %d bytes, the limit is %d", len(raw), MaxRecordBytes)
	}
	in := cryptobyte.String(raw)
	var r Record
	var kind, system, development uint8
	var library cryptobyte.String
	ok := readMagic(&in, recordMagic) && in.ReadUint8(&kind) && in.ReadUint8(&system) && in.CopyBytes(r.Circuit[:]) &&
		in.CopyBytes(r.VerifyingKey[:]) && in.CopyBytes(r.ProvingKey[:]) && in.ReadUint8LengthPrefixed(&library)
	switch kind {
	case kindInference:
		r.Inference = &InferenceCircuit{}
		ok = ok && in.CopyBytes(r.Inference.Architecture[:]) && in.ReadUint16(&r.Inference.Items) && in.ReadUint16(&r.Inference.Outputs)
	case kindGradient:
		r.Gradient = &GradientCircuit{}
		ok = ok && in.ReadUint32(&r.Gradient.Coordinates) && in.ReadUint8(&r.Gradient.Bits)
	default:
		ok = false
	}
	ok = ok && in.ReadUint8(&development) && development <= 1 && in.CopyBytes(r.Ceremony[:]) && in.Empty()
	if !ok {
		return nil, malformed("not a key's record of this version")
	}
	r.System, r.Library, r.Development = System(system), string(library), development == 1
	if err := r.Check(); err != nil {
		return nil, err
	}
	return &r, nil
}

type recordJSON struct {
	Format       string            `json:"format"`
	System       System            `json:"system"`
	Circuit      digest.Digest     `json:"circuit"`
	VerifyingKey digest.Digest     `json:"verifying_key"`
	ProvingKey   digest.Digest     `json:"proving_key"`
	Library      string            `json:"library"`
	Inference    *InferenceCircuit `json:"inference,omitempty"`
	Gradient     *GradientCircuit  `json:"gradient,omitempty"`
	Development  bool              `json:"development"`
	Ceremony     digest.Digest     `json:"ceremony"`
}

const recordFormat = "anchorhold/proof-key/1"

// MarshalJSON is the JSON form.
func (r Record) MarshalJSON() ([]byte, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	return json.Marshal(recordJSON{recordFormat, r.System, r.Circuit, r.VerifyingKey, r.ProvingKey, r.Library, r.Inference, r.Gradient, r.Development, r.Ceremony})
}

// ParseRecordJSON reads the JSON form. White space between values is free; everything else must
// be as MarshalJSON writes it.
func ParseRecordJSON(raw []byte) (*Record, error) {
	var j recordJSON
	if err := parseJSON(raw, MaxRecordBytes, &j); err != nil {
		return nil, err
	}
	if j.Format != recordFormat {
		return nil, malformed("got format %.40q, want %q", j.Format, recordFormat)
	}
	r := &Record{j.System, j.Circuit, j.VerifyingKey, j.ProvingKey, j.Library, j.Inference, j.Gradient, j.Development, j.Ceremony}
	if err := r.Check(); err != nil {
		return nil, err
	}
	return r, nil
}

// UnmarshalJSON is ParseRecordJSON for a record inside a larger document.
func (r *Record) UnmarshalJSON(raw []byte) error {
	parsed, err := ParseRecordJSON(raw)
	if err == nil {
		*r = *parsed
	}
	return err
}

// OpenRecord reads either form of a record, by its first character.
func OpenRecord(raw []byte) (*Record, error) {
	if isJSON(raw) {
		return ParseRecordJSON(raw)
	}
	return ParseRecord(raw)
}

// Digest is the SHA-256 of the binary form.
func (r *Record) Digest() (digest.Digest, error) {
	raw, err := r.MarshalBinary()
	if err != nil {
		return digest.Digest{}, err
	}
	return sha256.Sum256(raw), nil
}
