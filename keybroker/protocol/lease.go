package protocol

import (
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

const (
	labelLeaseChain    = Name + "/lease-chain"
	maxLeaseChainBytes = 32 << 10
	maxImageIDBytes    = 128
	maxTenantBytes     = 128
)

// Granted is one key that a lease was granted.
type Granted struct {
	// Resource is the key's name; its class is the first segment. Version is the key's.
	Resource string
	Version  uint64
	// Subject is what the broker's store says that the key is for: the id of the model
	// that it opens, the digest of the signed round. Zero if the store does not say.
	Subject [32]byte
	// Roles are what the policy's rule for this key lets the agent key sign for.
	Roles Role
}

// LeaseCertificate is the broker's signed word about an attested agent key: at
// BrokerTime a guest with this image proved that it holds AgentKey, the policy gave it
// these keys, each with its roles, until NotAfter, and confirmed Tenant (docs/protocol.md 5.10). What
// it does not name was not granted.
type LeaseCertificate struct {
	// Lease names the lease.
	Lease digest.LeaseID
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
	// Processor is what the evidence shows the guest to run on, by its name in this epoch.
	Processor Processor
	// Image is the digest of Registers, the measurements of what was started, sorted by
	// name.
	Image     evidence.ImageDigest
	Registers []evidence.Register
	// ImageID is the image that the guest says it is. The measurement counts.
	ImageID string
	// Tenant is whom the guest works for, if the policy checked it, else empty.
	Tenant string
	// Grants are the keys of this release, sorted by name.
	Grants []Granted
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
func SignLease(epoch Signer, c LeaseCertificate) ([]byte, error) { return sign(epoch, &c) }

// VerifyLease checks a signed certificate under an epoch statement that was
// itself verified: the epoch's key, the same broker and epoch number, begun
// within the epoch's validity, and decided by a policy that the epoch allows. It is for
// the guest that the certificate is about; whoever looks at another's lease calls
// [VerifyAuthority].
func VerifyLease(signed []byte, st EpochStatement) (LeaseCertificate, error) {
	var c LeaseCertificate
	msg, sig, err := parseSigned(signed, maxSignedLeaseBytes, &c)
	if err != nil {
		return LeaseCertificate{}, err
	}
	if err := c.verify(verifyEpochKey(st.Key, contextRelease, msg, sig), st); err != nil {
		return LeaseCertificate{}, err
	}
	return c, nil
}

// verify judges what the certificate says; signed is what became of its signature.
func (c *LeaseCertificate) verify(signed error, st EpochStatement) error {
	if signed != nil {
		return &refusal.Error{Reason: ReasonBrokerSignature, Detail: "lease certificate is not signed by the epoch key", Err: signed}
	}
	switch {
	case c.Broker != st.Broker || c.Epoch != st.Epoch:
		return refusal.New(ReasonLeaseMismatch, "lease certificate names another broker or epoch")
	case !st.ValidAt(c.NotBefore):
		return refusal.New(ReasonEpochNotValid, "lease begins outside the epoch's validity")
	case !st.AllowsPolicy(c.PolicyDigest):
		return refusal.New(ReasonPolicyNotPinned, "policy %s is not the epoch's", c.PolicyID)
	}
	return nil
}

// Roles are those of all grants together.
func (c *LeaseCertificate) Roles() (all Role) {
	for _, g := range c.Grants {
		all |= g.Roles
	}
	return all
}

// ValidAt says whether the lease ran at t, in broker time.
func (c *LeaseCertificate) ValidAt(t Time) bool { return t >= c.NotBefore && t < c.NotAfter }

// Measurement is the launch measurement, if the kind of evidence has one.
func (c *LeaseCertificate) Measurement() []byte {
	for _, r := range c.Registers {
		if r.Name == evidence.RegisterLaunch {
			return r.Value
		}
	}
	return nil
}

// MarshalLeaseChain joins a signed epoch statement and a signed lease
// certificate into the one value that receipts carry (docs/protocol.md 4.6).
func MarshalLeaseChain(epoch, lease []byte) ([]byte, error) {
	var b cryptobyte.Builder
	addString8(&b, labelLeaseChain)
	addBytes24(&b, epoch)
	addBytes24(&b, lease)
	return b.Bytes()
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
	b.AddBytes(c.Processor[:])
	addString8(b, string(c.Image.Bytes()))
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, r := range c.Registers {
			addString8(b, r.Name)
			addString8(b, string(r.Value))
		}
	})
	addString8(b, c.ImageID)
	addString8(b, c.Tenant)
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, g := range c.Grants {
			addString8(b, g.Resource)
			b.AddUint64(g.Version)
			b.AddBytes(g.Subject[:])
			b.AddUint16(uint16(g.Roles))
		}
	})
	addString8(b, c.PolicyID)
	b.AddUint64(c.PolicyVersion)
	b.AddBytes(c.PolicyDigest[:])
	b.AddUint64(uint64(c.NotBefore))
	b.AddUint64(uint64(c.NotAfter))
	b.AddBytes(c.Exchange[:])
}

func (c *LeaseCertificate) decodeBody(s *cryptobyte.String) bool {
	*c = LeaseCertificate{}
	var kind, image string
	ok := s.CopyBytes(c.Lease[:]) && s.CopyBytes(c.Broker[:]) && s.ReadUint64(&c.Epoch) &&
		readPublic(s, identity.LevelEpoch, &c.AgentKey) && readString8(s, &kind) && readBool(s, &c.SoftwareTEE) &&
		s.CopyBytes(c.EvidenceDigest[:]) && s.CopyBytes(c.Processor[:]) && readString8(s, &image) && readRegisters(s, &c.Registers) &&
		readString8(s, &c.ImageID) && readString8(s, &c.Tenant) && readGrants(s, &c.Grants) &&
		readString8(s, &c.PolicyID) && s.ReadUint64(&c.PolicyVersion) &&
		s.CopyBytes(c.PolicyDigest[:]) && readTime(s, &c.NotBefore) && readTime(s, &c.NotAfter) && s.CopyBytes(c.Exchange[:])
	if !ok {
		return false
	}
	c.Kind = evidence.Kind(kind)
	c.Image, ok = evidence.ImageDigestOf([]byte(image))
	return ok
}

func readRegisters(s *cryptobyte.String, out *[]evidence.Register) bool {
	var list cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) {
		return false
	}
	for !list.Empty() {
		var name, value string
		if len(*out) == evidence.MaxRegisters || !readString8(&list, &name) || !readString8(&list, &value) {
			return false
		}
		*out = append(*out, evidence.Register{Name: name, Value: evidence.Hex(value)})
	}
	return true
}

func readGrants(s *cryptobyte.String, out *[]Granted) bool {
	var list cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) {
		return false
	}
	for !list.Empty() {
		var g Granted
		var roles uint16
		if len(*out) == MaxResources || !readString8(&list, &g.Resource) || !list.ReadUint64(&g.Version) || !list.CopyBytes(g.Subject[:]) || !list.ReadUint16(&roles) {
			return false
		}
		g.Roles = Role(roles)
		*out = append(*out, g)
	}
	return true
}

// validBody holds the image digest against the registers, so that a certificate cannot
// show one image and name another.
func (c *LeaseCertificate) validBody() bool {
	image, err := evidence.ImageOf(c.Kind, c.Registers)
	names := make([]string, len(c.Grants))
	for i, g := range c.Grants {
		names[i] = g.Resource
	}
	return err == nil && image == c.Image && c.Epoch >= 1 && !c.AgentKey.IsZero() && validKind(string(c.Kind)) &&
		(c.ImageID == "" || validText(c.ImageID, maxImageIDBytes)) && (c.Tenant == "" || validText(c.Tenant, maxTenantBytes)) &&
		validNames(names, MaxResources, ValidResource) &&
		!slices.ContainsFunc(c.Grants, func(g Granted) bool { return g.Version == 0 || g.Roles&allRoles != g.Roles }) &&
		validText(c.PolicyID, maxPolicyIDBytes) && validLease(c.NotBefore, c.NotAfter)
}
