package protocol

import (
	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// EpochStatement is the root's word about one epoch of a broker
// (docs/protocol.md 5.9).
type EpochStatement struct {
	// Broker is the ID of the root identity that signs.
	Broker [32]byte
	// Epoch counts up from 1 and is never used twice.
	Epoch uint64
	// MinEpoch is the lowest epoch that the root still accepts; all below are
	// retired from the moment this statement is known.
	MinEpoch uint64
	// Key is BK, which signs M2 and M6 in this epoch.
	Key identity.Public
	// NotBefore and NotAfter bound the epoch in broker time.
	NotBefore, NotAfter Time
	// AnyPolicy leaves the choice of policy to the broker's operator; else only
	// the policy with PolicyDigest may decide.
	AnyPolicy    bool
	PolicyDigest [32]byte
	// AuditKey is the ID of the identity that signs the audit log's checkpoints.
	AuditKey [32]byte
}

// SignEpoch signs the statement with the broker's root key. It sets nothing:
// Broker must already be the root's ID.
func SignEpoch(root *identity.Private, st EpochStatement) ([]byte, error) {
	if st.Broker != root.Public().ID() {
		return nil, refusal.New(ReasonBrokerUnknown, "the statement names another root")
	}
	return sign(root, &st)
}

// VerifyEpoch checks a signed statement against the roots that the verifier was
// configured with. Without roots nothing verifies.
func VerifyEpoch(signed []byte, roots []identity.Public) (EpochStatement, error) {
	var st EpochStatement
	msg, sig, err := parseSigned(signed, maxSignedEpochBytes, &st)
	if err != nil {
		return EpochStatement{}, err
	}
	for _, root := range roots {
		if root.IsZero() || root.Level() != identity.LevelRoot || root.ID() != st.Broker {
			continue
		}
		if err := root.Verify(contextEpoch, msg, sig); err != nil {
			return EpochStatement{}, &refusal.Error{Reason: ReasonEpochSignature, Detail: "epoch statement is not signed by the root that it names", Err: err}
		}
		return st, nil
	}
	return EpochStatement{}, refusal.New(ReasonBrokerUnknown, "broker %x is not among the configured roots", st.Broker[:8])
}

// ValidAt says whether the epoch's validity contains t.
func (st *EpochStatement) ValidAt(t Time) bool { return t >= st.NotBefore && t < st.NotAfter }

// AllowsPolicy says whether the policy with this digest may decide in the epoch.
func (st *EpochStatement) AllowsPolicy(digest [32]byte) bool {
	return st.AnyPolicy || st.PolicyDigest == digest
}

func (*EpochStatement) label() string { return contextEpoch }

func (st *EpochStatement) encodeBody(b *cryptobyte.Builder) {
	b.AddBytes(st.Broker[:])
	b.AddUint64(st.Epoch)
	b.AddUint64(st.MinEpoch)
	addBytes16(b, st.Key.Bytes())
	b.AddUint64(uint64(st.NotBefore))
	b.AddUint64(uint64(st.NotAfter))
	addBool(b, st.AnyPolicy)
	b.AddBytes(st.PolicyDigest[:])
	b.AddBytes(st.AuditKey[:])
}

func (st *EpochStatement) decodeBody(s *cryptobyte.String) bool {
	*st = EpochStatement{}
	return s.CopyBytes(st.Broker[:]) && s.ReadUint64(&st.Epoch) && s.ReadUint64(&st.MinEpoch) &&
		readPublic(s, identity.LevelEpoch, &st.Key) && readTime(s, &st.NotBefore) && readTime(s, &st.NotAfter) &&
		readBool(s, &st.AnyPolicy) && s.CopyBytes(st.PolicyDigest[:]) && s.CopyBytes(st.AuditKey[:])
}

// validBody refuses the zero value in every field that has none: an epoch without
// number, key, end or audit key, or one that neither pins nor frees its policy.
func (st *EpochStatement) validBody() bool {
	return st.Broker != [32]byte{} && st.MinEpoch >= 1 && st.Epoch >= st.MinEpoch &&
		!st.Key.IsZero() && st.Key.Level() == identity.LevelEpoch &&
		st.NotBefore.valid() && st.NotAfter.valid() && st.NotAfter > st.NotBefore &&
		st.AnyPolicy == (st.PolicyDigest == [32]byte{}) && st.AuditKey != [32]byte{}
}

// ActiveEpoch is the epoch whose key signs for a broker now.
type ActiveEpoch struct {
	Key       *identity.Private
	Statement []byte // the root's, about the epoch
	Broker    [32]byte
	Epoch     uint64
}
