package protocol

import (
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

const (
	NonceSize      = 32              // length of the broker's nonce in bytes
	MinNonceWindow = time.Second     // limits of the nonce's window (docs/protocol.md 7.2)
	MaxNonceWindow = 2 * time.Minute // the same

	maxSignatureBytes   = 6 << 10
	maxSignedEpochBytes = 12 << 10
)

// Choice is what both ends use in one exchange.
type Choice struct {
	Version Version
	Suite   Suite
	Kind    evidence.Kind
}

// Challenge is M2, from broker to agent: the broker proves who it is on this
// connection and sets the nonce (docs/protocol.md 5.2).
type Challenge struct {
	// Choice is the best of the agent's lists that the broker has too.
	Choice Choice
	// Versions, Suites and Kinds are all that the broker has, so that the
	// agent can see for itself that Choice is the best of both.
	Versions []Version
	Suites   []Suite
	Kinds    []evidence.Kind
	// Epoch is the epoch statement, signed by the root (SignEpoch).
	Epoch []byte
	// Nonce is fresh for each connection.
	Nonce [NonceSize]byte
	// Window is how long the broker waits for M3, whole milliseconds.
	Window time.Duration
	// BrokerTime is the broker's clock when it made the challenge.
	BrokerTime Time
	// Signature is by the epoch key over exporter, H(M1) and this body.
	Signature []byte
}

// Type returns TypeChallenge.
func (*Challenge) Type() Type { return TypeChallenge }

// Choose picks the best of the agent's offers that the broker has too
// (docs/protocol.md 5.2). The agent's order decides; both ends call it.
func Choose(hello *Hello, versions []Version, suites []Suite, kinds []evidence.Kind) (Choice, error) {
	var c Choice
	var ok bool
	if c.Version, ok = choose(hello.Versions, versions); !ok {
		return Choice{}, refusal.New(ReasonVersionUnsupported, "agent has %d, broker has %d", hello.Versions, versions)
	}
	if c.Suite, ok = choose(hello.Suites, suites); !ok {
		return Choice{}, refusal.New(ReasonSuiteUnsupported, "agent has %d, broker has %d", hello.Suites, suites)
	}
	if c.Kind, ok = choose(hello.Kinds, kinds); !ok {
		return Choice{}, refusal.New(ReasonKindUnsupported, "agent has %q, broker has %q", hello.Kinds, kinds)
	}
	return c, nil
}

// Sign signs the challenge for one connection (docs/protocol.md 3.4).
func (m *Challenge) Sign(epoch Signer, ekm [48]byte, hashM1 Digest) (err error) {
	m.Signature, err = signMessage(epoch, contextChallenge, m, ekm[:], hashM1[:])
	return err
}

// Verify checks the epoch key's signature for this connection. A challenge made
// for another connection, or for a changed M1, does not verify.
func (m *Challenge) Verify(epoch identity.Public, ekm [48]byte, hashM1 Digest) error {
	err := verifyMessage(func(msg []byte) error { return verifyEpochKey(epoch, contextChallenge, msg, m.Signature) },
		contextChallenge, m, ekm[:], hashM1[:])
	if err != nil {
		return &refusal.Error{Reason: ReasonBrokerSignature, Detail: "challenge was not made for this connection by this epoch key", Err: err}
	}
	return nil
}

func (m *Challenge) encode(b *cryptobyte.Builder) { addSigned(b, m, m.Signature) }

func (m *Challenge) encodeBody(b *cryptobyte.Builder) {
	b.AddUint16(uint16(m.Choice.Version))
	b.AddUint16(uint16(m.Choice.Suite))
	addString8(b, string(m.Choice.Kind))
	addNumbers(b, m.Versions)
	addNumbers(b, m.Suites)
	addNames(b, m.Kinds)
	addBytes24(b, m.Epoch)
	b.AddBytes(m.Nonce[:])
	b.AddUint32(uint32(m.Window.Milliseconds()))
	b.AddUint64(uint64(m.BrokerTime))
}

func (m *Challenge) decode(s *cryptobyte.String) bool {
	*m = Challenge{}
	var body cryptobyte.String
	var version, suite uint16
	var kind string
	var window uint32
	ok := s.ReadUint24LengthPrefixed(&body) && readBytes16(s, &m.Signature) &&
		body.ReadUint16(&version) && body.ReadUint16(&suite) && readString8(&body, &kind) &&
		readNumbers(&body, maxVersions, &m.Versions) && readNumbers(&body, maxSuites, &m.Suites) && readNames(&body, maxKinds, &m.Kinds) &&
		readBytes24(&body, &m.Epoch) && body.CopyBytes(m.Nonce[:]) && body.ReadUint32(&window) &&
		readTime(&body, &m.BrokerTime) && body.Empty()
	m.Choice = Choice{Version(version), Suite(suite), evidence.Kind(kind)}
	m.Window = time.Duration(window) * time.Millisecond
	return ok
}

func (m *Challenge) valid() bool { return m.validBody() && validSignature(m.Signature) }

func (m *Challenge) validBody() bool {
	return m.Choice.Version != 0 && m.Choice.Suite != 0 && validKind(string(m.Choice.Kind)) &&
		validOffers(m.Versions, m.Suites, m.Kinds) &&
		len(m.Epoch) > 0 && len(m.Epoch) <= maxSignedEpochBytes &&
		m.Window >= MinNonceWindow && m.Window <= MaxNonceWindow && m.BrokerTime.valid()
}
