package keybroker

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// TestGoal04OneSession uses the nonce of one session 64 times at once.
func TestGoal04OneSession(t *testing.T) {
	b := &Broker{cfg: Config{Limits: Limits{NonceWindow: time.Minute}}}
	b.clock.now = time.Now
	x := newExchange(b, nil, [48]byte{}, "")
	x.challengeAt = protocol.TimeOf(time.Now())
	var won atomic.Int32
	start := make(chan struct{})
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			<-start
			err := x.checkNonce()
			if err == nil {
				won.Add(1)
				return
			}
			if reason, _ := refusal.ReasonOf(err); reason != protocol.ReasonNonceUsed {
				t.Errorf("refused with %v", err)
			}
		})
	}
	close(start)
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d of 64 attempts won", won.Load())
	}
}

// TestClockHoldsStillForSmallSteps and refuses large ones.
func TestClockHoldsStillForSmallSteps(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := clock{now: func() time.Time { return now }}
	first, err := c.read()
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(-time.Second)
	if again, err := c.read(); err != nil || again != first {
		t.Errorf("after a small step: %v, %v", again, err)
	}
	now = now.Add(-2 * time.Second)
	if _, err := c.read(); err == nil {
		t.Error("a large step back passed")
	}
	now = time.Time{}
	if _, err := c.read(); err == nil {
		t.Error("no time at all passed")
	}
}

func TestDenialKeepsReasonsAndHidesTheRest(t *testing.T) {
	cause := errors.New("disk on fire")
	d := denied(cause)
	if d.code() != protocol.ReasonInternal || !errors.Is(d, cause) || d.Error() != "refused: internal-error" {
		t.Errorf("%v %+v", d, d)
	}
	d = denied(&refusal.Error{Reason: "a-b", Detail: "what", Err: cause})
	if d.code() != "a-b" || d.reasons[0].Detail != "what: disk on fire" {
		t.Errorf("%+v", d)
	}
	if again := denied(d); again != d {
		t.Error("a denial was wrapped again")
	}
	if err := denialOf(policy.Ruling{}); denied(err).code() != protocol.ReasonNoPolicy {
		t.Errorf("a decision without reasons: %v", err)
	}
	if d := denied(&denial{}); len(d.reasons) == 0 {
		t.Error("a denial without reasons has no code")
	}
}
