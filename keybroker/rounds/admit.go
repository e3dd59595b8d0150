package rounds

import (
	"context"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Admission is what became of one contribution.
type Admission struct {
	Contribution digest.Digest  `json:"contribution"`
	Agent        digest.Digest  `json:"agent,omitzero"`
	Reason       refusal.Reason `json:"reason,omitempty"` // empty: admitted
	Detail       string         `json:"detail,omitempty"`
}

// Admit takes signed contributions of complete uploads onto the round's list. What is there is
// there, whatever became of its lease since; of the others each is verified.
func (s *Service) Admit(ctx context.Context, id digest.RoundID, signed [][]byte) ([]Admission, error) {
	if err := s.cfg.Log.Kept(ctx); err != nil {
		return nil, err
	}
	rec, err := s.cfg.Store.Head(ctx, id)
	if err != nil {
		return nil, err
	}
	r, err := s.going(rec)
	if err != nil {
		return nil, err
	}
	if rec.State != Open {
		return nil, refusal.New(ReasonClosed, "round %s is %s", id, rec.State)
	}
	if err := s.notOver(ctx, id); err != nil {
		return nil, err
	}
	digests := make([]digest.Digest, len(signed))
	for i, raw := range signed {
		digests[i] = digest.Of(raw)
	}
	held, err := s.cfg.Store.Members(ctx, id, digests)
	if err != nil {
		return nil, err
	}
	list := make([]Admission, len(signed))
	var fresh []Member
	var place []int // of each in the list
	for i, raw := range signed {
		list[i] = Admission{Contribution: digests[i]}
		if m, there := held[digests[i]]; there {
			list[i].Agent = m.Agent
			continue
		}
		m, err := s.vet(ctx, rec, r, raw)
		if err := list[i].refused(err); err != nil {
			return nil, err // nothing of this was stored
		}
		if err == nil {
			list[i].Agent, fresh, place = m.Agent, append(fresh, m), append(place, i)
		}
	}
	if len(fresh) == 0 {
		return list, nil
	}
	refused, err := s.enlist(ctx, id, fresh, Places{PerGuest: r.PerGuest, Maximum: r.Maximum})
	if err != nil {
		return nil, err
	}
	for k, why := range refused {
		if err := list[place[k]].refused(why); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// enlist has the store add members; again if another change overtook it.
func (s *Service) enlist(ctx context.Context, id digest.RoundID, fresh []Member, places Places) (refused []error, err error) {
	for try := 0; ; try++ {
		refused, err = s.cfg.Store.Admit(ctx, id, fresh, places)
		if reason, _ := refusal.ReasonOf(err); reason != ReasonConflict || try == maxConflicts {
			return refused, err
		}
	}
}

// refused notes why a contribution was refused; an error that is no refusal is returned.
func (a *Admission) refused(err error) error {
	reason, refused := refusal.ReasonOf(err)
	if err == nil || !refused {
		return err
	}
	a.Reason, a.Detail, a.Agent = reason, err.Error(), digest.Digest{}
	return nil
}

// vet checks one contribution, whoever else is on the list.
func (s *Service) vet(ctx context.Context, rec Record, r federation.Round, raw []byte) (Member, error) {
	c, authority, err := federation.VerifyContribution(raw, s.cfg.Roots, s.live(), r)
	if err != nil {
		return Member{}, err
	}
	lease := authority.Lease
	if err := c.Follows(r, digest.Of(rec.Signed)); err != nil {
		return Member{}, err
	}
	// The time in a contribution is the guest's; the round's end is the broker's.
	if now := protocol.TimeOf(s.cfg.Now()); now >= r.Closes {
		return Member{}, refusal.New(ReasonLate, "the round took contributions until %s", r.Closes.Time())
	}
	if lease.SoftwareTEE && !s.cfg.Privacy.AllowSoftwareTEE {
		return Member{}, refusal.New(ReasonSoftware, "the contribution comes from a software TEE")
	}
	chip, err := s.cfg.Chip(ctx, lease.Lease)
	return Member{Contribution: digest.Of(raw), Agent: c.Agent, Chip: chip, Weight: c.Weight, Upload: c.Upload}, err
}
