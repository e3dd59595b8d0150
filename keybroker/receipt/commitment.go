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

// CommitOutput commits to the text of the answer: of a stream, all its parts.
func CommitOutput(salt Salt, output []byte) Commitment {
	return commit(commitmentLabel+"/output", salt, output)
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
