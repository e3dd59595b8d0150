package tenure

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// verdictAfter is how long a reload waits for the first attestation with what it brought, and
// for its model to be open. It is less than TimeoutStartSec= of the unit.
const verdictAfter = 75 * time.Second

// ReasonVerdictUnknown means that a reload was taken and has not come to an end yet.
const ReasonVerdictUnknown refusal.Reason = "reload-under-way"

// reload is a new configuration on its way to the keeper.
type reload struct {
	cfg     settings.Config
	broker  Broker
	took    func()       // called once it is not given up any more; optional
	verdict chan<- error // hears what the first attempt with it came to; optional, has room
}

// Client is a broker's client that somebody ends.
type Client interface {
	Broker
	// Close gives up what is kept for the next exchange.
	Close() error
}

// Reload hands a configuration to a keeper that runs, with the broker's client of it, and
// returns what came of it. inForce is called once it takes the place of the one before; a
// client that is not taken is closed.
func (k *Keeper) Reload(ctx context.Context, cfg settings.Config, broker Client, inForce func()) error {
	verdict, taken := make(chan error, 1), make(chan struct{})
	took := func() {
		close(taken)
		inForce()
	}
	wait := time.NewTimer(verdictAfter)
	defer wait.Stop()
	select {
	case k.reloaded <- reload{cfg: cfg, broker: broker, took: took, verdict: verdict}:
	case <-wait.C:
		return errors.Join(refusal.New(ReasonVerdictUnknown, "the configuration was not applied: an earlier attestation or the opening of a model is still under way; reload again once anchorhold status shows that it has ended"), broker.Close())
	case <-ctx.Done():
		return errors.Join(errors.New("the agent is stopping"), broker.Close())
	}
	select {
	case err := <-verdict:
		select {
		case <-taken:
		default:
			err = errors.Join(err, broker.Close())
		}
		return err
	case <-wait.C:
		return refusal.New(ReasonVerdictUnknown, "the configuration was handed over, but the result is not known after %s; see anchorhold status", verdictAfter)
	case <-ctx.Done():
		return errors.New("the agent is stopping")
	}
}

// judge says what came of a reload. One whose model does not open is given up, if the model
// before it still serves.
func (k *Keeper) judge(asked, before reload, err error) {
	failed, _ := errors.AsType[notOpened](err)
	switch {
	case asked.broker == nil: // none
		return
	case failed.kept:
		k.cfg, k.broker = before.cfg, before.broker
	case asked.took != nil:
		asked.took()
	}
	if asked.verdict == nil {
		return
	}
	if err == nil && k.files.trouble() != nil {
		err = fmt.Errorf("an installed file is not served: %w", k.files.trouble())
		failed.kept = true
	}
	if err == nil {
		err = k.tenure.unopened()
	}
	if err != nil && !failed.kept {
		err = fmt.Errorf("the configuration was applied, but: %w", err)
	}
	asked.verdict <- err
}
