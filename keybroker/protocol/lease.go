package protocol

import (
	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

const (
	labelLeaseChain    = Name + "/lease-chain"
	maxLeaseChainBytes = 32 << 10
	maxImageIDBytes    = 128
)

// LeaseCertificate is the broker's signed word about an attested agent key: at
// BrokerTime a guest with this measurement proved that it holds AgentKey, and
// the policy allowed it keys until NotAfter (docs/protocol.md 5.10). It grants
// nothing; it goes into every inference receipt.
type LeaseCertificate struct {
	// Lease names the lease.
	Lease ID
	// Broker and Epoch name the statement under which BK signs.
	Broker [32]byte
	Epoch  uint64
	// AgentKey is AK, whose private half never leaves the guest.
	AgentKey identity.Public
	// Kind is the kind of evidence; SoftwareTEE is true if it came from the
	// software TEE, which protects nothing.
	Kind        evidence.Kind
	SoftwareTEE bool
	// EvidenceDigest is the digest of the evidence envelope.
	EvidenceDigest [32]byte
	// Measurement is the launch measurement in the report.
	Measurement [48]byte
	// ImageID is the image that the guest claims to be, judged by the policy.
	ImageID string
	// PolicyID, PolicyVersion and PolicyDigest name the policy that decided.
	PolicyID      string
	PolicyVersion uint64
	PolicyDigest  [32]byte
	// NotBefore is the broker's time at the decision, NotAfter the lease's end.
	NotBefore, NotAfter Time
	// Exchange is Release.Exchange: it binds the certificate to its connection.
	Exchange Digest
}

// SignLease signs the certificate with the epoch key.
func SignLease(epoch *identity.Private, c LeaseCertificate) ([]byte, error) { return sign(epoch, &c) }

// VerifyLease checks a signed certificate under an epoch statement that was
// itself verified: the epoch's key, the same broker and epoch number, begun
// within the epoch's validity, and decided by a policy that the epoch allows.
func VerifyLease(signed []byte, st EpochStatement) (LeaseCertificate, error) {
	var c LeaseCertificate
	msg, sig, err := parseSigned(signed, maxSignedLeaseBytes, &c)
	if err != nil {
		return LeaseCertificate{}, err
	}
	if err := st.Key.Verify(contextRelease, msg, sig); err != nil {
		return LeaseCertificate{}, &evidence.Refusal{Reason: ReasonBrokerSignature, Detail: "lease certificate is not signed by the epoch key", Err: err}
	}
	switch {
	case c.Broker != st.Broker || c.Epoch != st.Epoch:
		return LeaseCertificate{}, evidence.Refuse(ReasonLeaseMismatch, "lease certificate names another broker or epoch")
	case !st.ValidAt(c.NotBefore):
		return LeaseCertificate{}, evidence.Refuse(ReasonEpochNotValid, "lease begins outside the epoch's validity")
	case !st.AllowsPolicy(c.PolicyDigest):
		return LeaseCertificate{}, evidence.Refuse(ReasonPolicyNotPinned, "policy %s is not the epoch's", c.PolicyID)
	}
	return c, nil
}

// ValidAt says whether the lease ran at t, in broker time.
func (c *LeaseCertificate) ValidAt(t Time) bool { return t >= c.NotBefore && t < c.NotAfter }

// MarshalLeaseChain joins a signed epoch statement and a signed lease
// certificate into the one value that receipts carry (docs/protocol.md 4.6).
func MarshalLeaseChain(epoch, lease []byte) ([]byte, error) {
	var b cryptobyte.Builder
	addString8(&b, labelLeaseChain)
	addBytes24(&b, epoch)
	addBytes24(&b, lease)
	return b.Bytes()
}

// VerifyLeaseChain checks a chain with nothing but the broker's root identities:
// root -> epoch statement -> lease certificate. It asks no clock; the caller
// compares the times of what it checks with the certificate's.
func VerifyLeaseChain(chain []byte, roots []identity.Public) (LeaseCertificate, EpochStatement, error) {
	if len(chain) > maxLeaseChainBytes {
		return LeaseCertificate{}, EpochStatement{}, malformed("lease chain of %d bytes", len(chain))
	}
	s := cryptobyte.String(chain)
	var label string
	var epoch, lease []byte
	if !readString8(&s, &label) || label != labelLeaseChain || !readBytes24(&s, &epoch) || !readBytes24(&s, &lease) || !s.Empty() {
		return LeaseCertificate{}, EpochStatement{}, malformed("lease chain: truncated, trailing or of another kind")
	}
	st, err := VerifyEpoch(epoch, roots)
	if err != nil {
		return LeaseCertificate{}, EpochStatement{}, err
	}
	c, err := VerifyLease(lease, st)
	if err != nil {
		return LeaseCertificate{}, EpochStatement{}, err
	}
	return c, st, nil
}

func (*LeaseCertificate) label() string { return contextRelease }

func (c *LeaseCertificate) encodeBody(b *cryptobyte.Builder) {
	b.AddBytes(c.Lease[:])
	b.AddBytes(c.Broker[:])
	b.AddUint64(c.Epoch)
	addBytes16(b, c.AgentKey.Bytes())
	addString8(b, string(c.Kind))
	addBool(b, c.SoftwareTEE)
	b.AddBytes(c.EvidenceDigest[:])
	b.AddBytes(c.Measurement[:])
	addString8(b, c.ImageID)
	addString8(b, c.PolicyID)
	b.AddUint64(c.PolicyVersion)
	b.AddBytes(c.PolicyDigest[:])
	b.AddUint64(uint64(c.NotBefore))
	b.AddUint64(uint64(c.NotAfter))
	b.AddBytes(c.Exchange[:])
}

func (c *LeaseCertificate) decodeBody(s *cryptobyte.String) bool {
	*c = LeaseCertificate{}
	var kind string
	ok := s.CopyBytes(c.Lease[:]) && s.CopyBytes(c.Broker[:]) && s.ReadUint64(&c.Epoch) &&
		readPublic(s, identity.LevelEpoch, &c.AgentKey) && readString8(s, &kind) && readBool(s, &c.SoftwareTEE) &&
		s.CopyBytes(c.EvidenceDigest[:]) && s.CopyBytes(c.Measurement[:]) &&
		readString8(s, &c.ImageID) && readString8(s, &c.PolicyID) && s.ReadUint64(&c.PolicyVersion) &&
		s.CopyBytes(c.PolicyDigest[:]) && readTime(s, &c.NotBefore) && readTime(s, &c.NotAfter) && s.CopyBytes(c.Exchange[:])
	c.Kind = evidence.Kind(kind)
	return ok
}

func (c *LeaseCertificate) validBody() bool {
	return c.Epoch >= 1 && !c.AgentKey.IsZero() && validKind(string(c.Kind)) &&
		(c.ImageID == "" || validText(c.ImageID, maxImageIDBytes)) && validText(c.PolicyID, maxPolicyIDBytes) &&
		validLease(c.NotBefore, c.NotAfter)
}
