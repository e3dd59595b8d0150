package rounds

import (
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// roster is the list of an open round's members as a store keeps it, with an index for each
// question that admission asks. Its errors are the store's.
type roster interface {
	// find returns the member of a contribution.
	find(contribution digest.Digest) (Member, bool, error)
	// taken says whether another contribution has the member's agent or upload.
	taken(m Member) (bool, error)
	// ofChip is how many members are of a processor, count how many there are.
	ofChip(chip digest.Digest) (uint32, error)
	count() uint64
	// put adds a member at the end.
	put(m Member) error
}

// enlist puts a member on a list, unless it is there or is refused.
func enlist(list roster, m Member, p Places) (refused, err error) {
	if _, there, err := list.find(m.Contribution); there || err != nil {
		return nil, err
	}
	taken, err := list.taken(m)
	if err != nil {
		return nil, err
	}
	same, err := list.ofChip(m.Chip)
	switch {
	case err != nil:
		return nil, err
	case taken:
		return refusal.New(ReasonDuplicate, "agent %s has contributed already", m.Agent), nil
	case same >= p.PerGuest:
		return refusal.New(ReasonGuest, "this processor already has its %d contributions", p.PerGuest), nil
	case list.count() >= uint64(p.Maximum):
		return refusal.New(ReasonFull, "the round has its %d contributions", p.Maximum), nil
	}
	return nil, list.put(m)
}

// enlistAll puts members on a list of an open round. Those that an earlier version wrote into the
// round's own record come first.
func enlistAll(list roster, rec *Record, some []Member, p Places) (refused []error, err error) {
	if rec.State != Open {
		return nil, refusal.New(ReasonClosed, "round %s is %s", rec.ID, rec.State)
	}
	for _, m := range rec.Members {
		if err := list.put(m); err != nil {
			return nil, err
		}
	}
	rec.Members = nil
	refused = make([]error, len(some))
	for i, m := range some {
		if refused[i], err = enlist(list, m, p); err != nil {
			return nil, err
		}
	}
	return refused, nil
}

// ofRecord returns those of some contributions that a record itself has.
func ofRecord(r Record, contributions []digest.Digest) map[digest.Digest]Member {
	found := map[digest.Digest]Member{}
	if len(r.Members) == 0 {
		return found
	}
	all := make(map[digest.Digest]Member, len(r.Members))
	for _, m := range r.Members {
		all[m.Contribution] = m
	}
	for _, d := range contributions {
		if m, ok := all[d]; ok {
			found[d] = m
		}
	}
	return found
}

// listKept refuses a change of a round that was read before its list became longer, and one
// that would leave an open round with two lists.
func (r Record) listKept(listed int) error {
	switch {
	case r.listed != listed:
		return refusal.New(ReasonConflict, "round %s took contributions meanwhile", r.ID)
	case r.State == Open && listed > 0:
		return damaged("round %s is open: its list is changed by admission alone", r.ID)
	}
	return nil
}
