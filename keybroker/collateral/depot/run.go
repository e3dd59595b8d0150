package depot

import (
	"context"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/keybroker/collateral/store"
)

// The schedule of failures, and of documents that are past half of their life without a newer one
// at the source, as AMD's lists are for months.
const (
	firstRetry  = time.Minute
	maxRetry    = time.Hour
	shortestAge = time.Hour
	jitterPart  = 0.1
)

// Run renews what is wanted and what is kept until the context ends, and returns after all that it
// started has ended. An offline depot only waits.
func (d *Depot) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			d.end()
			return nil
		case <-timer.C:
		case <-d.wake:
		}
		timer.Reset(d.renewDue())
	}
}

// renewDue starts the flights of what is due, and returns when to look again.
func (d *Depot) renewDue() time.Duration {
	if d.opts.Offline {
		return d.opts.Poll
	}
	plans, err := d.plans()
	if err != nil {
		d.opts.Logger.Error("collateral cannot be read", "err", err)
		return d.opts.Poll
	}
	now, wait := d.opts.Now(), d.opts.Poll
	for _, p := range plans {
		if p.flying {
			continue
		}
		if left := p.next.Sub(now); left > 0 {
			wait = min(wait, left)
			continue
		}
		if _, err := d.start(p.key, false); err != nil {
			return d.opts.Poll // it is being closed
		}
	}
	return max(wait, time.Second)
}

// plan is when an item is renewed.
type plan struct {
	key     collateral.Key
	item    collateral.Item // the zero value if none is kept
	stamps  []collateral.Stamp
	attempt store.Attempt
	next    time.Time
	flying  bool
}

// plans are those of all items that are renewed.
func (d *Depot) plans() ([]plan, error) {
	keys, err := d.store.Keys()
	if err != nil {
		return nil, err
	}
	keys = slices.DeleteFunc(keys, func(k collateral.Key) bool { return k.Kind() == collateral.KindVCEK })
	for _, k := range d.opts.Wanted {
		if !slices.Contains(keys, k) && k.Kind() != collateral.KindVCEK {
			keys = append(keys, k)
		}
	}
	attempts := d.store.Attempts()
	plans := make([]plan, 0, len(keys))
	for _, k := range keys {
		p := plan{key: k, attempt: attempts[k.String()]}
		if it, err := d.store.Get(k); err == nil {
			if p.stamps, err = it.Stamps(); err == nil {
				p.item = it
			}
		}
		d.mu.Lock()
		p.flying = d.flights[k] != nil
		early := d.jitter[k]
		if own := d.attempts[k]; own.At.After(p.attempt.At) {
			p.attempt = own // the disk did not take it
		}
		d.mu.Unlock()
		p.next = d.due(p, early*jitterPart)
		plans = append(plans, p)
	}
	return plans, nil
}

// due is when an item is fetched next: at half of its first document's life, at the latest after
// MaxAge, earlier by a part of that time, so that brokers do not ask together. Past half of its
// life it is asked for at an eighth of what is left; after a failure, later and later.
func (d *Depot) due(p plan, early float64) time.Time {
	now := d.opts.Now()
	var next time.Time // at once
	if p.item.Key != (collateral.Key{}) {
		fetched := p.item.Fetched
		if fetched.After(now) { // by a clock that was ahead
			fetched = now
		}
		age := collateral.HalfLife(p.stamps).Sub(fetched)
		if age <= 0 {
			age = max(collateral.Ends(p.stamps).Sub(fetched)/8, shortestAge)
		}
		age = min(age, d.opts.MaxAge)
		next = fetched.Add(age - time.Duration(float64(age)*early))
	}
	if a := p.attempt; a.Failures > 0 {
		at := a.At
		if at.After(now) {
			at = now
		}
		retry := min(firstRetry<<min(a.Failures-1, 10), maxRetry)
		if again := at.Add(retry - time.Duration(float64(retry)*early)); again.After(next) {
			next = again
		}
	}
	return next
}
