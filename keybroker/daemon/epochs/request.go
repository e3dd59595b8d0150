package epochs

import (
	"context"
	"fmt"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Request makes the next epoch's key, or takes the one that waits for its statement, and asks
// the root in writing to certify it. The newest epoch that the root certified signs the
// request: also one that is over, so that a broker which was off for long can ask.
func (e *Set) Request(ctx context.Context, ask operator.EpochAsk) (operator.SignedEpochRequest, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var current *heldEpoch
	for i, h := range e.held {
		if h.signed != nil && h.number >= e.floor && (current == nil || h.number > current.number) {
			current = &e.held[i]
		}
	}
	if current == nil {
		return operator.SignedEpochRequest{}, refusal.New(protocol.ReasonNoActiveEpoch, "no epoch is left to sign a request with; with the root key at hand, use 'anchorhold epoch rotate', which needs none")
	}
	signer := *current // the key is made before anything is signed, and held may grow
	wanted, err := e.prepare(ctx, max(ask.Number, 1))
	if err != nil {
		return operator.SignedEpochRequest{}, err
	}
	signed, err := protocol.SignEpochRequest(signer.key, protocol.EpochRequest{Current: signer.signed, Asked: protocol.EpochStatement{
		Broker: e.cfg.Root.ID(), Epoch: wanted.Epoch, MinEpoch: max(ask.MinEpoch, signer.statement.MinEpoch, e.floor), Key: wanted.Key,
		NotBefore: protocol.TimeOf(ask.NotBefore), NotAfter: protocol.TimeOf(ask.NotAfter),
		AnyPolicy: ask.PolicyPin.IsZero(), PolicyDigest: ask.PolicyPin, AuditKey: e.cfg.AuditKey.ID(),
	}})
	if err != nil {
		return operator.SignedEpochRequest{}, fmt.Errorf("request epoch %d with minimum %d from %s to %s: %w", wanted.Epoch, ask.MinEpoch, ask.NotBefore, ask.NotAfter, err)
	}
	return operator.SignedEpochRequest{Request: signed}, nil
}

// expects says whether a statement that the root signed is the one that this broker asked
// for. mu is held.
func (e *Set) expects(st protocol.EpochStatement) error {
	var waiting *heldEpoch
	for i, h := range e.held {
		switch {
		case h.signed == nil:
			waiting = &e.held[i]
		case h.number >= st.Epoch:
			return refusal.New(protocol.ReasonEpochNumber, "the statement is about epoch %d, but epoch %d already has one", st.Epoch, h.number)
		}
	}
	switch {
	case waiting == nil:
		return refusal.New(protocol.ReasonEpochRequestUnknown, "this broker is not waiting for a statement; 'anchorhold epoch request' asks for one")
	case !waiting.key.Public().Equal(st.Key):
		return refusal.New(protocol.ReasonEpochRequestUnknown, "the statement does not name the key that was made here for epoch %d", waiting.number)
	case waiting.number != st.Epoch || st.Epoch < e.floor:
		return refusal.New(protocol.ReasonEpochNumber, "the statement is about epoch %d; the key was made for epoch %d, and the lowest accepted epoch is %d", st.Epoch, waiting.number, e.floor)
	case st.AuditKey != e.cfg.AuditKey.ID():
		return refusal.New(protocol.ReasonEpochRequestUnknown, "the statement names another audit key than this broker's")
	case protocol.TimeOf(e.cfg.Now()) >= st.NotAfter:
		return refusal.New(protocol.ReasonEpochValidity, "the epoch ended at %s", st.NotAfter.Time())
	}
	return nil
}
