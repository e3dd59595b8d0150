// Package partykey collects the messages that the parties of a key left at an aggregator, and
// computes their public key. Broker and agents verify it again before they rely on it.
package partykey

import (
	"context"
	"fmt"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/ckks"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/uplink"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Collect collects what the parties of a key left at an aggregator, and computes the
// key from it. The broker and every agent verify it again.
//
// The roots are text or files, as on a command line. An error about the messages is a refusal.
func Collect(ctx context.Context, socket string, roots []string, id digest.RoundID) (*federation.PartyKey, error) {
	publics, err := keyfile.Publics(roots)
	if err != nil {
		return nil, err
	}
	key, err := collect(ctx, socket, publics, id)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", cli.ErrRefused, err)
	}
	return key, nil
}

func collect(ctx context.Context, socket string, roots []identity.Public, id digest.RoundID) (*federation.PartyKey, error) {
	board := uplink.NewLocal(socket, roots)
	floor := protocol.Live(protocol.AtLeast(1), protocol.TimeOf(time.Now()))
	setup, signed, err := board.Setup(ctx, protocol.AnyBroker(), floor, id)
	if err != nil {
		return nil, err
	}
	sum := digest.Of(signed)
	key := &federation.PartyKey{Setup: signed}
	var shares [][]byte
	for i := range setup.Agents {
		public, _, err := board.PartyMessage(ctx, floor, setup, sum, federation.PartyPublic, i+1, 0)
		if err != nil {
			return nil, err
		}
		_, ready, err := board.PartyMessage(ctx, floor, setup, sum, federation.PartyReady, i+1, 0)
		if err != nil {
			return nil, err
		}
		shares, key.Ready = append(shares, public.Payload), append(key.Ready, ready)
	}
	access := ckks.Access{Params: ckks.Threshold(), Round: setup.Round, Parties: len(setup.Agents), Threshold: int(setup.Threshold), Flood: ckks.Flood}
	key.PublicKey, err = ckks.CombineKeys(access, ckks.CommonSeed(setup.Round), shares)
	return key, err
}
