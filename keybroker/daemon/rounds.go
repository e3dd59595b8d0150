package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/registry/registrar"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
	"github.com/anchorhold/anchorhold/keybroker/rounds/assembly"
)

// openRounds makes the service of federated rounds, where the configuration allows
// any.
func (d *daemon) openRounds() error {
	c := d.opts.Config.Rounds
	if c.Privacy == (rounds.Policy{}) {
		return nil
	}
	if c.Privacy.AllowSoftwareTEE && d.opts.NewSoftwareAppraiser == nil {
		return fmt.Errorf("rounds.privacy.allow_software_tee: %w", ErrSoftwareTEE)
	}
	store, unreached, err := c.OpenStore(d.layout.Rounds(), d.opts.Credential)
	if err != nil {
		return err
	}
	if d.unreached = unreached; unreached != nil {
		// Models are released without it, and their guests must not wait for it.
		d.opts.Logger.Error("the rounds' database cannot be reached: until it answers, no round is opened or ended and no round's key released; all else is served", "err", errors.Unwrap(unreached))
	}
	d.roundStore, d.kept, d.keeping = store, newAside(keptWait), make(chan struct{}, 1)
	d.rounds, err = c.New(assembly.Broker{Store: store, Secrets: d.secrets, Signer: d.epochs.Signer, Root: d.keys.Root, Log: roundLog{d},
		Chip: d.grants.Processor, Released: d.grants.Released, Lowest: d.epochs.Lowest, Now: d.opts.Now})
	return err
}

// rememberEvery is how often the charges of the other brokers of a fleet are noted,
// forgetEvery how often lists of contributors that are too old are removed.
const (
	rememberEvery = time.Minute
	forgetEvery   = time.Hour
)

// keepRounds does both until ctx ends. What a ledger lacks is logged once, until it lacks
// something else.
func (d *daemon) keepRounds(ctx context.Context) error {
	t := time.NewTicker(rememberEvery)
	defer t.Stop()
	said, forget := "", d.opts.Now()
	for {
		text := ""
		if err := d.rounds.Remember(ctx); err != nil && ctx.Err() == nil {
			if text = err.Error(); text != said {
				d.opts.Logger.Error("the rounds' store lacks charges that it had, or it or rounds.checkpoint cannot be asked", "err", err)
			}
		}
		said = text
		if now := d.opts.Now(); !now.Before(forget) {
			d.forgetContributors(ctx)
			forget = now.Add(forgetEvery)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (d *daemon) forgetContributors(ctx context.Context) {
	if n, err := d.rounds.Forget(ctx); err != nil && ctx.Err() == nil {
		d.opts.Logger.Error("old contributors of rounds were not removed", "err", err)
	} else if n > 0 {
		d.opts.Logger.Info("old contributors of rounds removed", "rounds", n)
	}
}

// openRegistry makes the registry of proofs, where the configuration has one.
func (d *daemon) openRegistry() (err error) {
	d.registry, err = registrar.Open(d.opts.Config.Proofs, registrar.Broker{Path: d.layout.Proofs(), Root: d.keys.Root, Lowest: d.epochs.Lowest, Audit: d.record, Chip: d.grants.ProcessorIfKnown, Logger: d.opts.Logger, Now: d.opts.Now,
		Signer: d.epochs.Signer,
		TLS:    func() (*tls.Config, error) { return d.certificate.serverConfig(d.opts.Config.Profile) }})
	return err
}
