package pcr

import (
	"crypto/sha256"
	"crypto/sha512"
	"hash"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// ReasonBank means that the bank of registers is not known.
const ReasonBank refusal.Reason = "pcr-bank-unknown"

// Bank is a set of registers of one hash. The zero value is none.
type Bank string

// Banks. RTMRs are of SHA-384; SHA-1 proves nothing any more.
const (
	SHA256 Bank = "sha256"
	SHA384 Bank = "sha384"
)

// Check refuses banks that are not known.
func (b Bank) Check() error {
	if b != SHA256 && b != SHA384 {
		return refusal.New(ReasonBank, "bank: got %q, want %s or %s", b, SHA256, SHA384)
	}
	return nil
}

// New makes a hash of the bank, which Check has accepted.
func (b Bank) New() hash.Hash {
	if b == SHA384 {
		return sha512.New384()
	}
	return sha256.New()
}

// Sum is the digest of data.
func (b Bank) Sum(data []byte) []byte {
	h := b.New()
	h.Write(data) // a hash takes everything
	return h.Sum(nil)
}

// Zero is the value of a register into which nothing was extended.
func (b Bank) Zero() []byte { return make([]byte, b.New().Size()) }

// Event is something that is extended into a register.
type Event struct {
	// What is it for people.
	What   string
	Digest []byte
}

func (b Bank) event(what string, data []byte) Event { return Event{what, b.Sum(data)} }

// Replay is a register after these events.
func (b Bank) Replay(events []Event) []byte {
	value := b.Zero()
	for _, e := range events {
		value = b.Sum(append(value, e.Digest...))
	}
	return value
}
