package receipt

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/anchorhold/anchorhold/crypto/identity"
)

// provableTag begins the input commitment of an answer that can be proven; the
// Poseidon2 commitment to the quantized input follows. A salted hash of bytes, which
// other receipts have in its place, begins with it by chance only.
const provableTag = "anchorhold/p2/1\x00"

// Provable is the input commitment that a proof's statement names, as a receipt has
// it.
func Provable(commitment [32]byte) (c Commitment) {
	copy(c[copy(c[:], provableTag):], commitment[:])
	return c
}

// EncodeOutputs is what the output commitment of such a receipt is over: 32 bits for
// each output, little-endian.
func EncodeOutputs(outputs []int32) []byte {
	raw := make([]byte, 0, 4*len(outputs))
	for _, y := range outputs {
		raw = binary.LittleEndian.AppendUint32(raw, uint32(y))
	}
	return raw
}

// IssueProvable signs the receipt of an answer that can be proven. salt opens the
// commitment to the quantized input; Salts.Input has it behind a zero byte. Input and
// Output of the answer are not used.
func IssueProvable(agentKey *identity.Private, lease Lease, a Answer, commitment [32]byte, salt [31]byte, outputs []int32) (Issued, error) {
	var out Issued
	body := Body{ID: a.ID, ModelID: a.ModelID, ModelName: a.ModelName, ModelVersion: a.ModelVersion,
		LeaseID: lease.ID, EvidenceDigest: lease.EvidenceDigest, Time: lease.Now}
	copy(out.Salts.Input[1:], salt[:])
	if _, err := rand.Read(out.Salts.Output[:]); err != nil {
		return Issued{}, fmt.Errorf("receipt: %w", err)
	}
	body.InputCommitment = Provable(commitment)
	body.OutputCommitment = CommitOutput(out.Salts.Output, EncodeOutputs(outputs))
	var err error
	out.Receipt, err = Sign(agentKey, body, lease.Chain)
	return out, err
}
