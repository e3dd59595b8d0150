package protocol

import (
	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

const maxReasonBytes = 64

// Refusal answers any message in place of the next one and ends the connection
// (docs/protocol.md 5.8). It says why in one code and nothing else; the details
// stand in the broker's audit log under the same ID.
type Refusal struct {
	Reason refusal.Reason
	ID     digest.ExchangeID
}

// Type returns TypeRefusal.
func (*Refusal) Type() Type { return TypeRefusal }

func (m *Refusal) encode(b *cryptobyte.Builder) {
	addString8(b, string(m.Reason))
	b.AddBytes(m.ID[:])
}

func (m *Refusal) decode(s *cryptobyte.String) bool {
	*m = Refusal{}
	var reason string
	ok := readString8(s, &reason) && s.CopyBytes(m.ID[:])
	m.Reason = refusal.Reason(reason)
	return ok
}

func (m *Refusal) valid() bool { return validReason(string(m.Reason)) }

// validReason admits lower-case words joined by '-', so that a peer cannot put
// control characters or a story of its own into our logs.
func validReason(r string) bool {
	if r == "" || len(r) > maxReasonBytes || r[0] == '-' || r[len(r)-1] == '-' {
		return false
	}
	for i := range len(r) {
		c := r[i]
		if c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
