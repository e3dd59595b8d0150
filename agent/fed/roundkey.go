package fed

import (
	"context"
	"time"

	"github.com/anchorhold/anchorhold/agent/fed/store"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

const (
	renewAt    = 0.7             // of what is left of a round key's lease
	renewPause = 5 * time.Second // between attempts, at least
)

// hold keeps a round's key while its lease lasts, which it renews. The context that it
// returns ends with the lease; the key is wiped then, also while it waits for a worker, and
// a worker that has it is ended. release wipes the key at once; only after it may the
// renewed lease be read from key. Without a key, as a party, it does nothing.
func (s *Service) hold(ctx context.Context, h held, key *Released) (_ context.Context, release func()) {
	if key.Key == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	secret := key.Key
	context.AfterFunc(ctx, secret.Wipe)
	end := time.AfterFunc(time.Until(key.Expires), func() {
		cancel(refusal.New(store.ReasonExpired, "the lease of the round's key ended before the sum was open"))
	})
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		if err := worker.Contain(func() error { s.renew(ctx, h, key, end); return nil }); err != nil {
			s.cfg.Logger.Error("the lease of a round's key is renewed no more", "round", h.ID.String(), "err", err)
		}
	}()
	return ctx, func() {
		cancel(nil)
		secret.Wipe()
		end.Stop()
		<-renewed
	}
}

// renew asks for the key again before its lease ends, until ctx does, and puts the end off
// if the broker grants the same key once more.
func (s *Service) renew(ctx context.Context, h held, key *Released, end *time.Timer) {
	for {
		pause := time.NewTimer(max(time.Duration(renewAt*float64(time.Until(key.Expires))), renewPause))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		next, err := s.cfg.RoundKey(ctx, h.Resource())
		if err != nil {
			s.cfg.Logger.Warn("the lease of a round's key is not renewed", "round", h.ID.String(), "ends", key.Expires, "err", err)
			continue
		}
		same := next.Key.Equal(key.Key)
		next.Key.Wipe()
		if !same || !end.Stop() {
			return // another key, or over meanwhile
		}
		end.Reset(time.Until(next.Expires))
		key.Chain, key.Until, key.Expires = next.Chain, next.Until, next.Expires
	}
}

func reasonOf(err error) refusal.Reason {
	reason, _ := refusal.ReasonOf(err)
	return reason
}
