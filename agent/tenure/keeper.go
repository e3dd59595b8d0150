package tenure

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/openmodel"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/systemd/service"
)

// ReasonUnresponsive means that an attempt to attest has not come back, and no other is made
// before it does. The report device or a disk hangs.
const ReasonUnresponsive refusal.Reason = "attestation-unresponsive"

// lastWord is how long an attempt whose time is over has to say why.
const lastWord = 2 * time.Second

// Config is what a keeper begins with.
type Config struct {
	// Settings are the configuration, until a reload.
	Settings settings.Config
	// Broker is the broker's client of that configuration.
	Broker Broker
	Tenure *Tenure
	Logger *slog.Logger
	// Classifiers are opened with each lease's keys by Granted; nil where there are none.
	Classifiers *classify.Service
	// Granted takes what else is for it from a lease, with [Grant.Adopt] for classifiers;
	// optional.
	Granted func(Grant) error
	// Taken is given each lease as soon as it is held, before any model is opened; it copies what is
	// for other services of this guest. Optional.
	Taken func(*client.Lease) error
	// Serving is told of each lease under which a model is served, and of its end; optional.
	Serving func(until time.Time)
	// Refused is told why the model cannot be opened; optional.
	Refused func(error)
	// Heap is told how many models are open; nil is for a keeper that is alone in its process.
	Heap func(models int)
}

// Keeper attests and renews. What can hang, which is the exchange with the broker
// and all that reads a device or a disk, runs in a goroutine that it can give up;
// there is never more than one. The end of a lease is not the keeper's: the tenure
// has a clock of its own.
type Keeper struct {
	cfg      settings.Config // Run's alone, once it runs
	broker   Broker          // Run's alone, once it runs
	tenure   *Tenure
	log      *slog.Logger
	serving  func(until time.Time)
	refused  func(error)
	granted  func(Grant) error
	taken    func(*client.Lease) error
	open     opener                     // openmodel.Open, or a test's
	heap     func(settings.Config, int) // told how many models are open; optional
	others   func() []opened            // sealed files that are open beside the model; optional
	reloaded chan reload

	// Attempt is the attempt under way, for the watchdog.
	Attempt service.Underway

	// Run's alone:
	files   files
	pending <-chan struct{} // closed once the last attempt has come back
	barred  *verdict        // on the model; nil while it may be opened
	file    stamp           // of the model, when it was looked at last
	due     time.Time       // of the next renewal

	alone <-chan struct{} // closed once the last model that opened beside another has the limit to itself; the attempt's
}

// NewKeeper makes a keeper that has not attested yet.
func NewKeeper(cfg Config) *Keeper {
	k := &Keeper{cfg: cfg.Settings, broker: cfg.Broker, tenure: cfg.Tenure, log: cfg.Logger, serving: cfg.Serving, refused: cfg.Refused, granted: cfg.Granted, taken: cfg.Taken,
		open: openmodel.Open, heap: openmodel.LimitHeap, files: files{installed: installed}, reloaded: make(chan reload)}
	if cfg.Heap != nil {
		k.heap = func(_ settings.Config, models int) { cfg.Heap(models) }
	}
	if cfg.Classifiers != nil {
		k.others = func() []opened { return classifierFiles(cfg.Classifiers) }
	}
	return k
}

// opener opens a model: with a key of that version, while so many bytes of the limit stay
// taken.
type opener func(ctx context.Context, cfg settings.Config, m settings.Model, held *openmodel.Custody, version uint64, taken int64, log *slog.Logger) (*openmodel.Model, error)

// notOpened says why sealed files are not served. kept says that those before them still are,
// and all else as it was.
type notOpened struct {
	error
	paths []string
	model bool // it is about the language model
	kept  bool
}

func (e notOpened) Unwrap() error { return e.error }

// unserved says which classifiers are not served, neither in this version nor in one before.
// It fails a reload, and no lease: another one would not open them.
type unserved struct{ error }

// Unwrap returns the reasons.
func (e unserved) Unwrap() error { return e.error }

// Run keeps a lease until the context ends, then wipes everything.
func (k *Keeper) Run(ctx context.Context) error {
	retry := retryFirst
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		before, asked := reload{cfg: k.cfg, broker: k.broker}, reload{}
		select {
		case <-ctx.Done():
			return k.tenure.refuse(ReasonDraining, "the agent is stopping")
		case asked = <-k.reloaded:
			k.cfg, k.broker, retry = asked.cfg, asked.broker, retryFirst
			k.files.refused = nil // somebody may know that they are good now
			k.unbar()
			k.due = time.Time{}
			k.log.Info("configuration reloaded; attesting anew")
		case <-next.C:
		}
		wait, err := k.attest(ctx)
		k.judge(asked, before, err)
		if _, said := errors.AsType[known](err); err != nil && !said && ctx.Err() == nil {
			what := "attestation failed"
			if _, ok := errors.AsType[notOpened](err); ok {
				what = "a sealed file did not open"
			}
			k.log.Error(what, "err", err, "next_try", retry)
			wait = retry
			retry = min(2*retry, retryLongest)
		} else {
			retry = retryFirst
		}
		next.Reset(wait)
	}
}

func (k *Keeper) remaining() (time.Duration, bool) {
	k.tenure.mu.RLock()
	defer k.tenure.mu.RUnlock()
	if k.tenure.lease == nil {
		return 0, false
	}
	return k.tenure.lease.Remaining(time.Now()), true
}

// attest runs one exchange and takes over what it yields, unless there is nothing to ask
// for. It returns when to come again. That the model cannot be opened is a known error.
func (k *Keeper) attest(ctx context.Context) (time.Duration, error) {
	open := k.tenure.opened()
	if k.others != nil {
		open = append(open, k.others()...)
	}
	why := k.standing(ctx, open)
	resources := k.needed(why != nil)
	remaining, held := k.remaining()
	if why != nil && (len(resources) == 0 || held && time.Now().Before(k.due)) {
		return lookAgain, known{why}
	}
	limit := exchangeLimit
	if held {
		limit = min(limit, max(remaining, time.Millisecond)) // the lease's end is an occasion to try anew
	}
	attempt, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var lease *client.Lease
	broker, sealed := k.broker, k.files.want(attempt, k.cfg, resources, open)
	err := k.aside(attempt, func() (err error) { lease, err = broker.Acquire(attempt, resources, sealed...); return err }, func() { lease.Wipe() })
	if ctx.Err() == nil {
		k.tenure.attested(err)
	}
	if err != nil {
		return 0, err
	}
	k.shorten(lease)
	under, end := context.WithTimeout(ctx, lease.Remaining(time.Now()))
	defer end()
	cfg, named := k.cfg, k.files.named(sealed, open)
	err = k.aside(under, func() error { return k.take(under, cfg, lease, named, why != nil) }, func() {})
	wait := renewIn(lease.Remaining(time.Now()))
	k.due = time.Now().Add(wait)
	failed, ok := errors.AsType[notOpened](err)
	if ok {
		k.files.refuse(failed.paths)
	}
	switch ok = ok && failed.model && !failed.kept; {
	case ok && openmodel.Lasting(failed):
		why = k.bar(failed) // the lease goes on for what else it is for
	case ok && openmodel.WrongKey(failed): // the next key may be the right one, at the pace of renewals
		k.log.Error("the model's key does not open it", "reason", string(openmodel.Unavailable(failed).Reason), "err", failed, "next_try", wait)
		k.announce(lease)
		return wait, known{failed}
	case err != nil:
		return 0, err
	}
	k.announce(lease)
	if why != nil {
		return min(wait, lookAgain), known{why}
	}
	return wait, nil
}

// aside runs f in a goroutine of its own and returns its error, or gives it up some
// time after the context ended. Whenever a step that was given up succeeds after
// all, late disposes of what it brought.
func (k *Keeper) aside(ctx context.Context, f func() error, late func()) error {
	select {
	case <-k.pending:
	default:
		if k.pending != nil {
			began, _ := k.Attempt.Since()
			return refusal.New(ReasonUnresponsive, "the last attempt has been under way since %s", began.UTC().Format(time.RFC3339))
		}
	}
	k.Attempt.Begin(time.Now())
	back, done, givenUp := make(chan struct{}), make(chan error), make(chan struct{})
	k.pending = back
	go func() {
		defer close(back)
		err := f()
		k.Attempt.End()
		select {
		case done <- err:
		case <-givenUp:
			if err == nil {
				late()
			}
		}
	}()
	select {
	case err := <-done:
		<-back
		return err
	case <-ctx.Done():
	}
	wait := time.NewTimer(lastWord)
	defer wait.Stop()
	select {
	case err := <-done:
		<-back
		return err
	case <-wait.C:
	}
	close(givenUp)
	return refusal.New(ReasonUnresponsive, "the report device, the broker's connection or a disk does not answer: %w", context.Cause(ctx))
}

// StuckAfter is far more than an exchange and the opening of a large model take.
const StuckAfter = 15 * time.Minute

// Stuck says whether an attempt does not come back.
func (k *Keeper) Stuck(now time.Time) bool { return k.Attempt.Longer(StuckAfter, now) }

// announce tells that a model is served under a lease.
func (k *Keeper) announce(lease *client.Lease) {
	k.tenure.dates.learn(lease, time.Now())
	if k.serving != nil {
		k.serving(lease.Expires)
	}
}

// shorten applies the configuration's own limit on leases.
func (k *Keeper) shorten(lease *client.Lease) {
	if limit := k.cfg.Lease(); lease.TTL > limit {
		lease.Expires = lease.Expires.Add(limit - lease.TTL)
		lease.TTL = limit
	}
}

// logTaken says under whose word the agent serves from now on: nobody granted anything where a permit is used.
func (k *Keeper) logTaken(lease *client.Lease) {
	if run := permitOf(lease); run != nil {
		k.log.Info("restart permit used in place of a lease", "lease", lease.ID, "policy", lease.PolicyID, "policy_version", lease.PolicyVersion,
			"restart", run.Restart.Number, "of", run.Permit.Restarts, "until", run.Permit.NotAfter.Time(), "epoch", lease.Epoch)
		return
	}
	k.log.Info("lease granted", "lease", lease.ID, "policy", lease.PolicyID, "policy_version", lease.PolicyVersion,
		"ttl", lease.TTL, "tls_group", lease.TLSGroup, "epoch", lease.Epoch, "software_tee", lease.SoftwareTEE)
	if lease.Unsent != nil {
		k.log.Warn("release receipt not sent", "lease", lease.ID, "err", lease.Unsent)
	}
}

// take adopts a lease: its keys go to long work and to the model, and what nobody
// takes is wiped. It may be given up at the lease's end and go on later: then it
// finds the lease gone and its keys wiped. Of a model that is barred there is no key.
func (k *Keeper) take(ctx context.Context, cfg settings.Config, lease *client.Lease, named named, barred bool) error {
	defer lease.Wipe() // what nobody took
	var key client.Key
	var anew bool
	if len(cfg.Models) > 0 && !barred {
		var ok bool
		if key, ok = lease.Keys[cfg.Models[0].Resource]; !ok {
			return refusal.New(openmodel.ReasonUnavailable, "the broker granted a lease without the model's key")
		}
		anew = k.tenure.needs(cfg.Models[0], cfg.MemoryLimit(), key)
	}
	if err := k.tenure.adopt(lease); err != nil {
		return err
	}
	k.logTaken(lease)
	if k.taken != nil {
		if err := errors.Join(k.taken(lease), k.tenure.settled(lease)); err != nil {
			return err
		}
	}
	if anew && !named.next[cfg.Models[0].Resource] {
		if err := k.tenure.withdraw(key); err != nil {
			k.log.Error("close the model whose key is no longer granted", "err", err)
		}
	}
	hand := func() error {
		if k.granted == nil {
			return nil
		}
		err := k.granted(Grant{Config: cfg, Lease: lease, named: named})
		if k.tenure.hand(lease, err) {
			err = nil
		}
		return errors.Join(err, k.tenure.settled(lease))
	}
	switch {
	case !anew:
		if err := hand(); err != nil {
			return err
		}
		if !barred && k.tenure.settledOn(named.trouble) {
			k.log.Error("an installed file is not served; the previous one stays in service while its key is granted", "err", named.trouble)
		}
		if len(cfg.Models) == 0 {
			return k.tenure.serve(lease, nil)
		}
		return nil // under the new lease from now on
	case k.tenure.unserved():
		if err := hand(); err != nil {
			k.tenure.failed(lease, err)
			return err
		}
		return k.takeModel(ctx, cfg, lease, key)
	}
	// What is served goes on until the next model is open, and with it all that the lease
	// before opened.
	if err := k.takeModel(ctx, cfg, lease, key); err != nil {
		return err
	}
	err := hand()
	if failed, ok := errors.AsType[notOpened](err); ok {
		failed.kept = false // the model is another
		return failed
	}
	return err
}

// takeModel opens the model: beside the one that is served, or in its place. One that does
// not open is not served, and one that is goes on no longer than its own lease: a model
// whose seal does not verify is never served from an older version under a new lease.
func (k *Keeper) takeModel(ctx context.Context, cfg settings.Config, lease *client.Lease, key client.Key) error {
	m := cfg.Models[0]
	delete(lease.Keys, m.Resource) // the key moves to the model
	held := &openmodel.Custody{Key: key.Key, Subject: key.Subject}
	opened, err := k.openNext(ctx, cfg, lease, held, key.Version)
	if err != nil {
		held.Wipe()
		failed := notOpened{error: err, paths: []string{m.Path}, model: true, kept: k.tenure.failed(lease, err)}
		if failed.kept {
			k.log.Error("the model's new file does not open; the previous one stays in service while its key is granted", "model", m.Name, "err", err)
			failed.error = fmt.Errorf("the previous model stays in service: %w", err)
		}
		return failed
	}
	if receipts := opened.Receipts(lease.Roles[opened.Resource]); receipts != openmodel.ReceiptsVerify {
		k.log.Warn("receipts of this model's answers will not verify", "model", opened.Name, "receipts", receipts)
	}
	return k.tenure.serve(lease, opened)
}

// openNext opens the model of a lease. If there is no room beside the one that is served,
// everything of the file is checked before that one is closed.
func (k *Keeper) openNext(ctx context.Context, cfg settings.Config, lease *client.Lease, held *openmodel.Custody, version uint64) (*openmodel.Model, error) {
	served, err := k.tenure.begin(ctx, lease, held)
	if err != nil {
		return nil, err
	}
	m := cfg.Models[0]
	if served == nil {
		return k.open(ctx, cfg, m, held, version, 0, k.log)
	}
	if k.alone != nil { // at once: begin waited for that one's memory
		select {
		case <-k.alone:
		case <-ctx.Done():
			return nil, refusal.New(openmodel.ReasonUnavailable, "the previous model has not released its memory: %w", context.Cause(ctx))
		}
	}
	taken := served.Held()
	fits, err := openmodel.Examine(ctx, cfg, m, held, taken)
	if err != nil {
		return nil, err
	}
	if !fits {
		k.log.Info("the memory limit has no room for two models: requests wait while one replaces the other", "model", m.Name)
		if err := k.tenure.vacate(ctx, lease, served); err != nil {
			return nil, err
		}
		return k.open(ctx, cfg, m, held, version, 0, k.log)
	}
	k.models(cfg, 2)
	opened, err := k.open(ctx, cfg, m, held, version, taken, k.log)
	if err != nil {
		k.models(cfg, 1)
		return nil, err
	}
	alone := make(chan struct{})
	k.alone = alone
	go func() { // ends with the other model
		defer close(alone)
		<-served.Gone
		_ = opened.Taken.Release() // a charge: nothing is unmapped
		k.models(cfg, 1)
	}()
	return opened, nil
}

func (k *Keeper) models(cfg settings.Config, n int) {
	if k.heap != nil {
		k.heap(cfg, n)
	}
}
