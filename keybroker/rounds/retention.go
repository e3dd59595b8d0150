package rounds

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// ReasonOpen means that as many rounds are open as may be, in all or of a model.
const ReasonOpen refusal.Reason = "rounds-open"

// Limits bound what is kept. Zero limits take the defaults named.
type Limits struct {
	// Open is how many rounds may be open at the same time, 256; OpenPerModel how many of
	// one model, 16. One is open until it is closed or abandoned. Each broker of a fleet asks
	// before it opens: those that do so at the same moment may open one more each.
	Open         int `yaml:"open"`
	OpenPerModel int `yaml:"open_per_model"`
	// KeptDays is how long the contributors of a round are kept after it closed and its
	// result came, or it was abandoned; 90. That it closed, over which cohort and sum, its
	// ticket and result, and what it spent, is kept for ever.
	KeptDays int `yaml:"kept_days"`
}

// Check finds what is wrong with them.
func (l Limits) Check() error {
	if l.Open < 0 || l.Open > 1<<16 || l.OpenPerModel < 0 || l.OpenPerModel > max(l.Open, 256) || l.KeptDays < 0 || l.KeptDays > 36500 {
		return fmt.Errorf("rounds: open must be at most %d, open_per_model at most open, and kept_days at most a hundred years", 1<<16)
	}
	return nil
}

func (l Limits) complete() Limits {
	orDefault(&l.Open, 256)
	orDefault(&l.OpenPerModel, min(16, l.Open))
	orDefault(&l.KeptDays, 90)
	return l
}

// roomForOne refuses one more open round than there may be.
func (s *Service) roomForOne(ctx context.Context, model string) error {
	open, ofModel := 0, 0
	err := s.cfg.Store.Each(ctx, func(rec Record) error {
		if rec.State == Open {
			open++
			if rec.Model == model {
				ofModel++
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	switch l := s.cfg.Limits; {
	case open >= l.Open:
		return refusal.New(ReasonOpen, "%d rounds are open; close or abandon some, or raise rounds.limits.open", open)
	case ofModel >= l.OpenPerModel:
		return refusal.New(ReasonOpen, "%d rounds of the model %q are open; close or abandon some, or raise rounds.limits.open_per_model", ofModel, model)
	}
	return nil
}

// Forget removes the lists of contributors that are older than their retention, and
// returns of how many rounds. Nothing else of a round goes: a round that was closed stays
// closed, over one cohort, and its charge stays in the ledger. A round that does not verify
// keeps its list, for nobody knows how old it is, and is an error after the others.
func (s *Service) Forget(ctx context.Context) (int, error) {
	before, gone := s.cfg.Now().Add(-time.Duration(s.cfg.Limits.KeptDays)*24*time.Hour), 0
	var ended []digest.RoundID
	var failed []error
	err := s.cfg.Store.Each(ctx, func(rec Record) error {
		if (rec.State == Published || rec.State == Abandoned) && len(rec.Members) > 0 {
			ended = append(ended, rec.ID)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, id := range ended {
		rec, err := s.cfg.Store.Get(ctx, id)
		if err != nil {
			return gone, err
		}
		r, unverified, err := s.shown(rec)
		if err != nil {
			return gone, err
		}
		if unverified != "" && unverified != federation.ReasonVersion {
			failed = append(failed, fmt.Errorf("round %s keeps its contributors: it does not verify (%s)", id, unverified))
			continue
		}
		if !r.Closes.Time().Before(before) {
			continue
		}
		if err := s.note(ctx, r.ID, "round-forget", fmt.Sprintf("model %s contributors %d", r.Model, len(rec.Members))); err != nil {
			return gone, err
		}
		rec.Members = nil
		if err := s.cfg.Store.Update(ctx, rec, nil); err != nil {
			return gone, err
		}
		gone++
	}
	return gone, errors.Join(failed...)
}
