package statement

import (
	"bytes"
	"encoding/json"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/digest"
)

// Binary forms begin with a line that names format and version. Numbers are big-endian.
const (
	statementMagic = "anchorhold/statement/1\n"
	envelopeMagic  = envelopeFormat + "\n"
	recordMagic    = recordFormat + "\n"
)

// What a statement or a record is about.
const (
	kindInference = 1
	kindGradient  = 2
)

// Limits on encodings, in bytes.
const (
	maxStatementBytes = 80 << 10
	MaxProofBytes     = 4 << 10
	// MaxEnvelopeBytes bounds an envelope's binary form, MaxEnvelopeJSON the JSON form.
	MaxEnvelopeBytes = maxStatementBytes + MaxProofBytes + 1<<10
	MaxEnvelopeJSON  = 256 << 10
	// MaxRecordBytes bounds both forms of a record.
	MaxRecordBytes = 4 << 10
)

// MarshalBinary is the statement's only binary form, over which Digest is computed.
func (s *Statement) MarshalBinary() ([]byte, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddBytes([]byte(statementMagic))
	kind := uint8(kindInference)
	if s.Gradient != nil {
		kind = kindGradient
	}
	b.AddUint8(kind)
	b.AddUint8(uint8(s.System))
	b.AddBytes(s.Circuit[:])
	if f := s.Inference; f != nil {
		for _, part := range [][]byte{f.Model.Architecture[:], f.Model.Quantization[:], f.Model.Chunks[:], f.Model.Weights[:]} {
			b.AddBytes(part)
		}
		b.AddUint16(uint16(len(f.Items)))
		b.AddUint16(uint16(len(f.Items[0].Outputs)))
		for _, item := range f.Items {
			b.AddBytes(item.Receipt[:])
			b.AddBytes(item.Input[:])
			for _, y := range item.Outputs {
				b.AddUint32(uint32(y))
			}
		}
	} else {
		g := s.Gradient
		for _, part := range [][]byte{g.Round[:], g.Participant[:], g.Ciphertext[:], g.Commitment[:]} {
			b.AddBytes(part)
		}
		b.AddUint32(g.Coordinates)
		b.AddUint32(g.LInf)
		b.AddUint64(g.SquaredL2)
	}
	return b.Bytes()
}

// ParseStatement reads the binary form.
func ParseStatement(raw []byte) (*Statement, error) {
	if len(raw) > maxStatementBytes {
		return nil, malformed("a statement of %d bytes, the limit is %d", len(raw), maxStatementBytes)
	}
	in := cryptobyte.String(raw)
	var s Statement
	var kind, system uint8
	if !readMagic(&in, statementMagic) || !in.ReadUint8(&kind) || !in.ReadUint8(&system) || !in.CopyBytes(s.Circuit[:]) {
		return nil, malformed("not a statement of this version")
	}
	s.System = System(system)
	ok := false
	switch kind {
	case kindInference:
		s.Inference, ok = readInference(&in)
	case kindGradient:
		s.Gradient, ok = readGradient(&in)
	}
	if !ok || !in.Empty() {
		return nil, malformed("a statement of kind %d is cut short or has trailing bytes", kind)
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	return &s, nil
}

func readInference(in *cryptobyte.String) (*Inference, bool) {
	var f Inference
	var items, outputs uint16
	if !in.CopyBytes(f.Model.Architecture[:]) || !in.CopyBytes(f.Model.Quantization[:]) || !in.CopyBytes(f.Model.Chunks[:]) ||
		!in.CopyBytes(f.Model.Weights[:]) || !in.ReadUint16(&items) || !in.ReadUint16(&outputs) {
		return nil, false
	}
	// Nothing is allocated for more than what is there.
	if len(*in) != int(items)*(len(digest.ReceiptID{})+CommitmentBytes+4*int(outputs)) {
		return nil, false
	}
	f.Items = make([]Item, items)
	for i := range f.Items {
		item := &f.Items[i]
		if !in.CopyBytes(item.Receipt[:]) || !in.CopyBytes(item.Input[:]) {
			return nil, false
		}
		item.Outputs = make([]int32, outputs)
		for k := range item.Outputs {
			var y uint32
			if !in.ReadUint32(&y) {
				return nil, false
			}
			item.Outputs[k] = int32(y)
		}
	}
	return &f, true
}

func readGradient(in *cryptobyte.String) (*Gradient, bool) {
	var g Gradient
	ok := in.CopyBytes(g.Round[:]) && in.CopyBytes(g.Participant[:]) && in.CopyBytes(g.Ciphertext[:]) && in.CopyBytes(g.Commitment[:]) &&
		in.ReadUint32(&g.Coordinates) && in.ReadUint32(&g.LInf) && in.ReadUint64(&g.SquaredL2)
	return &g, ok
}

func readMagic(in *cryptobyte.String, magic string) bool {
	var got []byte
	return in.ReadBytes(&got, len(magic)) && string(got) == magic
}

// parseJSON decodes into v and refuses any spelling but the one that MarshalJSON writes;
// white space between values is free.
func parseJSON(raw []byte, limit int, v any) error {
	if len(raw) > limit {
		return malformed("%d bytes, the limit is %d", len(raw), limit)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return malformed("%w", err)
	}
	again, err := json.Marshal(v)
	if err != nil {
		return malformed("%w", err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil || !bytes.Equal(compact.Bytes(), again) {
		return malformed("fields are unknown, repeated, out of order or misspelled")
	}
	return nil
}

func isJSON(raw []byte) bool {
	trimmed := bytes.TrimLeft(raw, " \t\r\n")
	return len(trimmed) > 0 && trimmed[0] == '{'
}
