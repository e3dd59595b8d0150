package fed

import (
	"context"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// Tidy removes what nobody needs, as Run does.
func (s *Service) Tidy(now time.Time) (int, error) { return s.store.Tidy(now) }

// Restate signs again what an aggregator refused.
func (s *Service) Restate(ctx context.Context, round digest.RoundID, manifest []byte) ([]byte, error) {
	h, err := s.rounds.Open(ctx, round)
	if err != nil {
		return nil, err
	}
	_, again, err := s.restate(h, Contributed{}, manifest, refusal.New(federation.ReasonOutsideLease, "a test"))
	return again, err
}
