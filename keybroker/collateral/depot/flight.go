package depot

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/keybroker/collateral/intel"
	"github.com/anchorhold/anchorhold/keybroker/collateral/store"
)

// flight is the one fetch of a key that is under way.
type flight struct {
	done chan struct{}
	item collateral.Item
	err  error
}

// negative is a failure that is remembered, so that guests who ask again cost nothing.
type negative struct {
	until time.Time
	err   error
}

// How long failures are remembered, and how many. A firmware update makes a chip's new
// certificate known within minutes.
const (
	unknownFor   = 5 * time.Minute
	failureFor   = 30 * time.Second
	maxNegatives = 4096
)

// Fetch fetches an item now, whether it is kept or not, and waits for it. It is verified and stored
// when Fetch returns it.
func (d *Depot) Fetch(ctx context.Context, key collateral.Key) (collateral.Item, error) {
	return d.fetched(ctx, key, false)
}

// fetched joins the flight of a key or starts it. With remember, a failure of a short time ago is
// the answer.
func (d *Depot) fetched(ctx context.Context, key collateral.Key, remember bool) (collateral.Item, error) {
	if d.opts.Offline {
		return collateral.Item{}, refusal.New(collateral.ReasonMissing, "%s is not kept and nothing is fetched here: import a bundle that has it", key)
	}
	f, err := d.start(key, remember)
	if err != nil {
		return collateral.Item{}, err
	}
	select {
	case <-f.done:
		return f.item, f.err
	case <-ctx.Done():
		return collateral.Item{}, ctx.Err()
	}
}

func (d *Depot) start(key collateral.Key, remember bool) (*flight, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, refusal.New(collateral.ReasonUnavailable, "the collateral is being closed")
	}
	if f := d.flights[key]; f != nil {
		return f, nil
	}
	if n, has := d.failed[key]; remember && has && d.opts.Now().Before(n.until) {
		return nil, n.err
	}
	f := &flight{done: make(chan struct{})}
	d.flights[key] = f
	d.running.Go(func() {
		f.item, f.err = d.fly(d.ctx, key)
		d.land(key, f)
	})
	return f, nil
}

// land ends a flight.
func (d *Depot) land(key collateral.Key, f *flight) {
	d.note(key, f.err)
	d.mu.Lock()
	delete(d.flights, key)
	delete(d.failed, key)
	if f.err != nil {
		if len(d.failed) >= maxNegatives {
			clear(d.failed)
		}
		keep := failureFor
		if reason, _ := refusal.ReasonOf(f.err); reason == collateral.ReasonUnknown {
			keep = unknownFor
		}
		d.failed[key] = negative{d.opts.Now().Add(keep), f.err}
	}
	d.mu.Unlock()
	close(f.done)
	select {
	case d.wake <- struct{}{}:
	default: // it was woken already
	}
}

// note keeps the last failure of an item that is renewed, for the schedule and for people.
// Certificates of chips are none: guests name them.
func (d *Depot) note(key collateral.Key, failure error) {
	if key.Kind() == collateral.KindVCEK || errors.Is(failure, context.Canceled) {
		return
	}
	var a store.Attempt
	d.mu.Lock()
	d.jitter[key] = rand.Float64()
	if failure != nil {
		reason, _ := refusal.ReasonOf(failure)
		before := max(d.attempts[key].Failures, d.store.Attempts()[key.String()].Failures)
		a = store.Attempt{At: d.opts.Now().UTC(), Failures: before + 1, Reason: string(reason), Error: failure.Error()}
	}
	d.attempts[key] = a
	d.mu.Unlock()
	if failure != nil {
		d.opts.Logger.Error("collateral not renewed; what is kept stays in use", "key", key.String(), "failures", a.Failures, "err", failure)
	}
	if err := d.store.Attempted(key, a); err != nil {
		d.opts.Logger.Error("attempt to renew collateral not noted", "key", key.String(), "err", err)
	}
}

// fly fetches, verifies and stores one item.
func (d *Depot) fly(ctx context.Context, key collateral.Key) (it collateral.Item, err error) {
	switch key.Kind() {
	case collateral.KindAMDChain:
		it, err = d.amd.Chain(ctx, key, d.opts.Now)
	case collateral.KindAMDCRL, collateral.KindVCEK:
		it, err = d.flyAMD(ctx, key)
	case collateral.KindTDX:
		return d.flyTDX(ctx, key)
	default:
		err = refusal.New(collateral.ReasonKey, "no key")
	}
	if err != nil {
		return collateral.Item{}, err
	}
	err = d.put(it)
	if reason, _ := refusal.ReasonOf(err); reason == collateral.ReasonFull {
		// Guests name chips and versions, so one of them can fill the directory in time. It is no
		// reason to serve no other.
		d.opts.Logger.Error("certificate not kept; it is fetched again for each guest", "key", key.String(), "err", err)
		return it, nil
	}
	return it, err
}

// flyAMD fetches the chain first, if that is not kept.
func (d *Depot) flyAMD(ctx context.Context, key collateral.Key) (collateral.Item, error) {
	chainKey, err := collateral.ChainKey(key.Product(), false)
	if err != nil {
		return collateral.Item{}, err
	}
	chain, err := d.kept(chainKey)
	if err != nil {
		if chain, err = d.fetched(ctx, chainKey, true); err != nil {
			return collateral.Item{}, err
		}
	}
	if key.Kind() == collateral.KindAMDCRL {
		return d.amd.List(ctx, key, chain, d.opts.Now)
	}
	// A flight of before may have stored it between the caller's look and the start of this one.
	if it, err := d.kept(key); err == nil {
		return it, nil
	}
	return d.amd.VCEK(ctx, key, chain, d.opts.Now)
}

// flyTDX fetches the documents of a platform. A document that is older than one that is kept gives
// way to that one; the rest is still worth having. The refusal is returned all the same.
func (d *Depot) flyTDX(ctx context.Context, key collateral.Key) (collateral.Item, error) {
	if d.opts.TDX == nil {
		return collateral.Item{}, intel.Verify(nil, collateral.Item{}, time.Time{})
	}
	docs, err := d.intel.Documents(ctx, key.Platform())
	if err != nil {
		return collateral.Item{}, err
	}
	it, older, err := d.composed(collateral.Item{Key: key, Fetched: d.opts.Now().UTC().Truncate(time.Second), Documents: docs.Documents()})
	if err != nil {
		return collateral.Item{}, err
	}
	if err := intel.Verify(d.opts.TDX, it, d.opts.Now()); err != nil {
		return collateral.Item{}, errors.Join(err, older)
	}
	if err := d.put(it); err != nil {
		return collateral.Item{}, err
	}
	return it, older
}

// composed replaces documents of an item that are older than those that are kept. Of unverified
// documents nothing is believed but that they claim to be older.
func (d *Depot) composed(it collateral.Item) (out collateral.Item, older, err error) {
	stamps, err := it.Stamps()
	if err != nil {
		return collateral.Item{}, nil, err
	}
	kept, err := d.store.Newest(it.Key)
	if err != nil {
		return collateral.Item{}, nil, err
	}
	for _, s := range stamps {
		k, has := kept[s.Name]
		if !has {
			continue
		}
		if _, err := s.Replaces(k.Stamp); err != nil {
			older = errors.Join(older, err)
			for i, at := range s.Documents {
				it.Documents[at] = k.Parts[i]
			}
		}
	}
	return it, older, nil
}

// put stores a verified item.
func (d *Depot) put(it collateral.Item) error {
	if it.Key.Kind() == collateral.KindVCEK {
		if _, err := d.store.Get(it.Key); err == nil {
			if _, err := d.kept(it.Key); err != nil {
				return d.store.Replace(it)
			}
		}
	}
	changed, err := d.store.Put(it)
	if err == nil && changed {
		d.opts.Logger.Info("collateral stored", "key", it.Key.String())
		if it.Key.Kind() != collateral.KindVCEK {
			select {
			case d.changed <- struct{}{}:
			default: // it was told already
			}
		}
	}
	return err
}
