package prove

import (
	"context"
	"time"
)

// expireEvery is how often proofs that are too old or too many are removed.
const expireEvery = time.Hour

func (s *Service) expireProofs(ctx context.Context) {
	t := time.NewTicker(expireEvery)
	defer t.Stop()
	for {
		n, err := s.expire(time.Now())
		if err != nil {
			s.cfg.Logger.Error("old proofs not removed", "err", err)
		}
		if n > 0 {
			s.cfg.Logger.Info("old proofs removed", "proofs", n)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// expire removes the proofs that are older than KeptAge, and the oldest of those that are
// more than Kept, but none of these that the registry has still to take.
func (s *Service) expire(now time.Time) (n int, err error) {
	gone, err := s.store.expire(now, s.registry.delivered)
	s.registry.forget(gone...)
	return len(gone), err
}
