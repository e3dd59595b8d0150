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
	"strings"

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

// MaxStatementBytes bounds a statement: a round of the template's set carries a public key
// of 550 kB.
const MaxStatementBytes = 1 << 20

// form is that of every statement. The longest lists of a body are those of a round's two
// audiences.
var form = protocol.Form{
	Bytes: MaxStatementBytes, Body: 900 << 10, Chain: 24 << 10, Signature: 6 << 10, LongChain: true,
	Decoded:   strictjson.Limits{Values: 8 * protocol.MaxAudience, List: protocol.MaxAudience},
	Malformed: ReasonMalformed, Forged: ReasonSignature,
}

// statement is a body that someone signs: JSON with fixed fields in a fixed order.
type statement interface {
	context() string
	check() error
}

func malformed(format string, args ...any) error {
	return refusal.New(ReasonMalformed, format, args...)
}

// seal encodes and signs.
func seal(key *identity.Private, chain []byte, st statement) ([]byte, error) {
	if err := st.check(); err != nil {
		return nil, err
	}
	return form.Seal(key, st.context(), st, chain)
}

// split takes a signed statement apart.
func split(signed []byte, st statement) (protocol.Signed, error) {
	if len(signed) <= MaxStatementBytes && protocol.LabelOf(signed) == strings.TrimSuffix(st.context(), labelVersion)+formerVersion {
		return protocol.Signed{}, refusal.New(ReasonVersion, "a statement of version 1 does not say who may contribute or decrypt: open a new round")
	}
	return form.Split(signed, st.context())
}
