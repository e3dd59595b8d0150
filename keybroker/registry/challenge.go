package registry

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
)

// Spec says which receipts a challenge is drawn from, and how many. Its zero value
// draws none.
type Spec struct {
	// Agent and Model, if given, select; All selects everything and goes alone.
	Agent *digest.Digest `json:"agent,omitempty"`
	Model *digest.Digest `json:"model_id,omitempty"`
	All   bool           `json:"all,omitempty"`
	// Count is how many are drawn, or all if there are fewer; Rate is the chance of
	// each to be drawn. Exactly one is given.
	Count int     `json:"count,omitempty"`
	Rate  float64 `json:"rate,omitempty"`
	// Before is when the proofs are due.
	Before time.Time `json:"before"`
}

func (c *Spec) check(now protocol.Time) error {
	invalid := func(format string, args ...any) error { return refusal.New(ReasonSpec, format, args...) }
	due := protocol.TimeOf(c.Before)
	switch {
	case c.All == (c.Agent != nil || c.Model != nil):
		return invalid("select by agent, model or both, or say all")
	case c.Count < 0 || !(c.Rate >= 0 && c.Rate <= 1) || (c.Count > 0) == (c.Rate > 0):
		return invalid("give a count, or a rate above 0 and up to 1")
	case due <= now || due > now.Add(maxDeadline):
		return invalid("the proofs must be due in the next %s", maxDeadline)
	}
	return nil
}

func (c *Spec) selects(w Waiting) bool {
	return c.All || (c.Agent == nil || *c.Agent == w.Agent) && (c.Model == nil || *c.Model == w.Model)
}

// Challenge draws receipts that have neither a proof nor a challenge yet, and signs a
// challenge for each of their agents, of MaxChallenged receipts at most. There is none
// if no receipt was drawn.
func (s *Service) Challenge(ctx context.Context, spec Spec) ([]Issued, error) {
	now := s.now()
	if err := spec.check(now); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	list, err := s.cfg.Store.Waiting()
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(w Waiting) bool { return !spec.selects(w) })
	if list, err = draw(list, spec.Count, spec.Rate); err != nil || len(list) == 0 {
		return nil, err
	}
	out, err := s.sign(list, now, protocol.TimeOf(spec.Before))
	if err != nil {
		return nil, err
	}
	for _, c := range out {
		detail := fmt.Sprintf("challenge %s agent %s receipts %d due %s", c.Digest, c.Challenge.Agent, len(c.Challenge.Receipts), c.Challenge.Deadline.Time().Format(time.RFC3339))
		if err := s.cfg.Audit(ctx, "proof-challenge", detail); err != nil {
			return nil, err
		}
	}
	// A crash before the next line leaves a challenge that nobody was told of.
	return out, s.cfg.Store.PutChallenges(out, s.limits())
}

// draw picks count of the list, or each with the chance rate, with crypto/rand: what is
// drawn must be nothing that a prover could foresee or repeat.
func draw(list []Waiting, count int, rate float64) ([]Waiting, error) {
	const unit = 1 << 53 // every float64 from 0 to 1 in steps of 2^-53
	if count == 0 {
		var out []Waiting
		for _, w := range list {
			n, err := rand.Int(rand.Reader, big.NewInt(unit))
			if err != nil {
				return nil, err
			}
			if float64(n.Int64()) < rate*unit {
				out = append(out, w)
			}
		}
		return out, nil
	}
	count = min(count, len(list))
	for i := range count {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(list)-i)))
		if err != nil {
			return nil, err
		}
		k := i + int(n.Int64())
		list[i], list[k] = list[k], list[i]
	}
	return list[:count], nil
}

// sign makes the challenges of what was drawn, agent by agent.
func (s *Service) sign(list []Waiting, now, due protocol.Time) ([]Issued, error) {
	slices.SortFunc(list, func(a, b Waiting) int {
		if c := bytes.Compare(a.Agent[:], b.Agent[:]); c != 0 {
			return c
		}
		return bytes.Compare(a.ID[:], b.ID[:])
	})
	signer, err := s.cfg.Signer()
	if err != nil {
		return nil, err
	}
	var out []Issued
	for len(list) > 0 {
		c := wire.Challenge{Broker: signer.Broker, Epoch: signer.Epoch, Agent: list[0].Agent, Time: now, Deadline: due}
		if _, err := rand.Read(c.Nonce[:]); err != nil {
			return nil, err
		}
		for len(list) > 0 && list[0].Agent == c.Agent && len(c.Receipts) < wire.MaxChallenged {
			c.Receipts = append(c.Receipts, list[0].ID)
			list = list[1:]
		}
		signed, err := wire.SignChallenge(signer.Key, signer.Statement, c)
		if err != nil {
			return nil, err
		}
		if _, err := wire.VerifyChallenge(signed, s.cfg.Roots, s.own(), s.live()); err != nil {
			return nil, err
		}
		out = append(out, Issued{Digest: digest.Of(signed), Challenge: c, Signed: signed})
	}
	return out, nil
}

// Pending returns the signed challenges of an agent that are not answered: those that
// are not overdue first, each kind from the oldest, the first 64 of them.
func (s *Service) Pending(_ context.Context, agent digest.Digest) ([][]byte, error) {
	list, err := s.cfg.Store.Unanswered(&agent)
	if err != nil {
		return nil, err
	}
	pending, overdue := split(list, s.now())
	list = append(pending, overdue...)
	out := [][]byte{}
	for _, ref := range list[:min(len(list), maxShown)] {
		c, err := s.cfg.Store.Challenge(ref.Digest)
		if err != nil {
			return nil, err
		}
		out = append(out, c.Signed)
	}
	return out, nil
}

// split parts the challenges whose deadline went by from the others.
func split(list []Open, now protocol.Time) (pending, overdue []Open) {
	for _, c := range list {
		if c.Deadline < now {
			overdue = append(overdue, c)
		} else {
			pending = append(pending, c)
		}
	}
	return pending, overdue
}

// ShowChallenge says how a challenge stands.
func (s *Service) ShowChallenge(_ context.Context, sum digest.Digest) (wire.ChallengeView, error) {
	c, err := s.cfg.Store.Challenge(sum)
	if err != nil {
		return wire.ChallengeView{}, err
	}
	return s.view(c)
}

// view joins a challenge with the proofs of its receipts.
func (s *Service) view(c Issued) (wire.ChallengeView, error) {
	v := wire.ChallengeView{Digest: c.Digest, Agent: c.Challenge.Agent, Time: c.Challenge.Time.Time(), Deadline: c.Challenge.Deadline.Time(), Receipts: len(c.Challenge.Receipts)}
	missing, last, err := s.cfg.Store.Progress(c.Challenge)
	v.Missing = missing
	switch {
	case missing > 0 && c.Challenge.Deadline < s.now():
		v.State = wire.Overdue
	case missing > 0:
		v.State = wire.Pending
	case last > c.Challenge.Deadline:
		v.State = wire.Late
	default:
		v.State = wire.Answered
	}
	return v, err
}

// Sweep puts each challenge that became overdue into the audit log, once, and returns
// how many did now.
func (s *Service) Sweep(ctx context.Context) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, err := s.cfg.Store.Unanswered(nil)
	if err != nil {
		return 0, err
	}
	now, found := s.now(), 0
	_, overdue := split(list, now)
	for _, ref := range overdue {
		told, err := s.cfg.Store.Told(ref.Digest)
		if err != nil {
			return found, err
		}
		if told {
			continue
		}
		if err := s.tell(ctx, ref, now); err != nil {
			return found, err
		}
		found++
	}
	return found, nil
}

// Expire removes what is older than its retention, a bounded number, and puts into the
// audit log how much it was.
func (s *Service) Expire(ctx context.Context) (Expired, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, err := s.cfg.Store.Expire(s.before(s.cfg.WaitingAge), s.before(s.cfg.KeptAge), maxExpired)
	if err != nil || out.None() {
		return out, err
	}
	// It is gone already: a crash may lose this record, never invent it.
	return out, s.cfg.Audit(ctx, "receipts-expired", fmt.Sprintf("unchallenged %d kept %d challenges %d proofs %d", out.Waiting, out.Kept, out.Challenges, out.Proofs))
}

// tell puts one overdue challenge into the audit log. A crash may put it there twice.
func (s *Service) tell(ctx context.Context, ref Open, now protocol.Time) error {
	c, err := s.cfg.Store.Challenge(ref.Digest)
	if err != nil {
		return err
	}
	missing, _, err := s.cfg.Store.Progress(c.Challenge)
	if err != nil {
		return err
	}
	detail := fmt.Sprintf("challenge %s agent %s receipts %d without proof %d", c.Digest, c.Challenge.Agent, len(c.Challenge.Receipts), missing)
	if err := s.cfg.Audit(ctx, "proof-overdue", detail); err != nil {
		return err
	}
	s.cfg.Logger.Warn("challenge overdue", "challenge", c.Digest.String(), "agent", c.Challenge.Agent.String(), "missing", missing)
	return s.cfg.Store.Tell(c.Digest, now)
}

// Watch sweeps and expires every so often until ctx ends. It logs failures and goes on.
func (s *Service) Watch(ctx context.Context, every time.Duration) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if _, err := s.Sweep(ctx); err != nil && !errors.Is(err, context.Canceled) {
				s.cfg.Logger.Error("overdue challenges were not recorded", "err", err)
			}
			if err := s.TellDisplaced(ctx); err != nil && !errors.Is(err, context.Canceled) {
				s.cfg.Logger.Error("displaced receipts were not recorded", "err", err)
			}
			if out, err := s.Expire(ctx); err != nil && !errors.Is(err, context.Canceled) {
				s.cfg.Logger.Error("old receipts were not removed", "err", err)
			} else if !out.None() {
				s.cfg.Logger.Info("old receipts removed", "unchallenged", out.Waiting, "kept", out.Kept, "challenges", out.Challenges, "proofs", out.Proofs)
			}
		}
	}
}
