package longwork

import (
	"context"

	"github.com/anchorhold/anchorhold/agent/fed"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
)

// registry is the broker's registry as package prove sees it.
type registry struct {
	client *wire.Client
	sign   func() (fed.Signer, error)
}

// newRegistry makes a client of the configured registry; nil where there is none.
func (w *Works) newRegistry(cfg settings.Config) (*registry, error) {
	if cfg.Proofs.Registry == "" {
		return nil, nil
	}
	roots, err := cfg.RootIdentities()
	if err != nil {
		return nil, err
	}
	server, err := cfg.BrokerServer(cfg.Proofs.Registry)
	if err != nil {
		return nil, err
	}
	tlsConfig, err := server.TLS()
	if err != nil {
		return nil, err
	}
	return &registry{client: wire.NewClient(cfg.Proofs.Registry, tlsConfig, roots, speaker(w.agent.Sign)), sign: w.agent.Sign}, nil
}

// Announce hands over receipts.
func (r *registry) Announce(ctx context.Context, receipts []receipt.Receipt) error {
	list := make([][]byte, len(receipts))
	for i := range receipts {
		var err error
		if list[i], err = receipts[i].Marshal(); err != nil {
			return err
		}
	}
	_, err := r.client.Announce(ctx, list)
	return err
}

// Challenged lists what the broker wants proven of answers under any of the agent's keys.
func (r *registry) Challenged(ctx context.Context, former []statement.Digest) ([]receipt.ID, error) {
	signer, err := r.sign()
	if err != nil {
		return nil, err
	}
	agent := statement.Digest(signer.Key.Public().ID())
	agents := []statement.Digest{agent}
	for _, d := range former {
		if d != agent {
			agents = append(agents, d)
		}
	}
	var ids []receipt.ID
	for _, agent := range agents {
		list, err := r.client.Challenges(ctx, protocol.Of(signer.Broker), protocol.Recorded(signer.Lowest), agent)
		if err != nil {
			return nil, err
		}
		for _, c := range list {
			ids = append(ids, c.Receipts...)
		}
	}
	return ids, nil
}

// Submit hands over a proof.
func (r *registry) Submit(ctx context.Context, b receipt.Bundle) error {
	_, err := r.client.Submit(ctx, &wire.Bundle{Envelope: b.Proof, OutputSalts: []wire.Salt{wire.Salt(b.OutputSalt)}})
	return err
}

// Registered says whether a verifying key is registered, for answers of a model.
func (r *registry) Registered(ctx context.Context, key, model statement.Digest) (bool, error) {
	signer, err := r.sign()
	if err != nil {
		return false, err
	}
	list, err := r.client.Records(ctx, protocol.Of(signer.Broker), protocol.Recorded(signer.Lowest))
	if err != nil {
		return false, err
	}
	for _, record := range list {
		if record.Record.VerifyingKey == key && record.Takes(model) {
			return true, nil
		}
	}
	return false, nil
}
