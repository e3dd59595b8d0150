package keybroker

import (
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// MaxClockStep is how far back the clock may step before the broker stops
// releasing: what time synchronisation does in normal operation, and no more.
const MaxClockStep = 2 * time.Second

// clock is broker time: the injected clock, made monotone. Wall time is compared
// with wall time, because a monotonic reading would hide that the wall clock was
// set back.
type clock struct {
	now func() time.Time

	mu      sync.Mutex
	highest protocol.Time // guarded by mu
}

// read enforces protocol 7.1: broker time never goes back. A small step holds
// it still; a large one is a refusal until time has caught up.
func (c *clock) read() (protocol.Time, error) {
	t := protocol.TimeOf(c.now())
	c.mu.Lock()
	defer c.mu.Unlock()
	if t == 0 || t.Add(MaxClockStep) < c.highest {
		return 0, refusal.New(protocol.ReasonClockBackwards, "the clock says %s but was at %s before: every guest is refused until it has caught up, for %s; set it if it is wrong (docs/operations.md, A clock that was ahead)",
			t.Time().Format(time.RFC3339), c.highest.Time().Format(time.RFC3339), c.highest.Time().Sub(t.Time()).Round(time.Second))
	}
	c.highest = max(c.highest, t)
	return c.highest, nil
}

// ClockBehind returns the time until which the broker refuses every guest because its clock was
// set back; zero if it does not.
func (b *Broker) ClockBehind() time.Time {
	if _, err := b.clock.read(); err == nil {
		return time.Time{}
	}
	b.clock.mu.Lock()
	defer b.clock.mu.Unlock()
	return b.clock.highest.Time()
}
