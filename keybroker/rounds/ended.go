package rounds

import (
	"context"
	"strconv"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// How a round ended is in the audit log before it is in the store. A store that was put
// back calls the round open or closed still; the log is asked, and what it says holds.

// end waits for its turn to end a round, and returns how to pass it on. Whoever has it may
// wait for a store that never answers: others wait until their own time is over.
func (s *Service) end(ctx context.Context) (done func(), err error) {
	select {
	case s.ending <- struct{}{}:
		return func() { <-s.ending }, nil
	case <-ctx.Done():
		return nil, refusal.New(ReasonEnding, "another round is still being closed, finished or abandoned; check the store of rounds and the audit log, then try again: %w", context.Cause(ctx))
	}
}

// notAbandoned refuses a round that was abandoned, as the audit log says.
func (s *Service) notAbandoned(ctx context.Context, id digest.RoundID) error {
	events, err := s.cfg.Log.Find(ctx, actionAbandon, federation.ResourceOf(id))
	if err == nil && len(events) > 0 {
		err = refusal.New(ReasonAbandoned, "round %s was abandoned, as the audit log shows: the store is older than the log", id)
	}
	return err
}

// notOver refuses a round that was abandoned or published, as the audit log says.
func (s *Service) notOver(ctx context.Context, id digest.RoundID) error {
	if err := s.notAbandoned(ctx, id); err != nil {
		return err
	}
	events, err := s.cfg.Log.Find(ctx, actionPublish, federation.ResourceOf(id))
	if err == nil && len(events) > 0 {
		err = refusal.New(ReasonClosed, "round %s was published, as the audit log shows: the store is older than the log", id)
	}
	return err
}

// unused refuses a key of parties that was set up elsewhere, or whose round was opened
// before, as the store or the audit log says. The log may have the opening alone: whoever
// noted it came no further, or the store was put back, and nothing followed from the round yet.
func (s *Service) unused(ctx context.Context, id digest.RoundID) error {
	if err := s.preparedHere(ctx, id); err != nil {
		return err
	}
	if err := s.notOver(ctx, id); err != nil {
		return err
	}
	tickets, err := s.cfg.Log.Find(ctx, actionTicket, federation.ResourceOf(id))
	if err != nil {
		return err
	}
	_, err = s.cfg.Store.Get(ctx, id)
	switch reason, _ := refusal.ReasonOf(err); {
	case err == nil || len(tickets) > 0:
		return refusal.New(ReasonSpec, "the key was used for round %s: set up another key", id)
	case reason == ReasonUnknown:
		return nil
	}
	return err
}

// valuesOf is what the record of a publication says of its result.
func valuesOf(res federation.Result) string {
	return "values " + res.Values.String() + " divisor " + strconv.FormatFloat(res.Divisor, 'g', -1, 64)
}

// toldOf says whether the audit log has the publication of a result, and refuses a result
// with other values than it has. Records of earlier versions have no divisor.
func (s *Service) toldOf(ctx context.Context, id digest.RoundID, res federation.Result) (bool, error) {
	events, err := s.cfg.Log.Find(ctx, actionPublish, federation.ResourceOf(id))
	if err != nil {
		return false, err
	}
	want := id.String() + " " + valuesOf(res)
	earlier, _, _ := strings.Cut(want, " divisor ")
	for _, e := range events {
		switch {
		case e.Away:
			return false, refusal.New(ReasonRecord, "round %s was published earlier, and its record is in an archived segment that is missing: restore the segments of the audit log", id)
		case e.Detail != want && e.Detail != earlier:
			return false, refusal.New(ReasonClosed, "round %s published other values, as the audit log shows", id)
		}
	}
	return len(events) > 0, nil
}
