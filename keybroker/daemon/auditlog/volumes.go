package auditlog

import (
	"context"
	"errors"
	"net/http"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/volumes"
)

// Volumes are the generations of volumes, which the log vouches for.
type Volumes struct{ *volumes.Service }

// OpenVolumes opens the store of generations at a path. signer and lowest are the broker's epoch that signs,
// and the lowest that its root accepts; keys is where the volumes' keys are.
func (l *Log) OpenVolumes(path string, root identity.Public, signer func() (protocol.ActiveEpoch, error), lowest func() uint64, keys *keystore.Store) (Volumes, error) {
	store, err := volumes.OpenBolt(path)
	if err != nil {
		return Volumes{}, err
	}
	s, err := volumes.New(volumes.Config{Store: store, Log: l.Log, Roots: []identity.Public{root}, Lowest: lowest, Signer: signer, HasKey: hasKey(keys), Now: l.cfg.Now, Logger: l.cfg.Logger})
	if err != nil {
		return Volumes{}, errors.Join(err, store.Close())
	}
	return Volumes{s}, nil
}

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
	return operator.Volume{Volume: e.Volume, Generation: e.State.Generation, Mark: e.State.Mark, Reset: e.Reset, Agent: e.Agent, Lease: e.Lease, At: e.At}
}
