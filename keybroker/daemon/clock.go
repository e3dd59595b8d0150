package daemon

import (
	"context"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/audit"
)

// checkClock decides whether the log goes on from an earlier time. It does so if the
// configuration names exactly the last record's, which is another one as soon as the step is
// recorded: whoever may only set the clock cannot have it go back twice.
func (d *daemon) checkClock() error {
	at, err := d.opts.Config.Clock.Instant()
	if err != nil {
		return err
	}
	last, now := d.log.LastTime(), d.opts.Now()
	behind := now.Add(keybroker.MaxClockStep).Before(last)
	if at.IsZero() || !behind {
		if !at.IsZero() {
			d.opts.Logger.Warn("clock.set_back is not needed: the clock is not behind the audit log; take it out of the configuration", "set_back", audit.Instant(at))
		}
		return nil
	}
	used, err := d.log.SetBackFrom(at)
	switch {
	case err != nil:
		return err
	case used:
		d.opts.Logger.Warn("clock.set_back was used, and allows nothing any more; take it out of the configuration", "set_back", audit.Instant(at))
		return nil
	case !at.Equal(last):
		return refusal.New(audit.ReasonSetBack, "clock.set_back names %s, and the audit log's last record is of %s: name that, if the clock is right now, which says %s",
			audit.Instant(at), audit.Instant(last), audit.Instant(now))
	}
	d.setsBack = at
	return nil
}

// notEarlier is what broker time must not be before.
func (d *daemon) notEarlier() time.Time {
	if !d.setsBack.IsZero() {
		return time.Time{}
	}
	return d.log.LastTime()
}

// recordSetBack has the log say that it goes on from an earlier time, before anything else.
func (d *daemon) recordSetBack(ctx context.Context) error {
	if d.setsBack.IsZero() {
		return nil
	}
	now := d.opts.Now()
	leaf, err := d.log.SetBack(ctx, d.setsBack, now, "clock.set_back of the configuration")
	if err != nil {
		return err
	}
	d.opts.Logger.Warn("the audit log goes on from an earlier time: the clock was ahead, and clock.set_back says so; take it out of the configuration",
		"from", audit.Instant(d.setsBack), "to", audit.Instant(now), "audit", leaf.Index)
	return nil
}
