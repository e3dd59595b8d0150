package protocol

import (
	"crypto/sha512"
	"encoding/binary"
)

// Digest is the SHA-512 hash of length-prefixed fields behind a label.
type Digest = [64]byte

// Labels of hashes and contexts of signatures (docs/protocol.md 3). Each names
// protocol, version and purpose.
const (
	labelMessage    = Name + "/hash/message"
	labelTranscript = Name + "/hash/transcript"
	labelRelease    = Name + "/hash/release"
	labelKeyInfo    = Name + "/hpke-info"

	contextEpoch         = former + "/epoch"
	contextEpochRequest  = Name + "/epoch-request"
	contextChallenge     = Name + "/M2"
	contextAttest        = Name + "/M3"
	contextRelease       = Name + "/M6"
	contextReceipt       = Name + "/M7"
	contextPermit        = Name + "/permit"
	contextRestart       = Name + "/restart"
	contextPermitRequest = Name + "/M8"
)

// Join encodes a label and fields so that different lists never give the same
// bytes: each is preceded by its length in four bytes, big-endian
// (docs/protocol.md 3.1).
func Join(label string, fields ...[]byte) []byte {
	n := 4 + len(label)
	for _, f := range fields {
		n += 4 + len(f)
	}
	out := make([]byte, 0, n)
	out = binary.BigEndian.AppendUint32(out, uint32(len(label)))
	out = append(out, label...)
	for _, f := range fields {
		out = binary.BigEndian.AppendUint32(out, uint32(len(f)))
		out = append(out, f...)
	}
	return out
}

// hashJoined is the SHA-512 of Join, without putting it together: frames are long.
func hashJoined(label string, fields ...[]byte) (d Digest) {
	h := sha512.New()
	var n [4]byte
	write := func(f []byte) {
		binary.BigEndian.PutUint32(n[:], uint32(len(f)))
		h.Write(n[:])
		h.Write(f)
	}
	write([]byte(label))
	for _, f := range fields {
		write(f)
	}
	h.Sum(d[:0])
	return d
}

// HashMessage hashes one whole frame; it is H(M) of the specification.
func HashMessage(frame []byte) Digest { return hashJoined(labelMessage, frame) }

// Transcript binds a connection's exporter to the messages M1 to M5, each frame
// whole and in order (docs/protocol.md 3.3).
func Transcript(ekm [48]byte, m1, m2, m3, m4, m5 []byte) Digest {
	return hashJoined(labelTranscript, ekm[:], m1, m2, m3, m4, m5)
}
