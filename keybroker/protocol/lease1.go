package protocol

import (
	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

const (
	labelLeaseChain1 = former + "/lease-chain"
	contextRelease1  = former + "/M6"
)

// leaseCertificate1 is the certificate of version 1, which named no role, tenant or
// resource. It is still read, so that a receipt of that time can be told from a forged
// one; it gives no authority.
type leaseCertificate1 struct {
	LeaseCertificate
	measurement [48]byte
}

func verifyLease1(signed []byte, st EpochStatement) (LeaseCertificate, error) {
	var c leaseCertificate1
	msg, sig, err := parseSigned(signed, maxSignedLeaseBytes, &c)
	if err != nil {
		return LeaseCertificate{}, err
	}
	// There were no batches in version 1.
	if err := c.verify(st.Key.Verify(contextRelease1, msg, sig), st); err != nil {
		return LeaseCertificate{}, err
	}
	c.Registers = []evidence.Register{{Name: evidence.RegisterLaunch, Value: c.measurement[:]}}
	if c.Image, err = evidence.ImageOf(c.Kind, c.Registers); err != nil {
		return LeaseCertificate{}, malformed("lease certificate: %v", err)
	}
	return c.LeaseCertificate, nil
}

func (*leaseCertificate1) label() string { return contextRelease1 }

func (c *leaseCertificate1) encodeBody(b *cryptobyte.Builder) {
	b.AddBytes(c.Lease[:])
	b.AddBytes(c.Broker[:])
	b.AddUint64(c.Epoch)
	addBytes16(b, c.AgentKey.Bytes())
	addString8(b, string(c.Kind))
	addBool(b, c.SoftwareTEE)
	b.AddBytes(c.EvidenceDigest[:])
	b.AddBytes(c.measurement[:])
	addString8(b, c.ImageID)
	addString8(b, c.PolicyID)
	b.AddUint64(c.PolicyVersion)
	b.AddBytes(c.PolicyDigest[:])
	b.AddUint64(uint64(c.NotBefore))
	b.AddUint64(uint64(c.NotAfter))
	b.AddBytes(c.Exchange[:])
}

func (c *leaseCertificate1) decodeBody(s *cryptobyte.String) bool {
	*c = leaseCertificate1{}
	var kind string
	ok := s.CopyBytes(c.Lease[:]) && s.CopyBytes(c.Broker[:]) && s.ReadUint64(&c.Epoch) &&
		readPublic(s, identity.LevelEpoch, &c.AgentKey) && readString8(s, &kind) && readBool(s, &c.SoftwareTEE) &&
		s.CopyBytes(c.EvidenceDigest[:]) && s.CopyBytes(c.measurement[:]) &&
		readString8(s, &c.ImageID) && readString8(s, &c.PolicyID) && s.ReadUint64(&c.PolicyVersion) &&
		s.CopyBytes(c.PolicyDigest[:]) && readTime(s, &c.NotBefore) && readTime(s, &c.NotAfter) && s.CopyBytes(c.Exchange[:])
	c.Kind = evidence.Kind(kind)
	return ok
}

func (c *leaseCertificate1) validBody() bool {
	return c.Epoch >= 1 && !c.AgentKey.IsZero() && validKind(string(c.Kind)) &&
		(c.ImageID == "" || validText(c.ImageID, maxImageIDBytes)) && validText(c.PolicyID, maxPolicyIDBytes) &&
		validLease(c.NotBefore, c.NotAfter)
}
