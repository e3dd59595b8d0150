package depot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/keybroker/collateral/amd"
	"github.com/anchorhold/anchorhold/keybroker/collateral/fetch"
	"github.com/anchorhold/anchorhold/keybroker/collateral/intel"
	"github.com/anchorhold/anchorhold/keybroker/collateral/store"
)

// Grace accepts documents after their end until a date, for a reason that is logged. The zero
// value accepts none.
type Grace struct {
	Until  time.Time
	Reason string
}

// inForce says whether the grace covers a document that ended.
func (g Grace) inForce(now time.Time) bool { return g.Reason != "" && now.Before(g.Until) }

// Options configure a Depot.
type Options struct {
	// Dir is the directory; it must exist.
	Dir string
	// KDS, PCS and PCSRoot are base URLs; empty ones are the vendors'. PCCS, if set, is a caching
	// service of the operator's in place of PCS and PCSRoot.
	KDS, PCS, PCSRoot, PCCS string
	// Offline fetches nothing: the directory is filled by imports.
	Offline bool
	// AMD has AMD's roots. Without it nothing of AMD's is accepted.
	AMD *appraise.Verifier
	// TDX verifies Intel's documents. Without it nothing of Intel's is accepted.
	TDX collateral.TDXCheck
	// Wanted are renewed by Run although they are not kept yet: chains, lists, platforms.
	Wanted []collateral.Key
	// MaxAge is when a document is fetched again although half of its life is not over: AMD's
	// lists live a year, which is too long to hear of a revoked key. 0 means 24 hours.
	MaxAge time.Duration
	// Grace accepts ended documents.
	Grace Grace
	// Poll is how often Run looks for what other processes put into the directory; 0 means a
	// minute.
	Poll time.Duration
	// Queue is how many requests may wait for one host; 0 means 1024.
	Queue int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Logger gets changes and failures; nil discards them.
	Logger *slog.Logger
	// Transport does the requests; nil means a transport of the depot's own.
	Transport http.RoundTripper
}

// Depot is open collateral. It may be used by several goroutines.
type Depot struct {
	opts   Options
	store  *store.Store
	client *fetch.Client
	amd    amd.Service
	intel  intel.Service

	ctx     context.Context // of the flights, which outlive whoever asked for them
	stop    context.CancelFunc
	running sync.WaitGroup
	wake    chan struct{} // tells Run that a flight ended
	changed chan struct{} // see Changed

	mu      sync.Mutex
	closed  bool
	flights map[collateral.Key]*flight
	failed  map[collateral.Key]negative
	warned  map[string]time.Time // documents in grace, when that was logged
	// Of items that are renewed, which are few: the last failures, whatever the disk says, and
	// how much earlier than planned this process renews them, from 0 to 1.
	attempts map[collateral.Key]store.Attempt
	jitter   map[collateral.Key]float64
}

// Open opens a directory. Close it after Run and all else has returned.
func Open(o Options) (*Depot, error) {
	o.MaxAge, o.Poll = cmp.Or(o.MaxAge, 24*time.Hour), cmp.Or(o.Poll, time.Minute)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Grace != (Grace{}) && (o.Grace.Reason == "" || o.Grace.Until.IsZero()) {
		return nil, errors.New("collateral: a grace needs a date and a reason")
	}
	d := &Depot{opts: o, wake: make(chan struct{}, 1), changed: make(chan struct{}, 1), flights: map[collateral.Key]*flight{}, failed: map[collateral.Key]negative{},
		warned: map[string]time.Time{}, attempts: map[collateral.Key]store.Attempt{}, jitter: map[collateral.Key]float64{}}
	if err := d.sources(); err != nil {
		return nil, err
	}
	var err error
	if d.store, err = store.Open(o.Dir); err != nil {
		return nil, fmt.Errorf("open collateral: %w", err)
	}
	if o.Grace.inForce(o.Now()) {
		o.Logger.Warn("collateral is accepted after its end", "until", o.Grace.Until, "reason", o.Grace.Reason)
	}
	d.ctx, d.stop = context.WithCancel(context.Background())
	return d, nil
}

// sources reads the base URLs.
func (d *Depot) sources() (err error) {
	o := d.opts
	d.client = fetch.New(fetch.Options{Transport: o.Transport, Queue: o.Queue})
	d.amd, d.intel = amd.Service{Client: d.client, Verifier: o.AMD}, intel.Service{Client: d.client}
	pace := amd.MirrorPace()
	if o.KDS == "" || o.KDS == amd.DefaultBase {
		pace = amd.Pace()
	}
	if d.amd.Base, err = fetch.ParseBase(cmp.Or(o.KDS, amd.DefaultBase), pace); err != nil {
		return fmt.Errorf("KDS: %w", err)
	}
	if o.PCCS != "" && o.PCS+o.PCSRoot != "" {
		return errors.New("collateral: give PCCS, or PCS and its root, not both")
	}
	if d.intel.Base, err = fetch.ParseBase(cmp.Or(o.PCCS, o.PCS, intel.DefaultBase), intel.Pace()); err != nil {
		return fmt.Errorf("PCS: %w", err)
	}
	if o.PCCS == "" {
		if d.intel.Root, err = fetch.ParseBase(cmp.Or(o.PCSRoot, intel.DefaultRootBase), intel.Pace()); err != nil {
			return fmt.Errorf("PCS root: %w", err)
		}
	}
	return nil
}

// Close ends what is being fetched and waits for it.
func (d *Depot) Close() {
	d.end()
	d.client.Close()
}

// end lets no flight start, ends those that are under way and waits for them.
func (d *Depot) end() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.stop()
	d.running.Wait()
}

// Certificates are a chip's certificate and its authorities, in DER.
type Certificates struct{ VCEK, ASK, ARK []byte }

// VCEK returns the certificates of a chip that are kept, and else fetches them. What it returns is
// verified.
func (d *Depot) VCEK(ctx context.Context, chip collateral.Chip) (Certificates, error) {
	key, err := chip.Key()
	if err != nil {
		return Certificates{}, err
	}
	it, err := d.kept(key)
	if err != nil {
		if it, err = d.fetched(ctx, key, true); err != nil {
			return Certificates{}, err
		}
	}
	chain, err := d.chainOf(key)
	if err != nil {
		return Certificates{}, err
	}
	return Certificates{it.Documents[0], chain.Documents[0], chain.Documents[1]}, nil
}

// kept returns an item of the store after verifying it. A damaged VCEK is not kept.
func (d *Depot) kept(key collateral.Key) (collateral.Item, error) {
	it, err := d.store.Get(key)
	if err != nil {
		return collateral.Item{}, err
	}
	if err := d.verify(it); err != nil {
		d.opts.Logger.Error("kept collateral does not verify", "key", key.String(), "err", err)
		return collateral.Item{}, err
	}
	return it, nil
}

// chainOf returns the authorities with which an item of AMD's is verified; the zero value for
// items that need none.
func (d *Depot) chainOf(key collateral.Key) (collateral.Item, error) {
	if k := key.Kind(); k != collateral.KindVCEK && k != collateral.KindAMDCRL {
		return collateral.Item{}, nil
	}
	chain, err := collateral.ChainKey(key.Product(), false)
	if err != nil {
		return collateral.Item{}, err
	}
	return d.store.Get(chain)
}

// verify checks an item up to its vendor's root.
func (d *Depot) verify(it collateral.Item) error {
	if it.Key.Kind() == collateral.KindTDX {
		return intel.Verify(d.opts.TDX, it, d.opts.Now())
	}
	chain, err := d.chainOf(it.Key)
	if err != nil {
		return err
	}
	return amd.Verify(d.opts.AMD, it, chain, d.opts.Now())
}

// TDX returns Intel's documents for a platform that are kept, and else fetches them. What it
// returns was verified when it was stored, and has not ended or is in grace.
func (d *Depot) TDX(ctx context.Context, p collateral.Platform) (collateral.TDXDocuments, error) {
	key, err := p.Key()
	if err != nil {
		return collateral.TDXDocuments{}, err
	}
	it, err := d.store.Get(key)
	if err == nil {
		err = d.current(it)
	}
	if err == nil {
		return it.TDX(), nil
	}
	if it, err = d.fetched(ctx, key, true); err == nil {
		return it.TDX(), nil
	}
	// A source that serves something older than what is kept fails, and renews the rest.
	if it, kerr := d.store.Get(key); kerr == nil && d.current(it) == nil {
		return it.TDX(), nil
	}
	return collateral.TDXDocuments{}, err
}

// current refuses an item that has ended, unless a grace is in force.
func (d *Depot) current(it collateral.Item) error {
	stamps, err := it.Stamps()
	if err != nil {
		return err
	}
	now, ends := d.opts.Now(), collateral.Ends(stamps)
	if ends.IsZero() || !now.After(ends) {
		return nil
	}
	if !d.opts.Grace.inForce(now) {
		return refusal.New(collateral.ReasonStale, "%s ended at %s", it.Key, ends.UTC().Format(time.RFC3339))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if name := it.Key.String(); now.Sub(d.warned[name]) > 24*time.Hour {
		d.warned[name] = now
		d.opts.Logger.Warn("ended collateral is used", "key", name, "ended", ends, "grace_until", d.opts.Grace.Until, "reason", d.opts.Grace.Reason)
	}
	return nil
}

// RevocationLists are AMD's lists (DER) that are kept and have not ended or are in grace. What
// ended without a grace is left out, so that a verifier which needs a list refuses.
func (d *Depot) RevocationLists() (lists [][]byte, err error) {
	keys, err := d.store.Keys()
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if k.Kind() != collateral.KindAMDCRL {
			continue
		}
		it, err := d.kept(k)
		if err == nil {
			err = d.current(it)
		}
		if _, refused := refusal.ReasonOf(err); err != nil && !refused {
			return nil, err
		} else if err == nil {
			lists = append(lists, it.Documents[0])
		}
	}
	return lists, nil
}

// Changed tells one receiver that this depot stored lists, authorities or documents since it was asked last. What other processes
// put into the directory goes unnoticed.
func (d *Depot) Changed() <-chan struct{} { return d.changed }

// Authorities are AMD's ASK, ASVK and ARK certificates (DER) that are kept.
func (d *Depot) Authorities() (certs [][]byte, err error) {
	keys, err := d.store.Keys()
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if k.Kind() != collateral.KindAMDChain {
			continue
		}
		if it, err := d.kept(k); err == nil {
			certs = append(certs, it.Documents...)
		}
	}
	return certs, nil
}
