package auditlog

import (
	"context"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// CheckClock decides whether the log goes on from an earlier time. It does so if the
// configuration names exactly the last record's, which is another one as soon as the step is
// recorded: whoever may only set the clock cannot have it go back twice.
func (l *Log) CheckClock() error {
	at := l.cfg.SetBack
	last, now := l.LastTime(), l.cfg.Now()
	behind := now.Add(keybroker.MaxClockStep).Before(last)
	if at.IsZero() || !behind {
		if !at.IsZero() {
			l.cfg.Logger.Warn("clock.set_back is not needed: the clock is not behind the audit log; take it out of the configuration", "set_back", audit.Instant(at))
		}
		return nil
	}
	used, err := l.SetBackFrom(at)
	switch {
	case err != nil:
		return err
	case used:
		l.cfg.Logger.Warn("clock.set_back was used, and allows nothing any more; take it out of the configuration", "set_back", audit.Instant(at))
		return nil
	case !at.Equal(last):
		return refusal.New(audit.ReasonSetBack, "clock.set_back is %s, but the audit log's last record is of %s: use that time if the clock, now %s, is right",
			audit.Instant(at), audit.Instant(last), audit.Instant(now))
	}
	l.setsBack = at
	return nil
}

// NotEarlier is what broker time must not be before.
func (l *Log) NotEarlier() time.Time {
	if !l.setsBack.IsZero() {
		return time.Time{}
	}
	return l.LastTime()
}

// RecordSetBack has the log say that it goes on from an earlier time, before anything else.
func (l *Log) RecordSetBack(ctx context.Context) error {
	if l.setsBack.IsZero() {
		return nil
	}
	now := l.cfg.Now()
	leaf, err := l.SetBack(ctx, l.setsBack, now, "clock.set_back of the configuration")
	if err != nil {
		return err
	}
	l.cfg.Logger.Warn("the audit log goes on from an earlier time: the clock was ahead, and clock.set_back says so; take it out of the configuration",
		"from", audit.Instant(l.setsBack), "to", audit.Instant(now), "audit", leaf.Index)
	return nil
}

// TellBehind logs that every guest is refused until the clock has caught up with the log.
func (l *Log) TellBehind(until time.Time) {
	l.cfg.Logger.Error("every guest is refused: the clock is behind what it was when the audit log was last written; set it if it is wrong; if it was ahead and is right now, wait, or restart with clock.set_back (docs/operations.md, A clock that was ahead)",
		"reason", string(protocol.ReasonClockBackwards), "until", until, "set_back", audit.Instant(l.LastTime()))
}
