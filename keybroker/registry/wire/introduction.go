package wire

import (
	"crypto/sha256"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// ContextIntroduction is the signing context of an introduction.
const ContextIntroduction = "anchorhold/proofs/introduction/1"

// Introduction is what an agent signs to be known on one connection to the registry. It is
// worth nothing on another. A receipt is no such word: its client has it, too.
type Introduction struct {
	// Connection is ConnectionOf the connection's exporter.
	Connection digest.Digest `json:"connection"`
	Agent      digest.Digest `json:"agent"`
	Time       protocol.Time `json:"time"`
}

func (i *Introduction) context() string { return ContextIntroduction }

func (i *Introduction) check() error {
	if i.Connection == (digest.Digest{}) || i.Time == 0 {
		return malformed("an introduction without connection or time")
	}
	return nil
}

// ConnectionOf names a connection by its exporter, which both ends know and nobody else.
func ConnectionOf(exporter []byte) digest.Digest {
	return sha256.Sum256(append([]byte("anchorhold/proofs/connection/1\x00"), exporter...))
}

// SignIntroduction signs with the agent key; chain is that of its lease.
func SignIntroduction(key *identity.Private, chain []byte, i Introduction) ([]byte, error) {
	return seal(key, chain, &i)
}

// VerifyIntroduction checks root -> epoch -> lease -> introduction, whose broker granted the
// lease, that it has the
// role serve, and that it is about this connection. Whether the lease still runs is the
// caller's question.
func VerifyIntroduction(raw []byte, roots []identity.Public, broker protocol.Broker, floor protocol.Floor, connection digest.Digest) (protocol.Authority, error) {
	var i Introduction
	s, err := form.Split(raw, i.context())
	if err != nil {
		return protocol.Authority{}, err
	}
	a, err := protocol.VerifyAuthority(s.Chain(), roots, broker, floor, protocol.RoleServe, protocol.NoResource(), protocol.Everyone())
	if err != nil {
		return protocol.Authority{}, err
	}
	if err := s.Open(a.Lease.AgentKey, "the attested agent key", &i, i.check); err != nil {
		return protocol.Authority{}, err
	}
	switch {
	case i.Connection != connection:
		err = refusal.New(ReasonSignature, "signed for another connection")
	case digest.Digest(a.Lease.AgentKey.ID()) != i.Agent:
		err = refusal.New(ReasonSignature, "the introduction names another agent key")
	case !a.Lease.ValidAt(i.Time):
		err = refusal.New(ReasonSignature, "signed at %s, outside the lease", i.Time.Time())
	}
	if err != nil {
		return protocol.Authority{}, err
	}
	return a, nil
}
