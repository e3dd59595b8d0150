package wire

import (
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Answer is what the broker knows of one receipt: this output, from this version of a
// model, in this attested guest, at this time.
type Answer struct {
	Receipt ReceiptView `json:"receipt"`
	Guest   GuestView   `json:"guest"`
	// Challenge, if one names the receipt.
	Challenge *ChallengeView `json:"challenge,omitempty"`
	// Proof, if one was verified.
	Proof *ProofView `json:"proof,omitempty"`
	// Documents are what all this was taken from, to be verified again elsewhere.
	Documents Documents `json:"documents"`
}

// ReceiptView is the receipt.
type ReceiptView struct {
	ID        digest.ReceiptID `json:"id"`
	Digest    digest.Digest    `json:"digest"` // of the receipt's bytes
	Agent     digest.Digest    `json:"agent"`
	Model     digest.Digest    `json:"model_id"`
	Time      time.Time        `json:"time"`
	Announced time.Time        `json:"announced"`
}

// GuestView is where the answer was computed, by the lease in the receipt.
type GuestView struct {
	Lease          digest.LeaseID `json:"lease"`
	Evidence       string         `json:"evidence"`
	EvidenceDigest digest.Digest  `json:"evidence_digest"`
	Measurement    string         `json:"measurement"`
	Image          string         `json:"image"`
	// SoftwareTEE: the evidence proves nothing.
	SoftwareTEE bool `json:"software_tee"`
}

// State is how a challenge stands.
type State string

// The states.
const (
	Pending  State = "pending"
	Overdue  State = "overdue"  // the deadline went by
	Answered State = "answered" // every receipt is proven
	Late     State = "late"     // every receipt is proven, some after the deadline
)

// ChallengeView is a challenge.
type ChallengeView struct {
	Digest   digest.Digest `json:"digest"` // of the signed bytes
	Agent    digest.Digest `json:"agent"`
	Time     time.Time     `json:"time"`
	Deadline time.Time     `json:"deadline"`
	State    State         `json:"state"`
	Receipts int           `json:"receipts"`
	Missing  int           `json:"missing"` // receipts without a proof
}

// ProofView is a verified proof.
type ProofView struct {
	Digest    digest.Digest    `json:"digest"`             // of the envelope's binary form
	Statement digest.Digest    `json:"statement,omitzero"` // what is proven; shown with the bundle
	System    statement.System `json:"system"`
	Circuit   digest.Digest    `json:"circuit"`
	Key       digest.Digest    `json:"verifying_key"`
	// Development keys were made by one party, who can forge proofs; Ceremony is the
	// transcript of those that were not.
	Development bool          `json:"development_setup"`
	Ceremony    digest.Digest `json:"ceremony"`
	// Outputs are shown to those who have the salt of the receipt's commitment.
	Outputs    []int32   `json:"outputs,omitempty"`
	VerifiedAt time.Time `json:"verified_at"`
}

// Documents are bytes as they were signed or proven.
type Documents struct {
	Receipt   []byte `json:"receipt"`             // binary form
	Challenge []byte `json:"challenge,omitempty"` // signed
	Record    []byte `json:"record,omitempty"`    // signed
	// Bundle is shown with the outputs, if the proof is of this receipt alone.
	Bundle []byte `json:"bundle,omitempty"`
}

// MaxAnswerBytes bounds an answer's JSON.
const MaxAnswerBytes = 1 << 20

// Redact leaves out what tells the outputs, or could confirm a guess of them.
func (a *Answer) Redact() {
	a.Documents.Bundle = nil
	if a.Proof != nil {
		p := *a.Proof
		p.Outputs, p.Statement = nil, digest.Digest{}
		a.Proof = &p
	}
}

// Verify checks the broker's signatures on record and challenge, whose broker that is, and that they and the
// bundle, as far as they are there, are about this receipt. It verifies neither the
// receipt nor the proof itself, for which an auditor has other tools; without the bundle,
// the outputs and that there is a proof are the broker's word.
func (a *Answer) Verify(roots []identity.Public, broker protocol.Broker, floor protocol.Floor) error {
	if digest.Of(a.Documents.Receipt) != a.Receipt.Digest {
		return malformed("the receipt is not the one of its digest")
	}
	if a.Challenge != nil {
		c, err := VerifyChallenge(a.Documents.Challenge, roots, broker, floor)
		if err != nil {
			return err
		}
		if c.Agent != a.Receipt.Agent || digest.Of(a.Documents.Challenge) != a.Challenge.Digest || !slices.Contains(c.Receipts, a.Receipt.ID) {
			return malformed("the challenge does not name receipt %s", a.Receipt.ID)
		}
	}
	if a.Proof == nil {
		return nil
	}
	r, err := VerifyRecord(a.Documents.Record, roots, broker, floor)
	if err != nil {
		return err
	}
	p := a.Proof
	if r.Record.VerifyingKey != p.Key || r.Record.Circuit != p.Circuit || r.Record.Development != p.Development || r.Record.Ceremony != p.Ceremony || r.Record.System != p.System {
		return malformed("the record is not the proof's")
	}
	if a.Documents.Bundle == nil {
		return nil
	}
	return a.verifyBundle(&r.Record)
}

func (a *Answer) verifyBundle(r *statement.Record) error {
	b, err := ParseBundle(a.Documents.Bundle)
	if err != nil {
		return err
	}
	if err := r.Admits(&b.Envelope); err != nil {
		return malformed("%w", err)
	}
	raw, err := b.Envelope.MarshalBinary()
	if err != nil {
		return malformed("%w", err)
	}
	sum, err := b.Envelope.Statement.Digest()
	if err != nil {
		return malformed("%w", err)
	}
	if digest.Of(raw) != a.Proof.Digest || sum != a.Proof.Statement || b.Envelope.Statement.Inference.Model.ID() != a.Receipt.Model {
		return malformed("the bundle is not the one that was verified")
	}
	for _, item := range b.Envelope.Statement.Inference.Items {
		if item.Receipt == a.Receipt.ID {
			if !slices.Equal(item.Outputs, a.Proof.Outputs) {
				return malformed("the outputs are not those of the proof")
			}
			return nil
		}
	}
	return malformed("the bundle does not name receipt %s", a.Receipt.ID)
}
