// Package reporting tells the broker's registry of the agent's answers and of their proofs,
// and asks it which answers are to be proven and which keys are registered.
//
// It guarantees that it asks the broker whose lease the agent holds, in an epoch that the
// agent accepts. It trusts its [wire.Client] to verify what the registry signed. Without a
// lease it refuses.
//
// Package prove calls a [Client] when a proof is due, and [KeyOf] to know who signed a receipt.
package reporting

import (
	"context"
	"crypto/tls"

	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/introduction"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
)

// Client is the broker's registry as package prove sees it. It may be used by several
// goroutines.
type Client struct {
	client *wire.Client
	sign   func() (attested.Signer, error)
}

// New makes a client of the registry at an address, which speaks for the signer of now.
func New(address string, cfg *tls.Config, roots []identity.Public, sign func() (attested.Signer, error)) *Client {
	return &Client{sign: sign, client: wire.NewClient(address, cfg, roots, func() (introduction.Guest, error) {
		s, err := sign()
		return introduction.Guest{Key: s.Key, Chain: s.Chain, Now: s.Now}, err
	})}
}

// Announce hands over receipts.
func (r *Client) Announce(ctx context.Context, receipts []receipt.Receipt) error {
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
func (r *Client) Challenged(ctx context.Context, former []digest.Digest) ([]digest.ReceiptID, error) {
	signer, err := r.sign()
	if err != nil {
		return nil, err
	}
	agent := digest.Digest(signer.Key.Public().ID())
	agents := []digest.Digest{agent}
	for _, d := range former {
		if d != agent {
			agents = append(agents, d)
		}
	}
	var ids []digest.ReceiptID
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
func (r *Client) Submit(ctx context.Context, b receipt.Bundle) error {
	_, err := r.client.Submit(ctx, &wire.Bundle{Envelope: b.Proof, OutputSalts: []wire.Salt{wire.Salt(b.OutputSalt)}})
	return err
}

// Registered says whether a verifying key is registered, for answers of a model.
func (r *Client) Registered(ctx context.Context, key, model digest.Digest) (bool, error) {
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
