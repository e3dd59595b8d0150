package daemon

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// supplied is an appraiser that renews what it judges with.
type supplied struct {
	echo
	running, closed atomic.Int32
}

// Kinds are more than one.
func (*supplied) Kinds() []evidence.Kind {
	return []evidence.Kind{evidence.KindSNP, evidence.KindTDX}
}

// Run runs until the daemon stops.
func (s *supplied) Run(ctx context.Context) error {
	s.running.Add(1)
	<-ctx.Done()
	s.running.Add(-1)
	return nil
}

// Close must not come before Run has ended.
func (s *supplied) Close() { s.closed.Add(1 + 100*s.running.Load()) }

// Metrics shows one.
func (s *supplied) Metrics() map[string]int64 {
	return map[string]int64{"anchorhold_broker_collateral_items": 7}
}

// TestAnAppraiserIsSuppliedWhileTheBrokerServes: it runs from the start to the end, is closed once
// after that, and its metrics are the broker's.
func TestAnAppraiserIsSuppliedWhileTheBrokerServes(t *testing.T) {
	s, a := newState(t, false), &supplied{}
	s.options.NewAppraiser = func() (Appraiser, error) { return a, nil }
	op, _, stop := s.run(t)
	waitFor(t, nil, func() bool { return a.running.Load() == 1 })
	metrics, err := op.Metrics(t.Context())
	if err != nil || !strings.Contains(metrics, "anchorhold_broker_collateral_items 7") {
		t.Errorf("%v\n%s", err, metrics)
	}
	stop()
	if a.running.Load() != 0 || a.closed.Load() != 1 {
		t.Errorf("%d still run, closed %d", a.running.Load(), a.closed.Load())
	}
}
