package agent

import (
	"context"
	"log/slog"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/systemd/service"
)

// ReasonUnresponsive means that an attempt to attest has not come back, and no other is made
// before it does. The report device or a disk hangs.
const ReasonUnresponsive evidence.Reason = "attestation-unresponsive"

// lastWord is how long an attempt whose time is over has to say why.
const lastWord = 2 * time.Second

// keeper attests and renews. What can hang, which is the exchange with the broker
// and all that reads a device or a disk, runs in a goroutine that it can give up;
// there is never more than one. The end of a lease is not the keeper's: the tenure
// has a clock of its own.
type keeper struct {
	cfg      settings.Config
	broker   acquirer
	tenure   *tenure
	log      *slog.Logger
	serving  func(*client.Lease)                                                                                        // told of each lease under which a model is served
	open     func(context.Context, settings.Config, settings.Model, *custody, uint64, *slog.Logger) (*openModel, error) // open, or a test's
	granted  func(settings.Config, *client.Lease) error                                                                 // takes what long work needs from a lease; optional
	others   func() []opened                                                                                            // sealed files that are open beside the model; optional
	files    files                                                                                                      // run's alone
	reloaded chan reload
	busy     service.Underway // the attempt under way
	pending  <-chan struct{}  // closed once the last attempt has come back; run's alone
}

// reload is a new configuration on its way to the keeper.
type reload struct {
	cfg    settings.Config
	broker acquirer
}

// run keeps a lease until the context ends, then wipes everything.
func (k *keeper) run(ctx context.Context) error {
	retry := retryFirst
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return k.tenure.refuse(ReasonDraining, "the agent is stopping")
		case r := <-k.reloaded:
			k.cfg, k.broker, retry = r.cfg, r.broker, retryFirst
			k.log.Info("configuration reloaded; attesting anew")
		case <-next.C:
		}
		wait, err := k.attest(ctx)
		if err != nil && ctx.Err() == nil {
			k.log.Error("attestation failed", "err", err, "next_try", retry)
			wait = retry
			retry = min(2*retry, retryLongest)
		} else {
			retry = retryFirst
		}
		next.Reset(wait)
	}
}

func (k *keeper) remaining() (time.Duration, bool) {
	k.tenure.mu.RLock()
	defer k.tenure.mu.RUnlock()
	if k.tenure.lease == nil {
		return 0, false
	}
	return k.tenure.lease.Remaining(time.Now()), true
}

// attest runs one exchange and takes over what it yields. It returns when to
// attest next.
func (k *keeper) attest(ctx context.Context) (time.Duration, error) {
	limit := exchangeLimit
	if remaining, held := k.remaining(); held {
		limit = min(limit, max(remaining, time.Millisecond)) // the lease's end is an occasion to try anew
	}
	attempt, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var lease *client.Lease
	open := k.tenure.opened()
	if k.others != nil {
		open = append(open, k.others()...)
	}
	broker, resources, sealed := k.broker, k.cfg.Resources(), k.files.want(k.cfg, open)
	err := k.aside(attempt, func() (err error) { lease, err = broker.Acquire(attempt, resources, sealed...); return err }, func() { lease.Wipe() })
	if err != nil {
		return 0, err
	}
	k.shorten(lease)
	under, end := context.WithTimeout(ctx, lease.Remaining(time.Now()))
	defer end()
	cfg := k.cfg
	if err := k.aside(under, func() error { return k.take(under, cfg, lease) }, func() {}); err != nil {
		return 0, err
	}
	k.serving(lease)
	return renewIn(lease.Remaining(time.Now())), nil
}

// aside runs f in a goroutine of its own and returns its error, or gives it up some
// time after the context ended. Whenever a step that was given up succeeds after
// all, late disposes of what it brought.
func (k *keeper) aside(ctx context.Context, f func() error, late func()) error {
	select {
	case <-k.pending:
	default:
		if k.pending != nil {
			began, _ := k.busy.Since()
			return evidence.Refuse(ReasonUnresponsive, "the last attempt has not come back since %s", began.UTC().Format(time.RFC3339))
		}
	}
	k.busy.Begin(time.Now())
	back, done, givenUp := make(chan struct{}), make(chan error), make(chan struct{})
	k.pending = back
	go func() {
		defer close(back)
		err := f()
		k.busy.End()
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
	return evidence.Refuse(ReasonUnresponsive, "the report device, the broker's connection or a disk does not answer: %w", context.Cause(ctx))
}

// stuckAfter is far more than an exchange and the opening of a large model take.
const stuckAfter = 15 * time.Minute

// stuck says whether an attempt does not come back.
func (k *keeper) stuck(now time.Time) bool { return k.busy.Longer(stuckAfter, now) }

// shorten applies the configuration's own limit on leases.
func (k *keeper) shorten(lease *client.Lease) {
	if limit := k.cfg.Lease(); lease.TTL > limit {
		lease.Expires = lease.Expires.Add(limit - lease.TTL)
		lease.TTL = limit
	}
}

// take adopts a lease: its keys go to long work and to the model, and what nobody
// takes is wiped. It may be given up at the lease's end and go on later: then it
// finds the lease gone and its keys wiped.
func (k *keeper) take(ctx context.Context, cfg settings.Config, lease *client.Lease) error {
	defer lease.Wipe() // what nobody took
	var key client.Key
	var anew bool
	if len(cfg.Models) > 0 {
		var ok bool
		if key, ok = lease.Keys[cfg.Models[0].Resource]; !ok {
			return evidence.Refuse(ReasonModelUnavailable, "the broker granted a lease without the model's key")
		}
		anew = k.tenure.needs(cfg.Models[0], cfg.MemoryLimit(), key)
	}
	if err := k.tenure.adopt(lease); err != nil {
		return err
	}
	k.log.Info("lease granted", "lease", lease.ID, "policy", lease.PolicyID, "policy_version", lease.PolicyVersion,
		"ttl", lease.TTL, "tls_group", lease.TLSGroup, "epoch", lease.Epoch, "software_tee", lease.SoftwareTEE)
	if lease.Unsent != nil {
		k.log.Warn("release receipt not sent", "lease", lease.ID, "err", lease.Unsent)
	}
	if anew { // before anything of this lease is handed on: two models do not fit
		if err := k.tenure.closeModel(ReasonModelUnavailable, "the model is being opened"); err != nil {
			return err
		}
	}
	if k.granted != nil {
		err := k.granted(cfg, lease)
		if err == nil {
			err = k.tenure.settled(lease)
		}
		if err != nil {
			if anew {
				k.tenure.failed(lease, err)
			}
			return err
		}
	}
	switch {
	case len(cfg.Models) == 0:
		return k.tenure.serve(lease, nil)
	case !anew:
		return nil // under the new lease from now on
	}
	delete(lease.Keys, cfg.Models[0].Resource) // the key moves to the model
	return k.takeModel(ctx, cfg, lease, key)
}

// takeModel opens the model. An open that fails serves nothing: a model whose seal
// does not verify is never served from an older version.
func (k *keeper) takeModel(ctx context.Context, cfg settings.Config, lease *client.Lease, key client.Key) error {
	held := &custody{key: key.Key, subject: key.Subject}
	if err := k.tenure.begin(ctx, lease, held); err != nil {
		held.wipe()
		return err
	}
	opened, err := k.open(ctx, cfg, cfg.Models[0], held, key.Version, k.log)
	if err != nil {
		k.tenure.failed(lease, err)
		return err
	}
	if receipts := opened.receipts(lease.Roles[opened.Resource]); receipts != receiptsVerify {
		k.log.Warn("receipts of this model's answers will not verify", "model", opened.Name, "receipts", receipts)
	}
	return k.tenure.serve(lease, opened)
}
