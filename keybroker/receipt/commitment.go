package receipt

import (
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
)

// Commitment is a salted hash of an input or output. Without the salt nothing
// about the bytes can be confirmed from it, however few they could be.
type Commitment [sha512.Size384]byte

// Salt hides what a commitment commits to; 256 bits, fresh for each.
type Salt [32]byte

// Salts open the two commitments of a receipt.
type Salts struct {
	Input  Salt `json:"input"`
	Output Salt `json:"output"`
}

// commitmentLabel has the version of the commitments, which is not that of receipts:
// both versions of receipts have the same.
const commitmentLabel = "anchorhold/receipt/1"

// CommitInput commits to the request's body exactly as the client sent it.
func CommitInput(salt Salt, input []byte) Commitment {
	return commit(commitmentLabel+"/input", salt, input)
}

// CommitOutput commits to the text of the answer, of a stream all its parts, or to what
// [EncodeChoices] makes of several choices.
func CommitOutput(salt Salt, output []byte) Commitment {
	return commit(commitmentLabel+"/output", salt, output)
}

// Choice is one of the answers to a request.
type Choice struct {
	Text string
	// Calls are the tools that it calls.
	Calls []Call
}

// Call is one call of a tool, its arguments as the client was given them.
type Call struct{ Name, Arguments string }

// EncodeChoices is what an output commitment is over: the text of one answer that calls no tool;
// of anything else the byte 0xff, which begins no text, and for each choice the number of its
// calls, the text, and name and arguments of each call. Numbers and lengths have 8 bytes.
func EncodeChoices(choices []Choice) []byte {
	if len(choices) == 1 && len(choices[0].Calls) == 0 {
		return []byte(choices[0].Text)
	}
	out := []byte{0xff}
	opaque := func(s string) { out = append(binary.BigEndian.AppendUint64(out, uint64(len(s))), s...) }
	for _, c := range choices {
		out = binary.BigEndian.AppendUint64(out, uint64(len(c.Calls)))
		opaque(c.Text)
		for _, call := range c.Calls {
			opaque(call.Name)
			opaque(call.Arguments)
		}
	}
	return out
}

// commit is SHA-384 over label, salt and bytes, each behind its 8-byte length.
func commit(label string, salt Salt, data []byte) (out Commitment) {
	h := sha512.New384()
	for _, part := range [][]byte{[]byte(label), salt[:], data} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write(part)
	}
	h.Sum(out[:0])
	return out
}

func (c Commitment) equal(other Commitment) bool {
	return subtle.ConstantTimeCompare(c[:], other[:]) == 1
}
