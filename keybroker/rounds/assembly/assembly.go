// Package assembly makes and keeps the service of federated rounds of one broker: from its
// configuration, with the key store, the arithmetic of privacy and the parameter sets that
// package rounds itself knows nothing of.
//
// It decides nothing: what a round may be is [rounds.Policy]'s, and what its parts guarantee
// is theirs. The broker's daemon calls it.
package assembly

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/database"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
)

// Config says what federated rounds may be opened; the zero value allows none.
type Config struct {
	// Privacy bounds them.
	Privacy rounds.Policy `yaml:"privacy"`
	// Postgres names a systemd credential that holds the connection string of the
	// database that a fleet of brokers shares; without it rounds are kept in the
	// state directory.
	Postgres string `yaml:"postgres"`
	// Limits bound how many are open, and how long their contributors are kept.
	Limits rounds.Limits `yaml:"limits"`
	// Checkpoint is a file with a checkpoint of the audit log, on another machine's disk:
	// begin it with `anchorhold audit checkpoint --out`. The broker brings it up to date
	// before each ticket leaves, and before a round is open or over. While the log does not
	// extend it, or it cannot be read or written, no round is opened, closed, finished or
	// abandoned and no round's key is released: log and rounds were put back together.
	// Without it that is not noticed.
	Checkpoint string `yaml:"checkpoint"`
	// DatasetPublishers are the identities ("ahpub1...", or files) whose signed datasets and
	// sealed models have privacy accounts of their own.
	DatasetPublishers []string `yaml:"dataset_publishers"`
	// FormerLedgers says to which account the charges of an earlier version belong, by the
	// model name that was typed then, or a model's account ("model:<id>"): "broker",
	// "sealed:<digest>" or "dataset:<digest>". What is not named here counts in every account.
	FormerLedgers map[string]string `yaml:"former_ledgers"`
}

// Broker is what the rounds of a broker need of it. All fields are required.
type Broker struct {
	// File is the store, unless the configuration names a database.
	File string
	// Credential reads a systemd credential.
	Credential func(name string) ([]byte, error)
	Secrets    *keystore.Store
	// Signer is the epoch that signs for the broker now.
	Signer func() (rounds.Signer, error)
	Root   identity.Public
	Log    rounds.Log
	// Chip, Released, Lowest and Now are as in [rounds.Config].
	Chip     func(ctx context.Context, lease digest.LeaseID) ([32]byte, error)
	Released func(ctx context.Context, resource string, agent digest.Digest) (bool, error)
	Lowest   func() uint64
	Now      func() time.Time
	Logger   *slog.Logger
}

// Rounds are the federated rounds of one broker. It is nil, and its methods say so, for a
// broker that has none.
type Rounds struct {
	service   *rounds.Service // never changed, as the rest
	store     rounds.Store
	unreached error // why the database did not answer at the start
	now       func() time.Time
	log       *slog.Logger
}

// Open opens the store and makes the service. A configuration that allows no rounds has none.
func (c Config) Open(b Broker) (*Rounds, error) {
	if c.Privacy == (rounds.Policy{}) {
		return nil, nil
	}
	former, publishers, err := c.accounts()
	if err != nil {
		return nil, err
	}
	store, unreached, err := c.openStore(b.File, b.Credential)
	if err != nil {
		return nil, err
	}
	if unreached != nil {
		// Models are released without it, and their guests must not wait for it.
		b.Logger.Error("the rounds' database cannot be reached: until it answers, no round is opened or ended and no round's key released; all else is served", "err", errors.Unwrap(unreached))
	}
	service, err := rounds.New(rounds.Config{
		Store: store, Secrets: secrets{b.Secrets}, Signer: b.Signer, Roots: []identity.Public{b.Root}, Log: b.Log, Publishers: publishers, Former: former, Chip: b.Chip, Released: b.Released, Lowest: b.Lowest,
		KeyMaker: makeKey, Privacy: c.Privacy, Limits: c.Limits, Calibrate: calibrate, Spend: spend, Now: b.Now,
	})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return &Rounds{service, store, unreached, b.Now, b.Logger}, nil
}

// Service is what operators and members ask; nil for a broker without rounds.
func (r *Rounds) Service() *rounds.Service {
	if r == nil {
		return nil
	}
	return r.service
}

// Unreached says why the rounds' database did not answer at the start.
func (r *Rounds) Unreached() error {
	if r == nil {
		return nil
	}
	return r.unreached
}

// Close closes the store.
func (r *Rounds) Close() error {
	if r == nil {
		return nil
	}
	return r.store.Close()
}

// gateWait bounds what a guest waits for the store of rounds, which may be a database.
const gateWait = 10 * time.Second

// Gate holds back the keys of rounds that are not closed, or that do not name the guest.
// Without rounds there are none of their class to release.
func (r *Rounds) Gate(ctx context.Context, resource string, guest *protocol.LeaseCertificate) error {
	if r != nil {
		ctx, cancel := context.WithTimeoutCause(ctx, gateWait, refusal.New(protocol.ReasonBusy, "the store of rounds did not respond within %s", gateWait))
		defer cancel()
		err := r.service.MayRelease(ctx, resource, guest)
		if err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	if protocol.Class(resource) == federation.ResourceClass {
		return refusal.New(rounds.ReasonUnknown, "this broker has no rounds")
	}
	return nil
}

// rememberEvery is how often the charges of the other brokers of a fleet are noted,
// forgetEvery how often lists of contributors that are too old are removed.
const (
	rememberEvery = time.Minute
	forgetEvery   = time.Hour
)

// Keep does both until ctx ends. What a ledger lacks is logged once, until it lacks
// something else.
func (r *Rounds) Keep(ctx context.Context) error {
	t := time.NewTicker(rememberEvery)
	defer t.Stop()
	said, forget := "", r.now()
	for {
		text := ""
		if err := r.service.Remember(ctx); err != nil && ctx.Err() == nil {
			if text = err.Error(); text != said {
				r.log.Error("the rounds' store lacks charges that it had, or it or rounds.checkpoint cannot be asked", "err", err)
			}
		}
		said = text
		if now := r.now(); !now.Before(forget) {
			r.forgetContributors(ctx)
			forget = now.Add(forgetEvery)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (r *Rounds) forgetContributors(ctx context.Context) {
	if n, err := r.service.Forget(ctx); err != nil && ctx.Err() == nil {
		r.log.Error("old contributors of rounds were not removed", "err", err)
	} else if n > 0 {
		r.log.Info("old contributors of rounds removed", "rounds", n)
	}
}

// openTimeout bounds the wait for a database at the start.
const openTimeout = 30 * time.Second

// openStore opens the store that the configuration names: a file, or the database that a
// fleet of brokers shares. A database that cannot be reached yet is opened all the same, and
// unreached says why it does not answer.
func (c Config) openStore(file string, credential func(name string) ([]byte, error)) (store rounds.Store, unreached, err error) {
	if c.Postgres == "" {
		store, err = rounds.OpenBolt(file)
		return store, nil, err
	}
	dsn, err := credential(c.Postgres)
	if err != nil {
		return nil, nil, fmt.Errorf("rounds.postgres: %w", err)
	}
	defer keybuf.Wipe(dsn)
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	store, err = rounds.OpenPostgres(ctx, strings.TrimSpace(string(dsn)))
	if errors.Is(err, database.ErrUnreachable) {
		return store, fmt.Errorf("rounds.postgres: %w", err), nil
	}
	return store, nil, err
}

// secrets keeps round keys in the key store, one version each.
type secrets struct{ store *keystore.Store }

// Put stores a new round's seed.
func (s secrets) Put(ctx context.Context, name string, subject digest.Digest, secret *keybuf.Buffer) error {
	_, err := s.store.Create(ctx, name, secret, keystore.Meta{Description: "key of a federated round", Subject: keystore.Subject(subject)})
	return err
}

// Destroy makes the seed unreadable. A round whose parties hold the key has none.
func (s secrets) Destroy(ctx context.Context, name string) error {
	if err := s.store.Destroy(ctx, name, 1); err != nil && !errors.Is(err, keystore.ErrDestroyed) && !errors.Is(err, keystore.ErrNotFound) {
		return err
	}
	return nil
}

// accounts reads what the configuration says of privacy accounts.
func (c Config) accounts() (former map[string]federation.Account, publishers []identity.Public, err error) {
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
