// Package wire is what a broker and its guests tell each other about proofs: records of
// registered keys and challenges, both signed by the broker's epoch key, bundles of a
// proof, the broker's answer about one receipt, and the introduction of a guest.
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
	"encoding/base64"
	"fmt"

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

// MaxSignedBytes bounds signed bytes.
const MaxSignedBytes = 80 << 10

// form is that of records, challenges and introductions.
var form = protocol.Form{
	Bytes: MaxSignedBytes, Body: 40 << 10, Chain: 24 << 10, Signature: 6 << 10,
	Decoded:   strictjson.Limits{Values: 2 * MaxChallenged, List: MaxChallenged},
	Malformed: ReasonMalformed, Forged: ReasonSignature,
}

// What is decoded at most: of an announcement, its receipts; of a bundle, the outputs of all
// its inferences.
var (
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

// seal encodes and signs.
func seal(key *identity.Private, chain []byte, v signed) ([]byte, error) {
	if err := v.check(); err != nil {
		return nil, err
	}
	return form.Seal(key, v.context(), v, chain)
}

// parse decodes without believing.
func parse(raw []byte, v signed) error {
	s, err := form.Split(raw, v.context())
	if err != nil {
		return err
	}
	return s.Decode(v, v.check)
}

// verify checks root -> epoch statement, whose it is and against a floor -> body.
func verify(raw []byte, roots []identity.Public, broker protocol.Broker, floor protocol.Floor, v vouched) error {
	s, err := form.Split(raw, v.context())
	if err != nil {
		return err
	}
	epoch, err := protocol.VerifyStatementEpoch(s.Chain(), roots, broker, floor)
	if err != nil {
		return err
	}
	if err := s.Open(epoch.Key, "the epoch key", v, v.check); err != nil {
		return err
	}
	if !v.fits(epoch) {
		return refusal.New(ReasonSignature, "%s names another broker, epoch or time", v.context())
	}
	return nil
}

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
