// Package wire is what a broker and its guests tell each other about proofs: records of
// registered keys and challenges, both signed by the broker's epoch key, bundles of a
// proof, the broker's answer about one receipt, and by which a guest says who it is.
//
// It guarantees that a record or challenge which verifies was signed by the broker's
// epoch key, with nothing but the broker's root identities, that an introduction which
// verifies was signed by an attested agent key for that connection, and that whatever parses
// encodes again to the same bytes. It trusts those roots alone. It refuses everything
// else with a reason code, and verifies no proof.
//
// The broker's registry and its clients share it, so that an agent links nothing of the
// registry.
package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/strictjson"
)

// Reasons of this package.
const (
	// ReasonMalformed: not the canonical encoding of a record, challenge or answer.
	ReasonMalformed refusal.Reason = "proof-statement-malformed"
	// ReasonSignature: the broker's epoch key, or the agent's, did not sign it, or not for this.
	ReasonSignature refusal.Reason = "proof-statement-signature"
	// ReasonBundle: not the canonical encoding of a bundle, or not of inferences.
	ReasonBundle refusal.Reason = "proof-bundle-malformed"
)

// Limits on encodings, in bytes.
const (
	MaxSignedBytes    = 80 << 10
	maxBodyBytes      = 40 << 10
	maxChainBytes     = 24 << 10
	maxSignatureBytes = 6 << 10
)

// What is decoded at most: of a body, the models of a record or the receipts of a challenge;
// of an announcement, its receipts; of a bundle, the outputs of all its inferences.
var (
	bodyLimits         = strictjson.Limits{Values: 2 * MaxChallenged, List: MaxChallenged}
	announcementLimits = strictjson.Limits{Values: 2 * MaxAnnounced, List: MaxAnnounced}
	bundleLimits       = strictjson.Limits{Values: statement.MaxPublicInputs + 16*statement.MaxItems, List: statement.MaxItems, Named: map[string]int{"outputs": statement.MaxOutputs}}
)

// signed is a body that somebody signs: JSON with fixed fields in a fixed order.
type signed interface {
	context() string
	check() error
}

// vouched is a body that the epoch key signs.
type vouched interface {
	signed
	// fits says whether the body is of the epoch whose key signed it.
	fits(protocol.EpochStatement) bool
}

func malformed(format string, args ...any) error {
	return refusal.New(ReasonMalformed, format, args...)
}

// seal encodes and signs: label, body, chain, signature.
func seal(key *identity.Private, chain []byte, v signed) ([]byte, error) {
	if err := v.check(); err != nil {
		return nil, err
	}
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(body) > maxBodyBytes || len(chain) > maxChainBytes {
		return nil, malformed("a body of %d bytes behind a chain of %d", len(body), len(chain))
	}
	sig, err := key.Sign(v.context(), protocol.Join(v.context(), body, chain))
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(v.context())) })
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(body) })
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(chain) })
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(sig) })
	return b.Bytes()
}

// parts are those of signed bytes. Nothing of them is believed, and nothing decoded.
type parts struct{ body, chain, sig []byte }

// split takes signed bytes apart.
func split(raw []byte, v signed) (parts, error) {
	if len(raw) > MaxSignedBytes {
		return parts{}, malformed("%d bytes, the limit is %d", len(raw), MaxSignedBytes)
	}
	s := cryptobyte.String(raw)
	var label, body, chain, sig cryptobyte.String
	if !s.ReadUint8LengthPrefixed(&label) || string(label) != v.context() ||
		!s.ReadUint24LengthPrefixed(&body) || len(body) > maxBodyBytes ||
		!s.ReadUint16LengthPrefixed(&chain) || len(chain) > maxChainBytes ||
		!s.ReadUint16LengthPrefixed(&sig) || len(sig) > maxSignatureBytes || !s.Empty() {
		return parts{}, malformed("truncated, trailing bytes, over a limit, or not a %s", v.context())
	}
	return parts{body, chain, sig}, nil
}

// open verifies the signature, and decodes into v only then. It covers body and chain, so
// that a body cannot be put behind another chain.
func (p parts) open(key identity.Public, whose string, v signed) error {
	if err := key.Verify(v.context(), protocol.Join(v.context(), p.body, p.chain), p.sig); err != nil {
		return &refusal.Error{Reason: ReasonSignature, Detail: whose + " did not sign this " + v.context(), Err: err}
	}
	return p.decode(v)
}

func (p parts) decode(v signed) error {
	if err := strictjson.Decode(p.body, bodyLimits, v); err != nil {
		return malformed("%w", err)
	}
	if err := v.check(); err != nil {
		return err
	}
	if again, err := json.Marshal(v); err != nil || !bytes.Equal(again, p.body) {
		return malformed("not the canonical encoding")
	}
	return nil
}

// parse decodes without believing.
func parse(raw []byte, v signed) error {
	p, err := split(raw, v)
	if err != nil {
		return err
	}
	return p.decode(v)
}

// verify checks root -> epoch statement, whose it is and against a floor -> body.
func verify(raw []byte, roots []identity.Public, broker protocol.Broker, floor protocol.Floor, v vouched) error {
	p, err := split(raw, v)
	if err != nil {
		return err
	}
	epoch, err := protocol.VerifyStatementEpoch(p.chain, roots, broker, floor)
	if err != nil {
		return err
	}
	if err := p.open(epoch.Key, "the epoch key", v); err != nil {
		return err
	}
	if !v.fits(epoch) {
		return refusal.New(ReasonSignature, "%s names another broker, epoch or time", v.context())
	}
	return nil
}

// DigestOf is the digest that names signed bytes, or a receipt's.
func DigestOf(raw []byte) statement.Digest { return sha256.Sum256(raw) }

// Salt opens a receipt's commitment to its outputs; in JSON base64url.
type Salt [32]byte

// MarshalText writes base64url without padding.
func (s Salt) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, s[:]), nil
}

// UnmarshalText reads what MarshalText writes, and nothing else.
func (s *Salt) UnmarshalText(text []byte) error {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(string(text))
	if err != nil || len(raw) != len(s) || len(text) != base64.RawURLEncoding.EncodedLen(len(s)) {
		return fmt.Errorf("a salt is %d bytes in base64url", len(s))
	}
	copy(s[:], raw)
	return nil
}

// SaltHeader carries the salt of a receipt's output commitment in base64url.
const SaltHeader = "Anchorhold-Output-Salt"

// MaxAnnounced bounds the receipts of one announcement.
const MaxAnnounced = 32

// Announcement is a list of receipts in binary form, 1 to MaxAnnounced.
type Announcement struct {
	Receipts [][]byte `json:"receipts"`
}

// ParseAnnouncement reads an announcement, whose size the caller has bounded. Of one with
// more receipts than MaxAnnounced it decodes none.
func ParseAnnouncement(raw []byte) (a Announcement, err error) {
	if err := strictjson.Decode(raw, announcementLimits, &a); err != nil {
		return Announcement{}, malformed("%w", err)
	}
	return a, nil
}

// List is a list of signed records or challenges.
type List struct {
	Signed [][]byte `json:"signed"`
}
