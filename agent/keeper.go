package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/keybroker/client"
)

// keeper attests, renews and, when a lease ends without a successor, wipes. It
// is one goroutine; nothing else changes the tenure.
type keeper struct {
	cfg      settings.Config
	broker   acquirer
	tenure   *tenure
	log      *slog.Logger
	serving  func(*client.Lease)                                                                                  // told of each lease under which a model is served
	open     func(context.Context, settings.Config, settings.Model, client.Key, *slog.Logger) (*openModel, error) // open, or a test's
	granted  func(settings.Config, *client.Lease) error                                                           // takes what long work needs from a lease; optional
	reloaded chan reload
	busy     atomic.Int64 // when the attempt under way began, Unix seconds; 0 between attempts
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
			if err := k.expire(); err != nil {
				return err
			}
		}
		wait, err := k.attest(ctx)
		if err != nil && ctx.Err() == nil {
			k.log.Error("attestation failed", "err", err, "next_try", retry)
			wait = k.untilRetry(retry)
			retry = min(2*retry, retryLongest)
		} else {
			retry = retryFirst
		}
		next.Reset(wait)
	}
}

// untilRetry is the pause after a failure, cut short by the end of a held lease
// so that keys are wiped in time.
func (k *keeper) untilRetry(pause time.Duration) time.Duration {
	if remaining, held := k.remaining(); held {
		return min(pause, max(remaining, 0))
	}
	return pause
}

func (k *keeper) remaining() (time.Duration, bool) {
	k.tenure.mu.RLock()
	defer k.tenure.mu.RUnlock()
	if k.tenure.lease == nil {
		return 0, false
	}
	return k.tenure.lease.Remaining(time.Now()), true
}

// expire wipes keys and weights when the held lease has ended.
func (k *keeper) expire() error {
	if remaining, held := k.remaining(); held && remaining <= 0 {
		k.log.Warn("the lease ended without a new one; keys and weights are wiped")
		return k.tenure.refuse(ReasonLeaseExpired, "the lease ended and the broker has not granted a new one")
	}
	return nil
}

// attest runs one exchange and takes over what it yields. It returns when to
// attest next.
func (k *keeper) attest(ctx context.Context) (time.Duration, error) {
	k.busy.Store(time.Now().Unix())
	defer k.busy.Store(0)
	limit := exchangeLimit
	if remaining, held := k.remaining(); held {
		limit = min(limit, remaining) // a slow broker must not carry us past the lease's end
	}
	attempt, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	lease, err := k.broker.Acquire(attempt, k.cfg.Resources())
	if err != nil {
		return 0, errors.Join(err, k.expire())
	}
	k.shorten(lease)
	k.log.Info("lease granted", "lease", lease.ID, "policy", lease.PolicyID, "policy_version", lease.PolicyVersion,
		"ttl", lease.TTL, "tls_group", lease.TLSGroup, "epoch", lease.Epoch, "software_tee", lease.SoftwareTEE)
	if err := k.take(ctx, lease); err != nil {
		return 0, err
	}
	k.serving(lease)
	return renewIn(lease.Remaining(time.Now())), nil
}

// stuckAfter is far more than an exchange and the opening of a large model take.
const stuckAfter = 15 * time.Minute

// stuck says whether an attempt does not come back.
func (k *keeper) stuck(now time.Time) bool {
	began := k.busy.Load()
	return began != 0 && now.Sub(time.Unix(began, 0)) > stuckAfter
}

// shorten applies the configuration's own limit on leases.
func (k *keeper) shorten(lease *client.Lease) {
	if limit := k.cfg.Lease(); lease.TTL > limit {
		lease.Expires = lease.Expires.Add(limit - lease.TTL)
		lease.TTL = limit
	}
}

// take adopts a lease: its keys go to long work and to the model, and what nobody
// takes is wiped.
func (k *keeper) take(ctx context.Context, lease *client.Lease) error {
	if err := k.clearModel(lease); err != nil {
		lease.Wipe()
		return err
	}
	if k.granted != nil {
		if err := k.granted(k.cfg, lease); err != nil {
			lease.Wipe()
			return err
		}
	}
	if len(k.cfg.Models) == 0 {
		lease.Wipe()
		k.tenure.adopt(lease)
		k.tenure.serve(nil)
		return nil
	}
	return k.takeModel(ctx, lease, k.cfg.Models[0])
}

// clearModel stops serving a model that has to be opened anew. That wipes all that the
// last lease opened, and so comes before anything of this one is handed on.
func (k *keeper) clearModel(lease *client.Lease) error {
	if len(k.cfg.Models) == 0 {
		return nil
	}
	model := k.cfg.Models[0]
	key, ok := lease.Keys[model.Resource]
	if !ok || !k.tenure.needs(model, k.cfg.MemoryLimit(), key) {
		return nil
	}
	return k.tenure.refuse(ReasonModelUnavailable, "the model is being opened")
}

// takeModel opens the model anew if its key changed. An open that fails serves
// nothing: a model whose seal does not verify is never served from an older
// version.
func (k *keeper) takeModel(ctx context.Context, lease *client.Lease, model settings.Model) error {
	key, ok := lease.Keys[model.Resource]
	if !ok {
		lease.Wipe()
		return errors.New("the broker granted a lease without the model's key")
	}
	delete(lease.Keys, model.Resource) // the key moves to the model, or is wiped here
	lease.Wipe()
	if !k.tenure.needs(model, k.cfg.MemoryLimit(), key) {
		key.Key.Wipe()
		k.tenure.adopt(lease)
		return nil
	}
	opened, err := k.open(ctx, k.cfg, model, key, k.log)
	if err != nil {
		lease.Wipe()
		return errors.Join(err, k.tenure.refuse(ReasonModelUnavailable, "%v", err))
	}
	k.tenure.adopt(lease)
	k.tenure.serve(opened)
	return nil
}
