package valuefile

import (
	"slices"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"google.golang.org/protobuf/encoding/protowire"
)

// maxFields bounds the fields of one message.
const maxFields = 4096

// protoField is a field of a message: a varint, or bytes.
type protoField struct {
	num   protowire.Number
	value uint64
	bytes []byte
}

// protoFields reads a message whose fields are numbers and bytes alone. Those among the numbers must
// be numbers; bytes that should have been there are empty, which every caller refuses. A field that is not among
// the repeated ones comes at most once, although protobuf's rule is that the last one counts: two
// readers that see different ones would verify one message and use another.
func protoFields(what string, raw []byte, numbers, repeated []protowire.Number) (list []protoField, err error) {
	seen := map[protowire.Number]bool{}
	for len(raw) > 0 {
		num, typ, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return nil, refusal.New(ReasonMalformed, "%s: %w", what, protowire.ParseError(n))
		}
		raw = raw[n:]
		f := protoField{num: num}
		switch typ {
		case protowire.VarintType:
			f.value, n = protowire.ConsumeVarint(raw)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(raw)
			f.bytes = slices.Clip(f.bytes)
		default:
			return nil, refusal.New(ReasonMalformed, "%s: field %d is of wire type %d", what, num, typ)
		}
		switch {
		case n < 0:
			return nil, refusal.New(ReasonMalformed, "%s: field %d: %w", what, num, protowire.ParseError(n))
		case len(list) == maxFields:
			return nil, refusal.New(ReasonSize, "%s: got more than %d fields", what, maxFields)
		case seen[num] && !slices.Contains(repeated, num):
			return nil, refusal.New(ReasonMalformed, "%s: field %d comes twice", what, num)
		case typ != protowire.VarintType && slices.Contains(numbers, num):
			return nil, refusal.New(ReasonMalformed, "%s: field %d is of wire type %d", what, num, typ)
		}
		raw, seen[num] = raw[n:], true
		list = append(list, f)
	}
	return list, nil
}
