package federation

import (
	"crypto/sha256"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Access is what an agent signs to read and write at an aggregator: who is at this end of this very
// connection. It is worth nothing on another, so that nobody who sees it can use it.
type Access struct {
	// Binding is BindingOf the connection's exporter.
	Binding digest.Digest `json:"binding"`
	Agent   digest.Digest `json:"agent"`
	Time    protocol.Time `json:"time"`
}

func (a *Access) context() string { return labelPrefix + "access" + labelVersion }

func (a *Access) check() error {
	if a.Binding == (digest.Digest{}) || a.Time == 0 {
		return malformed("access: without connection or time")
	}
	return nil
}

// BindingOf names a connection by its exporter, which both ends know and nobody else.
func BindingOf(exporter []byte) digest.Digest {
	return sha256.Sum256(append([]byte("anchorhold/fed/binding/1\x00"), exporter...))
}

// SignAccess signs with the agent key under its lease.
func SignAccess(key *identity.Private, lease []byte, a Access) ([]byte, error) {
	return seal(key, lease, &a)
}

// Reader is a guest at the other end of a connection. What it may read, a round says.
type Reader struct {
	// Authority is the lease's, by one of the roles that take part in rounds.
	Authority protocol.Authority
	chain     []byte
}

// VerifyAccess checks root -> epoch -> lease -> access, that it is about this connection,
// and that the lease has a role in rounds at all, whosever. What the reader may do in a
// round or set-up is asked of that one's broker.
func VerifyAccess(signed []byte, roots []identity.Public, floor protocol.Floor, binding digest.Digest) (Reader, error) {
	var a Access
	s, err := split(signed, &a)
	if err != nil {
		return Reader{}, err
	}
	var authority protocol.Authority
	for _, role := range []protocol.Role{protocol.RoleContribute, protocol.RoleDecrypt, protocol.RoleParty} {
		authority, err = protocol.VerifyAuthority(s.Chain(), roots, protocol.AnyBroker(), floor, role, protocol.NoResource(), protocol.Everyone())
		if reason, _ := refusal.ReasonOf(err); reason != protocol.ReasonRole {
			break
		}
	}
	if err != nil {
		return Reader{}, err
	}
	if err := s.Open(authority.Lease.AgentKey, "the attested agent key", &a, a.check); err != nil {
		return Reader{}, err
	}
	switch {
	case a.Binding != binding:
		return Reader{}, refusal.New(ReasonSignature, "signed for another connection")
	case digest.Digest(authority.Lease.AgentKey.ID()) != a.Agent:
		return Reader{}, refusal.New(ReasonSignature, "the statement names another agent key")
	case !authority.Lease.ValidAt(a.Time):
		return Reader{}, refusal.New(ReasonOutsideLease, "signed at %s, outside the lease", a.Time.Time())
	}
	return Reader{authority, slices.Clone(s.Chain())}, nil
}

// Agent is the identity of the reader's agent key.
func (r *Reader) Agent() digest.Digest { return r.Authority.Lease.AgentKey.ID() }

// Reading is how much of a round a guest may read.
type Reading int

// What may be read, each with what is before it.
const (
	// ReadNothing: the round does not name the guest.
	ReadNothing Reading = iota
	// ReadTerms: the round, its ticket and what was published; contributors.
	ReadTerms
	// ReadSums: sums, contributions and shares, all of them ciphertexts; who decrypts.
	ReadSums
)

// Reading says what a reader may read of a round: the same certificates under which it
// may speak there, of the round's own broker.
func (r Round) Reading(reader Reader, roots []identity.Public, floor protocol.Floor) (Reading, error) {
	if r.Parties != nil {
		if slices.Contains(r.Parties.Agents, reader.Agent()) && reader.has(r.Broker, protocol.RoleParty, protocol.Everyone(), roots, floor) == nil {
			return ReadSums, nil
		}
	} else if reader.has(r.Broker, protocol.RoleDecrypt, r.Decryptors, roots, floor) == nil {
		return ReadSums, nil
	}
	if err := r.Contributes(reader, roots, floor); err != nil {
		return ReadNothing, err
	}
	return ReadTerms, nil
}

// Contributes refuses a reader whom the round does not let contribute.
func (r Round) Contributes(reader Reader, roots []identity.Public, floor protocol.Floor) error {
	return reader.has(r.Broker, protocol.RoleContribute, r.Contributors, roots, floor)
}

func (r *Reader) has(broker digest.Digest, role protocol.Role, audience protocol.Audience, roots []identity.Public, floor protocol.Floor) error {
	_, err := protocol.VerifyAuthority(r.chain, roots, protocol.Of(broker), floor, role, protocol.NoResource(), audience)
	return err
}

// Reads says whether a reader is one of the parties of a set-up, which read its messages.
func (s Setup) Reads(reader Reader) error {
	switch {
	case !slices.Contains(s.Agents, reader.Agent()):
		return refusal.New(ReasonParties, "agent %s is not a party to this setup", reader.Agent())
	case s.Broker != reader.Authority.Epoch.Broker:
		return refusal.New(protocol.ReasonAnotherBroker, "the lease is from broker %x, the setup from %s", reader.Authority.Epoch.Broker[:8], s.Broker)
	case !reader.Authority.Lease.Roles().Has(protocol.RoleParty):
		return refusal.New(protocol.ReasonRole, "the lease has the roles %s, want %s", reader.Authority.Lease.Roles(), protocol.RoleParty)
	}
	return nil
}
