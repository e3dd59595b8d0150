package federation

import (
	"bytes"
	"crypto/sha256"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Ticket is the broker's word that a round is closed: over this cohort and this
// sum, and no other ever. The privacy ledger was charged before it was signed.
type Ticket struct {
	Round       digest.RoundID `json:"round"`
	RoundDigest digest.Digest  `json:"round_digest"`
	Broker      digest.Digest  `json:"broker"`
	Epoch       uint64         `json:"epoch"`
	// Cohort is CohortDigest of the contributions, Count their number and
	// TotalWeight the sum of their weights.
	Cohort      digest.Digest `json:"cohort"`
	Count       uint32        `json:"count"`
	TotalWeight uint64        `json:"total_weight"`
	// Sum is the UploadDigest of the sum's block hashes.
	Sum digest.Digest `json:"sum"`
	// Spent and SpentWithSampling are the model's epsilon after this round.
	Spent             float64       `json:"spent_epsilon"`
	SpentWithSampling float64       `json:"spent_epsilon_with_sampling"`
	Delta             float64       `json:"delta"`
	Time              protocol.Time `json:"time"`
}

func (t *Ticket) context() string { return labelPrefix + "ticket" + labelVersion }

func (t *Ticket) check() error {
	if t.Count < 2 || t.TotalWeight < uint64(t.Count) || t.Time == 0 || !(t.Spent >= 0) || !(t.SpentWithSampling >= 0) {
		return malformed("ticket: a number outside its limits")
	}
	return nil
}

// SignTicket signs with the epoch key.
func SignTicket(key *identity.Private, epoch []byte, t Ticket) ([]byte, error) {
	return seal(key, epoch, &t)
}

// VerifyTicket checks root -> epoch statement -> ticket, and that it closes the
// round: by the word of the broker that opened it.
func VerifyTicket(signed []byte, roots []identity.Public, floor protocol.Floor, r Round, roundDigest digest.Digest) (Ticket, error) {
	t, err := verifyTicket(signed, roots, protocol.Of(r.Broker), floor)
	if err != nil {
		return Ticket{}, err
	}
	if t.Round != r.ID || t.RoundDigest != roundDigest {
		return Ticket{}, refusal.New(ReasonWrongRound, "the ticket closes round %s", t.Round)
	}
	if t.Count < r.Minimum || t.Count > r.Maximum {
		return Ticket{}, refusal.New(ReasonRound, "the ticket has %d contributions, the round allows %d to %d", t.Count, r.Minimum, r.Maximum)
	}
	return t, nil
}

// VerifyTicketNames checks that a ticket of some configured root's broker names a round:
// what its bearer must show before it is told whether the round is here. Whether the
// ticket closes the round, VerifyTicket says.
func VerifyTicketNames(id digest.RoundID, signed []byte, roots []identity.Public, floor protocol.Floor) error {
	t, err := verifyTicket(signed, roots, protocol.AnyBroker(), floor)
	if err == nil && t.Round != id {
		err = refusal.New(ReasonWrongRound, "the ticket closes round %s", t.Round)
	}
	return err
}

func verifyTicket(signed []byte, roots []identity.Public, broker protocol.Broker, floor protocol.Floor) (Ticket, error) {
	var t Ticket
	err := verifyBroker(signed, roots, broker, floor, &t, func(st protocol.EpochStatement) bool {
		return digest.Digest(st.Broker) == t.Broker && st.Epoch == t.Epoch && st.ValidAt(t.Time)
	})
	return t, err
}

// CohortDigest names a set of contributions, whatever their order: the hash of the
// sorted digests of the signed contributions.
func CohortDigest(contributions []digest.Digest) digest.Digest {
	sorted := make([]*digest.Digest, len(contributions))
	for i := range contributions {
		sorted[i] = &contributions[i]
	}
	slices.SortFunc(sorted, func(a, b *digest.Digest) int { return bytes.Compare(a[:], b[:]) })
	h := sha256.New()
	h.Write([]byte("anchorhold/fed/cohort/1\x00"))
	for _, d := range sorted {
		h.Write(d[:])
	}
	return digest.Sum(h)
}

// Result is what the decrypting guest signs about the values that it publishes:
// the noised, rounded sum, never a raw decryption.
type Result struct {
	Round        digest.RoundID `json:"round"`
	RoundDigest  digest.Digest  `json:"round_digest"`
	TicketDigest digest.Digest  `json:"ticket_digest"`
	Agent        digest.Digest  `json:"agent"`
	Length       uint64         `json:"length"`
	// Values is the SHA-256 of the values: little-endian int64 grid integers.
	Values digest.Digest `json:"values"`
	// Step and Divisor turn an integer into the mean: value * Step / Divisor.
	Step    float64 `json:"step"`
	Divisor float64 `json:"divisor"`
	// Sigma is the mechanism's noise in these integers: in units of Step.
	Sigma float64       `json:"sigma"`
	Time  protocol.Time `json:"time"`
}

func (r *Result) context() string { return labelPrefix + "result" + labelVersion }

func (r *Result) check() error {
	if r.Length < 1 || r.Length > MaxLength || !(r.Step > 0) || !(r.Divisor > 0) || !(r.Sigma >= 0) || r.Time == 0 {
		return malformed("result: a number outside its limits")
	}
	return nil
}

// SignResult signs with the agent key under its lease.
func SignResult(key *identity.Private, lease []byte, r Result) ([]byte, error) {
	return seal(key, lease, &r)
}

// VerifyResult checks root -> epoch -> lease -> result, that the guest, by the
// word of the round's own broker, may decrypt this round, and that the result belongs to the ticket. The lease must have been granted the
// round's key, for what is published is what that key opened. In a round whose parties
// hold the key, there is none to be granted: as many of them as the threshold must have
// signed the same values, and JoinResults made one of their results.
func VerifyResult(signed []byte, roots []identity.Public, floor protocol.Floor, r Round, t Ticket, ticketDigest digest.Digest) (Result, protocol.Authority, error) {
	if r.Parties != nil {
		return verifyAgreed(signed, roots, floor, r, t, ticketDigest)
	}
	return verifyResult(signed, roots, floor, r, t, ticketDigest)
}

// verifyResult checks one guest's result.
func verifyResult(signed []byte, roots []identity.Public, floor protocol.Floor, r Round, t Ticket, ticketDigest digest.Digest) (Result, protocol.Authority, error) {
	var res Result
	a, err := verifyAgent(signed, roots, floor, r.decryption(), &res)
	if err != nil {
		return Result{}, protocol.Authority{}, err
	}
	agent := digest.Digest(a.Lease.AgentKey.ID())
	switch {
	case agent != res.Agent:
		return Result{}, protocol.Authority{}, refusal.New(ReasonSignature, "the result names another agent key")
	case r.Parties != nil && !slices.Contains(r.Parties.Agents, agent):
		return Result{}, protocol.Authority{}, refusal.New(ReasonParties, "agent %s is not a party to the round's key", agent)
	case !a.Lease.ValidAt(res.Time):
		return Result{}, protocol.Authority{}, refusal.New(ReasonOutsideLease, "signed at %s, outside the lease", res.Time.Time())
	case t.Round != r.ID || res.Round != t.Round || res.RoundDigest != t.RoundDigest || res.TicketDigest != ticketDigest:
		return Result{}, protocol.Authority{}, refusal.New(ReasonWrongRound, "the result is of round %s", res.Round)
	}
	return res, a, nil
}

// AdmitsDecryptor checks, by the certificate that a broker is about to sign, that a guest
// is among those to whom the round's key may be released.
func (r *Round) AdmitsDecryptor(c *protocol.LeaseCertificate) error {
	for _, g := range c.Grants {
		if g.Resource == r.Resource() && g.Roles.Has(protocol.RoleDecrypt) {
			return r.Decryptors.Admits(c)
		}
	}
	return refusal.New(protocol.ReasonRole, "the policy gives no role %s with %s", protocol.RoleDecrypt, r.Resource())
}

// decryption is what a lease must give to sign the round's result.
func (r *Round) decryption() authority {
	if r.Parties != nil {
		return asParty(r.Broker)
	}
	return authority{protocol.Of(r.Broker), protocol.RoleDecrypt, protocol.Named(r.Resource()), r.Decryptors}
}
