package rounds

import (
	"context"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// State is where a round stands.
type State string

// The states. An open round becomes closed or abandoned, a closed one published.
const (
	Open      State = "open"
	Closed    State = "closed"
	Published State = "published"
	Abandoned State = "abandoned"
)

// Record is a round as it is stored.
type Record struct {
	ID    digest.RoundID `json:"id"`
	Model string         `json:"model"`
	// Account is what the round is charged to; empty in rounds of before there were accounts.
	Account federation.Account `json:"account,omitempty"`
	State   State              `json:"state"`
	Signed  []byte             `json:"signed"`
	// Members are the admitted contributions.
	Members []Member `json:"members,omitempty"`
	// Cohort and Sum are what the round closed over, Ticket the signed word.
	Cohort digest.Digest `json:"cohort"`
	Sum    digest.Digest `json:"sum"`
	Ticket []byte        `json:"ticket,omitempty"`
	Result []byte        `json:"result,omitempty"`
	// Version counts changes; a store refuses to overwrite another version.
	Version uint64 `json:"version"`

	// listed is how many of Members came from the list of an open round, which Admit makes
	// longer without reading or writing the rest of the record.
	listed int
}

// Member is one admitted contribution.
type Member struct {
	Contribution digest.Digest `json:"contribution"`
	Agent        digest.Digest `json:"agent"`
	Chip         digest.Digest `json:"chip"`
	Weight       uint32        `json:"weight"`
	Upload       digest.Digest `json:"upload"`
}

// Store keeps rounds and charges. Every method returns only when what it did is
// durable, and may be called from several goroutines, for a fleet's store from
// several brokers.
type Store interface {
	// Create stores a new round.
	Create(ctx context.Context, r Record) error
	// Get returns a round, or ReasonUnknown.
	Get(ctx context.Context, id digest.RoundID) (Record, error)
	// Head is Get without the list of an open round's members: it takes as long for many as
	// for few.
	Head(ctx context.Context, id digest.RoundID) (Record, error)
	// Members returns those of some contributions that an open round admitted, by the
	// contribution.
	Members(ctx context.Context, id digest.RoundID, contributions []digest.Digest) (map[digest.Digest]Member, error)
	// Admit puts members on the list of an open round, in their order, and returns why each was
	// not, nil for those that are there now. Any other round is ReasonClosed. It looks each up by an
	// index, so that it takes as long for each in a round of many as in one of few.
	Admit(ctx context.Context, id digest.RoundID, some []Member, places Places) ([]error, error)
	// Each visits all rounds, newest first, one at a time: together they may be more than
	// memory should hold. visit must not call the store; its error ends the visits.
	Each(ctx context.Context, visit func(Record) error) error
	// Update replaces a round whose stored version is r.Version, and adds one to
	// it; any other, or one that Admit added to since it was read, is ReasonConflict. With a charge, the round's ledger gets it in
	// the same transaction, if its last digest is the charge's Previous; else
	// ReasonConflict, and nothing changes.
	Update(ctx context.Context, r Record, charge *Charge) error
	// Charges returns a ledger's charges in their order.
	Charges(ctx context.Context, ledger string) ([]Charge, error)
	// Ledgers are the heads of all ledgers.
	Ledgers(ctx context.Context) ([]Head, error)
	// Close ends the use of the store.
	Close() error
}

// Places bounds the members of a round: of one processor, and in all.
type Places struct{ PerGuest, Maximum uint32 }

// Head is a ledger's name and the digest of its last charge.
type Head struct {
	Name string
	Last digest.Digest
}
