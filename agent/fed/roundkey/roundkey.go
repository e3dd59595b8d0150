// Package roundkey obtains the keys of closed rounds from the broker, and holds each one for as
// long as the lease lasts by which it was granted.
//
// Each key is obtained in an exchange of its own: the broker decides again, for this round, on
// fresh evidence. Local users cause these exchanges, so [Keys] paces them and leaves most of what
// the broker grants a guest to the renewals of its lease. A key that is held is wiped when its
// lease ends, whatever is being done with it; the lease is renewed while there is time.
//
// Package decrypt uses the keys; the agent has one [Keys].
package roundkey

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// ReasonPaced is why a decryption waits: the agent asks the broker for round keys at a pace of
// its own.
const ReasonPaced refusal.Reason = "round-key-paced"

// exchangeLimit bounds an exchange for a round's key, from dialling to the last message.
const exchangeLimit = time.Minute

// Acquire asks the broker for keys, under a lease of their own.
type Acquire func(ctx context.Context, resources []string) (*client.Lease, error)

// Keys obtains keys of rounds. It may be used by any goroutine.
type Keys struct {
	acquire Acquire
	logger  *slog.Logger
	pace    pace
}

// New makes Keys that have asked for nothing yet.
func New(acquire Acquire, logger *slog.Logger) *Keys { return &Keys{acquire: acquire, logger: logger} }

// Key is the key of a closed round, and the lease by which it was granted.
type Key struct {
	Secret *keybuf.Buffer
	// Chain is that lease's. The result is signed under it: it is what says that this
	// guest was given the key.
	Chain []byte
	// Until is when the lease ends, in broker time, and Expires when it ends here, by the
	// monotonic clock: then the key is wiped.
	Until   protocol.Time
	Expires time.Time
}

// Obtain asks the broker for the key of a round, which the caller wipes. If it is not to be asked
// for yet, the error is a [jobs.Postponed].
func (k *Keys) Obtain(ctx context.Context, r federation.Round) (Key, error) {
	resource := r.Resource()
	if err := k.pace.ask(resource, time.Now()); err != nil {
		return Key{}, err
	}
	attempt, cancel := context.WithTimeout(ctx, exchangeLimit)
	defer cancel()
	lease, err := k.acquire(attempt, []string{resource})
	k.pace.told(resource, err, time.Now())
	if failure, ok := errors.AsType[*client.Error](err); ok {
		return Key{}, refusal.New(failure.Reason, "the key of %s: %v", resource, failure)
	}
	if err != nil {
		return Key{}, err
	}
	defer lease.Wipe()
	key, ok := lease.Keys[resource]
	if !ok {
		return Key{}, errors.New("the broker granted a lease without the round's key")
	}
	delete(lease.Keys, resource)
	return Key{Secret: key.Key, Chain: lease.Certificate, Until: protocol.TimeOf(lease.BrokerTime.Add(lease.TTL)), Expires: lease.Expires}, nil
}

const (
	renewAt    = 0.7             // of what is left of a round key's lease
	renewPause = 5 * time.Second // between attempts, at least
)

// Hold keeps a round's key while its lease lasts, which it renews. The context that it
// returns ends with the lease; the key is wiped then, also while it waits for a worker, and
// a worker that has it is ended. release wipes the key at once; only after it may the
// renewed lease be read from key. Without a key, as a party, it does nothing.
func (k *Keys) Hold(ctx context.Context, r federation.Round, key *Key) (_ context.Context, release func()) {
	if key.Secret == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	secret := key.Secret
	context.AfterFunc(ctx, secret.Wipe)
	end := time.AfterFunc(time.Until(key.Expires), func() {
		cancel(refusal.New(protocol.ReasonLeaseExpired, "the lease of the round's key ended before the sum was decrypted"))
	})
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		if err := worker.Contain(func() error { k.renew(ctx, r, key, end); return nil }); err != nil {
			k.logger.Error("stopped renewing the lease of a round's key", "round", r.ID.String(), "err", err)
		}
	}()
	return ctx, func() {
		cancel(nil)
		secret.Wipe()
		end.Stop()
		<-renewed
	}
}

// renew asks for the key again before its lease ends, until ctx does, and puts the end off
// if the broker grants the same key once more.
func (k *Keys) renew(ctx context.Context, r federation.Round, key *Key, end *time.Timer) {
	for {
		pause := time.NewTimer(max(time.Duration(renewAt*float64(time.Until(key.Expires))), renewPause))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		next, err := k.Obtain(ctx, r)
		if err != nil {
			k.logger.Warn("failed to renew the lease of a round's key", "round", r.ID.String(), "ends", key.Expires, "err", err)
			continue
		}
		same := next.Secret.Equal(key.Secret)
		next.Secret.Wipe()
		if !same || !end.Stop() {
			return // another key, or over meanwhile
		}
		end.Reset(time.Until(next.Expires))
		key.Chain, key.Until, key.Expires = next.Chain, next.Until, next.Expires
	}
}
