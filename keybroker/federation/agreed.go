package federation

import (
	"slices"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"golang.org/x/crypto/cryptobyte"
)

// agreedLabel begins the result of a round whose parties hold its key.
const agreedLabel = "anchorhold/fed/agreed/1\n"

// Agrees says whether another result is of the same values.
func (r *Result) Agrees(other Result) bool {
	return r.Length == other.Length && r.Values == other.Values && r.Step == other.Step && r.Divisor == other.Divisor && r.Sigma == other.Sigma
}

// JoinResults makes the result of a round whose parties hold its key: what as many of them
// as the threshold signed about the same values. VerifyResult reads it.
func JoinResults(signed [][]byte) ([]byte, error) {
	b := cryptobyte.NewBuilder(nil)
	b.AddBytes([]byte(agreedLabel))
	b.AddUint8(uint8(min(len(signed), MaxParties+1))) // which nobody takes
	for _, s := range signed {
		b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(s) })
	}
	return b.Bytes()
}

// Agreed says whether a result has the form that JoinResults makes. It checks no signature.
func Agreed(result []byte) bool {
	_, err := splitResults(result)
	return err == nil
}

// splitResults is the reverse of JoinResults. It checks no signature.
func splitResults(joined []byte) ([][]byte, error) {
	s := cryptobyte.String(joined)
	var label []byte
	var n uint8
	if len(joined) > MaxStatementBytes || !s.ReadBytes(&label, len(agreedLabel)) || string(label) != agreedLabel || !s.ReadUint8(&n) || n > MaxParties {
		return nil, refusal.New(ReasonParties, "this is not a result that the parties agreed on: the signature of one party is not enough")
	}
	list := make([][]byte, n)
	for i := range list {
		if !s.ReadUint24LengthPrefixed((*cryptobyte.String)(&list[i])) {
			return nil, malformed("result of parties: truncated")
		}
	}
	if !s.Empty() {
		return nil, malformed("result of parties: trailing bytes")
	}
	return list, nil
}

// VerifyPartyResult checks what one party of a round's key signed about the values. It is no
// result: that takes as many of them as the threshold.
func VerifyPartyResult(signed []byte, roots []identity.Public, floor protocol.Floor, r Round, t Ticket, ticketDigest digest.Digest) (Result, protocol.Authority, error) {
	if r.Parties == nil {
		return Result{}, protocol.Authority{}, refusal.New(ReasonParties, "the key of round %s is not shared by parties", r.ID)
	}
	return verifyResult(signed, roots, floor, r, t, ticketDigest)
}

// verifyAgreed checks what the parties signed: as many as open the round, each once, about
// the same values. Fewer cannot say what the sum is, for they cannot know it. The authority
// is that of one of them, of a software TEE if there is one.
func verifyAgreed(joined []byte, roots []identity.Public, floor protocol.Floor, r Round, t Ticket, ticketDigest digest.Digest) (res Result, by protocol.Authority, err error) {
	list, err := splitResults(joined)
	if err != nil {
		return res, by, err
	}
	if len(list) != int(r.Parties.Threshold) {
		return res, by, refusal.New(ReasonParties, "%d parties signed the result, want at least %d", len(list), r.Parties.Threshold)
	}
	var agents []digest.Digest
	for i, signed := range list {
		one, a, err := verifyResult(signed, roots, floor, r, t, ticketDigest)
		switch {
		case err != nil:
			return Result{}, protocol.Authority{}, err
		case slices.Contains(agents, one.Agent):
			return Result{}, protocol.Authority{}, refusal.New(ReasonParties, "party %s signed the result twice", one.Agent)
		case i > 0 && !one.Agrees(res):
			return Result{}, protocol.Authority{}, refusal.New(ReasonParties, "parties %s and %s signed different values", res.Agent, one.Agent)
		}
		if agents = append(agents, one.Agent); i == 0 {
			res, by = one, a
		}
		if a.Lease.SoftwareTEE {
			by = a
		}
	}
	return res, by, nil
}
