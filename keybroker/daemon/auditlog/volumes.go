package auditlog

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/database"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/volumes"
)

// Volumes are the generations of volumes, which the log vouches for.
type Volumes struct {
	*volumes.Service
	apart error
}

// VolumesConfig is what generations of volumes need of a broker. All fields are required, but for Postgres.
type VolumesConfig struct {
	// File is the broker's own store.
	File string
	// Postgres names a credential with the connection string of the database that a fleet shares; Credential reads it.
	Postgres   string
	Credential func(name string) ([]byte, error)
	// Signer and Lowest are the broker's epoch that signs, and the lowest that its root accepts.
	Root   identity.Public
	Signer func() (protocol.ActiveEpoch, error)
	Lowest func() uint64
	// Keys is where the volumes' keys are.
	Keys *keystore.Store
}

// OpenVolumes opens the stores of generations, and tells that of a fleet what this broker knows. A database that
// cannot be reached yet is opened all the same: until it answers, no volume opens, and Apart says why.
func (l *Log) OpenVolumes(c VolumesConfig) (Volumes, error) {
	own, err := volumes.OpenBolt(c.File)
	if err != nil {
		return Volumes{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), fleetOpen)
	defer cancel()
	shared, apart, err := c.openShared(ctx)
	if err != nil {
		return Volumes{}, errors.Join(err, own.Close())
	}
	cfg := volumes.Config{Store: own, Log: l.Log, Roots: []identity.Public{c.Root}, Lowest: c.Lowest, Signer: c.Signer, HasKey: hasKey(c.Keys), Now: l.cfg.Now, Logger: l.cfg.Logger}
	if shared != nil {
		cfg.Shared, cfg.Self = shared, l.cfg.Key.Public().ID()
	}
	s, err := volumes.New(cfg)
	if err != nil {
		return Volumes{}, errors.Join(err, own.Close(), shared.Close())
	}
	if apart == nil {
		apart = s.Compare(ctx)
	}
	if apart != nil {
		apart = fmt.Errorf("volumes.postgres: %w", apart)
		l.cfg.Logger.Error("the volumes' database cannot be reached, or was not told all that this broker knows: volumes that it was not told of do not open; all else is served", "err", errors.Unwrap(apart))
	}
	return Volumes{s, apart}, nil
}

// fleetOpen bounds the wait for a fleet's database at the start.
const fleetOpen = 30 * time.Second

// openShared opens the database of a fleet, if there is one. apart says why it does not answer.
func (c VolumesConfig) openShared(ctx context.Context) (shared *volumes.Postgres, apart, err error) {
	if c.Postgres == "" {
		return nil, nil, nil
	}
	dsn, err := c.Credential(c.Postgres)
	if err != nil {
		return nil, nil, fmt.Errorf("volumes.postgres: %w", err)
	}
	defer keybuf.Wipe(dsn)
	shared, err = volumes.OpenPostgres(ctx, strings.TrimSpace(string(dsn)))
	if errors.Is(err, database.ErrUnreachable) {
		return shared, err, nil
	}
	return shared, nil, err
}

// Apart says why the fleet's store was not told at the start what this broker knows.
func (v Volumes) Apart() error { return v.apart }

// hasKey says whether a key store has an active secret of a name.
func hasKey(keys *keystore.Store) func(context.Context, string) (bool, error) {
	return func(ctx context.Context, name string) (bool, error) {
		_, err := keys.Stat(ctx, name, 0)
		if errors.Is(err, keystore.ErrNotFound) {
			return false, nil
		}
		return err == nil, err
	}
}

// Commands are the operators'.
func (v Volumes) Commands() []operator.Extra {
	type decoder = func(any) error
	return []operator.Extra{
		{Method: "GET", Path: "/v1/volumes", Action: "volume-list", Do: func(ctx context.Context, _ *http.Request, _ decoder) (any, error) {
			entries, err := v.List(ctx)
			list := make([]operator.Volume, len(entries))
			for i, e := range entries {
				list[i] = view(e)
			}
			return list, err
		}},
		{Method: "POST", Path: "/v1/volumes/reset/{name...}", Action: "volume-reset", Mutates: true, Do: func(ctx context.Context, r *http.Request, _ decoder) (any, error) {
			e, err := v.Reset(ctx, r.PathValue("name"))
			return view(e), err
		}},
	}
}

func view(e volumes.Entry) operator.Volume {
	return operator.Volume{Volume: e.Volume, Generation: e.State.Generation, Mark: e.State.Mark, Reset: e.Reset, Disputed: e.Disputed, Agent: e.Agent, Lease: e.Lease, At: e.At}
}
