package protocol

import (
	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keywrap"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

const (
	maxClaimsBytes   = 4 << 10
	maxEvidenceBytes = evidence.MaxEnvelopeBytes
)

// Attest is M3, from agent to broker: the evidence and what it binds
// (docs/protocol.md 5.3).
type Attest struct {
	// KEMKey is the public half of KK, made for this exchange alone.
	KEMKey []byte
	// AgentKey is AK.
	AgentKey identity.Public
	// Claims is the canonical encoding of evidence.GuestClaims.
	Claims []byte
	// Resources are the sorted names that the agent wants.
	Resources []string
	// Evidence is the canonical encoding of evidence.Envelope.
	Evidence []byte
	// Signature is by AK over exporter, H(M1), H(M2) and this body.
	Signature []byte
}

// Type returns TypeAttest.
func (*Attest) Type() Type { return TypeAttest }

// Binding returns what the report's REPORT_DATA must be the hash of
// (docs/protocol.md 6). claims is the digest of the guest claims in m.
func (m *Attest) Binding(ekm [48]byte, hashM1, hashM2 Digest, claims [32]byte) evidence.Binding {
	return evidence.Binding{Exporter: ekm, HashM1: hashM1, HashM2: hashM2,
		KEMKey: m.KEMKey, AgentKey: m.AgentKey.Bytes(), ClaimsDigest: claims}
}

// Sign signs the attestation with AK for one connection (docs/protocol.md 3.4).
func (m *Attest) Sign(agent *identity.Private, ekm [48]byte, hashM1, hashM2 Digest) (err error) {
	m.Signature, err = signMessage(agent, contextAttest, m, ekm[:], hashM1[:], hashM2[:])
	return err
}

// Verify checks AK's signature: the sender holds AK's private half now, on this
// connection, and chose these resources.
func (m *Attest) Verify(ekm [48]byte, hashM1, hashM2 Digest) error {
	err := verifyMessage(func(msg []byte) error { return m.AgentKey.Verify(contextAttest, msg, m.Signature) },
		contextAttest, m, ekm[:], hashM1[:], hashM2[:])
	if err != nil {
		return &refusal.Error{Reason: ReasonAgentSignature, Detail: "attestation was not signed for this connection by the agent key", Err: err}
	}
	return nil
}

func (m *Attest) encode(b *cryptobyte.Builder) { addSigned(b, m, m.Signature) }

func (m *Attest) encodeBody(b *cryptobyte.Builder) {
	addBytes16(b, m.KEMKey)
	addBytes16(b, m.AgentKey.Bytes())
	addBytes16(b, m.Claims)
	addNames(b, m.Resources)
	addBytes24(b, m.Evidence)
}

func (m *Attest) decode(s *cryptobyte.String) bool {
	*m = Attest{}
	var body cryptobyte.String
	return s.ReadUint24LengthPrefixed(&body) && readBytes16(s, &m.Signature) &&
		readBytes16(&body, &m.KEMKey) && readPublic(&body, identity.LevelEpoch, &m.AgentKey) &&
		readBytes16(&body, &m.Claims) && readNames(&body, MaxResources, &m.Resources) &&
		readBytes24(&body, &m.Evidence) && body.Empty()
}

func (m *Attest) valid() bool { return m.validBody() && validSignature(m.Signature) }

func (m *Attest) validBody() bool {
	return len(m.KEMKey) == keywrap.PublicKeySize && !m.AgentKey.IsZero() &&
		len(m.Claims) > 0 && len(m.Claims) <= maxClaimsBytes &&
		validNames(m.Resources, MaxResources, ValidResource) &&
		len(m.Evidence) > 0 && len(m.Evidence) <= maxEvidenceBytes
}
