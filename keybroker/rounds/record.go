package rounds

import (
	"bytes"
	"encoding/json"
	"math"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// ReasonStore means that a store holds what no broker wrote, or that a change
// would break what the store has to keep.
const ReasonStore refusal.Reason = "round-store-damaged"

// Limits on what is stored: a signed round of the largest set with its members,
// ticket and result, and one charge.
const (
	maxRecordBytes = 32 << 20 // of 65,536 members
	maxChargeBytes = 1 << 10
)

func damaged(format string, args ...any) error { return refusal.New(ReasonStore, format, args...) }

// stored is what a store keeps: one text for each value, and no value that a broker
// would not write.
type stored interface {
	Record | Charge | Member
	check() error
}

// encode checks a value and writes its one text.
func encode[T stored](v T, limit int) ([]byte, error) {
	if err := v.check(); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(v)
	if err == nil && len(raw) > limit {
		err = damaged("%d bytes to store, at most %d are", len(raw), limit)
	}
	return raw, err
}

// decode reads what encode writes, and nothing else.
func decode[T stored](raw []byte, limit int) (T, error) {
	var v, none T
	if len(raw) > limit {
		return none, damaged("%d bytes are stored, at most %d are read", len(raw), limit)
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return none, damaged("stored text: %v", err)
	}
	if err := v.check(); err != nil {
		return none, err
	}
	// Unknown and repeated fields, other cases and spaces do not come out again.
	if again, err := json.Marshal(v); err != nil || !bytes.Equal(again, raw) {
		return none, damaged("the stored text is not the one that a broker writes")
	}
	return v, nil
}

// check: every member is one that a broker may have admitted; the round's bounds are Admit's.
func (m Member) check() error { return nil }

func encodeMember(m Member) ([]byte, error)   { return encode(m, maxChargeBytes) }
func decodeMember(raw []byte) (Member, error) { return decode[Member](raw, maxChargeBytes) }

func encodeRecord(r Record) ([]byte, error)   { return encode(r, maxRecordBytes) }
func decodeRecord(raw []byte) (Record, error) { return decode[Record](raw, maxRecordBytes) }

// decodeRound reads the record of a round that was asked for by name.
func decodeRound(raw []byte, id digest.RoundID) (Record, error) {
	r, err := decodeRecord(raw)
	if err == nil && r.ID != id {
		err = damaged("round %s is stored in the place of %s", r.ID, id)
	}
	return r, err
}

func encodeCharge(c Charge) ([]byte, error)   { return encode(c, maxChargeBytes) }
func decodeCharge(raw []byte) (Charge, error) { return decode[Charge](raw, maxChargeBytes) }

// check says whether a record has the parts of its state, and no others.
func (r Record) check() error {
	var none digest.Digest
	over := r.State == Closed || r.State == Published
	switch {
	case !over && r.State != Open && r.State != Abandoned:
		return damaged("state %q is unknown", r.State)
	case r.Model == "" || len(r.Signed) == 0 || len(r.Signed) > federation.MaxStatementBytes:
		return damaged("a round without model or statement")
	case over != (r.Cohort != none) || !over && (r.Sum != none || r.Ticket != nil):
		return damaged("cohort, sum or ticket of a round that is %s", r.State)
	case r.State == Published && len(r.Ticket) == 0 || (r.State == Published) != (len(r.Result) > 0):
		return damaged("ticket or result of a round that is %s", r.State)
	}
	return nil
}

// ledger is the name of the ledger that the round is charged to.
func (r Record) ledger() string {
	if r.Account == "" {
		return r.Model
	}
	return ledgerOf(r.Account)
}

func (c Charge) check() error {
	noisy := c.Mechanism == federation.DiscreteGaussian || c.Mechanism == federation.DiscreteLaplace
	switch {
	case !noisy && c.Mechanism != federation.NoNoise:
		return damaged("charge: mechanism %q is unknown", c.Mechanism)
	case noisy != (c.Multiplier > 0) || !(c.Multiplier >= 0 && c.Multiplier <= math.MaxFloat32):
		return damaged("charge: multiplier %g with %s", c.Multiplier, c.Mechanism)
	case !(c.Rate > 0 && c.Rate <= 1):
		return damaged("charge: rate %g is outside 0 to 1", c.Rate)
	}
	return nil
}

// follows says whether a store may put next, with a charge, in the place of held.
// Every store asks it inside its transaction, so that no caller can close a round
// without charging it, charge it twice, or take back a cohort, ticket or result.
func (r Record) follows(held Record, charge *Charge) error {
	if r.Version != held.Version {
		return refusal.New(ReasonConflict, "round %s was changed meanwhile", r.ID)
	}
	closing := held.State == Open && r.State == Closed
	order := held.State == r.State || closing || held.State == Open && r.State == Abandoned || held.State == Closed && r.State == Published
	switch {
	case r.ID != held.ID || r.Model != held.Model || r.Account != held.Account || !bytes.Equal(r.Signed, held.Signed):
		return damaged("round %s would become another", r.ID)
	case !order:
		return damaged("round %s would go from %s to %s", r.ID, held.State, r.State)
	case closing != (charge != nil) || charge != nil && charge.Round != r.ID:
		return damaged("round %s is charged when it closes, once", r.ID)
	case !closing && (r.Cohort != held.Cohort || r.Sum != held.Sum):
		return damaged("round %s would have another cohort or sum", r.ID)
	case held.Ticket != nil && !bytes.Equal(r.Ticket, held.Ticket) || held.Result != nil && !bytes.Equal(r.Result, held.Result):
		return damaged("round %s would have another ticket or result", r.ID)
	}
	return nil
}
