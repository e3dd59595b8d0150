package federation

import (
	"slices"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Contribution is what a participant's attested agent signs about one upload.
type Contribution struct {
	Round digest.RoundID `json:"round"`
	// RoundDigest names the signed round that the agent followed.
	RoundDigest digest.Digest `json:"round_digest"`
	// Agent is the identity of the agent key.
	Agent  digest.Digest `json:"agent"`
	Weight uint32        `json:"weight"`
	// Blocks and Upload describe the ciphertext: UploadDigest of its block hashes.
	Blocks uint64        `json:"blocks"`
	Upload digest.Digest `json:"upload"`
	// Commitment commits to the quantized values, ProofDigest names a proof of
	// their norm; both zero where the round asks for none.
	Commitment  digest.Digest `json:"commitment"`
	ProofDigest digest.Digest `json:"proof_digest"`
	// Answers are the receipts of answers that were proven for this contribution, if it
	// came with any; distinct, at most MaxAnswers.
	Answers []digest.ReceiptID `json:"answers,omitempty"`
	Time    protocol.Time      `json:"time"`
}

// MaxAnswers that a contribution may name.
const MaxAnswers = 64

func (c *Contribution) context() string { return labelPrefix + "contribution" + labelVersion }

func (c *Contribution) check() error {
	if c.Weight < 1 || c.Weight > MaxWeight || c.Blocks < 1 || c.Blocks > MaxLength || c.Time == 0 {
		return malformed("contribution: a number outside its limits")
	}
	if len(c.Answers) > MaxAnswers {
		return malformed("contribution: more than %d answers", MaxAnswers)
	}
	for i, id := range c.Answers {
		if slices.Contains(c.Answers[:i], id) {
			return malformed("contribution: answer %s is named twice", id)
		}
	}
	return nil
}

// SignContribution signs with the agent key; lease is the chain of the lease that
// the agent holds.
func SignContribution(key *identity.Private, lease []byte, c Contribution) ([]byte, error) {
	return seal(key, lease, &c)
}

// VerifyContribution checks root -> epoch -> lease -> contribution, and that the round
// lets this guest of its own broker contribute. The lease says which guest it was. Whether the
// contribution is to this round, and as the round wants it, Follows says.
func VerifyContribution(signed []byte, roots []identity.Public, floor protocol.Floor, r Round) (Contribution, protocol.Authority, error) {
	var c Contribution
	a, err := verifyAgent(signed, roots, floor, authority{protocol.Of(r.Broker), protocol.RoleContribute, protocol.NoResource(), r.Contributors}, &c)
	if err != nil {
		return Contribution{}, protocol.Authority{}, err
	}
	switch {
	case digest.Digest(a.Lease.AgentKey.ID()) != c.Agent:
		return Contribution{}, protocol.Authority{}, refusal.New(ReasonSignature, "the contribution names another agent key")
	case !a.Lease.ValidAt(c.Time):
		return Contribution{}, protocol.Authority{}, refusal.New(ReasonOutsideLease, "signed at %s, outside the lease", c.Time.Time())
	}
	return c, a, nil
}

// authority is what a lease must give for a statement.
type authority struct {
	broker   protocol.Broker
	role     protocol.Role
	resource protocol.Resource
	audience protocol.Audience
}

// verifyAgent checks a statement of an attested agent key, and its authority.
func verifyAgent(signed []byte, roots []identity.Public, floor protocol.Floor, want authority, st statement) (protocol.Authority, error) {
	s, err := split(signed, st)
	if err != nil {
		return protocol.Authority{}, err
	}
	a, err := protocol.VerifyAuthority(s.Chain(), roots, want.broker, floor, want.role, want.resource, want.audience)
	if err != nil {
		return protocol.Authority{}, err
	}
	if err := s.Open(a.Lease.AgentKey, "the attested agent key", st, st.check); err != nil {
		return protocol.Authority{}, err
	}
	return a, nil
}

// Follows checks a verified contribution against its round.
func (c *Contribution) Follows(r Round, roundDigest digest.Digest) error {
	set, _, err := r.Parameters()
	if err != nil {
		return err
	}
	switch {
	case c.Round != r.ID || c.RoundDigest != roundDigest:
		return refusal.New(ReasonWrongRound, "the contribution is for round %s", c.Round)
	case c.Weight > r.MaxWeight:
		return refusal.New(ReasonRound, "got weight %d, the round allows at most %d", c.Weight, r.MaxWeight)
	case c.Blocks != BlockCount(r.Length, set.ValuesPerBlock()):
		return refusal.New(ReasonUpload, "got %d blocks, the round's vector has %d", c.Blocks, BlockCount(r.Length, set.ValuesPerBlock()))
	case c.Time < r.Opened || c.Time >= r.Closes:
		return refusal.New(ReasonRound, "signed at %s, outside the round", c.Time.Time())
	case r.NormProof && (c.ProofDigest == digest.Digest{} || c.Commitment == digest.Digest{}):
		return refusal.New(ReasonRound, "the round demands a proof of the norm bound")
	}
	return nil
}

// Blocks is how many blocks the round's vector takes.
func (r *Round) Blocks() (uint64, error) {
	set, _, err := r.Parameters()
	if err != nil {
		return 0, err
	}
	return BlockCount(r.Length, set.ValuesPerBlock()), nil
}

// BlockCount is how many blocks a vector takes.
func BlockCount(length uint64, valuesPerBlock int) uint64 {
	return (length + uint64(valuesPerBlock) - 1) / uint64(valuesPerBlock)
}
