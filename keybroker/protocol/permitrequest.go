package protocol

import (
	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// PermitRequest is M8, from agent to broker, after M7: a report of the restarts on an earlier
// permit, a request for a permit, or both (docs/protocol.md 5.12).
type PermitRequest struct {
	// Release is H(M6): the permit is asked for under this very lease.
	Release Digest
	// Sealing is what the guest seals with; zero asks for no permit, and then there is no key.
	Sealing    Sealing
	RestartKey identity.Public
	// Report is the chain of the permit that was used, without a restart, and Restarts are its signed restarts; both are
	// empty if there were none.
	Report   []byte
	Restarts [][]byte
	// Signature is by AK over exporter and this body.
	Signature []byte
}

// Type returns TypePermitRequest.
func (*PermitRequest) Type() Type { return TypePermitRequest }

// Sign signs the request with AK for one exchange.
func (m *PermitRequest) Sign(agent *identity.Private, ekm [48]byte) (err error) {
	m.Signature, err = signMessage(agent, contextPermitRequest, m, ekm[:])
	return err
}

// Verify checks AK's signature for one exchange, and that it is about that exchange's release.
func (m *PermitRequest) Verify(agent identity.Public, ekm [48]byte, release Digest) error {
	err := verifyMessage(func(msg []byte) error { return agent.Verify(contextPermitRequest, msg, m.Signature) }, contextPermitRequest, m, ekm[:])
	if err != nil {
		return &refusal.Error{Reason: ReasonAgentSignature, Detail: "the request for a permit was not signed for this connection by the agent key", Err: err}
	}
	if m.Release != release {
		return refusal.New(ReasonReleaseMismatch, "the request for a permit is about another release")
	}
	return nil
}

func (m *PermitRequest) encode(b *cryptobyte.Builder) { addSigned(b, m, m.Signature) }

func (m *PermitRequest) encodeBody(b *cryptobyte.Builder) {
	b.AddBytes(m.Release[:])
	b.AddUint8(uint8(m.Sealing))
	if m.Sealing != 0 {
		addBytes16(b, m.RestartKey.Bytes())
	}
	addBytes24(b, m.Report)
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, r := range m.Restarts {
			addBytes16(b, r)
		}
	})
}

func (m *PermitRequest) decode(s *cryptobyte.String) bool {
	*m = PermitRequest{}
	var body, list cryptobyte.String
	if !s.ReadUint24LengthPrefixed(&body) || !readBytes16(s, &m.Signature) || !body.CopyBytes(m.Release[:]) || !body.ReadUint8((*uint8)(&m.Sealing)) {
		return false
	}
	if m.Sealing != 0 && !readPublic(&body, identity.LevelEpoch, &m.RestartKey) {
		return false
	}
	if !readBytes24(&body, &m.Report) || !body.ReadUint24LengthPrefixed(&list) || !body.Empty() {
		return false
	}
	for !list.Empty() {
		var r []byte
		if len(m.Restarts) == MaxRestarts || !readBytes16(&list, &r) {
			return false
		}
		m.Restarts = append(m.Restarts, r)
	}
	return true
}

func (m *PermitRequest) valid() bool { return m.validBody() && validSignature(m.Signature) }

// validBody wants a request that asks for something.
func (m *PermitRequest) validBody() bool {
	for _, r := range m.Restarts {
		if len(r) == 0 || len(r) > maxSignedRestartBytes {
			return false
		}
	}
	asks, reports := m.Sealing.valid() && !m.RestartKey.IsZero(), len(m.Restarts) > 0
	return (asks || m.Sealing == 0 && m.RestartKey.IsZero()) && (asks || reports) && reports == (len(m.Report) > 0) &&
		len(m.Report) <= maxPermitChainBytes && len(m.Restarts) <= MaxRestarts
}

// PermitAnswer is M9, from broker to agent: what became of M8. A report that it answers was
// recorded.
type PermitAnswer struct {
	// Permit is a signed permit; empty if none was asked for or given.
	Permit []byte
	// Reason is why none was given; empty where Permit is not, and where none was asked for.
	Reason refusal.Reason
}

// Type returns TypePermitAnswer.
func (*PermitAnswer) Type() Type { return TypePermitAnswer }

func (m *PermitAnswer) encode(b *cryptobyte.Builder) {
	addBytes24(b, m.Permit)
	addString8(b, string(m.Reason))
}

func (m *PermitAnswer) decode(s *cryptobyte.String) bool {
	*m = PermitAnswer{}
	var reason string
	ok := readBytes24(s, &m.Permit) && readString8(s, &reason)
	m.Reason = refusal.Reason(reason)
	return ok
}

func (m *PermitAnswer) valid() bool {
	return len(m.Permit) <= maxSignedPermitBytes && (m.Reason == "" || len(m.Permit) == 0 && validReason(string(m.Reason)))
}
