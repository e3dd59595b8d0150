package wire

import (
	"bytes"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// The signing contexts.
const (
	ContextRecord    = "anchorhold/proofs/record/1"
	ContextChallenge = "anchorhold/proofs/challenge/1"
)

// MaxChallenged bounds the receipts of one challenge.
const MaxChallenged = 256

// Record is the broker's word that it believes proofs of a key.
type Record struct {
	Broker digest.Digest `json:"broker"`
	Epoch  uint64        `json:"epoch"`
	// Record says what the key is for and where it comes from.
	Record statement.Record `json:"record"`
	// Models are the ids of the models whose answers the key may prove, in ascending
	// order; none means every model of the circuit's shape.
	Models     []digest.Digest `json:"models,omitempty"`
	Registered protocol.Time   `json:"registered"`
}

// MaxModels bounds the models of one key.
const MaxModels = 256

// Takes says whether answers of a model may be proven with the key.
func (r *Record) Takes(model digest.Digest) bool {
	return len(r.Models) == 0 || slices.Contains(r.Models, model)
}

func (r *Record) context() string { return ContextRecord }

func (r *Record) check() error {
	if err := r.Record.Check(); err != nil {
		return malformed("%w", err)
	}
	if r.Registered == 0 {
		return malformed("registered at no time")
	}
	if len(r.Models) > MaxModels || len(r.Models) > 0 && r.Record.Inference == nil {
		return malformed("a record of %d models, want up to %d, and none for updates", len(r.Models), MaxModels)
	}
	for i, id := range r.Models {
		if id == (digest.Digest{}) || i > 0 && bytes.Compare(r.Models[i-1][:], id[:]) >= 0 {
			return malformed("the models of a record ascend")
		}
	}
	return nil
}

func (r *Record) fits(e protocol.EpochStatement) bool {
	return digest.Digest(e.Broker) == r.Broker && e.Epoch == r.Epoch && e.ValidAt(r.Registered)
}

// SignRecord signs with the epoch key; epoch is the root's statement about it.
func SignRecord(key *identity.Private, epoch []byte, r Record) ([]byte, error) {
	return seal(key, epoch, &r)
}

// VerifyRecord checks root -> epoch statement -> record. A record is kept: its epoch may
// be over (protocol.Recorded), but not below the lowest.
func VerifyRecord(raw []byte, roots []identity.Public, broker protocol.Broker, floor protocol.Floor) (Record, error) {
	var r Record
	if err := verify(raw, roots, broker, floor, &r); err != nil {
		return Record{}, err
	}
	return r, nil
}

// Challenge has one agent prove the answers of receipts which it cannot choose: they
// were announced before the broker drew them.
type Challenge struct {
	Broker digest.Digest `json:"broker"`
	Epoch  uint64        `json:"epoch"`
	// Nonce is random, so that no two challenges are the same bytes.
	Nonce digest.Digest `json:"nonce"`
	// Agent is the ID of the attested key that signed the receipts.
	Agent digest.Digest `json:"agent"`
	// Receipts are in ascending order, 1 to MaxChallenged.
	Receipts []digest.ReceiptID `json:"receipts"`
	// Time is when it was drawn, Deadline when the proofs are due, in broker time.
	Time     protocol.Time `json:"time"`
	Deadline protocol.Time `json:"deadline"`
}

func (c *Challenge) context() string { return ContextChallenge }

func (c *Challenge) check() error {
	if len(c.Receipts) < 1 || len(c.Receipts) > MaxChallenged {
		return malformed("a challenge of %d receipts, want 1 to %d", len(c.Receipts), MaxChallenged)
	}
	for i := 1; i < len(c.Receipts); i++ {
		if bytes.Compare(c.Receipts[i-1][:], c.Receipts[i][:]) >= 0 {
			return malformed("the receipts of a challenge ascend")
		}
	}
	if c.Time == 0 || c.Deadline <= c.Time {
		return malformed("a challenge is due before it is made")
	}
	return nil
}

func (c *Challenge) fits(e protocol.EpochStatement) bool {
	return digest.Digest(e.Broker) == c.Broker && e.Epoch == c.Epoch && e.ValidAt(c.Time)
}

// SignChallenge signs with the epoch key; epoch is the root's statement about it.
func SignChallenge(key *identity.Private, epoch []byte, c Challenge) ([]byte, error) {
	return seal(key, epoch, &c)
}

// VerifyChallenge checks root -> epoch statement -> challenge. Whether it is for this
// agent is the caller's question. A challenge stands until it is answered: its epoch may be
// over (protocol.Recorded), but not below the lowest.
func VerifyChallenge(raw []byte, roots []identity.Public, broker protocol.Broker, floor protocol.Floor) (Challenge, error) {
	var c Challenge
	if err := verify(raw, roots, broker, floor, &c); err != nil {
		return Challenge{}, err
	}
	return c, nil
}

// ParseChallenge reads a challenge without believing it, for whoever verified it before.
func ParseChallenge(raw []byte) (Challenge, error) {
	var c Challenge
	if err := parse(raw, &c); err != nil {
		return Challenge{}, err
	}
	return c, nil
}

// ParseRecord reads a record without believing it, for whoever verified it before.
func ParseRecord(raw []byte) (Record, error) {
	var r Record
	if err := parse(raw, &r); err != nil {
		return Record{}, err
	}
	return r, nil
}
