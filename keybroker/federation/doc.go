// Package federation holds the signed statements of a federated round and the form
// of an upload. docs/protocol.md section 12 is the specification.
//
// A round is one sum of encrypted vectors. The broker opens it (Round), attested
// participants encrypt one vector each and sign what they send (Contribution), the
// aggregator adds without any key, the broker closes the round over a fixed cohort
// and a fixed sum (Ticket), and an attested guest decrypts, adds noise, rounds and
// signs what is published (Result).
//
// A round names who may speak in it: contributors and decryptors by tenant, image and
// policy, or the parties of its key one by one. Every Verify function takes the epoch
// floor, and every one for what a guest signed takes the round or set-up besides: there
// is no looking at a guest's statement without asking whether the guest may make it.
//
// The package guarantees that a statement which verifies was signed by the broker's epoch
// key, or under a running lease by an agent key that the round names, with nothing but
// the broker's root identities; that statements which parse encode again to the same bytes; and that
// every number in a round is inside its limits. It refuses everything else with a
// reason code.
//
// Agents, workers, the aggregator, the broker's rounds and the command line call it.
package federation

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/strictjson"
)

// Reasons of this package.
const (
	// ReasonMalformed: not the canonical encoding of a statement.
	ReasonMalformed refusal.Reason = "round-statement-malformed"
	// ReasonVersion: a statement of the first version, which named no guests.
	ReasonVersion refusal.Reason = "round-statement-version"
	// ReasonSignature: the broker's epoch key, or the attested agent key, did not
	// sign it.
	ReasonSignature refusal.Reason = "round-statement-signature"
	// ReasonRound: a number of the round is outside its limits.
	ReasonRound refusal.Reason = "round-invalid"
	// ReasonSet: the parameter set is unknown, was changed, or is below the table.
	ReasonSet refusal.Reason = "parameter-set-refused"
	// ReasonWrongRound: the statement belongs to another round.
	ReasonWrongRound refusal.Reason = "round-mismatch"
	// ReasonOutsideLease: signed outside the lease that it names.
	ReasonOutsideLease refusal.Reason = "contribution-outside-lease"
	// ReasonUpload: the blocks are not those that were signed.
	ReasonUpload refusal.Reason = "upload-mismatch"
)

// Every statement's label is the prefix, its kind and the version. Version 1 named no
// guests: whoever held any lease of the broker could speak in any round.
const (
	labelPrefix   = "anchorhold/fed/"
	labelVersion  = "/2"
	formerVersion = "/1"
)

// Limits on encodings.
const (
	MaxStatementBytes = 1 << 20 // a round of the template's set carries a public key of 550 kB
	maxBodyBytes      = 900 << 10
	maxChainBytes     = 24 << 10
	maxSignatureBytes = 6 << 10
)

// limits of a body: the longest lists are those of a round's two audiences.
var limits = strictjson.Limits{Values: 8 * protocol.MaxAudience, List: protocol.MaxAudience}

// Digest is a SHA-256 digest, in JSON 64 hexadecimal digits.
type Digest = digest.Digest

// ID names a round: random, in JSON 32 hexadecimal digits.
type ID = digest.RoundID

// ParseDigest reads 64 lower-case hexadecimal digits.
func ParseDigest(s string) (Digest, error) { return digest.Parse(s) }

// ParseID reads 32 lower-case hexadecimal digits.
func ParseID(s string) (ID, error) { return digest.ParseID[digest.Round](s) }

// statement is a body that someone signs: JSON with fixed fields in a fixed order.
type statement interface {
	context() string
	check() error
}

func malformed(format string, args ...any) error {
	return refusal.New(ReasonMalformed, format, args...)
}

// seal encodes and signs: label, body, chain, signature.
func seal(key *identity.Private, chain []byte, st statement) ([]byte, error) {
	if err := st.check(); err != nil {
		return nil, err
	}
	body, err := json.Marshal(st)
	if err != nil {
		return nil, err
	}
	sig, err := key.Sign(st.context(), signedBytes(st, body, chain))
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(st.context())) })
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(body) })
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(chain) })
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(sig) })
	out, err := b.Bytes()
	if err == nil && len(out) > MaxStatementBytes {
		err = errors.New("the statement is too long")
	}
	return out, err
}

// signedBytes is what the signature covers: body and chain, so that a statement
// cannot be put behind another chain.
func signedBytes(st statement, body, chain []byte) []byte {
	return protocol.Join(st.context(), body, chain)
}

// sealed is a statement in its parts. Nothing of it is believed, and nothing decoded.
type sealed struct{ body, chain, sig []byte }

// split takes a signed statement apart.
func split(signed []byte, st statement) (sealed, error) {
	if len(signed) > MaxStatementBytes {
		return sealed{}, malformed("%d bytes", len(signed))
	}
	s := cryptobyte.String(signed)
	var label, body, chain, sig cryptobyte.String
	if s.ReadUint8LengthPrefixed(&label) && string(label) == strings.TrimSuffix(st.context(), labelVersion)+formerVersion {
		return sealed{}, refusal.New(ReasonVersion, "a statement of the first version, which says nothing about who may contribute or decrypt: open a new round")
	}
	if string(label) != st.context() ||
		!s.ReadUint24LengthPrefixed(&body) || len(body) > maxBodyBytes ||
		!s.ReadUint24LengthPrefixed(&chain) || len(chain) > maxChainBytes ||
		!s.ReadUint16LengthPrefixed(&sig) || len(sig) > maxSignatureBytes || !s.Empty() {
		return sealed{}, malformed("truncated, trailing bytes, over a limit, or not a %s", st.context())
	}
	return sealed{body, chain, sig}, nil
}

// open verifies the signature, and decodes into st only then: strangers send what they
// like, and JSON can hold many times its own bytes.
func (s sealed) open(key identity.Public, whose string, st statement) error {
	if err := key.Verify(st.context(), signedBytes(st, s.body, s.chain), s.sig); err != nil {
		return &refusal.Error{Reason: ReasonSignature, Detail: whose + " did not sign this " + st.context(), Err: err}
	}
	if err := strictjson.Decode(s.body, limits, st); err != nil {
		return malformed("%v", err)
	}
	if err := st.check(); err != nil {
		return err
	}
	if again, err := json.Marshal(st); err != nil || !bytes.Equal(again, s.body) {
		return malformed("not the canonical encoding")
	}
	return nil
}

// chainOf is the chain of a statement, whatever kind it is.
func chainOf(signed []byte) ([]byte, error) {
	s := cryptobyte.String(signed)
	var label, body, chain cryptobyte.String
	if len(signed) > MaxStatementBytes || !s.ReadUint8LengthPrefixed(&label) || !s.ReadUint24LengthPrefixed(&body) ||
		!s.ReadUint24LengthPrefixed(&chain) || len(chain) > maxChainBytes {
		return nil, malformed("truncated, or over a limit")
	}
	return chain, nil
}

// DigestOf is the digest that names a signed statement.
func DigestOf(signed []byte) Digest { return digest.Of(signed) }
