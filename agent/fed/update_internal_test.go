package fed

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/crypto/digest"
)

// silent never answers.
type silent struct{}

func (silent) Deliver(ctx context.Context, _ uint32, _ digest.ReceiptID, _ bool) (bool, error) {
	<-ctx.Done()
	return false, context.Cause(ctx)
}

// TestALookAtProofsHasAnEnd: a registry that does not answer holds up the jobs of others no
// longer, and is no failure.
func TestALookAtProofsHasAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, began := &Service{cfg: Config{Answers: silent{}}}, time.Now()
		if n, err := s.deliver(t.Context(), &jobs.Lease{}, []digest.ReceiptID{{1}, {2}}); n != 0 || err != nil || time.Since(began) != deliverTime {
			t.Errorf("%d delivered after %s: %v", n, time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), deliverTime/2)
		defer cancel()
		if _, err := s.deliver(ctx, &jobs.Lease{}, []digest.ReceiptID{{1}}); err == nil {
			t.Error("a try whose time is over goes on")
		}
	})
}
