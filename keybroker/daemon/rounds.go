package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/crypto/dp"
	"github.com/anchorhold/anchorhold/crypto/he/ckks"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/registry"
	"github.com/anchorhold/anchorhold/keybroker/registry/registrar"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
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
	store, err := d.openRoundStore()
	if err != nil {
		return err
	}
	d.roundStore, d.kept, d.keeping = store, newAside(keptWait), make(chan struct{}, 1)
	former, publishers, err := c.accounts()
	if err != nil {
		return err
	}
	d.rounds, err = rounds.New(rounds.Config{
		Store: store, Secrets: roundSecrets{d.secrets}, Signer: d.roundSigner, Roots: []identity.Public{d.epochs.root}, Log: roundLog{d}, Publishers: publishers, Former: former, Chip: d.chip, Released: d.released, Lowest: d.epochs.lowest,
		KeyMaker: roundKeyMaker, Privacy: c.Privacy, Limits: c.Limits, Calibrate: calibrate, Spend: spend, Now: d.opts.Now,
	})
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
	d.registry, err = registrar.Open(d.opts.Config.Proofs, registrar.Broker{Path: d.layout.Proofs(), Root: d.epochs.root, Lowest: d.epochs.lowest, Audit: d.record, Chip: d.chipIfKnown, Logger: d.opts.Logger, Now: d.opts.Now,
		Signer: func() (registry.Signer, error) { s, err := d.roundSigner(); return registry.Signer(s), err },
		TLS:    func() (*tls.Config, error) { return d.certificate.serverConfig(d.opts.Config.Profile) }})
	return err
}

// openTimeout bounds the wait for a database at the start.
const openTimeout = 30 * time.Second

// openRoundStore opens the store that the configuration names: a file, or the
// database that a fleet of brokers shares.
func (d *daemon) openRoundStore() (rounds.Store, error) {
	name := d.opts.Config.Rounds.Postgres
	if name == "" {
		return rounds.OpenBolt(d.layout.Rounds())
	}
	dsn, err := d.opts.Credential(name)
	if err != nil {
		return nil, fmt.Errorf("rounds.postgres: %w", err)
	}
	defer keybuf.Wipe(dsn)
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	store, err := rounds.OpenPostgres(ctx, strings.TrimSpace(string(dsn)))
	switch {
	case errors.Is(err, rounds.ErrUnreachable):
		// Models are released without it, and their guests must not wait for it.
		d.unreached = fmt.Errorf("rounds.postgres: %w", err)
		d.opts.Logger.Error("the rounds' database cannot be reached: until it answers, no round is opened or ended and no round's key released; all else is served", "err", err)
	case err != nil:
		return nil, err
	}
	return store, nil
}

// roundSigner is the active epoch with the highest number.
func (d *daemon) roundSigner() (rounds.Signer, error) {
	d.epochs.mu.Lock()
	defer d.epochs.mu.Unlock()
	now := protocol.TimeOf(d.opts.Now())
	var best *heldEpoch
	for i, h := range d.epochs.held {
		if h.signed != nil && h.number >= d.epochs.floor && h.statement.ValidAt(now) && (best == nil || h.number > best.number) {
			best = &d.epochs.held[i]
		}
	}
	if best == nil {
		return rounds.Signer{}, refusal.New(protocol.ReasonNoActiveEpoch, "no epoch is active; rounds cannot be signed")
	}
	return rounds.Signer{Key: best.key, Statement: best.signed, Broker: best.statement.Broker, Epoch: best.number}, nil
}

// roundSecrets keeps round keys in the key store, one version each.
type roundSecrets struct{ store *keystore.Store }

// Put stores a new round's seed.
func (s roundSecrets) Put(ctx context.Context, name string, subject federation.Digest, secret *keybuf.Buffer) error {
	_, err := s.store.Create(ctx, name, secret, keystore.Meta{Description: "key of a federated round", Subject: keystore.Subject(subject)})
	return err
}

// Destroy makes the seed unreadable. A round whose parties hold the key has none.
func (s roundSecrets) Destroy(ctx context.Context, name string) error {
	if err := s.store.Destroy(ctx, name, 1); err != nil && !errors.Is(err, keystore.ErrDestroyed) && !errors.Is(err, keystore.ErrNotFound) {
		return err
	}
	return nil
}

// reasonNotHere: another broker granted the lease, or none.
const reasonNotHere refusal.Reason = "lease-not-granted-here"

// chip returns the processor that a lease was granted to, by the audit log: from its newest
// records on, and once for a lease.
func (d *daemon) chip(_ context.Context, lease protocol.LeaseID) ([32]byte, error) {
	of, err := d.chips.of(lease, func() (of chipOf, sure bool, err error) {
		found, there, err := d.log.FindLast(audit.Query{Kind: audit.KindGrant, Grant: lease.String()})
		if err != nil || found.Record == nil { // not there, or its text is archived and away
			return of, !there, err
		}
		return chipOf{found.Record.ChipDigest, true}, true, nil
	})
	if err == nil && !of.here {
		err = refusal.New(reasonNotHere, "lease %s is not in this broker's log", lease)
	}
	return of.chip, err
}

// chipIfKnown is the same for receipts, whose lease another broker of the root may have
// granted: nobody's then.
func (d *daemon) chipIfKnown(ctx context.Context, lease protocol.LeaseID) ([32]byte, error) {
	chip, err := d.chip(ctx, lease)
	if reason, _ := refusal.ReasonOf(err); reason == reasonNotHere {
		return [32]byte{}, nil
	}
	return chip, err
}

// released says whether a round's key was released to an agent key, by the audit log.
func (d *daemon) released(_ context.Context, resource string, agent federation.Digest) (bool, error) {
	found, err := d.log.Find(audit.Query{Kind: audit.KindRelease, Resource: resource, AgentKey: agent})
	return len(found) > 0, err
}

// accounts reads what the configuration says of privacy accounts.
func (c Rounds) accounts() (former map[string]federation.Account, publishers []identity.Public, err error) {
	former = map[string]federation.Account{}
	for name, text := range c.FormerLedgers {
		if former[name], err = federation.ParseAccount(text); err != nil {
			return nil, nil, fmt.Errorf("rounds.former_ledgers: %s: %w", name, err)
		}
	}
	for _, entry := range c.DatasetPublishers {
		var p identity.Public
		if err := p.UnmarshalText([]byte(entry)); err != nil {
			if p, err = identity.ReadPublicFile(entry); err != nil {
				return nil, nil, fmt.Errorf("rounds.dataset_publishers: %.40s is neither a public identity (ahpub1...) nor a file that holds one: %w", entry, err)
			}
		}
		publishers = append(publishers, p)
	}
	return former, publishers, nil
}

// calibrate finds the multiplier of one round.
func calibrate(epsilon, delta float64) (float64, error) {
	return dp.Calibrate(epsilon, delta, 1, 1)
}

// spend adds up charges with and without what sampling gives. Equal charges are one
// event of several steps, which is many times quicker.
func spend(charges []rounds.Charge, delta float64) (epsilon, withSampling float64, err error) {
	steps := map[dp.Event]int{}
	for _, c := range charges {
		e := dp.Event{Mechanism: dp.MechanismGaussian, Multiplier: c.Multiplier, Rate: c.Rate}
		if c.Mechanism == federation.DiscreteLaplace {
			e.Mechanism = dp.MechanismLaplace
		}
		steps[e]++
	}
	events := make([]dp.Event, 0, len(steps))
	for e, n := range steps {
		e.Steps = n
		events = append(events, e)
	}
	s, err := dp.Spend(events, delta)
	return s.EpsilonWithoutSampling, s.Epsilon, err
}

// roundKeyMaker makes the public keys of sets with slots.
func roundKeyMaker(set params.Set, seed *keybuf.Buffer) ([]byte, error) {
	secret, public, err := ckks.GenerateKey(ckks.Params{LogN: set.LogN, Q: set.Q, P: set.P, LogScale: set.LogScale}, seed)
	secret.Wipe()
	return public, err
}
